"""What becomes of each message, with a real file and manual time: kept before it is acknowledged, taken once, told once."""

from __future__ import annotations

import logging
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chappe.consumer.closer import Patience
from chappe.consumer.inquiry import PAGE
from chappe.consumer.terms import Incoming
from chappe.consumer.words import Gap, Message
from chappe.core.units import Ns
from chappe.errors import StoreError

from .feed import COMES, DEVICE, STREAM, Feed, Story, boot_name, stories
from .table import Table, payload

BOOT = "a" * 16
ROOM = 1000
Make = Callable[..., Table]


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Make]:
    """Makes a desk; its file is closed with the test."""
    made: list[Table] = []

    def make(*args: Any, **options: Any) -> Table:
        made.append(Table(tmp_path / "state.db", *args, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def history(has: dict[int, bytes]) -> Callable[[dict[str, Any]], Any]:
    """A device that has these numbers."""

    def answer(body: dict[str, Any]) -> Any:
        wanted = range(body["from"], body.get("to", max(has, default=0)) + 1)
        found = [seq for seq in wanted if seq in has]
        page, more = found[: body["n"]], len(found) > body["n"]
        missing = [seq for seq in wanted if seq not in has and (not more or seq < page[-1])]
        lost = [{"from": seq, "to": seq, "n": 1, "reason": "gone"} for seq in missing]
        return {"messages": [msgspec.Raw(has[seq]) for seq in page], "more": more, "lost": lost}

    return answer


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_application_gets_the_whole_message(table: Make) -> None:
    """Every field of the envelope, and its own bytes."""
    seen: list[Message | Gap] = []
    one = table()
    one.before_take = seen.append
    raw = payload(7, elided={"n": 2}, late=True, model="hands-lite@1234abcd", synced=True, later_field=[1])
    one.hear(raw)
    assert seen == [
        Message(
            device=DEVICE,
            stream=STREAM,
            boot=BOOT,
            seq=7,
            at="2026-11-22T10:00:00.000Z",
            synced=True,
            data={"value": 7},
            elided={"n": 2},
            late=True,
            model="hands-lite@1234abcd",
            payload=raw,
        )
    ]


def test_repeats_are_not_handed_over_and_not_confirmed_again(table: Make) -> None:
    """Each once, in one pass or in several; one receipt each, QoS 1, on the stream's own topic."""
    one = table()
    one.hear_all(1, 2, 2, 1)
    one.hear_all(2, 3)
    out = [*one.tick(), *one.tick(1)]
    assert one.got == [1, 2, 3]
    assert one.receipts() == [("delivered", 1, "ours"), ("delivered", 2, "ours"), ("delivered", 3, "ours")]
    assert {each.topic for each in out} == {"chappe/tower-1/receipt/tick"}
    assert msgspec.json.decode(out[0].payload) == {"boot": BOOT, "seq": 1, "kind": "delivered", "by": "ours"}
    assert (one.desk.counts.messages, one.desk.counts.repeats, one.desk.counts.receipts) == (3, 3, 3)


def test_what_is_taken_is_on_the_disk_before_the_application_sees_it(table: Make) -> None:
    """Killed between the commit and the application: it comes at the next start, without the broker."""
    one = table()
    one.hear_all(1, 2, work=False)
    one.kill()
    one.work()
    assert one.got == [1, 2]
    one.hear_all(1, 2)
    assert one.got == [1, 2]


def test_only_what_changed_is_written(table: Make) -> None:
    """A thousand streams that are silent cost a commit nothing."""
    one = table()
    one.hear_all(1)
    one.hear(payload(1), topic="stream/door")
    one.keeper.db.execute("DELETE FROM chappe_books")
    one.hear_all(2)
    assert one.keeper.db.execute("SELECT stream FROM chappe_books").fetchall() == [("tick",)]


def test_what_is_not_committed_is_not_kept(table: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full: `take` fails, so that nothing is acknowledged, and after the start the broker's second copy is the first."""
    one = table()

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(one.keeper, "save", full)
        with pytest.raises(StoreError, match="disk is full"):
            one.hear_all(1)
    with pytest.raises(StoreError, match="is not open"):
        one.hear_all(1)
    one.kill()
    one.work()
    assert one.got == []
    one.hear_all(1)
    assert one.got == [1]


def test_a_desk_that_is_opened_again_believes_the_file_alone(table: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was only in memory when the disk failed is not known any more, or it would never be handed over."""
    one = table()
    with monkeypatch.context() as patch:
        patch.setattr(one.keeper, "save", lambda ledger: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            one.hear_all(1, 2)
    one.keeper.open()
    one.desk.open()
    one.hear_all(1, 2)
    assert one.got == [1, 2]


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        (f"stream/{STREAM}", b"not json"),
        (f"stream/{STREAM}", b'{"boot":"a","seq":0}'),
        (f"stream/{STREAM}", b'{"boot":"a","seq":true}'),
        (f"stream/{STREAM}", b'{"boot":"","seq":1}'),
        (f"stream/{STREAM}", b'{"boot":"a","seq":9007199254740993}'),
        (f"stream/{STREAM}", b'{"seq":1}'),
        (f"stream/{STREAM}", b'"' + b"[" * 5000),
        (f"stream/{STREAM}", b"[" * 100_000),
        (f"stream/{STREAM}", b'{"boot":"\xff","seq":1}'),
        ("stream/a/b", payload(1)),
        ("state", b"[]"),
        ("info", b'{"streams":3}'),
        ("res/history/ours", b"{"),
        ("else", b"{}"),
    ],
)
def test_what_cannot_be_understood_is_counted_and_told(
    table: Make, topic: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is acknowledged, as it will not get better, but never silently."""
    one = table()
    one.hear(body, topic=topic)
    one.hear_all(1)
    assert one.desk.counts.invalid == 1
    assert f"chappe/tower-1/{topic}" in caplog.text
    assert one.got == [1]


@pytest.mark.parametrize("topic", ["", "chappe", "other/tower-1/stream/tick"])
def test_topics_of_others_are_not_ours(table: Make, topic: str) -> None:
    """Nothing comes of them."""
    one = table()
    one.desk.take([Incoming(topic, payload(1))])
    one.work()
    assert one.got == []
    assert one.desk.counts.invalid == 1


@pytest.mark.parametrize("topic", ["state", "info"])
def test_an_empty_retained_message_is_a_device_forgotten(table: Make, topic: str) -> None:
    """That is how one takes a retained message away; nothing is wrong with it."""
    one = table()
    one.hear(b"", topic=topic)
    assert one.desk.counts.invalid == 0


# ── the application's hand ───────────────────────────────────────────────────────────────────────────────────────────


class Stumble(Exception):  # noqa: N818
    """What an application may do."""


def test_a_handler_that_fails_gets_the_message_again_and_those_before_it_are_done(table: Make) -> None:
    """Its own half-done writes are undone, those of the messages before are kept."""
    one = table()

    def stumble(item: Message | Gap) -> None:
        one.keeper.db.execute("INSERT INTO got VALUES ('half', 0, 0)")
        if isinstance(item, Message) and item.seq == 3:
            raise Stumble

    one.before_take = stumble
    with pytest.raises(Stumble):
        one.hear_all(1, 2, 3, 4)
    assert one.got == [0, 1, 0, 2]
    one.kill()
    one.before_take = lambda item: None
    one.work()
    assert one.got == [0, 1, 0, 2, 3, 4]
    one.hear_all(1, 2, 3, 4)
    assert one.got == [0, 1, 0, 2, 3, 4]


@pytest.mark.parametrize("order", ["COMMIT", "ROLLBACK"])
def test_a_handler_may_not_end_the_transaction(table: Make, order: str) -> None:
    """Once would not be once any more; it is told so."""
    one = table()
    one.before_take = lambda item: one.keeper.db.execute(order) and None
    with pytest.raises((StoreError, sqlite3.OperationalError)):
        one.hear_all(1)


def test_killed_while_it_works_the_application_gets_again_what_was_not_committed(table: Make) -> None:
    """What it wrote through the connection is undone with it: exactly once."""
    one = table()
    one.hear_all(1, 2, 3, work=False)

    class Killed(BaseException):
        pass

    def kill(item: Message | Gap) -> None:
        if isinstance(item, Message) and item.seq == 3:
            one.keeper.db.execute("ROLLBACK")  # what the disk holds of an open transaction after a kill: nothing
            raise Killed

    one.before_take = kill
    with pytest.raises(Killed):
        one.work()
    one.kill()
    one.before_take = lambda item: None
    assert one.got == []
    one.work()
    assert one.got == [1, 2, 3]


def test_a_slow_application_gives_the_network_its_turn(table: Make) -> None:
    """After a tenth of a second the rest waits for the next pass."""
    one = table()
    one.before_take = lambda item: one.clock.advance(0.06)
    one.hear_all(1, 2, 3, 4, work=False)
    assert one.desk.hand_over()
    assert one.got == [1, 2]
    assert one.desk.hand_over()
    assert one.got == [1, 2, 3, 4]
    assert not one.desk.hand_over()


# ── order ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ordered_messages_wait_for_those_before_them(table: Make) -> None:
    """What follows a gap waits on the disk; a gap that is told takes its place in the row."""
    one = table(ordered=True)
    one.hear_all(1, 4, 3)
    assert one.got == [1]
    one.kill()
    one.hear_all(2)
    assert one.got == [1, 2, 3, 4]
    one.hear(payload(9, lost={"from": 5, "to": 6, "n": 2, "reason": "spilled"}))
    one.hear_all(7)
    assert one.got == [1, 2, 3, 4, -5, 7]
    one.hear_all(8)
    assert one.got == [1, 2, 3, 4, -5, 7, 8, 9]


def test_one_streams_gap_holds_up_no_other(table: Make) -> None:
    """Order is within (device, stream, boot)."""
    one = table(ordered=True)
    one.hear_all(1, 3)
    one.hear(payload(1), payload(2), topic="stream/door")
    one.hear(payload(1, "b" * 16))
    assert [(boot[0], seq) for boot, seq, _ in one.rows()] == [("a", 1), ("a", 1), ("a", 2), ("b", 1)]


def test_as_they_come_is_the_order_of_arrival(table: Make) -> None:
    """Without `ordered` nothing waits."""
    one = table()
    one.hear_all(1, 4, 2)
    assert one.got == [1, 4, 2]


def test_what_was_given_up_and_comes_is_marked_overdue(table: Make) -> None:
    """The one way out of the order, and it says so."""
    one = table(ordered=True)
    one.hear_all(1)
    one.hear(payload(3, lost={"from": 2, "to": 2, "n": 1, "reason": "rejected"}))
    one.hear_all(2, 4)
    assert [(seq, overdue) for _, seq, overdue in one.rows() if seq > 0] == [(1, 0), (3, 0), (2, 1), (4, 0)]


# ── gaps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_hole_is_closed_out_of_the_devices_history(table: Make) -> None:
    """Asked for as HIS-03 has it, page by page; what comes is handed over and confirmed like any other."""
    has = {seq: payload(seq) for seq in range(1, 201)}
    one = table(history(has))
    one.hear_all(1, 122)
    one.tick()
    one.tick(5)
    assert one.requests[0] == {
        "id": one.requests[0]["id"], "stream": "tick", "boot": BOOT, "from": 2, "to": 121, "n": PAGE,
    }  # fmt: skip
    while one.desk.wanting:
        one.tick()
    assert [body["from"] for body in one.requests] == [2, 52, 102]
    assert one.got == [1, 122, *range(2, 122)]
    one.tick()
    one.tick()
    assert sorted(seq for _, seq, _ in one.receipts()) == list(range(1, 123))
    assert (one.desk.counts.recovered, one.desk.counts.questions) == (120, 3)


def test_a_request_names_where_its_answer_goes(table: Make) -> None:
    """A response topic below the device's own tree, correlation data, and the id for those who have neither."""
    one = table()
    one.hear_all(1, 3)
    one.tick()
    (out,) = [each for each in one.tick(5) if each.reply_to]
    assert out.topic == "chappe/tower-1/req/history"
    assert out.reply_to == "chappe/tower-1/res/history/ours"
    assert out.correlation.decode() == msgspec.json.decode(out.payload)["id"]


def test_an_answer_without_correlation_is_known_by_its_id(table: Make) -> None:
    """MQTT 3.1.1 has neither response topic nor correlation data."""
    one = table()
    one.hear_all(1, 3)
    one.tick()
    one.clock.advance(5)
    (out,) = [each for each in one.desk.outgoing(ROOM) if each.reply_to]
    name = msgspec.json.decode(out.payload)["id"]
    answer = {"status": "ok", "data": {"messages": [msgspec.Raw(payload(2))], "more": False}, "id": name}
    one.hear(msgspec.json.encode(answer | {"id": "another"}), topic="res/history")
    one.hear(msgspec.json.encode(answer), topic="res/history", device="tower-2")
    assert one.got == [1, 3]
    one.hear(msgspec.json.encode(answer), topic="res/history")
    assert one.got == [1, 3, 2]


def test_what_the_device_no_longer_has_is_lost_and_told_once(table: Make) -> None:
    """HIS-03: rows gone come back as `lost`; the application hears of the gap, also after a restart in between."""
    one = table(history({2: payload(2)}))
    one.hear_all(1, 5)
    one.tick()
    one.tick(5)
    assert one.got == [1, 5, 2, -3, -4]
    one.kill()
    one.work()
    for _ in range(5):
        one.tick(60)
    assert one.got == [1, 5, 2, -3, -4]


def test_a_gap_is_told_durably(table: Make) -> None:
    """Killed before the application heard of it: it hears of it at the next start."""
    one = table()
    one.hear_all(1, work=False)
    one.hear(payload(4, lost={"from": 2, "to": 3, "n": 2, "reason": "expired"}), work=False)
    one.kill()
    one.work()
    assert one.rows() == [(BOOT, 1, 0), (BOOT, -2, 3), (BOOT, 4, 0)]


def test_without_a_hand_for_gaps_the_log_tells(table: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is lost silently."""
    one = table(on_gap=None)
    one.hear_all(1)
    one.hear(payload(4, lost={"from": 2, "to": 3, "n": 2, "reason": "expired"}))
    assert one.got == [1, 4]
    assert "2 to 3 are lost (expired)" in caplog.text
    assert one.desk.counts.lost == 1


def test_an_answer_with_what_was_not_asked_for_is_no_message(table: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Numbers and boots beside the question are a mistake of the device, or somebody's trick."""
    one = table(
        lambda body: {
            "messages": [msgspec.Raw(payload(2)), msgspec.Raw(payload(9)), msgspec.Raw(payload(2, "b" * 16)), 5],
            "more": False,
        }
    )
    one.hear_all(1, 4)
    one.tick()
    one.tick(5)
    assert one.got == [1, 4, 2]
    assert one.desk.counts.invalid == 3
    assert "was not asked for that" in caplog.text


def test_a_device_that_refuses_is_asked_ever_less_often_then_given_up(
    table: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """`unknown_verb` of an old version: told in the log, and in the end to the application."""
    one = table(patience=Patience(tries=3))
    one.hear_all(1, 4)
    for _ in range(40):
        one.tick(2)
    assert len(one.requests) == 3
    assert one.got == [1, 4, -2]
    assert "does not tell its history" in caplog.text


def test_rate_limited_means_a_second_later(table: Make) -> None:
    """The gap costs no try for it."""
    refusals = iter(["rate_limited"] * 5)
    has = history({2: payload(2)})
    one = table(lambda body: next(refusals, None) or has(body), patience=Patience(pace=Ns(0), tries=1))
    one.hear_all(1, 3)
    one.tick()
    one.tick(5)
    for _ in range(5):
        assert one.got == [1, 3]
        one.tick(1)
    assert one.got == [1, 3, 2]


@pytest.mark.parametrize("status", ["offline", "stopped"])
def test_a_device_that_is_away_is_asked_when_it_is_back(table: Make, status: str) -> None:
    """Presence is the retained `state`."""
    one = table(history({2: payload(2)}))
    one.hear_all(1, 3)
    one.hear(msgspec.json.encode({"status": status, "boot": BOOT}), topic="state")
    for _ in range(10):
        one.tick(60)
    assert one.requests == []
    one.hear(msgspec.json.encode({"status": "online", "boot": "b" * 16}), topic="state")
    one.tick()
    assert one.got == [1, 3, 2]


def test_a_clean_stop_shows_what_is_missing_at_the_end(table: Make) -> None:
    """`stopped` tells the last numbers; what is missing is asked for when the device is back."""
    one = table(history({seq: payload(seq) for seq in range(1, 6)}))
    one.hear_all(1, 2)
    one.hear(msgspec.json.encode({"status": "stopped", "boot": BOOT, "last": {"tick": 5}}), topic="state")
    one.kill()
    one.hear(msgspec.json.encode({"status": "online", "boot": "b" * 16}), topic="state")
    one.tick()
    one.tick(5)
    assert one.got == [1, 2, 3, 4, 5]


def test_streams_that_keep_nothing_are_neither_asked_for_nor_confirmed(table: Make) -> None:
    """`info` names the class of each stream."""
    one = table(ordered=True)
    info = {"version": "1", "streams": [{"name": "tick", "class": "transient", "priority": 1}, {"name": "x"}]}
    one.hear(msgspec.json.encode(info), topic="info")
    one.hear_all(1, 3)
    for _ in range(5):
        one.tick(60)
    assert one.got == [1, 3]
    assert one.sent == []


def test_an_answer_to_an_earlier_run_is_nobodys(table: Make) -> None:
    """Numbers of questions begin anew at each start, their ids do not."""
    one = table(history({2: payload(2)}))
    one.hear_all(1, 3)
    one.tick()
    one.clock.advance(5)
    (old,) = [each for each in one.desk.outgoing(ROOM) if each.reply_to]
    one.kill()
    one.tick()
    one.clock.advance(5)
    (new,) = [each for each in one.desk.outgoing(ROOM) if each.reply_to]
    assert old.correlation != new.correlation


# ── receipts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_read_follows_when_the_application_has_it(table: Make) -> None:
    """`delivered` when it is on the disk, `read` when the handler has taken it."""
    one = table(receipts=("delivered", "read"))
    one.hear_all(1, work=False)
    one.desk.take((), [each.receipt for each in one.desk.outgoing(ROOM)])
    one.work()
    one.tick()
    assert one.receipts() == [("read", 1, "ours")]


def test_no_receipts_where_none_are_wanted(table: Make) -> None:
    """They are the consumer's to give."""
    one = table(receipts=())
    one.hear_all(1)
    one.tick()
    assert one.sent == []
    assert one.desk.quiet


def test_a_receipt_that_was_not_acknowledged_is_sent_again(table: Make) -> None:
    """After a lost connection, and after a kill: the broker's word alone ends it."""
    one = table()
    one.hear_all(1)
    assert len(one.desk.outgoing(ROOM)) == 1
    assert one.desk.outgoing(ROOM) == []
    one.desk.link_down()
    assert len(one.desk.outgoing(ROOM)) == 1
    one.kill()
    one.tick()
    assert one.receipts() == [("delivered", 1, "ours")]
    one.kill()
    assert one.tick() == []
    assert one.desk.quiet


def test_a_repeat_that_comes_late_gets_its_receipt_again(table: Make) -> None:
    """HIS-06: a device that has heard nothing for a minute sends again; whoever said so a moment ago keeps quiet."""
    one = table()
    one.hear_all(1)
    one.tick()
    one.clock.advance(29)
    one.hear_all(1)
    one.tick()
    assert len(one.receipts()) == 1
    one.clock.advance(31)
    one.hear_all(1)
    one.tick()
    assert len(one.receipts()) == 2
    assert one.got == [1]


def test_a_receipt_that_is_due_again_survives_a_kill(table: Make) -> None:
    """It is owed like the first one."""
    one = table()
    one.hear_all(1)
    one.tick()
    one.clock.advance(60)
    one.hear_all(1)
    one.kill()
    one.tick()
    assert len(one.receipts()) == 2


def test_a_late_repeat_of_what_was_read_is_answered_with_read(table: Make) -> None:
    """The furthest that is true."""
    one = table(receipts=("delivered", "read"))
    one.hear_all(1)
    one.tick()
    one.clock.advance(60)
    one.hear_all(1)
    one.tick()
    assert [kind for kind, _, _ in one.receipts()] == ["delivered", "read", "read"]


def test_a_clock_that_is_set_back_makes_no_receipt_immortal(table: Make) -> None:
    """One of the future counts as old."""
    one = table()
    one.hear_all(1)
    one.tick()
    one.clock.step_wall(-86_400)
    one.hear_all(1)
    one.tick()
    assert len(one.receipts()) == 2


def test_receipts_take_no_room_for_ever(table: Make) -> None:
    """Half a minute after the broker's word they are forgotten."""
    one = table()
    for seq in range(1, 200):
        one.hear_all(seq)
        one.tick(1)
    (kept,) = one.keeper.db.execute("SELECT count(*) FROM chappe_receipts").fetchone()
    assert kept <= 32


def test_receipts_under_way_are_bounded(table: Make) -> None:
    """A flood of messages is no flood of publishes."""
    one = table()
    one.hear_all(*range(1, 301))
    first = one.desk.outgoing(100)
    assert [msgspec.json.decode(each.payload)["seq"] for each in first] == list(range(1, 101))
    assert one.desk.outgoing(0) == []
    assert [msgspec.json.decode(each.payload)["seq"] for each in one.desk.outgoing(10)] == list(range(101, 111))


# ── everything at once ───────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=25)
@given(
    told=stories,
    ordered=st.booleans(),
    steps=st.lists(st.sampled_from(["", "", "", "wait", "kill", "kill before", "cut"]), min_size=60, max_size=60),
)
def test_exactly_once_through_kills_and_cuts(told: list[Story], ordered: bool, steps: list[str]) -> None:
    """Killed before and after any commit, the broker repeating what was not acknowledged: the application's table has each message once,
    each has a receipt, and nothing is asked for that is not missing."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        feed = Feed.of(told)
        one = Table(
            Path(folder) / "state.db",
            lambda body: feed.answer(body["boot"], body["from"], body.get("to"), body["n"]),
            ordered=ordered,
            backfill=True,
        )
        try:
            _play(one, feed, steps)
            _check(one, feed, ordered)
        finally:
            one.close()
            logging.disable(logging.NOTSET)


def _play(one: Table, feed: Feed, steps: list[str]) -> None:
    for (what, body), step in zip(feed.wire, [*steps, *[""] * len(feed.wire)], strict=False):
        topic = f"stream/{STREAM}" if what == "message" else "state"
        if step == "kill before":
            one.hear(body, topic=topic, work=False)
            one.kill()
            # Not acknowledged, so the broker sends it again.
        one.hear(body, topic=topic)
        if step == "kill":
            one.kill()
        elif step == "cut":
            one.desk.outgoing(ROOM)
            one.desk.link_down()
        elif step == "wait":
            one.tick(6)
    one.hear(b'{"status":"online","boot":"ffffffffffffffff"}', topic="state")
    for _ in range(60):
        one.tick(6)


def _check(one: Table, feed: Feed, ordered: bool) -> None:
    got = [(boot, seq) for boot, seq, _ in one.rows() if seq > 0]
    assert len(got) == len(set(got))
    assert {name for name, fate in feed.fate.items() if fate in COMES} <= set(got)
    confirmed = {
        (body["boot"], body["seq"]) for body in (msgspec.json.decode(each.payload) for each in one.sent if each.receipt)
    }
    # A kill may come between the commit and the moment the receipt is looked at here; it is sent at the next start.
    assert confirmed == set(got)
    if ordered:
        for number in range(len({boot for boot, _ in feed.fate})):
            mine = [seq for boot, seq, overdue in one.rows() if boot == boot_name(number) and seq > 0 and not overdue]
            assert mine == sorted(mine)
