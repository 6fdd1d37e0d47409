"""Whether the other end is still there: pings, on the engine's kind of time."""

from __future__ import annotations

from chappe.core.units import Ns


class Pulse:
    """The keepalive of one connection (MQTT 5 section 3.1.2.10).

    Any byte from the broker is a sign of life, so a slow download is none of the broker's fault; only a ping that nothing at all follows
    ends the connection. A ping is sent when nothing was heard, or nothing said, for one interval.

    Args:
        interval: the keepalive that was agreed on, 0 for none.
        now: when the connection began.
    """

    def __init__(self, interval: Ns, now: Ns) -> None:
        self._interval = interval
        self._heard = now
        self._spoke = now
        self._pinged: Ns | None = None

    def heard(self, now: Ns) -> None:
        """Something came in."""
        self._heard = now
        self._pinged = None

    def spoke(self, now: Ns) -> None:
        """Something went out."""
        self._spoke = now

    @property
    def due(self) -> Ns | None:
        """When there is something to do, None for never."""
        if not self._interval:
            return None
        since = min(self._heard, self._spoke) if self._pinged is None else self._pinged
        return Ns(since + self._interval)

    def ping(self, now: Ns) -> bool:
        """Note that a ping goes out at `now`.

        Returns:
            False if one went out an interval ago and nothing was heard since: the other end is gone.
        """
        if self._pinged is not None:
            return False
        self._pinged = self._spoke = now
        return True
