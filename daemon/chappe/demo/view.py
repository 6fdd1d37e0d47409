"""The two ways of showing a demo to people: a picture that is drawn anew in place, and plain lines for whatever is no terminal."""

from __future__ import annotations

import errno
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from chappe.core.effects import Effect
from chappe.core.units import SECOND, Ns, as_seconds
from chappe.demo.board import Board, Row, Scene, words
from chappe.demo.hush import hushed
from chappe.edge.host import Clock, SystemClock

if TYPE_CHECKING:
    from rich.console import Console, ConsoleRenderable
    from rich.live import Live
    from rich.table import Table

PACE_EVERY = 5 * SECOND
WIDEST = 100
COLOURS = {"BUY": "green", "SELL": "red", "HOLD": "blue", "green": "green", "red": "red", "blue": "blue"}


class Screen(Protocol):
    """Where a demo is shown. `observe` comes from the main thread, `status` from another.

    Attributes:
        curious: whether it wants `status` at all.
    """

    curious: bool

    def begin(self, scene: Scene) -> None:
        """The broker is up and the daemon about to start."""

    def observe(self, effects: Sequence[Effect]) -> None:
        """What a pass of the engine decided."""

    def status(self, document: Mapping[str, Any] | None) -> None:
        """The daemon's answer to ``status``, None where it gave none; comes twice a second."""

    def end(self) -> None:
        """The daemon has stopped; idempotent."""


# ── plain ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class PlainLines:
    """A line per decision, the pace every five seconds, the books at the end.

    Args:
        write: takes a line.
        clock: times the lines.
    """

    curious = True

    def __init__(self, write: Callable[[str], None], clock: Clock | None = None) -> None:
        self._write = write
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._board: Board | None = None
        self._began = Ns(0)
        self._paced = Ns(0)

    def begin(self, scene: Scene) -> None:
        self._board = Board(scene)
        self._began = self._paced = self._clock.now()
        for line in scene.lines:
            self._write(line)

    def observe(self, effects: Sequence[Effect]) -> None:
        with self._lock:
            assert self._board is not None, "begin() comes first"
            self._board.take(effects)
            for effect in effects:
                line = words(effect)
                if line is not None:
                    self._tell(line)

    def status(self, document: Mapping[str, Any] | None) -> None:
        with self._lock:
            if document is None or self._board is None:
                return
            self._board.learn(document)
            now = self._clock.now()
            if now - self._paced >= PACE_EVERY:
                self._paced = now
                self._tell(f"pace     {self._board.pace}; {_totals(self._board.rows)}")

    def _tell(self, line: str) -> None:
        self._write(f"{as_seconds(self._clock.now() - self._began):7.2f} s  {line}")

    def end(self) -> None:
        board, self._board = self._board, None
        if board is not None and board.rows:
            cells = [HEADINGS, *(_cells(row) for row in board.rows)]
            widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
            for line in cells:
                name, class_, *numbers = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
                self._write("  ".join([name, class_, *(number.strip().rjust(len(number)) for number in numbers)]))


def _totals(rows: Sequence[Row]) -> str:
    return f"delivered {sum(row.delivered for row in rows)}, elided {sum(row.elided for row in rows)}"


HEADINGS = ("stream", "class", "produced", "delivered", "elided", "lost", "waiting")


def _cells(row: Row) -> tuple[str, ...]:
    numbers = (row.produced, row.delivered, row.elided, row.lost, row.waiting)
    return (row.name, row.class_, *map(str, numbers))


# ── a picture ────────────────────────────────────────────────────────────────────────────────────────────────────────


class LiveView:
    """One picture, drawn anew in place.

    Args:
        console: the terminal; stdout unless a test brings one.
    """

    curious = True

    def __init__(self, console: Console | None = None) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._board: Board | None = None
        self._live: Live | None = None
        self._stack = ExitStack()

    def begin(self, scene: Scene) -> None:
        from rich.console import Console
        from rich.live import Live

        console = self._console or Console(highlight=False)
        self._board = Board(scene)
        for line in scene.lines:
            console.print(line, markup=False, soft_wrap=True)
        self._live = Live(picture(self._board), console=console, auto_refresh=False, vertical_overflow="crop")
        self._stack.enter_context(hushed())
        self._stack.enter_context(self._live)
        # Live has put its own file in the place of stderr, which writes above the picture; whoever logs has to use that one.
        self._stack.enter_context(_logging_to(logging.StreamHandler(sys.stderr)))

    def observe(self, effects: Sequence[Effect]) -> None:
        with self._lock:
            assert self._board is not None, "begin() comes first"
            self._board.take(effects)

    def status(self, document: Mapping[str, Any] | None) -> None:
        with self._lock:
            if self._board is None or self._live is None:
                return
            if document is not None:
                self._board.learn(document)
            drawn = picture(self._board)
        # Rich draws nothing, and says nothing, once its terminal has been closed.
        if not self._live.console.is_terminal:
            raise BrokenPipeError(errno.EIO, "the terminal is gone")
        self._live.update(drawn, refresh=True)

    def end(self) -> None:
        try:
            self.status(None)
        finally:
            self._board = None
            self._stack.close()


@contextmanager
def _logging_to(handler: logging.Handler) -> Iterator[None]:
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def picture(board: Board) -> ConsoleRenderable:
    """The board, as wide as the terminal but no wider than can be read."""
    from rich.console import Group
    from rich.constrain import Constrain
    from rich.panel import Panel
    from rich.text import Text

    facts = Panel(_facts(board), title=Text(board.scene.device, style="bold"), title_align="left", padding=(0, 1))
    return Constrain(Group(facts, _books(board), _messages(board)), width=WIDEST)


def _facts(board: Board) -> Table:
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(no_wrap=True, overflow="ellipsis")
    pace = f"{board.pace} · {board.model}" if board.model else board.pace
    facts.add_row("camera", Text(pace))
    facts.add_row("gesture", Text(board.gesture or "-"))
    facts.add_row("signal", Text(board.signal, style=f"bold {COLOURS.get(board.signal, '')}"))
    facts.add_row("lamps", _lamps(board))
    facts.add_row("link", Text(board.link, style="green" if board.link.startswith("online") else "red"))
    facts.add_row("faults", Text(", ".join(board.faults) or "none", style="red" if board.faults else ""))
    return facts


def _lamps(board: Board) -> Any:
    from rich.text import Text

    text = Text()
    for name in board.scene.pins:
        lit = board.levels.get(name, 0.0) > 0
        text.append("● " if lit else "○ ", style=f"bold {COLOURS.get(name, 'yellow')}" if lit else "dim")
        text.append(f"{name} ({board.lamp})  " if name == "status" else f"{name}  ")
    return text


def _books(board: Board) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    books = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for place, heading in enumerate(HEADINGS):
        books.add_column(heading, justify="left" if place < 2 else "right", no_wrap=True)
    for row in board.rows:
        books.add_row(*_cells(row))
    return books


def _messages(board: Board) -> Table:
    from rich.table import Table
    from rich.text import Text

    messages = Table.grid(padding=(0, 2), expand=True)
    messages.add_column(style="cyan", no_wrap=True)
    messages.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for topic, payload in board.messages:
        messages.add_row(topic, Text(payload))
    return messages
