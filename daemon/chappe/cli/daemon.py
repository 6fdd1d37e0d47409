"""``chappe run``: the daemon in the foreground, as systemd and people start it."""

from __future__ import annotations

import argparse
import faulthandler
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chappe.cli.common import Commands, add_config_options, add_json_option, load_config, print_json

if TYPE_CHECKING:
    from chappe.core.effects import Effect
    from chappe.run import Daemon

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def register(commands: Commands) -> None:
    parser = commands.add_parser("run", help="run the daemon in the foreground")
    add_config_options(parser)
    add_json_option(parser)
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="write every event and its effects to FILE, for replay"
    )
    parser.add_argument("--seconds", type=float, metavar="N", help="stop cleanly after N seconds")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM, SIGINT or the end of ``--seconds``."""
    from chappe.run import Daemon

    faulthandler.enable()
    loaded = load_config(args)
    start_logging(loaded.config.log.level)
    observe = json_lines(print_json) if args.json else log_lines()
    daemon = Daemon(loaded, record=args.record, observe=observe, reload=lambda: load_config(args))
    return serve(daemon, args.seconds)


def serve(daemon: Daemon, seconds: float | None) -> int:
    """Run a daemon with this process's signals, for at most `seconds`."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.request_stop())
    signal.signal(signal.SIGHUP, lambda *_: daemon.request_reload())
    timer = threading.Timer(seconds, daemon.request_stop) if seconds is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        return daemon.run()
    finally:
        if timer is not None:
            timer.cancel()


def start_logging(level: str) -> None:
    """Log to stderr, in the form that journald reads priorities from."""
    logging.basicConfig(level=LEVELS[level], stream=sys.stderr, format="<%(priority)d>%(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(_priority)
    # APScheduler tells every run at info level; the engine announces what matters.
    logging.getLogger("apscheduler").setLevel(logging.WARNING)


def _priority(record: logging.LogRecord) -> bool:
    """The syslog priorities that journald reads (sd-daemon(3)): 3 error, 4 warning, 6 info, 7 debug."""
    bounds = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
    record.priority = next((priority for bound, priority in bounds if record.levelno >= bound), 7)
    return True


def json_lines(write: Callable[[dict[str, Any]], None]) -> Callable[[Sequence[Effect]], None]:
    """An observer that writes one JSON object per published or decided event."""
    import msgspec

    from chappe.core.effects import Announce, Publish

    def observe(effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Announce):
                write({"event": effect.kind, **effect.data})
            elif isinstance(effect, Publish):
                payload = msgspec.json.decode(effect.payload) if effect.payload else None
                write({"event": "published", "topic": effect.topic, "retain": effect.retain, "payload": payload})

    return observe


def log_lines() -> Callable[[Sequence[Effect]], None]:
    """An observer that logs decisions; faults as warnings."""
    from chappe.core.effects import Announce

    log = logging.getLogger("chappe")

    def observe(effects: Sequence[Effect]) -> None:
        for effect in effects:
            # The figures of every minute are for the metrics file, not for the journal.
            if isinstance(effect, Announce) and effect.kind != "health":
                level = logging.WARNING if effect.kind == "fault" and not effect.data["healed"] else logging.INFO
                log.log(level, "%s %s", effect.kind, " ".join(f"{key}={value}" for key, value in effect.data.items()))

    return observe
