"""Property blocks and packet sizes, against paho's own encoder."""

from __future__ import annotations

import base64
import socket
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers

from chappe.edge.mqtt.terms import Counters, Credentials, publish_properties, publish_size, variable_length


@given(st.integers(0, 268_435_455))
def test_lengths_are_encoded_as_paho_does(value: int) -> None:
    """The variable byte integer, over its whole range."""
    assert variable_length(value) == bytes(VariableByteIntegers.encode(value))


@given(st.none() | st.integers(0, 0xFFFF_FFFF), st.binary(max_size=300))
def test_properties_are_encoded_as_paho_does(expiry_s: int | None, correlation: bytes) -> None:
    """Message expiry and correlation data, each present or not."""
    given_: Any = Properties(PacketTypes.PUBLISH)
    if expiry_s is not None:
        given_.MessageExpiryInterval = expiry_s
    if correlation:
        given_.CorrelationData = correlation
    block = publish_properties(expiry_s, base64.b64encode(correlation).decode())
    read: Any = Properties(PacketTypes.PUBLISH)
    read.unpack(block)
    assert len(block) == len(given_.pack())
    assert getattr(read, "MessageExpiryInterval", None) == expiry_s
    assert getattr(read, "CorrelationData", b"") == correlation


@pytest.mark.parametrize(("expiry_s", "sent"), [(2**40, 0xFFFF_FFFF), (-5, 0)])
def test_an_expiry_that_does_not_fit_is_clipped(expiry_s: int, sent: int) -> None:
    """Longer than 136 years is as long as can be said; past is now."""
    assert publish_properties(expiry_s, "") == b"\x05\x02" + sent.to_bytes(4)


@pytest.mark.parametrize("correlation", ["not base64!", base64.b64encode(bytes(65_536)).decode()])
def test_correlation_data_that_cannot_be_sent_is_an_error(correlation: str) -> None:
    """No base64, or more bytes than a length of two bytes can say."""
    with pytest.raises(ValueError, match=r"."):
        publish_properties(None, correlation)


@given(
    topic=st.text(st.characters(codec="utf-8", exclude_characters="+#\0"), min_size=1, max_size=200),
    payload=st.binary(max_size=300),
    qos=st.sampled_from([0, 1]),
    expiry_s=st.none() | st.integers(0, 1000),
)
def test_the_size_of_a_packet_is_what_paho_sends(topic: str, payload: bytes, qos: int, expiry_s: int | None) -> None:
    """Byte for byte, so that a message exactly at the broker's limit is sent and one above is not."""
    near, far = socket.socketpair()
    with near, far:
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="x", protocol=paho.MQTTv5)
        client._sock = near
        given_: Any = Properties(PacketTypes.PUBLISH)
        if expiry_s is not None:
            given_.MessageExpiryInterval = expiry_s
        client.publish(topic, payload, qos, properties=given_)
        sent = far.recv(4096)
        client._sock = None
    assert publish_size(topic.encode(), payload, qos, publish_properties(expiry_s, "")) == len(sent)


def test_a_password_is_not_shown() -> None:
    """What is printed by accident is printed without it."""
    assert "hunter2" not in repr(Credentials("tower", "hunter2"))


@pytest.mark.parametrize(("connects", "reconnects"), [(0, 0), (1, 0), (2, 1), (5, 4)])
def test_the_first_connect_is_no_reconnect(connects: int, reconnects: int) -> None:
    """Coming up once is not coming back."""
    assert Counters(connects=connects).reconnects == reconnects
