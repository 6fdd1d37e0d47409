"""Sees what no part sees of itself."""

from __future__ import annotations

from chappe.core.events import ClockChanged, Event, Faulted, Healed
from chappe.core.units import SECOND, Ns
from chappe.edge import host
from chappe.edge.host import Clock
from chappe.edge.worker import stuck

CLOCK_STEP = 2 * SECOND
LOOK_EVERY = SECOND
STUCK_AFTER = 10 * SECOND


class Lookout:
    """Sees what no part sees of itself: a worker that does not come back, and a clock that is stepped.

    Args:
        clock: the clock.
        zone: IANA name of local time, empty for the system's.
    """

    def __init__(self, clock: Clock, zone: str) -> None:
        self.synced = False
        self.zone_s = 0
        self._clock = clock
        self._zone = zone
        self._offset = 0
        self._looked: Ns | None = None
        self._stuck: set[str] = set()

    def look(self, now: Ns) -> list[Event]:
        """What has changed; at most once a second anything is looked at."""
        if self._looked is not None and now - self._looked < LOOK_EVERY:
            return []
        self._looked = now
        return [*self._workers(now), *self._clock_changes(now)]

    def _workers(self, now: Ns) -> list[Event]:
        names = set(stuck(now, STUCK_AFTER))
        begun, over = sorted(names - self._stuck), sorted(self._stuck - names)
        self._stuck = names
        message = f"has not come back from a call for {STUCK_AFTER // SECOND} s"
        return [
            *(Faulted(at=now, part=name, code="stuck", message=f"{name} {message}") for name in begun),
            *(Healed(at=now, part=name, code="stuck") for name in over),
        ]

    def _clock_changes(self, now: Ns) -> list[Event]:
        wall = self._clock.wall()
        offset = wall - self._clock.now()
        synced, zone_s = host.clock_synced(), host.zone_offset(self._zone, wall)
        if abs(offset - self._offset) < CLOCK_STEP and (synced, zone_s) == (self.synced, self.zone_s):
            return []
        self._offset, self.synced, self.zone_s = offset, synced, zone_s
        return [ClockChanged(at=now, wall=wall, synced=synced, zone_s=zone_s)]
