"""The idle gate on manual time: how often palms are searched while no hand is seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.vision.gate import SECOND, Gate, difference, samples
from chappe.vision.geometry import Frame

TENTH = SECOND // 10
LATEST = 6
"""Frames at 10 per second: 0.6 s."""


@pytest.fixture(scope="module")
def room() -> Frame:
    """A plain grey-green scene, 640 x 480."""
    return np.broadcast_to(np.array((90, 110, 120), np.uint8), (480, 640, 3)).copy()


def searches(frames: Iterable[Frame], gate: Gate | None = None, *, step_ns: int = TENTH) -> list[int]:
    """Numbers of the frames that were searched, at 10 frames per second."""
    gate = gate or Gate()
    return [number for number, frame in enumerate(frames) if gate.due(frame, number * step_ns)]


def noisy(frame: Frame, seed: int = 0, sigma: float = 3.0) -> list[Frame]:
    """Seven pictures of one scene under camera noise; seven divides neither 5 nor 50, so no search meets its own noise again."""
    rng = np.random.default_rng(seed)
    return [np.clip(frame + rng.normal(0, sigma, frame.shape), 0, 255).astype(np.uint8) for _ in range(7)]


def with_hand(frame: Frame, x: int, y: int, contrast: int) -> Frame:
    changed = frame.copy()
    changed[y : y + 60, x : x + 60] += np.uint8(contrast)
    return changed


# ---- rates -----------------------------------------------------------------------------------------------------------


def moving_square(room: Frame) -> Iterator[Frame]:
    for number in range(600):
        yield with_hand(room, number * 4 % 560, 200, 80)


def brightening(room: Frame) -> Iterator[Frame]:
    for number in range(600):
        yield np.full_like(room, number % 256)


def noise_alone(room: Frame) -> Iterator[Frame]:
    big = np.random.default_rng(0).integers(0, 256, (540, 700, 3), dtype=np.uint8)
    for number in range(600):
        yield big[number % 53 :, number % 59 :][:480, :640]


@pytest.mark.feature("CAP-03", breaks="chappe.vision.gate:Gate.due")
@pytest.mark.parametrize("changing", [moving_square, brightening, noise_alone])
def test_a_changing_picture_is_searched_twice_a_second(
    room: Frame, changing: Callable[[Frame], Iterator[Frame]]
) -> None:
    """60 s at 10 frames per second without a hand: 120 searches, give or take 2, whatever it is that changes."""
    assert abs(len(searches(changing(room))) - 120) <= 2


@pytest.mark.feature("CAP-03", breaks="chappe.vision.gate:difference")
def test_a_picture_that_stands_still_is_searched_every_five_seconds(room: Frame) -> None:
    """60 s of identical frames: 12 searches, give or take 1, the first at once."""
    found = searches([room] * 600)
    assert abs(len(found) - 12) <= 1
    assert found[:3] == [0, 50, 100]


def test_noise_is_not_movement(room: Frame) -> None:
    """60 s of a still scene under noise of 3 grey levels: searched as rarely as without noise."""
    pictures = noisy(room)
    assert abs(len(searches(pictures[number % 7] for number in range(600))) - 12) <= 1


def test_the_rate_holds_when_frames_do_not_fall_on_the_interval() -> None:
    """At 12 frames per second a search falls every sixth frame; at 7 every third or fourth: still twice a second."""
    for rate in (7, 12, 30):
        frames = (np.full((60, 80, 3), number % 2 * 200, np.uint8) for number in range(60 * rate))
        assert abs(len(searches(frames, step_ns=SECOND // rate)) - 120) <= 2


def test_the_rates_are_settings() -> None:
    frames = [np.full((60, 80, 3), number % 2 * 200, np.uint8) for number in range(100)]
    assert searches(frames, Gate(idle_ns=SECOND)) == list(range(0, 100, 10))
    assert searches(frames[:1] * 100, Gate(still_ns=2 * SECOND)) == list(range(0, 100, 20))


# ---- a hand comes ----------------------------------------------------------------------------------------------------


def first_after(found: list[int], frame: int) -> int:
    return next((number for number in found if number >= frame), 10**6)


@pytest.mark.feature("CAP-03", breaks="chappe.vision.gate:samples")
@pytest.mark.parametrize("place", [(290, 210), (0, 0), (580, 420), (300, 200), (240, 160)])
@pytest.mark.parametrize("at", [23, 51, 58, 74])
def test_a_hand_under_noise_is_looked_at_in_time(room: Frame, place: tuple[int, int], at: int) -> None:
    """60 x 60 px at contrast 25 under noise of 3 grey levels, also in the corner of four cells: searched 0.6 s later at most."""
    empty, held = noisy(room, at), noisy(with_hand(room, *place, 25), at + 1)
    frames = [(empty if number < at else held)[number % 7] for number in range(at + LATEST + 1)]
    found = searches(frames)
    assert first_after(found, at) <= at + LATEST
    assert len([number for number in found if number < at]) <= 1 + at // 50, "not the hand made it search"


@pytest.mark.parametrize("at", [1, 4, 5, 23, 49, 51])
def test_one_change_and_then_stillness_is_looked_at_in_time(room: Frame, at: int) -> None:
    """A hand that comes within one frame and is then held: searched 0.6 s later at most, and once."""
    frames = [room] * at + [with_hand(room, 300, 200, 12)] * 40
    found = searches(frames)
    after = [number for number in found if at <= number < at + 40]
    assert after[0] <= at + LATEST
    assert len(after) <= 2


def test_a_change_is_not_forgotten_when_it_is_undone(room: Frame) -> None:
    """Something flashed through the picture just after a search: it is looked at when the next search may run."""
    frames = [room] * 51 + [with_hand(room, 300, 200, 80)] + [room] * 10
    assert first_after(searches(frames), 51) <= 51 + LATEST


def test_after_a_flickering_light_a_hand_is_still_seen(room: Frame) -> None:
    """A lamp that flickers by 4 grey levels counts as noise; a hand of contrast 40 stands out of it."""
    frames = [room + np.uint8(4 * (number % 2)) for number in range(60)]
    assert len(searches(frames)) <= 8
    frames += [with_hand(frame, 290, 210, 40) for frame in frames[:10]]
    assert first_after(searches(frames), 60) <= 60 + LATEST


def test_a_forced_search_runs_at_once_and_starts_a_new_interval(room: Frame) -> None:
    """Right after a hand was lost: no waiting, and the picture of that search is what later ones are compared with."""
    gate = Gate()
    assert gate.due(room, 0)
    changed = with_hand(room, 300, 200, 80)
    assert gate.due(changed, TENTH, force=True)
    assert not any(gate.due(changed, number * TENTH) for number in range(2, 50))
    assert gate.due(changed, 51 * TENTH)


def test_another_shape_of_frame_is_a_change(room: Frame) -> None:
    """A camera that was turned or exchanged is looked at anew; the same picture at half the size is the same picture."""
    gate = Gate()
    assert gate.due(room, 0)
    assert not gate.due(room[:240, :320], SECOND)
    assert gate.due(room[:, :480].copy(), 2 * SECOND)


@given(
    st.lists(st.tuples(st.integers(1, 3 * SECOND), st.integers(0, 3), st.booleans()), max_size=60),
    st.integers(TENTH, 2 * SECOND),
    st.integers(2 * SECOND, 9 * SECOND),
)
def test_searches_keep_their_distance(script: list[tuple[int, int, bool]], idle_ns: int, still_ns: int) -> None:
    """Whatever the frames show and whenever they come: never two unforced searches closer than the idle time on average, and
    never a frame left out once the still time has passed."""
    pictures = [np.full((48, 64, 3), value, np.uint8) for value in (0, 1, 40, 200)]
    gate, now, last, unforced = Gate(idle_ns, still_ns), 0, 0, []
    assert gate.due(pictures[0], now)
    for wait, shown, force in script:
        now += wait
        due = gate.due(pictures[shown], now, force=force)
        assert due or not force
        assert due or now - last < still_ns or now < last + idle_ns
        if due and not force:
            unforced.append(now)
        last = now if due else last
    # The phase is kept, so a late search may be followed by one that is early by as much; over three the mean rate holds.
    for first, third in zip(unforced, unforced[2:], strict=False):
        assert third - first >= idle_ns


# ---- the measure -----------------------------------------------------------------------------------------------------


def test_a_difference_is_told_for_its_cell_alone(room: Frame) -> None:
    """Half of one 80 x 80 cell brighter by 30: that cell's mean difference is 15, all others are 0."""
    changed = room.copy()
    changed[160:240, 320:360] += 30
    cells = difference(samples(changed), samples(room))
    assert cells.shape == (6, 8)
    assert cells[2, 4] == pytest.approx(15)
    cells = cells.copy()
    cells[2, 4] = 0
    assert cells.max() == 0


@given(st.integers(1, 700), st.integers(1, 900))
def test_any_size_of_frame_has_a_grid(height: int, width: int) -> None:
    """Also frames smaller than the grid, and those that do not divide by it: a change anywhere is seen somewhere."""
    dark = np.zeros((height, width, 3), np.uint8)
    cells = difference(samples(dark + np.uint8(50)), samples(dark))
    assert cells.shape == (6, 8)
    assert cells.max() == pytest.approx(50, abs=1e-3)
    if height >= 6 and width >= 8:
        assert cells.min() == pytest.approx(50, abs=1e-3)
