"""One connection: its phases and deadlines, its window, and the way from PUBACKs back to tokens.

It never holds more than one window, it never reconnects, and it dies with the connection: what is unacknowledged then is the core's to
offer again (paho would resend it even to a broker that kept no session, with DUP set).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from chappe.core.effects import Acknowledge, Listen, Publish, Unlisten
from chappe.core.events import Acked, Event, LinkUp
from chappe.core.units import SECOND, Ns, as_seconds
from chappe.edge.mqtt import verdicts
from chappe.edge.mqtt.codec import Codec
from chappe.edge.mqtt.dial import rejects_certificate
from chappe.edge.mqtt.flight import Flight
from chappe.edge.mqtt.handshake import Handshake
from chappe.edge.mqtt.incoming import to_events
from chappe.edge.mqtt.packets import PINGREQ
from chappe.edge.mqtt.pulse import Pulse
from chappe.edge.mqtt.receipts import Receipts
from chappe.edge.mqtt.terms import Credentials, Failure, Identity, Version
from chappe.edge.mqtt.wire import Wire

if TYPE_CHECKING:
    from chappe.core.settings import Mqtt

GOODBYE_WITHIN = SECOND


class Session:
    """One connection to the broker, from CONNECT to its end; owned by the mqtt thread.

    A pass is `read` (if there is something), `publish` and `obey` (if there is something), `tick`, `drain`; then `end` says whether it is
    over. Whatever is unacknowledged then is forgotten here, as the core offers it again after the next `LinkUp`.

    Args:
        wire: connected and empty.
        version: version of MQTT to speak.
        settings: keepalive, window, stall and session expiry.
        identity: client id, subscriptions, will.
        patience: how long the broker may take for the CONNACK.
        receipts: draws the numbers of requests that wait for their `Acknowledge`.
        certificates: when which certificate ends, for `LinkUp`.

    Attributes:
        end: why it ended, once it has.
    """

    def __init__(
        self,
        wire: Wire,
        version: Version,
        *,
        settings: Mqtt,
        identity: Identity,
        patience: Ns,
        receipts: Iterator[int],
        certificates: Mapping[str, int],
    ) -> None:
        self.wire = wire
        self.version: Version = version
        self.end: Failure | None = None
        self._settings = settings
        self._identity = identity
        self._codec = Codec(wire, version, identity.client_id)
        self._handshake = Handshake(
            self._codec, version, settings=settings, identity=identity, patience=patience, certificates=certificates
        )
        self._flight = Flight(properties=version == "5")
        self._receipts = Receipts(receipts)
        self._pulse = Pulse(Ns(0), Ns(0))
        self._leaving_until: Ns | None = None
        self._up: LinkUp | None = None

    @property
    def phase(self) -> Literal["connecting", "subscribing", "ready", "leaving"]:
        """``connecting`` until the CONNACK, ``subscribing`` until the SUBACK, ``ready``, ``leaving``."""
        return self._handshake.phase if self._leaving_until is None else "leaving"

    # ── its life ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def open(self, credentials: Credentials, now: Ns) -> None:
        """Send the CONNECT."""
        self._handshake.open(credentials, now)
        self.wire.flush()

    def leave(self, now: Ns) -> None:
        """Say DISCONNECT once all handed over is written, so that no will is published; then wait for the broker to hang up."""
        if self._leaving_until is None:
            self._leaving_until = Ns(now + GOODBYE_WITHIN)
            self._write(now)

    # ── a pass ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def next_due(self) -> Ns | None:
        """When there is something to do, should nothing come in before."""
        return _earliest(self._deadline, self._flight.gathered_by)

    @property
    def _deadline(self) -> Ns | None:
        if self._leaving_until is not None:
            return self._leaving_until
        if self._handshake.phase != "ready":
            return self._handshake.deadline
        since = self._flight.oldest_since
        return _earliest(self._pulse.due, None if since is None else Ns(since + self._settings.ack_stall))

    def read(self, now: Ns) -> None:
        """The socket has something to say."""
        if self.wire.fill():
            self._pulse.heard(now)
        self._take_in(now)

    def _take_in(self, now: Ns) -> None:
        if self._codec.connack is None and self.wire.head:
            self._fail(verdicts.stranger(self.wire.head))
        while not self.wire.closed and self.end is None:
            acks = self.wire.pubacks()
            if acks:
                self._flight.landed(acks, now)
            if not self.wire.unread:
                break
            self._codec.read()
        if self._handshake.phase != "ready" and self._leaving_until is None:
            self._shake_hands(now)

    def _shake_hands(self, now: Ns) -> None:
        match self._handshake.advance(now):
            case LinkUp() as up:
                self._up = up
                self._flight.window, self._flight.max_packet = up.window, up.max_packet
                self._pulse = Pulse(self._handshake.keepalive, now)
            case failure:
                self._fail(failure)

    def publish(self, batch: Iterable[Publish], now: Ns) -> None:
        """Send these, as far as the window allows; the rest as PUBACKs come in."""
        self._flight.offer(batch)
        self._send(now)

    def obey(self, effect: Listen | Unlisten | Acknowledge) -> None:
        """Do this on the running connection; what was meant for one that has gone is passed over."""
        if isinstance(effect, Acknowledge):
            self._receipts.settle(effect.receipts)
        elif self.phase == "ready" and isinstance(effect, Listen):
            self._codec.listen(effect.filter)
        elif self.phase == "ready":
            self._codec.unlisten(effect.filter)

    def tick(self, now: Ns) -> None:
        """Look at the deadlines (handshake, PUBACKs, pings, goodbye) and whether the connection is still there."""
        if self.wire.unread:
            self._take_in(now)
        due = self._deadline
        if due is not None and now >= due:
            self._fail(self._overdue(now))
        if self.wire.ended or (self.wire.closed and self._leaving_until is None):
            self._fail(self._verdict())

    def drain(self, now: Ns) -> list[Event]:
        """Write all that may be written; what happened since the last call, as events stamped `now`, PUBACKs in one."""
        events: list[Event] = []
        codec = self._codec
        if self._up is not None:
            events.append(self._up)
            self._up = None
        if codec.messages:
            events += to_events(codec.messages, self._identity.request_prefix, self._receipts, now)
            codec.messages.clear()
        codec.acknowledge(self._receipts.due())
        self._write(now)
        acks = self._flight.collect(now, whole=self.end is not None or self._leaving_until is not None)
        if acks:
            events.append(Acked(at=now, items=acks))
        return events

    def refusals(self) -> tuple[str, ...]:
        """Filters that the broker would not grant, since the last call."""
        refused = tuple(self._codec.refused)
        self._codec.refused.clear()
        return refused

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _write(self, now: Ns) -> None:
        self._send(now)
        while self.wire.unsent and self.wire.flush():
            self._pulse.spoke(now)
            self._send(now)
        if self._leaving_until is not None and not self.wire.unsent and not self.wire.closed:
            self._codec.disconnect()
            self.wire.flush()
            self.wire.finish()

    def _send(self, now: Ns) -> None:
        if self._handshake.phase == "ready" and not self.wire.closed:
            self._flight.launch(self.wire.out, now)

    # ── its end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _fail(self, failure: Failure | None) -> None:
        self.end = self.end or failure

    def _overdue(self, now: Ns) -> Failure | None:
        if self.phase != "ready":
            return verdicts.OVERDUE[self.phase]
        since = self._flight.oldest_since
        if since is not None and now >= since + self._settings.ack_stall:
            return Failure("lost", f"no PUBACK for {as_seconds(self._settings.ack_stall):g} s")
        if not self._pulse.ping(now):
            return Failure("lost", "the broker does not answer pings")
        self.wire.send(PINGREQ)
        return None

    def _verdict(self) -> Failure:
        codec, wire = self._codec, self.wire
        words = verdicts.last_words(codec.farewell, wire.error)
        match self.phase:
            case "leaving":
                return verdicts.OVERDUE["leaving"]
            case "ready":
                return verdicts.lost(words, wire.error, ended=wire.ended, dismissed=codec.dismissed)
            case "subscribing":
                return Failure("refused", f"the connection ended before the SUBACK: {words}")
        if rejects_certificate(wire.error):
            return Failure("auth_failed", f"the broker refuses our certificate: {words}")
        return verdicts.unanswered(wire.head, self.version, words)


def _earliest(*moments: Ns | None) -> Ns | None:
    """The first of the moments that there are."""
    return min((moment for moment in moments if moment is not None), default=None)
