"""`MqttLink`: what the main thread sees of the MQTT edge."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from chappe.core.effects import Acknowledge, Disconnect, Effect, Listen, Publish, Reconnect, Unlisten
from chappe.core.events import Event
from chappe.core.topics import Subscription
from chappe.core.units import Ns, as_seconds, seconds
from chappe.edge.host import Clock
from chappe.edge.mqtt.terms import Counters, Identity
from chappe.edge.worker import Worker

if TYPE_CHECKING:
    from chappe.core.settings import Mqtt
    from chappe.edge.mqtt.pump import Pump

SHORTEST_WAIT_S = 0.1
"""What a thread that has been told to end gets, even if the goodbye used up the time."""


class MqttLink:
    """One link to one broker: connects, subscribes, publishes, and comes back for ever.

    Events it posts: `LinkUp` when connected and subscribed to everything; `LinkDown` when that ends, and when the reason for being
    offline changes; `Acked` for the PUBACKs of one pass over the socket; `Asked` for requests and `Arrived` for all else that comes in;
    `Carried` for the bytes of all that, about once a second.

    The broker keeps a request until `Acknowledge` names its receipt, and sends it again on the next connection if none does.

    What is published while offline is silently not sent, and what is unacknowledged when the link dies is forgotten: the core offers
    it again after the next `LinkUp`. So a token may be acknowledged twice, or after its second offer only.

    Args:
        settings: the section ``[mqtt]``.
        client_id: MQTT client identifier; must be the same at every start, as the broker keeps the session under it.
        subscriptions: everything to listen to.
        request_prefix: a topic of this and one more level is a request, for example ``chappe/tower-1/req/``.
        will: topic and payload of the last will (retained, QoS 1).
        clock: where now comes from.
        post: takes one event, from the mqtt thread.
        post_many: takes the events of one pass, from the mqtt thread.
        password: reads the password; called at every attempt, from the thread ``mqtt-connect``.
        jitter: spreads the attempts.
    """

    def __init__(
        self,
        settings: Mqtt,
        *,
        client_id: str,
        subscriptions: Sequence[Subscription],
        request_prefix: str,
        will: tuple[str, bytes],
        clock: Clock,
        post: Callable[[Event], None],
        post_many: Callable[[Iterable[Event]], None],
        password: Callable[[], str | None],
        jitter: random.Random,
    ) -> None:
        self.counters = Counters()
        self._settings = settings
        self._identity = Identity(client_id, tuple(subscriptions), request_prefix, *will)
        self._clock = clock
        self._post = post
        self._post_many = post_many
        self._password = password
        self._jitter = jitter
        self._pump: Pump | None = None
        self._worker: Worker | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def beat(self) -> Ns:
        """When the mqtt thread last began a pass; it begins one at least every second."""
        return self._worker.beat if self._worker is not None else Ns(0)

    @property
    def reconnects(self) -> int:
        """Times the link came up again since `open`."""
        return self.counters.reconnects

    def open(self) -> None:
        """Start the mqtt thread, which starts to connect; returns at once."""
        from chappe.edge.mqtt.caller import Caller
        from chappe.edge.mqtt.herald import Herald
        from chappe.edge.mqtt.mailbox import Answer, Mailbox
        from chappe.edge.mqtt.meter import Meter
        from chappe.edge.mqtt.pump import Pump

        mailbox = Mailbox()
        caller = Caller(
            self._settings,
            clock=self._clock,
            password=self._password,
            jitter=self._jitter,
            done=lambda dial, outcome: mailbox.put(Answer(dial, outcome)),
        )
        pump = Pump(
            self._settings,
            self._identity,
            clock=self._clock,
            mailbox=mailbox,
            caller=caller,
            herald=Herald(self._post_many, Meter(self.counters)),
            counters=self.counters,
        )
        pump.open()
        self._pump = pump
        self._worker = Worker("mqtt", pump.step, clock=self._clock, post=self._post, reset=pump.reset)
        self._worker.start()

    def handle(self, effects: Sequence[Effect]) -> None:
        """Do these in order: `Publish`, `Listen`, `Unlisten`, `Acknowledge`, `Reconnect`, `Disconnect`; never blocks, never fails."""
        batch: list[Publish] = []
        for effect in effects:
            if type(effect) is Publish:
                batch.append(effect)
                continue
            self.publish(batch)
            batch = []
            self._obey(effect)
        self.publish(batch)

    def _obey(self, effect: Effect) -> None:
        if isinstance(effect, Disconnect):
            self.disconnect()
        elif self._pump is not None and isinstance(effect, Listen | Unlisten | Acknowledge | Reconnect):
            self._pump.mailbox.put(effect)

    def publish(self, batch: list[Publish]) -> None:
        """Hand over messages in order, in one piece; never blocks, never fails."""
        if self._pump is not None and batch:
            self._pump.mailbox.put(batch)

    def disconnect(self) -> None:
        """Say goodbye to the broker after everything handed over before, so that it does not publish the will, and stay away.

        `LinkDown` with status ``off`` follows when the connection is gone.
        """
        if self._pump is not None:
            from chappe.edge.mqtt.mailbox import Goodbye

            self._pump.mailbox.put(Goodbye())

    def secrets_changed(self) -> bool:
        """Whether a file with a password, key or certificate holds something else now than what the newest attempt to connect used.

        A file that cannot be read, as it is just being replaced, is no reason to give up a connection that works.
        """
        from chappe.edge.mqtt.fingerprint import fingerprint

        used = self._pump.caller.secrets if self._pump is not None else None
        present = fingerprint(self._settings)
        return None not in (used, present) and used != present

    def close(self, timeout_s: float = 2.0) -> None:
        """End the thread and let go of the socket; idempotent.

        A `disconnect` under way is waited for. Without one the connection is cut, and the broker publishes the will.

        Args:
            timeout_s: longest wait in seconds, for the goodbye and for the threads.
        """
        pump, self._pump = self._pump, None
        worker, self._worker = self._worker, None
        if pump is None or worker is None:
            return
        from chappe.edge.mqtt.mailbox import Close

        deadline = self._clock.now() + seconds(timeout_s)
        pump.mailbox.put(Close())
        if worker.alive:
            pump.gone.wait(timeout_s)
        if worker.stop(self._left_s(deadline)):
            pump.release(self._left_s(deadline))

    def _left_s(self, deadline: int) -> float:
        return max(SHORTEST_WAIT_S, as_seconds(deadline - self._clock.now()))
