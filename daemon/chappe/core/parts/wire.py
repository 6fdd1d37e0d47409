"""The link as the core sees it: connection, acknowledgements, last values, answers, and what goes out in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from chappe.core.context import Context
from chappe.core.effects import Acknowledge, Effect, Reconnect, Reply
from chappe.core.events import Acked, Arrived, Asked, LinkDown, LinkUp
from chappe.core.indicators import State
from chappe.core.requests import Requests
from chappe.core.returns import Refusal
from chappe.core.units import SECOND, Ns

DUPLICATE_PAUSE = 60 * SECOND
"""How long a device stays away when another one goes by its name: at once, they would throw each other off for ever."""

TAKEN_OVER = "taken over"
"""Out of the name of reason code 0x8E (MQTT 5.0 section 3.14.2.1): another client has connected under our client id."""

# What the status lamp shows for each status of the link.
LAMPS: Mapping[str, State] = {
    "online": State.HEALTHY,
    "no_network": State.NO_NETWORK,
    "captive_portal_suspected": State.NO_NETWORK,
    "auth_failed": State.BROKER_REFUSES,
    "tls_untrusted": State.BROKER_REFUSES,
    "refused": State.BROKER_UNREACHABLE,
    "connecting": State.BROKER_UNREACHABLE,
    "lost": State.BROKER_UNREACHABLE,
}


class Wire:
    """Everything that is published and everything that comes in.

    Args:
        context: the engine's.
        requests: answers what is asked.
    """

    def __init__(self, context: Context, requests: Requests) -> None:
        self.status = "connecting"
        self.protocol = ""
        self.reconnects = 0
        self.window = 0
        self.certificates: dict[str, int] = {}
        self.on_receipt: Callable[[str, bytes], None] = _nobody
        self._duplicate_until: Ns | None = None
        self._cut_at: Ns | None = None
        self._earlier = [boot.boot for boot in context.started.backlog.boots]
        self._context = context
        self._requests = requests
        self._offline_since: Ns | None = context.now
        self._offline_ns = 0
        self._connected_before = False
        self.silent = False
        self._show()

    # ── the link ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def up(self, event: LinkUp) -> None:
        """Connected: everything that is kept is announced anew, and the outbox may send."""
        self.reconnects += self._connected_before
        self._connected_before = True
        self._count_offline()
        self._offline_since = None
        self.status, self.protocol, self.window = "online", event.protocol, event.window
        self.certificates = event.certificates
        self._show()
        self._context.outbox.link_up(self._context.now)
        if self._duplicate_until is not None and self._context.now >= self._duplicate_until:
            self._context.heal("mqtt", "duplicate_id")
            self._duplicate_until = None
        self._context.last.announce()
        self._context.announce("link", status="online", protocol=event.protocol)

    def down(self, event: LinkDown) -> None:
        """Not connected: what was in flight waits again."""
        if self._offline_since is None:
            self._offline_since = self._context.now
        self.status = event.status
        self._show()
        if event.cut:
            self._cut_at = self._context.now
        self._context.outbox.link_down(self._context.now, cut=event.cut)
        self._context.answers.link_down()
        self._context.announce("link", status=event.status, reason=event.reason)
        if TAKEN_OVER in event.reason.lower() and not self._context.stopping:
            self._duplicate()

    def _show(self) -> None:
        shown = LAMPS.get(self.status)
        for state in set(LAMPS.values()) - {State.BROKER_REFUSES}:
            self._context.lamp.set(state, state is shown, self._context.now)
        refused = shown is State.BROKER_REFUSES or self._context.faults.any_of("streams.")
        self._context.lamp.set(State.BROKER_REFUSES, refused, self._context.now)

    def _count_offline(self) -> None:
        if self._offline_since is not None:
            self._offline_ns += self._context.now - self._offline_since
            self._offline_since = self._context.now

    def offline_s(self) -> float:
        """Seconds without a link in this boot."""
        self._count_offline()
        return round(self._offline_ns / SECOND, 3)

    def acked(self, event: Acked) -> None:
        """Book what the broker has acknowledged."""
        context = self._context
        self._refused(context.outbox.returns.acked(event.items, context.now))
        context.last.acked(event.items)
        context.answers.acked(event.items)

    def _refused(self, refusals: Iterable[Refusal]) -> None:
        for refusal in refusals:
            part = f"streams.{refusal.stream}"
            if refusal.healed:
                self._context.heal_all(part)
            else:
                self._context.fault(part, refusal.code, "the broker refuses messages of this stream")

    def expire(self) -> None:
        """Let time act on what waits for the broker."""
        self._refused(self._context.outbox.expire(self._context.now))
        for asked, payload in self._requests.expire(self._context.now):
            self.answer(asked, payload)

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def asked(self, event: Asked) -> None:
        """Take in a request: answered at once, or when its answer is known."""
        payload = self._requests.handle(event)
        if event.receipt:
            self._context.emit(Acknowledge(receipts=(event.receipt,)))
        if payload is not None:
            self.answer(event, payload)

    def answer(self, asked: Asked, payload: bytes) -> None:
        """Tell whoever asked, where they listen."""
        context = self._context
        if asked.via == "socket":
            context.emit(Reply(to=asked.reply_to, payload=payload))
            return
        topic = asked.reply_to if _publishable(asked.reply_to) else context.topics.res(asked.verb)
        context.answers.add(topic, payload, asked.correlation, context.now)

    def fulfil(self, ticket: int, outcome: Any) -> None:
        """What a request waits for has come."""
        found = self._requests.fulfil(ticket, outcome)
        if found is not None:
            self.answer(*found)

    def arrived(self, event: Arrived) -> None:
        """Some other message: our own state, a receipt, or a message of our own that comes back."""
        incoming = self._context.topics.incoming(event.topic)
        if incoming is None:
            self._context.outbox.returns.echoed(event.topic, event.body, self._context.now)
        elif incoming.kind == "state":
            self._own_state(event)
        elif incoming.kind == "receipt":
            self.on_receipt(incoming.name, event.body)

    def _own_state(self, event: Arrived) -> None:
        """A will of an earlier connection must not stand; and of another device under our name the owner must hear."""
        context = self._context
        if context.stopping or event.body == context.last.get(event.topic):
            return
        if context.started.boot.encode() in event.body:
            context.last.announce_topic(event.topic)
        elif self._is_another(event):
            self._duplicate()

    def _is_another(self, event: Arrived) -> bool:
        """Whether a state that is not ours is another device's: it says online now, or speaks up after we were thrown off.

        Brokers let the newer of two clients of one name in, and publish the will of the other; an earlier boot of this very device is known.
        """
        if b'"boot"' not in event.body or any(boot.encode() in event.body for boot in self._earlier):
            return False
        thrown_off = self._cut_at is not None and self._context.now - self._cut_at < DUPLICATE_PAUSE
        return thrown_off or (not event.retained and b'"online"' in event.body)

    def _duplicate(self) -> None:
        self._context.fault(
            "mqtt", "duplicate_id", f"another device calls itself {self._context.config.device.id!r}; waiting 60 s"
        )
        self._context.emit(Reconnect(after=Ns(DUPLICATE_PAUSE)))
        self._duplicate_until = Ns(self._context.now + DUPLICATE_PAUSE)

    @property
    def refused(self) -> int:
        """Requests that were refused in this boot."""
        return self._requests.refused

    def due(self) -> Ns | None:
        return self._requests.due()

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def pump(self) -> None:
        """Hand the socket what it has room for: last values, answers, then streams by priority."""
        context = self._context
        last, answers, outbox = context.last, context.answers, context.outbox
        look = outbox.stock.worth_a_look
        if not (look or last.waiting or answers.waiting) or self.status != "online" or self.silent:
            return
        if not (outbox.stock.keeper.known or outbox.stock.keeper.failing):
            # Whoever hears of this boot after a kill has to know it for one of our own.
            return
        room = self.window - last.flying - answers.flying - len(outbox.stock.tokens)
        if room <= 0:
            return
        if last.waiting and room > 0:
            room -= self._send(last.take(room))
        if answers.waiting and room > 0:
            room -= self._send(answers.take(context.now, room))
        if look and room > 0:
            self._send(outbox.take(context.now, room))

    def _send(self, batch: Sequence[Effect]) -> int:
        self._context.effects += batch
        return len(batch)


def _nobody(stream: str, body: bytes) -> None:
    del stream, body


def _publishable(topic: str) -> bool:
    """Whether a response topic may be published to: not empty, no wildcards, and nobody's retained last value."""
    return bool(topic) and not set(topic) & set("+#\0")
