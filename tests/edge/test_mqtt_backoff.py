"""The sequence of waits between attempts, at manual time."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.core.units import MINUTE, SECOND, Ns, as_seconds
from chappe.edge.mqtt.backoff import Backoff


class Middle(random.Random):
    """No jitter."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def attempts(backoff: Backoff, until_s: float) -> list[float]:
    """Seconds at which attempts fail, from the first at 0, when each fails at once."""
    now, found = Ns(0), []
    while as_seconds(now) <= until_s:
        found.append(as_seconds(now))
        now = Ns(now + backoff.wait(now))
    return found


@pytest.mark.feature("MQT-04", breaks="chappe.edge.mqtt.backoff:Backoff.wait")
def test_once_a_second_for_a_minute_then_twice_as_long_up_to_thirty() -> None:
    """61 attempts a second apart, then after 2, 4, 8 and 16 s, then every 30 s for ever."""
    times = attempts(Backoff(Middle()), 300)
    assert times[:61] == [float(n) for n in range(61)]
    waits = [late - early for early, late in pairwise(times[60:])]
    assert waits == [2, 4, 8, 16, 30, 30, 30, 30, 30, 30, 30][: len(waits)]
    assert len(waits) >= 9


@pytest.mark.feature("MQT-04", breaks="chappe.edge.mqtt.backoff:Backoff.wait")
@given(st.integers())
def test_every_wait_is_within_half_of_its_base(seed: int) -> None:
    """Whatever the jitter, waits of the first minute are 0.5 to 1.5 s, and none is ever above 45 s."""
    backoff = Backoff(random.Random(seed))
    times = attempts(backoff, 600)
    waits = [late - early for early, late in pairwise(times)]
    first = [wait for wait, at in zip(waits, times, strict=False) if at < 60]
    assert all(0.5 <= wait <= 1.5 for wait in first)
    assert all(0.5 <= wait <= 45 for wait in waits)
    assert max(waits) > 15


def test_two_devices_do_not_come_back_together() -> None:
    """Different jitter gives different times."""
    assert attempts(Backoff(random.Random(1)), 60) != attempts(Backoff(random.Random(2)), 60)


def test_a_link_that_came_up_starts_a_new_row() -> None:
    """After `reset` the next failure is followed by 1 s again, for a minute from then."""
    backoff = Backoff(Middle())
    attempts(backoff, 200)
    backoff.reset()
    late = Ns(1000 * SECOND)
    assert backoff.wait(late) == SECOND
    assert backoff.wait(Ns(late + MINUTE - 1)) == SECOND
    assert backoff.wait(Ns(late + MINUTE)) == 2 * SECOND
