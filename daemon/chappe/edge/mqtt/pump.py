"""The thread ``mqtt``: a selector over the mailbox and the broker's socket, and when to connect again."""

from __future__ import annotations

import random
import selectors
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from chappe.core.events import Event, LinkUp
from chappe.core.units import SECOND, Ns, as_seconds
from chappe.edge.host import Clock
from chappe.edge.mqtt.backoff import Backoff
from chappe.edge.mqtt.dial import Dial, Dialled
from chappe.edge.mqtt.herald import Herald
from chappe.edge.mqtt.mailbox import Answer, Close, Goodbye, Mailbox, Order
from chappe.edge.mqtt.session import Session
from chappe.edge.mqtt.terms import Counters, Failure, Identity
from chappe.edge.mqtt.versions import Versions
from chappe.edge.mqtt.wire import Wire

if TYPE_CHECKING:
    from chappe.core.settings import Mqtt

LONGEST_WAIT: Ns = Ns(SECOND)
"""Keepalive is looked at, and the beat renewed, at least this often."""

_MAIL = "mail"
_SOCKET = "socket"


class Pump:
    """What the mqtt thread does; only that thread calls `step`.

    Args:
        settings: the section ``[mqtt]``.
        identity: client id, subscriptions, will.
        clock: where now comes from.
        post: takes one event.
        post_many: takes the events of a pass.
        password: reads the password, at every attempt.
        jitter: spreads the attempts.
        counters: written here.

    Attributes:
        mailbox: where any thread puts orders.
        gone: set when a `Close` has been obeyed.
    """

    def __init__(
        self,
        settings: Mqtt,
        identity: Identity,
        *,
        clock: Clock,
        post: Callable[[Event], None],
        post_many: Callable[[Iterable[Event]], None],
        password: Callable[[], str | None],
        jitter: random.Random,
        counters: Counters,
    ) -> None:
        self.mailbox = Mailbox()
        self.gone = threading.Event()
        self._settings = settings
        self._identity = identity
        self._clock = clock
        self._post_many = post_many
        self._password = password
        self._counters = counters
        self._backoff = Backoff(jitter)
        self._herald = Herald(post)
        self._versions = Versions(settings.version)
        self._dial: Dial | None = None
        self._last_dial: Dial | None = None
        self._session: Session | None = None
        self._retry_at: Ns = Ns(0)
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
        if self._last_dial is not None:
            self._last_dial.join(timeout_s)
        self._selector.close()
        self.mailbox.close()

    def reset(self) -> None:
        """After a bug in this thread: drop the connection and start again."""
        self._drop()
        self._ended(Failure("lost", "an internal error ended the connection"), self._clock.now())

    def _drop(self) -> None:
        dial, self._dial = self._dial, None
        if dial is not None:
            dial.cancel()
        session, self._session = self._session, None
        if session is not None:
            self._selector.unregister(session.wire)
            session.wire.release()

    # ── a pass ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def step(self, now: Ns) -> Ns | None:
        """Wait for the next thing to happen and deal with it; returns when to come again, None when it is over."""
        if self._herald.status == "off" and self._wanted:
            self._herald.say("connecting", "", now)
        ready = {key.data for key, _ in self._selector.select(as_seconds(self._patience(now)))}
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
        if self._wanted and self._session is None and self._dial is None and now >= self._retry_at:
            self._call()
        return now

    def _patience(self, now: Ns) -> Ns:
        due: Ns | None = None
        if self._session is not None:
            due = self._session.next_due
        elif self._dial is None and self._wanted:
            due = self._retry_at
        return LONGEST_WAIT if due is None else max(Ns(0), min(LONGEST_WAIT, Ns(due - now)))

    def _obey(self, order: Order, now: Ns) -> None:
        session = self._session
        match order:
            case list():
                if session is not None:
                    session.publish(order, now)
            case Answer():
                self._answered(order, now)
            case Goodbye():
                self._wanted = False
                # Even before the CONNACK: a CONNECT that was sent has named a will.
                if session is not None:
                    session.leave(now)
                else:
                    self._drop()
                    self._herald.say("off", "disconnected", now)
            case Close():
                self._wanted = False
                self._closing = True
                if session is None or session.phase != "leaving":
                    self._drop()

    # ── connecting ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _call(self) -> None:
        dial = Dial(
            self._settings,
            password=self._password,
            clock=self._clock,
            done=lambda dial, outcome: self.mailbox.put(Answer(dial, outcome)),
        )
        self._dial = self._last_dial = dial
        dial.start()

    def _answered(self, answer: Answer, now: Ns) -> None:
        outcome = answer.outcome
        if answer.dial is not self._dial:
            if isinstance(outcome, Dialled):
                outcome.sock.close()
            return
        self._dial = None
        version = self._versions.next
        if isinstance(outcome, Failure):
            self._versions.failed(version, "other")
            self._ended(outcome, now)
            return
        wire = Wire(outcome.sock, self._counters)
        patience = self._versions.patience(Ns(self._settings.connect_timeout), outcome.round_trip)
        session = Session(wire, version, settings=self._settings, identity=self._identity, patience=patience)
        self._selector.register(wire, selectors.EVENT_READ, _SOCKET)
        self._session = session
        session.open(outcome.credentials, now)

    # ── connected ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _serve(self, session: Session, readable: bool, now: Ns) -> None:
        if readable:
            session.read(now)
        session.tick(now)
        events = session.drain(now)
        if events and isinstance(events[0], LinkUp):
            self._versions.worked(session.version)
            self._backoff.reset()
            self._counters.connects += 1
            events[1:1] = self._herald.online(session.version, session.refused, now)
        if events:
            self._post_many(events)
        if session.end is None:
            self._watch(session)
        else:
            self._hang_up(session, session.end, now)

    def _watch(self, session: Session) -> None:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if session.wants_write else 0)
        if self._selector.get_key(session.wire).events != wanted:
            self._selector.modify(session.wire, wanted, _SOCKET)

    def _hang_up(self, session: Session, failure: Failure, now: Ns) -> None:
        early = session.phase in ("connecting", "subscribing")
        self._drop()
        if early and self._wanted and self._versions.failed(session.version, failure.outcome):
            self._retry_at = now
        else:
            self._ended(failure, now)

    def _ended(self, failure: Failure, now: Ns) -> None:
        if self._wanted:
            self._retry_at = Ns(now + self._backoff.wait(now))
            self._herald.offline(failure, now)
        else:
            self._herald.say("off", "disconnected", now)
