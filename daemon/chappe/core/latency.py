"""Percentiles of inference time over a bounded window, and how often inference came too late for its turn."""

from __future__ import annotations

from collections import deque
from typing import Any

from chappe.core.units import MILLISECOND, Ns


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
