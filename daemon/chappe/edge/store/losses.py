"""Rows that cannot be read any more: taken off the books, and kept as a loss until the core has written it in its own.

A loss stands in the entry of its stream from the transaction that finds it until the core next writes that entry, so that a kill in
between forgets nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from chappe.core.books import Book
from chappe.core.envelope import Lost, merge
from chappe.core.row import OVERHEAD
from chappe.core.stored import LANE_BITS, LaneEntry, lane_of
from chappe.edge.store import codec
from chappe.edge.store.base import Base, delete, span


class Mark(NamedTuple):
    """Where a row stands: number of its boot, its own number in it."""

    boot: int
    seq: int


class Kept:
    """What was salvaged of one stream, row by row in the order of ids.

    Attributes:
        rows: how many rows.
        bytes: their size as the core counts it.
        dead: how many dead letters.
        last_id: highest id of all.
        first: the first row.
        last: the last one.
        hole: the first number that is not there between two rows that are.
        hole_end: the last such number.
        room: how many such numbers there are.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.bytes = 0
        self.dead = 0
        self.last_id = 0
        self.first: Mark | None = None
        self.last: Mark | None = None
        self.hole: Mark | None = None
        self.hole_end: Mark | None = None
        self.room = 0

    def add(self, id_: int, boot: int, seq: int, size: int) -> None:
        """Note a row."""
        self.rows += 1
        self.bytes += size + OVERHEAD
        self.last_id = max(self.last_id, id_)
        last = self.last
        if last is not None and last.boot == boot and last.seq + 1 < seq:
            self.hole = self.hole or Mark(boot, last.seq + 1)
            self.hole_end = Mark(boot, seq - 1)
            self.room += seq - last.seq - 1
        self.last = Mark(boot, seq)
        self.first = self.first or self.last

    def bury(self, id_: int) -> None:
        """Note a dead letter."""
        self.dead += 1
        self.last_id = max(self.last_id, id_)


def corrected(entry: LaneEntry, kept: Kept) -> tuple[LaneEntry, int]:
    """An entry that agrees with what is there, and how many rows and dead letters are missing.

    What is missing was accepted and is gone: it leaves ``queued`` and enters ``spilled``. Should there be more than the books know of, it was
    produced.
    """
    book = msgspec.structs.replace(entry.book)
    missing = book.queued - kept.rows - kept.dead
    book.queued -= missing
    if missing >= 0:
        book.spilled += missing
    else:
        book.produced -= missing
    following = (kept.last_id & ((1 << LANE_BITS) - 1)) + 1
    size = entry.bytes if kept.rows == entry.rows else kept.bytes
    right = msgspec.structs.replace(entry, next=max(entry.next, following), rows=kept.rows, bytes=size, book=book)
    return right, max(0, missing)


def gap(entry: LaneEntry, kept: Kept, missing: int, boots: Mapping[int, str]) -> Lost:
    """The gap that `missing` rows leave, with bounds of their numbers.

    Numbers that lie between salvaged rows are missing, or were delivered before: nobody can tell which. Where these are fewer than what is missing,
    rows are missing behind the last one (up to the last number in the books), or before the first.
    """
    start, end, room = kept.hole, kept.hole_end, kept.room
    numbers = {name: number for number, name in boots.items()}
    books = Mark(numbers.get(entry.boot, 0), entry.seq)
    last = kept.last or Mark(books.boot, max(0, entry.seq - missing))
    if room < missing and books.boot == last.boot and books.seq > last.seq:
        start, end, room = start or Mark(last.boot, last.seq + 1), books, room + books.seq - last.seq
    if room < missing and kept.first is not None and kept.first.seq > 1:
        start = Mark(kept.first.boot, max(1, kept.first.seq - (missing - room)))
        end = end or Mark(kept.first.boot, kept.first.seq - 1)
    if start is None or end is None:
        return Lost(from_=max(1, entry.seq), n=missing, reason="corrupt", boot=entry.boot)
    # Of rows of several boots nobody can say where the gap ends: numbers start anew with each.
    to = end.seq if end.boot == start.boot else None
    return Lost(from_=start.seq, to=to, n=missing, reason="corrupt", boot=boots.get(start.boot, entry.boot))


def lose(base: Base, table: str, ids: Sequence[int]) -> None:
    """Delete rows or dead letters of one stream that cannot be read, in one transaction with its entry.

    Raises:
        sqlite3.Error: if it did not come about.
    """
    stream = base.streams.get(lane_of(ids[0]), "")
    found = base.entry(stream)
    sizes = {id_: size for id_ in ids if (size := _size(base.link, table, id_)) is not None}
    if not sizes:
        return  # the file was salvaged meanwhile, and they were left out then
    ids, size = list(sizes), sum(sizes.values())
    with base.transaction() as link:
        lost = _bounds(base, link, table, ids)
        delete(link, table, ids)
        if found is not None:
            entry, untold = found
            row = table == "rows"
            book = _spill(entry.book, len(ids))
            entry = msgspec.structs.replace(
                entry,
                rows=entry.rows - len(ids) * row,
                bytes=max(0, entry.bytes - size * row),
                book=book,
            )
            link.execute(codec.PUT_LANE, codec.pack_lane(stream, entry, merge(untold, lost)))
    base.blobs.settle({}, ids)


def _spill(book: Book, n: int) -> Book:
    return msgspec.structs.replace(book, queued=book.queued - n, spilled=book.spilled + n)


def _size(link: sqlite3.Connection, table: str, id_: int) -> int | None:
    """What a row counts for, as far as it can be believed; None where there is none."""
    found = link.execute(f'SELECT size FROM "{table}" WHERE id = ?', (id_,)).fetchone()  # noqa: S608 - names of ours
    if found is None:
        return None
    return (found[0] if isinstance(found[0], int) else 0) + OVERHEAD


def _bounds(base: Base, link: sqlite3.Connection, table: str, ids: Sequence[int]) -> Lost:
    """What the row itself says of its number may be wrong; its neighbours know better."""
    low, high = span(lane_of(ids[0]))
    beside = f'SELECT boot, seq FROM "{table}" WHERE id BETWEEN ? AND ? ORDER BY id {{}} LIMIT 1'  # noqa: S608 - names of ours
    own = link.execute(f'SELECT boot, seq FROM "{table}" WHERE id = ?', (ids[0],)).fetchone()  # noqa: S608 - names of ours
    before = link.execute(beside.format("DESC"), (low, ids[0] - 1)).fetchone()
    behind = link.execute(beside.format("ASC"), (ids[-1] + 1, high)).fetchone()
    known = [one for one in (before, behind, own) if one is not None and one[0] in base.boot_names]
    boot, n = known[0][0] if known else 0, len(ids)
    end = behind[1] - 1 if behind is not None and behind[0] == boot else None
    if before is not None and before[0] == boot:
        start = before[1] + 1
    else:
        said = own[1] if own is not None and isinstance(own[1], int) else 1
        start = said if end is None or said <= end else end - n + 1
    to = end if end is not None and end >= start else start + n - 1
    return Lost(from_=max(1, start), to=max(1, to), n=n, reason="corrupt", boot=base.boot_names.get(boot, ""))
