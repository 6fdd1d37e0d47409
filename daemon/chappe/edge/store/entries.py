"""The history's file: entries by stream and offset, cursors, and what was removed.

It is written with ``synchronous=FULL`` like the outbox. There is one commit in 10 s, so the fsync costs nothing that counts; and whoever has been told
an offset can rely on it: after a power cut no other message ever gets it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from chappe.core.stored import LANE_BITS, Entry, Found
from chappe.core.units import WallNs
from chappe.edge.store.codec import Unreadable
from chappe.edge.store.database import Database
from chappe.edge.store.schema import ANNALS, migrate_history

BESIDE = 64
"""What an entry takes up besides its envelope, about: numbers, checksum, its place in the index."""

CURSORS_KEPT = 1000
REMOVALS_KEPT = 1000
_encode = msgspec.msgpack.Encoder().encode


class Lane(msgspec.Struct):
    """A stream in the history.

    Attributes:
        no: its number.
        next: the offset of its next entry.
        bytes: what its entries take up.
    """

    no: int
    next: int
    bytes: int


class Place(NamedTuple):
    """Where an entry is, and what decides about it."""

    id: int
    size: int
    wall: int


class Entries(Database):
    """The open file.

    Args:
        path: the file.

    Attributes:
        lanes: every stream that ever had an entry.
        boots: number of each boot; `boot_names` the other way.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, migrate_history, ANNALS)
        self.lanes: dict[str, Lane] = {}
        self.boots: dict[str, int] = {}
        self.boot_names: dict[int, str] = {}

    def learn(self) -> None:
        """Read streams and boots."""
        found = self.link.execute('SELECT no, stream, "next", bytes FROM streams').fetchall()
        self.lanes = {stream: Lane(no, following, size) for no, stream, following, size in found}
        self.boot_names = dict(self.link.execute("SELECT no, boot FROM boots").fetchall())
        self.boots = {boot: no for no, boot in self.boot_names.items()}

    @property
    def bytes(self) -> int:
        """What all entries take up."""
        return sum(lane.bytes for lane in self.lanes.values())

    # ── adding ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def append(self, entries: Iterable[Entry]) -> None:
        """Add entries; one that is there already is replaced and keeps its offset.

        Raises:
            sqlite3.Error: if nothing was added.
        """
        with self.transaction() as link:
            touched = {self._put(link, entry) for entry in entries}
            self._settle(link, touched)

    def _put(self, link: sqlite3.Connection, entry: Entry) -> str:
        lane, boot = self._lane(link, entry.stream), self._boot(link, entry.boot)
        crc = checksum(entry.stream, entry.boot, entry.seq, entry.wall, entry.envelope)
        which = (lane.no, boot, entry.seq)
        before = link.execute("SELECT id, LENGTH(envelope) FROM entries WHERE lane = ? AND boot = ? AND seq = ?", which)
        found = before.fetchone()
        if found is None:
            id_, lane.next = lane.no << LANE_BITS | lane.next, lane.next + 1
            lane.bytes += len(entry.envelope) + BESIDE
            link.execute(
                "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", (id_, *which, entry.wall, crc, entry.envelope)
            )
        else:
            lane.bytes += len(entry.envelope) - found[1]
            values = (entry.wall, crc, entry.envelope, found[0])
            link.execute("UPDATE entries SET wall = ?, crc = ?, envelope = ? WHERE id = ?", values)
        return entry.stream

    def _lane(self, link: sqlite3.Connection, stream: str) -> Lane:
        lane = self.lanes.get(stream)
        if lane is None:
            lane = self.lanes[stream] = Lane(max((one.no for one in self.lanes.values()), default=0) + 1, 0, 0)
            link.execute("INSERT INTO streams VALUES (?, ?, 0, 0)", (lane.no, stream))
        return lane

    def _boot(self, link: sqlite3.Connection, boot: str) -> int:
        no = self.boots.get(boot)
        if no is None:
            no = self.boots[boot] = max(self.boot_names, default=0) + 1
            self.boot_names[no] = boot
            link.execute("INSERT INTO boots VALUES (?, ?)", (no, boot))
        return no

    def _settle(self, link: sqlite3.Connection, streams: Iterable[str]) -> None:
        lanes = [self.lanes[stream] for stream in streams]
        link.executemany(
            'UPDATE streams SET "next" = ?, bytes = ? WHERE no = ?',
            [(lane.next, lane.bytes, lane.no) for lane in lanes],
        )

    def place(self, reader: str, stream: str, offset: int) -> None:
        """Put a cursor.

        Raises:
            sqlite3.Error: if it was not put.
        """
        with self.transaction() as link:
            link.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)", (reader, stream, offset))
            link.execute("DELETE FROM cursors WHERE rowid <= (SELECT MAX(rowid) FROM cursors) - ?", (CURSORS_KEPT,))

    def cursor(self, reader: str, stream: str) -> int | None:
        """Where a reader has come to, None where it never was."""
        found = self.link.execute(
            "SELECT offset FROM cursors WHERE reader = ? AND stream = ?", (reader, stream)
        ).fetchone()
        return None if found is None else int(found[0])

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def first(self, stream: str) -> int | None:
        """Offset of a stream's oldest entry."""
        lane = self.lanes.get(stream)
        if lane is None:
            return None
        low = lane.no << LANE_BITS
        found = self.link.execute(
            "SELECT MIN(id) FROM entries WHERE id >= ? AND id < ?", (low, low + lane.next)
        ).fetchone()
        return None if found[0] is None else int(found[0]) - low

    def found(self, record: Sequence[Any], stream: str) -> Found | None:
        """An entry out of ``id, boot, seq, wall, crc, envelope``; None if the checksum is wrong."""
        id_, no, seq, wall, crc, envelope = record
        boot = self.boot_names.get(no, "")
        try:
            good = checksum(stream, boot, seq, wall, envelope) == crc
        except Unreadable:
            return None
        return Found(id_ & ((1 << LANE_BITS) - 1), stream, boot, seq, wall, envelope) if good else None

    # ── removing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def oldest(self, stream: str, n: int) -> list[Place]:
        """The first entries of a stream."""
        low = self.lanes[stream].no << LANE_BITS
        found = self.link.execute(
            "SELECT id, LENGTH(envelope), wall FROM entries WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (low, low + self.lanes[stream].next, n),
        )
        return [Place(id_, size + BESIDE, wall) for id_, size, wall in found]

    def remove(self, stream: str, places: Sequence[Place], reason: str, now: WallNs) -> int:
        """Remove entries of a stream and take note of it. Returns how many."""
        if not places:
            return 0
        lane, low = self.lanes[stream], self.lanes[stream].no << LANE_BITS
        with self.transaction() as link:
            link.executemany("DELETE FROM entries WHERE id = ?", [(place.id,) for place in places])
            lane.bytes = max(0, lane.bytes - sum(place.size for place in places))
            self._settle(link, [stream])
            self.note(link, stream, (places[0].id - low, places[-1].id - low, len(places)), reason, now)
        return len(places)

    def note(
        self, link: sqlite3.Connection, stream: str, removed: tuple[int, int, int], reason: str, now: WallNs
    ) -> None:
        """Log what was removed (first and last offset, how many); what continues an earlier removal makes it longer."""
        first, last, n = removed
        found = link.execute(
            'SELECT id, "last", reason FROM removed WHERE stream = ? ORDER BY id DESC LIMIT 1', (stream,)
        ).fetchone()
        if found is not None and found[1:] == (first - 1, reason):
            link.execute('UPDATE removed SET "last" = ?, n = n + ?, wall = ? WHERE id = ?', (last, n, now, found[0]))
            return
        link.execute(
            'INSERT INTO removed (stream, "first", "last", n, reason, wall) VALUES (?, ?, ?, ?, ?, ?)',
            (stream, first, last, n, reason, now),
        )
        link.execute("DELETE FROM removed WHERE id <= (SELECT MAX(id) FROM removed) - ?", (REMOVALS_KEPT,))

    def note_forgone(self, forgone: Mapping[str, int], now: WallNs) -> None:
        """Log messages that never came in: a removal of `n` without offsets, in front of the next one."""
        for stream, n in forgone.items():
            with self.transaction() as link:
                following = self._lane(link, stream).next
                self.note(link, stream, (following, following - 1, n), "unwritten", now)


def checksum(stream: str, boot: str, seq: int, wall: int, envelope: bytes) -> int:
    """CRC-32 over everything that an entry says."""
    return crc32(envelope, crc32(_encode((stream, boot, seq, wall))))
