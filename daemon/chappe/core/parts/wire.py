"""The link as the core sees it: connection, acknowledgements, last values, answers, and what goes out in which order."""

from __future__ import annotations

from collections.abc import Mapping

from chappe.core.context import Context
from chappe.core.effects import Disconnect, Drive, Finished, Publish, Reply
from chappe.core.envelope import to_json
from chappe.core.events import Acked, Arrived, Asked, LinkDown, LinkUp
from chappe.core.indicators import State
from chappe.core.requests import Requests
from chappe.core.units import SECOND, Ns

PATIENCE = SECOND
"""How long a clean stop waits for PUBACKs, and again for that of ``stopped``."""

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
    """Everything that is published, and the end of a clean stop.

    Args:
        context: the engine's.
        requests: answers what is asked.
    """

    def __init__(self, context: Context, requests: Requests) -> None:
        self.status = "connecting"
        self.protocol = ""
        self.reconnects = 0
        self.window = 0
        self._context = context
        self._requests = requests
        self._offline_since: Ns | None = context.now
        self._offline_ns = 0
        self._connected_before = False
        self._deadline: Ns | None = None
        self._goodbye = False
        self._show()

    # ── the link ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def up(self, event: LinkUp) -> None:
        """Connected: everything that is kept is announced anew, and the outbox may send."""
        self.reconnects += self._connected_before
        self._connected_before = True
        self._count_offline()
        self._offline_since = None
        self.status, self.protocol, self.window = "online", event.protocol, event.window
        self._show()
        self._context.outbox.link_up()
        self._context.last.announce()
        self._context.announce("link", status="online", protocol=event.protocol)

    def down(self, event: LinkDown) -> None:
        """Not connected: what was in flight waits again."""
        if self._offline_since is None:
            self._offline_since = self._context.now
        self.status = event.status
        self._show()
        self._context.outbox.link_down()
        self._context.answers.link_down()
        self._context.announce("link", status=event.status, reason=event.reason)

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
        for stream, reason in context.outbox.acked(event.items, context.now):
            context.fault(f"streams.{stream}", reason, "the broker refuses messages of this stream")
        context.last.acked(event.items)
        context.answers.acked(event.items)

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def asked(self, event: Asked) -> None:
        """Answer a request where the asker listens."""
        context = self._context
        payload = self._requests.handle(event)
        if event.via == "socket":
            context.emit(Reply(to=event.reply_to, payload=payload))
            return
        topic = event.reply_to if _publishable(event.reply_to) else context.topics.res(event.verb)
        context.answers.add(topic, payload, event.correlation, context.now)

    def arrived(self, event: Arrived) -> None:
        """Some other message. Our own retained ``state`` comes back: a will of an earlier connection must not stand."""
        context = self._context
        own = event.topic == context.topics.state
        if own and not context.stopping and event.body != context.last.get(event.topic) and self._is_ours(event.body):
            context.last.announce_topic(event.topic)

    def _is_ours(self, body: bytes) -> bool:
        return self._context.started.boot.encode() in body

    @property
    def refused(self) -> int:
        """Requests that were refused in this boot."""
        return self._requests.refused

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def pump(self) -> None:
        """Hand the socket what it has room for: last values, answers, then streams by priority."""
        context = self._context
        if self.status != "online" or self._goodbye or not self._anything():
            return
        room = self.window - context.last.flying - context.answers.flying - context.outbox.flying
        for take in (context.last.take, self._answers, self._rows):
            if room > 0:
                batch = take(room)
                context.effects.extend(batch)
                room -= len(batch)

    def _anything(self) -> bool:
        context = self._context
        return context.outbox.worth_a_look or context.last.waiting or context.answers.waiting

    def _answers(self, room: int) -> list[Publish]:
        return self._context.answers.take(self._context.now, room)

    def _rows(self, room: int) -> list[Publish]:
        return self._context.outbox.take(self._context.now, room)

    # ── stop ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def stop(self) -> None:
        """Begin a clean stop: what elision holds goes out, then PUBACKs are waited for."""
        self._context.outbox.flush(self._context.now)
        self._deadline = Ns(self._context.now + PATIENCE)

    def due(self) -> Ns | None:
        return self._deadline

    def progress(self) -> None:
        """Move a clean stop on: streams, then ``stopped``, then goodbye."""
        if self._deadline is None:
            return
        context = self._context
        late = context.now >= self._deadline
        quiet = context.outbox.empty and context.answers.empty
        if self.status != "online":
            self._finish()
        elif not self._goodbye_said() and (quiet or late):
            context.last.set(context.topics.state, self.state_payload("stopped"))
            self._deadline = Ns(context.now + PATIENCE)
        elif self._goodbye_said() and (context.last.empty or late):
            self._goodbye = True
            context.emit(Disconnect())
            self._finish()

    def _goodbye_said(self) -> bool:
        return b'"stopped"' in self._context.last.get(self._context.topics.state)

    def _finish(self) -> None:
        self._deadline = None
        self._context.announce("state", status="stopped", undelivered=self._context.outbox.abandon())
        if self._context.config.indicators.status is not None:
            self._context.emit(Drive(pin="status", level=0.0))  # safe to unplug
        self._context.emit(Finished(code=0))

    def state_payload(self, status: str) -> bytes:
        """The retained ``state``; a clean stop also says the last number of each stream, so that a gap behind it is seen."""
        state = {"status": status, "boot": self._context.started.boot}
        if status != "stopped":
            return to_json(state)
        last = {name: lane.seq for name, lane in self._context.outbox.lanes.items() if lane.seq}
        return to_json({**state, "last": last})


def _publishable(topic: str) -> bool:
    """Whether a response topic may be published to: not empty, no wildcards, and nobody's retained last value."""
    return bool(topic) and not set(topic) & set("+#\0")
