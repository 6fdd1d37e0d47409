"""The books of a stream: produced = delivered + elided + expired + spilled + queued, at every moment.

No column is computed from the others: each is moved where the thing itself happens, so that a forgotten increment shows as a
broken sum and cannot hide.
"""

from __future__ import annotations

import msgspec


class Book(msgspec.Struct, kw_only=True):
    """Counters of one stream over all boots, as far as the store knows them.

    Attributes:
        produced: values that entered the stream.
        delivered: values whose message the broker acknowledged (transient: handed to a connected socket).
        elided: values dropped on purpose because a newer one superseded them.
        expired: values that waited for longer than their expiry.
        spilled: values evicted because something was full, or offline for transient streams.
        queued: values that wait: held by elision, queued, in flight, or dead letters still kept.
        elide_overflow: values that passed un-elided because the key table was full.
        late: messages first sent after an outage.
        invalid: readings refused before they became values.
    """

    produced: int = 0
    delivered: int = 0
    elided: int = 0
    expired: int = 0
    spilled: int = 0
    queued: int = 0
    elide_overflow: int = 0
    late: int = 0
    invalid: int = 0

    @property
    def balanced(self) -> bool:
        """Whether the sum holds."""
        return self.produced == self.delivered + self.elided + self.expired + self.spilled + self.queued
