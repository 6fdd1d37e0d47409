"""Wall time out of monotonic time: one offset, replaced when the host's clock is stepped."""

from __future__ import annotations

from chappe.core.envelope import iso
from chappe.core.stamp import Stamp
from chappe.core.units import DAY, SECOND, Ns, WallNs


class WallClock:
    """Turns monotonic moments into wall moments.

    Args:
        at: a monotonic moment.
        wall: the wall clock at that moment.
        synced: whether that wall clock is known to be right.
        zone_s: offset of local time from UTC, in seconds.
    """

    def __init__(self, at: Ns, wall: WallNs, synced: bool, zone_s: int = 0) -> None:
        self.set(at, wall, synced, zone_s)

    def set(self, at: Ns, wall: WallNs, synced: bool, zone_s: int) -> None:
        """The wall clock says `wall` at `at`; from now on every moment is told by it."""
        self.offset = wall - at
        self.synced = synced
        self._zone = zone_s * SECOND

    def time_of_day(self, at: Ns) -> int:
        """Nanoseconds since local midnight."""
        return (at + self.offset + self._zone) % DAY

    def wall(self, at: Ns) -> WallNs:
        """The wall time of a monotonic moment."""
        return WallNs(at + self.offset)

    def stamp(self, at: Ns) -> Stamp:
        """A monotonic moment as envelopes carry it."""
        return Stamp(iso(self.wall(at)), self.synced)
