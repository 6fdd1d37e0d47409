"""What gives way when the outbox is full, when the disk is, or when nothing can be written."""

from __future__ import annotations

from collections.abc import Sequence

from chappe.core.lane import Lane
from chappe.core.queue import Totals
from chappe.core.row import Row
from chappe.core.settings import Outbox as Limits

PROTECTED_PRIORITY = 8
NEARLY = 0.8


class Bounds:
    """Keeps the outbox within its limits: says which row gives way next.

    Args:
        limits: bounds, and what the owner wants dropped first.
        totals: what waits in all lanes.
        lanes: every lane.
    """

    def __init__(self, limits: Limits, totals: Totals, lanes: Sequence[Lane]) -> None:
        self._limits = limits
        self._totals = totals
        self._lanes = lanes
        self._frozen: int | None = None

    def disk(self, free: float) -> None:
        """The disk has this share of free room: below the limit the outbox does not grow."""
        if free >= self._limits.disk_free:
            self._frozen = None
        elif self._frozen is None:
            self._frozen = self._totals.bytes

    @property
    def over(self) -> bool:
        """Whether something has to give way."""
        return self._brimful or self._crowded

    @property
    def _brimful(self) -> bool:
        totals, limits = self._totals, self._limits
        return totals.rows > limits.rows or totals.bytes > limits.bytes or totals.loose > limits.memory_bytes

    @property
    def _crowded(self) -> bool:
        """Whether it has grown since the disk ran low."""
        return self._frozen is not None and self._totals.bytes > self._frozen

    @property
    def nearly(self) -> bool:
        """Whether four fifths of any bound are used."""
        totals, limits = self._totals, self._limits
        used = max(totals.rows / limits.rows, totals.bytes / limits.bytes, totals.loose / limits.memory_bytes)
        return used >= NEARLY or self._frozen is not None

    def victim(self) -> tuple[Lane, Row] | None:
        """Which row gives way: `latest` before `log`, low priority before high, alarms last; None when nothing has to or can."""
        if not self.over:
            return None
        # While nothing can be written, what lies on disk already takes no room where it is short.
        loose = self._totals.loose > self._limits.memory_bytes
        # Alarms wait in memory where the disk is short: only what bounds that takes them.
        lanes = self._lanes if self._brimful else [one for one in self._lanes if one.spec.priority < PROTECTED_PRIORITY]
        pick = _last if self._limits.spill == "newest" and not loose else _first
        choices = [(lane, row) for lane in lanes if (row := pick(lane, loose=loose)) is not None]
        return min(choices, key=lambda choice: self._worth(*choice), default=None)

    def _worth(self, lane: Lane, row: Row) -> tuple[bool, bool, int, int]:
        protected = lane.spec.priority >= PROTECTED_PRIORITY
        age = -row.accepted if self._limits.spill == "newest" else row.accepted
        if self._limits.spill_order == "age":
            return protected, False, 0, age
        return protected, lane.spec.class_ != "latest", lane.spec.priority, age


def _last(lane: Lane, *, loose: bool) -> Row | None:
    """The newest row of a lane that may give way."""
    del loose
    rows = lane.queue.tail or lane.queue.rows
    return rows[-1] if rows and rows[-1].payload is None else None


def _first(lane: Lane, *, loose: bool) -> Row | None:
    """The oldest row of a lane that may give way: one that was not handed to a socket in this boot."""
    if not loose or not lane.durable:
        return next((row for row in lane.queue.rows if row.payload is None), None)
    return next(
        (row for row in lane.pending if row.dirty and not row.stored and not row.done and row.payload is None), None
    )
