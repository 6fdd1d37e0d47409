"""What the demo shows agrees with what the engine decided and says about itself."""

from __future__ import annotations

import doctest
import json
from collections.abc import Callable

import pytest

from chappe.core.effects import Announce, Drive, Publish, SampleHost
from chappe.core.events import Faulted, Healed
from chappe.demo import board
from chappe.demo.board import MESSAGES, message_words, words

from .conftest import SCENE, ShownTower

Show = Callable[..., None]


def test_examples_in_the_docstrings() -> None:
    """The examples are true."""
    results = doctest.testmod(board)
    assert results.attempted > 0
    assert results.failed == 0


# ── the newest of everything ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_gesture_its_signal_and_its_lamp_are_shown(tower: ShownTower, show: Show) -> None:
    """Each of the three signals lights its own lamp, and the board says all three things."""
    for label, signal, lamp in (
        ("Closed_Fist", "HOLD", "blue"),
        ("Open_Palm", "SELL", "red"),
        ("Pointing_Up", "BUY", "green"),
    ):
        show(tower, label)
        seen = tower.board
        assert seen.gesture == f"{label} 0.90, right hand"
        assert seen.signal == signal
        assert [name for name in ("green", "red", "blue") if seen.levels[name]] == [lamp]


def test_a_rule_drives_the_relay_for_half_a_second(tower: ShownTower) -> None:
    """Thumb_Up closes the relay; it opens by itself."""
    for _ in range(3):
        tower.see("Thumb_Up")
    assert tower.board.levels["relay"] == 1.0
    tower.advance(0.5)
    assert tower.board.levels["relay"] == 0.0


def test_frame_rate_inference_and_model_are_shown(tower: ShownTower, show: Show) -> None:
    """Ten looks a second of 10 ms each."""
    show(tower, "Victory", n=40)
    seen = tower.look()
    assert seen.fps == 10.0
    assert seen.pace == "10.0 fps, inference 10 ms (95 % within 10 ms)"
    assert seen.model == "hands-lite@00000000"


def test_before_the_first_look_there_is_no_inference_time(tower: ShownTower) -> None:
    """No number is made up."""
    assert tower.look().pace == "0.0 fps"


def test_the_books_of_each_stream_balance_on_the_board(tower: ShownTower, show: Show) -> None:
    """produced = delivered + elided + lost + waiting in every row, and elision can be seen at work."""
    show(tower, "Victory", n=100)
    rows = {row.name: row for row in tower.look().rows}
    assert list(rows) == ["gesture", "temperature", "tick"]
    for row in rows.values():
        assert row.produced == row.delivered + row.elided + row.lost + row.waiting
    assert (rows["gesture"].class_, rows["gesture"].delivered) == ("log", 1)
    temperature, tick = rows["temperature"], rows["tick"]
    assert (tick.class_, tick.elided) == ("log", 0)
    assert tick.delivered == tick.produced == 11
    assert temperature.class_ == "latest"
    # Ten readings a second, one message: the first at once, then the newest of 9, of 10, of 10 …; the last one waits its turn.
    assert (temperature.produced, temperature.delivered) == (101, 11)
    assert (temperature.elided, temperature.waiting) == (8 + 9 * 9, 1)


def test_without_a_broker_rows_wait_and_the_board_says_why(tower: ShownTower, show: Show) -> None:
    """The link's end is shown at once, and what piles up is counted as waiting, not as lost."""
    assert tower.board.link == "online, MQTT 5"
    tower.link_down("refused")
    show(tower, "Victory", n=100)
    seen = tower.look()
    assert seen.link == "refused"
    (tick,) = (row for row in seen.rows if row.name == "tick")
    assert (tick.waiting, tick.lost) == (10, 0)
    assert seen.lamp == "broker unreachable"
    tower.link_up(protocol="3.1.1")
    assert tower.board.link == "online, MQTT 3.1.1"


def test_faults_come_and_go(tower: ShownTower) -> None:
    """A fault stands on the board for as long as it lasts."""
    tower.feed(Faulted(at=tower.clock.now(), part="camera", code="camera_missing", message="gone"))
    assert tower.look().faults == ("camera camera_missing",)
    assert tower.board.lamp == "camera fault"
    tower.feed(Healed(at=tower.clock.now(), part="camera", code="camera_missing"))
    assert tower.look().faults == ()


def test_the_last_messages_are_shown_oldest_first(tower: ShownTower) -> None:
    """Only the newest few, each with its topic below the device's own."""
    tower.advance(20)
    shown = list(tower.board.messages)
    assert len(shown) == MESSAGES
    assert [topic for topic, _ in shown] == [
        message.topic.removeprefix("chappe/tower-1/") for message in tower.published[-MESSAGES:]
    ]
    ticks = [text for topic, text in shown if topic == "stream/tick"]
    assert (
        ticks[-1] == f'#{tower.stream("tick")[-1].payload["seq"]} {{"value":{tower.stream("tick")[-1].data["value"]}}}'
    )


# ── messages in words ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_elided_message_says_what_it_stands_for(tower: ShownTower) -> None:
    """The summary of a real message of the engine's is read."""
    tower.advance(5)
    texts = [text for topic, text in tower.board.messages if topic == "stream/temperature"]
    assert texts[-1].endswith(", 9 elided")


@pytest.mark.parametrize(
    ("more", "end"),
    [
        ({}, '#3 {"value":1}'),
        ({"late": True}, '#3 {"value":1}, late'),
        ({"elided": {"n": 2}, "late": True}, '#3 {"value":1}, 2 elided, late'),
        ({"lost": {"from": 1, "to": 2, "n": 2, "reason": "spilled"}}, '#3 {"value":1}, 2 lost before it (spilled)'),
        ({"lost": {"boot": "ab", "from": 1, "reason": "crash"}}, '#3 {"value":1}, some lost before it (crash)'),
    ],
)
def test_envelopes_in_words(more: dict[str, object], end: str) -> None:
    """Number, data, and whatever applies besides."""
    envelope = {"boot": "0" * 16, "seq": 3, "at": "", "synced": True, "data": {"value": 1}, **more}
    assert message_words(json.dumps(envelope).encode()) == end


@pytest.mark.parametrize("payload", [b'{"status":"online"}', b"", b"[1]", b"7", b"\xff\xfe", b'{"seq":1}', b'"x"'])
def test_what_is_no_envelope_is_shown_as_it_is(payload: bytes) -> None:
    """State, info, an empty payload, or bytes that are no text."""
    assert message_words(payload) == payload.decode("utf-8", "replace")


# ── decisions in words ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("effect", "line"),
    [
        (Announce(kind="signal", data={"signal": "SELL"}), "signal   SELL"),
        (Announce(kind="rule", data={"rule": "applause"}), "rule     applause"),
        (Announce(kind="press", data={"button": "main", "press": "double"}), "press    main double"),
        (Announce(kind="link", data={"status": "lost", "reason": "reset"}), "link     lost: reset"),
        (Announce(kind="link", data={"status": "connecting", "reason": ""}), "link     connecting"),
        (Announce(kind="camera", data={"open": False}), "camera   closed"),
        (Announce(kind="mark", data={"mark": "x", "by": "rule:y"}), "mark     mark=x by=rule:y"),
        (Announce(kind="fault", data={"part": "a", "code": "b", "healed": True}), "fault    a b is over"),
        (Announce(kind="fault", data={"part": "a", "code": "b", "healed": False}), "fault    a b"),
        (
            Announce(kind="fault", data={"part": "a", "code": "b", "healed": False, "message": "why"}),
            "fault    a b: why",
        ),
        (Drive(pin="relay", level=1.0), "pin      relay on"),
        (Drive(pin="relay", level=0.0), "pin      relay off"),
        (Drive(pin="status", level=1.0), None),
        (Publish(token=1, topic="t", payload=b""), None),
        (SampleHost(), None),
    ],
)
def test_decisions_in_words(effect: Announce, line: str | None) -> None:
    """One line each; the blinking of the status lamp and every message would drown the rest."""
    assert words(effect) == line


def test_every_decision_of_a_lively_minute_can_be_told(tower: ShownTower, show: Show) -> None:
    """No announcement of the engine's lacks a field that its line needs."""
    for label in ("Open_Palm", "Thumb_Up", "Closed_Fist"):
        show(tower, label)
    tower.link_down()
    tower.link_up()
    tower.ask("camera", {"on": False})
    tower.stop()
    told = [line for batch in tower.batches for effect in batch if (line := words(effect)) is not None]
    assert {line.split()[0] for line in told} == {
        "camera",
        "gesture",
        "link",
        "model",
        "pin",
        "rule",
        "signal",
        "state",
    }
    assert all(len(line) > 9 and line == line.strip() for line in told)


def test_how_to_listen_from_outside_is_said() -> None:
    """The exact line for mosquitto's client, and one that works without it."""
    assert "          mosquitto_sub -h 127.0.0.1 -p 41234 -t 'chappe/#' -v" in SCENE.lines
    assert "          chappe watch --port 41234 --topic 'chappe/#'" in SCENE.lines
