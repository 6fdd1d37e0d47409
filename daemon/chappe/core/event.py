"""The root of all events."""

from __future__ import annotations

import msgspec

from chappe.core.units import Ns


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag=True, omit_defaults=True):
    """Root of all events.

    Attributes:
        at: monotonic nanoseconds at which it happened.
    """

    at: Ns
