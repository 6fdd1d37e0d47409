"""The command lines `chappe demo` and `chappe watch`: what they choose, print and refuse."""

from __future__ import annotations

import io
import json
import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chappe import cli
from chappe.cli import demo as module
from chappe.cli.demo import JsonLines, be_tolerant, choose_screen, show_json, show_line
from chappe.demo.view import LiveView, PlainLines
from chappe.edge import models
from chappe.edge.broker import LOOPBACK, LocalBroker, find_mosquitto, free_port

from .conftest import SCENE, ShownTower
from .process import Process

pytestmark = pytest.mark.usefixtures("own_environment")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """`start_logging` belongs to a process of its own."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class Terminal(io.StringIO):
    """stdout on a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("as_json", "tty", "rich", "chosen"),
    [
        (False, True, True, LiveView),
        (False, True, False, PlainLines),
        (False, False, True, PlainLines),
        (True, True, True, JsonLines),
        (True, False, False, JsonLines),
    ],
)
def test_which_screen_is_chosen(
    monkeypatch: pytest.MonkeyPatch, as_json: bool, tty: bool, rich: bool, chosen: type
) -> None:
    """A picture on a terminal with rich; JSON if asked for; plain lines for everything else."""
    monkeypatch.setattr(sys, "stdout", Terminal() if tty else io.StringIO())
    monkeypatch.setattr(module, "find_spec", lambda name: object() if rich else None)
    assert type(choose_screen(as_json=as_json)) is chosen


def test_plain_lines_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, at once."""
    choose_screen(as_json=False).begin(SCENE)
    assert capsys.readouterr().out.splitlines() == list(SCENE.lines)


def test_json_lines_are_those_of_run(tower: ShownTower, capsys: pytest.CaptureFixture[str]) -> None:
    """First where the broker is, then every published and decided event, one object a line."""
    screen = JsonLines()
    assert not screen.curious
    screen.begin(SCENE)
    tower.see("Victory")
    tower.see("Victory")
    tower.see("Victory")
    for batch in tower.batches:
        screen.observe(batch)
    screen.status({})
    screen.end()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"event": "demo", "device": "tower-1", "broker": SCENE.broker, "port": SCENE.port}
    (gesture,) = [line for line in lines if line["event"] == "gesture"]
    assert gesture["gesture"] == "Victory"
    (message,) = [line for line in lines if line.get("topic") == "chappe/tower-1/stream/gesture"]
    assert message["payload"]["data"]["gesture"] == "Victory"
    assert message["retain"] is False


def test_a_terminal_of_another_character_set_gets_question_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lamps are drawn with characters that not every terminal has."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1", write_through=True))
    be_tolerant()
    show_line("chappe/a", "21 °C ●".encode(), False)
    assert raw.getvalue() == b"chappe/a 21 \xb0C ?\n"


def test_a_demo_without_weights_ends_with_1_and_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing on stdout, what to do on stderr; signals are as before."""
    monkeypatch.setattr(models, "search_dirs", lambda: [tmp_path])
    before = signal.getsignal(signal.SIGTERM)
    assert cli.run(["demo", "--json"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("chappe: models missing: palm_detection_lite.tflite, ")
    assert printed.err.endswith("  remedy: run `chappe models pull`\n")
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_demo_of_pictures_that_are_not_there_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line is told as one, before anything starts."""
    assert cli.run(["demo", "--camera", str(tmp_path / "nothing")]) == 2
    assert "there are no pictures at" in capsys.readouterr().err


# ── watch ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("payload", "plain", "value"),
    [
        (b'{"a":1}', 'chappe/x {"a":1}', {"a": 1}),
        (b"", "chappe/x ", ""),
        ("°".encode(), "chappe/x °", "°"),
        (b"\xff", "chappe/x \ufffd", "\ufffd"),
    ],
)
def test_messages_as_lines_and_as_json(
    capsys: pytest.CaptureFixture[str], payload: bytes, plain: str, value: Any
) -> None:
    """The line is mosquitto_sub -v's; the object holds JSON as JSON and anything else as text."""
    show_line("chappe/x", payload, True)
    assert capsys.readouterr().out == f"{plain}\n"
    show_json("chappe/x", payload, True)
    assert json.loads(capsys.readouterr().out) == {"topic": "chappe/x", "retained": True, "payload": value}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--topic", "a/b+"], 2, "a/b+"),
        (["--password-file", "nowhere"], 74, "nowhere cannot be read"),
        (["--port", "PORT"], 69, "no broker answers"),
    ],
)
def test_what_watch_refuses(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit codes of the whole command line."""
    assert cli.run(["watch", *(str(free_port()) if word == "PORT" else word for word in words)]) == code
    assert said in capsys.readouterr().err


def test_watch_prints_what_passes_until_ctrl_c(tmp_path: Path) -> None:
    """A real broker, a daemon's worth of topics, exit 0."""
    if not find_mosquitto():
        pytest.skip("mosquitto is not installed")
    with LocalBroker(tmp_path) as broker:
        watch = Process(
            "watch", "--host", LOOPBACK, "--port", str(broker.port), "--topic", "$SYS/broker/#", folder=tmp_path
        )
        try:
            assert watch.line("$SYS/broker/version ").startswith("$SYS/broker/version mosquitto version ")
            assert watch.end(signal.SIGINT) == 0
        finally:
            watch.kill()
    assert watch.err == []
