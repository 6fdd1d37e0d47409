"""The message of a stream: one line of JSON, the same bytes each time it is sent (ARCHITECTURE section 6)."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from chappe.core.elision import Summary
from chappe.core.units import MILLISECOND, SECOND, WallNs


class Lost(msgspec.Struct, frozen=True, omit_defaults=True):
    """A gap in the numbers, disclosed on the first message after it.

    Attributes:
        from_: first number lost.
        to: last number lost; absent where nobody can know (a crash).
        n: how many; absent likewise.
        reason: spilled, expired, recalled, rejected, corrupt, operator, offline, overload, crash, or mixed.
        by: with ``mixed``, how many for each reason.
        boot: the boot whose numbers these are, where it is not the message's own.
    """

    from_: int = msgspec.field(name="from")
    reason: str
    to: int | None = None
    n: int | None = None
    by: dict[str, int] | None = None
    boot: str = ""


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stream's message as it goes over the wire."""

    boot: str
    seq: int
    at: str
    synced: bool
    data: Any
    elided: Summary | msgspec.Raw | None = None
    late: bool = False
    lost: Lost | None = None
    model: str = ""


_encoder = msgspec.json.Encoder()


def to_json(value: Any) -> bytes:
    """One line of JSON."""
    return _encoder.encode(value)


def iso(wall: WallNs) -> str:
    """A wall time as RFC 3339 in UTC, to the millisecond.

    >>> iso(WallNs(1_795_296_742_123_456_789))
    '2026-11-21T21:32:22.123Z'
    """
    whole, rest = divmod(wall, SECOND)
    return f"{_second(whole)}{rest // MILLISECOND:03d}Z"


@lru_cache(maxsize=16)
def _second(whole: int) -> str:
    """Formatting a date is the dearest part of a message; thousands of messages share a second."""
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}."


def merge(earlier: Lost | None, later: Lost | None) -> Lost | None:
    """One gap out of two that touch, or whichever there is."""
    if earlier is None or later is None:
        return earlier or later
    return Lost(
        from_=min(earlier.from_, later.from_),
        to=max(earlier.to or earlier.from_, later.to or later.from_),
        n=(earlier.n or 0) + (later.n or 0),
        reason=earlier.reason if earlier.reason == later.reason else "mixed",
        by=_by(earlier, later) if earlier.reason != later.reason or earlier.reason == "mixed" else None,
        boot=earlier.boot or later.boot,
    )


def _by(*gaps: Lost) -> dict[str, int]:
    by: dict[str, int] = {}
    for gap in gaps:
        for reason, n in (gap.by or {gap.reason: gap.n or 0}).items():
            by[reason] = by.get(reason, 0) + n
    return by
