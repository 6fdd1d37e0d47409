"""`Shelf`: the store as a fake in plain Python, for devices at manual time.

It obeys the same effects with the same answers as ``chappe.edge.store.Store`` (one suite runs over both), keeps everything in dictionaries, and can
be told to fail, to take its time, and to be killed.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from chappe.core import effects as ef
from chappe.core import events as ev
from chappe.core.row import OVERHEAD
from chappe.core.stored import (
    Backlog,
    BootFound,
    Burial,
    DeadRow,
    FaultCode,
    LaneEntry,
    LaneFound,
    Standing,
    StoredRow,
    lane_of,
)
from chappe.core.units import SECOND, Ns
from chappe.testing.annals import Annals, Bounds
from chappe.testing.clock import ManualClock

SAMPLE_EVERY = 10 * SECOND
BATCH_EVERY = 10 * SECOND
BATCH_BYTES = 64 * 1024


class Tables(msgspec.Struct):
    """What is on the disk of a `Shelf`."""

    rows: dict[int, StoredRow] = {}
    dead: dict[int, Burial] = {}
    lanes: dict[str, LaneEntry] = {}
    boots: dict[str, BootFound] = {}
    standings: dict[tuple[str, str, int], Standing] = {}
    memory: dict[str, str] = {}
    annals: Annals = msgspec.field(default_factory=Annals)

    def after_kill(self) -> Tables:
        """A copy of what a kill leaves."""
        plain = {name: dict(getattr(self, name)) for name in Tables.__struct_fields__ if name != "annals"}
        return Tables(**plain, annals=self.annals.after_kill())


class Shelf:
    """A store that is not there.

    Args:
        clock: the time.
        post: takes events.
        history_bytes: most bytes of the history.
        retention: how long each stream's messages stay in the history.
        disk_free: share of the disk that is to stay free.
        boot: this start of the daemon.
        kernel: kernel boot id.
        tables: what an earlier one left behind.

    Attributes:
        fail: code with which commits fail; None for not at all.
        delay: how long each commit takes.
        free: share of the disk that is free.
        tables: what a kill leaves.
    """

    def __init__(
        self,
        clock: ManualClock,
        post: Callable[[ev.Event], None],
        *,
        history_bytes: int = 256 << 20,
        retention: Mapping[str, Ns] | None = None,
        disk_free: float = 0.05,
        boot: str = "",
        kernel: str = "kernel",
        tables: Tables | None = None,
    ) -> None:
        self.fail: FaultCode | None = None
        self.delay = Ns(0)
        self.free = 1.0
        self.tables = tables or Tables()
        self._clock = clock
        self._post = post
        self._bounds = Bounds(history_bytes, retention or {})
        self._disk_free = disk_free
        self._boot = boot
        self._kernel = kernel
        self._found = Backlog()
        self._todo: deque[tuple[Ns, ef.Effect]] = deque()
        self._begun: Ns | None = None
        self._memory: dict[str, str] = {}
        self._flush_at: Ns | None = None
        self._sample_at = Ns(0)
        self._low: bool | None = None
        self._standing: set[str] = set()

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def open(self, *, threaded: bool = False) -> None:
        """Look at what is there; `threaded` is for the likeness."""
        del threaded
        self._found = _backlog(self.tables, self._kernel)

    def backlog(self) -> Backlog:
        """What was there when the store was opened."""
        return self._found

    def memory(self) -> dict[str, Any]:
        """Everything that was remembered."""
        return {key: json.loads(value) for key, value in self.tables.memory.items()}

    def close(self) -> None:
        """Do what waits, at once."""
        while self._todo:
            self._do(self._todo.popleft()[1])
        self._remember()
        self._flush()

    def crash(
        self,
        clock: ManualClock | None = None,
        post: Callable[[ev.Event], None] | None = None,
        *,
        boot: str = "",
        kernel: str = "",
    ) -> Shelf:
        """The store as the next boot finds it after a kill at this moment: what was not committed is gone.

        Args:
            clock: the next boot's clock; this one's by default.
            post: takes the next boot's events.
            boot: the next boot.
            kernel: the next kernel boot; the same by default, as only the daemon was killed.
        """
        self._todo.clear()
        return Shelf(
            clock or self._clock,
            post or self._post,
            history_bytes=self._bounds.bytes,
            retention=self._bounds.retention,
            disk_free=self._disk_free,
            boot=boot or self._boot,
            kernel=kernel or self._kernel,
            tables=self.tables.after_kill(),
        )

    # ── work ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def handle(self, effects: Sequence[ef.Effect]) -> None:
        """Take in what is to be done."""
        self._todo.extend((self._clock.now(), effect) for effect in effects if type(effect) in self._deeds)

    def step(self, now: Ns) -> Ns | None:
        """Do all that waits; returns when to come back."""
        while self._todo:
            due = self._due(now)
            if due > now:
                return min(due, self._sample_at) if self._sample_at > now else due
            self._begun = None
            self._do(self._todo.popleft()[1])
        self._remember()
        if self._flush_at is not None and now >= self._flush_at:
            self._flush()
        self._sample(now)
        return min(moment for moment in (self._sample_at, self._flush_at) if moment is not None)

    def _due(self, now: Ns) -> Ns:
        """When the first of what waits is done."""
        effect = self._todo[0][1]
        if not isinstance(effect, ef.Commit) or not self.delay:
            return now
        if self._begun is None:
            self._begun = now
        return Ns(self._begun + self.delay)

    def _do(self, effect: ef.Effect) -> None:
        self._deeds[type(effect)](self, effect)

    def _commit(self, effect: ef.Commit) -> None:
        now, tables = self._clock.now(), self.tables
        growth = bool(effect.rows or effect.burials)
        if self.fail is not None and (growth or self.fail != "store_full"):
            self._report(self.fail)
            self._post(ev.CommitFailed(at=now, number=effect.number, code=self.fail, message="as told"))
            return
        self._heal("store_failed")
        if self.fail is None:
            self._heal("store_full")
        self._remember()
        gone = {*effect.gone, *(burial.row.id for burial in effect.burials)}
        for id_ in gone:
            tables.rows.pop(id_, None)
        for id_ in effect.forgotten:
            tables.dead.pop(id_, None)
        tables.rows.update({row.id: row for row in effect.rows if row.id not in gone})
        tables.dead.update({burial.row.id: burial for burial in effect.burials})
        tables.lanes.update(effect.lanes)
        tables.standings.update({(one.stream, one.boot, one.seq): one for one in effect.standings})
        self._note_boots(effect)
        self._post(ev.Committed(at=now, number=effect.number, took=self.delay))

    def _note_boots(self, effect: ef.Commit) -> None:
        for name in (*(row.boot for row in effect.rows), *(burial.row.boot for burial in effect.burials)):
            self.tables.boots.setdefault(name, _unknown(name))
        if effect.boot:
            before = self.tables.boots.get(effect.boot) or _unknown(effect.boot)
            self.tables.boots[effect.boot] = BootFound(
                boot=effect.boot,
                kernel=self._kernel,
                offset=effect.offset,
                synced=effect.synced,
                last=max(before.last, effect.at),
                clean=effect.clean,
            )

    def _fetch(self, effect: ef.Fetch) -> None:
        rows: list[StoredRow] = []
        size, after, page = 0, effect.upto, effect.purpose == "page"
        for id_ in self._ids(effect.after, effect.upto):
            row = self.tables.rows[id_]
            rows.append(row if page else msgspec.structs.replace(row, data=b""))
            size += len(row.data)
            if len(rows) == effect.limit or (page and size >= effect.most_bytes):
                after = id_
                break
        now = self._clock.now()
        self._post(ev.Fetched(at=now, stream=effect.stream, purpose=effect.purpose, rows=tuple(rows), after=after))

    def _ids(self, after: int, upto: int) -> list[int]:
        return sorted(id_ for id_ in self.tables.rows if after < id_ <= upto)

    def _count(self, effect: ef.Count) -> None:
        rows = [self.tables.rows[id_] for id_ in self._ids(effect.after, effect.upto)]
        first, last = (rows[0].seq, rows[-1].seq) if rows else (0, 0)
        size = sum(len(row.data) for row in rows)
        now = self._clock.now()
        self._post(ev.Counted(at=now, stream=effect.stream, rows=len(rows), bytes=size, first=first, last=last))

    def _exhume(self, effect: ef.Exhume) -> None:
        rows = []
        for id_ in effect.ids:
            burial = self.tables.dead.pop(id_, None)
            if burial is not None:
                row = self.tables.rows[id_] = msgspec.structs.replace(burial.row, attempts=0)
                rows.append(row)
                entry = self.tables.lanes.get(row.stream)
                if entry is not None:
                    self.tables.lanes[row.stream] = msgspec.structs.replace(
                        entry, rows=entry.rows + 1, bytes=entry.bytes + len(row.data) + OVERHEAD
                    )
        self._post(ev.Exhumed(at=self._clock.now(), rows=tuple(rows)))

    def _take_note(self, effect: ef.Remember) -> None:
        self._memory[effect.key] = json.dumps(effect.value)

    def _remember(self) -> None:
        self.tables.memory.update(self._memory)
        self._memory.clear()

    def _chronicle(self, effect: ef.Chronicle) -> None:
        now = self._clock.now()
        if self.tables.annals.add(effect.entries) >= BATCH_BYTES:
            self._flush_at = now
        elif self._flush_at is None:
            self._flush_at = Ns(now + BATCH_EVERY)

    def _flush(self) -> None:
        self._flush_at = None
        self.tables.annals.flush()
        self.tables.annals.prune(self._clock.wall(), self._bounds)

    def _consult(self, effect: ef.Consult) -> None:
        self._flush()
        page = self.tables.annals.answer(effect.query)
        self._post(ev.Consulted(at=self._clock.now(), ticket=effect.ticket, page=page))

    def _place_cursor(self, effect: ef.PlaceCursor) -> None:
        self.tables.annals.cursors[effect.reader, effect.stream] = effect.offset

    # ── disk and faults ──────────────────────────────────────────────────────────────────────────────────────────────

    def _sample(self, now: Ns) -> None:
        low = self.free < self._disk_free
        if now >= self._sample_at or low != self._low:
            if now >= self._sample_at:
                self._sample_at = Ns(now + SAMPLE_EVERY)
                self.tables.annals.prune(self._clock.wall(), self._bounds)
            self._low = low
            used = sum(len(row.data) + OVERHEAD for row in self.tables.rows.values())
            self._post(ev.DiskSampled(at=now, free=self.free, used=used))

    def _report(self, code: str) -> None:
        if code not in self._standing:
            self._standing.add(code)
            self._post(ev.Faulted(at=self._clock.now(), part="store", code=code, message="as told"))

    def _heal(self, *codes: str) -> None:
        for code in codes:
            if code in self._standing:
                self._standing.remove(code)
                self._post(ev.Healed(at=self._clock.now(), part="store", code=code))

    _deeds: ClassVar[Mapping[type[ef.Effect], Callable[[Shelf, Any], None]]] = {
        ef.Commit: _commit,
        ef.Fetch: _fetch,
        ef.Count: _count,
        ef.Exhume: _exhume,
        ef.Remember: _take_note,
        ef.Chronicle: _chronicle,
        ef.Consult: _consult,
        ef.PlaceCursor: _place_cursor,
    }


def _unknown(boot: str) -> BootFound:
    return BootFound(boot=boot, kernel="", offset=0, synced=False, last=Ns(0), clean=False)


def _backlog(tables: Tables, kernel: str) -> Backlog:
    lanes = {}
    for stream, entry in sorted(tables.lanes.items(), key=lambda item: item[1].no):
        ids = sorted(id_ for id_ in tables.rows if lane_of(id_) == entry.no)
        first = tables.rows[ids[0]] if ids else None
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
        for id_, one in sorted(tables.dead.items())
    )
    return Backlog(
        kernel=kernel,
        lanes=lanes,
        boots=tuple(_needed(tables, lanes, dead)),
        dead=dead,
        receipts=tuple(tables.standings.values()),
    )


def _needed(tables: Tables, lanes: Mapping[str, LaneFound], dead: Sequence[DeadRow]) -> Iterator[BootFound]:
    """Boots of which something may remain, oldest first; the last one always."""
    order = list(tables.boots)
    named = {letter.boot for letter in dead}
    for lane in lanes.values():
        named.update(gap.boot or lane.entry.boot for gap in lane.entry.gaps)
    firsts = [order.index(lane.boot) for lane in lanes.values() if lane.first]
    oldest = min([*firsts, len(order) - 1])
    for place, boot in enumerate(order):
        if place >= oldest or boot in named:
            yield tables.boots[boot]
        else:
            del tables.boots[boot]
