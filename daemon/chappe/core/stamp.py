"""How a moment is written into an envelope."""

from __future__ import annotations

import msgspec


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """A moment on the wall.

    Attributes:
        at: RFC 3339 in UTC, to the millisecond.
        synced: whether the wall clock was known to be right.
    """

    at: str
    synced: bool
