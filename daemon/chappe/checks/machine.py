"""Items about the machine: Python, the configuration, the state folder, the clock, the daemon."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from chappe.assembly import control_folder, state_folder
from chappe.checks.terms import Answer, Subject
from chappe.edge.control import SOCKET, call
from chappe.edge.host import SystemClock, clock_synced
from chappe.edge.store.audit import audit
from chappe.errors import LinkError

OLDEST_PYTHON = (3, 11)
FREE_SHARE = 0.05
FREE_BYTES = 16 * 1024 * 1024
VOLATILE = frozenset(("tmpfs", "ramfs", "overlay", "aufs"))
DAEMON_WITHIN_S = 3.0


def python(_: Subject) -> Answer:
    bits = 64 if sys.maxsize > 2**32 else 32
    text = f"Python {platform.python_version()}, {bits} bit, {platform.machine()}"
    if bits == 32:
        return "fail", text, "install a 64-bit system: there are no 32-bit builds of what chappe needs"
    if sys.version_info < OLDEST_PYTHON:
        return "fail", text, "install Python 3.11 or newer"
    return "pass", text


def config(subject: Subject) -> Answer:
    if subject.error is not None:
        return "fail", subject.error.message, subject.error.remedy
    assert subject.loaded is not None
    return "pass", ", ".join(layer.name for layer in subject.loaded.layers if layer.data) or "built-in defaults only"


def state_dir(subject: Subject) -> Answer:
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


def conservation(subject: Subject) -> Answer:
    """The books of the outbox: produced = delivered + elided + expired + spilled + queued, and queued is what lies there."""
    problems = audit(state_folder(subject.config), SystemClock())
    if problems:
        remedy = "write down what the consumers miss, and report this as a bug; `chappe queue show` tells what is there"
        return "fail", "; ".join(problems), remedy
    return "pass", "every value that was produced is accounted for"


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


def clock(_: Subject) -> Answer:
    if clock_synced():
        return "pass", "synchronised"
    return (
        "warn",
        'not synchronised: messages leave with "synced":false',
        "`timedatectl set-ntp true`, and look whether the time server is reached",
    )


def daemon(subject: Subject) -> Answer:
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
