"""What is written to the store, and when: the rules of durability as a state machine.

=========================  ==========================================================================
a row is written           when
=========================  ==========================================================================
durability `first`         before it is handed to a socket: at once, or with all others 20 ms after the last
`behind`, link up          the oldest that is not acknowledged is 250 ms old: all older than 125 ms
`behind`, link lost        all at once; from then on like `first`
class `latest`             at most every 10 s, and at a clean stop
`memory`, `transient`      never
=========================  ==========================================================================

Acknowledged rows are deleted with the next commit, at the latest 250 ms or 1,000 acknowledgements later. The books ride along; alone they are
written every 10 s. One commit is under way at a time: what comes meanwhile makes the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from chappe.core.books import Book
from chappe.core.boots import Boots
from chappe.core.clock import WallClock
from chappe.core.effects import Commit
from chappe.core.lane import Lane
from chappe.core.row import Row
from chappe.core.stored import Burial, LaneEntry, Standing
from chappe.core.units import MILLISECOND, SECOND, Ns

GROUP = 20 * MILLISECOND
AGE = 250 * MILLISECOND
YOUNG = 125 * MILLISECOND
DELETE_WITHIN = 250 * MILLISECOND
DELETE_AT = 1000
BOOKS_EVERY = 10 * SECOND
LATEST_EVERY = 10 * SECOND
RETRY_EVERY = SECOND

LARGEST = 5_000
"""Rows in one commit: what is written meanwhile must not wait for long."""


class Batch(msgspec.Struct):
    """One lane's part in the commit under way."""

    lane: Lane
    rows: list[Row]
    gone: list[tuple[int, int]]
    burials: list[tuple[Row, str]]


class Keeper:
    """Decides about commits.

    Args:
        boot: this boot.
        lanes: all streams.
        clock: goes into the table of boots with each commit.
        boots: other boots' clocks.
        standings: delivery states that have changed since the last call.
        now: when the boot began.

    Attributes:
        due: when `commit` wants to be called.
        failing: why nothing can be written, empty while it can.
        opened: whether the store knows of this boot, so that a kill from now on is seen by the next one.
    """

    def __init__(
        self,
        boot: str,
        lanes: Mapping[str, Lane],
        clock: WallClock,
        boots: Boots,
        standings: Callable[[], tuple[Standing, ...]],
        now: Ns,
    ) -> None:
        self.due: Ns | None = now
        self.failing = ""
        self.opened = False
        self._boot = boot
        self._lanes = lanes
        self._clock = clock
        self._boots = boots
        self._standings = standings
        self._number = 0
        self._under_way: list[Batch] | None = None
        self._owed: tuple[Standing, ...] = ()
        self._forgotten: list[int] = []
        self._forgetting = 0
        self._gone = 0
        self._latest_at: Ns | None = None
        self._books_at = Ns(now + BOOKS_EVERY)
        self._at_once = False
        self._retry_at = now
        self._last = Ns(now - GROUP)

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────────

    def wants(self, moment: int) -> None:
        """Something should be written by `moment`."""
        if self.due is None or moment < self.due:
            self.due = Ns(moment)

    def entered(self, lane: Lane, now: Ns, *, online: bool) -> None:
        """A value entered `lane`, or took a row's place."""
        if not lane.durable:
            return
        if lane.spec.class_ == "latest" and lane.spec.durability != "first":
            if self._latest_at is None:
                self._latest_at = Ns(now + LATEST_EVERY)
            self.wants(self._latest_at)
        else:
            self.wants(self._group(now) if lane.spec.durability == "first" or not online else now + AGE)

    def _group(self, now: Ns) -> int:
        """When what came now is written: at once, but not within 20 ms of the last commit."""
        return max(now, self._last + GROUP)

    def freed(self, rows: int, now: Ns) -> None:
        """Rows that are in the table are done with."""
        self._gone += rows
        self.wants(now if self._gone >= DELETE_AT else now + DELETE_WITHIN)

    def forget(self, ids: Iterable[int], now: Ns) -> None:
        """Dead letters to be deleted."""
        self._forgotten.extend(ids)
        self.wants(now)

    def all_at_once(self, now: Ns) -> None:
        """The link is lost: what is not acknowledged goes to disk now."""
        self._at_once = True
        self.wants(now)

    @property
    def next_due(self) -> Ns | None:
        """When `commit` wants to be called; None while a commit is under way, or there is nothing to write."""
        return None if self._under_way is not None else self.due

    @property
    def under_way(self) -> bool:
        return self._under_way is not None

    @property
    def rows_under_way(self) -> list[tuple[Lane, Row]]:
        """The rows of the commit under way."""
        return [(batch.lane, row) for batch in self._under_way or () for row in batch.rows]

    # ── the commit ───────────────────────────────────────────────────────────────────────────────────────────────────

    def commit(self, now: Ns, *, online: bool, last: bool = False) -> Commit | None:
        """The next commit, if one is due and none is under way.

        Args:
            now: when.
            online: whether the link is up.
            last: the boot ends: everything goes, whether due or not, and the commit says that the end was clean.
        """
        if not last and not self._may(now):
            return None
        batches = self._gather(now, online=online, whole=last)
        books = last or not self.opened or now >= self._books_at
        self._owed = (*self._owed, *self._standings())
        gaps = any(lane.gaps.changed for lane in self._lanes.values())
        if not (batches or gaps or self._owed or self._forgotten or books):
            self.due = self._next(now, online=online)
            return None
        self._under_way = list(batches.values())
        self._number += 1
        self._last = now
        self._forgetting = len(self._forgotten)
        if books:
            self._books_at = Ns(now + BOOKS_EVERY)
        commit = Commit(
            number=self._number,
            at=now,
            rows=tuple(
                row.as_stored(batch.lane.spec.name, self._boot, self._boots.there(row.boot, row.accepted))
                for batch in self._under_way
                for row in batch.rows
            ),
            gone=tuple(id_ for batch in self._under_way for id_, _ in batch.gone),
            burials=tuple(self._burial(batch, *burial, now) for batch in self._under_way for burial in batch.burials),
            forgotten=tuple(self._forgotten),
            lanes={
                name: self._entry(lane, batches.get(name))
                for name, lane in self._lanes.items()
                if self._told(lane, name in batches, books)
            },
            standings=self._owed,
            boot=self._boot,
            offset=self._clock.offset,
            synced=self._clock.synced,
            clean=last,
        )
        self.due = None
        return commit

    def _may(self, now: Ns) -> bool:
        if self.due is None or now < self.due or self.under_way:
            return False
        if now < self._retry_at:
            self.due = self._retry_at
            return False
        return True

    def _told(self, lane: Lane, touched: bool, books: bool) -> bool:
        return touched or lane.gaps.changed or not self.opened or (books and lane.changed)

    def _gather(self, now: Ns, *, online: bool, whole: bool) -> dict[str, Batch]:
        cut = self._cut(now, online=online, whole=whole)
        latest = whole or (self._latest_at is not None and now >= self._latest_at)
        self._gone = 0
        room = LARGEST if not self.failing else self._room_while_failing()
        found: dict[str, Batch] = {}
        for name, lane in self._lanes.items():
            rows: list[Row] = []
            if lane.durable and (latest or lane.spec.class_ != "latest" or lane.spec.durability == "first"):
                limit = now if lane.spec.durability == "first" or lane.spec.class_ == "latest" else cut
                rows = _take(lane, limit, None if whole else max(0, room))
                room -= len(rows)
            gone, lane.gone = lane.gone, []
            burials, lane.burials = lane.burials, []
            if rows or gone or burials:
                found[name] = Batch(lane, rows, gone, burials)
        if latest:
            self._latest_at = None
        self._at_once = self._at_once and room <= 0
        return found

    def _room_while_failing(self) -> int:
        """A full disk takes deletions, and only then rows again."""
        full = self.failing == "store_full"
        return 0 if full and any(lane.gone or lane.burials for lane in self._lanes.values()) else 100

    def _cut(self, now: Ns, *, online: bool, whole: bool) -> Ns:
        """Rows of `behind` streams accepted until then are written."""
        if whole or not online or self._at_once:
            return now
        oldest = min((row.accepted for lane in self._behind() if (row := _oldest(lane)) is not None), default=now)
        return Ns(now - YOUNG) if now - oldest >= AGE else Ns(-1)

    def _behind(self) -> Sequence[Lane]:
        return [
            lane
            for lane in self._lanes.values()
            if lane.spec.durability == "behind" and lane.durable and lane.spec.class_ != "latest"
        ]

    def _next(self, now: Ns, *, online: bool) -> Ns | None:
        """When something will be due, as things are."""
        moments = [self._books_at] if any(lane.changed for lane in self._lanes.values()) else []
        if self._latest_at is not None:
            moments.append(self._latest_at)
        for lane in self._lanes.values():
            row = _oldest(lane) if lane.durable else None
            if row is not None and (lane.spec.class_ != "latest" or lane.spec.durability == "first"):
                group = lane.spec.durability == "first" or not online or self._at_once
                moments.append(Ns(self._group(now) if group else max(now, row.accepted + AGE)))
            if lane.gone or lane.burials or lane.gaps.changed:
                moments.append(Ns(self._group(now) if lane.gaps.changed or lane.burials else now + DELETE_WITHIN))
        return min(moments, default=None)

    def _burial(self, batch: Batch, row: Row, reason: str, now: Ns) -> Burial:
        accepted = self._boots.there(row.boot, row.accepted)
        return Burial(row.as_stored(batch.lane.spec.name, self._boot, accepted), self._clock.wall(now), reason)

    def _entry(self, lane: Lane, batch: Batch | None) -> LaneEntry:
        """The lane as it is in the table once the commit is done."""
        queue = lane.queue
        rows, size = queue.stored, queue.stored_bytes
        if batch is not None:
            new = [row for row in batch.rows if not row.stored]
            old = [row for row, _ in batch.burials if row.stored]
            rows += len(new) - len(batch.gone) - len(old)
            size += sum(row.size for row in new) - sum(size for _, size in batch.gone) - sum(row.size for row in old)
        entry = LaneEntry(
            no=lane.no,
            next=lane.next,
            rows=rows,
            bytes=max(0, size),
            book=_settled(lane.book, rows + lane.dead),
            boot=self._boot,
            seq=lane.unsettled - 1,
            gaps=lane.gaps.as_stored(self._boot),
        )
        lane.changed = False
        lane.gaps.changed = False
        return entry

    # ── the answer ───────────────────────────────────────────────────────────────────────────────────────────────────

    def committed(self, now: Ns, *, online: bool) -> None:
        """The commit under way is on the disk."""
        for batch in self._under_way or ():
            queue = batch.lane.queue
            for row in batch.rows:
                self._wrote(batch.lane, row)
            queue.deleted(len(batch.gone), sum(size for _, size in batch.gone))
            for row, _ in batch.burials:
                if row.stored:
                    queue.deleted(1, row.size)
            queue.shelve()
        if any(batch.rows for batch in self._under_way or ()) or not any(map(_oldest, self._lanes.values())):
            self.failing = ""
        self._under_way = None
        self._owed = ()
        del self._forgotten[: self._forgetting]
        self.opened = True
        self.due = self._next(now, online=online)

    def _wrote(self, lane: Lane, row: Row) -> None:
        row.writing = False
        if not row.stored:
            row.stored = True
            lane.queue.written(row)
        if row.lost is not None and not row.dirty:
            lane.gaps.arrived(row.id)
        if row.done:
            lane.gone.append((row.id, row.size))

    def failed(self, code: str, now: Ns, *, online: bool) -> None:
        """Nothing of the commit under way is on the disk: all of it waits again."""
        for batch in self._under_way or ():
            lane = batch.lane
            for row in reversed(batch.rows):
                row.writing = False
                if not row.done:
                    row.dirty = True
                    lane.pending.appendleft(row)
            lane.gone[:0] = batch.gone
            lane.burials[:0] = batch.burials
            lane.changed = True
            lane.gaps.changed = True
        self._under_way = None
        self.failing = code
        self.opened = True
        self._retry_at = Ns(now + RETRY_EVERY)
        due = self._next(now, online=online)
        self.due = self._retry_at if due is None else max(self._retry_at, due)

    def reset(self, now: Ns) -> None:
        """The store has lost its file: whatever is in memory is written again."""
        for lane in self._lanes.values():
            for row in (*lane.rows, *lane.flying.values(), *(row for row, _ in lane.confirming.values())):
                if row.stored:
                    row.stored, row.dirty = False, True
                    lane.queue.lapsed(row)
                    lane.pending.append(row)
            lane.changed = lane.gaps.changed = True
        self.all_at_once(now)


def _oldest(lane: Lane) -> Row | None:
    """The oldest row that has to be written."""
    pending = lane.pending
    while pending and (pending[0].done or not pending[0].dirty):
        pending.popleft()
    return pending[0] if pending else None


def _take(lane: Lane, limit: Ns, room: int | None) -> list[Row]:
    """Take rows accepted until `limit` out of those that have to be written."""
    rows: list[Row] = []
    while (row := _oldest(lane)) is not None and row.accepted <= limit and (room is None or len(rows) < room):
        lane.pending.popleft()
        row.dirty = False
        row.writing = True
        rows.append(row)
    return rows


def _settled(book: Book, queued: int) -> Book:
    """The books without what is in memory alone."""
    loose = book.queued - queued
    values = {name: getattr(book, name) for name in Book.__struct_fields__}
    return Book(**{**values, "produced": book.produced - loose, "queued": queued})
