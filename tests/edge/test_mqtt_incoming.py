"""Messages into events."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from chappe.core.events import Arrived, Asked
from chappe.core.units import Ns
from chappe.edge.mqtt import incoming
from chappe.edge.mqtt.incoming import BODY_LIMIT, to_events
from chappe.edge.mqtt.receipts import Receipts

PREFIX = "chappe/tower-1/req/"


def message(
    topic: bytes, payload: bytes = b"", *, retain: bool = False, properties: Any = None, mid: int = 0
) -> MQTTMessage:
    """A message with QoS 1 where it has a packet identifier, else with QoS 0."""
    made = MQTTMessage(mid, topic)
    made.payload, made.retain, made.properties, made.qos = payload, retain, properties, int(mid > 0)
    return made


def to_event(given: MQTTMessage, prefix: str, at: Ns) -> Asked | Arrived | None:
    return incoming.to_event(given, prefix, Receipts(count(1)), at)


def test_a_request_is_asked() -> None:
    """Verb, body, size, and empty where there are no properties."""
    event = to_event(message(b"chappe/tower-1/req/status", b"{}"), PREFIX, Ns(5))
    assert event == Asked(at=Ns(5), verb="status", body=b"{}", size=2)


def test_where_to_answer() -> None:
    """Response topic and correlation data, the latter as base64."""
    properties: Any = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic, properties.CorrelationData = "me/answers", b"\x00\xff"
    event = to_event(message(b"chappe/tower-1/req/x", properties=properties), PREFIX, Ns(0))
    assert isinstance(event, Asked)
    assert (event.reply_to, event.correlation) == ("me/answers", "AP8=")


@pytest.mark.parametrize("size", [BODY_LIMIT - 1, BODY_LIMIT, BODY_LIMIT + 1, 1_000_000])
def test_a_body_is_cut_one_byte_above_the_limit(size: int) -> None:
    """Whatever its size, it can be told whether 256 KiB were exceeded, and by how much."""
    event = to_event(message(b"chappe/tower-1/req/x", bytes(size)), PREFIX, Ns(0))
    assert isinstance(event, Asked)
    assert (len(event.body), event.size) == (min(size, 256 * 1024 + 1), size)


@pytest.mark.parametrize(
    "topic",
    [
        b"chappe/tower-1/req/",
        b"chappe/tower-1/req",
        b"chappe/tower-1/req/a/b",
        b"chappe/tower-2/req/status",
        b"x/chappe/tower-1/req/status",
        b"chappe/tower-1/state",
    ],
)
def test_all_else_arrives(topic: bytes) -> None:
    """Only the prefix and exactly one level more is a request."""
    event = to_event(message(topic, b"x", retain=True), PREFIX, Ns(1))
    assert event == Arrived(at=Ns(1), topic=topic.decode(), body=b"x", retained=True)


def test_a_topic_that_is_no_text_is_dropped() -> None:
    """No broker should let it through, and nobody could answer it."""
    assert to_event(message(b"chappe/tower-1/req/\xff\xfe"), PREFIX, Ns(0)) is None


def test_a_retained_request_says_so() -> None:
    """The flag decides whether it is refused."""
    event = to_event(message(b"chappe/tower-1/req/x", retain=True), PREFIX, Ns(0))
    assert isinstance(event, Asked)
    assert event.retained


def test_a_request_waits_for_its_acknowledgement_and_nothing_else_does() -> None:
    """A request has a receipt; without QoS it has none; any other message, or one that is dropped, is acknowledged at once."""
    receipts = Receipts(count(5))
    given = [
        message(b"other", mid=1),
        message(b"chappe/tower-1/req/\xff", mid=2),
        message(b"chappe/tower-1/req/a", mid=3),
        message(b"chappe/tower-1/req/b"),
    ]
    arrived, first, second = to_events(given, PREFIX, receipts, Ns(0))
    assert isinstance(arrived, Arrived)
    assert isinstance(first, Asked)
    assert isinstance(second, Asked)
    assert (first.receipt, second.receipt) == (7, 0)
    assert receipts.due() == [1, 2]
    receipts.settle([7])
    assert receipts.due() == [3]
