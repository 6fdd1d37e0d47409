"""``chappe status`` and ``chappe identify``: the running daemon is asked through its control socket."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from chappe.cli.answering import outcome
from chappe.cli.common import Commands, add_config_options, add_json_option, load_config, print_json
from chappe.cli.remedies import LINK, remedy
from chappe.errors import Exit


def register(commands: Commands) -> None:
    status = commands.add_parser("status", help="how the running daemon is: link, camera, signal, queue, faults")
    identify = commands.add_parser("identify", help="let the running daemon flash its status lamp for 15 s")
    for parser, function in ((status, run_status), (identify, run_identify)):
        add_config_options(parser)
        add_json_option(parser)
        parser.set_defaults(run=function)


def ask(args: argparse.Namespace, verb: str, body: Mapping[str, Any] | None = None) -> Any:
    """What the running daemon answers to a verb.

    Raises:
        LinkError: if no daemon answers, or not in time.
        ChappeError: if it refuses.
    """
    from chappe.assembly import control_folder
    from chappe.edge.control import SOCKET, call

    return outcome(call(control_folder(load_config(args).config) / SOCKET, verb, body))


def run_status(args: argparse.Namespace) -> int:
    """Print what the daemon says about itself."""
    status = ask(args, "status")
    if args.json:
        print_json(status)
        return Exit.OK
    for name, text in summary(status):
        print(f"{name:<9}{text}".rstrip())
    return Exit.OK


def run_identify(args: argparse.Namespace) -> int:
    """Let the status lamp flash."""
    answer = ask(args, "identify")
    if args.json:
        print_json(answer)
    else:
        print(f"the status lamp flashes for {answer['seconds']} s")
    return Exit.OK


def run_camera(args: argparse.Namespace) -> int:
    """Switch the camera on or off, as ``req/camera`` does; the daemon remembers it."""
    camera = ask(args, "camera", {"on": args.action == "on"})
    if args.json:
        print_json(camera)
    else:
        print(f"the camera is {_off_by(camera) or 'on'}")
    return Exit.OK


def summary(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A status document as lines for people: (name, text).

    Fields that a daemon of another version does not send are left empty.
    """
    info, health = status.get("info", {}), status.get("health", {})
    uptime = span(health.get("uptime_s", 0))
    yield "device", f"{status.get('device')}, chappe {info.get('version')}, up {uptime}, boot {info.get('boot')}"
    yield "state", str(status.get("state", ""))
    yield "link", _link(info, health.get("link", {}))
    yield "signal", str(status.get("signal", ""))
    yield "camera", _camera(info.get("camera", {}), health.get("camera", {}))
    yield "model", _model(info, health.get("inference", {}))
    yield "queue", _queue(health.get("queue", {}), health.get("streams", {}))
    yield "clock", "synchronised" if health.get("clock", {}).get("synced") else "not synchronised"
    yield "lamp", ", ".join(status.get("indicators", []))
    if info.get("restart_required"):
        yield "restart", f"required for {', '.join(info['restart_required'])}"
    faults = health.get("faults", [])
    yield "faults", "" if faults else "none"
    for fault in faults:
        yield "", f"{fault['part']}: {fault['code']}, for {span(fault['for_s'])}: {fault['message']}"
        yield "", f"  remedy: {remedy(fault['part'], fault['code'])}"


def _link(info: Mapping[str, Any], link: Mapping[str, Any]) -> str:
    protocol = f", MQTT {info['mqtt']}" if info.get("mqtt") else ""
    status = str(link.get("status"))
    told = f"{status} ({LINK[status]})" if status in LINK else status
    return f"{told}{protocol}, {link.get('reconnects')} reconnects, {link.get('offline_s')} s offline"


def _camera(about: Mapping[str, Any], camera: Mapping[str, Any]) -> str:
    if about.get("source") == "off":
        return "none configured"
    return f"{about.get('source')}, {_off_by(camera) or str(camera.get('fps')) + ' fps'}, {camera.get('frames')} frames"


def _off_by(camera: Mapping[str, Any]) -> str:
    by = camera.get("off_by")
    return f"switched off by {'the ' if by == 'owner' else 'a '}{by}" if by else ""


def _model(info: Mapping[str, Any], inference: Mapping[str, Any]) -> str:
    p50 = inference.get("p50_ms")
    return (info.get("model") or "none loaded") + (f", {p50:.1f} ms a frame" if p50 is not None else "")


def _queue(queue: Mapping[str, Any], streams: Mapping[str, Any]) -> str:
    waiting = (
        f"{queue.get('depth')} waiting, the oldest for {queue.get('oldest_s')} s" if queue.get("depth") else "empty"
    )
    dead = f", {queue['dead']} dead letters: see `chappe queue show --dead`" if queue.get("dead") else ""
    lost = sum(book.get("spilled", 0) + book.get("expired", 0) for book in streams.values())
    return waiting + dead + (f", {lost} given up since it was made" if lost else "")


def span(span_s: float) -> str:
    """Seconds for people.

    >>> span(7), span(3661), span(200_000)
    ('7 s', '1 h 1 min', '2 d 7 h')
    """
    whole = int(span_s)
    for size, name, below, lesser in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // below} {lesser}"
    return f"{whole} s"
