"""The window and the way from packet identifiers back to tokens."""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chappe.core.effects import Publish
from chappe.core.events import Ack
from chappe.core.units import Ns
from chappe.edge.mqtt.flight import Flight


def message(token: int, qos: int = 1) -> Publish:
    return Publish(token=token, topic="t", payload=b"", qos=qos)


def flown(count: int, window: int = 100) -> Flight:
    """A flight with messages 0.. departed under identifiers 10.. at times 0.."""
    flight = Flight(window)
    flight.offer([message(n) for n in range(count)])
    for n in range(count):
        taken = flight.take()
        assert taken is not None
        flight.departed(10 + n, False, taken, Ns(n))
    return flight


def test_a_full_window_holds_back_until_an_acknowledgement() -> None:
    """Two may fly: the third is given out when one of them is acknowledged."""
    flight = flown(2, window=2)
    flight.offer([message(2)])
    assert flight.take() is None
    flight.arrived(10, 0, Ns(5))
    taken = flight.take()
    assert taken is not None
    assert taken.token == 2


def test_without_quality_of_service_there_is_no_window() -> None:
    """QoS 0 passes a full window, but never a message that was offered before it."""
    flight = flown(1, window=1)
    flight.offer([message(1, qos=0), message(2), message(3, qos=0)])
    taken = flight.take()
    assert taken is not None
    assert taken.token == 1
    assert flight.take() is None


def test_a_message_without_quality_of_service_is_done_when_written() -> None:
    """Written whole: judged at once. Written later: judged when paho says so."""
    flight = Flight()
    flight.departed(1, True, message(7, qos=0), Ns(0))
    assert flight.collect() == (Ack(7, 0),)
    flight.departed(2, False, message(8, qos=0), Ns(0))
    assert flight.collect() == ()
    assert flight.oldest_since is None
    flight.arrived(2, 0, Ns(1))
    assert flight.collect() == (Ack(8, 0),)


def test_an_acknowledgement_nobody_waits_for_is_nothing() -> None:
    """A second PUBACK, or one for an identifier never used, is passed over."""
    flight = flown(1)
    flight.arrived(10, 0, Ns(1))
    flight.arrived(10, 0, Ns(2))
    flight.arrived(99, 0, Ns(2))
    assert flight.collect() == (Ack(0, 0),)
    assert flight.collect() == ()


def test_codes_are_passed_on_as_they_came() -> None:
    """Success with a remark, and refusal."""
    flight = flown(2)
    flight.arrived(11, 0x87, Ns(1))
    flight.arrived(10, 0x10, Ns(1))
    assert flight.collect() == (Ack(1, 0x87), Ack(0, 0x10))


def test_the_stall_is_timed_from_becoming_the_oldest() -> None:
    """The clock starts with the first message, again with each PUBACK of the oldest, and not with those of others."""
    flight = flown(3)
    assert flight.oldest_since == 0
    flight.arrived(11, 0, Ns(50))
    assert flight.oldest_since == 0
    flight.arrived(10, 0, Ns(60))
    assert flight.oldest_since == 60
    flight.arrived(12, 0, Ns(70))
    assert flight.oldest_since is None
    flight.departed(20, False, message(9), Ns(90))
    assert flight.oldest_since == 90


class Traffic(RuleBasedStateMachine):
    """Whatever is offered, sent and acknowledged in whatever order: the window holds, and each token is judged once."""

    def __init__(self) -> None:
        super().__init__()
        self.flight = Flight(3)
        self.offered: list[int] = []
        self.taken: list[int] = []
        self.flying: dict[int, int] = {}
        self.judged: Counter[int] = Counter()

    @rule(qualities=st.lists(st.sampled_from([0, 1]), max_size=5))
    def offer(self, qualities: list[int]) -> None:
        batch = [message(len(self.offered) + n, qos) for n, qos in enumerate(qualities)]
        self.offered += [each.token for each in batch]
        self.flight.offer(batch)

    @rule()
    def send(self) -> None:
        while (each := self.flight.take()) is not None:
            self.taken.append(each.token)
            if each.qos:
                self.flying[each.token + 1] = each.token
            self.flight.departed(each.token + 1, each.qos == 0, each, Ns(0))

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        mid = data.draw(st.sampled_from(sorted(self.flying)))
        del self.flying[mid]
        self.flight.arrived(mid, 0, Ns(1))

    @rule()
    def collect(self) -> None:
        self.judged.update(ack.token for ack in self.flight.collect())

    @invariant()
    def the_window_holds(self) -> None:
        assert len(self.flying) <= 3
        assert (self.flight.oldest_since is None) == (not self.flying)

    @invariant()
    def order_is_kept_and_nothing_is_judged_twice(self) -> None:
        assert self.taken == self.offered[: len(self.taken)]
        assert not any(count > 1 for count in self.judged.values())
        assert set(self.judged) <= set(self.taken) - set(self.flying.values())

    def teardown(self) -> None:
        self.collect()
        assert set(self.judged) == set(self.taken) - set(self.flying.values())


TestTraffic = Traffic.TestCase
