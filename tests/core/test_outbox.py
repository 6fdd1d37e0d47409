"""The outbox: numbers, books, order, bounds and what is disclosed, against a model of a broker and a consumer."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chappe.core.clock import WallClock
from chappe.core.effects import Commit, Publish
from chappe.core.elision import Elide
from chappe.core.events import Ack
from chappe.core.outbox import Outbox
from chappe.core.returns import Refusal
from chappe.core.settings import Outbox as Limits
from chappe.core.settings import Stream
from chappe.core.streams import effective
from chappe.core.topics import Topics
from chappe.core.units import SECOND, Ns, Span, WallNs, seconds

BOOT = "00000000000000aa"


def make(limits: Limits | None = None, **streams: Stream) -> Outbox:
    tokens = count(1)
    specs = {name: effective(name, stream) for name, stream in streams.items()}
    outbox = Outbox(
        BOOT,
        Topics("chappe", "tower-1"),
        specs,
        limits or Limits(),
        WallClock(Ns(0), WallNs(0), True),
        lambda: next(tokens),
    )
    commit(outbox, Ns(0))
    return outbox


def commit(outbox: Outbox, now: Ns) -> list[Commit]:
    """Let the store do at once what it is asked for."""
    commits = [wish for wish in outbox.wishes(now) if isinstance(wish, Commit)]
    for _ in commits:
        outbox.committed(now)
    return commits


def body(message: Publish) -> dict[str, Any]:
    return json.loads(message.payload)


def take(outbox: Outbox, at: float = 0.0, credit: int = 1000) -> list[Publish]:
    return outbox.take(seconds(at), credit)


def ack(outbox: Outbox, messages: list[Publish], code: int = 0, at: float = 0.0) -> list[Refusal]:
    return outbox.returns.acked([Ack(message.token, code) for message in messages], seconds(at))


def test_numbers_start_at_1_and_every_value_of_a_log_stream_gets_its_own() -> None:
    outbox = make(tick=Stream())
    outbox.link_up(Ns(0))
    for value in range(5):
        outbox.produce("tick", {"value": value}, Ns(0))
    bodies = [body(message) for message in take(outbox)]
    assert [(one["seq"], one["data"]["value"]) for one in bodies] == [(n + 1, n) for n in range(5)]
    assert all(one["boot"] == BOOT and one["synced"] is True for one in bodies)


@pytest.mark.feature("ELI-06", breaks="chappe.core.lane:Lane.produce")
def test_five_hundred_messages_of_a_log_stream_at_50_hz_are_all_delivered() -> None:
    outbox = make(tick=Stream(class_="log"))
    outbox.link_up(Ns(0))
    seen = []
    for n in range(500):
        outbox.produce("tick", {"value": n}, seconds(n / 50))
        messages = take(outbox, n / 50)
        ack(outbox, messages)
        seen += [body(message)["data"]["value"] for message in messages]
    book = outbox.lanes["tick"].book
    assert (seen, book.delivered, book.elided) == (list(range(500)), 500, 0)


def test_a_window_is_never_exceeded() -> None:
    outbox = make(tick=Stream())
    outbox.link_up(Ns(0))
    for n in range(50):
        outbox.produce("tick", {"value": n}, Ns(0))
    assert len(take(outbox, credit=20)) == 20
    assert outbox.stock.flying == 20


def test_what_waits_offline_leaves_in_order_and_late_and_live_values_do_not() -> None:
    outbox = make(tick=Stream())
    for n in range(3):
        outbox.produce("tick", {"value": n}, Ns(0))
    outbox.link_up(Ns(0))
    outbox.produce("tick", {"value": 3}, Ns(0))
    bodies = [body(message) for message in take(outbox)]
    assert [(one["seq"], one.get("late", False)) for one in bodies] == [(1, True), (2, True), (3, True), (4, False)]


def test_what_was_in_flight_when_the_link_died_is_offered_again_with_the_same_bytes() -> None:
    outbox = make(tick=Stream())
    outbox.link_up(Ns(0))
    for n in range(4):
        outbox.produce("tick", {"value": n}, Ns(0))
    first = take(outbox)
    ack(outbox, first[:1])
    outbox.link_down(Ns(0))
    outbox.produce("tick", {"value": 4}, Ns(0))
    outbox.link_up(Ns(0))
    again = take(outbox)
    assert [message.payload for message in again[:3]] == [message.payload for message in first[1:]]
    assert [body(message)["seq"] for message in again] == [2, 3, 4, 5]
    assert not {message.token for message in again} & {message.token for message in first}


def test_offline_one_row_per_key_waits_and_tells_what_it_stands_for() -> None:
    outbox = make(room=Stream(class_="latest", elide=Elide(policy="none", key="{entity}")))
    outbox = make(room=Stream(class_="latest", elide=Elide(policy="change", key="{entity}")))
    for n in range(1000):
        for entity in "abc":
            outbox.produce("room", {"entity": entity, "value": n}, Ns(n))
    assert outbox.lanes["room"].depth == 3
    outbox.link_up(Ns(0))
    messages = take(outbox)
    bodies = [body(message) for message in messages]
    assert [one["seq"] for one in bodies] == [1, 2, 3]
    assert [one["elided"]["n"] for one in bodies] == [999] * 3
    assert all(one["late"] and one["data"]["value"] == 999 for one in bodies)
    assert bodies[0]["elided"] == {"n": 999, "min": 0, "max": 998, "mean": 499.0}
    ack(outbox, messages)
    assert outbox.lanes["room"].audit


def test_a_key_in_flight_is_never_overtaken_or_touched() -> None:
    outbox = make(room=Stream(class_="latest"))
    outbox.link_up(Ns(0))
    outbox.produce("room", {"value": 1}, Ns(0))
    (first,) = take(outbox)
    for value in (2, 3):
        outbox.produce("room", {"value": value}, Ns(0))
    assert take(outbox) == []
    ack(outbox, [first])
    (second,) = take(outbox)
    assert (body(first)["data"]["value"], body(second)["data"]["value"]) == (1, 3)
    assert body(second)["elided"] == {"n": 1, "min": 2, "max": 2, "mean": 2.0}


def test_higher_priority_goes_first_and_equal_priority_by_age() -> None:
    outbox = make(alert=Stream(), low=Stream(priority=1), one=Stream(), two=Stream())
    for at, name in enumerate(("low", "two", "one", "two", "alert")):
        outbox.produce(name, {"value": at}, Ns(at))
    outbox.link_up(Ns(0))
    commit(outbox, seconds(1))
    assert [body(message)["data"]["value"] for message in take(outbox)] == [4, 1, 2, 3, 0]


def test_transient_is_sent_at_qos_0_while_connected_and_given_up_and_disclosed_otherwise() -> None:
    outbox = make(pose=Stream(class_="transient"))
    for n in range(3):
        outbox.produce("pose", {"value": n}, Ns(0))
    assert outbox.lanes["pose"].book.spilled == 3
    outbox.link_up(Ns(0))
    outbox.produce("pose", {"value": 3}, Ns(0))
    (message,) = take(outbox)
    assert message.qos == 0
    assert body(message)["lost"] == {"from": 1, "to": 3, "n": 3, "reason": "offline"}


def test_the_oldest_spills_when_rows_are_bounded_and_the_next_message_says_so_once() -> None:
    outbox = make(Limits(rows=100), tick=Stream())
    for n in range(1, 151):
        outbox.produce("tick", {"value": n}, Ns(n))
    outbox.link_up(Ns(0))
    bodies = [body(message) for message in take(outbox)]
    assert [one["data"]["value"] for one in bodies] == list(range(51, 151))
    assert bodies[0]["lost"] == {"from": 1, "to": 50, "n": 50, "reason": "spilled"}
    assert not any("lost" in one for one in bodies[1:])


def test_the_newest_spills_when_the_owner_wants_the_beginning() -> None:
    outbox = make(Limits(rows=100, spill="newest"), tick=Stream())
    for n in range(1, 151):
        outbox.produce("tick", {"value": n}, Ns(n))
    outbox.link_up(Ns(0))
    bodies = [body(message) for message in take(outbox)]
    assert [one["data"]["value"] for one in bodies] == list(range(1, 101))
    outbox.produce("tick", {"value": 151}, Ns(151))
    ack(outbox, [])
    assert outbox.lanes["tick"].book.spilled >= 50


def test_latest_gives_way_before_log_and_alarms_last() -> None:
    limits = Limits(rows=4)
    outbox = make(
        limits, alert=Stream(), tick=Stream(), room=Stream(class_="latest", elide=Elide(policy="change", key="{k}"))
    )
    for n, name in enumerate(("alert", "room", "tick", "room", "tick", "tick", "tick")):
        outbox.produce(name, {"value": n, "k": str(n)}, Ns(n))
    kept = {name: len(lane.rows) for name, lane in outbox.lanes.items()}
    assert kept == {"alert": 1, "tick": 3, "room": 0}
    assert all(lane.audit for lane in outbox.lanes.values())


def test_expired_rows_are_not_sent_but_counted_and_disclosed() -> None:
    outbox = make(tick=Stream(expiry=Span(5 * SECOND)))
    for at in range(10):
        outbox.produce("tick", {"value": at}, seconds(at))
    outbox.expire(seconds(10))
    outbox.link_up(Ns(0))
    bodies = [body(message) for message in take(outbox, 10)]
    assert [one["data"]["value"] for one in bodies] == [6, 7, 8, 9]
    assert bodies[0]["lost"] == {"from": 1, "to": 6, "n": 6, "reason": "expired"}
    assert outbox.lanes["tick"].book.expired == 6


def test_the_default_expiry_of_log_is_seven_days_to_the_nanosecond() -> None:
    outbox = make(tick=Stream())
    outbox.produce("tick", {"value": 1}, Ns(0))
    commit(outbox, seconds(1))
    outbox.expire(Ns(604_800 * SECOND - 1))
    assert outbox.lanes["tick"].book.expired == 0
    outbox.expire(Ns(604_800 * SECOND))
    assert outbox.lanes["tick"].book.expired == 1


def test_the_message_expiry_is_what_is_left() -> None:
    outbox = make(tick=Stream(expiry=Span(60 * SECOND)))
    outbox.produce("tick", {"value": 1}, Ns(0))
    outbox.link_up(Ns(0))
    assert take(outbox, 45.5)[0].expiry_s == 15


def test_gaps_of_two_kinds_merge_into_one() -> None:
    outbox = make(Limits(rows=2), tick=Stream(expiry=Span(5 * SECOND)))
    for at in range(3):
        outbox.produce("tick", {"value": at}, Ns(at))
    outbox.expire(seconds(6))
    outbox.produce("tick", {"value": 9}, seconds(6))
    outbox.link_up(Ns(0))
    lost = body(take(outbox, 6)[0])["lost"]
    assert lost == {"from": 1, "to": 3, "n": 3, "reason": "mixed", "by": {"spilled": 1, "expired": 2}}


def test_values_turned_away_at_the_inbox_take_numbers_and_are_disclosed() -> None:
    outbox = make(tick=Stream())
    outbox.link_up(Ns(0))
    outbox.produce("tick", {"value": 0}, Ns(0))
    outbox.stock.overload("tick", 7)
    outbox.produce("tick", {"value": 1}, Ns(0))
    first, second = (body(message) for message in take(outbox))
    assert (first["seq"], second["seq"]) == (1, 9)
    assert second["lost"] == {"from": 2, "to": 8, "n": 7, "reason": "overload"}
    assert outbox.lanes["tick"].book.spilled == 7
    assert outbox.lanes["tick"].audit


def test_nobody_subscribed_is_a_success() -> None:
    outbox = make(tick=Stream())
    outbox.link_up(Ns(0))
    outbox.produce("tick", {"value": 0}, Ns(0))
    assert ack(outbox, take(outbox), 0x10) == []
    assert outbox.lanes["tick"].book.delivered == 1


def test_a_forbidden_stream_is_held_and_others_flow() -> None:
    outbox = make(tick=Stream(), tock=Stream())
    outbox.link_up(Ns(0))
    for name in ("tick", "tock"):
        outbox.produce(name, {"value": 0}, Ns(0))
    tick, tock = take(outbox)
    assert ack(outbox, [tick], 0x87) == [Refusal("tick", "stream_held")]
    ack(outbox, [tock])
    assert take(outbox, 59.9) == []
    outbox.expire(seconds(60))
    (again,) = take(outbox, 60)
    ack(outbox, [again])
    assert (again.payload, outbox.lanes["tick"].book.delivered) == (tick.payload, 1)


def test_a_busy_broker_is_tried_again_after_one_two_four_seconds_for_ever() -> None:
    outbox = make(tick=Stream(expiry=Span(10**9 * SECOND)))
    outbox.link_up(Ns(0))
    outbox.produce("tick", {"value": 0}, Ns(0))
    now = 0.0
    for pause in (1, 2, 4, 8, 16, 32, 60, 60, 60):
        ack(outbox, take(outbox, now), 0x97, now)
        commit(outbox, seconds(now + 0.9))
        outbox.expire(seconds(now + pause - 0.01))
        assert take(outbox, now + pause - 0.01) == []
        now += pause
        outbox.expire(seconds(now))
    assert len(take(outbox, now)) == 1


@pytest.mark.parametrize("code", [0x90, 0x95, 0x99])
def test_a_message_the_broker_can_never_take_becomes_a_dead_letter_and_stops_nobody(code: int) -> None:
    outbox = make(tick=Stream())
    outbox.link_up(Ns(0))
    for value in range(2):
        outbox.produce("tick", {"value": value}, Ns(0))
    first, second = take(outbox)
    ack(outbox, [first], code)
    ack(outbox, [second])
    lane = outbox.lanes["tick"]
    assert (lane.dead, lane.book.delivered, lane.book.queued) == (1, 1, 1)
    assert lane.audit
    assert outbox.counter.depth(Ns(0)).dead == 1


def test_an_unknown_refusal_is_tried_five_times() -> None:
    outbox = make(tick=Stream())
    outbox.link_up(Ns(0))
    outbox.produce("tick", {"value": 0}, Ns(0))
    now = 0.0
    for _ in range(5):
        ack(outbox, take(outbox, now), 0xFE, now)
        now += 60
        outbox.expire(seconds(now))
    assert outbox.lanes["tick"].dead == 1


def test_depth_tells_messages_bytes_and_the_age_of_the_oldest() -> None:
    outbox = make(tick=Stream())
    outbox.produce("tick", {"value": 1}, Ns(0))
    outbox.produce("tick", {"value": 2}, seconds(3))
    depth = outbox.counter.depth(seconds(10))
    assert (depth.depth, depth.oldest_s) == (2, 10.0)
    assert depth.bytes > 2 * len('{"value":1}')


class Consumer:
    """The other end: keeps the first copy of each number, and notes what is disclosed as lost."""

    def __init__(self) -> None:
        self.got: dict[int, bytes] = {}
        self.lost: set[int] = set()
        self.order: list[int] = []

    def take(self, message: Publish) -> None:
        envelope = body(message)
        seq = envelope["seq"]
        if seq not in self.got:
            self.order.append(seq)
            if "lost" in envelope:
                self.lost |= set(range(envelope["lost"]["from"], envelope["lost"]["to"] + 1))
        assert self.got.setdefault(seq, message.payload) == message.payload, "one number, one content"


class OutboxMachine(RuleBasedStateMachine):
    """Whatever happens: the books balance, numbers arrive in order, and every hole below the newest is disclosed."""

    STREAMS = ("tick", "room", "wave", "pose")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.outbox = make(
            Limits(rows=20),
            tick=Stream(expiry=Span(30 * SECOND)),
            room=Stream(class_="latest", elide=Elide(policy="change", key="{k}")),
            wave=Stream(class_="latest", elide=Elide(policy="latest", every=Span(SECOND))),
            pose=Stream(class_="transient"),
        )
        self.flying: list[Publish] = []
        self.consumers = {name: Consumer() for name in self.STREAMS}
        self.produced = 0

    @rule(stream=st.sampled_from(STREAMS), value=st.integers(0, 9), key=st.sampled_from("ab"))
    def produce(self, stream: str, value: int, key: str) -> None:
        self.outbox.produce(stream, {"value": value, "k": key}, Ns(self.now))
        self.produced += 1

    @rule(stream=st.sampled_from(STREAMS), n=st.integers(1, 5))
    def overload(self, stream: str, n: int) -> None:
        self.outbox.stock.overload(stream, n)
        self.produced += n

    @rule(span=st.integers(1, 40_000))
    def time_passes(self, span: int) -> None:
        end = self.now + span * 1_000_000
        while (due := self.outbox.due()) is not None and due <= end:
            self.now = max(self.now, due)
            self.outbox.expire(Ns(self.now))
            commit(self.outbox, Ns(self.now))
        self.now = end

    @precondition(lambda self: not self.outbox.stock.online)
    @rule()
    def connect(self) -> None:
        self.outbox.link_up(Ns(self.now))

    @precondition(lambda self: self.outbox.stock.online)
    @rule(arrived=st.integers(0, 5))
    def cut(self, arrived: int) -> None:
        for message in self.flying[:arrived]:
            self.deliver(message)
        self.flying.clear()
        self.outbox.link_down(Ns(self.now))

    @rule(credit=st.integers(1, 8))
    def send(self, credit: int) -> None:
        self.flying += self.outbox.take(Ns(self.now), credit)

    @precondition(lambda self: self.flying)
    @rule(n=st.integers(1, 5))
    def acknowledge(self, n: int) -> None:
        batch, self.flying = self.flying[:n], self.flying[n:]
        for message in batch:
            self.deliver(message)
        self.outbox.returns.acked([Ack(message.token) for message in batch], Ns(self.now))

    @rule()
    def flush(self) -> None:
        self.outbox.flush(Ns(self.now))

    def deliver(self, message: Publish) -> None:
        self.consumers[message.topic.rsplit("/", 1)[-1]].take(message)

    @invariant()
    def the_books_balance(self) -> None:
        books = [lane.book for lane in self.outbox.lanes.values()]
        assert all(lane.audit for lane in self.outbox.lanes.values())
        assert sum(book.produced for book in books) == self.produced

    @invariant()
    def every_hole_below_the_newest_is_disclosed(self) -> None:
        for name, consumer in self.consumers.items():
            newest = max(consumer.got, default=0)
            assert consumer.order == sorted(consumer.order)
            assert set(range(1, newest + 1)) == set(consumer.got) | {seq for seq in consumer.lost if seq <= newest}
            # Of a QoS 0 message whose connection ended nobody knows whether it arrived.
            assert name == "pose" or not set(consumer.got) & consumer.lost

    @invariant()
    def bounds_hold(self) -> None:
        assert sum(lane.depth for lane in self.outbox.lanes.values()) <= 20 + len(self.flying)


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
