"""One connection: its phases and deadlines, its window, and the way from PUBACKs back to tokens.

paho never holds more than one window, it never reconnects, and its client dies with the connection: what it would resend is the core's
to offer again (paho would resend even to a broker that kept no session, with DUP set).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from chappe.core.effects import Publish
from chappe.core.events import Acked, Event, LinkUp
from chappe.core.units import SECOND, Ns, as_seconds
from chappe.edge.mqtt import verdicts
from chappe.edge.mqtt.codec import Codec, Connack
from chappe.edge.mqtt.dial import rejects_certificate
from chappe.edge.mqtt.flight import Flight
from chappe.edge.mqtt.incoming import to_event
from chappe.edge.mqtt.terms import Credentials, Failure, Identity, Version, publish_properties, publish_size
from chappe.edge.mqtt.wire import Wire

if TYPE_CHECKING:
    from chappe.core.settings import Mqtt

GOODBYE_WITHIN = SECOND

FAILURE = 0x80
TOPIC_NAME_INVALID = 0x90
PACKET_TOO_LARGE = 0x95


class Session:
    """One connection to the broker, from CONNECT to its end; owned by the mqtt thread.

    A pass is `read` (if there is something), `publish` (if there is something), `tick`, `drain`; then `end` says whether it is over.
    Whatever is unacknowledged then is forgotten here, as the core offers it again after the next `LinkUp`.

    Args:
        wire: connected and empty.
        version: version of MQTT to speak.
        settings: keepalive, window, stall and session expiry.
        identity: client id, subscriptions, will.
        patience: how long the broker may take for the CONNACK.

    Attributes:
        phase: ``connecting`` until the CONNACK, ``subscribing`` until the SUBACK, ``ready``, ``leaving``.
        refused: filters that the broker would not grant.
        end: why it ended, once it has.
    """

    def __init__(self, wire: Wire, version: Version, *, settings: Mqtt, identity: Identity, patience: Ns) -> None:
        self.wire = wire
        self.version: Version = version
        self.phase: Literal["connecting", "subscribing", "ready", "leaving"] = "connecting"
        self.refused: tuple[str, ...] = ()
        self.end: Failure | None = None
        self._settings = settings
        self._identity = identity
        self._patience = patience
        self._deadline: Ns = Ns(0)
        self._max_packet = 0
        self._flight = Flight()
        self._codec = Codec(wire, version, identity.client_id)
        self._up: LinkUp | None = None

    # ── its life ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def open(self, credentials: Credentials, now: Ns) -> None:
        """Send the CONNECT."""
        self._deadline = Ns(now + self._patience)
        self._codec.open(self._settings, self._identity, credentials)
        self.wire.flush()

    def _connected(self, connack: Connack, now: Ns) -> None:
        if connack.code >= FAILURE:
            self._fail(verdicts.refusal(connack.code, connack.name))
            return
        self.phase = "subscribing"
        self._deadline = Ns(now + self._settings.connect_timeout)
        self._flight.window = min(self._settings.window, connack.receive_maximum)
        self._max_packet = connack.max_packet
        if self._identity.subscriptions:
            self._codec.subscribe(self._identity)
        else:
            self._codec.suback = ()

    def _subscribed(self, codes: Sequence[int], now: Ns) -> None:
        self.phase = "ready"
        answers = zip(self._identity.subscriptions, codes, strict=False)
        self.refused = tuple(wanted.filter for wanted, code in answers if code >= FAILURE)
        self._up = LinkUp(at=now, protocol=self.version, window=self._flight.window, max_packet=self._max_packet)

    def leave(self, now: Ns) -> None:
        """Say DISCONNECT once all handed over is written, so that no will is published; then wait for the broker to hang up."""
        self.phase = "leaving"
        self._deadline = Ns(now + GOODBYE_WITHIN)
        self._write()

    # ── a pass ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def wants_write(self) -> bool:
        """Whether there is more to write than the socket took."""
        return self.wire.unsent or self._codec.wants_write

    @property
    def next_due(self) -> Ns | None:
        """When `tick` has a deadline to look at; keepalive wants it once a second besides."""
        if self.phase != "ready":
            return self._deadline
        since = self._flight.oldest_since
        return None if since is None else Ns(since + self._settings.ack_stall)

    def read(self, now: Ns) -> None:
        """The socket has something to say."""
        self.wire.fill()
        self._take_in(now)

    def _take_in(self, now: Ns) -> None:
        if self._codec.connack is None and self.wire.head:
            self._fail(verdicts.stranger(self.wire.head))
        while self.wire.unread and not self.wire.closed and self.end is None:
            self._codec.read()
        if self.phase == "connecting" and self._codec.connack is not None:
            self._connected(self._codec.connack, now)
        if self.phase == "subscribing" and self._codec.suback is not None:
            self._subscribed(self._codec.suback, now)

    def publish(self, batch: Sequence[Publish], now: Ns) -> None:
        """Send these, as far as the window allows; the rest as PUBACKs come in."""
        self._flight.offer(batch)
        self._send(now)

    def tick(self, now: Ns) -> None:
        """Look at the deadlines (handshake, keepalive, PUBACKs, goodbye) and whether the connection is still there."""
        if self.wire.unread:
            self._take_in(now)
        due = self.next_due
        if due is not None and now >= due:
            self._fail(self._overdue())
        if self.phase == "ready" and self.end is None:
            self._codec.keep_alive()
        if self.wire.ended or (self.wire.closed and self.phase != "leaving"):
            self._fail(self._verdict())

    def drain(self, now: Ns) -> list[Event]:
        """Write all that may be written; what happened since the last call, as events stamped `now`, PUBACKs in one."""
        events: list[Event] = []
        codec = self._codec
        if self._up is not None:
            events.append(self._up)
            self._up = None
        for mid, code in codec.published:
            self._flight.arrived(mid, code, now)
        codec.published.clear()
        self._send(now)
        self._write()
        acks = self._flight.collect()
        if acks:
            events.append(Acked(at=now, items=acks))
        arrivals = (to_event(message, self._identity.request_prefix, now) for message in codec.messages)
        events.extend(event for event in arrivals if event is not None)
        codec.messages.clear()
        return events

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _write(self) -> None:
        self._codec.write()
        self.wire.flush()
        if self.phase == "leaving" and not self.wants_write and not self.wire.closed:
            self._codec.disconnect()
            self.wire.flush()
            self.wire.finish()

    def _send(self, now: Ns) -> None:
        if self.phase != "ready":
            return
        while (message := self._flight.take()) is not None:
            self._hand_over(message, now)

    def _hand_over(self, message: Publish, now: Ns) -> None:
        topic = message.topic.encode()
        # The topic of an answer is its asker's choice: one that cannot be published to is refused as a broker would refuse it.
        if not topic or b"+" in topic or b"#" in topic or len(topic) > 0xFFFF:
            self._flight.judged(message.token, TOPIC_NAME_INVALID)
            return
        properties = publish_properties(message.expiry_s, message.correlation) if self.version == "5" else b""
        if 0 < self._max_packet < publish_size(topic, message.payload, message.qos, properties):
            self._flight.judged(message.token, PACKET_TOO_LARGE)
            return
        handed = self._codec.publish(message, properties)
        if handed is not None:
            self._flight.departed(*handed, message, now)

    # ── its end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _fail(self, failure: Failure | None) -> None:
        self.end = self.end or failure

    def _overdue(self) -> Failure:
        match self.phase:
            case "leaving":
                return Failure("off", "disconnected")
            case "ready":
                return Failure("lost", f"no PUBACK for {as_seconds(self._settings.ack_stall):g} s")
            case "subscribing":
                return Failure("refused", "the broker did not answer the SUBSCRIBE in time")
            case "connecting":
                return Failure("refused", "the broker did not answer the CONNECT in time", "silent")

    def _verdict(self) -> Failure:
        match self.phase:
            case "leaving":
                return Failure("off", "disconnected")
            case "ready":
                return Failure("lost", self._last_words())
            case "subscribing":
                return Failure("refused", f"the connection ended before the SUBACK: {self._last_words()}")
        if rejects_certificate(self.wire.error):
            return Failure("auth_failed", f"the broker refuses our certificate: {self._last_words()}")
        return verdicts.unanswered(self.wire.head, self.version, self._last_words())

    def _last_words(self) -> str:
        if self._codec.farewell:
            return self._codec.farewell
        if self.wire.error is not None:
            return self.wire.error.strerror or str(self.wire.error)
        return "the broker closed the connection" if self.wire.ended else "the broker does not answer pings"
