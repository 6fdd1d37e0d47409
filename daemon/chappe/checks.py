"""What ``chappe check`` looks at: one small function per item, in a table.

An item answers with a `Finding`; a `ChappeError` or `OSError` out of it is the finding ``fail`` with that error's words. What an item
needs is imported inside it, so that a broken library fails its own item and no other.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import queue
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from chappe.config import Loaded
from chappe.core.settings import Config
from chappe.core.units import SECOND, Ns, Span, as_seconds, seconds
from chappe.errors import ChappeError, ConfigError, EdgeError, LinkError, SensorError

if TYPE_CHECKING:
    from chappe.core.events import Event

Status = Literal["pass", "warn", "fail", "skip"]

OLDEST_PYTHON = (3, 11)
FREE_SHARE = 0.05
FREE_BYTES = 16 * 1024 * 1024
VOLATILE = frozenset(("tmpfs", "ramfs", "overlay", "aufs"))
DAEMON_WITHIN_S = 3.0
AFTER_REFUSAL_S = 3.0
"""A broker that closes without a CONNACK is asked again after a second and a half at most, and then with MQTT 3.1.1."""


@dataclass(frozen=True)
class Finding:
    """What was found out about one item.

    Attributes:
        id: the item.
        status: ``skip`` where the item does not apply; `text` says why.
        text: what is so, in a sentence; every problem on a line of its own.
        remedy: what the owner can do.
    """

    id: str
    status: Status
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Subject:
    """What is looked at.

    Attributes:
        loaded: the configuration, None where it is wrong.
        error: what is wrong with it.
    """

    loaded: Loaded | None = None
    error: ConfigError | None = None

    @property
    def config(self) -> Config:
        """The configuration of an item that is only looked at where there is one."""
        assert self.loaded is not None, "this item needs a configuration"
        return self.loaded.config


Answer = tuple[Status, str] | tuple[Status, str, str]
"""Status, text and, where there is one, remedy."""


@dataclass(frozen=True)
class Item:
    """One thing to look at.

    Attributes:
        id: its name in output and for ``--skip``.
        about: what it looks at, for ``--list``.
        look: looks.
        configured: whether it can only be looked at with a valid configuration.
    """

    id: str
    about: str
    look: Callable[[Subject], Answer]
    configured: bool = True


def run_checks(
    load: Callable[[], Loaded],
    *,
    skip: Collection[str] = (),
    seen: Callable[[Finding], None] | None = None,
) -> list[Finding]:
    """Look at every item, in the order of the table.

    Args:
        load: reads the configuration.
        skip: ids of items to leave out.
        seen: is shown each finding as soon as it is there.
    """
    subject = _subject(load)
    findings = []
    for item in ITEMS:
        if item.id not in skip:
            finding = _look(item, subject)
            findings.append(finding)
            if seen is not None:
                seen(finding)
    return findings


def _subject(load: Callable[[], Loaded]) -> Subject:
    try:
        return Subject(load())
    except ConfigError as error:
        return Subject(error=error)


def _look(item: Item, subject: Subject) -> Finding:
    if item.configured and subject.loaded is None:
        return Finding(item.id, "skip", "needs a correct configuration")
    try:
        return Finding(item.id, *item.look(subject))
    except ChappeError as error:
        return Finding(item.id, "fail", error.message, error.remedy)
    except OSError as error:
        return Finding(item.id, "fail", str(error))


# ── the machine ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _python(_: Subject) -> Answer:
    bits = 64 if sys.maxsize > 2**32 else 32
    text = f"Python {platform.python_version()}, {bits} bit, {platform.machine()}"
    if bits == 32:
        return "fail", text, "install a 64-bit system: there are no 32-bit builds of what chappe needs"
    if sys.version_info < OLDEST_PYTHON:
        return "fail", text, "install Python 3.11 or newer"
    return "pass", text


def _config(subject: Subject) -> Answer:
    if subject.error is not None:
        return "fail", subject.error.message, subject.error.remedy
    assert subject.loaded is not None
    return "pass", ", ".join(layer.name for layer in subject.loaded.layers if layer.data) or "built-in defaults only"


def _state_dir(subject: Subject) -> Answer:
    from chappe.assembly import state_folder

    folder = state_folder(subject.config)
    place = next(path for path in (folder, *folder.parents) if path.exists())
    remedy = "make it writable for this user, or set device.state_dir"
    if not place.is_dir():
        return "fail", f"{place} is no folder", remedy
    if not os.access(place, os.W_OK | os.X_OK):
        return "fail", f"{place} cannot be written by this user", remedy
    if place == folder:
        # Permissions do not tell of a read-only or full disk, a file does.
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"chappe")
    return _room(folder, place)


def _room(folder: Path, place: Path) -> Answer:
    usage, kind = shutil.disk_usage(place), file_system(place)
    text = f"{folder}: {usage.free / 1e6:,.0f} MB free"
    if usage.free < FREE_BYTES:
        return "fail", text, "free some space on this disk"
    if kind in VOLATILE:
        return (
            "warn",
            f"{folder} is on {kind}: it does not outlive a power cut",
            "put device.state_dir on a disk of its own",
        )
    if usage.free < FREE_SHARE * usage.total:
        return "warn", f"{text}, less than 5 % of the disk", "free some space on this disk"
    return "pass", text


def file_system(path: Path) -> str:
    """Type of the file system that holds `path`, ``unknown`` where /proc does not tell (proc_pid_mountinfo(5))."""
    best, kind = "", "unknown"
    real = str(path.resolve())
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            left, _, right = line.partition(" - ")
            mount = left.split()[4].replace("\\040", " ")
            inside = real == mount or real.startswith(mount.rstrip("/") + "/")
            # Of several mounts on one place the last one is in force.
            if inside and len(mount) >= len(best):
                best, kind = mount, right.split()[0]
    return kind


def _clock(_: Subject) -> Answer:
    from chappe.edge.host import clock_synced

    if clock_synced():
        return "pass", "synchronised"
    return (
        "warn",
        'not synchronised: messages leave with "synced":false',
        "`timedatectl set-ntp true`, and look whether the time server is reached",
    )


def _daemon(subject: Subject) -> Answer:
    from chappe.assembly import control_folder
    from chappe.edge.control import SOCKET, call

    path = control_folder(subject.config) / SOCKET
    try:
        answer = call(path, "status", timeout_s=DAEMON_WITHIN_S)
    except LinkError as error:
        return _no_daemon(error)
    data = answer.get("data", {})
    faults = data.get("health", {}).get("faults", [])
    if faults:
        text = "\n".join(f"{fault['part']}: {fault['code']}: {fault['message']}" for fault in faults)
        return "warn", f"it runs with faults\n{text}", "look at the items of these parts"
    return "pass", f"it runs, {data.get('state', 'state unknown')}"


def _no_daemon(error: LinkError) -> Answer:
    if isinstance(error.__cause__, PermissionError):
        return "warn", "it may not be asked by this user", "`sudo usermod -aG chappe $USER`, then log in again"
    if isinstance(error.__cause__, FileNotFoundError | ConnectionRefusedError):
        return "skip", "it does not run with this configuration"
    return "fail", error.message, "look into its journal, and restart it"


# ── the broker ───────────────────────────────────────────────────────────────────────────────────────────────────────

_BROKER_REMEDIES = {
    "no_network": "check mqtt.host, the cable or the WLAN, and the name server",
    "refused": "check mqtt.host and mqtt.port, and whether the broker runs and listens there",
    "auth_failed": "check mqtt.username, mqtt.password_file and the broker's list of users",
    "tls_untrusted": "check mqtt.ca_file, and the name in the broker's certificate",
    "captive_portal_suspected": "log in to this network, or ask for a way around its portal",
}


def _broker(subject: Subject) -> Answer:
    config = subject.config
    _dial(config)
    protocol, where = _connect(config), f"{config.mqtt.host}:{config.mqtt.port}"
    if protocol == "3.1.1":
        return (
            "warn",
            f"{where} is spoken to in MQTT 3.1.1: a forbidden publish looks successful",
            "use a broker with MQTT 5, or make sure that its access list lets this device publish",
        )
    return "pass", f"{where}, MQTT {protocol}"


def _dial(config: Config) -> None:
    """Name, TCP and TLS.

    Raises:
        LinkError: if one of these fails.
    """
    from chappe.assembly import secret
    from chappe.edge.host import SystemClock
    from chappe.edge.mqtt.dial import Dial, Dialled
    from chappe.edge.mqtt.terms import Failure

    answers: queue.SimpleQueue[Dialled | Failure] = queue.SimpleQueue()
    dial = Dial(
        config.mqtt,
        password=lambda: secret(config.mqtt.password_file),
        clock=SystemClock(),
        done=lambda _, outcome: answers.put(outcome),
    )
    dial.start()
    try:
        outcome = answers.get(timeout=2 * as_seconds(config.mqtt.connect_timeout))
    except queue.Empty:
        dial.cancel()
        raise _refusal("no_network", f"the name {config.mqtt.host!r} is not resolved in time") from None
    if isinstance(outcome, Failure):
        raise _refusal(outcome.status, outcome.reason)
    outcome.sock.close()


def _connect(config: Config) -> str:
    """Connect once as a client of its own, which subscribes to nothing and leaves no session; returns the protocol.

    Raises:
        LinkError: if the broker does not let us in.
    """
    import msgspec

    from chappe.assembly import secret
    from chappe.core.events import Event
    from chappe.core.topics import Topics
    from chappe.edge.host import SystemClock
    from chappe.edge.mqtt import MqttLink

    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    topics = Topics(config.mqtt.prefix, config.device.id)
    link = MqttLink(
        msgspec.structs.replace(config.mqtt, session_expiry=Span(0)),
        client_id=f"{config.mqtt.prefix}-{config.device.id}-check",
        subscriptions=(),
        request_prefix=topics.req(""),
        # A link has a will. Should this process be killed while it is connected, this one says nothing and stays nowhere.
        will=(f"{topics.root}/check", b""),
        clock=SystemClock(),
        post=events.put,
        post_many=lambda batch: [events.put(event) for event in batch] and None,
        password=lambda: secret(config.mqtt.password_file),
        jitter=random.Random(),  # noqa: S311 - spreads attempts, no secret
    )
    with link:
        protocol = _await_link(events, as_seconds(config.mqtt.connect_timeout))
        link.disconnect()
    return protocol


def _await_link(events: queue.SimpleQueue[Event], timeout_s: float) -> str:
    from chappe.core.events import LinkDown, LinkUp
    from chappe.edge.host import SystemClock

    clock, last = SystemClock(), LinkDown(at=Ns(0), status="refused", reason="no answer to the CONNECT in time")
    deadline = clock.now() + seconds(2 * timeout_s + AFTER_REFUSAL_S)
    while (left := deadline - clock.now()) > 0:
        try:
            event = events.get(timeout=left / SECOND)
        except queue.Empty:
            break
        if isinstance(event, LinkUp):
            return event.protocol
        if isinstance(event, LinkDown) and event.status not in ("connecting", "off"):
            last = event
            deadline = min(deadline, clock.now() + (seconds(AFTER_REFUSAL_S) if event.status == "refused" else 0))
    raise _refusal(last.status, last.reason)


def _refusal(status: str, reason: str) -> LinkError:
    return LinkError(reason, remedy=_BROKER_REMEDIES.get(status, "look into the broker's log"))


# ── vision ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_NO_CAMERA = 'no camera is configured (camera.source = "off")'
_RUNTIMES = ("ai_edge_litert", "tflite_runtime")
_LIVE = ("picamera2", "v4l2")


def _blind(subject: Subject) -> bool:
    return subject.loaded is not None and subject.config.camera.source == "off"


def _tflite(subject: Subject) -> Answer:
    if _blind(subject) and not any(map(importlib.util.find_spec, _RUNTIMES)):
        return "skip", f"not installed, and {_NO_CAMERA}"
    try:
        from chappe.vision.runtime import find_runtime
    except ImportError as error:
        return "fail", f"vision needs numpy: {error}", "pip install 'chappe[litert]'"
    runtime = find_runtime()
    refused = "".join(f"\n{name} is not used: {reason}" for name, reason in runtime.refused)
    return "pass", f"{runtime.name} {runtime.version}{refused}"


def _models(subject: Subject) -> Answer:
    from chappe.assembly import state_folder
    from chappe.edge.models import PULL_REMEDY, load_manifests, manifest_of, search_dirs, verify

    if _blind(subject):
        return "skip", _NO_CAMERA
    config = subject.config
    manifest = manifest_of(config.vision.model, load_manifests())
    configured = Path(config.models.dir) if config.models.dir else None
    findings = verify([manifest], search_dirs(configured, state_dir=state_folder(config)))
    bad = [f"{one.path or one.file.file}: {one.wrong or 'missing'}" for one in findings if not one.ok]
    if bad:
        return "fail", "\n".join(bad), PULL_REMEDY
    return "pass", f"{manifest.model_id}: {len(findings)} files are the right ones"


def _camera(subject: Subject) -> Answer:
    from chappe.edge.sources import probe

    if _blind(subject):
        return "skip", _NO_CAMERA
    camera = subject.config.camera
    probe(camera)
    place = {"files": camera.path, "v4l2": camera.device}.get(camera.source, "")
    return "pass", f"{camera.source} {place}".rstrip()


def _privacy(subject: Subject) -> Answer:
    lamp = subject.config.indicators.privacy
    if subject.config.camera.source not in _LIVE:
        return "skip", "no live camera is configured"
    if lamp is False:
        return "warn", "by the owner's word this device has no privacy lamp", "fit one, and name its pin"
    if lamp is None:
        remedy = "set [indicators] privacy to the pin of its lamp, or to false if there is none"
        return "warn", "no privacy lamp is configured: nobody can see that the camera is open", remedy
    return "pass", f"lit on pin {lamp} while the camera is open"


# ── pins and sensors ─────────────────────────────────────────────────────────────────────────────────────────────────


def _gpio(subject: Subject) -> Answer:
    from chappe.edge.gpio import pin_factory

    config = subject.config
    lamps = [getattr(config.indicators, name) for name in ("status", "privacy", "green", "red", "blue")]
    count = sum(pin is not None and pin is not False for pin in lamps) + len(config.buttons) + len(config.outputs)
    if not count:
        return "skip", "no pin is configured"
    try:
        factory = pin_factory()
    except EdgeError as error:
        if config.camera.source in _LIVE and config.indicators.privacy:
            return "fail", f"{error.message}: the camera stays closed, as its lamp cannot be lit", error.remedy
        return "warn", f"{error.message}: {count} pins are simulated", error.remedy
    factory.close()
    return "pass", f"{count} pins, by {type(factory).__name__}"


def _sensors(subject: Subject) -> Answer:
    from chappe.edge.sensors import read_once

    sensors = subject.config.sensors
    if not sensors:
        return "skip", "no sensor is configured"
    good, bad, remedies = [], [], []
    for name, sensor in sensors.items():
        try:
            value, unit = read_once(sensor)
            good.append(f"{name} {value} {unit}".rstrip())
        except SensorError as error:
            bad.append(f"{name}: {error.message}")
            remedies.append(error.remedy)
    if bad:
        return "fail", "\n".join(bad), "; ".join(filter(None, dict.fromkeys(remedies))) or "check the wiring and `path`"
    return "pass", ", ".join(good)


def _elision(subject: Subject) -> Answer:
    from chappe.core.streams import all_specs

    elided = {name: spec.elide for name, spec in all_specs(subject.config).items() if spec.elide}
    if not elided:
        return "skip", "no stream is elided"
    lossy = [name for name, elide in elided.items() if elide.policy == "throttle_first"]
    if lossy:
        text = "\n".join(f"streams.{name}: throttle_first may lose the final value" for name in lossy)
        return "warn", text, 'use policy "latest", which always sends the final value'
    return "pass", ", ".join(f"{name} {elide.policy}" for name, elide in elided.items())


ITEMS: tuple[Item, ...] = (
    Item("python", "Python's version and word size", _python, configured=False),
    Item("config", "every key of every layer", _config, configured=False),
    Item("state_dir", "the state folder: writable, on a real disk, with room", _state_dir),
    Item("clock", "whether the clock is synchronised", _clock, configured=False),
    Item("daemon", "whether the daemon runs, and its faults", _daemon),
    Item("broker", "name, TCP, TLS and MQTT up to the broker's answer", _broker),
    Item("tflite", "a runtime for the hand models that really computes", _tflite, configured=False),
    Item("models", "the files of the hand model, by their hashes", _models),
    Item("camera", "whether the camera could be opened", _camera),
    Item("privacy", "the lamp that shows that the camera is open", _privacy),
    Item("gpio", "the pins of lamps, buttons and outputs", _gpio),
    Item("sensors", "one reading of each sensor", _sensors),
    Item("elision", "policies that may lose a final value", _elision),
)
