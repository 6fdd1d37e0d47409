"""The owner's hand on the queue: what waits and why, giving it up, trying it again; asked of a whole device at manual time."""

from __future__ import annotations

from typing import Any

import pytest

from chappe.core import events as ev
from chappe.testing import BOOT, Tower
from chappe.testing.world import Published

FORBIDDEN, NO_SUCH_TOPIC = 0x87, 0x90

STREAMS = "[streams.door]\n[streams.window]\n"


class Owner(Tower):
    """A tower with a broker that refuses as it is told, and its owner."""

    def __init__(self, config: str = STREAMS) -> None:
        self.codes: dict[str, int] = {}
        self.asks = 0
        super().__init__(config)
        self.ack = self.judge
        self.link_up()

    def judge(self, message: Published) -> int | None:
        return self.codes.get(message.topic.rpartition("/")[2], 0)

    def put(self, stream: str, *values: Any) -> None:
        for value in values:
            self.engine.context.now = max(self.engine.context.now, self.clock.now())
            self.engine.context.produce(stream, {"value": value})
        self.feed(ev.Tick(at=self.clock.now()))
        self.advance(0.5)

    def asked(self, verb: str, **body: Any) -> Any:
        """What is answered over the control socket: its data, or the code of its refusal."""
        self.asks += 1
        self.ask(verb, body, via="socket", reply_to=str(self.asks))
        self.advance(0.5)
        answer = self.replies[str(self.asks)]
        return answer.get("data") if answer["status"] == "ok" else answer["error"]["code"]

    def numbers(self, stream: str) -> list[int]:
        return [message.payload["seq"] for message in self.stream(stream)]


def broken() -> Owner:
    """Three messages of `door` are dead letters, two of `window` wait for the link."""
    it = Owner()
    it.codes["door"] = NO_SUCH_TOPIC
    it.put("door", 1, 2, 3)
    it.codes.clear()
    it.link_down()
    it.put("window", 1, 2)
    return it


# ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-11", breaks="chappe.core.parts.queue:queue_verbs")
def test_the_queue_tells_what_waits_since_when_and_what_is_dead_and_why() -> None:
    it = broken()
    told = it.asked("queue")
    assert (told["depth"], sorted(told["streams"])) == (2, ["door", "window"])
    first, second = told["rows"]
    expected = {
        "stream": "window",
        "boot": BOOT,
        "key": "",
        "priority": 5,
        "state": "stored",
        "attempts": 0,
        "reason": "",
    }
    assert {key: first[key] for key in expected} == expected
    assert (first["seq"], second["seq"]) == (1, 2)
    assert first["age_s"] == told["oldest_s"] > 0
    assert [(row["stream"], row["seq"], row["reason"]) for row in told["dead"]] == [
        ("door", seq, "topic_name_invalid") for seq in (1, 2, 3)
    ]


def test_a_stream_and_a_number_narrow_what_is_told() -> None:
    it = broken()
    assert it.asked("queue", n=1)["depth"] == 2
    assert len(it.asked("queue", n=1)["rows"]) == 1
    assert it.asked("queue", stream="door")["rows"] == []
    assert it.asked("queue", stream="window")["dead"] == []


@pytest.mark.parametrize("verb", ["queue", "queue-drop", "queue-retry"])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"stream": "nothing"}, "not_found"),
        ({"stream": "Door"}, "bad_request"),
        ({"stream": 7}, "bad_request"),
    ],
)
def test_a_stream_that_is_none_is_refused(verb: str, body: dict[str, Any], code: str) -> None:
    assert broken().asked(verb, **body) == code


@pytest.mark.parametrize("n", [0, 1001, "5", True])
def test_a_number_of_rows_has_bounds(n: Any) -> None:
    assert broken().asked("queue", n=n) == "bad_request"


# ── dropping ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-11", breaks="chappe.core.counter:Counter.drop_rows")
def test_dropped_dead_letters_are_spilled_and_disclosed_as_the_operators_doing() -> None:
    """`drop` 3: `spilled` + 3, reason `operator`."""
    it = broken()
    assert it.asked("queue-drop", dead=True)["dropped"] == 3
    assert it.book("door")["spilled"] == 3
    assert it.asked("queue")["dead"] == []
    it.link_up()
    it.put("door", 4)
    assert it.stream("door")[-1].payload["lost"] == {"from": 1, "to": 3, "n": 3, "reason": "operator"}
    assert it.audits


def test_a_row_is_dropped_by_its_id() -> None:
    it = broken()
    row = it.asked("queue")["rows"][0]
    assert it.asked("queue-drop", ids=row["id"])["dropped"] == 1
    assert [other["seq"] for other in it.asked("queue")["rows"]] == [2]
    letters = [letter["id"] for letter in it.asked("queue")["dead"]]
    assert it.asked("queue-drop", ids=letters[:2])["dropped"] == 2
    assert [letter["id"] for letter in it.asked("queue")["dead"]] == letters[2:]
    assert it.audits


def test_a_stream_is_dropped_and_no_other() -> None:
    it = broken()
    it.put("door", 4)
    assert it.asked("queue-drop", stream="window")["dropped"] == 2
    assert [row["stream"] for row in it.asked("queue")["rows"]] == ["door"]


def test_what_lies_on_disk_alone_is_dropped_as_it_is_found() -> None:
    """All 3,000 of them, in the end."""
    it = broken()
    it.put("door", *range(3000))
    it.advance(1)
    told = it.asked("queue-drop", stream="door")
    assert told["dropped"] + told["pending"] == 3000
    assert told["pending"] > 0
    it.advance(5)
    assert it.asked("queue", stream="door")["depth"] == 0
    assert it.book("door")["spilled"] == 3000
    assert it.audits


@pytest.mark.feature("OUT-11", breaks="chappe.core.parts.queue:_ids")
def test_a_row_in_flight_cannot_be_dropped() -> None:
    """`already_sent`: the broker may have it."""
    it = Owner()
    it.ack = lambda message: None if "stream/" in message.topic else 0
    it.put("door", 1)
    [row] = it.asked("queue")["rows"]
    assert row["state"] == "in_flight"
    assert it.asked("queue-drop", ids=[row["id"]]) == "already_sent"
    assert it.asked("queue-drop", stream="door") == "already_sent"
    assert it.asked("queue")["depth"] == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "bad_request"),
        ({"dead": False}, "bad_request"),
        ({"dead": 1}, "bad_request"),
        ({"ids": []}, "bad_request"),
        ({"ids": [1, "2"]}, "bad_request"),
        ({"ids": [True]}, "bad_request"),
        ({"ids": 0}, "bad_request"),
        ({"ids": 1 << 60}, "bad_request"),
        ({"ids": list(range(1, 1002))}, "bad_request"),
        ({"ids": {"a": 1}}, "bad_request"),
        ({"ids": 77}, "not_found"),
    ],
)
def test_what_is_to_be_dropped_has_to_be_named(body: dict[str, Any], code: str) -> None:
    """Nothing is given up by an empty request; and nothing by what is not a row."""
    it = broken()
    assert it.asked("queue-drop", **body) == code
    assert it.asked("queue")["depth"] == 2
    assert len(it.asked("queue")["dead"]) == 3


def test_the_requests_own_id_names_no_row() -> None:
    """An `id` comes back with the answer; it may be any number, a row's among them."""
    it = broken()
    row = it.asked("queue")["rows"][0]
    assert it.asked("queue-drop", id=row["id"]) == "bad_request"
    assert it.asked("queue")["depth"] == 2


# ── trying again ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-11", breaks="chappe.core.counter:Counter.retry")
def test_a_dead_letter_that_is_tried_again_arrives_with_its_old_number() -> None:
    it = broken()
    it.link_up()
    it.advance(1)
    [first, *_] = it.asked("queue")["dead"]
    assert it.asked("queue-retry", ids=first["id"]) == {"retried": 1}
    assert it.numbers("door")[-1] == first["seq"]
    assert it.asked("queue-retry", dead=True) == {"retried": 2}
    assert it.numbers("door")[-2:] == [2, 3]
    assert it.book("door")["delivered"] == 3
    assert it.asked("queue")["dead"] == []
    assert it.audits


@pytest.mark.feature("OUT-11", breaks="chappe.core.counter:Counter.retry")
def test_a_stream_that_the_broker_forbade_is_tried_at_once_and_in_order() -> None:
    """Not only after a minute; nothing of it was thrown away."""
    it = Owner()
    it.codes["door"] = FORBIDDEN
    it.put("door", 1, 2, 3)
    it.put("window", 1)
    assert it.asked("queue")["streams"]["door"]["held"]
    assert it.asked("queue")["rows"][0]["reason"] == "not_authorized"
    assert it.numbers("window") == [1]
    it.codes.clear()
    assert it.asked("queue-retry", stream="door") == {"retried": 0}
    assert it.book("door")["delivered"] == 3
    assert sorted(set(it.numbers("door"))) == [1, 2, 3]
    assert it.asked("queue")["dead"] == []


def test_a_letter_that_is_none_cannot_be_tried() -> None:
    it = broken()
    row = it.asked("queue")["rows"][0]
    assert it.asked("queue-retry", ids=row["id"]) == "not_found"
    assert it.asked("queue-retry", ids=5) == "not_found"
