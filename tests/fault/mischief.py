"""A proxy that does to an MQTT link what networks and tired middleboxes do: cut, fall silent, delay, trickle, say things twice.

Nothing is ever reordered or invented within a direction, and nothing lost unless asked for: TCP would not either.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import selectors
import socket
import time
from collections.abc import Iterable
from typing import Any

from .borrowed import borrow

PUBLISH, PUBACK = 3, 4
"""Packet types, MQTT 5 section 2.1.2."""

LOOPBACK = "127.0.0.1"


class Mischief(borrow("wire/proxy.py").Proxy):  # type: ignore[misc]
    """Forwards `port` to a broker; what else it does can be changed at any time by `be`.

    Args:
        target: the broker's port on loopback.
        host: where it listens.
    """

    def __init__(self, target: int, host: str = LOOPBACK) -> None:
        super().__init__(target)
        self.host = host
        self.doubled = 0
        self.pieces = 0
        self._delay_s = 0.0
        self._trickle = False
        self._times: dict[bool, dict[int, int]] = {True: {}, False: {}}
        self._from_device: set[socket.socket] = set()
        self._splitters: dict[socket.socket, Splitter] = {}
        self._later: list[tuple[float, int, socket.socket, bytes]] = []
        self._last: dict[socket.socket, float] = {}
        self._numbers = itertools.count()

    def be(
        self,
        *,
        delay_s: float = 0.0,
        trickle: bool = False,
        twice: Iterable[int] = (),
        unsaid: Iterable[int] = (),
        unheard: Iterable[int] = (),
    ) -> None:
        """From now on: forward each piece after `delay_s`, one byte at a time, packets of some types twice.

        Args:
            delay_s: in seconds.
            trickle: whether bytes go one by one.
            twice: packet types that go twice, in either direction.
            unsaid: those that never reach the broker.
            unheard: those that never reach the device.
        """

        def obey() -> None:
            self._delay_s, self._trickle = delay_s, trickle
            both = dict.fromkeys(twice, 2)
            self._times = {True: both | dict.fromkeys(unsaid, 0), False: both | dict.fromkeys(unheard, 0)}

        self._do(obey)

    def accept_again(self) -> None:
        """Listen, if it does not."""
        if self._listener is None:
            self.accept()

    # ── in its thread ────────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        while self._running:
            wait = max(0.0, self._later[0][0] - time.monotonic()) if self._later else None
            for key, _ in self._selector.select(wait):
                if key.fileobj == self._wake[0]:
                    os.read(self._wake[0], 1)
                    self._orders.popleft()()
                elif key.fileobj is self._listener:
                    self._take()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._pairs:
                    self._forward(key.fileobj)
            self._catch_up()

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        listener.listen(16)
        self.port = listener.getsockname()[1]
        self._selector.register(listener, selectors.EVENT_READ)
        self._listener: Any = listener

    def _take(self) -> None:
        before = set(self._pairs)
        super()._take()
        new = [sock for sock in self._pairs if sock not in before]
        # The device's end is entered first.
        self._from_device.update(new[:1])
        for sock in new:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._splitters[sock] = Splitter()

    def _forward(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(64 * 1024)
        except OSError:
            data = b""
        if not data:
            self._part(sock)
        elif self._delay_s or sock in self._last:
            # What comes after a delay has ended must not overtake what is still on its way.
            due = self._last[sock] = max(time.monotonic() + self._delay_s, self._last.get(sock, 0.0))
            heapq.heappush(self._later, (due, next(self._numbers), sock, data))
        else:
            self._pass_on(sock, data)

    def _catch_up(self) -> None:
        while self._later and self._later[0][0] <= time.monotonic():
            _, _, sock, data = heapq.heappop(self._later)
            if sock in self._pairs:
                self._pass_on(sock, data)

    def _pass_on(self, sock: socket.socket, data: bytes) -> None:
        data = self._told(sock, self._splitters[sock].take(data))
        pieces = (data[n : n + 1] for n in range(len(data))) if self._trickle else iter((data,))
        try:
            for piece in pieces:
                self._pairs[sock].sendall(piece)
                self.pieces += 1
        except OSError:
            self._part(sock)

    def _told(self, sock: socket.socket, packets: list[bytes]) -> bytes:
        out = bytearray()
        said = self._times[sock in self._from_device]
        for packet in packets:
            times = said.get(packet[0] >> 4, 1)
            self.doubled += times == 2
            out += packet * times
        return bytes(out)

    def _part(self, sock: socket.socket) -> None:
        for end in (sock, self._pairs[sock]):
            self._splitters.pop(end, None)
            self._last.pop(end, None)
            self._from_device.discard(end)
        with contextlib.suppress(OSError):
            super()._part(sock)


class Splitter:
    """Cuts a direction of an MQTT connection into packets."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, data: bytes) -> list[bytes]:
        """Every packet that is complete now."""
        self._rest += data
        packets = []
        while (size := packet_size(self._rest)) and size <= len(self._rest):
            packets.append(self._rest[:size])
            self._rest = self._rest[size:]
        return packets


def packet_size(data: bytes) -> int:
    """Bytes of the packet that begins here, 0 while that cannot be known (MQTT 5 sections 2.1.4 and 1.5.5).

    >>> packet_size(bytes([0x40, 2, 0, 1])), packet_size(bytes([0x30, 0x80, 1])), packet_size(bytes([0x30, 0x80]))
    (4, 131, 0)
    """
    length = 0
    for place, byte in enumerate(data[1:5]):
        length |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return 2 + place + length
    return 0
