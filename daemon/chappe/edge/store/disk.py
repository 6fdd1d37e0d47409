"""Room on the disk: the ballast that is given up first, how full the file system is, and which error means what.

On a full disk SQLite cannot even delete, as the log has to grow first. So a file of 4 MiB is really allocated while there is room; it is given
up when a commit fails for want of room, and what it held lets deletes through until there is room again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from pathlib import Path

from chappe.edge.store.folder import BALLAST, FILE, HISTORY
from chappe.errors import EdgeError

BALLAST_BYTES = 4 << 20
NO_ROOM = 1 << 20


class Disk:
    """The file system of the state folder.

    Args:
        folder: the state folder.
        limit: share of it that is to stay free.

    Attributes:
        spent: whether the ballast was given up, and is not there again.
    """

    def __init__(self, folder: Path, limit: float) -> None:
        self.limit = limit
        self._folder = folder
        self._ballast = folder / BALLAST
        self.spent = False

    @property
    def ballasted(self) -> bool:
        """Whether the ballast is there to be given up."""
        try:
            return self._ballast.stat().st_blocks * 512 >= BALLAST_BYTES
        except OSError:
            return False

    def room(self) -> tuple[int, int]:
        """Bytes free for this user, and bytes in all."""
        try:
            state = os.statvfs(self._folder)
        except OSError:
            return 0, 1
        return state.f_bavail * state.f_frsize, max(1, state.f_blocks * state.f_frsize)

    def free(self) -> float:
        """Share that is free, 0 to 1."""
        free, whole = self.room()
        return min(1.0, free / whole)

    @property
    def low(self) -> bool:
        """Whether less is free than should be."""
        return self.free() < self.limit

    def restore(self) -> bool:
        """Make the ballast where it is missing and there is room for it twice, beyond what is to stay free.

        Returns:
            Whether it is there.
        """
        if self.ballasted:
            self.spent = False
            return True
        free, whole = self.room()
        if free < 2 * BALLAST_BYTES + self.limit * whole:
            return False
        try:
            with self._ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)
        except OSError:
            self._remove()
            return False
        self.spent = False
        return True

    def may_grow(self) -> bool:
        """Whether anything may be added: the room that deletes need is never written on."""
        return self.restore() or (not self.spent and self.room()[0] > 2 * BALLAST_BYTES)

    def give_up(self) -> bool:
        """Remove the ballast.

        Returns:
            Whether that made room.
        """
        held = self.ballasted
        self.spent = True
        self._remove()
        return held

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self._ballast.unlink(missing_ok=True)

    def full(self, error: BaseException) -> bool:
        """Whether an error means that there is no room."""
        if isinstance(error, sqlite3.Error):
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            # SQLite's index of the log cannot grow either, and calls that an I/O error.
            starved = code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and self.room()[0] < NO_ROOM
            return code == sqlite3.SQLITE_FULL or starved
        return isinstance(error, OSError) and not isinstance(error, EdgeError) and error.errno in _NO_ROOM

    def code(self, error: BaseException, other: str) -> str:
        """The fault of an error: ``store_full``, or `other`."""
        return "store_full" if self.full(error) else other

    def used(self) -> int:
        """Bytes of the two databases with their logs."""
        total = 0
        for name in (FILE, HISTORY):
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    total += (self._folder / (name + suffix)).stat().st_size
        return total


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
