"""A clock that tests own."""

from __future__ import annotations

from chappe.core.units import SECOND, Ns, WallNs, seconds

START = Ns(0)
EPOCH = WallNs(1_795_294_800 * SECOND)
"""The wall clock at the start of a `Tower`: 2026-11-21T21:00:00Z."""


class ManualClock:
    """A clock that stands still until it is moved.

    Args:
        now: monotonic start.
        wall: wall time at that moment.
    """

    def __init__(self, now: Ns = START, wall: WallNs = EPOCH) -> None:
        self._now = now
        self._offset = wall - now

    def now(self) -> Ns:
        return self._now

    def wall(self) -> WallNs:
        return WallNs(self._now + self._offset)

    def advance(self, span_s: float) -> None:
        """Let time pass."""
        self._now = Ns(self._now + seconds(span_s))

    def set(self, now: Ns) -> None:
        """Make it `now`."""
        self._now = now

    def step_wall(self, span_s: float) -> None:
        """Step the wall clock; monotonic time does not move."""
        self._offset += seconds(span_s)
