"""What goes in and out of an elider, and the record of one key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from chappe.core.units import Ns

NEVER: Final = Ns(2**63 - 1)

# Beyond any physical quantity, yet small enough that the sum of 10^8 such values is still a finite float.
_LARGEST: Final = 1e300

OPEN: Final = (float("-inf"), float("inf"))


class Summary(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was elided on a key since its last message; renders as ``{"n":3,"min":…,"max":…,"mean":…}``.

    Attributes:
        n: number of values.
        min: smallest ``value`` among them; None (and not rendered) when none was a number.
        max: largest.
        mean: arithmetic mean.
    """

    n: int
    min: float | None = None
    max: float | None = None
    mean: float | None = None


class Emission(msgspec.Struct, frozen=True):
    """One value that goes out.

    Attributes:
        key: the key it was offered under.
        at: when the value arrived (not when it was released).
        data: the value.
        elided: what was dropped on this key since its last emission; None when nothing was.
    """

    key: str
    at: Ns
    data: Mapping[str, Any]
    elided: Summary | None


class Outcome(msgspec.Struct, frozen=True):
    """What one call did.

    Attributes:
        emit: values that go out now, in order.
        elided: how many values this call dropped.
    """

    emit: tuple[Emission, ...]
    elided: int

    def __add__(self, later: Outcome) -> Outcome:
        return Outcome(self.emit + later.emit, self.elided + later.elided)


NOTHING: Final = Outcome((), 0)
ONE_ELIDED: Final = Outcome((), 1)


def number(data: Mapping[str, Any]) -> float | None:
    """The numeric field ``value``; None when it is absent, a bool, not finite or beyond 1e300."""
    value = data.get("value")
    kind = type(value)
    if (kind is float or kind is int) and -_LARGEST <= value <= _LARGEST:  # type: ignore[operator]
        return value
    return None


class Slot:
    """What is known of one live key: last sent value, held value, and a tally of what was dropped since the last emission.

    Attributes:
        seen: time of the newest arrival.
        sent: last sent data; None before the first.
        sent_at: when it was sent.
        sent_from: when it had arrived.
        held: newest value that waits; None when none does.
        held_at: when it arrived.
        since: when the first of the values that wait, or were dropped by one that does, arrived.
        first: that first value.
        deadline: when the held value is released; `NEVER` when no timer runs.
        queued: whether an entry of the elider's heap points here.
        doors: steepest and shallowest slope that `swinging_door` still allows, per nanosecond.
        dropped: number of values in the tally.
    """

    __slots__ = (
        "_high",
        "_low",
        "_numbers",
        "_total",
        "deadline",
        "doors",
        "dropped",
        "first",
        "held",
        "held_at",
        "key",
        "queued",
        "seen",
        "sent",
        "sent_at",
        "sent_from",
        "since",
    )

    def __init__(self, key: str, now: Ns) -> None:
        self.key = key
        self.seen = now
        self.sent: Mapping[str, Any] | None = None
        self.sent_at = now
        self.sent_from = now
        self.held: Mapping[str, Any] | None = None
        self.held_at = now
        self.since = now
        self.first: Mapping[str, Any] = {}
        self.deadline = NEVER
        self.queued = False
        self.doors: tuple[float, float] = OPEN
        self.dropped = 0
        self._numbers = 0
        self._low: float = 0
        self._high: float = 0
        self._total: float = 0

    def drop(self, data: Mapping[str, Any]) -> None:
        """Enter a value that will not go out into the tally."""
        self.dropped += 1
        value = number(data)
        if value is None:
            return
        if not self._numbers:
            self._low = self._high = value
        elif value < self._low:
            self._low = value
        elif value > self._high:
            self._high = value
        self._total += value
        self._numbers += 1

    def summary(self) -> Summary | None:
        """The tally as it will be disclosed; None when nothing was dropped."""
        if not self.dropped:
            return None
        if not self._numbers:
            return Summary(self.dropped)
        return Summary(self.dropped, self._low, self._high, self._total / self._numbers)

    def clear(self) -> None:
        """Begin a new tally, after an emission."""
        self.dropped = self._numbers = 0
        self._total = 0
