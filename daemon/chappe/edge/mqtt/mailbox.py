"""The way into the mqtt thread: orders from any thread, and a pipe that wakes it while it waits."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from chappe.core.effects import Acknowledge, Listen, Publish, Reconnect, Unlisten
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


Order = list[Publish] | Listen | Unlisten | Acknowledge | Reconnect | Goodbye | Close | Answer


class Mailbox:
    """Orders in the order they were put, and a file descriptor that becomes readable when its reader should wake.

    The reader says when it lies down to wait, and only then is it worth a system call to wake it: while it is at work it looks by itself
    before it waits again.
    """

    def __init__(self) -> None:
        self._orders: deque[Order] = deque()
        self._asleep = False
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
        """Put an order; never blocks."""
        self._orders.append(order)
        if self._asleep:
            self._asleep = False
            with contextlib.suppress(BlockingIOError):
                os.write(self._writing, b"!")

    def lie_down(self) -> bool:
        """To be called by the reader before it waits: whether it may, as there are no orders."""
        # In this order: an order that is put after the second line finds the reader asleep.
        self._asleep = True
        return not self._orders

    def hush(self) -> None:
        """The reader is up; empty the pipe."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reading, 4096)

    def __iter__(self) -> Iterator[Order]:
        self._asleep = False
        while self._orders:
            yield self._orders.popleft()
