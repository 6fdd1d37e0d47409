"""Those who offer numbered messages to a peer at an even rate, each in a thread of its own."""

from __future__ import annotations

import socket
import threading
from abc import ABC, abstractmethod
from typing import Any

from chappe.bench.outage.ledger import Ledger
from chappe.bench.outage.plan import SECOND_NS, hold, now
from chappe.bench.peers.base import TOPIC, payload
from chappe.edge.broker import LOOPBACK

_TURN_S = 0.005
_AGAIN_S = 0.1
_WITHIN_S = 10.0


class Feeder(ABC):
    """Offers the next number each 1/rate seconds while it has a connection.

    Args:
        port: of the peer, on loopback.
        rate_hz: messages per second.
        offered, accepted: what is offered and what the peer has taken.
    """

    def __init__(self, port: int, rate_hz: int, offered: Ledger, accepted: Ledger) -> None:
        self.port = port
        self.offered = offered
        self.accepted = accepted
        self._step_ns = SECOND_NS // rate_hz
        self._running = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._running = True
        self._thread = threading.Thread(target=self._run, name="bench-feeder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; idempotent."""
        self._running = False
        if self._thread is not None:
            self._thread.join(_WITHIN_S)
            self._thread = None

    def _run(self) -> None:
        while self._running:
            try:
                self.connect()
            except OSError:
                hold(_AGAIN_S)
                continue
            self._serve()
        self.leave()

    def _serve(self) -> None:
        due = now()
        while self._running:
            while due <= now():
                if not self.offer(self.offered.enter()):
                    return
                due += self._step_ns
            if not self.turn(_TURN_S):
                return

    @abstractmethod
    def connect(self) -> None:
        """Connect.

        Raises:
            OSError: if the peer does not take it.
        """

    @abstractmethod
    def offer(self, number: int) -> bool:
        """Hand a number over; False when the connection has gone."""

    @abstractmethod
    def turn(self, seconds: float) -> bool:
        """Wait so long, looking after the connection; False when it has gone."""

    @abstractmethod
    def leave(self) -> None:
        """Let go."""


class MqttFeeder(Feeder):
    """A local MQTT client at QoS 1: accepted is what the peer has acknowledged with a PUBACK."""

    _client: Any = None

    def connect(self) -> None:
        import paho.mqtt.client as paho
        from paho.mqtt.enums import CallbackAPIVersion

        self._numbers: dict[int, int] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "bench-feeder", clean_session=True)
        self._client.max_inflight_messages_set(0)
        self._client.on_publish = self._acknowledged
        self._client.connect(LOOPBACK, self.port)

    def _acknowledged(self, _client: Any, _data: Any, mid: int, *_: Any) -> None:
        self.accepted.mark(self._numbers.pop(mid))

    def offer(self, number: int) -> bool:
        handed = self._client.publish(TOPIC, payload(number), qos=1)
        self._numbers[handed.mid] = number
        return True

    def turn(self, seconds: float) -> bool:
        lived: bool = self._client.loop(seconds) == 0
        return lived

    def leave(self) -> None:
        if self._client is not None:
            self._client.loop(_AGAIN_S)
            self._client.disconnect()


class LineFeeder(Feeder):
    """Lines over TCP: accepted is what was written to the peer's socket."""

    _socket: socket.socket | None = None

    def connect(self) -> None:
        self._socket = socket.create_connection((LOOPBACK, self.port), _WITHIN_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def offer(self, number: int) -> bool:
        assert self._socket is not None, "connect() comes first"
        try:
            self._socket.sendall(payload(number) + b"\n")
        except OSError:
            return False
        self.accepted.mark(number)
        return True

    def turn(self, seconds: float) -> bool:
        hold(seconds)
        return True

    def leave(self) -> None:
        if self._socket is not None:
            self._socket.close()
