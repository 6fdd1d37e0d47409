"""What gives way when the outbox is full, or when there is nobody to send a transient value to."""

from __future__ import annotations

from collections.abc import Sequence

from chappe.core.lane import Lane, Row, Totals
from chappe.core.settings import Outbox as Limits

PROTECTED_PRIORITY = 8


class Bounds:
    """Keeps the outbox within its limits. What is dropped is counted and disclosed by its lane.

    Args:
        limits: bounds, and what the owner wants dropped first.
        totals: what waits in all lanes.
        lanes: every lane.
    """

    def __init__(self, limits: Limits, totals: Totals, lanes: Sequence[Lane]) -> None:
        self._limits = limits
        self._totals = totals
        self._lanes = lanes

    def hold(self, lane: Lane, *, online: bool) -> None:
        """Make room after `lane` took in a value. A row that was ever handed to a socket is never dropped."""
        if lane.spec.class_ == "transient" and not online:
            while lane.rows:
                lane.drop(0, "offline")
        while self._over() and (victim := self._victim(lane)) is not None:
            chosen, index = victim
            chosen.drop(index, "spilled")

    def _over(self) -> bool:
        return self._totals.rows > self._limits.rows or self._totals.bytes > self._limits.bytes

    def _victim(self, newest: Lane) -> tuple[Lane, int] | None:
        """Which row gives way: `latest` before `log`, low priority before high, alarms last."""
        choices = [(lane, index) for lane in self._lanes if (index := lane.spillable()) is not None]
        if not choices:
            return None
        if self._limits.spill == "newest" and newest.rows and newest.rows[-1].payload is None:
            return newest, len(newest.rows) - 1
        return min(choices, key=lambda choice: self._worth(choice[0], choice[0].rows[choice[1]]))

    def _worth(self, lane: Lane, row: Row) -> tuple[bool, bool, int, int]:
        protected = lane.spec.priority >= PROTECTED_PRIORITY
        if self._limits.spill_order == "age":
            return protected, False, 0, row.accepted
        return protected, lane.spec.class_ != "latest", lane.spec.priority, row.accepted
