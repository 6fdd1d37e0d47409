"""History, read sessions, receipts and cursors, asked as a consumer asks: over MQTT, of a whole device at manual time."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chappe.core import effects as ef
from chappe.core import events as ev
from chappe.core.stored import Page
from chappe.testing import BOOT, Tower
from chappe.testing.shelf import Shelf

OLD = "fedcba9876543210"

DOOR = """
[streams.door]
history = "7d"
[streams.parcel]
confirm = "delivered"
history = "7d"
[streams.plain]
"""


class Keeper(Tower):
    """A tower with somebody who asks it for its history, and a store that can keep silent."""

    def __init__(self, config: str = DOOR, **more: Any) -> None:
        self.silent = False
        self.error = ""
        self.raw: defaultdict[str, list[bytes]] = defaultdict(list)
        super().__init__(config, **more)
        self.link_up()

    def _carry_out(self, effects: Iterable[ef.Effect]) -> None:
        passed = []
        for effect in effects:
            if isinstance(effect, ef.Publish):
                self.raw[effect.topic.split("/", 2)[2]].append(effect.payload)
            elif isinstance(effect, ef.Reply):
                self.raw["reply"].append(effect.payload)
            if not isinstance(effect, ef.Consult) or not (self.silent or self.error):
                passed.append(effect)
            elif self.error:
                self._refuse(effect)
        super()._carry_out(passed)

    def _refuse(self, effect: ef.Consult) -> None:
        self.later(0, lambda at: ev.Consulted(at=at, ticket=effect.ticket, page=Page(), error=self.error))

    def forget(self, stream: str, *seqs: int) -> None:
        """The history has these no more: they were too old, or too much."""
        assert isinstance(self.store, Shelf)
        self.store.tables.annals.flush()
        kept = self.store.tables.annals.kept[stream]
        for offset in [offset for offset, entry in kept.items() if entry.seq in seqs]:
            del kept[offset]

    def put(self, stream: str, *values: Any) -> None:
        """Values enter a stream, one a millisecond."""
        for value in values:
            self.engine.context.now = max(self.engine.context.now, self.clock.now())
            self.engine.context.produce(stream, {"value": value})
            self.advance(0.001)
            self.feed(ev.Tick(at=self.clock.now()))

    def asked(self, verb: str, **body: Any) -> Any:
        """What is answered to a request over MQTT: its data, or the code of its refusal."""
        before = len(self.on(f"T/res/{verb}"))
        self.ask(verb, {key.rstrip("_"): value for key, value in body.items()})
        self.advance(0.2)
        answers = self.on(f"T/res/{verb}")[before:]
        assert len(answers) == 1
        payload = answers[0].payload
        return payload["data"] if payload["status"] == "ok" else payload["error"]["code"]

    def receipt(self, stream: str, seq: Any, kind: str = "delivered", by: str = "shop", boot: str = BOOT) -> None:
        self.says(stream, json.dumps({"boot": boot, "seq": seq, "kind": kind, "by": by}).encode())

    def says(self, stream: str, body: bytes) -> None:
        self.feed(ev.Arrived(at=self.clock.now(), topic=self.engine.context.topics.receipt(stream), body=body))

    def state(self, stream: str, seq: int, boot: str = BOOT) -> Any:
        found = self.asked("delivery", stream=stream, seq=seq, boot=boot)
        return found["state"] if isinstance(found, dict) else found

    @property
    def receipts(self) -> dict[str, int]:
        return self.engine.archive.document()


Build = Callable[..., Keeper]


@pytest.fixture(params=["fake", "real"])
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Build]:
    """Makes towers whose store is a fake, or a real one on disk."""
    made: list[Keeper] = []

    def build(config: str = DOOR, **more: Any) -> Keeper:
        if request.param == "real":
            more["folder"] = tmp_path
        made.append(Keeper(config, **more))
        return made[-1]

    yield build
    for one in made:
        one.store.close()


def values(answer: Any) -> list[Any]:
    return [message["data"]["value"] for message in answer["messages"]]


# ── read sessions ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("HIS-02", breaks="chappe.core.parts.archive:Archive.history")
def test_a_read_session_finds_text_newest_first_page_by_page_and_the_other_way_round(keeper: Build) -> None:
    """30 rows, 12 with "door": the 10 newest and a cursor, then 2; oldest first in the opposite order."""
    it = keeper()
    it.put("door", *(f"{'Door' if n % 5 < 2 else 'window'} {n}" for n in range(30)))
    doors = [f"Door {n}" for n in range(30) if n % 5 < 2]
    first = it.asked("history", stream="door", q="door", n=10)
    assert values(first) == doors[:1:-1]
    assert first["more"]
    second = it.asked("history", stream="door", q="door", n=10, cursor=first["cursor"])
    assert values(second) == doors[1::-1]
    assert (second["more"], "cursor" in second) == (False, False)
    assert values(it.asked("history", stream="door", q="door", order="oldest")) == doors


@pytest.mark.feature("HIS-02", breaks="chappe.core.questions:answered")
def test_a_summary_is_the_last_message_of_each_stream(keeper: Build) -> None:
    it = keeper()
    it.put("door", 1, 2, 3)
    it.put("parcel", 7, 8)
    answer = it.asked("history", summary=True)
    assert dict(zip(answer["streams"], values(answer), strict=True)) == {"door": 3, "parcel": 8}


def test_since_looks_back_by_the_clock(keeper: Build) -> None:
    it = keeper()
    it.put("door", 1)
    it.advance(600)
    it.put("door", 2)
    assert values(it.asked("history", stream="door", since="5m")) == [2]
    assert values(it.asked("history", stream="door", since="2026-11-21T21:00:00Z")) == [2, 1]


@pytest.mark.feature("HIS-05", breaks="chappe.core.parts.archive:Archive._mark")
def test_reading_marks_as_read_only_who_says_so_and_once_each(keeper: Build) -> None:
    """Without `receipt` nothing is read; with it each message that was given out is, by whom, and at the first time."""
    it = keeper()
    it.put("door", 1, 2, 3)
    it.asked("history", stream="door", n=2)
    assert [it.state("door", seq) for seq in (1, 2, 3)] == ["sent", "sent", "sent"]
    it.asked("history", stream="door", n=2, receipt=True, by="anna")
    assert [it.state("door", seq) for seq in (1, 2, 3)] == ["sent", "read", "read"]
    before = it.asked("delivery", stream="door", seq=3)
    assert before["by"] == {"read": "anna"}
    it.asked("history", stream="door", n=2, receipt=True, by="bert")
    assert it.asked("delivery", stream="door", seq=3) == before


def test_a_page_that_never_comes_marks_nothing_and_is_a_timeout_after_ten_seconds() -> None:
    it = Keeper()
    it.put("door", 1)
    it.silent = True
    it.ask("history", {"stream": "door", "receipt": True, "by": "anna"})
    begun = it.now_s
    it.advance(20)
    [answer] = it.on("T/res/history")
    assert answer.payload["error"]["code"] == "timeout"
    assert answer.at == pytest.approx(begun + 10.0, abs=1e-9)
    assert it.state("door", 1) == "sent"


def test_the_control_socket_gets_its_pages_too() -> None:
    it = Keeper()
    it.put("door", 1)
    it.ask("history", {"stream": "door"}, via="socket", reply_to="7")
    it.advance(0.1)
    assert values(it.replies["7"]["data"]) == [1]
    assert it.on("T/res/history") == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"stream": "nothing"}, "not_found"),
        ({"stream": "door", "n": 0}, "bad_request"),
        ({"from": 1}, "bad_request"),
        ({"stream": "door", "receipt": True}, "bad_request"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(body: dict[str, Any], expected: str) -> None:
    assert Keeper().asked("history", **body) == expected


def test_a_history_that_cannot_be_read_says_so() -> None:
    it = Keeper()
    it.error = "disk I/O error"
    assert it.asked("history", stream="door") == "busy"


# ── gaps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("HIS-03", breaks="chappe.core.parts.archive:Archive._consulted")
def test_a_gap_is_closed_with_the_original_envelopes_in_pages_of_fifty(keeper: Build) -> None:
    """100..199: the 100 messages with equal bytes; a consumer cannot tell them from those it missed."""
    it = keeper()
    it.put("door", *range(250))
    sent = {message.payload["seq"]: message.payload for message in it.stream("door")}
    first = it.asked("history", stream="door", boot=BOOT, from_=100, to=199)
    assert (len(first["messages"]), first["more"], first["lost"]) == (50, True, [])
    second = it.asked("history", stream="door", boot=BOOT, from_=100, to=199, cursor=first["cursor"])
    assert (second["more"], second["lost"]) == (False, [])
    found = [*first["messages"], *second["messages"]]
    assert found == [sent[seq] for seq in range(100, 200)]


def test_the_bytes_of_an_answer_are_those_of_the_message(keeper: Build) -> None:
    """Not only equal when parsed: a signature over an envelope would hold."""
    it = keeper()
    it.put("door", "ä/\u2028", 1e-7)
    it.ask("history", {"stream": "door", "from": 1, "to": 2}, via="socket", reply_to="7")
    it.advance(0.1)
    assert len(it.raw["stream/door"]) == 2
    for payload in it.raw["stream/door"]:
        assert payload in it.raw["reply"][0]


@pytest.mark.feature("HIS-03", breaks="chappe.core.questions:_account")
def test_rows_that_are_gone_are_told_as_lost_and_those_that_wait_as_coming() -> None:
    """1 to 5 trimmed away, 11 and 12 still wait for the broker, 13 was never given."""
    it = Keeper()
    it.put("door", *range(10))
    it.link_down()
    it.put("door", 10, 11)
    it.forget("door", 1, 2, 3, 4, 5, 11, 12)
    it.ask("history", {"stream": "door", "from": 1, "to": 13}, via="socket", reply_to="7")
    it.advance(0.01)
    answer = it.replies["7"]["data"]
    assert [message["seq"] for message in answer["messages"]] == [6, 7, 8, 9, 10]
    assert answer["lost"] == [{"from": 1, "to": 5, "n": 5, "reason": "gone"}]
    assert answer["queued"] == [{"from": 11, "to": 12}]


def test_what_is_in_flight_or_wants_to_be_confirmed_is_not_lost() -> None:
    it = Keeper()
    it.put("parcel", 1)
    it.ack = lambda message: None if "parcel" in message.topic else 0
    it.put("parcel", 2)
    it.forget("parcel", 1, 2)
    answer = it.asked("history", stream="parcel", from_=1, to=9)
    assert (answer["messages"], answer["lost"], answer["queued"]) == ([], [], [{"from": 1, "to": 2}])


def test_of_a_long_queue_nothing_is_called_lost_while_it_lies_on_disk_alone() -> None:
    """3,000 rows wait; only the ends are in memory."""
    it = Keeper()
    it.link_down()
    it.put("door", *range(3000))
    it.advance(1)
    assert it.engine.context.outbox.lanes["door"].queue.shelf > 0
    it.forget("door", *range(1, 3001))
    it.ask("history", {"stream": "door", "from": 1, "to": 5000}, via="socket", reply_to="7")
    it.advance(0.01)
    answer = it.replies["7"]["data"]
    assert answer["lost"] == []
    assert answer["queued"] == [{"from": 1, "to": 3000}]


def test_of_another_boot_everything_that_is_not_there_is_lost() -> None:
    it = Keeper()
    answer = it.asked("history", stream="door", boot=OLD, from_=5, to=7)
    assert answer["lost"] == [{"from": 5, "to": 7, "n": 3, "reason": "gone"}]


# ── receipts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("HIS-04", breaks="chappe.core.parts.archive:Archive.receipt")
def test_a_message_climbs_from_queued_to_read_and_delivery_tells_each_step() -> None:
    """Queued, stored, sent, delivered, read; each with its time and, of consumers' words, who said so."""
    it = Keeper()
    it.link_down()
    it.engine.context.produce("door", {"value": 1})
    it.ask("delivery", {"stream": "door", "seq": 1}, via="socket", reply_to="1")
    it.advance(1)
    it.ask("delivery", {"stream": "door", "seq": 1}, via="socket", reply_to="2")
    assert [it.replies[number]["data"]["state"] for number in "12"] == ["queued", "stored"]
    it.link_up()
    it.advance(1)
    assert it.state("door", 1) == "sent"
    it.receipt("door", 1, "delivered", by="shop")
    it.advance(1)
    assert it.state("door", 1) == "delivered"
    it.receipt("door", 1, "read", by="anna")
    found = it.asked("delivery", stream="door", seq=1)
    assert found["state"] == "read"
    assert found["by"] == {"delivered": "shop", "read": "anna"}
    assert found["times"]["delivered"] < found["times"]["read"]
    assert it.receipts == {"delivered": 1, "read": 1, "invalid": 0, "repeated": 0, "unknown": 0}


def test_what_waits_is_told_as_the_queue_tells_it() -> None:
    """`req/delivery` and `queue show --json` name the same row."""
    it = Keeper()
    it.ack = lambda message: None if "stream/" in message.topic else 0
    it.put("door", 1)
    found = it.asked("delivery", stream="door", seq=1)
    assert found["row"]["id"] == it.asked("queue")["rows"][0]["id"]
    assert it.asked("delivery", stream="door", seq=2) == "not_found"
    assert it.asked("delivery", stream="door") == "bad_request"


def test_of_a_message_in_the_middle_of_a_long_queue_it_is_known_that_it_waits() -> None:
    """It lies on disk alone; one that was never given is not known."""
    it = Keeper()
    it.link_down()
    it.put("plain", *range(3000))
    it.ask("delivery", {"stream": "plain", "seq": 1700}, via="socket", reply_to="1")
    it.ask("delivery", {"stream": "plain", "seq": 3001}, via="socket", reply_to="2")
    it.advance(0.1)
    found = it.replies["1"]["data"]
    assert (found["state"], "row" in found) == ("stored", False)
    assert it.replies["2"]["error"]["code"] == "not_found"


def test_a_receipt_faster_than_the_acknowledgement_counts() -> None:
    it = Keeper()
    it.ack_after = 1.0
    it.put("door", 1)
    it.receipt("door", 1)
    assert it.receipts["delivered"] == 1
    it.advance(2)
    assert it.state("door", 1) == "delivered"


def test_a_receipt_for_a_message_that_waits_is_not_believed() -> None:
    """Nobody can have what was never sent."""
    it = Keeper()
    it.link_down()
    it.put("parcel", 1)
    it.receipt("parcel", 1)
    it.receipt("parcel", 99)
    assert (it.receipts["unknown"], it.receipts["delivered"]) == (2, 0)
    it.link_up()
    it.advance(1)
    assert len(it.stream("parcel")) == 1


@pytest.mark.feature("HIS-06", breaks="chappe.core.parts.archive:Archive.heard")
def test_a_stream_that_waits_for_a_consumers_word_keeps_its_message_until_then() -> None:
    """PUBACK alone keeps the row; without a receipt it is sent again after 60 s with the same number; a receipt ends that."""
    it = Keeper()
    it.put("parcel", 5)
    assert it.book("parcel")["queued"] == 1
    it.advance(59)
    assert len(it.stream("parcel")) == 1
    it.advance(2)
    assert [message.payload["seq"] for message in it.stream("parcel")] == [1, 1]
    assert it.stream("parcel")[0].payload == it.stream("parcel")[1].payload
    it.receipt("parcel", 1)
    assert (it.book("parcel")["queued"], it.book("parcel")["delivered"]) == (0, 1)
    it.advance(200)
    assert len(it.stream("parcel")) == 2
    assert it.audits


@pytest.mark.feature("HIS-04", breaks="chappe.core.parts.alerts:written_soon")
def test_what_a_consumer_says_of_a_kept_stream_is_on_disk_within_a_second() -> None:
    """Even when nothing else is to be written; and the next boot knows it."""
    it = Keeper()
    it.put("parcel", 5)
    it.receipt("parcel", 1)
    it.advance(5)
    it.receipt("parcel", 1, "read")
    it.advance(1.1)
    kept = {standing.seq: standing for commit in it.commits for standing in commit.standings}
    assert kept[1].state == "read"
    known = it.asked("delivery", stream="parcel", seq=1)
    assert isinstance(it.store, Shelf)
    assert Keeper(boot_id=OLD, store=it.store).asked("delivery", stream="parcel", seq=1, boot=BOOT) == known


HOSTILE = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"\xff\xfe",
    b'{"boot":' * 100_000,
    b"[" * 1000,
    b'{"boot":"0123456789abcdef","seq":1,"kind":"delivered"}',
    b'{"boot":"0123456789abcdef","seq":1,"kind":"sent","by":"x"}',
    b'{"boot":"0123456789abcdef","seq":NaN,"kind":"read","by":"x"}',
    b'{"boot":"0123456789abcdef","seq":1e999,"kind":"read","by":"x"}',
    b'{"boot":"0123456789abcdef","seq":0,"kind":"read","by":"x"}',
    b'{"boot":"0123456789abcdef","seq":true,"kind":"read","by":"x"}',
    b'{"boot":"0123456789abcdef","seq":123456789012345678901234567890,"kind":"read","by":"x"}',
    b'{"boot":"0123456789abcdef\\n","seq":1,"kind":"read","by":"x"}',
    b'{"boot":"0123456789ABCDEF","seq":1,"kind":"read","by":"x"}',
    b'{"boot":"0123456789abcdef","seq":1,"kind":"read","by":""}',
    b'{"boot":"0123456789abcdef","seq":1,"kind":"read","by":"' + b"x" * 65 + b'"}',
    b'{"boot":"0123456789abcdef","seq":1,"kind":"read","by":"\\ud800"}',
    b'{"boot":"0123456789abcdef","seq":1,"kind":"read","by":"x","more":"' + b"y" * 1024 + b'"}',
]


@pytest.mark.feature("SEC-08", breaks="chappe.core.parts.archive:Archive.receipt")
@pytest.mark.parametrize("body", HOSTILE, ids=lambda body: repr(body[:60]))
def test_a_receipt_that_is_none_is_counted_and_does_nothing(body: bytes) -> None:
    it = Keeper()
    it.put("parcel", 1)
    it.says("parcel", body)
    assert it.receipts["invalid"] == 1
    assert it.state("parcel", 1) == "sent"
    assert it.book("parcel")["queued"] == 1


def test_a_receipt_of_a_stream_that_is_none_is_invalid() -> None:
    it = Keeper()
    it.receipt("nothing", 1)
    assert it.receipts["invalid"] == 1


# ── cursors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("HIS-07", breaks="chappe.core.parts.archive:Archive.cursor")
def test_a_reader_goes_on_where_it_said_it_was_and_reads_again_what_it_did_not(keeper: Build) -> None:
    """Two readers of one stream do not disturb each other."""
    it = keeper()
    it.put("door", *range(20))
    first = it.asked("history", stream="door", reader="shop", n=10)
    assert values(first) == list(range(10))
    assert values(it.asked("history", stream="door", reader="shop", n=10)) == list(range(10))
    told = it.asked("cursor", reader="shop", stream="door", offset=first["offsets"][-1])
    assert told == {"reader": "shop", "stream": "door", "offset": 9}
    it.asked("cursor", reader="office", stream="door", offset=3)
    assert values(it.asked("history", stream="door", reader="shop", n=3)) == [10, 11, 12]
    assert values(it.asked("history", stream="door", reader="office", n=3)) == [4, 5, 6]


@pytest.mark.feature("HIS-07", breaks="chappe.core.parts.archive:Archive.cursor")
def test_two_readers_resume_after_a_restart_where_each_of_them_was(tmp_path: Path) -> None:
    """At 10 and at 400, in a real store, whose daemon was stopped without being asked."""
    it = Keeper(folder=tmp_path)
    it.put("door", *range(450))
    it.asked("cursor", reader="shop", stream="door", offset=10)
    it.asked("cursor", reader="office", stream="door", offset=400)
    it.store.close()
    again = Keeper(folder=tmp_path, boot_id=OLD)
    assert values(again.asked("history", stream="door", reader="shop", n=2)) == [11, 12]
    assert values(again.asked("history", stream="door", reader="office", n=2)) == [401, 402]
    again.store.close()


@pytest.mark.parametrize(
    "body", [{}, {"reader": "a"}, {"stream": "door", "reader": "a"}, {"stream": "door", "reader": "a", "offset": -1}]
)
def test_a_cursor_needs_a_reader_a_stream_and_an_offset(body: dict[str, Any]) -> None:
    it = Keeper()
    assert it.asked("cursor", **body) == "bad_request"
    assert isinstance(it.store, Shelf)
    assert it.store.tables.annals.cursors == {}


# ── anything ─────────────────────────────────────────────────────────────────────────────────────────────────────────

KEYS = st.sampled_from(
    ["boot", "seq", "kind", "by", "id", "stream", "from", "to", "q", "n", "cursor", "order", "since", "summary",
     "reader", "receipt", "offset", "on", "ids", "dead", "after"]
)  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**18, max_value=10**40)
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(["door", "parcel", "alert", "read", "delivered", BOOT, OLD, "n5", "10m", 1, 2, -1])
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))
BODIES = (
    st.binary(max_size=300)
    | st.dictionaries(KEYS, VALUES, max_size=6).map(lambda body: json.dumps(body).encode())
    | st.integers(1, 3000).map(lambda depth: b'{"a":' * depth)
    | st.integers(1, 3000).map(lambda depth: b"[" * depth + b"]" * depth)
    | st.sampled_from(
        [b'{"seq":1e999}', b'{"seq":NaN}', b'{"seq":-Infinity}', b'{"by":"\\ud800"}', b"\xc3\x28", b"\x00"]
    )
)
TOPICS = st.sampled_from(["door", "parcel", "alert", "nothing", "", "+", "\x00", "ä" * 40])
VERBS = st.sampled_from(
    ["history", "delivery", "cursor", "queue", "queue-drop", "queue-retry", "status", "identify", "camera", "no", ""]
)
CASES = 100_000 if os.environ.get("NIGHTLY") else 2_000
BATCH = 50


@pytest.mark.feature("SEC-08", breaks="chappe.core.parts.archive:Archive.heard")
@settings(max_examples=CASES // BATCH, deadline=None)
@given(st.lists(st.tuples(st.booleans(), TOPICS, VERBS, BODIES), min_size=BATCH, max_size=BATCH))
def test_whatever_arrives_is_counted_or_answered_and_hurts_nothing(cases: list[tuple[bool, str, str, bytes]]) -> None:
    """Requests each get exactly one answer, receipts none; the device goes on, and its books are right."""
    it = Keeper()
    it.put("door", 1, 2)
    it.put("parcel", 1)
    asked = 0
    for request, topic, verb, body in cases:
        if request:
            asked += 1
            it.feed(
                ev.Asked(at=it.clock.now(), verb=verb, body=body, size=len(body), via="socket", reply_to=str(asked))
            )
        else:
            it.says(topic, body)
    it.advance(11)
    assert set(it.replies) == {str(number) for number in range(1, asked + 1)}
    assert all(reply["status"] in ("ok", "error") for reply in it.replies.values())
    assert sum(it.receipts.values()) == len(cases) - asked
    assert it.finished is None
    assert it.audits
