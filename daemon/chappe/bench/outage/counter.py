"""The one who counts: a subscriber with a session of its own at the broker, QoS 1, which comes back as fast as it can."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from chappe.bench.outage.plan import SECOND_NS, hold, now
from chappe.edge.broker import LOOPBACK
from chappe.errors import LinkError

_AGAIN_S = 0.02
_TURN_S = 0.1
_WITHIN_S = 20.0
_LOOK_S = 0.2


@dataclass(frozen=True)
class Arrival:
    """A message, as it came.

    Attributes:
        at: monotonic nanoseconds.
    """

    at: int
    topic: str
    payload: bytes


class Counter:
    """Counts at the broker itself, never through the link that fails.

    Args:
        port: of the broker, on loopback.
        filters: topics to subscribe to.
        name: client id; the broker keeps this session while the counter is away.
        work_s: what each message costs it.
    """

    def __init__(self, port: int, *filters: str, name: str = "bench-counter", work_s: float = 0.0) -> None:
        self.arrivals: list[Arrival] = []
        self._port = port
        self._filters = filters
        self._name = name
        self._work_s = work_s
        self._changed = threading.Condition()
        self._present = False
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Connect and subscribe.

        Raises:
            LinkError: if the broker does not answer.
        """
        self._ending.clear()
        self._thread = threading.Thread(target=self._run, name="bench-counter", daemon=True)
        self._thread.start()
        with self._changed:
            if not self._changed.wait_for(lambda: self._present, _WITHIN_S):
                raise LinkError(f"the broker on port {self._port} takes no subscription")

    def close(self) -> None:
        """Leave; the session stays. Idempotent."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(_WITHIN_S)
            self._thread = None

    def wait_for(self, met: Callable[[list[Arrival]], bool], within_s: float) -> bool:
        """Wait until what has arrived meets a condition; looks after each arrival."""
        with self._changed:
            return self._changed.wait_for(lambda: met(self.arrivals), within_s)

    def settle(self, met: Callable[[list[Arrival]], bool], silence_s: float) -> bool:
        """Wait until the condition is met or nothing has arrived for so long; returns whether it was met. Looks a few times a second."""
        begun = now()
        while not met(self.arrivals[:]):
            quiet_since = max(begun, self.arrivals[-1].at if self.arrivals else 0)
            left_s = silence_s - (now() - quiet_since) / SECOND_NS
            if left_s <= 0:
                return False
            hold(min(left_s, _LOOK_S))
        return True

    # ── in its thread ────────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        import paho.mqtt.client as paho
        from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

        client = paho.Client(CallbackAPIVersion.VERSION2, self._name, clean_session=False)
        client.on_message = self._take
        client.on_connect = self._subscribe
        client.on_subscribe = lambda *_: self._arrived()
        while not self._ending.is_set():
            try:
                client.connect(LOOPBACK, self._port, keepalive=60)
            except OSError:
                hold(_AGAIN_S)
                continue
            while client.loop(_TURN_S) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                if self._ending.is_set():
                    break
        client.disconnect()

    def _subscribe(self, client: Any, *_: Any) -> None:
        for each in self._filters:
            client.subscribe(each, 1)

    def _arrived(self) -> None:
        with self._changed:
            self._present = True
            self._changed.notify_all()

    def _take(self, _client: Any, _data: Any, message: Any) -> None:
        if self._work_s:
            hold(self._work_s)
        with self._changed:
            self.arrivals.append(Arrival(now(), message.topic, message.payload))
            self._changed.notify_all()
