"""What the core would ask of a store: commits whose books balance, and what must be in the tables afterwards."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chappe.core.books import Book
from chappe.core.effects import Commit, Fetch
from chappe.core.envelope import Lost
from chappe.core.row import OVERHEAD
from chappe.core.stored import LANE_BITS, Burial, LaneEntry, Standing, StoredRow, lane_of
from chappe.core.units import Ns, WallNs
from chappe.edge.store.database import connect

BOOT = "0123456789abcdef"
TOP = (1 << LANE_BITS) - 1


class Ledger:
    """A core that keeps books and nothing else.

    Attributes:
        rows: what must be in the table of rows; `dead` likewise.
        entries: what must be in the table of lanes.
    """

    def __init__(self, boot: str = BOOT) -> None:
        self.boot = boot
        self.rows: dict[int, StoredRow] = {}
        self.dead: dict[int, Burial] = {}
        self.entries: dict[str, LaneEntry] = {}
        self.seqs: dict[str, int] = {}
        self.gaps: dict[str, tuple[Lost, ...]] = {}
        self._numbers = itertools.count(1)

    def again(self, boot: str) -> Ledger:
        """The same books in the next boot."""
        self.boot, self.seqs = boot, {}
        return self

    def new(self, stream: str, *data: bytes, at: int = 7, **more: Any) -> list[StoredRow]:
        """Rows that are in no commit yet."""
        entry = self._entry(stream)
        found = []
        for each in data:
            self.seqs[stream] = seq = self.seqs.get(stream, 0) + 1
            number = entry.no << LANE_BITS | entry.next
            entry = self.entries[stream] = msgspec.structs.replace(entry, next=entry.next + 1)
            plain: dict[str, Any] = {"key": "", "late": False, "attempts": 0, "accepted": Ns(at), **more}
            found.append(StoredRow(id=number, stream=stream, boot=self.boot, seq=seq, at=Ns(at), data=each, **plain))
        return found

    def commit(
        self,
        rows: Sequence[StoredRow] = (),
        gone: Collection[int] = (),
        burials: Sequence[Burial] = (),
        forgotten: Collection[int] = (),
        standings: tuple[Standing, ...] = (),
        at: int = 7,
        **more: Any,
    ) -> Commit:
        """A commit, booked as if it came about."""
        touched = {row.stream for row in rows} | {one.row.stream for one in burials}
        touched |= {self.rows[id_].stream for id_ in gone if id_ in self.rows}
        touched |= {self.dead[id_].row.stream for id_ in forgotten if id_ in self.dead}
        for row in rows:
            self._book(row.stream, produced=row.id not in self.rows)
            self.rows[row.id] = row
        for id_ in gone:
            if self.rows.pop(id_, None) is not None:
                self._book(self._stream(id_), delivered=1)
        for one in burials:
            if self.rows.pop(one.row.id, None) is None:
                self._book(one.row.stream, produced=1)
            self.dead[one.row.id] = one
        for id_ in forgotten:
            if self.dead.pop(id_, None) is not None:
                self._book(self._stream(id_), spilled=1)
        return Commit(
            number=next(self._numbers),
            at=Ns(at),
            rows=tuple(rows),
            gone=tuple(gone),
            burials=tuple(burials),
            forgotten=tuple(forgotten),
            lanes={stream: self.settle(stream) for stream in sorted(touched)},
            standings=standings,
            boot=self.boot,
            **{"offset": 1000, "synced": True, **more},
        )

    def exhumed(self, ids: Iterable[int]) -> None:
        """Dead letters are rows again."""
        for id_ in ids:
            burial = self.dead.pop(id_, None)
            if burial is not None:
                row = self.rows[id_] = msgspec.structs.replace(burial.row, attempts=0)
                entry = self.entries[row.stream]
                self.entries[row.stream] = msgspec.structs.replace(
                    entry, rows=entry.rows + 1, bytes=entry.bytes + len(row.data) + OVERHEAD
                )

    def settle(self, stream: str) -> LaneEntry:
        """The stream's entry, with what lies in the rows."""
        entry = self._entry(stream)
        mine = [row for row in self.rows.values() if row.stream == stream]
        entry = self.entries[stream] = msgspec.structs.replace(
            entry,
            rows=len(mine),
            bytes=sum(len(row.data) + OVERHEAD for row in mine),
            book=msgspec.structs.replace(entry.book),
            boot=self.boot,
            seq=self.seqs.get(stream, 0),
            gaps=self.gaps.get(stream, ()),
        )
        return entry

    def _entry(self, stream: str) -> LaneEntry:
        fresh = LaneEntry(no=len(self.entries) + 1, next=1, rows=0, bytes=0, book=Book(), boot=self.boot, seq=0)
        return self.entries.setdefault(stream, fresh)

    def _stream(self, id_: int) -> str:
        return next(name for name, entry in self.entries.items() if entry.no == lane_of(id_))

    def _book(self, stream: str, produced: int = 0, delivered: int = 0, spilled: int = 0) -> None:
        book = self._entry(stream).book
        book.produced += produced
        book.delivered += delivered
        book.spilled += spilled
        book.queued += produced - delivered - spilled

    def of(self, stream: str) -> list[StoredRow]:
        """Rows of a stream in their order."""
        return [row for _, row in sorted(self.rows.items()) if row.stream == stream]

    def page(self, stream: str, after: int | None = None, upto: int | None = None, **more: Any) -> Fetch:
        """A question for rows of a stream; all of them by default."""
        low = self.entries[stream].no << LANE_BITS
        return Fetch(
            stream=stream, after=low if after is None else after, upto=low + TOP if upto is None else upto, **more
        )


def burial(row: StoredRow, reason: str = "not_authorized", since: int = 99) -> Burial:
    """A row given up."""
    return Burial(row=row, since=WallNs(since), reason=reason)


def values(n: int, size: int = 200, start: int = 0) -> list[bytes]:
    """Data of `n` rows of about `size` bytes, each different."""
    return [b'{"value":"%s"}' % (b"%08d" % number).ljust(size - 12, b".") for number in range(start, start + n)]


def without_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores opened from now on do not wait for the disk: for tests of anything but durability."""

    def hasty(path: Path, *, writable: bool = True) -> sqlite3.Connection:
        link = connect(path, writable=writable)
        link.execute("PRAGMA synchronous=OFF")
        return link

    monkeypatch.setattr("chappe.edge.store.database.connect", hasty)
