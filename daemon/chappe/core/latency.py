"""How long inference takes, and how many frames a second are looked at."""

from __future__ import annotations

from collections import deque
from typing import Any

from chappe.core.units import MILLISECOND, SECOND, Ns


class Latency:
    """The newest inference times.

    Args:
        window: how many samples the percentiles are taken from.
    """

    def __init__(self, window: int = 1024) -> None:
        self.n = 0
        self._samples: deque[int] = deque(maxlen=window)

    def add(self, took: Ns) -> None:
        """One inference took that long."""
        self.n += 1
        self._samples.append(took)

    def percentile(self, share: float) -> float | None:
        """The nearest-rank percentile in milliseconds, None without samples.

        >>> latency = Latency()
        >>> for ms in range(10, 110): latency.add(Ns(ms * MILLISECOND))
        >>> latency.percentile(0.5), latency.percentile(0.95)
        (59.0, 104.0)
        """
        if not self._samples:
            return None
        ordered = sorted(self._samples)
        rank = max(1, -(-len(ordered) * int(share * 1000) // 1000))
        return ordered[rank - 1] / MILLISECOND

    def listing(self) -> dict[str, Any]:
        """For ``health``."""
        p50, p95 = self.percentile(0.5), self.percentile(0.95)
        return {"n": self.n, "p50_ms": p50, "p95_ms": p95}


class Pace:
    """Frames per second over the newest seconds.

    Args:
        over: length of the window.
    """

    def __init__(self, over: Ns) -> None:
        self._over = over
        self._times: deque[Ns] = deque()

    def note(self, at: Ns) -> None:
        """A frame was captured at `at`."""
        self._times.append(at)
        while at - self._times[0] > self._over:
            self._times.popleft()

    def per_second(self, now: Ns) -> float:
        """The rate, 0 when nothing came within the window.

        >>> pace = Pace(Ns(5 * SECOND))
        >>> for n in range(50): pace.note(Ns(n * SECOND // 10))
        >>> pace.per_second(Ns(5 * SECOND)), pace.per_second(Ns(20 * SECOND))
        (10.0, 0.0)
        """
        times = self._times
        if len(times) < 2 or times[-1] == times[0] or now - times[-1] > self._over:
            return 0.0
        return round((len(times) - 1) * SECOND / (times[-1] - times[0]), 2)
