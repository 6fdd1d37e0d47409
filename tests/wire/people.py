"""Those at the ends of a wire test: what the daemon's core would hear, and a peer at the broker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from chappe.core.events import Acked, Event, LinkDown, LinkUp
from chappe.edge.mqtt import MqttLink

WITHIN_S = 20.0

E = TypeVar("E", bound=Event)


class Heard:
    """Every event a link posted, and a way to wait for one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()
        self._read = 0

    def post(self, event: Event) -> None:
        self.post_many([event])

    def post_many(self, events: Iterable[Event]) -> None:
        with self._changed:
            self.events.extend(events)
            self._changed.notify_all()

    def next(
        self,
        kind: type[E] | tuple[type[E], ...],
        where: Callable[[E], bool] = lambda _: True,
        within_s: float = WITHIN_S,
    ) -> E:
        """The next event of `kind` (or of these kinds) that fits; what came before it is passed over and not found again."""
        found: list[E] = []

        def look() -> bool:
            while self._read < len(self.events) and not found:
                event = self.events[self._read]
                self._read += 1
                if isinstance(event, kind) and where(event):
                    found.append(event)
            return bool(found)

        with self._changed:
            assert self._changed.wait_for(look, within_s), f"no {kind} in {self.events}"
        return found[0]

    def down(self, status: str) -> LinkDown:
        """The next `LinkDown` with this status."""
        return self.next(LinkDown, lambda event: event.status == status)

    def codes(self, tokens: Iterable[int]) -> dict[int, int]:
        """The reason code of each of these tokens, once all have one."""
        wanted = set(tokens)

        def acks() -> dict[int, int]:
            every = (ack for event in self.events if isinstance(event, Acked) for ack in event.items)
            return {ack.token: ack.code for ack in every if ack.token in wanted}

        with self._changed:
            assert self._changed.wait_for(lambda: len(acks()) == len(wanted), WITHIN_S), f"{acks()} of {len(wanted)}"
            return acks()

    def all(self, kind: type[E]) -> list[E]:
        """Every event of `kind` so far."""
        with self._changed:
            return [event for event in self.events if isinstance(event, kind)]


class Device:
    """A link and what it said.

    Args:
        link: not yet open.
        heard: takes its events.
    """

    def __init__(self, link: MqttLink, heard: Heard) -> None:
        self.link = link
        self.heard = heard

    def online(self) -> LinkUp:
        """Wait until it is (again) online."""
        return self.heard.next(LinkUp)


class Peer:
    """Another client of the broker, in paho's own thread.

    Args:
        port: the broker's.
        protocol: ``5`` or ``3.1.1``.
        filters: what to subscribe to, with QoS 1.
        client_id: its identifier.
        login: user name and password.
    """

    def __init__(
        self,
        port: int,
        *filters: str,
        protocol: str = "5",
        client_id: str = "peer",
        login: tuple[str, str] | None = None,
    ) -> None:
        self.messages: list[paho.MQTTMessage] = []
        self._changed = threading.Condition()
        self._port = port
        self._filters = filters
        self._ready = False
        version = paho.MQTTv5 if protocol == "5" else paho.MQTTv311
        clean = {} if protocol == "5" else {"clean_session": True}
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version, **clean)
        self._client.suppress_exceptions = False
        # After a restart of its broker it is back at once, and its thread ends without a second's sleep.
        self._client.reconnect_delay_set(min_delay=0.05, max_delay=0.2)
        if login is not None:
            self._client.username_pw_set(*login)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        with self._changed:
            assert self._changed.wait_for(lambda: self._ready, WITHIN_S), "the peer cannot connect"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, _reason: Any, _given: Any) -> None:
        if self._filters:
            client.subscribe([(each, 1) for each in self._filters])
        else:
            self._on_subscribe()

    def _on_subscribe(self, *_: Any) -> None:
        with self._changed:
            self._ready = True
            self._changed.notify_all()

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, **properties: Any) -> None:
        """Publish with QoS 1 and wait for the PUBACK; keywords are MQTT 5 properties."""
        given = Properties(PacketTypes.PUBLISH) if properties else None
        for name, value in properties.items():
            setattr(given, name, value)
        sent = self._client.publish(topic, payload, qos=1, retain=retain, properties=given)
        sent.wait_for_publish(WITHIN_S)
        assert sent.is_published(), f"no PUBACK for {topic}"

    def wait_for(
        self, predicate: Callable[[paho.MQTTMessage], bool], count: int = 1, within_s: float = WITHIN_S
    ) -> list[paho.MQTTMessage]:
        """The first `count` messages that fit."""

        def fitting() -> list[paho.MQTTMessage]:
            return [message for message in self.messages if predicate(message)]

        with self._changed:
            assert self._changed.wait_for(lambda: len(fitting()) >= count, within_s), (
                f"{len(fitting())} of {count} came"
            )
            return fitting()[:count]

    def payloads(self, topic: str, count: int) -> list[bytes]:
        """The first `count` payloads on `topic`."""
        return [message.payload for message in self.wait_for(lambda message: message.topic == topic, count)]
