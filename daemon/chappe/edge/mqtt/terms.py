"""Words shared by the rooms of the MQTT edge: what to subscribe to, who we are, how an attempt failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from chappe.core.events import LinkStatus
from chappe.core.topics import Subscription

Version = Literal["5", "3.1.1"]

Outcome = Literal["unsupported", "closed", "silent", "other"]
"""How an attempt failed, as far as the choice of the protocol version cares: the broker named the version (CONNACK 0x01 or 0x84),
closed without a CONNACK, kept silent, or anything else."""


@dataclass(frozen=True)
class Identity:
    """Who speaks on this link and what it listens to.

    Attributes:
        client_id: MQTT client identifier; the broker keeps our session under it.
        subscriptions: all filters.
        request_prefix: topics that are this plus one level are requests, for example ``chappe/tower-1/req/``.
        will_topic: topic of the last will, published retained with QoS 1 by the broker when we vanish.
        will_payload: its payload.
    """

    client_id: str
    subscriptions: tuple[Subscription, ...]
    request_prefix: str
    will_topic: str
    will_payload: bytes


@dataclass(frozen=True)
class Credentials:
    """What the broker asks for; never printed."""

    username: str
    password: str | None = field(repr=False)


@dataclass(frozen=True)
class Failure:
    """Why an attempt or a connection ended.

    Attributes:
        status: what the link's status becomes.
        reason: one sentence for people.
        outcome: what it says about the protocol version.
        cut: whether the peer ended a connection that was up.
    """

    status: LinkStatus
    reason: str
    outcome: Outcome = "other"
    cut: bool = False


@dataclass
class Counters:
    """Totals since the link was opened; written by the mqtt thread, read by anyone.

    Attributes:
        connects: times the link came up.
        bytes_in: bytes of MQTT packets received, that is without TLS and WebSocket framing.
        bytes_out: bytes of MQTT packets sent.
    """

    connects: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    @property
    def reconnects(self) -> int:
        """Times the link came up again."""
        return max(0, self.connects - 1)
