"""What every edge shares about the machine: the clock, and facts from /proc and /sys.

Time enters the daemon through a `Clock` handed in by the composition root, so that tests own it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from chappe.core.effects import Effect
from chappe.core.events import Event, HostSampled
from chappe.core.units import SECOND, Ns, WallNs


class Clock(Protocol):
    """Where "now" comes from."""

    def now(self) -> Ns:
        """Monotonic nanoseconds: order and deadlines."""

    def wall(self) -> WallNs:
        """Nanoseconds since the Unix epoch: for people and peers only."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> Ns:
        return Ns(time.monotonic_ns())

    def wall(self) -> WallNs:
        return WallNs(time.time_ns())


SYNCED_STAMP = Path("/run/systemd/timesync/synchronized")


def clock_synced(stamp: Path = SYNCED_STAMP) -> bool:
    """Whether the wall clock is known to be right.

    systemd-timesyncd touches its stamp when it has set the clock; where another time service runs, the kernel's own
    flag says so (``adjtimex`` status STA_UNSYNC = 0x40, ``clock_adjtime(2)``), read without changing anything.
    """
    return stamp.exists() or _kernel_synced()


def _kernel_synced() -> bool:
    import ctypes

    class Timex(ctypes.Structure):
        _fields_ = (("modes", ctypes.c_uint), ("pad", ctypes.c_ubyte * 256))

    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(Timex()))
    except (OSError, AttributeError):
        return False
    time_error = 5  # TIME_ERROR: the clock is not synchronised (adjtimex(2))
    return 0 <= int(state) < time_error


def resident_bytes() -> int:
    """Resident set size of this process in bytes (second field of /proc/self/statm), 0 where /proc is missing."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def bytes_written() -> int:
    """Bytes this process has caused to be written to storage (``write_bytes`` of /proc/self/io), 0 where unknown."""
    try:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    fields = dict(line.split(": ", 1) for line in lines)
    return int(fields.get("write_bytes", 0))


def soc_temperature(root: Path = Path("/sys")) -> float | None:
    """Temperature of the first thermal zone in °C, or None where there is none."""
    try:
        text = (root / "class/thermal/thermal_zone0/temp").read_text(encoding="ascii")
        return int(text) / 1000
    except (OSError, ValueError):
        return None


def zone_offset(name: str, wall: WallNs) -> int:
    """Offset of local time from UTC at a moment, in seconds.

    Args:
        name: an IANA time zone, empty for the system's own.
        wall: the moment.
    """
    moment = datetime.fromtimestamp(wall / SECOND, UTC)
    try:
        local = moment.astimezone(ZoneInfo(name) if name else None)
    except (ZoneInfoNotFoundError, ValueError):
        return 0
    offset = local.utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


class Host:
    """Answers `SampleHost`.

    Args:
        clock: stamps the answer.
        post: takes it.
        root: the folder that stands for ``/sys``.
    """

    def __init__(self, clock: Clock, post: Callable[[Event], None], root: Path = Path("/sys")) -> None:
        self._clock = clock
        self._post = post
        self._root = root

    def open(self) -> None:
        """Nothing to acquire."""

    def handle(self, effects: Sequence[Effect]) -> None:
        """Read memory, temperature and bytes written, once for all who asked."""
        if effects:
            self._post(
                HostSampled(
                    at=self._clock.now(),
                    rss=resident_bytes(),
                    temp_c=soc_temperature(self._root),
                    bytes_written=bytes_written(),
                )
            )

    def close(self) -> None:
        """Nothing to give back."""
