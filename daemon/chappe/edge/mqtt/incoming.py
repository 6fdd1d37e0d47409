"""Messages from the broker into events."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import TYPE_CHECKING

from chappe.core.events import Arrived, Asked
from chappe.core.units import Ns
from chappe.edge.mqtt.receipts import Receipts

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage

BODY_LIMIT = 256 * 1024 + 1
"""Most bytes of a request that enter the core: one more than a request may have, so that "too large" is still visible."""


def to_events(
    messages: Iterable[MQTTMessage], request_prefix: str, receipts: Receipts, at: Ns
) -> list[Asked | Arrived]:
    """The events of the messages of one pass; arguments as for `to_event`."""
    events = (to_event(message, request_prefix, receipts, at) for message in messages)
    return [event for event in events if event is not None]


def to_event(message: MQTTMessage, request_prefix: str, receipts: Receipts, at: Ns) -> Asked | Arrived | None:
    """The event a message becomes; None for a topic that is not UTF-8, which no broker should let through.

    Args:
        message: as paho decoded it.
        request_prefix: a topic of this and one more level is a request, and that level its verb.
        receipts: is told of the acknowledgement that this message asks for.
        at: when the socket was read.
    """
    mid = message.mid if message.qos == 1 else 0
    try:
        topic: str = message.topic
    except UnicodeDecodeError:
        receipts.owe(mid, until_told=False)
        return None
    verb = topic.removeprefix(request_prefix)
    if verb == topic or not verb or "/" in verb:
        receipts.owe(mid, until_told=False)
        return Arrived(at=at, topic=topic, body=bytes(message.payload), retained=message.retain)
    return Asked(
        at=at,
        verb=verb,
        body=bytes(message.payload[:BODY_LIMIT]),
        size=len(message.payload),
        retained=message.retain,
        reply_to=getattr(message.properties, "ResponseTopic", ""),
        correlation=base64.b64encode(getattr(message.properties, "CorrelationData", b"")).decode("ascii"),
        receipt=receipts.owe(mid, until_told=True),
    )
