"""When a ping is due, and what counts as an answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chappe.core.units import SECOND, Ns
from chappe.edge.mqtt.pulse import Pulse

EVERY = Ns(20 * SECOND)


def at(second: float) -> Ns:
    return Ns(round(second * SECOND))


def test_a_quiet_link_is_pinged_after_one_interval() -> None:
    """Twenty seconds after the connection began."""
    assert Pulse(EVERY, at(5)).due == at(25)


def test_hearing_alone_is_not_enough() -> None:
    """The broker wants to hear of us, too: what was neither said nor heard longest ago decides."""
    pulse = Pulse(EVERY, at(0))
    pulse.heard(at(15))
    assert pulse.due == at(20)
    pulse.spoke(at(18))
    assert pulse.due == at(35)


def test_an_unanswered_ping_is_the_end() -> None:
    """One interval after the ping, whatever we said meanwhile."""
    pulse = Pulse(EVERY, at(0))
    assert pulse.ping(at(20))
    pulse.spoke(at(30))
    assert pulse.due == at(40)
    assert not pulse.ping(at(40))


def test_anything_heard_is_an_answer() -> None:
    """And a ping counts as something said, so that the next one is a whole interval away."""
    pulse = Pulse(EVERY, at(0))
    assert pulse.ping(at(20))
    pulse.heard(at(21))
    assert pulse.due == at(40)
    assert pulse.ping(at(40))


def test_no_keepalive_means_no_pings() -> None:
    """Zero turns it off (MQTT 5 section 3.1.2.10)."""
    assert Pulse(Ns(0), at(0)).due is None


@given(st.lists(st.tuples(st.floats(0, 15), st.booleans()), max_size=40))
def test_a_broker_that_answers_within_an_interval_is_never_given_up(steps: list[tuple[float, bool]]) -> None:
    """Whoever says something at least every fifteen seconds stays, and the broker hears from us every twenty."""
    pulse, now, spoke = Pulse(EVERY, at(0)), at(0), at(0)
    for wait, speaks in steps:
        then = Ns(now + round(wait * SECOND))
        due = pulse.due
        if due is not None and due <= then:
            assert pulse.ping(due)
            spoke = due
        now = then
        pulse.heard(now)
        if speaks:
            pulse.spoke(now)
            spoke = now
        assert now - spoke <= EVERY
