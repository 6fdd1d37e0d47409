"""The command line: thin, fast to start, and honest in its exit codes.

Each module here registers its commands with ``register(commands)``; whatever is heavy is imported when a command runs.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence

from chappe.errors import ChappeError, EdgeError, Exit

MODULES = ("daemon", "demo", "check", "config", "detect", "live", "models", "replay", "bench", "devices", "version")


def run(argv: Sequence[str]) -> int:
    """Carry out a command line.

    Returns:
        The exit code (see `chappe.errors.Exit`); errors have been told on stderr, with the remedy.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if not hasattr(args, "run"):
        parser.print_help(sys.stderr)
        return Exit.USAGE
    try:
        code: int = args.run(args)
        # What waits in the buffer can still fail, and at exit nobody could answer for it.
        sys.stdout.flush()
    except ChappeError as error:
        _tell(error)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        _abandon_stdout()
        return Exit.OK
    except Exception as error:  # noqa: BLE001 - the last place: a bug has its own exit code
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _abandon_stdout()
            _tell(EdgeError("the disk is full", remedy="free some space and try again"))
            return Exit.IO
        traceback.print_exc()
        print("chappe: this is a bug in chappe; please report the lines above", file=sys.stderr)
        return Exit.BUG
    return code


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command; manual page and completion are made from it."""
    parser = argparse.ArgumentParser(
        prog="chappe",
        description="An edge daemon: gestures and sensors in, decisions and MQTT out.",
        epilog="Exit codes: 0 ok, 1 check failed or refused, 2 usage, 69 broker or daemon unreachable, 70 bug, "
        "74 I/O, 75 try again, 78 configuration error.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name in MODULES:
        importlib.import_module(f"chappe.cli.{name}").register(commands)
    return parser


def _abandon_stdout() -> None:
    """Let what is still in stdout's buffer vanish quietly at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(error: ChappeError) -> None:
    print(f"chappe: {error.message}", file=sys.stderr)
    if error.remedy:
        print(f"  remedy: {error.remedy}", file=sys.stderr)
