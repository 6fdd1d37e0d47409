"""What a consumer must not forget, in one SQLite file: the ledger, messages that the application has not taken yet, receipts to send.

A message is committed here before the broker is told that it has arrived and before its receipt leaves, so that whenever the process
ends, either the broker still has the message or this file does. The application takes messages inside a transaction of the same file:
what it writes through that connection is committed together with the fact that it has taken the message, which makes it exactly once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from chappe.consumer.book import Snapshot
from chappe.consumer.ledger import Ledger
from chappe.errors import BusyError, StoreError

if TYPE_CHECKING:
    import sqlite3

SCHEMA = """
CREATE TABLE IF NOT EXISTS chappe_books (
    id INTEGER PRIMARY KEY, device TEXT NOT NULL, stream TEXT NOT NULL, boot TEXT NOT NULL, book BLOB NOT NULL,
    UNIQUE (device, stream, boot)
);
CREATE TABLE IF NOT EXISTS chappe_inbox (
    id INTEGER PRIMARY KEY, device TEXT NOT NULL, stream TEXT NOT NULL, boot TEXT NOT NULL, seq INTEGER NOT NULL,
    what TEXT NOT NULL, payload BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS chappe_inbox_order ON chappe_inbox (device, stream, boot, seq);
CREATE TABLE IF NOT EXISTS chappe_receipts (
    id INTEGER PRIMARY KEY, device TEXT NOT NULL, stream TEXT NOT NULL, boot TEXT NOT NULL, seq INTEGER NOT NULL,
    kind TEXT NOT NULL, wall INTEGER NOT NULL, sent INTEGER NOT NULL DEFAULT 0,
    UNIQUE (device, stream, boot, seq, kind)
);
CREATE INDEX IF NOT EXISTS chappe_receipts_sent ON chappe_receipts (wall) WHERE sent = 1;
"""


class Keeper:
    """The file.

    Args:
        file: where it is, or is to be.
        setup: SQL that makes the application's own tables; run at each `open`, so it has to say ``IF NOT EXISTS``.
    """

    def __init__(self, file: Path, setup: str = "") -> None:
        self._file = file
        self._setup = setup
        self._lock = -1
        self._db: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Open the file, or make it.

        Raises:
            BusyError: if another process has it.
            StoreError: if it cannot be used.
        """
        import sqlite3

        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            # Transactions are begun and ended by name: what the application writes must be in ours.
            self._db = sqlite3.connect(self._file, isolation_level=None, timeout=30.0)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(SCHEMA + self._setup)
        except (OSError, sqlite3.Error) as error:
            self.close()
            if isinstance(error, BusyError):
                raise
            raise StoreError(
                f"{self._file} cannot be used: {error}", remedy="name a file that can be written"
            ) from error

    def _take_lock(self) -> None:
        self._lock = os.open(f"{self._file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                f"another consumer works with {self._file}",
                remedy="end that one, or give each a file and a name of its own",
            ) from error

    def close(self) -> None:
        """Let go of the file; idempotent."""
        db, self._db = self._db, None
        if db is not None:
            db.close()
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    @property
    def db(self) -> sqlite3.Connection:
        """The connection."""
        if self._db is None:
            raise StoreError(f"{self._file} is not open", remedy="open the consumer again")
        return self._db

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and on the disk at the end.

        Raises:
            StoreError: if the file takes no more; what is in memory is then ahead of it, so that the consumer has to begin anew.
        """
        import sqlite3

        try:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(
                f"{self._file} cannot be written: {error}", remedy="make room, then start again"
            ) from error

    # ── the ledger ───────────────────────────────────────────────────────────────────────────────────────────────────

    def load(self, ledger: Ledger) -> None:
        """Tell `ledger` what was kept."""
        rows = self.db.execute("SELECT device, stream, boot, book FROM chappe_books ORDER BY id")
        ledger.load((tuple(row[:3]), msgspec.json.decode(row[3], type=Snapshot)) for row in rows)

    def save(self, ledger: Ledger) -> None:
        """Keep what changed in `ledger`; inside a transaction."""
        for book_id in ledger.dirty:
            book = ledger.book(book_id)
            if book is None:
                self.db.execute("DELETE FROM chappe_books WHERE (device, stream, boot) = (?, ?, ?)", book_id)
            else:
                self.db.execute(
                    "INSERT INTO chappe_books (device, stream, boot, book) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT (device, stream, boot) DO UPDATE SET book = excluded.book",
                    (*book_id, msgspec.json.encode(book.snapshot())),
                )
        ledger.dirty.clear()
