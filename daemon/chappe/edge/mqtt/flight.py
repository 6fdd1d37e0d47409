"""What is on its way to the broker: the window, and which packet identifier belongs to which token."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from chappe.core.effects import Publish
from chappe.core.events import Ack
from chappe.core.units import Ns


class Flight:
    """The messages of one connection, from hand-over to PUBACK.

    The core keeps to its credit; that never more than `window` messages with QoS 1 are unacknowledged is still seen to here, since a
    broker ends the connection over one too many (MQTT 5 section 4.9).

    Attributes:
        window: most unacknowledged messages with QoS 1.
    """

    def __init__(self, window: int = 0) -> None:
        self.window = window
        self._waiting: deque[Publish] = deque()
        self._flying: OrderedDict[int, int] = OrderedDict()
        self._unsent: dict[int, int] = {}
        self._acks: list[Ack] = []
        self._oldest_since: Ns = Ns(0)

    @property
    def oldest_since(self) -> Ns | None:
        """Since when the oldest unacknowledged message is the oldest, None where there is none.

        A broker acknowledges in order (MQTT 5 section 4.6), so each PUBACK of the oldest is progress, and a PUBACK of any other is not.
        """
        return self._oldest_since if self._flying else None

    def offer(self, batch: Iterable[Publish]) -> None:
        """These are to be sent, in this order."""
        self._waiting.extend(batch)

    def take(self) -> Publish | None:
        """The next message that may be sent now."""
        if not self._waiting or (self._waiting[0].qos and len(self._flying) >= self.window):
            return None
        return self._waiting.popleft()

    def departed(self, mid: int, whole: bool, message: Publish, now: Ns) -> None:
        """The message left under the packet identifier `mid`.

        Args:
            mid: packet identifier.
            whole: QoS 0 only: nothing of it waits for a socket that is full, so that it is done with.
            message: the message.
            now: when.
        """
        if message.qos:
            if not self._flying:
                self._oldest_since = now
            self._flying[mid] = message.token
        elif whole:
            self.judged(message.token)
        else:
            self._unsent[mid] = message.token

    def arrived(self, mid: int, code: int, now: Ns) -> None:
        """The PUBACK for `mid` came with `code`, or the socket took a message with QoS 0."""
        if mid in self._flying:
            if mid == next(iter(self._flying)):
                self._oldest_since = now
            self.judged(self._flying.pop(mid), code)
        elif mid in self._unsent:
            self.judged(self._unsent.pop(mid), code)

    def judged(self, token: int, code: int = 0) -> None:
        """The message with `token` is done with."""
        self._acks.append(Ack(token, code))

    def collect(self) -> tuple[Ack, ...]:
        """All judgements since the last call."""
        acks = tuple(self._acks)
        self._acks.clear()
        return acks
