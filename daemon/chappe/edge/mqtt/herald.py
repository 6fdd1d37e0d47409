"""What the core hears of the link: the events of each pass, and its status once per change, not once per attempt."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from chappe.core.events import Event, Faulted, Healed, LinkDown, LinkStatus
from chappe.core.units import Ns
from chappe.edge.mqtt.meter import Meter
from chappe.edge.mqtt.terms import Failure, Version

log = logging.getLogger(__name__)

SUBSCRIPTION_REFUSED = "subscription_refused"


class Herald:
    """Remembers the status, and posts.

    Args:
        post_many: takes the events of a pass.
        meter: tells how much was carried.

    Attributes:
        status: what was said last.
    """

    def __init__(self, post_many: Callable[[Iterable[Event]], None], meter: Meter) -> None:
        self.status: LinkStatus = "off"
        self._post_many = post_many
        self._meter = meter
        self._was_online = False
        self._refused = False

    def tell(self, events: list[Event], now: Ns) -> None:
        """Post these, and how much was carried where it is time for that."""
        events = [*events, *self._meter.reading(now, company=bool(events))]
        if events:
            self._post_many(events)

    def online(self, version: Version) -> None:
        """The link is up; `LinkUp` says so."""
        self.status = "online"
        self._was_online = True
        log.info("mqtt online, version %s", version)

    def granted(self, now: Ns) -> list[Event]:
        """The broker has granted every subscription."""
        was_refused, self._refused = self._refused, False
        return [Healed(at=now, part="mqtt", code=SUBSCRIPTION_REFUSED)] if was_refused else []

    def refused(self, filters: Sequence[str], now: Ns) -> list[Event]:
        """The broker did not grant these filters."""
        self._refused = True
        message = f"the broker does not let us listen to {', '.join(filters)}"
        return [Faulted(at=now, part="mqtt", code=SUBSCRIPTION_REFUSED, message=message)]

    def offline(self, failure: Failure, now: Ns) -> None:
        """An attempt or the connection ended."""
        # Silence says nothing new about a link that is lost already.
        silent = failure.outcome == "silent" and self._was_online
        self.say("lost" if silent else failure.status, failure.reason, now, cut=failure.cut)

    def say(self, status: LinkStatus, reason: str, now: Ns, *, cut: bool = False) -> None:
        """The status is `status` now, and not ``online``."""
        if status != self.status:
            self.status = status
            log.info("mqtt %s: %s", status, reason)
            self._post_many([*self._meter.rest(now), LinkDown(at=now, status=status, reason=reason, cut=cut)])
