"""``chappe replay FILE``: step a new engine through a recorded run and compare its effects, byte for byte."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from chappe.cli.common import Commands, add_json_option, print_json
from chappe.errors import EdgeError, Exit

if TYPE_CHECKING:
    from chappe.core.effects import Effect
    from chappe.record import Difference


def register(commands: Commands) -> None:
    parser = commands.add_parser(
        "replay",
        help="step through a recorded run and compare",
        description="Steps a new engine through the events of a recording (`chappe run --record FILE`) and compares the "
        "effects with those recorded, byte for byte. Exit 0: all the same; 1: the first difference is printed.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the recording")
    parser.add_argument("--until", type=_count, metavar="N", help="end after N steps")
    parser.add_argument(
        "--effects", action="store_true", help="print the effects of each step, one JSON line per effect"
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def run(args: argparse.Namespace) -> int:
    """Replay a file.

    Raises:
        EdgeError: if the file cannot be read.
        RecordingError: if it is no recording.
    """
    from chappe.record import RecordingError

    try:
        seen, difference = _compare(args)
    except RecordingError as error:
        raise RecordingError(f"{args.file}: {error.message}", remedy="name a file that `--record` wrote") from error
    if args.json:
        print_json({"same": difference is None, **seen, "difference": asdict(difference) if difference else None})
    elif difference is None:
        print(f"same effects: {seen['steps']} steps, {seen['boots']} boots", file=sys.stderr if args.effects else None)
    else:
        _tell(difference)
    return Exit.OK if difference is None else Exit.REFUSED


def _compare(args: argparse.Namespace) -> tuple[Counter[str], Difference | None]:
    from chappe.core.events import Started
    from chappe.record import RecordingError, replay

    seen: Counter[str] = Counter(steps=0, boots=0)
    for line, effects, difference in islice(replay(_lines(args.file)), args.until):
        seen["steps"] += 1
        seen["boots"] += isinstance(line.event, Started)
        if args.effects:
            _print_effects(effects)
        if difference:
            return seen, difference
    if not seen["steps"]:
        raise RecordingError("it holds no step")
    return seen, None


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as lines:
            yield from lines
    except OSError as error:
        raise EdgeError(
            f"{file} cannot be read: {error.strerror}", remedy="name a file that `--record` wrote"
        ) from error


def _print_effects(effects: Sequence[Effect]) -> None:
    import msgspec

    for effect in effects:
        print(msgspec.json.encode(effect, order="deterministic").decode())


def _tell(difference: Difference) -> None:
    print(f"line {difference.line}: the effects are not those recorded")
    for name in ("event", "expected", "found"):
        print(f"  {name:<9}{getattr(difference, name)}")
