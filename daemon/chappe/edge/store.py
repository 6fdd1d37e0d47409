"""The state folder: one daemon at a time, and what must outlive a boot, in SQLite with one writer thread.

WAL with ``synchronous=FULL``: a commit that has returned survives a power cut (WAL with NORMAL loses the tail since the last
checkpoint). Statements on the hot path are plain sqlite3; sqlite-utils makes and migrates the tables, and is only imported then.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chappe.core.effects import Effect, Remember
from chappe.core.events import Faulted, Healed
from chappe.core.units import SECOND, Ns
from chappe.edge.host import Clock
from chappe.edge.worker import Post, Worker
from chappe.errors import BusyError, StoreError

SCHEMA = 1
FILE = "chappe.db"
LOCK = "lock"


class Store:
    """What the daemon keeps on disk.

    Args:
        folder: the state folder; made when it is missing.
        clock: stamps faults.
        post: takes faults.
    """

    def __init__(self, folder: Path, clock: Clock, post: Post) -> None:
        self._folder = folder
        self._clock = clock
        self._post = post
        self._lock = -1
        self._base: sqlite3.Connection | None = None
        self._todo: deque[Remember] = deque()
        self._failing = False
        self._worker = Worker("store", self._step, clock=clock, post=post)

    def open(self) -> None:
        """Take the lock, open the file, bring its tables up to date, start the writer.

        Raises:
            BusyError: if another daemon has the folder.
            StoreError: if the folder cannot be written.
        """
        try:
            self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._lock = lock(self._folder)
            self._base = sqlite3.connect(self._folder / FILE, isolation_level=None, check_same_thread=False)
            self._base.execute("PRAGMA auto_vacuum=INCREMENTAL")
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=FULL")
            migrate(self._base)
        except (OSError, sqlite3.Error) as error:
            self.close()
            if isinstance(error, BusyError):
                raise
            raise StoreError(
                f"the state folder {self._folder} cannot be used: {error}",
                remedy="make it writable for this user, or set device.state_dir",
            ) from error
        self._worker.start()

    def memory(self) -> dict[str, Any]:
        """Everything that was remembered."""
        assert self._base is not None, "open() comes first"
        return {key: json.loads(value) for key, value in self._base.execute("SELECT key, value FROM memory")}

    def handle(self, effects: Sequence[Effect]) -> None:
        """Take in what is to be remembered; the writer commits it."""
        self._todo.extend(effect for effect in effects if isinstance(effect, Remember))
        self._worker.wake()

    def _step(self, now: Ns) -> Ns | None:
        items = []
        while self._todo:
            items.append(self._todo.popleft())
        if items:
            try:
                self._commit(items)
            except sqlite3.Error as error:
                # Nothing is forgotten: the items wait at the front and are tried again.
                self._todo.extendleft(reversed(items))
                self._failing = True
                self._post(Faulted(at=now, part="store", code="store_failed", message=str(error)))
                return Ns(now + SECOND)
            if self._failing:
                self._failing = False
                self._post(Healed(at=now, part="store", code="store_failed"))
        return None

    def _commit(self, items: Sequence[Remember]) -> None:
        assert self._base is not None, "open() comes first"
        rows = [(item.key, json.dumps(item.value)) for item in items]
        self._base.execute("BEGIN IMMEDIATE")
        try:
            self._base.executemany("INSERT OR REPLACE INTO memory (key, value) VALUES (?, ?)", rows)
            self._base.execute("COMMIT")
        except sqlite3.Error:
            self._base.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Write what waits, close the file, give the lock back."""
        self._worker.stop()
        if self._base is not None:
            if self._todo:
                self._step(self._clock.now())
            self._base.close()
            self._base = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


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


def migrate(base: sqlite3.Connection) -> None:
    """Bring the tables up to `SCHEMA`. Migrations only add, so an older version can still open the file."""
    version = int(base.execute("PRAGMA user_version").fetchone()[0])
    if version >= SCHEMA:
        return
    from sqlite_utils import Database

    Database(base)["memory"].create({"key": str, "value": str}, pk="key", if_not_exists=True)
    base.execute(f"PRAGMA user_version = {SCHEMA}")
