"""The way into the mqtt thread: orders from any thread, and a pipe that wakes its selector."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from chappe.core.effects import Publish
from chappe.edge.mqtt.dial import Dial, Dialled
from chappe.edge.mqtt.terms import Failure


class Goodbye:
    """Order: send what was handed over before, then leave the broker cleanly and stay away."""


class Close:
    """Order: end; a goodbye under way is waited for, anything else is dropped."""


@dataclass(frozen=True)
class Answer:
    """The outcome of a dial, brought by its own thread."""

    dial: Dial
    outcome: Dialled | Failure


Order = list[Publish] | Goodbye | Close | Answer


class Mailbox:
    """Orders in the order they were put, and a file descriptor that becomes readable when there are some."""

    def __init__(self) -> None:
        self._orders: deque[Order] = deque()
        self._signalled = False
        self._reading = -1
        self._writing = -1

    def open(self) -> None:
        """Acquire the pipe."""
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)

    def close(self) -> None:
        """Let go of the pipe, and of connections that nobody took; only when no thread puts any more."""
        for order in self:
            if isinstance(order, Answer) and isinstance(order.outcome, Dialled):
                order.outcome.sock.close()
        os.close(self._reading)
        os.close(self._writing)

    def fileno(self) -> int:
        return self._reading

    def put(self, order: Order) -> None:
        """Put an order; never blocks, and wakes the reader once for all that is put before it looks."""
        self._orders.append(order)
        if not self._signalled:
            self._signalled = True
            with contextlib.suppress(BlockingIOError):
                os.write(self._writing, b"!")

    def hush(self) -> None:
        """Empty the pipe."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reading, 4096)

    def __iter__(self) -> Iterator[Order]:
        # The flag falls first: whoever puts an order after the last one was taken writes to the pipe again.
        self._signalled = False
        while self._orders:
            yield self._orders.popleft()
