"""What is legible in the pages of a corrupt file, carried into a new one."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from chappe.core.books import Book
from chappe.core.envelope import Lost, merge
from chappe.core.stored import LANE_BITS, LaneEntry, lane_of
from chappe.edge.store import codec
from chappe.edge.store.base import Base, span
from chappe.edge.store.codec import Tuple
from chappe.edge.store.database import Database
from chappe.edge.store.entries import BESIDE, Entries
from chappe.edge.store.losses import Kept, Mark, corrected, gap
from chappe.edge.store.pages import Pages
from chappe.edge.store.reading import read_letter
from chappe.edge.store.schema import (
    BOOT,
    BOOT_NAME,
    CURSOR,
    DEAD,
    ENTRY,
    LANE,
    MEMORY,
    NAME,
    REMOVED,
    ROW,
    STANDING,
    STREAM,
)

BATCH = 1000
# Where an entry is lost nobody knows which ids were given; this many are left out, so that none is given twice.
MARGIN = 1 << 24


def is_of(columns: Mapping[str, type], record: Tuple) -> bool:
    """Whether a record can be one of a table with these columns; SQLite keeps an integer key outside the record."""
    if len(record) != len(columns):
        return False
    kinds = list(columns.values())
    start = 1 if record[0] is None and kinds[0] is int else 0
    return all(isinstance(value, kind) for value, kind in zip(record[start:], kinds[start:], strict=True))


def put(new: Database, statement: str, records: Iterator[Tuple]) -> None:
    """Write records, some at a time.

    Raises:
        sqlite3.Error: if the disk fails. If it is full, the rest stays in the file that is set aside, and counts as missing.
    """
    while batch := list(islice(records, BATCH)):
        try:
            with new.transaction() as link:
                link.executemany(statement, batch)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                raise
            return


def carry_outbox(old: Pages, new: Base) -> tuple[int, int]:
    """Carry the outbox over; returns how many rows and dead letters were salvaged, and how many the books miss."""
    salvager = Salvager(old, new)
    salvager.run()
    return salvager.rows, salvager.missing


def carry_history(old: Pages, new: Entries) -> tuple[int, int]:
    """Carry the history over; returns how many messages were salvaged, and 0, as nobody counted them."""
    small = [record for record in _records(old, len(ENTRY)) if not is_of(ENTRY, record)]
    with new.transaction() as link:
        link.executemany("INSERT INTO streams VALUES (?, ?, ?, 0)", [one[:3] for one in small if is_of(STREAM, one)])
        link.executemany("INSERT INTO boots VALUES (?, ?)", [one for one in small if is_of(BOOT_NAME, one)])
        link.executemany(
            "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)", [one for one in small if is_of(CURSOR, one)]
        )
        link.executemany(
            "INSERT INTO removed VALUES (?, ?, ?, ?, ?, ?, ?)", [one for one in small if is_of(REMOVED, one)]
        )
    new.learn()
    put(new, "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", _entries(old, new))
    with new.transaction() as link:
        for lane in new.lanes.values():
            found = link.execute(
                "SELECT COUNT(*), TOTAL(LENGTH(envelope)), MAX(id) FROM entries WHERE id BETWEEN ? AND ?", span(lane.no)
            ).fetchone()
            following = max(lane.next, ((found[2] or 0) & ((1 << LANE_BITS) - 1)) + (found[2] is not None))
            size = int(found[1]) + found[0] * BESIDE
            link.execute('UPDATE streams SET "next" = ?, bytes = ? WHERE no = ?', (following, size, lane.no))
    return int(new.link.execute("SELECT COUNT(*) FROM entries").fetchone()[0]), 0


def _entries(old: Pages, new: Entries) -> Iterator[Tuple]:
    streams = {lane.no: stream for stream, lane in new.lanes.items()}
    for page in old.leaves():
        for id_, record in old.records(page):
            if is_of(ENTRY, record):
                stream = streams.get(record[1], "")
                _, _, boot, seq, wall, crc, envelope = record
                if new.found((id_, boot, seq, wall, crc, envelope), stream) is not None:
                    yield (id_, *record[1:])


def _records(old: Pages, many: int) -> Iterator[Tuple]:
    """Records of all tables but the one with `many` columns; a page that begins with one of those has no others."""
    for page in old.leaves():
        for id_, record in old.records(page):
            if len(record) == many and not is_of(REMOVED, record):
                break
            yield record if record[:1] != (None,) else (id_, *record[1:])


class Salvager:
    """Carries records from old pages into a new file.

    Attributes:
        rows: rows and dead letters carried over.
        missing: how many more there were by the books.
    """

    def __init__(self, old: Pages, new: Base) -> None:
        self.rows = 0
        self.missing = 0
        self._old = old
        self._new = new
        self._entries: dict[int, tuple[str, LaneEntry, Lost | None]] = {}

    def run(self) -> None:
        """Carry over everything: what names boots and lanes first, as rows cannot be told without."""
        small = list(_records(self._old, len(ROW)))
        with self._new.transaction() as link:
            self._names(link, small)
            texts = [record for record in small if is_of(MEMORY, record)]
            link.executemany("INSERT OR REPLACE INTO memory (key, value) VALUES (?, ?)", texts)
            states = [record[1:] for record in small if is_of(STANDING, record)]
            link.executemany(codec.PUT_STANDING, [one for one in states if codec.unpack_standing(one) is not None])
        self._new.learn()
        letters = (record for record in small if is_of(DEAD, record))
        put(self._new, codec.PUT_DEAD, (one for one in letters if read_letter(self._new, one) is not None))
        put(self._new, codec.PUT_ROW, self._rows())
        with self._new.transaction() as link:
            self._lanes(link)

    def _rows(self) -> Iterator[Tuple]:
        streams, boots = self._new.streams, self._new.boot_names
        for page in self._old.leaves():
            for id_, record in self._old.records(page):
                if not is_of(ROW, record):
                    continue
                whole = (id_, *record[1:])
                if codec.unpack(whole, streams.get(lane_of(id_), ""), boots.get(record[1], "")) is not None:
                    yield whole

    def _names(self, link: sqlite3.Connection, small: Sequence[Tuple]) -> None:
        boots = {record[0]: record for record in small if is_of(BOOT, record)}
        names = {(kind, no): name for _, kind, no, name in (one for one in small if is_of(NAME, one))}
        for record in small:
            if is_of(LANE, record):
                with contextlib.suppress(*codec.Unreadable):
                    stream, entry, lost = codec.unpack_lane(record)
                    self._entries[entry.no] = stream, entry, lost
                    names["lane", entry.no] = stream
        names.update({("boot", no): record[1] for no, record in boots.items()})
        for (kind, no), name in names.items():
            if kind == "boot" and no not in boots:
                boots[no] = (no, name, "", 0, 0, 0, 0)
        link.executemany("INSERT INTO boots VALUES (?, ?, ?, ?, ?, ?, ?)", boots.values())
        link.executemany(
            "INSERT INTO names (kind, no, name) VALUES (?, ?, ?)",
            [(kind, no, name) for (kind, no), name in names.items()],
        )

    # ── the books ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _lanes(self, link: sqlite3.Connection) -> None:
        for no, stream in self._new.streams.items():
            kept = self._kept(link, no)
            self.rows += kept.rows + kept.dead
            _, entry, untold = self._entries.get(no) or (stream, self._guess(no, kept), None)
            entry, missing = corrected(entry, kept)
            self.missing += missing
            lost = merge(untold, gap(entry, kept, missing, self._new.boot_names)) if missing else untold
            link.execute(codec.PUT_LANE, codec.pack_lane(stream, entry, lost))

    def _kept(self, link: sqlite3.Connection, lane: int) -> Kept:
        kept = Kept()
        ids = span(lane)
        for row in link.execute("SELECT id, boot, seq, size FROM rows WHERE id BETWEEN ? AND ? ORDER BY id", ids):
            kept.add(*row)
        for row in link.execute("SELECT id FROM dead WHERE id BETWEEN ? AND ?", ids):
            kept.bury(*row)
        return kept

    def _guess(self, lane: int, kept: Kept) -> LaneEntry:
        """An entry for a lane whose own is lost: all that can be said is what is there."""
        last = kept.last or Mark(0, 0)
        return LaneEntry(
            no=lane,
            next=(kept.last_id & ((1 << LANE_BITS) - 1)) + MARGIN,
            rows=kept.rows,
            bytes=kept.bytes,
            book=Book(produced=kept.rows + kept.dead, queued=kept.rows + kept.dead),
            boot=self._new.boot_names.get(last.boot, ""),
            seq=last.seq,
        )
