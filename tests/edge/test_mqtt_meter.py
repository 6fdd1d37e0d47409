"""How many bytes went over the link, and how often that is said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chappe.core.events import Carried
from chappe.core.units import MILLISECOND, SECOND, Ns
from chappe.edge.mqtt.meter import Meter
from chappe.edge.mqtt.terms import Counters


def test_beside_others_once_a_second() -> None:
    """At 0 s, not a moment before 1 s, at 1 s with what has gathered meanwhile."""
    counters = Counters(bytes_in=3, bytes_out=5)
    meter = Meter(Counters())
    assert meter.reading(Ns(0), company=True) == []
    meter = Meter(counters)
    counters.bytes_out += 7
    assert meter.reading(Ns(0), company=True) == [Carried(at=Ns(0), sent=7, received=0)]
    counters.bytes_in += 2
    assert meter.reading(Ns(SECOND - 1), company=True) == []
    assert meter.reading(Ns(SECOND), company=True) == [Carried(at=Ns(SECOND), sent=0, received=2)]


def test_alone_every_ten_seconds() -> None:
    """A ping wakes nobody just to be counted."""
    counters = Counters()
    meter = Meter(counters)
    counters.bytes_out += 1
    assert len(meter.reading(Ns(0), company=False)) == 1
    counters.bytes_out += 1
    assert meter.reading(Ns(10 * SECOND - 1), company=False) == []
    assert len(meter.reading(Ns(10 * SECOND), company=False)) == 1


def test_the_rest_is_told_whenever_it_is_asked_for() -> None:
    """Before the link is reported lost."""
    counters = Counters()
    meter = Meter(counters)
    counters.bytes_out += 1
    meter.reading(Ns(0), company=True)
    counters.bytes_out += 2
    assert meter.rest(Ns(1)) == [Carried(at=Ns(1), sent=2, received=0)]
    assert meter.rest(Ns(1)) == []


steps = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 3000), st.booleans()), max_size=30
)


@given(steps)
def test_every_byte_is_told_once(moves: list[tuple[int, int, int, bool]]) -> None:
    """The sum of all readings and the rest is what went over the link."""
    counters, now, told = Counters(), Ns(0), []
    meter = Meter(counters)
    for sent, received, milliseconds, company in moves:
        counters.bytes_out += sent
        counters.bytes_in += received
        now = Ns(now + milliseconds * MILLISECOND)
        told += meter.reading(now, company=company)
    told += meter.rest(now)
    assert sum(each.sent for each in told) == counters.bytes_out
    assert sum(each.received for each in told) == counters.bytes_in
    assert all(each.sent or each.received for each in told)
