"""A recorded run: one JSON line per event with the effects it had, so that it can be replayed anywhere and compared.

Each line is ``{"event": {…}, "effects": [{…}, …]}``. A boot begins with a `Started` event, which holds everything that the boot depends on;
a file may hold several boots, one after the other (the daemon appends).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from chappe.core.effects import Effect
from chappe.core.engine import Engine, boot
from chappe.core.events import AnyEvent, Event, Started
from chappe.errors import ChappeError, Exit

_encoder = msgspec.json.Encoder()


class Line(msgspec.Struct, frozen=True):
    """One line of a recording."""

    event: AnyEvent
    effects: msgspec.Raw


_decoder = msgspec.json.Decoder(Line)


class Recorder:
    """Writes a recording.

    Args:
        path: the file; lines are appended.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def open(self) -> None:
        """Open the file for appending; a line that a kill cut off is ended first.

        Raises:
            RecordingError: if it cannot be written.
        """
        try:
            self._file = self._path.open("a+b")
            if self._file.tell():
                self._file.seek(-1, os.SEEK_END)
                if self._file.read(1) != b"\n":
                    self._file.write(b"\n")
        except OSError as error:
            raise RecordingError(f"the recording {self._path} cannot be written: {error.strerror}") from error

    def write(self, event: Event, effects: Sequence[Effect]) -> None:
        """Add one step."""
        assert self._file is not None, "open() comes first"
        self._file.write(render(event, effects))

    def flush(self) -> None:
        """Let nothing wait in a buffer of this process."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def render(event: Event, effects: Sequence[Effect]) -> bytes:
    """One step as its line."""
    return b'{"event":' + _encoder.encode(event) + b',"effects":' + _encoder.encode(effects) + b"}\n"


@dataclass(frozen=True)
class Difference:
    """The first step whose effects are not those recorded.

    Attributes:
        line: line in the file, from 1.
        event: the event as JSON.
        expected: the recorded effects as JSON.
        found: the effects of this replay as JSON.
    """

    line: int
    event: str
    expected: str
    found: str


class RecordingError(ChappeError, ValueError):
    """A recording cannot be read."""

    exit_code = Exit.IO


def read(lines: Iterable[bytes]) -> Iterator[tuple[int, Line]]:
    """The lines of a recording with their numbers.

    A line that a kill cut off is passed over: the last of the file, or the last before the next boot.

    Raises:
        RecordingError: if any other line cannot be read.
    """
    broken: RecordingError | None = None
    for number, text in enumerate(lines, 1):
        try:
            line = _decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if broken:
                raise broken from None
            broken = RecordingError(f"line {number} is no step of a recording: {error}")
            continue
        if broken and not isinstance(line.event, Started):
            raise broken
        broken = None
        yield number, line


def replay(lines: Iterable[bytes]) -> Iterator[tuple[Line, Sequence[Effect], Difference | None]]:
    """Step a new engine through a recording.

    Yields:
        Each line, the effects found now, and the difference if there is one.

    Raises:
        RecordingError: if the recording cannot be read or does not begin with a boot.
    """
    engine: Engine | None = None
    for number, line in read(lines):
        if isinstance(line.event, Started):
            engine, effects = boot(line.event)
        elif engine is None:
            raise RecordingError(f"line {number} comes before any boot")
        else:
            effects = engine.step(line.event)
        found = _encoder.encode(effects)
        same = found == bytes(line.effects)
        yield line, effects, None if same else _difference(number, line, found)


def _difference(number: int, line: Line, found: bytes) -> Difference:
    return Difference(number, _encoder.encode(line.event).decode(), bytes(line.effects).decode(), found.decode())
