"""``chappe gpio test``, ``sensor read``, ``camera snap | on | off``: try one device, without the daemon where the device is one's own."""

from __future__ import annotations

import argparse
import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chappe.cli.common import Commands, add_config_options, add_json_option, load_config, print_json
from chappe.cli.live import run_camera
from chappe.errors import BusyError, CameraError, ChappeError, EdgeError, Exit, UsageError

if TYPE_CHECKING:
    from chappe.core.settings import Config
    from chappe.edge.slot import Pixels

PICTURES = (".jpg", ".jpeg", ".png")
FIRST_FRAME_S = 5.0
SETTLE_S = 1.0
"""How long a live camera gets to find exposure and white balance."""

wait = threading.Event().wait


def register(commands: Commands) -> None:
    _register_gpio(commands)
    _register_sensor(commands)
    _register_camera(commands)


def _register_gpio(commands: Commands) -> None:
    parser = commands.add_parser("gpio", help="try the pins")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    test = actions.add_parser("test", help="pulse each lamp and output for half a second; the daemon must be stopped")
    test.add_argument(
        "names", nargs="*", metavar="NAME", help="only these, for example status or the name of an output"
    )
    _finish(test, run_gpio_test)


def _register_sensor(commands: Commands) -> None:
    parser = commands.add_parser("sensor", help="try a sensor")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    read = actions.add_parser("read", help="read a sensor once and print its calibrated value")
    read.add_argument("name", metavar="NAME", help="name of the sensor in the configuration")
    _finish(read, run_sensor_read)


def _register_camera(commands: Commands) -> None:
    parser = commands.add_parser("camera", help="try the camera, or switch it on and off")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")
    snap = actions.add_parser("snap", help="take one frame into a file; the daemon must be stopped")
    snap.add_argument("-o", "--output", type=Path, default=Path("snap.jpg"), metavar="FILE", help="a .jpg or .png file")
    _finish(snap, run_snap)
    for word in ("on", "off"):
        _finish(actions.add_parser(word, help=f"let the running daemon switch the camera {word}"), run_camera)


def _finish(parser: argparse.ArgumentParser, function: Any) -> None:
    add_config_options(parser)
    add_json_option(parser)
    parser.set_defaults(run=function)


@contextlib.contextmanager
def stopped_daemon(config: Config) -> Iterator[Mapping[str, Any]]:
    """While this lasts no daemon starts with this configuration; gives what the last one remembered.

    Raises:
        BusyError: if one is running.
        StoreError: if the state folder cannot be used.
    """
    from chappe.assembly import state_folder
    from chappe.edge.host import SystemClock
    from chappe.edge.store import FILE, Store

    folder = state_folder(config)
    if not (folder / FILE).exists():
        yield {}
        return
    store = Store(folder, SystemClock(), lambda _: None)
    try:
        store.open()
    except BusyError as error:
        raise BusyError("the daemon is running and has the devices", remedy="stop it first") from error
    try:
        yield store.memory()
    finally:
        store.close()


# ── gpio test ────────────────────────────────────────────────────────────────────────────────────────────────────────


def run_gpio_test(args: argparse.Namespace) -> int:
    """Pulse pins, one after the other.

    Raises:
        EdgeError: if there is no GPIO chip, or a pin cannot be had or driven.
        UsageError: if a name is none of the configured ones.
    """
    from chappe.core.events import Event, Faulted
    from chappe.edge.gpio import Gpio
    from chappe.edge.host import SystemClock

    config = load_config(args).config
    events: list[Event] = []
    with stopped_daemon(config):
        gpio = Gpio(config.indicators, config.outputs, {}, clock=SystemClock(), post=events.append)
        with contextlib.closing(gpio):
            gpio.open()
            for event in events:
                if isinstance(event, Faulted):
                    raise EdgeError(event.message, remedy="`chappe check` says more", code=event.code)
            _pulse(gpio, args)
    return Exit.OK


def _pulse(gpio: Any, args: argparse.Namespace) -> None:
    pins = gpio.pins()
    if not pins:
        raise ChappeError("no lamp and no output is configured", remedy="name pins in [indicators] or [outputs.NAME]")
    for name in args.names:
        if name not in pins:
            raise UsageError(f"there is no pin {name!r} to drive", remedy=f"there are {', '.join(pins)}")
    for name in args.names or pins:
        gpio.pulse(name, wait)
        if args.json:
            print_json({"name": name, "pin": pins[name]})
        else:
            print(f"{name}: pulsed pin {pins[name]}", flush=True)


# ── sensor read ──────────────────────────────────────────────────────────────────────────────────────────────────────


def run_sensor_read(args: argparse.Namespace) -> int:
    """Read one sensor.

    Raises:
        UsageError: if no sensor of that name is configured.
        SensorError: if it cannot be read.
    """
    from chappe.edge.sensors import read_once

    sensors = load_config(args).config.sensors
    if args.name not in sensors:
        known = f"configured are {', '.join(sensors)}" if sensors else "no sensor is configured: add [sensors.NAME]"
        raise UsageError(f"there is no sensor {args.name!r}", remedy=known)
    value, unit = read_once(sensors[args.name])
    if args.json:
        print_json({"name": args.name, "value": value, "unit": unit})
    else:
        print(f"{value} {unit}".rstrip())
    return Exit.OK


# ── camera snap ──────────────────────────────────────────────────────────────────────────────────────────────────────


def run_snap(args: argparse.Namespace) -> int:
    """Take one frame.

    Raises:
        ChappeError: if the camera is switched off.
        CameraError: if it cannot be opened, or brings no frame.
        EdgeError: if the privacy lamp cannot be lit, or the file not be written.
    """
    from chappe.core.parts.eyes import MEMORY

    if args.output.suffix.lower() not in PICTURES:
        raise UsageError(f"{args.output} is no name of a picture", remedy=f"let it end in {', '.join(PICTURES)}")
    config = load_config(args).config
    with stopped_daemon(config) as memory:
        by = memory.get(MEMORY)
        if by:
            raise ChappeError(f"the camera was switched off ({by})", remedy="start the daemon and switch it on there")
        pixels = _frame(config)
    _save(pixels, args.output)
    height, width = pixels.shape[:2]
    if args.json:
        print_json({"file": str(args.output), "width": width, "height": height, "source": config.camera.source})
    else:
        print(f"{args.output}: {width}x{height} from {config.camera.source}")
    return Exit.OK


def _frame(config: Config) -> Pixels:
    """One frame; of a live camera with the privacy lamp lit for as long as it is open."""
    from chappe.edge.gpio import Gpio
    from chappe.edge.host import SystemClock
    from chappe.edge.sources import make

    clock = SystemClock()
    source = make(config.camera, clock)
    with contextlib.ExitStack() as stack:
        if source.live:
            lit = type(config.indicators)(privacy=config.indicators.privacy)
            gpio = stack.enter_context(contextlib.closing(Gpio(lit, {}, {}, clock=clock, post=lambda _: None)))
            gpio.open()
            lamp = gpio.privacy_lamp()
            if lamp is not None:
                lamp.on()
        source.open()
        stack.callback(source.close)
        return _settled(source, clock)


def _settled(source: Any, clock: Any) -> Pixels:
    from chappe.core.units import SECOND, seconds

    begun = clock.now()
    while True:
        reading = source.read(clock.now())
        passed = clock.now() - begun
        if reading.pixels is not None and (not source.live or passed >= seconds(SETTLE_S)):
            pixels: Pixels = reading.pixels
            return pixels
        if passed >= seconds(FIRST_FRAME_S) or reading.over:
            raise CameraError("the camera is open but brings no frame", remedy="look at its cable, and try again")
        wait(max(0, reading.due - clock.now()) / SECOND)


def _save(pixels: Pixels, output: Path) -> None:
    try:
        from PIL import Image

        Image.fromarray(pixels).save(output, quality=90)
    except ImportError as error:
        raise EdgeError(f"pictures need Pillow: {error}", remedy="pip install 'chappe[litert]'") from error
    except OSError as error:
        raise EdgeError(f"{output} cannot be written: {error.strerror or error}", remedy="name another file") from error
