"""One stream's part in a commit: what it writes and deletes, and what becomes of that when the commit is done or has failed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import count

from chappe.core.books import Book
from chappe.core.boots import Boots
from chappe.core.clock import WallClock
from chappe.core.effects import Commit
from chappe.core.lane import Lane
from chappe.core.row import Row
from chappe.core.stored import Burial, LaneEntry, Standing, StoredRow
from chappe.core.units import Ns


class Batch:
    """Rows to write, rows to delete, and dead letters of one lane.

    Args:
        lane: the stream; what has to be deleted or buried is taken from it.
        rows: taken from those it has to write, see `take`.
    """

    def __init__(self, lane: Lane, rows: list[Row]) -> None:
        self.lane = lane
        self.rows = rows
        self.gone, lane.gone = lane.gone, []
        self.burials, lane.burials = lane.burials, []
        self.unsure, lane.unsure = lane.unsure, []

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.rows or self.gone or self.burials or self.unsure)

    @property
    def leaving(self) -> list[int]:
        """Ids of the rows to delete."""
        return [*(row_id for row_id, _ in self.gone), *self.unsure]

    def done(self) -> None:
        """It is on the disk."""
        queue = self.lane.queue
        for row in self.rows:
            row.writing = False
            if not row.stored:
                row.stored = True
                queue.written(row)
            if row.lost is not None and not row.dirty:
                self.lane.gaps.arrived(row.id)
            if row.done:
                self._done_with(row)
        queue.deleted(len(self.gone), sum(size for _, size in self.gone))
        for row, _ in self.burials:
            if row.stored:
                queue.deleted(1, row.size)
        queue.shelve()

    def _done_with(self, row: Row) -> None:
        """A row that was done with while it was being written: one that was buried leaves the table with its burial."""
        lane = self.lane
        if all(row is not buried for buried, _ in lane.burials):
            if row.stored:
                lane.gone.append((row.id, row.size))
            else:
                lane.unsure.append(row.id)

    def undone(self) -> None:
        """It is not: all of it waits again."""
        lane = self.lane
        for row in reversed(self.rows):
            row.writing = False
            if row.done:
                self._done_with(row)
            else:
                row.dirty = True
                lane.pending.appendleft(row)
        lane.gone[:0] = self.gone
        lane.burials[:0] = self.burials
        lane.unsure[:0] = self.unsure


def oldest(lane: Lane) -> Row | None:
    """The oldest row that has to be written."""
    pending = lane.pending
    while pending and (pending[0].done or not pending[0].dirty):
        pending.popleft()
    return pending[0] if pending else None


def take(lane: Lane, limit: Ns, room: int | None) -> list[Row]:
    """Take rows accepted until `limit`, at most `room` (None: all), out of those that have to be written."""
    rows: list[Row] = []
    while (row := oldest(lane)) is not None and row.accepted <= limit and (room is None or len(rows) < room):
        lane.pending.popleft()
        row.dirty = False
        row.writing = True
        rows.append(row)
    return rows


class Scribe:
    """Writes commits out.

    Args:
        boot: this boot.
        clock: goes into the table of boots with each commit.
        boots: other boots' clocks.
    """

    def __init__(self, boot: str, clock: WallClock, boots: Boots) -> None:
        self._boot = boot
        self._clock = clock
        self._boots = boots
        self._numbers = count(1)

    def commit(
        self,
        batches: Mapping[str, Batch],
        lanes: Mapping[str, Lane],
        now: Ns,
        *,
        forgotten: Collection[int],
        standings: tuple[Standing, ...],
        clean: bool,
    ) -> Commit:
        """The next commit.

        Args:
            batches: by stream.
            lanes: streams whose entries are written.
            now: when.
            forgotten: dead letters to delete.
            standings: delivery states to keep.
            clean: whether the boot ends with it.
        """
        dead = [(batch.lane, row, reason) for batch in batches.values() for row, reason in batch.burials]
        never = {row.id for _, row, _ in dead}.intersection(forgotten)  # given up before they were buried
        return Commit(
            number=next(self._numbers),
            at=now,
            rows=tuple(self._row(batch.lane, row) for batch in batches.values() for row in batch.rows),
            gone=(*(row_id for batch in batches.values() for row_id in batch.leaving), *never),
            burials=tuple(
                Burial(self._row(lane, row), self._clock.wall(now), reason)
                for lane, row, reason in dead
                if row.id not in never
            ),
            forgotten=tuple(forgotten),
            lanes={name: self._entry(lane, batches.get(name)) for name, lane in lanes.items()},
            standings=standings,
            boot=self._boot,
            offset=self._clock.offset,
            synced=self._clock.synced,
            clean=clean,
        )

    def _row(self, lane: Lane, row: Row) -> StoredRow:
        return row.as_stored(lane.spec.name, self._boot, self._boots.there(row.boot, row.accepted))

    def _entry(self, lane: Lane, batch: Batch | None) -> LaneEntry:
        """The lane as it is in the table once the commit is done."""
        rows, size = lane.queue.stored, lane.queue.stored_bytes
        if batch is not None:
            new = [row for row in batch.rows if not row.stored]
            old = [row for row, _ in batch.burials if row.stored]
            rows += len(new) - len(batch.gone) - len(old)
            size += sum(row.size for row in new) - sum(size for _, size in batch.gone) - sum(row.size for row in old)
        lane.changed = lane.gaps.changed = False
        return LaneEntry(
            no=lane.no,
            next=lane.next,
            rows=rows,
            bytes=max(0, size),
            book=_settled(lane.book, rows + lane.dead),
            boot=self._boot,
            seq=unsettled(lane) - 1,
            gaps=lane.gaps.as_stored(self._boot),
        )


def _settled(book: Book, queued: int) -> Book:
    """The books without what is in memory alone."""
    loose = book.queued - queued
    values = {name: getattr(book, name) for name in Book.__struct_fields__}
    return Book(**{**values, "produced": book.produced - loose, "queued": queued})


def unsettled(lane: Lane) -> int:
    """Lowest number of this boot that is neither on disk nor done with; one more than the last number given where there is none."""
    pending = lane.pending
    while pending and (pending[0].done or (pending[0].stored and not pending[0].dirty)):
        pending.popleft()
    if not lane.durable or lane.spec.class_ == "latest":
        flying = lane.flying.values()
        loose = [row.seq for row in (*lane.rows, *flying) if not row.stored and not row.writing and not row.boot]
        return min(loose, default=lane.seq + 1)
    return next((row.seq for row in pending if not row.stored and not row.done and not row.boot), lane.seq + 1)
