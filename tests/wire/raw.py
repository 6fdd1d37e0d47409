"""A publisher on a bare socket, for what no client library would do: hang up in the middle, at a known packet."""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Iterator

from chappe.edge.broker import LOOPBACK

CONNACK, PUBACK = 0x20, 0x40
_numbers = itertools.count()


def publish_and_hang_up(port: int, topic: str, payloads: list[bytes], after: int) -> list[bytes]:
    """Publish all at once with QoS 1 (MQTT 3.1.1), reset the connection after so many PUBACKs; returns what was acknowledged."""
    acknowledged: list[bytes] = []
    with socket.create_connection((LOOPBACK, port), 20) as link:
        link.sendall(_packet(0x10, _text(b"MQTT") + b"\x04\x02\x00\x3c" + _text(b"raw-%d" % next(_numbers))))
        packets = _packets(link)
        assert next(packets) == (CONNACK, b"\0\0")
        link.sendall(b"".join(_publish(topic, number, data) for number, data in enumerate(payloads)))
        while len(acknowledged) < after:
            kind, body = next(packets)
            if kind == PUBACK:
                acknowledged.append(payloads[int.from_bytes(body) - 1])
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return acknowledged


def _publish(topic: str, number: int, data: bytes) -> bytes:
    return _packet(0x32, _text(topic.encode()) + struct.pack("!H", number + 1) + data)


def _packet(kind: int, body: bytes) -> bytes:
    assert len(body) < 128, "one byte of length is all that is written here"
    return bytes([kind, len(body)]) + body


def _text(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


def _packets(link: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Kind and body of each packet that comes in."""
    with link.makefile("rb") as stream:
        while head := stream.read(1):
            length = shift = 0
            while shift < 28:
                digit = stream.read(1)[0]
                length |= (digit & 0x7F) << shift
                shift += 7
                if digit < 0x80:
                    break
            yield head[0] & 0xF0, stream.read(length)
    raise AssertionError("the broker hung up")
