"""A measured figure, and whether it is what was promised."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One value.

    Attributes:
        name: what was measured.
        value: the median of `each`.
        unit: ``ratio``, ``msgs/s``, ``us``, ``B``, ``s``, ``MB``, ``rows`` …
        each: the value of each round.
        least: the promise where more is better, None for a value that is only shown.
        most: the promise where less is better, likewise.
    """

    name: str
    value: float
    unit: str
    each: tuple[float, ...] = ()
    least: float | None = None
    most: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the promise is kept."""
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)

    def line(self) -> str:
        """The figure for people."""
        promise = ""
        for sign, limit in ((">=", self.least), ("<=", self.most)):
            if limit is not None:
                promise = f"  ({sign} {limit:g}: {'ok' if self.ok else 'FAILED'})"
        spread = f"  [{_short(min(self.each))} .. {_short(max(self.each))}]" if len(self.each) > 1 else ""
        return f"{self.name:56} {_short(self.value):>9} {self.unit}{promise}{spread}"

    def data(self) -> dict[str, Any]:
        """The figure for programs."""
        limits = {name: limit for name, limit in (("least", self.least), ("most", self.most)) if limit is not None}
        each = [round(value, 4) for value in self.each]
        return {
            "name": self.name,
            "value": round(self.value, 4),
            "unit": self.unit,
            "each": each,
            **limits,
            "ok": self.ok,
        }


def median(
    name: str, unit: str, values: Iterable[float], *, least: float | None = None, most: float | None = None
) -> Figure:
    """The figure of several rounds.

    >>> median("drain / raw paho", "ratio", [0.5, 0.9, 0.7], least=0.6).line().split()
    ['drain', '/', 'raw', 'paho', '0.7', 'ratio', '(>=', '0.6:', 'ok)', '[0.5', '..', '0.9]']
    """
    each = tuple(values)
    return Figure(name, statistics.median(each), unit, each, least, most)


def beside(value: float, before: float, after: float) -> float:
    """A value by the mean of the raw ones taken just before and just after it, as the machine's speed drifts.

    >>> beside(9.0, 6.0, 12.0)
    1.0
    """
    return 2 * value / (before + after)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
