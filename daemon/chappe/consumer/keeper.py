"""What a consumer must not forget, in one SQLite file: the ledger, messages that the application has not taken yet, receipts to send.

A message is committed here before the broker is told that it has arrived and before its receipt leaves, so that whenever the process
ends, either the broker still has the message or this file does. The application takes messages inside a transaction of the same file:
what it writes through that connection is committed together with the fact that it has taken the message, which makes it exactly once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from chappe.consumer.book import Snapshot
from chappe.consumer.ledger import BookId, Ledger
from chappe.consumer.words import HIGHEST, Gap, Kind, Message, message
from chappe.core.units import SECOND, WallNs
from chappe.errors import BusyError, StoreError

if TYPE_CHECKING:
    import sqlite3

ANSWERED_FOR: WallNs = WallNs(30 * SECOND)
"""A repeat that comes later than this after its receipt says that the device has not heard it; a device waits 60 s (docs/topics.md)."""

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

_NEXT = "SELECT id, device, stream, boot, seq, what, payload FROM chappe_inbox ORDER BY id LIMIT ?"
_IN_ORDER = """
SELECT id, device, stream, boot, seq, what, payload FROM chappe_inbox
WHERE (device, stream, boot) = (?, ?, ?) AND seq < ? ORDER BY seq, id LIMIT ?
"""

_OWE = """
INSERT INTO chappe_receipts (device, stream, boot, seq, kind, wall) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (device, stream, boot, seq, kind) DO UPDATE SET sent = 0, wall = excluded.wall
WHERE sent = 1 AND NOT wall BETWEEN ? AND ?
RETURNING id
"""


class Owed(NamedTuple):
    """A receipt that has to be sent."""

    id: int
    device: str
    stream: str
    boot: str
    seq: int
    kind: Kind


class _Row(NamedTuple):
    """A row of the inbox; `what` is ``fresh``, ``overdue``, ``transient`` or ``gap``."""

    id: int
    device: str
    stream: str
    boot: str
    seq: int
    what: str
    payload: bytes

    @property
    def book_id(self) -> BookId:
        return self.device, self.stream, self.boot

    def item(self) -> Message | Gap:
        """What the application gets."""
        if self.what == "gap":
            return msgspec.json.decode(self.payload, type=Gap)
        return message(self.device, self.stream, self.payload, overdue=self.what == "overdue")


Take = Callable[[Message | Gap, "sqlite3.Connection"], None]
"""The application's hand: gets what is next, and the connection with the open transaction."""


class Keeper:
    """The file.

    Args:
        file: where it is, or is to be.
        setup: SQL that makes the application's own tables; run at each `open`, so it has to say ``IF NOT EXISTS``.
    """

    def __init__(self, file: Path, setup: str = "") -> None:
        self._file = file
        self._setup = setup
        self._held: dict[BookId, int] = {}
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
            grouped = "SELECT device, stream, boot, count(*) FROM chappe_inbox GROUP BY device, stream, boot"
            self._held = {(row[0], row[1], row[2]): row[3] for row in self._db.execute(grouped)}
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

    # ── the inbox ────────────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, book_id: BookId, seq: int, what: str, payload: bytes) -> None:
        """Keep a message, or the news of a gap, until the application takes it; inside a transaction."""
        self.db.execute(
            "INSERT INTO chappe_inbox (device, stream, boot, seq, what, payload) VALUES (?, ?, ?, ?, ?, ?)",
            (*book_id, seq, what, payload),
        )
        self._held[book_id] = self._held.get(book_id, 0) + 1

    @property
    def waiting(self) -> int:
        """What the application has not taken yet."""
        return sum(self._held.values())

    def hand_over(
        self, take: Take, *, most: int, enough: Callable[[], bool], first_hole: Callable[[BookId], int | None] | None
    ) -> int:
        """Let the application take what is next, in one transaction; what it took before it failed is committed.

        Args:
            take: called with each item and the connection.
            most: how many items at most.
            enough: whether to leave the rest for later; asked after each item.
            first_hole: for order within each book: the number that is waited for; None for the order of arrival.

        Returns:
            How many items it took.

        Raises:
            StoreError: if `take` ended the transaction.
        """
        rows = self._next(most) if first_hole is None else self._in_order(most, first_hole)
        if not rows:
            return 0
        taken = 0
        self.db.execute("BEGIN IMMEDIATE")
        try:
            while taken < len(rows) and not (taken and enough()):
                self._take_one(rows[taken], take)
                taken += 1
        finally:
            if self.db.in_transaction:
                self.db.execute("COMMIT")
        return taken

    def _take_one(self, row: _Row, take: Take) -> None:
        self.db.execute("SAVEPOINT chappe_one")
        try:
            take(row.item(), self.db)
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK TO chappe_one")
            raise
        if not self.db.in_transaction:
            raise StoreError("the handler ended the transaction", remedy="leave commit and rollback to the consumer")
        self.db.execute("DELETE FROM chappe_inbox WHERE id = ?", (row.id,))
        self.db.execute("RELEASE chappe_one")
        self._held[row.book_id] -= 1
        if not self._held[row.book_id]:
            del self._held[row.book_id]

    def _next(self, most: int) -> list[_Row]:
        return [_Row(*row) for row in self.db.execute(_NEXT, (most,))] if self._held else []

    def _in_order(self, most: int, first_hole: Callable[[BookId], int | None]) -> list[_Row]:
        rows: list[_Row] = []
        for book_id in self._held:
            hole = first_hole(book_id)
            limit = HIGHEST + 1 if hole is None else hole
            rows += [_Row(*row) for row in self.db.execute(_IN_ORDER, (*book_id, limit, most - len(rows)))]
        return rows

    # ── receipts ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def owe(self, book_id: BookId, seq: int, kind: Kind, wall: WallNs) -> Owed | None:
        """Note that a receipt is due; None where one is under way or was sent a moment ago. Inside a transaction."""
        # A wall clock that was set back makes no receipt immortal: one of the future is old as well.
        values = (*book_id, seq, kind, wall, wall - ANSWERED_FOR, wall + ANSWERED_FOR)
        row = self.db.execute(_OWE, values).fetchone()
        return Owed(row[0], *book_id, seq, kind) if row is not None else None

    def holds(self, book_id: BookId, seq: int) -> bool:
        """Whether the application has this message still before it."""
        found = self.db.execute(
            "SELECT 1 FROM chappe_inbox WHERE (device, stream, boot, seq) = (?, ?, ?, ?) AND what <> 'gap'",
            (*book_id, seq),
        )
        return found.fetchone() is not None

    def owed(self) -> list[Owed]:
        """Receipts that an earlier run did not send, or did not hear to have arrived."""
        rows = self.db.execute(
            "SELECT id, device, stream, boot, seq, kind FROM chappe_receipts WHERE sent = 0 ORDER BY id"
        )
        return [Owed(*row) for row in rows]

    def sent(self, ids: Iterable[int], wall: WallNs) -> None:
        """These receipts are with the broker; those of some time ago are forgotten. Inside a transaction."""
        self.db.executemany(
            "UPDATE chappe_receipts SET sent = 1, wall = ? WHERE id = ?", ((wall, each) for each in ids)
        )
        self.db.execute("DELETE FROM chappe_receipts WHERE sent = 1 AND wall < ?", (wall - ANSWERED_FOR,))
        self.db.execute("DELETE FROM chappe_receipts WHERE sent = 1 AND wall > ?", (wall + ANSWERED_FOR,))
