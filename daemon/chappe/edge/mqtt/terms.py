"""Words shared by the rooms of the MQTT edge: what to subscribe to, who we are, how an attempt failed."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from chappe.core.events import LinkStatus
from chappe.core.topics import Subscription

Version = Literal["5", "3.1.1"]

Outcome = Literal["unsupported", "closed", "silent", "other"]
"""How an attempt failed, as far as the choice of the protocol version cares: the broker named the version (CONNACK 0x01 or 0x84),
closed without a CONNACK, kept silent, or anything else."""

NO_EXPIRY = b"\x00"
_EXPIRY = b"\x02"  # Message Expiry Interval, four byte integer (MQTT 5 section 3.3.2.3.3)
_CORRELATION = b"\x09"  # Correlation Data, binary (MQTT 5 section 3.3.2.3.6)


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
    """

    status: LinkStatus
    reason: str
    outcome: Outcome = "other"


@dataclass
class Counters:
    """Totals since the link was opened; written by the mqtt thread, read by anyone.

    Attributes:
        connects: times the link came up.
        bytes_in: bytes read from the socket, after TLS.
        bytes_out: bytes written to the socket, before TLS.
    """

    connects: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    @property
    def reconnects(self) -> int:
        """Times the link came up again."""
        return max(0, self.connects - 1)


@lru_cache(maxsize=64)
def publish_properties(expiry_s: int | None, correlation: str) -> bytes:
    """The property block of a PUBLISH as MQTT 5 section 3.3.2.3 writes it, its length in front.

    Few different ones exist at a time, and building them with paho's own class costs as much as the rest of a publish.

    Args:
        expiry_s: message expiry in seconds, None for none.
        correlation: correlation data in base64, empty for none.

    Raises:
        ValueError: if `correlation` is not base64, or longer than 65,535 bytes when decoded.

    >>> publish_properties(60, "").hex()
    '05020000003c'
    """
    block = b""
    if expiry_s is not None:
        block += _EXPIRY + max(0, min(expiry_s, 0xFFFF_FFFF)).to_bytes(4)
    if correlation:
        data = base64.b64decode(correlation, validate=True)
        if len(data) > 0xFFFF:
            raise ValueError("correlation data is longer than 65,535 bytes")
        block += _CORRELATION + len(data).to_bytes(2) + data
    return variable_length(len(block)) + block


def variable_length(value: int) -> bytes:
    """A length in MQTT's variable byte integer (MQTT 5 section 1.5.5).

    >>> variable_length(321).hex()
    'c102'
    """
    encoded = bytearray()
    while True:
        value, low = divmod(value, 128)
        encoded.append(low | 0x80 if value else low)
        if not value:
            return bytes(encoded)


def publish_size(topic: bytes, payload: bytes, qos: int, properties: bytes) -> int:
    """Bytes of a whole PUBLISH packet, as Maximum Packet Size counts them (MQTT 5 section 3.2.2.3.6).

    Args:
        topic: UTF-8 bytes of the topic.
        payload: the payload.
        qos: a packet identifier is present above 0.
        properties: the property block with its length; empty on 3.1.1.

    >>> publish_size(b"a", b"", 0, b"")
    5
    """
    remaining = 2 + len(topic) + (2 if qos else 0) + len(properties) + len(payload)
    return 1 + len(variable_length(remaining)) + remaining
