"""Whether the books in the store agree with themselves and with what lies there; may be asked beside a running daemon."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from chappe.core.stored import LaneEntry
from chappe.core.units import MILLISECOND, Ns
from chappe.edge.host import Clock
from chappe.edge.store import codec
from chappe.edge.store.base import span
from chappe.edge.store.database import connect
from chappe.edge.store.folder import FILE
from chappe.errors import StoreError

CHUNK = 20_000
# A reader that stays keeps the log from being written over, so it grows.
READ_WITHIN = 500 * MILLISECOND
ATTEMPTS = 5


def audit(folder: Path, clock: Clock) -> list[str]:
    """What is wrong with the books of a state folder; nothing where all agree, or where there is no store.

    Nothing is written, and no transaction is kept open for a second, however long the backlog.

    Raises:
        StoreError: if the file cannot be read.
    """
    path = folder / FILE
    if not path.exists():
        return []
    try:
        link = connect(path, writable=False)
        try:
            return _Auditor(link, clock).problems()
        finally:
            link.close()
    except (*codec.Troubles, *codec.Unreadable) as error:
        raise StoreError(
            f"{path} cannot be read: {error}", remedy="restart the daemon: it salvages what it can"
        ) from error


class _Auditor:
    def __init__(self, link: sqlite3.Connection, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        self._since = Ns(0)

    def problems(self) -> list[str]:
        found: list[str] = []
        for (stream,) in self._link.execute("SELECT stream FROM lanes ORDER BY no").fetchall():
            for _ in range(ATTEMPTS):
                problems = self._lane(stream)
                if problems is not None:
                    found += problems
                    break
        return found

    def _lane(self, stream: str) -> list[str] | None:
        """Problems of a stream, None if it was written to in between."""
        self._begin()
        try:
            entry = self._entry(stream)
            if entry is None:
                return []
            rows, exact = self._count(entry.no)
            dead = self._dead(entry.no)
            if not exact and entry != self._entry(stream):
                return None
        finally:
            self._end()
        return differences(stream, entry, rows, dead)

    def _begin(self) -> None:
        self._since = self._clock.now()
        self._link.execute("BEGIN")

    def _end(self) -> None:
        self._link.execute("ROLLBACK")

    def _entry(self, stream: str) -> LaneEntry | None:
        record = self._link.execute(
            f"SELECT {codec.LANE_COLUMNS} FROM lanes WHERE stream = ?",  # noqa: S608 - names of ours
            (stream,),
        ).fetchone()
        return None if record is None else codec.unpack_lane(record)[1]

    def _dead(self, lane: int) -> int:
        return int(self._link.execute("SELECT COUNT(*) FROM dead WHERE id BETWEEN ? AND ?", span(lane)).fetchone()[0])

    def _count(self, lane: int) -> tuple[int, bool]:
        """Rows of a lane, and whether all of them were counted in one transaction."""
        low, high = span(lane)
        total, exact = 0, True
        while True:
            n, last = self._link.execute(
                "SELECT COUNT(*), MAX(id) FROM (SELECT id FROM rows WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?)",
                (low, high, CHUNK),
            ).fetchone()
            total += n
            if n < CHUNK:
                return total, exact
            low = last + 1
            if self._clock.now() - self._since > READ_WITHIN:
                self._end()
                self._begin()
                exact = False


def differences(stream: str, entry: LaneEntry, rows: int, dead: int) -> list[str]:
    """What does not agree, in words."""
    book = entry.book
    found = []
    if not book.balanced:
        parts = f"delivered {book.delivered} + elided {book.elided} + expired {book.expired}"
        found.append(
            f"stream {stream}: produced {book.produced} is not {parts} + spilled {book.spilled} + queued {book.queued}"
        )
    if rows != entry.rows:
        found.append(f"stream {stream}: {entry.rows} rows in the books, {rows} in the table")
    if book.queued != rows + dead:
        found.append(f"stream {stream}: queued {book.queued} is not {rows} rows + {dead} dead letters")
    return found
