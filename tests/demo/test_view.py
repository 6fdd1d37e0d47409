"""A picture on a terminal of 80 columns, plain lines elsewhere."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.console import Console

from chappe.demo.board import Board
from chappe.demo.view import WIDEST, LiveView, PlainLines, picture
from chappe.testing import ManualClock

from .conftest import SCENE, ShownTower

Show = Callable[..., None]


def drawn(board: Board, width: int = 80) -> list[str]:
    """The picture as lines of text, without trailing blanks."""
    console = Console(width=width, file=io.StringIO(), record=True, force_terminal=True, legacy_windows=False)
    console.print(picture(board))
    return [line.rstrip() for line in console.export_text().splitlines()]


# ── the picture ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_picture_before_anything_has_happened() -> None:
    """Nothing is made up: no rate, no gesture, no row."""
    assert drawn(Board(SCENE)) == [
        "╭─ tower-1 ────────────────────────────────────────────────────────────────────╮",
        "│ camera   0.0 fps                                                             │",
        "│ gesture  -                                                                   │",
        "│ signal   -                                                                   │",
        "│ lamps    ○ status (starting)  ○ green  ○ red  ○ blue  ○ relay                │",
        "│ link     connecting                                                          │",
        "│ faults   none                                                                │",
        "╰──────────────────────────────────────────────────────────────────────────────╯",
        "",
        " stream   class   produced   delivered   elided   lost   waiting",
        " ───────────────────────────────────────────────────────────────",
        "",
    ]


def test_the_picture_of_a_device_at_work(tower: ShownTower, show: Show) -> None:
    """Rate, inference, model, gesture, signal, lamps, link, the books of each stream and the last messages, in 80 columns."""
    show(tower, "Open_Palm", n=41)
    lines = drawn(tower.look())
    assert lines[1:7] == [
        "│ camera   10.0 fps, inference 10 ms (95 % within 10 ms) · hands-lite@00000000 │",
        "│ gesture  Open_Palm 0.90, right hand                                          │",
        "│ signal   SELL                                                                │",
        "│ lamps    ○ status (healthy)  ○ green  ● red  ○ blue  ○ relay                 │",
        "│ link     online, MQTT 5                                                      │",
        "│ faults   none                                                                │",
    ]
    assert lines[9:14] == [
        " stream        class    produced   delivered   elided   lost   waiting",
        " ─────────────────────────────────────────────────────────────────────",
        " gesture       log             1           1        0      0         0",
        " temperature   latest         42           5       36      0         1",
        " tick          log             5           5        0      0         0",
    ]
    assert lines[15:][-2:] == [
        'stream/temperature  #5 {"value":23.82,"unit":"°C"}, 9 elided',
        'stream/tick         #5 {"value":4}',
    ]
    assert max(map(cell_len, lines)) <= 80


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal_or_than_can_be_read(tower: ShownTower, show: Show, width: int) -> None:
    """Long faults and messages are cut, not wrapped: the picture's height does not change."""
    show(tower, "Victory")
    board = tower.look()
    board.faults = tuple(f"sensors.very_long_name_{n} sensor_failed" for n in range(9))
    board.link = "tls_untrusted: " + "x" * 300
    board.messages.append(("info", "{" + "y" * 500 + "}"))
    lines = drawn(board, width)
    assert max(map(cell_len, lines)) <= min(width, WIDEST)
    assert len(lines) == len(drawn(tower.look(), width))
    assert any(line.endswith("…") for line in lines)


def test_what_messages_say_is_never_taken_for_markup(tower: ShownTower) -> None:
    """Brackets in a payload stay brackets."""
    tower.board.messages.append(("req", "[bold]x[/bold] [link=y]"))
    assert "[bold]x[/bold] [link=y]" in drawn(tower.board)[-1]


# ── drawn in place ───────────────────────────────────────────────────────────────────────────────────────────────────


class Terminal(io.StringIO):
    """A file that says it is a terminal until it is hung up."""

    def __init__(self) -> None:
        super().__init__()
        self.there = True

    def isatty(self) -> bool:
        return self.there


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@pytest.fixture
def view(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> LiveView:
    monkeypatch.setenv("TERM", "xterm")
    return LiveView(Console(file=terminal, width=80, height=40, highlight=False))


def test_the_live_view_says_how_to_watch_and_then_draws_anew(
    view: LiveView, terminal: Terminal, tower: ShownTower, show: Show
) -> None:
    """The lines to copy stand above what moves; each status draws the picture again; the last one stays."""
    view.begin(SCENE)
    assert "mosquitto_sub -h 127.0.0.1 -p 41234 -t 'chappe/#' -v\n" in terminal.getvalue()
    show(tower, "Closed_Fist")
    for batch in tower.batches:
        view.observe(batch)
    assert "HOLD" not in terminal.getvalue()
    view.status(tower.status())
    assert "HOLD" in terminal.getvalue()
    before = len(terminal.getvalue())
    view.status(None)
    assert "HOLD" in terminal.getvalue()[before:]
    view.end()
    view.end()
    final = terminal.getvalue()
    assert final.rfind("stream/gesture") > final.rfind("HOLD") > before
    view.status(None)
    assert terminal.getvalue() == final


def test_logs_appear_above_the_picture(view: LiveView, terminal: Terminal) -> None:
    """A warning is printed once, through the terminal that draws; afterwards logging is as before."""
    handlers = list(logging.getLogger().handlers)
    view.begin(SCENE)
    logging.getLogger("chappe.edge.camera").warning("a warning")
    view.end()
    assert "chappe.edge.camera: a warning" in terminal.getvalue()
    assert logging.getLogger().handlers == handlers


def test_a_terminal_that_was_closed_ends_the_show(view: LiveView, terminal: Terminal) -> None:
    """Rich goes on without a word when its terminal is gone; the demo must not run for ever unseen."""
    view.begin(SCENE)
    view.status(None)
    terminal.there = False
    with pytest.raises(BrokenPipeError, match="terminal is gone"):
        view.status(None)
    with pytest.raises(BrokenPipeError):
        view.end()
    assert sys.stderr is not terminal


def test_what_c_libraries_write_does_not_disturb_the_picture(view: LiveView, capfd: pytest.CaptureFixture[str]) -> None:
    """TFLite's chatter vanishes; anything else is said when the picture is finished."""
    view.begin(SCENE)
    os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nERROR: out of memory\n")
    assert capfd.readouterr().err == ""
    view.end()
    assert capfd.readouterr().err == "ERROR: out of memory\n"


# ── plain ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_plain_lines_tell_each_decision_with_its_time(tower: ShownTower, show: Show) -> None:
    """The head, a line per decision, the pace every five seconds, the books at the end."""
    lines: list[str] = []
    clock = ManualClock()
    plain = PlainLines(lines.append, clock)
    plain.begin(SCENE)
    assert lines == list(SCENE.lines)
    clock.advance(1.25)
    show(tower, "Closed_Fist")
    for batch in tower.batches:
        plain.observe(batch)
    assert "   1.25 s  gesture  Closed_Fist 0.90, right hand" in lines
    assert "   1.25 s  pin      blue on" in lines
    assert "   1.25 s  signal   HOLD" in lines
    told = len(lines)
    plain.status(tower.status())
    plain.status(None)
    assert len(lines) == told
    clock.advance(3.75)
    plain.status(tower.status())
    assert lines[-1] == "   5.00 s  pace     10.0 fps, inference 10 ms (95 % within 10 ms); delivered 5, elided 8"
    plain.end()
    assert lines[-4:] == [
        "stream       class   produced  delivered  elided  lost  waiting",
        "gesture      log            1          1       0     0        0",
        "temperature  latest        11          2       8     0        1",
        "tick         log            2          2       0     0        0",
    ]
    plain.end()
    plain.status(tower.status())
    assert len(lines) == told + 5


def test_plain_lines_without_a_single_status_end_without_books() -> None:
    """A demo that ends before anything was known prints no empty table."""
    lines: list[str] = []
    plain = PlainLines(lines.append, ManualClock())
    plain.begin(SCENE)
    plain.end()
    assert lines == list(SCENE.lines)
