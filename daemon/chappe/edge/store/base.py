"""The outbox's file: every transaction that writes it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from chappe.core.effects import Commit
from chappe.core.envelope import Lost
from chappe.core.stored import LANE_BITS, Burial, LaneEntry, StoredRow
from chappe.edge.store import codec
from chappe.edge.store.blobs import Blobs
from chappe.edge.store.codec import File
from chappe.edge.store.database import Database
from chappe.edge.store.schema import OUTBOX, migrate

STANDINGS_KEPT = 10_000


class Base(Database):
    """The open file and what has to be known to write it: numbers of boots and lanes.

    Args:
        path: the file.
        blobs: what lies beside it.
        kernel: kernel boot id, written with this boot.

    Attributes:
        boots: number of each boot; `boot_names` the other way.
        lanes: number of each stream; `streams` the other way.
        kernel: kernel boot id.
    """

    def __init__(self, path: Path, blobs: Blobs, kernel: str = "") -> None:
        super().__init__(path, migrate, OUTBOX)
        self.blobs = blobs
        self.boots: dict[str, int] = {}
        self.boot_names: dict[int, str] = {}
        self.lanes: dict[str, int] = {}
        self.streams: dict[int, str] = {}
        self.kernel = kernel

    def learn(self) -> None:
        """Read the numbers of boots and lanes."""
        found = self.link.execute("SELECT kind, no, name FROM names").fetchall()
        if any(type(no) is not int or type(name) is not str for _, no, name in found):
            raise codec.CorruptError("a boot or a stream has no name")
        self.boot_names = {no: name for kind, no, name in found if kind == "boot"}
        self.streams = {no: name for kind, no, name in found if kind == "lane"}
        self.boots = {name: no for no, name in self.boot_names.items()}
        self.lanes = {name: no for no, name in self.streams.items()}

    # ── the outbox's transaction ─────────────────────────────────────────────────────────────────────────────────────

    def apply(self, commit: Commit, remembered: Sequence[tuple[str, str]] = ()) -> None:
        """Write all of a commit, and what is to be remembered, in one transaction.

        Raises:
            sqlite3.Error: if it did not come about.
            OSError: if data too large for a row could not be written.
        """
        letters = [burial.row for burial in commit.burials]
        gone = {*commit.gone, *(row.id for row in letters)}
        rows = [row for row in commit.rows if row.id not in gone] if gone else commit.rows
        files = self.blobs.write((row.id, row.data) for row in chain(rows, letters))
        try:
            with self.transaction() as link:
                self._name(commit, rows, letters)
                self._boot(link, commit)
                # Deletes first: on a full disk their pages are what the rest is written on.
                delete(link, "rows", gone)
                delete(link, "dead", commit.forgotten)
                self._insert(link, rows, commit.burials, files)
                self._entries(link, commit)
                link.executemany("INSERT OR REPLACE INTO memory (key, value) VALUES (?, ?)", remembered)
        except BaseException:
            self.blobs.discard(file.path for file in files.values())
            raise
        self.blobs.settle(files, chain(gone, commit.forgotten, (row.id for row in rows)))

    def remember(self, remembered: Sequence[tuple[str, str]]) -> None:
        """Write what is to be remembered.

        Raises:
            sqlite3.Error: if it did not come about.
        """
        with self.transaction() as link:
            link.executemany("INSERT OR REPLACE INTO memory (key, value) VALUES (?, ?)", remembered)

    def _insert(
        self,
        link: sqlite3.Connection,
        rows: Sequence[StoredRow],
        burials: Iterable[Burial],
        files: dict[int, File],
    ) -> None:
        boots, pack = self.boots, codec.pack
        if files:
            records = [pack(row, boots[row.boot], files.get(row.id)) for row in rows]
        else:
            records = [pack(row, boots[row.boot]) for row in rows]
        link.executemany(codec.PUT_ROW, records)
        link.executemany(
            codec.PUT_DEAD, [codec.bury(one, boots[one.row.boot], files.get(one.row.id)) for one in burials]
        )

    def _entries(self, link: sqlite3.Connection, commit: Commit) -> None:
        link.executemany(codec.PUT_LANE, [codec.pack_lane(stream, entry) for stream, entry in commit.lanes.items()])
        if commit.standings:
            link.executemany(codec.PUT_STANDING, [codec.pack_standing(one) for one in commit.standings])
            link.execute("DELETE FROM standings WHERE no <= (SELECT MAX(no) FROM standings) - ?", (STANDINGS_KEPT,))

    # ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _name(self, commit: Commit, *rows: Sequence[StoredRow]) -> None:
        """Number whatever boot or lane has none yet."""
        for stream, entry in commit.lanes.items():
            if self.lanes.get(stream) != entry.no:
                self._register("lane", entry.no, stream)
                self.lanes[stream], self.streams[entry.no] = entry.no, stream
        for boot in {row.boot for row in chain(*rows)} - self.boots.keys():
            self.number(boot)

    def number(self, boot: str) -> int:
        """The number of a boot, a new one if it has none; only inside a transaction."""
        no = self.boots.get(boot)
        if no is None:
            no = max(self.boot_names, default=0) + 1
            self.link.execute("INSERT INTO boots VALUES (?, ?, '', 0, 0, 0, 0)", (no, boot))
            self._register("boot", no, boot)
            self.boots[boot], self.boot_names[no] = no, boot
        return no

    def _register(self, kind: str, no: int, name: str) -> None:
        self.link.execute("DELETE FROM names WHERE kind = ? AND no = ?", (kind, no))
        self.link.execute("INSERT INTO names (kind, no, name) VALUES (?, ?, ?)", (kind, no, name))

    def _boot(self, link: sqlite3.Connection, commit: Commit) -> None:
        if commit.boot:
            link.execute(
                'UPDATE boots SET kernel = ?, "offset" = ?, synced = ?, last = MAX(last, ?), clean = ? WHERE no = ?',
                (self.kernel, commit.offset, commit.synced, commit.at, commit.clean, self.number(commit.boot)),
            )

    # ── lanes ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def entry(self, stream: str) -> tuple[LaneEntry, Lost | None] | None:
        """A stream's entry as last written, and a loss the core does not know of yet; None where there is none."""
        found = self.link.execute(
            f"SELECT {codec.LANE_COLUMNS} FROM lanes WHERE no = ?",  # noqa: S608 - names of ours
            (self.lanes.get(stream, -1),),
        ).fetchone()
        with codec.legible():
            return None if found is None else codec.unpack_lane(found)[1:]


def delete(link: sqlite3.Connection, table: str, ids: Iterable[int]) -> None:
    """Delete records; ids that lie side by side go at once."""
    link.executemany(f'DELETE FROM "{table}" WHERE id BETWEEN ? AND ?', runs(sorted(ids)))  # noqa: S608 - names of ours


def runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as (first, last) of those without a hole between them.

    >>> runs([1, 2, 3, 7, 8, 10])
    [(1, 3), (7, 8), (10, 10)]
    """
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number <= found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def span(lane: int) -> tuple[int, int]:
    """Lowest and highest id a lane can have.

    >>> span(0) == (0, (1 << 40) - 1)
    True
    """
    return lane << LANE_BITS, ((lane + 1) << LANE_BITS) - 1
