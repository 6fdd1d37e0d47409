"""The state folder: names of files in it, and the lock that one daemon at a time holds."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from chappe.errors import BusyError

FILE = "chappe.db"
HISTORY = "history.db"
LOCK = "lock"
BLOBS = "blobs"
BALLAST = "ballast"

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def lock(folder: Path) -> int:
    """Hold the state folder against any other daemon; the lock ends with the process, however it ends.

    Returns:
        The descriptor that holds the lock.

    Raises:
        BusyError: if another process holds it.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise BusyError(
            f"another chappe daemon uses {folder}", remedy="stop it, or give this one its own device.state_dir"
        ) from error
    return descriptor


def kernel_boot(path: Path = BOOT_ID) -> str:
    """The kernel's boot id (random(4)): monotonic times of two boots of the daemon compare only under the same one."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
