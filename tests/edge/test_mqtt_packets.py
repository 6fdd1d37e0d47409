"""PUBLISH and PUBACK, against paho's own encoder."""

from __future__ import annotations

import base64
import socket
from typing import Any, Self

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers

from chappe.core.effects import Publish
from chappe.edge.mqtt.packets import is_whole, property_block, pubacks, publish_packet, topic_block, variable_length


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
    block = property_block(expiry_s, base64.b64encode(correlation).decode())
    read: Any = Properties(PacketTypes.PUBLISH)
    read.unpack(block)
    assert len(block) == len(given_.pack())
    assert getattr(read, "MessageExpiryInterval", None) == expiry_s
    assert getattr(read, "CorrelationData", b"") == correlation


@pytest.mark.parametrize(("expiry_s", "sent"), [(2**40, 0xFFFF_FFFF), (-5, 0)])
def test_an_expiry_that_does_not_fit_is_clipped(expiry_s: int, sent: int) -> None:
    """Longer than 136 years is as long as can be said; past is now."""
    assert property_block(expiry_s, "") == b"\x05\x02" + sent.to_bytes(4)


@pytest.mark.parametrize("correlation", ["not base64!", base64.b64encode(bytes(65_536)).decode()])
def test_correlation_data_that_cannot_be_sent_is_an_error(correlation: str) -> None:
    """No base64, or more bytes than a length of two bytes can say."""
    with pytest.raises(ValueError, match=r"."):
        property_block(None, correlation)


# ── PUBLISH ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Pahos:
    """A paho client that thinks it is connected, and what it sends."""

    def __init__(self, version: paho.MQTTProtocolVersion) -> None:
        self._near, self._far = socket.socketpair()
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id="x",
            protocol=version,
            **({} if version == paho.MQTTv5 else {"clean_session": True}),
        )
        self.client._sock = self._near

    def says(self, message: Publish, expiry_s: int | None) -> tuple[int, bytes]:
        """The packet identifier it chose, and the packet."""
        given_: Any = None
        if expiry_s is not None:
            given_ = Properties(PacketTypes.PUBLISH)
            given_.MessageExpiryInterval = expiry_s
        info = self.client.publish(message.topic, message.payload, message.qos, message.retain, given_)
        return info.mid, self._far.recv(4096)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client._sock = None
        self._near.close()
        self._far.close()


topics = st.text(st.characters(codec="utf-8", exclude_characters="+#\0"), min_size=1, max_size=200)


@given(topics, st.binary(max_size=300), st.sampled_from([0, 1]), st.booleans(), st.none() | st.integers(0, 1000))
def test_a_publish_is_what_paho_sends(topic: str, payload: bytes, qos: int, retain: bool, expiry_s: int | None) -> None:
    """Byte for byte on MQTT 5, so that a message exactly at the broker's limit is sent and one above is not."""
    message = Publish(token=1, topic=topic, payload=payload, qos=qos, retain=retain, expiry_s=expiry_s)
    with Pahos(paho.MQTTv5) as theirs:
        mid, packet = theirs.says(message, expiry_s)
    assert publish_packet(message, mid, properties=True) == packet


@given(topics, st.binary(max_size=300), st.sampled_from([0, 1]), st.booleans())
def test_a_publish_of_3_1_1_is_what_paho_sends(topic: str, payload: bytes, qos: int, retain: bool) -> None:
    """The same without properties, whatever the message would have liked to have."""
    message = Publish(token=1, topic=topic, payload=payload, qos=qos, retain=retain, expiry_s=5, correlation="AAAA")
    with Pahos(paho.MQTTv311) as theirs:
        mid, packet = theirs.says(message, None)
    assert publish_packet(message, mid, properties=False) == packet


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0b", "x" * 65_536, "\ud800"])
def test_a_topic_that_cannot_be_published_to_makes_no_packet(topic: str) -> None:
    """Wildcards, nothing, too much, and text that is none."""
    assert topic_block(topic) == b""
    assert publish_packet(Publish(token=1, topic=topic, payload=b""), 1, properties=True) == b""


def test_the_longest_topic_fits() -> None:
    """65,535 bytes."""
    assert topic_block("x" * 65_535)[:3] == b"\xff\xffx"


# ── PUBACK ───────────────────────────────────────────────────────────────────────────────────────────────────────────

answers = st.lists(st.tuples(st.integers(1, 0xFFFF), st.sampled_from([None, 0, 0x10, 0x87])), max_size=20)


def written(mid: int, code: int | None) -> bytes:
    """A PUBACK as brokers write it; a success may leave the code out."""
    return b"\x40\x02" + mid.to_bytes(2) if code is None else b"\x40\x04" + mid.to_bytes(2) + bytes([code, 0])


@given(answers, st.binary(max_size=4), st.integers(0, 60))
def test_pubacks_are_read_however_they_are_cut(given_: list[tuple[int, int | None]], before: bytes, cut: int) -> None:
    """A stream of them in two pieces: each is read once, with its code, and the rest is left where it stands."""
    stream = b"".join(written(mid, code) for mid, code in given_)
    cut = min(cut, len(stream))
    found, at = pubacks(before + stream[:cut], len(before))
    rest, end = pubacks(stream[at - len(before) :], 0)
    assert found + rest == [(mid, code or 0) for mid, code in given_]
    assert at - len(before) + end == len(stream)


@pytest.mark.parametrize("first", [0x20, 0x30, 0x90, 0xD0, 0xE0, 0x41])
def test_what_is_no_puback_stops_the_reading(first: int) -> None:
    """The packet behind it waits its turn."""
    data = written(1, None) + bytes([first, 2, 0, 9]) + written(2, None)
    assert pubacks(data, 0) == ([(1, 0)], 4)


@pytest.mark.parametrize("bad", [b"\x40\x00\x40\x00", b"\x40\x01\x00\x40", b"\x40\x80\x01" + bytes(128)])
def test_a_malformed_puback_is_left_to_the_parser(bad: bytes) -> None:
    """Shorter than its identifier, or longer than any."""
    assert pubacks(bad, 0) == ([], 0)


# ── packets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(0, 40_000), st.binary(max_size=3))
def test_a_packet_is_whole_with_its_last_byte(length: int, before: bytes) -> None:
    """One byte less is not enough; what follows does not matter."""
    packet = b"\x30" + variable_length(length) + bytes(length)
    assert is_whole(before + packet, len(before))
    assert is_whole(before + packet + b"\x30", len(before))
    assert not is_whole(before + packet[:-1], len(before))


def test_a_length_that_makes_no_sense_is_for_the_parser() -> None:
    """Four bytes that all announce another (MQTT 5 section 1.5.5): nothing is waited for."""
    assert is_whole(b"\x30\xff\xff\xff\xff", 0)
    assert not is_whole(b"\x30\xff\xff\xff", 0)
