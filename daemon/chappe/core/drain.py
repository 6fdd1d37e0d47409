"""Which stream sends next, and how fast a backlog drains.

By priority, then by age. Of five messages one is live while any waits, whatever the priorities: a long backlog delays what happens now by a few
messages and not by hours. A backlog is paced; what is live is not.
"""

from __future__ import annotations

from collections.abc import Sequence

from chappe.core.lane import Lane
from chappe.core.row import Row
from chappe.core.units import MILLISECOND, SECOND, Ns

BACKLOG_SHARE = 4
"""So many messages of a backlog to one that is live."""

STRIDE = 50 * MILLISECOND
"""A backlog leaves in strides: a wake-up for each message would cost more than the message."""


class Pace:
    """A token bucket that holds one stride.

    Args:
        rate: messages per second, None for as many as the link takes.
    """

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._size = 0.0 if rate is None else max(1.0, rate * STRIDE / SECOND)
        self._tokens = self._size
        self._at = Ns(0)
        self.due: Ns | None = None

    def restart(self, now: Ns) -> None:
        """A connection begins."""
        self._tokens, self._at, self.due = self._size, now, None

    def allows(self, now: Ns) -> bool:
        """Whether one more may leave now; if not, `due` says when to ask again."""
        if self._rate is None:
            return True
        self._tokens = min(self._size, self._tokens + (now - self._at) * self._rate / SECOND)
        self._at = now
        if self._tokens >= 1:
            self.due = None
            return True
        if self.due is None or self.due <= now:
            self.due = Ns(now + max(STRIDE, SECOND // self._rate))
        return False

    def spend(self) -> None:
        """One has left."""
        if self._rate is not None:
            self._tokens -= 1


class Turns:
    """Whose turn it is.

    Args:
        pace: of the backlog.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._since_live = 0

    def next(self, ready: Sequence[tuple[Lane, Row, bool]], now: Ns) -> tuple[Lane, Row] | None:
        """The lane and row to send, out of (lane, head, whether late) in order of priority; None while the pace holds them back."""
        live = _foremost([(lane, row) for lane, row, late in ready if not late])
        late = _foremost([(lane, row) for lane, row, late in ready if late]) if len(ready) else None
        if late is not None and (live is None or self._backlog_first(late, live)) and self._pace.allows(now):
            self._pace.spend()
            self._since_live += 1
            return late
        if live is not None:
            self._since_live = 0
        return live

    def _backlog_first(self, late: tuple[Lane, Row], live: tuple[Lane, Row]) -> bool:
        return self._since_live < BACKLOG_SHARE and late[0].spec.priority >= live[0].spec.priority


def _foremost(ready: Sequence[tuple[Lane, Row]]) -> tuple[Lane, Row] | None:
    """The highest priority, then the oldest row."""
    best: tuple[Lane, Row] | None = None
    for lane, row in ready:
        if best is not None and lane.spec.priority < best[0].spec.priority:
            break
        if best is None or row.accepted < best[1].accepted:
            best = (lane, row)
    return best
