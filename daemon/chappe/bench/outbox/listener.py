"""A subscriber with QoS 1 that takes messages as fast as Python can: it reads packets itself, notes them, and acknowledges in bulk.

It is there so that the broker has to deliver, and to see that everything arrived. A client library would take longer per message than the
publishers that are measured.
"""

from __future__ import annotations

import socket
import threading
import time
from types import TracebackType
from typing import Self

from chappe.edge.broker import LOOPBACK
from chappe.errors import LinkError

# MQTT 3.1.1 section 3.1: clean session, no keepalive.
_CONNECT = b"\x10\x19\x00\x04MQTT\x04\x02\x00\x00\x00\x0dbench-counter"
_CONNACK, _SUBACK = b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x01"
_DISCONNECT = b"\xe0\x00"
_PUBLISH = 0x30
_CHUNK = 1 << 18
_TURN_S = 0.2


class Listener:
    """Notes what arrives, from a thread of its own.

    Args:
        port: of the broker, on loopback.
        topic: filter to subscribe to.
        about: only messages that contain this are noted.

    Attributes:
        first_at: when the first message came, `time.perf_counter` seconds; None before.
        first: that message.
    """

    def __init__(self, port: int, topic: str, about: bytes = b"") -> None:
        self.first_at: float | None = None
        self.first = b""
        self._port = port
        self._topic = topic.encode()
        self._about = about
        self._seen: set[bytes] = set()
        self._count = 0
        self._wanted = 1
        self._changed = threading.Condition()
        self._closing = False
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Connect and subscribe.

        Raises:
            LinkError: if the broker does not answer as it should.
        """
        self._socket = socket.create_connection((LOOPBACK, self._port), 5.0)
        self._say(_CONNECT, _CONNACK)
        body = b"\x00\x01" + len(self._topic).to_bytes(2) + self._topic + b"\x01"
        self._say(b"\x82" + bytes([len(body)]) + body, _SUBACK)
        self._socket.settimeout(_TURN_S)
        self._thread = threading.Thread(target=self._listen, name="bench-listener", daemon=True)
        self._thread.start()

    def _say(self, words: bytes, answer: bytes) -> None:
        assert self._socket is not None, "open() comes first"
        self._socket.sendall(words)
        heard = self._socket.recv(len(answer), socket.MSG_WAITALL)
        if heard != answer:
            raise LinkError(f"the broker answers the bench's subscriber with {heard.hex()}")

    def close(self) -> None:
        """Leave; idempotent."""
        self._closing = True
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # ── what arrived ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def count(self) -> int:
        """Messages that arrived, repeats included."""
        return self._count

    @property
    def distinct(self) -> int:
        """Different messages that arrived."""
        return len(self._seen)

    def wait(self, n: int, timeout_s: float) -> bool:
        """Wait until `n` messages have arrived; whether they have."""
        with self._changed:
            self._wanted = n
            return self._changed.wait_for(lambda: self._count >= n, timeout_s)

    # ── the thread ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _listen(self) -> None:
        assert self._socket is not None, "open() comes first"
        rest = b""
        while not self._closing:
            try:
                data = self._socket.recv(_CHUNK)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                return
            rest = self._take(rest + data)
        self._socket.sendall(_DISCONNECT)

    def _take(self, data: bytes) -> bytes:
        payloads, answers, rest = read_publishes(data)
        if answers:
            assert self._socket is not None, "open() comes first"
            self._socket.sendall(answers)
        if self._about:
            payloads = [payload for payload in payloads if self._about in payload]
        if payloads:
            now = time.perf_counter()
            with self._changed:
                if self.first_at is None:
                    self.first_at, self.first = now, payloads[0]
                self._seen.update(payloads)
                self._count += len(payloads)
                if self._count >= self._wanted:
                    self._changed.notify_all()
        return rest


def read_publishes(data: bytes) -> tuple[list[bytes], bytes, bytes]:
    r"""The payloads of the PUBLISH packets in `data`, their PUBACKs, and the bytes of a packet that is not complete (MQTT 3.1.1 section 3.3).

    ([b'xy'], b'@\x02\x00\x07', b'2\x07')
    ([b'xy'], b'@\\x02\\x00\\x07', b'2\\x07')
    """
    payloads: list[bytes] = []
    answers = bytearray()
    at, end = 0, len(data)
    while end - at >= 2:
        size, body, shift = 0, at + 1, 0
        while body < end:
            byte = data[body]
            size |= (byte & 127) << shift
            body, shift = body + 1, shift + 7
            if byte < 128:
                break
        else:
            break
        if body + size > end:
            break
        if data[at] & 0xF0 == _PUBLISH:
            start = body + 2 + (data[body] << 8 | data[body + 1])
            if data[at] & 0x06:
                answers += b"@\x02" + data[start : start + 2]
                start += 2
            payloads.append(data[start : body + size])
        at = body + size
    return payloads, bytes(answers), data[at:]
