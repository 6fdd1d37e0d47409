"""The link's status as the core hears of it: once per change, not once per attempt."""

from __future__ import annotations

import logging
from collections.abc import Callable

from chappe.core.events import Event, Faulted, Healed, LinkDown, LinkStatus
from chappe.core.units import Ns
from chappe.edge.mqtt.terms import Failure, Version

log = logging.getLogger(__name__)

SUBSCRIPTION_REFUSED = "subscription_refused"


class Herald:
    """Remembers the status and posts its changes.

    Args:
        post: takes one event.

    Attributes:
        status: what was said last.
    """

    def __init__(self, post: Callable[[Event], None]) -> None:
        self.status: LinkStatus = "off"
        self._post = post
        self._was_online = False
        self._faulted = False

    def online(self, version: Version, refused: tuple[str, ...], now: Ns) -> list[Event]:
        """The link is up; `LinkUp` says so, this returns what is to follow it.

        Args:
            version: version of MQTT.
            refused: filters the broker did not grant.
            now: when.
        """
        self.status = "online"
        self._was_online = True
        log.info("mqtt online, version %s", version)
        was_faulted, self._faulted = self._faulted, bool(refused)
        if refused:
            message = f"the broker does not let us listen to {', '.join(refused)}"
            return [Faulted(at=now, part="mqtt", code=SUBSCRIPTION_REFUSED, message=message)]
        return [Healed(at=now, part="mqtt", code=SUBSCRIPTION_REFUSED)] if was_faulted else []

    def offline(self, failure: Failure, now: Ns) -> None:
        """An attempt or the connection ended."""
        # Silence says nothing new about a link that is lost already.
        silent = failure.outcome == "silent" and self._was_online
        self.say("lost" if silent else failure.status, failure.reason, now)

    def say(self, status: LinkStatus, reason: str, now: Ns) -> None:
        """The status is `status` now, and not ``online``."""
        if status != self.status:
            self.status = status
            log.info("mqtt %s: %s", status, reason)
            self._post(LinkDown(at=now, status=status, reason=reason))
