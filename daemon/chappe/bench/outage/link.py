"""The way to the broker, and what can be done to it.

As root it leads through a network namespace of its own: `hole` makes packets vanish in the kernel (a queue of length nought on both ends of
a veth pair), without RST or FIN, as when a cable is cut behind a switch. Elsewhere a proxy on loopback forwards nothing any more and keeps
every socket open, which an application cannot tell from the former until the path comes back. `refuse` is the same for both: every
connection is reset and every new one refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import shutil
import socket
import struct
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from chappe.edge.broker import LOOPBACK
from chappe.errors import EdgeError

_CHUNK = 64 * 1024
_CLONE_NEWNET = 0x40000000
_WITHIN_S = 10.0
_RESET = struct.pack("ii", 1, 0)


class Link:
    """Forwards an address to a broker on loopback until told otherwise.

    Args:
        target: the broker's port.
        kernel: through a network namespace; needs root.
    """

    def __init__(self, target: int, *, kernel: bool = False) -> None:
        self.target = target
        self.host = LOOPBACK
        self.port = 0
        self._namespace = Namespace() if kernel else None
        self._orders: deque[Callable[[], None]] = deque()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._holding = False
        self._listener: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._wake = (-1, -1)
        self._running = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Listen.

        Raises:
            EdgeError: if the namespace cannot be made.
        """
        if self._namespace is not None:
            self._namespace.open()
            self.host = self._namespace.inner
        self._wake = os.pipe()
        self._selector.register(self._wake[0], selectors.EVENT_READ)
        self._listen()
        self._running = True
        self._thread = threading.Thread(target=self._run, name="bench-link", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Reset what goes through it and take the namespace away; idempotent."""
        if self._thread is not None:
            self._do(self._stop)
            self._thread.join(_WITHIN_S)
            self._thread = None
            for end in self._wake:
                os.close(end)
        self._selector.close()
        if self._namespace is not None:
            self._namespace.close()

    def refuse(self) -> None:
        """Reset every connection and listen no more."""
        self._do(self._refuse)

    def hole(self) -> None:
        """From now on whatever is sent, in either direction, vanishes."""
        if self._namespace is not None:
            self._namespace.hole()
        else:
            self._do(lambda: self._set_holding(True))

    def heal(self) -> None:
        """Undo `refuse` and `hole`. What a proxy held back is not delivered late: those connections are reset."""
        if self._namespace is not None:
            self._namespace.heal()
        self._do(self._heal)

    # ── in its thread ────────────────────────────────────────────────────────────────────────────────────────────────

    def _do(self, order: Callable[[], None]) -> None:
        obeyed = threading.Event()

        def obey() -> None:
            order()
            obeyed.set()

        self._orders.append(obey)
        os.write(self._wake[1], b"!")
        if not obeyed.wait(_WITHIN_S):
            raise EdgeError("the bench's link does not obey")

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

    def _listen(self) -> None:
        with self._namespace.entered() if self._namespace is not None else contextlib.nullcontext():
            listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        listener.listen(16)
        self.port = listener.getsockname()[1]
        self._selector.register(listener, selectors.EVENT_READ)
        self._listener = listener

    def _take(self) -> None:
        assert self._listener is not None
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection((LOOPBACK, self.target), 5)
        except OSError:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            near.close()
            return
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A peer that reads nothing must not hold up the others for ever.
        near.settimeout(_WITHIN_S)
        self._pairs[near], self._pairs[far] = far, near
        self._watch(near)
        self._watch(far)

    def _watch(self, sock: socket.socket) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(sock)
        if not self._holding:
            self._selector.register(sock, selectors.EVENT_READ)

    def _set_holding(self, holding: bool) -> None:
        self._holding = holding
        for sock in self._pairs:
            self._watch(sock)

    def _forward(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(_CHUNK)
            if data:
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

    def _reset(self) -> None:
        for sock in self._pairs:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        while self._pairs:
            self._part(next(iter(self._pairs)))

    def _refuse(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
        self._reset()

    def _heal(self) -> None:
        if self._holding:
            self._reset()
            self._holding = False
        if self._listener is None:
            self._listen()

    def _stop(self) -> None:
        self._refuse()
        self._running = False


class Namespace:
    """A network namespace joined to this one by a veth pair, in which packets can be made to vanish; needs root."""

    _made = 0

    def __init__(self) -> None:
        Namespace._made += 1
        number = os.getpid() % 4096 * 16 + Namespace._made % 16
        self.name = f"chappe-bench-{number}"
        self._ends = (f"cb{number}a", f"cb{number}b")
        # 198.18.0.0/15 is for benchmarks (RFC 2544 appendix C.2.2): these addresses exist nowhere but in the pair.
        first = number * 4
        network = f"198.{18 + (first >> 16 & 1)}.{first >> 8 & 255}"
        self.outer = f"{network}.{(first & 255) + 1}"
        self.inner = f"{network}.{(first & 255) + 2}"
        self._open = False

    def open(self) -> None:
        """Make it.

        Raises:
            EdgeError: if the kernel or the rights for it are missing.
        """
        outside, inside = self._ends
        _ip("netns", "add", self.name)
        self._open = True
        try:
            _ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", self.name)
            _ip("address", "add", f"{self.outer}/30", "dev", outside)
            _ip("link", "set", outside, "up")
            _ip("-n", self.name, "address", "add", f"{self.inner}/30", "dev", inside)
            _ip("-n", self.name, "link", "set", inside, "up")
        except EdgeError:
            self.close()
            raise

    def hole(self) -> None:
        """Drop every packet at both ends."""
        outside, inside = self._ends
        _command("tc", "qdisc", "replace", "dev", outside, "root", "pfifo", "limit", "0")
        _command("tc", "-n", self.name, "qdisc", "replace", "dev", inside, "root", "pfifo", "limit", "0")

    def heal(self) -> None:
        """Let packets through again; a no-op where they went through."""
        outside, inside = self._ends
        for command in (["tc"], ["tc", "-n", self.name]):
            end = outside if len(command) == 1 else inside
            with contextlib.suppress(EdgeError):
                _command(*command, "qdisc", "del", "dev", end, "root")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is inside for the length of the block; sockets made there stay there."""
        with Path("/proc/self/ns/net").open() as home, Path("/run/netns", self.name).open() as there:
            _set_namespace(there.fileno())
            try:
                yield
            finally:
                _set_namespace(home.fileno())

    def close(self) -> None:
        """Take it away, and the veth pair with it; idempotent."""
        if self._open:
            self._open = False
            _ip("netns", "delete", self.name)


def kernel_can() -> bool:
    """Whether a black hole can be made in the kernel here."""
    return os.geteuid() == 0 and all(shutil.which(program) for program in ("ip", "tc"))


def _ip(*words: str) -> None:
    _command("ip", *words)


def _command(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EdgeError(f"`{' '.join(words)}` failed: {done.stderr.strip()}", remedy="run the bench with --no-kernel")


def _set_namespace(descriptor: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(descriptor, _CLONE_NEWNET):
        raise EdgeError(f"setns failed: {os.strerror(ctypes.get_errno())}")
