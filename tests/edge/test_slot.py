"""The slot for the newest frame, and the grid that camera and vision keep time by."""

from __future__ import annotations

import threading
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.core.units import SECOND, Ns
from chappe.edge.slot import Frame, FrameSlot, Grid

PATIENCE_S = 10.0


def frame(number: int) -> Frame:
    return Frame(np.zeros((2, 2, 3), np.uint8), Ns(number), number)


# ── slot ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("CAP-02", breaks="chappe.edge.slot:FrameSlot.put")
def test_the_newest_frame_wins_and_the_others_are_counted() -> None:
    """Three frames into the slot, one comes out: the third; the slot is empty then."""
    slot = FrameSlot()
    for number in (1, 2, 3):
        slot.put(frame(number))
    newest = slot.take()
    assert newest is not None
    assert newest.number == 3
    assert slot.skipped == 2
    assert slot.take() is None
    assert slot.skipped == 2


def test_a_frame_that_was_seen_is_not_skipped() -> None:
    """Put and take in turn: nothing is counted."""
    slot = FrameSlot()
    for number in range(5):
        slot.put(frame(number))
        assert slot.take() is not None
    assert slot.skipped == 0


def test_clearing_counts_what_nobody_saw() -> None:
    """Once, and nothing if there was nothing."""
    slot = FrameSlot()
    slot.put(frame(1))
    slot.clear()
    slot.clear()
    assert slot.take() is None
    assert slot.skipped == 1


def test_the_listener_is_called_when_an_empty_slot_is_filled() -> None:
    """Not for every frame: whoever has not come for the last one knows already."""
    slot = FrameSlot()
    called: list[int] = []
    slot.listen(lambda: called.append(slot.skipped))
    slot.put(frame(1))
    slot.put(frame(2))
    assert called == [0]
    slot.take()
    slot.put(frame(3))
    assert called == [0, 1]


def test_a_consumer_may_wait_for_a_frame() -> None:
    """It is woken by the frame, not by the end of its patience."""
    slot = FrameSlot()
    taken: list[Frame | None] = []
    consumer = threading.Thread(target=lambda: taken.append(slot.take(PATIENCE_S)))
    consumer.start()
    slot.put(frame(7))
    consumer.join(PATIENCE_S)
    assert [one.number for one in taken if one is not None] == [7]


def test_a_consumer_that_waits_in_vain_gets_nothing() -> None:
    """Also with the shortest patience there is."""
    assert FrameSlot().take(1e-9) is None


@pytest.mark.parametrize("takers", [1, 3])
def test_between_threads_every_frame_is_seen_once_or_skipped_once(takers: int) -> None:
    """Seen + skipped = put, whoever takes, and each taker sees them in order."""
    slot, done = FrameSlot(), threading.Event()
    seen: list[list[int]] = [[] for _ in range(takers)]

    def take(mine: list[int]) -> None:
        while (one := slot.take(0.01)) is not None or not done.is_set():
            if one is not None:
                mine.append(one.number)

    threads = [threading.Thread(target=take, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    for number in range(2000):
        slot.put(frame(number))
    done.set()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    everything = [number for mine in seen for number in mine]
    assert len(everything) + slot.skipped == 2000
    assert len(set(everything)) == len(everything)
    assert all(mine == sorted(mine) for mine in seen)
    assert 1999 in everything


# ── grid ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_grid_is_exact_after_a_year() -> None:
    """30 Hz has no whole period in nanoseconds; tick 30 n is at n seconds all the same."""
    grid = Grid(30, Ns(5))
    year = 365 * 24 * 3600
    assert grid.at(30 * year) == 5 + year * SECOND
    assert grid.last(Ns(5 + year * SECOND)) == 30 * year
    assert grid.last(Ns(4 + year * SECOND)) == 30 * year - 1


def test_a_decimal_rate_means_what_it_says() -> None:
    """0.1 Hz is a tick every ten seconds, not the nearest binary fraction of it."""
    assert Grid(0.1, Ns(0)).at(10**9) == 10**10 * SECOND


@given(st.floats(0.01, 120.0), st.integers(0, 10**15), st.integers(-(10**16), 10**16))
def test_last_is_the_inverse_of_at(rate_hz: float, origin: int, moment: int) -> None:
    """The last tick not after a moment: it is not after it, and the next one is."""
    grid = Grid(rate_hz, Ns(origin))
    n = grid.last(Ns(moment))
    assert grid.at(n) <= moment < grid.at(n + 1)


@given(st.floats(0.01, 120.0), st.integers(0, 10**7))
def test_ticks_are_a_period_apart_to_the_nanosecond(rate_hz: float, n: int) -> None:
    """Rounding never adds up."""
    grid = Grid(rate_hz, Ns(0))
    exact = Fraction(n * SECOND) / Fraction(str(rate_hz))
    assert 0 <= exact - grid.at(n) < 1
