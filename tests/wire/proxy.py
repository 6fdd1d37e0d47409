"""A TCP proxy that can do to a link what networks do: fall silent, cut, refuse."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"
CHUNK = 64 * 1024


class Proxy:
    """Forwards `port` to a broker until told otherwise.

    Args:
        target: the broker's port on loopback.

    Attributes:
        carried: bytes forwarded to the broker, and from it.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.accepted = 0
        self.carried = [0, 0]
        self._nearer: set[socket.socket] = set()
        self._orders: deque[Callable[[], None]] = deque()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._holding = False
        self._listener: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._wake = os.pipe()
        self._running = True
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._selector.register(self._wake[0], selectors.EVENT_READ)
        self._listen()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._stop)
        self._thread.join(10)
        self._selector.close()
        for end in self._wake:
            os.close(end)

    def hold(self) -> None:
        """Forward nothing any more, in either direction: a half-open link, a black hole. New connections are taken and hang too."""
        self._do(lambda: self._set_holding(True))

    def resume(self) -> None:
        """Forward again."""
        self._do(lambda: self._set_holding(False))

    def cut(self) -> None:
        """Reset every connection (RST to both sides)."""
        self._do(self._cut)

    def refuse(self) -> None:
        """Reset every connection and listen no more."""
        self._do(self._refuse)

    def accept(self) -> None:
        """Listen again on the same port."""
        self._do(self._listen)

    # ── in its thread ────────────────────────────────────────────────────────────────────────────────────────────────

    def _do(self, order: Callable[[], None]) -> None:
        obeyed = threading.Event()

        def obey() -> None:
            order()
            obeyed.set()

        self._orders.append(obey)
        os.write(self._wake[1], b"!")
        assert obeyed.wait(10), "the proxy hangs"

    def _run(self) -> None:
        while self._running:
            for key, _ in self._selector.select():
                if key.fileobj == self._wake[0]:
                    os.read(self._wake[0], 1)
                    self._orders.popleft()()
                elif key.fileobj is self._listener:
                    self._take()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._pairs:
                    self._forward(key.fileobj)

    def _set_holding(self, holding: bool) -> None:
        self._holding = holding
        for sock in self._pairs:
            self._watch(sock)

    def _watch(self, sock: socket.socket) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(sock)
        if not self._holding:
            self._selector.register(sock, selectors.EVENT_READ)

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, self.port))
        listener.listen(16)
        self.port = listener.getsockname()[1]
        self._selector.register(listener, selectors.EVENT_READ)
        self._listener = listener

    def _take(self) -> None:
        assert self._listener is not None
        near, _ = self._listener.accept()
        self.accepted += 1
        try:
            far = socket.create_connection((LOOPBACK, self.target), 5)
        except OSError:
            near.close()
            return
        self._pairs[near], self._pairs[far] = far, near
        self._nearer.add(near)
        self._watch(near)
        self._watch(far)

    def _forward(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(CHUNK)
            if data:
                self.carried[sock not in self._nearer] += len(data)
                self._pairs[sock].sendall(data)
                return
        except OSError:
            pass
        self._part(sock)

    def _part(self, sock: socket.socket) -> None:
        other = self._pairs.pop(sock)
        del self._pairs[other]
        for end in (sock, other):
            with contextlib.suppress(KeyError):
                self._selector.unregister(end)
            end.close()

    def _cut(self) -> None:
        for sock in list(self._pairs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        while self._pairs:
            self._part(next(iter(self._pairs)))

    def _refuse(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
        self._cut()

    def _stop(self) -> None:
        self._refuse()
        self._running = False
