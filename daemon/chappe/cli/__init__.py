"""The command line: thin, fast to start, and honest in its exit codes.

Each module here registers its commands with ``register(commands)``. Only the module of the command that was given is imported, and whatever
is heavy only when it runs; ``--help`` alone needs them all. So not even the error tree is imported before something goes wrong.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterable, Sequence

# Command: the module that knows it. In the order of the help page.
COMMANDS = {
    "run": "daemon",
    "demo": "demo",
    "watch": "demo",
    "check": "check",
    "config": "config",
    "detect": "detect",
    "status": "live",
    "identify": "live",
    "queue": "queue",
    "events": "events",
    "models": "models",
    "replay": "replay",
    "bench": "bench",
    "gpio": "devices",
    "sensor": "devices",
    "camera": "devices",
    "version": "version",
}

EPILOG = (
    "Exit codes: 0 ok, 1 check failed or refused, 2 usage, 69 broker or daemon unreachable, 70 bug, "
    "74 I/O, 75 try again, 78 configuration error."
)


def run(argv: Sequence[str]) -> int:
    """Carry out a command line.

    Returns:
        The exit code (see `chappe.errors.Exit`); errors have been told on stderr, with the remedy.
    """
    known = COMMANDS.get(argv[0]) if argv else None
    parser = build_parser([known] if known else None)
    args = parser.parse_args(argv)
    if not hasattr(args, "run"):
        parser.print_help(sys.stderr)
        return 2
    try:
        code: int = args.run(args)
        # What waits in the buffer can still fail, and at exit nobody could answer for it.
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last place: told, and turned into an exit code
        from chappe.cli.failure import code_of

        return code_of(error)
    return code


def build_parser(modules: Iterable[str] | None = None) -> argparse.ArgumentParser:
    """The parser of every command; manual page and completion are made from it.

    Args:
        modules: import only these; None for all.
    """
    parser = argparse.ArgumentParser(
        prog="chappe",
        description="An edge daemon: gestures and sensors in, decisions and MQTT out.",
        epilog=EPILOG,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name in dict.fromkeys(COMMANDS.values() if modules is None else modules):
        importlib.import_module(f"chappe.cli.{name}").register(commands)
    return parser
