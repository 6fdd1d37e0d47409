"""What is on the disk of a `Shelf`: dictionaries, and what each effect does to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from chappe.core import effects as ef
from chappe.core.row import OVERHEAD
from chappe.core.stored import (
    Backlog,
    BootFound,
    Burial,
    DeadRow,
    LaneEntry,
    LaneFound,
    Standing,
    StoredRow,
    lane_of,
)
from chappe.core.units import Ns
from chappe.testing.annals import Annals


class Tables(msgspec.Struct):
    """Rows and dead letters by id, entries by stream, boots in their order, delivery states, memory as JSON, the history."""

    rows: dict[int, StoredRow] = {}
    dead: dict[int, Burial] = {}
    lanes: dict[str, LaneEntry] = {}
    boots: dict[str, BootFound] = {}
    standings: dict[tuple[str, str, int], Standing] = {}
    memory: dict[str, str] = {}
    annals: Annals = msgspec.field(default_factory=Annals)

    @property
    def used(self) -> int:
        """Bytes of all rows, about."""
        return sum(len(row.data) + OVERHEAD for row in self.rows.values())

    def after_kill(self) -> Tables:
        """A copy of what a kill leaves."""
        plain = {name: dict(getattr(self, name)) for name in Tables.__struct_fields__ if name != "annals"}
        return Tables(**plain, annals=self.annals.after_kill())

    def commit(self, effect: ef.Commit, kernel: str) -> None:
        """All of a commit, written by a boot of the kernel `kernel`."""
        gone = {*effect.gone, *(burial.row.id for burial in effect.burials)}
        for id_ in gone:
            self.rows.pop(id_, None)
        for id_ in effect.forgotten:
            self.dead.pop(id_, None)
        self.rows.update({row.id: row for row in effect.rows if row.id not in gone})
        self.dead.update({burial.row.id: burial for burial in effect.burials})
        self.lanes.update(effect.lanes)
        self.standings.update({(one.stream, one.boot, one.seq): one for one in effect.standings})
        for name in (*(row.boot for row in effect.rows), *(burial.row.boot for burial in effect.burials)):
            self.boots.setdefault(name, _unknown(name))
        if effect.boot:
            before = self.boots.get(effect.boot) or _unknown(effect.boot)
            self.boots[effect.boot] = BootFound(
                boot=effect.boot,
                kernel=kernel,
                offset=effect.offset,
                synced=effect.synced,
                last=max(before.last, effect.at),
                clean=effect.clean,
            )

    def fetch(self, effect: ef.Fetch) -> tuple[list[StoredRow], int]:
        """A page, and up to which id was looked."""
        rows: list[StoredRow] = []
        size, page = 0, effect.purpose == "page"
        for id_ in self._ids(effect.after, effect.upto):
            row = self.rows[id_]
            rows.append(row if page else msgspec.structs.replace(row, data=b""))
            size += len(row.data)
            if len(rows) == effect.limit or (page and size >= effect.most_bytes):
                return rows, id_
        return rows, effect.upto

    def _ids(self, after: int, upto: int) -> list[int]:
        return sorted(id_ for id_ in self.rows if after < id_ <= upto)

    def count(self, effect: ef.Count) -> dict[str, int]:
        """Rows in a range, bytes of their data, numbers of the first and the last."""
        rows = [self.rows[id_] for id_ in self._ids(effect.after, effect.upto)]
        first, last = (rows[0].seq, rows[-1].seq) if rows else (0, 0)
        return {"rows": len(rows), "bytes": sum(len(row.data) for row in rows), "first": first, "last": last}

    def exhume(self, ids: Iterable[int]) -> list[StoredRow]:
        """Make dead letters rows again."""
        rows = []
        for burial in [self.dead.pop(id_) for id_ in ids if id_ in self.dead]:
            row = self.rows[burial.row.id] = msgspec.structs.replace(burial.row, attempts=0)
            rows.append(row)
            entry = self.lanes.get(row.stream)
            if entry is not None:
                size = entry.bytes + len(row.data) + OVERHEAD
                self.lanes[row.stream] = msgspec.structs.replace(entry, rows=entry.rows + 1, bytes=size)
        return rows

    def backlog(self, kernel: str, boot: str = "") -> Backlog:
        """What `boot` finds."""
        lanes = {}
        for stream, entry in sorted(self.lanes.items(), key=lambda item: item[1].no):
            ids = sorted(id_ for id_ in self.rows if lane_of(id_) == entry.no)
            first = self.rows[ids[0]] if ids else None
            lanes[stream] = (
                LaneFound(entry=entry)
                if first is None
                else LaneFound(entry=entry, first=ids[0], last=ids[-1], boot=first.boot, accepted=first.accepted)
            )
        dead = tuple(
            DeadRow(
                id_,
                one.row.stream,
                one.row.boot,
                one.row.seq,
                one.row.key,
                one.row.attempts,
                len(one.row.data),
                one.since,
                one.reason,
            )
            for id_, one in sorted(self.dead.items())
        )
        return Backlog(
            kernel=kernel,
            lanes=lanes,
            boots=tuple(one for one in self._needed(lanes, dead) if one.boot != boot),
            dead=dead,
            receipts=tuple(self.standings.values()),
        )

    def _needed(self, lanes: Mapping[str, LaneFound], dead: Sequence[DeadRow]) -> Iterator[BootFound]:
        """Boots of which something may remain, oldest first; the last one always."""
        order = list(self.boots)
        named = {letter.boot for letter in dead}
        for lane in lanes.values():
            named.update(gap.boot or lane.entry.boot for gap in lane.entry.gaps)
        firsts = [order.index(lane.boot) for lane in lanes.values() if lane.first]
        oldest = min([*firsts, len(order) - 1])
        for place, boot in enumerate(order):
            if place >= oldest or boot in named:
                yield self.boots[boot]
            else:
                del self.boots[boot]


def _unknown(boot: str) -> BootFound:
    return BootFound(boot=boot, kernel="", offset=0, synced=False, last=Ns(0), clean=False)
