"""The window and the way from packet identifiers back to tokens."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chappe.core.effects import Publish
from chappe.core.events import Ack
from chappe.core.units import Ns
from chappe.edge.mqtt.flight import FULL, Flight


def message(token: int, qos: int = 1, topic: str = "t") -> Publish:
    return Publish(token=token, topic=topic, payload=b"", qos=qos)


def mids(packets: bytes | bytearray) -> list[int]:
    """The packet identifiers in a run of PUBLISH packets on the topic "t" without payload; 0 for QoS 0."""
    found, at = [], 0
    while at < len(packets):
        found.append(int.from_bytes(packets[at + 5 : at + 7]) if packets[at] & 2 else 0)
        at += 2 + packets[at + 1]
    return found


def launched(flight: Flight, now: int = 0) -> list[int]:
    """The packet identifiers of what leaves now."""
    out = bytearray()
    flight.launch(out, Ns(now))
    return mids(out)


def flown(count: int, window: int = 100) -> tuple[Flight, list[int]]:
    """A flight with messages 0.. departed at times 0.., and their packet identifiers."""
    flight = Flight(window)
    numbers = []
    for n in range(count):
        flight.offer([message(n)])
        numbers += launched(flight, n)
    return flight, numbers


def test_a_full_window_holds_back_until_an_acknowledgement() -> None:
    """Two may fly: the third leaves when one of them is acknowledged."""
    flight, (first, _) = flown(2, window=2)
    flight.offer([message(2)])
    assert launched(flight) == []
    flight.landed([(first, 0)], Ns(5))
    assert len(launched(flight)) == 1


def test_without_quality_of_service_there_is_no_window() -> None:
    """QoS 0 passes a full window, but never a message that was offered before it."""
    flight, _ = flown(1, window=1)
    flight.offer([message(1, qos=0), message(2), message(3, qos=0)])
    assert launched(flight) == [0]
    assert flight.collect(Ns(0), whole=True) == (Ack(1, 0),)
    assert launched(flight) == []


def test_a_message_without_quality_of_service_is_done_when_written() -> None:
    """Judged at once, and never what a link stalls for."""
    flight = Flight()
    flight.offer([message(7, qos=0)])
    launched(flight)
    assert flight.collect(Ns(0), whole=True) == (Ack(7, 0),)
    assert flight.oldest_since is None


def test_a_full_buffer_holds_back() -> None:
    """Nothing is made into a packet while a quarter of a megabyte waits; then the order goes on where it stopped."""
    flight = Flight(100)
    flight.offer([message(1), message(2)])
    out = bytearray(FULL - 1)
    flight.launch(out, Ns(0))
    assert mids(out[FULL - 1 :]) == [0x1000]
    assert launched(flight) == [0x1001]


@pytest.mark.parametrize("properties", [True, False])
def test_what_cannot_be_sent_is_judged_here(properties: bool) -> None:
    """A topic with a wildcard is 0x90, a packet above the broker's limit 0x95; one at the limit leaves, and so do the others."""
    flight = Flight(100, max_packet=20, properties=properties)
    room = 20 - len(b"tl\x00\x01tid") - properties
    flight.offer([message(1, topic="a/+"), *(Publish(token=2 + n, topic="t", payload=bytes(room + n)) for n in (0, 1))])
    out = bytearray()
    flight.launch(out, Ns(0))
    assert len(out) == 20
    assert flight.collect(Ns(0), whole=True) == (Ack(1, 0x90), Ack(3, 0x95))


def test_identifiers_go_round_and_pass_over_what_is_taken() -> None:
    """They start again behind those that paho gives to SUBSCRIBEs; one that a message still has is not given twice."""
    flight, (held,) = flown(1)
    seen = {held}
    for n in range(0xFFFF - 0x1000):
        flight.offer([message(n)])
        (mid,) = launched(flight)
        assert mid not in seen
        seen.add(mid)
        flight.landed([(mid, 0)], Ns(0))
    flight.offer([message(0)])
    assert launched(flight) == [held + 1]
    assert seen == set(range(0x1000, 0x10000))


def test_an_acknowledgement_nobody_waits_for_is_nothing() -> None:
    """A second PUBACK, or one for an identifier never used, is passed over."""
    flight, (mid,) = flown(1)
    flight.landed([(mid, 0), (mid, 0), (99, 0)], Ns(1))
    assert flight.collect(Ns(0), whole=True) == (Ack(0, 0),)
    assert flight.collect(Ns(0), whole=True) == ()


def test_codes_are_passed_on_as_they_came() -> None:
    """Success with a remark, and refusal."""
    flight, (first, second) = flown(2)
    flight.landed([(second, 0x87), (first, 0x10)], Ns(1))
    assert flight.collect(Ns(0), whole=True) == (Ack(1, 0x87), Ack(0, 0x10))


def test_the_stall_is_timed_from_becoming_the_oldest() -> None:
    """The clock starts with the first message, again with each PUBACK of the oldest, and not with those of others."""
    flight, (first, second, third) = flown(3)
    assert flight.oldest_since == 0
    flight.landed([(second, 0)], Ns(50))
    assert flight.oldest_since == 0
    flight.landed([(first, 0)], Ns(60))
    assert flight.oldest_since == 60
    flight.landed([(third, 0)], Ns(70))
    assert flight.oldest_since is None
    flight.offer([message(9)])
    launched(flight, 90)
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
        for mid in launched(self.flight):
            token = self.offered[len(self.taken)]
            self.taken.append(token)
            if mid:
                assert mid not in self.flying
                self.flying[mid] = token

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        mid = data.draw(st.sampled_from(sorted(self.flying)))
        del self.flying[mid]
        self.flight.landed([(mid, 0)], Ns(1))

    @rule()
    def collect(self) -> None:
        self.judged.update(ack.token for ack in self.flight.collect(Ns(0), whole=True))

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
