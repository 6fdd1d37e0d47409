"""`chappe queue`: beside a running daemon and on a stopped store, in the same words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chappe.cli.answering import refusal
from chappe.errors import BusyError, Exit, LinkError, UsageError

from .stopped import Device

STREAMS = "[streams.door]\n[streams.window]\npriority = 7\n"
ACTIONS = (["show"], ["drop", "--dead"], ["retry"])


@pytest.fixture
def stopped(tmp_path: Path) -> Callable[[], Device]:
    """Leaves a stopped store behind: three rows of `door` and one of `window` wait, two of `door` are dead."""

    def leave() -> Device:
        it = Device(tmp_path / "state", STREAMS)
        it.refused = {"door"}
        it.link_up()
        it.put("door", 1, 2)
        it.link_down()
        it.refused = set()
        it.put("door", 3, 4, 5)
        it.put("window", 6)
        it.end()
        return it

    return leave


@pytest.fixture
def queue(chappe: Any, configure: Any) -> Callable[..., Any]:
    """Runs `chappe queue` against the state folder of this test."""
    return lambda *argv: chappe("queue", *argv, "--config", configure(STREAMS))


# ── a stopped store ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-11", breaks="chappe.cli.queue:run_show")
def test_a_stopped_store_tells_what_waits_and_what_is_dead(queue: Any, stopped: Any) -> None:
    """The shape is the daemon's own; who leaves first stands first."""
    device = stopped()
    told = queue("show", "--json").json
    listing = device.engine.context.outbox.counter.listing(device.clock.now(), 10)
    assert told.keys() == listing.keys()
    assert [(row["stream"], row["seq"], row["state"]) for row in told["rows"]] == [
        ("window", 1, "stored"),
        ("door", 3, "stored"),
        ("door", 4, "stored"),
        ("door", 5, "stored"),
    ]
    assert [(letter["seq"], letter["reason"]) for letter in told["dead"]] == [
        (1, "topic_name_invalid"),
        (2, "topic_name_invalid"),
    ]
    assert told["dead"][0].keys() == listing["dead"][0].keys()
    assert (told["depth"], told["streams"]["door"]["depth"], told["streams"]["door"]["dead"]) == (4, 3, 2)


def test_for_people_it_is_a_few_tables(queue: Any, stopped: Any) -> None:
    """How much, since when, of which stream, each row, each dead letter and why."""
    stopped()
    ran = queue("show", "--limit", "2")
    lines = ran.out.splitlines()
    assert ran.code == 0
    assert lines[0].startswith("4 messages waiting, the oldest for 1 h")
    assert [line.split()[:3] for line in lines if line.startswith(("door", "window"))] == [
        ["window", "1", "0"],
        ["door", "3", "2"],
    ]
    assert "… and 2 more" in ran.out
    assert ran.out.count("topic_name_invalid") == 2
    assert "topic_name_invalid" not in queue("show", "--stream", "window").out


def test_dead_letters_alone(queue: Any, stopped: Any) -> None:
    """`--dead` leaves the rest out; where there are none it says so."""
    stopped()
    assert queue("show", "--dead").out.splitlines()[1] == "dead letters"
    assert queue("show", "--dead", "--json").json["rows"] == []
    queue("drop", "--dead")
    assert queue("show", "--dead").out == "no dead letters\n"


@pytest.mark.feature("OUT-11", breaks="chappe.cli.queue:run_drop")
def test_rows_of_a_stopped_store_are_given_up(queue: Any, stopped: Any) -> None:
    """By id, repeated; by stream; dead letters alone."""
    stopped()
    ids = [str(row["id"]) for row in queue("show", "--stream", "door", "--json").json["rows"]]
    assert queue("drop", "--id", ids[0], "--id", ids[2]).out == "2 messages given up\n"
    assert [row["seq"] for row in queue("show", "--stream", "door", "--json").json["rows"]] == [4]
    assert queue("drop", "--stream", "window", "--json").json == {"dropped": 1, "in_flight": 0, "pending": 0}
    assert queue("drop", "--dead").out == "2 messages given up\n"
    left = queue("show", "--json").json
    assert (left["depth"], left["dead"]) == (1, [])


@pytest.mark.feature("OUT-11", breaks="chappe.cli.queue:run_retry")
def test_a_dead_letter_of_a_stopped_store_waits_again_under_its_old_number(queue: Any, stopped: Any) -> None:
    stopped()
    letter = queue("show", "--json").json["dead"][0]
    ran = queue("retry", "--id", str(letter["id"]))
    assert ran.out == "1 dead letter will be sent again when the daemon starts\n"
    told = queue("show", "--stream", "door", "--json").json
    assert [row["seq"] for row in told["rows"]] == [1, 3, 4, 5]
    assert [row["seq"] for row in told["dead"]] == [2]
    assert queue("retry", "--dead", "--json").json == {"retried": 1}


@pytest.mark.parametrize("action", ["drop", "retry"])
def test_an_id_that_nothing_has_is_refused(queue: Any, stopped: Any, action: str) -> None:
    stopped()
    ran = queue(action, "--id", "77")
    assert ran.code == Exit.REFUSED
    assert "not_found" in ran.err


# ── a running daemon ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-11", breaks="chappe.cli.answering:Answering.ask")
def test_a_running_daemon_tells_and_drops_what_it_keeps(chappe: Any, running: Any, stopped: Any) -> None:
    """What an earlier boot left behind is there; nothing else touches the store meanwhile."""
    stopped()
    file = running(STREAMS)
    told = chappe("queue", "show", "--json", "--config", file).json
    assert {row["seq"] for row in told["rows"] if row["stream"] == "door"} <= {3, 4, 5}
    assert told["depth"] == 4
    assert len(told["dead"]) == 2
    assert chappe("queue", "drop", "--dead", "--config", file).out == "2 messages given up\n"
    assert chappe("queue", "show", "--dead", "--config", file).out == "no dead letters\n"
    assert chappe("queue", "retry", "--config", file).out == "0 dead letters will be sent again now\n"


def test_what_is_asked_of_the_daemon(queue: Any, scripted: Any) -> None:
    """Each action is a verb with the options as its body."""
    done = {"dropped": 1, "in_flight": 2, "pending": 3}
    empty = {"depth": 0, "bytes": 0, "oldest_s": 0.0, "streams": {}, "rows": [], "dead": []}
    asked = scripted(
        {
            "queue": {"status": "ok", "data": empty},
            "queue-drop": {"status": "ok", "data": done},
            "queue-retry": {"status": "ok", "data": {"retried": 1}},
        }
    )
    assert queue("show", "--stream", "door", "--limit", "5").out == "0 messages waiting\n"
    assert queue("drop", "--id", "7", "--id", "8").out.splitlines() == [
        "1 message given up",
        "3 more messages will be, as they are read from the disk",
        "2 messages on the way to the broker stay",
    ]
    assert queue("retry", "--stream", "door", "--dead").out == "1 dead letter will be sent again now\n"
    assert [(one.verb, json.loads(one.body)) for one in asked] == [
        ("queue", {"n": 5, "stream": "door"}),
        ("queue-drop", {"ids": [7, 8]}),
        ("queue-retry", {"stream": "door", "dead": True}),
    ]


def test_a_row_in_flight_is_refused_as_already_sent(queue: Any, scripted: Any) -> None:
    """Exit 1, with the daemon's word for it."""
    scripted({"queue-drop": {"status": "error", "error": {"code": "already_sent", "message": "on its way"}}})
    ran = queue("drop", "--id", "7")
    assert ran.code == Exit.REFUSED
    assert "on its way (already_sent)" in ran.err


def test_a_held_stream_and_a_pause_are_told_in_words(queue: Any, scripted: Any) -> None:
    lane = {
        "depth": 3,
        "on_disk_only": 0,
        "in_flight": 1,
        "unconfirmed": 2,
        "dead": 0,
        "held": True,
        "retry_in_s": 59.5,
    }
    found = {"depth": 3, "bytes": 9, "oldest_s": 65.0, "streams": {"door": lane}, "rows": [], "dead": []}
    scripted({"queue": {"status": "ok", "data": found}})
    out = queue("show").out
    assert "3 messages waiting, the oldest for 1 min 5 s" in out
    assert "1 in flight, 2 not confirmed by a consumer, forbidden by the broker, tried again in 60 s" in out


# ── nobody, and nonsense ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OPS-02", breaks="chappe.cli.answering:Answering._open")
@pytest.mark.parametrize("action", ACTIONS, ids=lambda words: words[0])
def test_without_a_daemon_and_without_a_store_it_is_69_with_a_remedy(queue: Any, action: list[str]) -> None:
    ran = queue(*action)
    assert ran.code == Exit.UNAVAILABLE
    assert "there is no store in" in ran.err
    assert "remedy: start the daemon" in ran.err
    assert ran.out == ""


@pytest.mark.parametrize("action", ACTIONS, ids=lambda words: words[0])
def test_a_daemon_that_holds_the_store_and_does_not_answer_is_69(
    queue: Any, held_state: None, action: list[str]
) -> None:
    """The store is not touched behind its back."""
    ran = queue(*action)
    assert ran.code == Exit.UNAVAILABLE
    assert "though one holds" in ran.err
    assert "remedy:" in ran.err


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["drop"],
        ["drop", "--id", "x"],
        ["show", "--limit", "0"],
        ["show", "--limit", "1001"],
        ["empty"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_2_and_nothing_happens(queue: Any, stopped: Any, argv: list[str]) -> None:
    """Least of all does an empty `drop` give up everything."""
    stopped()
    assert queue(*argv).code == Exit.USAGE
    assert queue("show", "--json").json["depth"] == 4


@pytest.mark.parametrize(
    ("code", "kind"),
    [("timeout", LinkError), ("busy", BusyError), ("bad_request", UsageError)],
)
def test_a_refusal_has_the_exit_code_of_its_kind(code: str, kind: type[Exception]) -> None:
    assert isinstance(refusal(code, "so"), kind)
    assert refusal("owner_off", "so").exit_code == Exit.REFUSED
