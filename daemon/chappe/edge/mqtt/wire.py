"""The socket that packets are read from and written to, with a buffer on each side.

A whole batch is one system call each way. paho, which reads a packet in three calls (one byte, its length, the rest), reads from the
buffer, and only when a whole packet is there, so that packets which are not for it can be taken out before it looks.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Protocol

from chappe.edge.mqtt.packets import is_whole, pubacks
from chappe.edge.mqtt.terms import Counters

CHUNK = 64 * 1024
HEAD = 8

_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Stream(Protocol):
    """What a wire needs of a socket."""

    def fileno(self) -> int: ...

    def recv(self, size: int, /) -> bytes: ...

    def send(self, data: bytearray, /) -> int: ...

    def shutdown(self, how: int, /) -> None: ...

    def close(self) -> None: ...


class Wire:
    """A connected, non-blocking socket; for paho one in the shape that it expects (its ``SocketLike`` protocol).

    `recv` and `send` only touch the buffers; `fill` and `flush` do the input and output. `close` is what paho calls when it has had
    enough, and only notes it: the descriptor stays valid until its owner has taken it out of the selector and calls `release`.

    Args:
        sock: connected and non-blocking: TCP, TLS or WebSocket.
        counters: bytes are added here.

    Attributes:
        out: what waits for `flush`; whole packets may be added.
        head: the first bytes the peer sent, for telling what it speaks.
        closed: paho has closed it.
        ended: the peer has, or an error has.
        error: that error.
    """

    def __init__(self, sock: Stream, counters: Counters) -> None:
        self.out = bytearray()
        self.head = b""
        self.closed = False
        self.ended = False
        self.error: OSError | None = None
        self._sock = sock
        self._counters = counters
        self._in = bytearray()
        self._read = 0

    @property
    def unread(self) -> bool:
        """Whether a whole packet waits to be read."""
        return is_whole(self._in, self._read)

    @property
    def unsent(self) -> bool:
        """Whether bytes wait for `flush`."""
        return bool(self.out)

    def fileno(self) -> int:
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """Part of the protocol; the socket is non-blocking already and stays so."""

    def recv(self, size: int, /) -> bytes:
        """Up to `size` bytes of the buffer.

        Raises:
            BlockingIOError: if there are none yet.
        """
        data = bytes(self._in[self._read : self._read + size])
        if not data and not self.ended:
            raise BlockingIOError
        self._read += len(data)
        return data

    def pubacks(self) -> list[tuple[int, int]]:
        """Take the PUBACKs that stand at the front of the buffer: packet identifier and reason code of each."""
        found, self._read = pubacks(self._in, self._read)
        return found

    def send(self, data: bytes | bytearray, /) -> int:
        """Put `data` into the buffer."""
        self.out += data
        return len(data)

    def close(self) -> None:
        self.closed = True

    def fill(self) -> bool:
        """Read once what the socket has; returns whether that was anything."""
        try:
            data = self._sock.recv(CHUNK)
            if isinstance(self._sock, ssl.SSLSocket):
                # What TLS has decrypted already does not wake a selector again.
                while data and self._sock.pending():
                    data += self._sock.recv(CHUNK)
        except _LATER:
            return False
        except OSError as error:
            self._end(error)
            return False
        if not data:
            self._end(None)
        self._take(data)
        return bool(data)

    def _take(self, data: bytes) -> None:
        self._counters.bytes_in += len(data)
        if len(self.head) < HEAD:
            self.head = (self.head + data)[:HEAD]
        del self._in[: self._read]
        self._in += data
        self._read = 0

    def _end(self, error: OSError | None) -> None:
        self.ended = True
        self.error = self.error or error

    def flush(self) -> bool:
        """Write what the socket takes; returns whether it took anything."""
        before = self._counters.bytes_out
        try:
            while self.out:
                sent = self._sock.send(self.out)
                self._counters.bytes_out += sent
                del self.out[:sent]
        except _LATER:
            pass
        except OSError as error:
            self.out.clear()
            self._hear_out(error)
        return self._counters.bytes_out != before

    def _hear_out(self, error: OSError) -> None:
        """Nothing can be written any more, but why may still wait to be read: a DISCONNECT, or an alert of TLS."""
        before = -1
        while not self.ended and before != self._counters.bytes_in:
            before = self._counters.bytes_in
            self.fill()
        self._end(error)

    def finish(self) -> None:
        """Say that nothing more will be written, so that what was written arrives even while the peer is still sending."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def release(self) -> None:
        """Close the socket; idempotent."""
        self.closed = self.ended = True
        self._sock.close()
