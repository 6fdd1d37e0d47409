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
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from chappe.config import Loaded
from chappe.core.settings import Config
from chappe.core.units import SECOND, Span, as_seconds
from chappe.errors import ChappeError, ConfigError, EdgeError, LinkError, SensorError

if TYPE_CHECKING:
    from chappe.core.events import LinkUp
    from chappe.edge.mqtt.terms import Failure

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
    where = f"{config.mqtt.host}:{config.mqtt.port}"
    failure = _dial(config)
    answer = failure or _connect(config)
    if isinstance(answer, str):
        return "fail", f"{where} does not complete the connection: {answer}", _BROKER_REMEDIES["refused"]
    if not hasattr(answer, "protocol"):
        return "fail", answer.reason, _BROKER_REMEDIES.get(answer.status, "look into the broker's log")
    if answer.protocol == "3.1.1":
        return (
            "warn",
            f"{where} speaks MQTT 3.1.1 only: a forbidden publish looks successful",
            "use a broker with MQTT 5, or make sure that its access list lets this device publish",
        )
    return "pass", f"{where}, MQTT {answer.protocol}"
