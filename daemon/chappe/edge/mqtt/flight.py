"""What is on its way to the broker: the window, the packets, and which packet identifier belongs to which token."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from chappe.core.effects import Publish
from chappe.core.events import Ack
from chappe.core.units import MILLISECOND, Ns
from chappe.edge.mqtt.packets import publish_packet

FULL = 256 * 1024
"""No more packets are made while this many bytes wait for the socket."""

FIRST, LAST = 0x1000, 0xFFFF
"""Our packet identifiers. paho numbers its few SUBSCRIBEs and UNSUBSCRIBEs from 1, and both kinds share one space (MQTT 5 section 2.2.1)."""

GATHER = MILLISECOND
"""How long PUBACKs may wait for more of them while the broker has enough to do: each hand-over to the core costs two changes of thread."""

TOPIC_NAME_INVALID = 0x90
PACKET_TOO_LARGE = 0x95


class Flight:
    """The messages of one connection, from hand-over to PUBACK.

    The core keeps to its credit; that never more than `window` messages with QoS 1 are unacknowledged is still seen to here, since a
    broker ends the connection over one too many (MQTT 5 section 4.9).

    Args:
        properties: whether packets have a property block (MQTT 5).

    Attributes:
        window: most unacknowledged messages with QoS 1.
        max_packet: greatest packet the broker takes, 0 where it named none.
        gathered_by: when judgements that wait for more have to be collected; None where none waits.
    """

    def __init__(self, window: int = 0, *, max_packet: int = 0, properties: bool = True) -> None:
        self.window = window
        self.max_packet = max_packet
        self._properties = properties
        self._waiting: deque[Publish] = deque()
        self._flying: OrderedDict[int, int] = OrderedDict()
        self._acks: list[Ack] = []
        self._mid = LAST
        self._oldest_since: Ns = Ns(0)
        self.gathered_by: Ns | None = None

    @property
    def oldest_since(self) -> Ns | None:
        """Since when the oldest unacknowledged message is the oldest, None where there is none.

        A broker acknowledges in order (MQTT 5 section 4.6), so each PUBACK of the oldest is progress, and a PUBACK of any other is not.
        """
        return self._oldest_since if self._flying else None

    def offer(self, batch: Iterable[Publish]) -> None:
        """These are to be sent, in this order."""
        self._waiting.extend(batch)

    def launch(self, out: bytearray, now: Ns) -> None:
        """Add the packets of all messages that may be sent now to `out`."""
        waiting, flying = self._waiting, self._flying
        while waiting and len(out) < FULL:
            message = waiting[0]
            if message.qos and len(flying) >= self.window:
                return
            waiting.popleft()
            mid = self._identifier() if message.qos else 0
            packet = publish_packet(message, mid, properties=self._properties)
            if not packet:
                self._judge(message, TOPIC_NAME_INVALID)
            elif 0 < self.max_packet < len(packet):
                self._judge(message, PACKET_TOO_LARGE)
            else:
                out += packet
                self._departed(message, mid, now)

    def _departed(self, message: Publish, mid: int, now: Ns) -> None:
        if not mid:
            self._judge(message, 0)
            return
        if not self._flying:
            self._oldest_since = now
        self._flying[mid] = message.token

    def _identifier(self) -> int:
        """The next packet identifier that is free: one may be held up while the others go round."""
        mid = self._mid
        while True:
            mid = mid + 1 if mid < LAST else FIRST
            if mid not in self._flying:
                self._mid = mid
                return mid

    def _judge(self, message: Publish, code: int) -> None:
        self._acks.append(Ack(message.token, code))

    def landed(self, acks: Iterable[tuple[int, int]], now: Ns) -> None:
        """These PUBACKs came, each a packet identifier and a reason code."""
        flying, judged = self._flying, self._acks
        oldest = next(iter(flying), None)
        for mid, code in acks:
            token = flying.pop(mid, None)
            if token is not None:
                judged.append(Ack(token, code))
        if oldest not in flying:
            self._oldest_since = now

    def collect(self, now: Ns, *, whole: bool = False) -> tuple[Ack, ...]:
        """The judgements since the last call, or none yet while few have come and the broker has half a window and more to work on.

        Args:
            now: when.
            whole: whether to wait for no more of them.
        """
        if not self._acks:
            return ()
        if self.gathered_by is None:
            self.gathered_by = Ns(now + GATHER)
        few = len(self._acks) < self.window // 4 and len(self._flying) > self.window // 2
        if few and not whole and now < self.gathered_by:
            return ()
        self.gathered_by = None
        acks, self._acks = tuple(self._acks), []
        return acks
