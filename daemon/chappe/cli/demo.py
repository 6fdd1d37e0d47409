"""``chappe demo``: everything, with nothing to plug in; ``chappe watch``: the broker from outside."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from chappe.cli.common import Commands, add_json_option, file_path, print_json
from chappe.cli.daemon import json_lines, serve, start_logging
from chappe.errors import Exit

if TYPE_CHECKING:
    from chappe.core.effects import Effect
    from chappe.demo.board import Scene
    from chappe.demo.view import Screen


def register(commands: Commands) -> None:
    demo = commands.add_parser("demo", help="gestures, lamps and a broker, with nothing to plug in")
    add_json_option(demo)
    demo.add_argument("--seconds", type=float, metavar="N", help="end after N seconds")
    demo.add_argument(
        "--broker", choices=("auto", "mosquitto", "amqtt"), default="auto", help="auto: mosquitto where it is installed"
    )
    demo.add_argument(
        "--camera",
        type=file_path,
        metavar="PLACE",
        help="your pictures: a folder or a pattern; or a webcam like /dev/video0",
    )
    demo.set_defaults(run=run_demo)
    watch = commands.add_parser("watch", help="print every message of a broker, topic and payload")
    watch.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1")
    watch.add_argument("--port", type=int, default=1883, help="default 1883")
    watch.add_argument("--topic", default="chappe/#", metavar="FILTER", help="default chappe/#")
    watch.add_argument("--username", default="", metavar="NAME")
    watch.add_argument("--password-file", metavar="FILE")
    add_json_option(watch)
    watch.set_defaults(run=run_watch)


def run_demo(args: argparse.Namespace) -> int:
    """Run the demo until Ctrl-C, SIGTERM or the end of ``--seconds``."""
    from chappe.demo.session import Session

    be_tolerant()
    kind = None if args.broker == "auto" else args.broker
    return Session(choose_screen(as_json=args.json), serve, broker=kind, camera=args.camera).run(args.seconds)


def run_watch(args: argparse.Namespace) -> int:
    """Print messages until Ctrl-C."""
    from chappe.assembly import secret
    from chappe.demo.watch import watch

    be_tolerant()
    show = show_json if args.json else show_line
    password = secret(args.password_file or "")
    with contextlib.suppress(KeyboardInterrupt):
        watch(args.host, args.port, args.topic, show, username=args.username, password=password)
    return Exit.OK


def be_tolerant() -> None:
    """Let a terminal of another character set show question marks where it would get a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def choose_screen(*, as_json: bool) -> Screen:
    """A picture in place on a terminal, JSON lines on request, plain lines elsewhere and without rich."""
    from chappe.demo.view import LiveView, PlainLines

    if not as_json and sys.stdout.isatty() and find_spec("rich") is not None:
        return LiveView()
    start_logging("warning")
    return JsonLines() if as_json else PlainLines(lambda line: print(line, flush=True))


class JsonLines:
    """One JSON object per published or decided event; the first says where the broker is."""

    curious = False

    def __init__(self) -> None:
        self._show = json_lines(print_json)

    def begin(self, scene: Scene) -> None:
        print_json({"event": "demo", "device": scene.device, "broker": scene.broker, "port": scene.port})

    def observe(self, effects: Sequence[Effect]) -> None:
        self._show(effects)

    def status(self, document: Mapping[str, Any] | None) -> None:
        """Nothing: whoever reads JSON can ask for it."""

    def end(self) -> None:
        """Nothing to take down."""


def show_line(topic: str, payload: bytes, retained: bool) -> None:
    """A message as mosquitto_sub -v prints it."""
    del retained
    print(topic, payload.decode("utf-8", "replace"), flush=True)


def show_json(topic: str, payload: bytes, retained: bool) -> None:
    """A message as a JSON object; a payload that is no JSON as text."""
    try:
        value = json.loads(payload)
    except ValueError:
        value = payload.decode("utf-8", "replace")
    print_json({"topic": topic, "retained": retained, "payload": value})
