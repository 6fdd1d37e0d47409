"""The socket that paho reads from and writes to, with a buffer on each side.

paho reads a packet in three calls (one byte, its length, the rest) and writes each packet in one. Against buffers those calls cost
nothing, and a whole batch is one system call each way.
"""

from __future__ import annotations

import contextlib
import socket
import ssl

from chappe.edge.mqtt.terms import Counters

CHUNK = 64 * 1024
FULL = 256 * 1024
HEAD = 8

_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Wire:
    """A connected, non-blocking socket in the shape that paho expects (its ``SocketLike`` protocol).

    `recv` and `send` only touch the buffers; `fill` and `flush` do the input and output. `close` is what paho calls when it has had
    enough, and only notes it: the descriptor stays valid until its owner has taken it out of the selector and calls `release`.

    Args:
        sock: connected and non-blocking, TLS or plain.
        counters: bytes are added here.

    Attributes:
        head: the first bytes the peer sent, for telling what it speaks.
        closed: paho has closed it.
        ended: the peer has, or an error has.
        error: that error.
    """

    def __init__(self, sock: socket.socket, counters: Counters) -> None:
        self.head = b""
        self.closed = False
        self.ended = False
        self.error: OSError | None = None
        self._sock = sock
        self._counters = counters
        self._in = b""
        self._read = 0
        self._out = bytearray()

    @property
    def unread(self) -> bool:
        """Whether bytes wait for `recv`."""
        return self._read < len(self._in)

    @property
    def unsent(self) -> bool:
        """Whether bytes wait for `flush`."""
        return bool(self._out)

    def fileno(self) -> int:
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """Part of the protocol; the socket is non-blocking already and stays so."""

    def recv(self, size: int, /) -> bytes:
        """Up to `size` bytes of the buffer.

        Raises:
            BlockingIOError: if there are none yet.
        """
        data = self._in[self._read : self._read + size]
        if not data and not self.ended:
            raise BlockingIOError
        self._read += len(data)
        return data

    def send(self, data: bytes | bytearray, /) -> int:
        """Put `data` into the buffer.

        Raises:
            BlockingIOError: if the buffer is full.
        """
        if len(self._out) >= FULL:
            raise BlockingIOError
        self._out += data
        return len(data)

    def close(self) -> None:
        self.closed = True

    def fill(self) -> None:
        """Read once what the socket has."""
        try:
            data = self._sock.recv(CHUNK)
            if isinstance(self._sock, ssl.SSLSocket):
                # What TLS has decrypted already does not wake a selector again.
                while data and self._sock.pending():
                    data += self._sock.recv(CHUNK)
        except _LATER:
            return
        except OSError as error:
            self._end(error)
            return
        if not data:
            self._end(None)
        self._take(data)

    def _take(self, data: bytes) -> None:
        self._counters.bytes_in += len(data)
        if len(self.head) < HEAD:
            self.head = (self.head + data)[:HEAD]
        self._in = self._in[self._read :] + data
        self._read = 0

    def _end(self, error: OSError | None) -> None:
        self.ended = True
        self.error = self.error or error

    def flush(self) -> None:
        """Write what the socket takes."""
        try:
            while self._out:
                sent = self._sock.send(self._out)
                self._counters.bytes_out += sent
                del self._out[:sent]
        except _LATER:
            return
        except OSError as error:
            self._out.clear()
            self._hear_out(error)

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
