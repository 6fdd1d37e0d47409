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

from collections.abc import Callable, Iterable, Mapping

from chappe.core.batch import Batch, Scribe, oldest, take
from chappe.core.boots import Boots
from chappe.core.clock import WallClock
from chappe.core.effects import Commit
from chappe.core.lane import Lane
from chappe.core.row import Row
from chappe.core.stored import Standing
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
        retry_at: no commit before this, as the disk is bad, or the store itself is about to change what commits tell.
        known: whether the store knows of this boot, so that a kill from now on is seen by the next one.
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
        self.known = False
        self._lanes = lanes
        self._scribe = Scribe(boot, clock, boots)
        self._standings = standings
        self._under_way: list[Batch] | None = None
        self._telling: list[Lane] = []
        self._owed: dict[tuple[str, str, int], Standing] = {}
        self._forgotten: list[int] = []
        self._forgetting = 0
        self._gone = 0
        self._latest_at: Ns | None = None
        self._books_at = Ns(now + BOOKS_EVERY)
        self._at_once = False
        self.retry_at = now
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
        if _is_latest(lane):
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
        books = last or not self.known or now >= self._books_at
        self._owed.update(((one.stream, one.boot, one.seq), one) for one in self._standings())
        lanes = {
            name: lane
            for name, lane in self._lanes.items()
            if name in batches or lane.gaps.changed or not self.known or (books and lane.changed)
        }
        if not (lanes or self._owed or self._forgotten or not self.known or last):
            self.due = self._next(now, online=online)
            return None
        self._under_way = list(batches.values())
        self._telling = list(lanes.values())
        self._last = now
        self._forgetting = len(self._forgotten)
        if books:
            self._books_at = Ns(now + BOOKS_EVERY)
        self.due = None
        return self._scribe.commit(
            batches, lanes, now, forgotten=self._forgotten, standings=tuple(self._owed.values()), clean=last
        )

    def _may(self, now: Ns) -> bool:
        if self.due is None or now < self.due or self._under_way is not None:
            return False
        if now < self.retry_at:
            self.due = self.retry_at
            return False
        return True

    def _gather(self, now: Ns, *, online: bool, whole: bool) -> dict[str, Batch]:
        cut = now if whole or self._at_once or not online else _behind(self._lanes.values(), now)
        latest = whole or (self._latest_at is not None and now >= self._latest_at)
        self._gone = 0
        room = LARGEST if not self.failing else _room_on_a_bad_disk(self.failing, self._lanes.values())
        found: dict[str, Batch] = {}
        for name, lane in self._lanes.items():
            rows: list[Row] = []
            if lane.durable and (latest or lane.urgent or not _is_latest(lane)):
                at_once = lane.urgent or lane.spec.durability == "first" or lane.spec.class_ == "latest"
                limit = now if at_once else cut
                rows = take(lane, limit, None if whole else max(0, room))
                room -= len(rows)
            lane.urgent = lane.urgent and room <= 0
            batch = Batch(lane, rows)
            if not batch.empty:
                found[name] = batch
        if latest:
            self._latest_at = None
        self._at_once = self._at_once and room <= 0
        return found

    def _next(self, now: Ns, *, online: bool) -> Ns | None:
        """When something will be due, as things are."""
        moments: list[int] = [] if self.known else [self._group(now)]
        moments += [self._books_at] if any(lane.changed for lane in self._lanes.values()) else []
        if self._latest_at is not None:
            moments.append(self._latest_at)
        for lane in self._lanes.values():
            row = oldest(lane) if lane.durable else None
            if row is not None and (lane.urgent or not _is_latest(lane)):
                group = lane.urgent or lane.spec.durability == "first" or not online or self._at_once
                moments.append(Ns(self._group(now) if group else max(now, row.accepted + AGE)))
            if lane.gone or lane.burials or lane.gaps.changed:
                moments.append(Ns(self._group(now) if lane.gaps.changed or lane.burials else now + DELETE_WITHIN))
        return Ns(min(moments)) if moments else None

    # ── the answer ───────────────────────────────────────────────────────────────────────────────────────────────────

    def committed(self, now: Ns, *, online: bool) -> None:
        """The commit under way is on the disk."""
        under_way = self._under_way or []
        for batch in under_way:
            batch.done()
        if any(batch.rows for batch in under_way) or not any(map(oldest, self._lanes.values())):
            self.failing = ""
        self._under_way = None
        self._owed.clear()
        del self._forgotten[: self._forgetting]
        self.known = True
        self.due = self._next(now, online=online)

    def failed(self, code: str, now: Ns, *, online: bool) -> None:
        """Nothing of the commit under way is on the disk: all of it waits again."""
        for batch in self._under_way or ():
            batch.undone()
        for lane in self._telling:
            lane.changed = lane.gaps.changed = True
        self._under_way = None
        self.failing = code
        self.retry_at = Ns(now + RETRY_EVERY)
        due = self._next(now, online=online)
        self.due = self.retry_at if due is None else max(self.retry_at, due)


def _is_latest(lane: Lane) -> bool:
    """Whether a lane's rows are written now and then only."""
    return lane.spec.class_ == "latest" and lane.spec.durability != "first"


def _room_on_a_bad_disk(failing: str, lanes: Iterable[Lane]) -> int:
    """Rows to try at a time while commits fail; a full disk takes deletions, and only then rows again."""
    full = failing == "store_full"
    return 0 if full and any(lane.gone or lane.burials for lane in lanes) else 100


def _behind(lanes: Iterable[Lane], now: Ns) -> Ns:
    """Rows of `behind` streams accepted until then are written: none before the oldest is of age."""
    waiting = [
        row.accepted
        for lane in lanes
        if lane.spec.durability == "behind" and lane.durable and lane.spec.class_ != "latest"
        if (row := oldest(lane)) is not None
    ]
    return Ns(now - YOUNG) if waiting and now - min(waiting) >= AGE else Ns(-1)
