"""The two packets that there are many of, written and read here: PUBLISH and PUBACK, bytes to values and back.

Through paho a message costs several times what it costs here (it keeps a record, a lock and a queue entry of each, and reads every packet
in three calls). All other packets are few, and paho's.
"""

from __future__ import annotations

import base64
from functools import lru_cache

from chappe.core.effects import Publish
from chappe.core.topics import LONGEST

_EXPIRY = b"\x05\x02"  # five bytes of properties: Message Expiry Interval, four byte integer (MQTT 5 section 3.3.2.3.3)
_CORRELATION = b"\x09"  # Correlation Data, binary (MQTT 5 section 3.3.2.3.6)

NO_PROPERTIES = b"\x00"
PUBLISH, PUBACK = 0x30, 0x40
PINGREQ = b"\xc0\x00"

_LENGTH_BYTES = 4  # MQTT 5 section 1.5.5

# Longer topics come from peers who choose where their answer goes, and are not remembered: they would fill our memory.
_KEPT_LENGTH = 128


# ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def publish_packet(message: Publish, mid: int, *, properties: bool) -> bytes:
    """A PUBLISH (MQTT 5 section 3.3), or nothing where the topic is one that cannot be published to.

    Args:
        message: what to say.
        mid: packet identifier; left out for QoS 0.
        properties: whether there is a property block (MQTT 5) or none (3.1.1).

    Raises:
        ValueError: if the correlation data is not base64, or longer than 65,535 bytes when decoded.

    >>> publish_packet(Publish(token=1, topic="a", payload=b"x"), 7, properties=True).hex()
    '320700016100070078'
    """
    topic = topic_block(message.topic)
    if not topic:
        return b""
    block = topic + mid.to_bytes(2) if message.qos else topic
    if properties:
        block += property_block(message.expiry_s, message.correlation)
    payload = message.payload
    first = PUBLISH | message.qos << 1 | message.retain
    return b"%c%b%b%b" % (first, variable_length(len(block) + len(payload)), block, payload)


def topic_block(topic: str) -> bytes:
    r"""A topic as a packet carries it, its length in front; nothing where no message can be published on it (MQTT 5 section 4.7).

    >>> topic_block("a/b"), topic_block("a/+")
    (b'\x00\x03a/b', b'')
    """
    return _kept_topic(topic) if len(topic) <= _KEPT_LENGTH else _topic(topic)


def _topic(topic: str) -> bytes:
    try:
        data = topic.encode()
    except UnicodeEncodeError:
        return b""
    if not data or len(data) > LONGEST or any(sign in topic for sign in "+#\0"):
        return b""
    return len(data).to_bytes(2) + data


_kept_topic = lru_cache(maxsize=256)(_topic)


def property_block(expiry_s: int | None, correlation: str) -> bytes:
    """The property block of a PUBLISH as MQTT 5 section 3.3.2.3 writes it, its length in front.

    Args:
        expiry_s: message expiry in seconds, None for none.
        correlation: correlation data in base64, empty for none.

    Raises:
        ValueError: if `correlation` is not base64, or longer than 65,535 bytes when decoded.

    >>> property_block(60, "").hex()
    '05020000003c'
    """
    expiry = NO_PROPERTIES if expiry_s is None else _expiry(expiry_s)
    if not correlation:
        return expiry
    data = base64.b64decode(correlation, validate=True)
    if len(data) > 0xFFFF:
        raise ValueError("correlation data is longer than 65,535 bytes")
    block = expiry[1:] + _CORRELATION + len(data).to_bytes(2) + data
    return variable_length(len(block)) + block


@lru_cache(maxsize=64)
def _expiry(expiry_s: int) -> bytes:
    return _EXPIRY + max(0, min(expiry_s, 0xFFFF_FFFF)).to_bytes(4)


@lru_cache(maxsize=1024)
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


# ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def pubacks(data: bytes | bytearray, at: int) -> tuple[list[tuple[int, int]], int]:
    """The PUBACKs that stand at `at`, up to the first packet that is another, incomplete or malformed.

    Args:
        data: what the broker sent.
        at: where a packet begins in it.

    Returns:
        Packet identifier and reason code of each (MQTT 5 section 3.4; 0 where it has none), and where they end.

    >>> pubacks(bytes.fromhex("40020001" "4003000210" "d000"), 0)
    ([(1, 0), (2, 16)], 9)
    """
    found: list[tuple[int, int]] = []
    size = len(data)
    while at + 3 < size and data[at] == PUBACK:
        length = data[at + 1]
        after = at + 2 + length
        if not 2 <= length < 0x80 or after > size:
            break
        found.append((data[at + 2] << 8 | data[at + 3], data[at + 4] if length > 2 else 0))
        at = after
    return found, at


def is_whole(data: bytes | bytearray, at: int) -> bool:
    r"""Whether a whole packet stands at `at`, or one whose length makes no sense.

    >>> is_whole(b"\x30\x02a", 0), is_whole(b"\x30\x02ab", 0), is_whole(b"\x30\xff\xff\xff\xff", 0)
    (False, True, True)
    """
    length = 0
    for place, byte in enumerate(data[at + 1 : at + 1 + _LENGTH_BYTES]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return len(data) >= at + 2 + place + length
    return len(data) > at + _LENGTH_BYTES
