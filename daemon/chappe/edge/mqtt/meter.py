"""How many bytes went over the link, told to the core now and then."""

from __future__ import annotations

from chappe.core.events import Carried
from chappe.core.units import SECOND, Ns
from chappe.edge.mqtt.terms import Counters

AT_MOST_EVERY: Ns = Ns(SECOND)
ALONE_EVERY: Ns = Ns(10 * SECOND)


class Meter:
    """Turns the running totals into `Carried`: beside other events once a second, by itself only every ten.

    Args:
        counters: the totals.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._sent = counters.bytes_out
        self._received = counters.bytes_in
        self._told: Ns | None = None

    def reading(self, now: Ns, *, company: bool) -> list[Carried]:
        """The event to post now, if it is time for one.

        Args:
            now: when.
            company: whether other events are posted anyway, so that this one wakes nobody.
        """
        pause = AT_MOST_EVERY if company else ALONE_EVERY
        if self._told is not None and now - self._told < pause:
            return []
        return self.rest(now)

    def rest(self, now: Ns) -> list[Carried]:
        """What has not been told yet, whenever that was."""
        sent, received = self._counters.bytes_out - self._sent, self._counters.bytes_in - self._received
        if not (sent or received):
            return []
        self._told = now
        self._sent += sent
        self._received += received
        return [Carried(at=now, sent=sent, received=received)]
