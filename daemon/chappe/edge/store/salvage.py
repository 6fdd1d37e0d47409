"""A corrupt file is set aside, and everything legible in it goes into a new one; nothing is wiped.

The new file is complete before the old one gives way to it, so that a kill at any moment leaves either the old one to be salvaged
again, or the new one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

from chappe.core.units import SECOND, WallNs
from chappe.edge.store.codec import corrupt_code
from chappe.edge.store.database import Database
from chappe.edge.store.folder import sync_folder
from chappe.edge.store.pages import Pages, log_broken

SIDES = ("", "-wal", "-shm")

D = TypeVar("D", bound=Database)


class BrokenLogError(OSError):
    """A log is there that SQLite would take for empty, and write over."""


class Rescue(NamedTuple):
    """What became of a corrupt file.

    Attributes:
        path: where it is now.
        rows: rows salvaged.
        missing: how many more there were by the books.
    """

    path: Path
    rows: int
    missing: int


def rescue(path: Path, wall: WallNs, make: Callable[[Path], D], carry: Callable[[Pages, D], tuple[int, int]]) -> Rescue:
    """Put a new file with everything legible in the place of a corrupt one.

    Args:
        path: the corrupt file; nobody has it open.
        wall: names the old file.
        make: an empty file of the same tables.
        carry: carries over what is legible; returns how many rows were, and how many were not.

    Raises:
        OSError, sqlite3.Error: if not even an empty new file can be made.
    """
    fresh = path.with_name(path.name + ".salvage")
    discard(fresh)
    old, new = Pages(path), make(fresh)
    try:
        old.open()
        new.open()
        # Nobody relies on the new file before it has the old one's name; one fsync at the end is enough.
        new.link.execute("PRAGMA synchronous=OFF")
        rows, missing = carry(old, new)
        new.link.execute("PRAGMA synchronous=FULL")
        new.link.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        old.close()
        new.close()
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    aside = set_aside(path, wall)
    fresh.rename(path)
    sync_folder(path.parent)
    return Rescue(aside, rows, missing)


def set_aside(path: Path, wall: WallNs) -> Path:
    """Rename a file, its log and the log's index."""
    stamp = f"{datetime.fromtimestamp(wall // SECOND, UTC):%Y%m%dT%H%M%SZ}"
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.corrupt-{stamp}-{number}")
    for side in SIDES:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{side}").rename(f"{aside}{side}")
    sync_folder(path.parent)
    return aside


def prepare(path: Path, wall: WallNs) -> None:
    """Before a file is opened: finish, or forget, a salvage that a kill interrupted, and look at its log.

    Raises:
        BrokenLogError: if the log was never written by SQLite.
    """
    adopt(path, wall)
    log = Path(f"{path}-wal")
    if log_broken(log):
        raise BrokenLogError(f"{log} is no log")


def unreadable(error: BaseException) -> bool:
    """Whether an error says that a file is not what was written."""
    return isinstance(error, BrokenLogError) or corrupt_code(error)


def adopt(path: Path, wall: WallNs) -> None:
    """Finish, or forget, a salvage that a kill interrupted."""
    fresh = path.with_name(path.name + ".salvage")
    if path.exists() or not fresh.exists():
        discard(fresh)
        return
    # The log of the old file must never meet the new one.
    set_aside(path, wall)
    fresh.rename(path)
    sync_folder(path.parent)


def discard(path: Path) -> None:
    """Remove a file with its log."""
    for side in SIDES:
        Path(f"{path}{side}").unlink(missing_ok=True)
