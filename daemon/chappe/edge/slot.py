"""What camera and vision share: one place for the newest frame, and the grid that both keep time by.

Frames never queue. Whoever is slow sees fewer frames, never older ones; what nobody looked at is counted, and that is all that
becomes of it. Pixels stay on this side: no frame ever enters the core.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from chappe.core.units import SECOND, Ns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One captured frame. Nobody may write into its pixels: a file source shows the same array again.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, C-contiguous.
        at: when it was captured, monotonic.
        number: running number in this boot, from 1.
    """

    pixels: Pixels
    at: Ns
    number: int


class FrameSlot:
    """Room for one frame: the newest wins.

    >>> slot = FrameSlot()
    >>> slot.put("first"); slot.put("second")
    >>> slot.take(), slot.take(), slot.skipped
    ('second', None, 1)
    """

    def __init__(self) -> None:
        self._frame: Frame | None = None
        self._skipped = 0
        self._filled = threading.Condition()
        self._wake: Callable[[], None] | None = None

    @property
    def skipped(self) -> int:
        """Frames that gave way to a newer one, or to the closing of the camera, before anybody looked."""
        return self._skipped

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever an empty slot is filled; for a consumer that waits on an event of its own."""
        self._wake = wake

    def put(self, frame: Frame) -> None:
        """Leave the newest frame; never blocks."""
        with self._filled:
            was_empty = self._frame is None
            self._skipped += not was_empty
            self._frame = frame
            self._filled.notify_all()
        if was_empty and self._wake is not None:
            self._wake()

    def take(self, timeout_s: float = 0.0) -> Frame | None:
        """The newest frame nobody has seen yet; waits up to `timeout_s` seconds for one, None if there is none."""
        with self._filled:
            if timeout_s > 0:
                self._filled.wait_for(lambda: self._frame is not None, timeout_s)
            frame, self._frame = self._frame, None
            return frame

    def clear(self) -> None:
        """Throw away what nobody has seen: after the camera is switched off no frame may reach anybody."""
        with self._filled:
            self._skipped += self._frame is not None
            self._frame = None


class Grid:
    """Equally spaced points in time, exact for ever: tick n is computed from n, so that no rounding adds up.

    Args:
        rate_hz: ticks per second.
        origin: when tick 0 is.

    >>> grid = Grid(30, Ns(0))
    >>> grid.at(3), grid.at(30), grid.last(Ns(99_999_999)), grid.last(Ns(100_000_000))
    (100000000, 1000000000, 2, 3)
    """

    def __init__(self, rate_hz: float, origin: Ns) -> None:
        self._origin = origin
        self._period = SECOND / Fraction(str(rate_hz))

    def at(self, n: int) -> Ns:
        """When tick `n` is."""
        return Ns(self._origin + n * self._period.numerator // self._period.denominator)

    def last(self, now: Ns) -> int:
        """Number of the last tick that is not after `now`."""
        passed = (now - self._origin + 1) * self._period.denominator
        return -(-passed // self._period.numerator) - 1
