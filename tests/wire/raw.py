"""A publisher on a bare socket, for what no client library would do: hang up in the middle, at a known packet."""

from __future__ import annotations

import itertools
import socket
import struct

from chappe.edge.broker import LOOPBACK

PUBACK_SIZE = 4
_numbers = itertools.count()


def publish_and_hang_up(port: int, topic: str, payloads: list[bytes], after: int) -> list[bytes]:
    """Publish all at once with QoS 1 (MQTT 3.1.1), reset the connection after so many PUBACKs; returns what was acknowledged."""
    with socket.create_connection((LOOPBACK, port), 20) as link:
        link.sendall(_packet(0x10, _text(b"MQTT") + b"\x04\x02\x00\x3c" + _text(b"raw-%d" % next(_numbers))))
        _read(link, 4)
        link.sendall(b"".join(_publish(topic, number, data) for number, data in enumerate(payloads)))
        answers = _read(link, after * PUBACK_SIZE)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    whole = len(answers) // PUBACK_SIZE * PUBACK_SIZE
    return [payloads[mid - 1] for _, _, mid in struct.iter_unpack("!BBH", answers[:whole])]


def _publish(topic: str, number: int, data: bytes) -> bytes:
    return _packet(0x32, _text(topic.encode()) + struct.pack("!H", number + 1) + data)


def _packet(kind: int, body: bytes) -> bytes:
    assert len(body) < 128, "one byte of length is all that is written here"
    return bytes([kind, len(body)]) + body


def _text(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


def _read(link: socket.socket, least: int) -> bytes:
    data = b""
    while len(data) < least:
        more = link.recv(4096)
        assert more, "the broker hung up"
        data += more
    return data
