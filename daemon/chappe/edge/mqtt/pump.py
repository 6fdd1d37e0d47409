"""The thread ``mqtt``: a selector over the mailbox and the broker's socket, and when to connect again."""

from __future__ import annotations

import selectors
import threading
from itertools import count
from typing import TYPE_CHECKING

from chappe.core.effects import Reconnect
from chappe.core.events import LinkUp
from chappe.core.units import SECOND, Ns, as_seconds
from chappe.edge.host import Clock
from chappe.edge.mqtt.caller import Caller
from chappe.edge.mqtt.dial import Dialled
from chappe.edge.mqtt.herald import Herald
from chappe.edge.mqtt.mailbox import Answer, Close, Goodbye, Mailbox, Order
from chappe.edge.mqtt.session import Session
from chappe.edge.mqtt.terms import Counters, Failure, Identity
from chappe.edge.mqtt.wire import Wire

if TYPE_CHECKING:
    from chappe.core.settings import Mqtt

LONGEST_WAIT: Ns = Ns(SECOND)
"""The beat is renewed at least this often."""

_MAIL = "mail"
_SOCKET = "socket"


class Pump:
    """What the mqtt thread does; only that thread calls `step`.

    Args:
        settings: the section ``[mqtt]``.
        identity: client id, subscriptions, will.
        clock: where now comes from.
        mailbox: where any thread puts orders.
        caller: makes the connections.
        herald: tells the core.
        counters: written here.

    Attributes:
        gone: set when a `Close` has been obeyed.
    """

    def __init__(
        self,
        settings: Mqtt,
        identity: Identity,
        *,
        clock: Clock,
        mailbox: Mailbox,
        caller: Caller,
        herald: Herald,
        counters: Counters,
    ) -> None:
        self.mailbox = mailbox
        self.caller = caller
        self.gone = threading.Event()
        self._settings = settings
        self._identity = identity
        self._clock = clock
        self._herald = herald
        self._counters = counters
        self._receipts = count(1)
        self._session: Session | None = None
        self._wanted = True
        self._closing = False

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def open(self) -> None:
        """Acquire the wake pipe and the selector."""
        self.mailbox.open()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.mailbox, selectors.EVENT_READ, _MAIL)

    def release(self, timeout_s: float) -> None:
        """Let go of everything; only when the thread has ended."""
        self._drop()
        self.caller.join(timeout_s)
        self._selector.close()
        self.mailbox.close()

    def reset(self) -> None:
        """After a bug in this thread: drop the connection and start again."""
        self._drop()
        self._ended(Failure("lost", "an internal error ended the connection"), self._clock.now())

    def _drop(self) -> None:
        self.caller.cancel()
        session, self._session = self._session, None
        if session is not None:
            self._selector.unregister(session.wire)
            session.wire.release()

    # ── a pass ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def step(self, now: Ns) -> Ns | None:
        """Wait for the next thing to happen and deal with it; returns when to come again, None when it is over."""
        if self._herald.status == "off" and self._wanted:
            self._herald.say("connecting", "", now)
        patience = self._patience(now) if self.mailbox.lie_down() else Ns(0)
        ready = {key.data for key, _ in self._selector.select(as_seconds(patience))}
        now = self._clock.now()
        if _MAIL in ready:
            self.mailbox.hush()
        for order in self.mailbox:
            self._obey(order, now)
        if self._session is not None:
            self._serve(self._session, _SOCKET in ready, now)
        if self._closing and self._session is None:
            self.gone.set()
            return None
        if self._wanted and self._session is None and not self.caller.busy and now >= self.caller.retry_at:
            self.caller.call()
        return now

    def _patience(self, now: Ns) -> Ns:
        due: Ns | None = None
        if self._session is not None:
            due = self._session.next_due
        elif self._wanted and not self.caller.busy:
            due = self.caller.retry_at
        return LONGEST_WAIT if due is None else max(Ns(0), min(LONGEST_WAIT, Ns(due - now)))

    def _obey(self, order: Order, now: Ns) -> None:
        session = self._session
        match order:
            case list():
                if session is not None:
                    session.publish(order, now)
            case Answer():
                self._answered(order, now)
            case Reconnect():
                self._begin_again(order.after, now)
            case Goodbye():
                self._leave(now)
            case Close():
                self._wanted = False
                self._closing = True
                if session is None or session.phase != "leaving":
                    self._drop()
            case _:
                if session is not None:
                    session.obey(order)

    def _leave(self, now: Ns) -> None:
        self._wanted = False
        # Even before the CONNACK: a CONNECT that was sent has named a will.
        if self._session is not None:
            self._session.leave(now)
        else:
            self._drop()
            self._herald.say("off", "disconnected", now)

    def _begin_again(self, after: Ns, now: Ns) -> None:
        if self._wanted:
            self.caller.pause(after, now)
            if self._session is not None:
                self._session.leave(now)
            else:
                self.caller.cancel()

    def _answered(self, answer: Answer, now: Ns) -> None:
        if not self.caller.takes(answer.dial, answer.outcome):
            return
        if isinstance(answer.outcome, Dialled):
            self._begin(answer.outcome, now)
        else:
            self.caller.fall_back(self.caller.version, "other", now)
            self._ended(answer.outcome, now)

    # ── connected ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, dialled: Dialled, now: Ns) -> None:
        wire = Wire(dialled.sock, self._counters)
        self._session = Session(
            wire,
            self.caller.version,
            settings=self._settings,
            identity=self._identity,
            patience=self.caller.patience(dialled.round_trip),
            receipts=self._receipts,
            certificates={name: each.not_after for name, each in dialled.certificates.items()},
        )
        self._selector.register(wire, selectors.EVENT_READ, _SOCKET)
        self._session.open(dialled.credentials, now)

    def _serve(self, session: Session, readable: bool, now: Ns) -> None:
        if readable:
            session.read(now)
        session.tick(now)
        events = session.drain(now)
        refused = session.refusals()
        if events and isinstance(events[0], LinkUp):
            self.caller.connected(session.version)
            self._counters.connects += 1
            self._herald.online(session.version)
            events[1:1] = [] if refused else self._herald.granted(now)
        if refused:
            events += self._herald.refused(refused, now)
        self._herald.tell(events, now)
        if session.end is None:
            self._watch(session)
        else:
            self._hang_up(session, session.end, now)

    def _watch(self, session: Session) -> None:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if session.wire.unsent else 0)
        if self._selector.get_key(session.wire).events != wanted:
            self._selector.modify(session.wire, wanted, _SOCKET)

    def _hang_up(self, session: Session, failure: Failure, now: Ns) -> None:
        early = session.phase in ("connecting", "subscribing")
        self._drop()
        if early and self._wanted and self.caller.fall_back(session.version, failure.outcome, now):
            return
        self._ended(failure, now)

    def _ended(self, failure: Failure, now: Ns) -> None:
        if not self._wanted:
            self._herald.say("off", "disconnected", now)
        elif failure.status == "off":
            self._herald.say("connecting", "asked to connect again", now)
        else:
            self.caller.wait(now)
            self._herald.offline(failure, now)
