"""A broker that follows a script: for what real ones do too rarely, or never."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"

CONNECT, PUBLISH, SUBSCRIBE, DISCONNECT = 0x10, 0x30, 0x80, 0xE0


class HungUpError(Exception):
    """The client closed the connection, or the test is over."""


class Conversation:
    """One connection as the script sees it.

    Args:
        sock: accepted.
        number: 1 for the first connection of this server.
    """

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        self.level = 0

    def bytes(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                more = self.sock.recv(count - len(data))
            except OSError:
                more = b""
            if not more:
                raise HungUpError
            data += more
        return data

    def packet(self) -> tuple[int, bytes]:
        """The next packet: first byte and body."""
        first, length, shift = self.bytes(1)[0], 0, 0
        while True:
            digit = self.bytes(1)[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                return first, self.bytes(length)

    def expect(self, kind: int) -> bytes:
        """The body of the next packet, which is of `kind`."""
        first, body = self.packet()
        assert first & 0xF0 == kind, f"0x{first:02x} instead of 0x{kind:02x}"
        return body

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def greet(self, properties: bytes = b"", suback: int = 1) -> None:
        """Take the SUBSCRIBE after an MQTT 5 CONNECT, granting each filter `suback`."""
        self.send(connack(properties=properties))
        body = self.expect(SUBSCRIBE)
        self.send(b"\x90\x04" + body[:2] + b"\x00" + bytes([suback]))

    def publish(self) -> tuple[int, str]:
        """Packet identifier and topic of the next PUBLISH (QoS 1)."""
        body = self.expect(PUBLISH)
        (length,) = struct.unpack_from("!H", body)
        return struct.unpack_from("!H", body, 2 + length)[0], body[2 : 2 + length].decode()

    def quiet(self, for_s: float) -> bool:
        """Whether the client sends nothing for a while."""
        self.sock.settimeout(for_s)
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(20)


def connack(code: int = 0, properties: bytes = b"") -> bytes:
    """A CONNACK of MQTT 5."""
    return bytes([0x20, 3 + len(properties), 0, code, len(properties)]) + properties


def puback(mid: int, code: int = 0) -> bytes:
    """A PUBACK of MQTT 5."""
    return b"\x40\x03" + struct.pack("!HB", mid, code)


class Scripted:
    """Runs `script` on each connection, after reading its CONNECT where `connect` says so; then closes it.

    Args:
        script: what to do.
        connect: whether connections begin with a CONNECT to be read first.
    """

    def __init__(self, script: Callable[[Conversation], None], *, connect: bool = True) -> None:
        self.levels: list[int] = []
        self.port = 0
        self.failures: list[BaseException] = []
        self._script = script
        self._connect = connect
        self._listener = socket.socket()
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self._listener.bind((LOOPBACK, 0))
        self._listener.listen(16)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for sock in self._open:
            sock.close()
        if kind is None and self.failures:
            raise self.failures[0]

    def wait_for_connects(self, count: int) -> list[int]:
        """The protocol levels of the first `count` CONNECTs."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.levels) >= count, 20), f"only {self.levels}"
            return self.levels[:count]

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name="scripted", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(20)
            self._open.append(sock)
            conversation = Conversation(sock, len(self._open))
            self._start(lambda conversation=conversation: self._converse(conversation))

    def _converse(self, conversation: Conversation) -> None:
        try:
            if self._connect:
                conversation.level = conversation.expect(CONNECT)[6]
                with self._changed:
                    self.levels.append(conversation.level)
                    self._changed.notify_all()
            self._script(conversation)
        except HungUpError:
            pass
        except BaseException as failure:  # noqa: BLE001 - shown when the test leaves the block
            self.failures.append(failure)
        with contextlib.suppress(OSError):
            conversation.sock.shutdown(socket.SHUT_RDWR)
