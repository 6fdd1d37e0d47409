"""Units of the core: every time is an ``int`` of nanoseconds, so that "at 10.0 s" is exact.

Two clocks exist. *Monotonic* nanoseconds (`Ns`) order everything and carry every deadline. *Wall* nanoseconds since the Unix
epoch (`WallNs`) appear only in what is shown to people and peers; `core.clock` converts.
"""

from __future__ import annotations

import re
from typing import NewType

Ns = NewType("Ns", int)
"""A point on, or a span of, the monotonic clock, in nanoseconds."""

WallNs = NewType("WallNs", int)
"""Nanoseconds since 1970-01-01T00:00:00Z on the wall clock."""

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def seconds(value: float) -> Ns:
    """A span of `value` seconds, rounded to whole nanoseconds.

    >>> seconds(0.25)
    250000000
    """
    return Ns(round(value * SECOND))


def as_seconds(span: int) -> float:
    """Seconds of a span of nanoseconds.

    >>> as_seconds(Ns(1_500_000_000))
    1.5
    """
    return span / SECOND


_UNITS = {
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
    "d": DAY,
    "w": 7 * DAY,
}
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")


class Span(int):
    """A duration as the configuration writes it (``"250ms"``, ``"1.5s"``, ``"1h30m"``), held as nanoseconds.

    >>> Span.parse("250ms")
    Span('250ms')
    >>> int(Span.parse("1h30m")) == 90 * MINUTE
    True
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read a duration.

        Raises:
            ValueError: if `text` is not a number with one of the units ms, s, m, h, d, w, or a row of those.
        """
        parts = _SPAN.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text.strip():
            raise ValueError(f'{text!r} is not a duration; write it like "250ms", "1s", "5m" or "7d"')
        return cls(round(sum(float(number) * _UNITS[unit] for number, unit in parts)))

    def __str__(self) -> str:
        for unit in ("w", "d", "h", "m", "s", "ms"):
            if self and self % _UNITS[unit] == 0:
                return f"{int(self) // _UNITS[unit]}{unit}"
        return f"{int(self) / MILLISECOND:g}ms"

    def __repr__(self) -> str:
        return f"Span({str(self)!r})"
