"""The consumer: a persistent QoS 1 subscriber that keeps every message with the moment of its arrival."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from .borrowed import borrow
from .oracle import Message

WITHIN_S: float = borrow("demo/process.py").WITHIN_S

MARKS = "fault/mark"
LOOK_EVERY_S = 0.25


class Recorder:
    """Connects, subscribes, and comes back by itself whenever the broker does.

    Args:
        port: the broker's, on loopback.
        device: whose messages to keep.

    Attributes:
        messages: of its streams, in the order in which they came, repeats included.
        others: what else it said: (topic below the device's, body).
        confirms: streams whose messages get a receipt.
        hopeless: says why nothing more can come, if so.
    """

    def __init__(self, port: int, device: str = "tower-1") -> None:
        self.messages: list[Message] = []
        self.others: list[tuple[str, Any]] = []
        self.confirms: frozenset[str] = frozenset()
        self.hopeless: Callable[[], object] = lambda: None
        self._root = f"chappe/{device}/"
        self._port = port
        self._changed = threading.Condition()
        self._subscribed = 0
        self._marks: set[bytes] = set()
        self._numbers = itertools.count(1)
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id="recorder", protocol=paho.MQTTv5, reconnect_on_failure=True
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        kept = Properties(PacketTypes.CONNECT)
        kept.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", self._port, clean_start=False, properties=kept)
        self._client.loop_start()
        self.connected(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    # ── in paho's thread ─────────────────────────────────────────────────────────────────────────────────────────────

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        client.subscribe([("chappe/#", 1), ("fault/#", 1)])

    def _on_subscribe(self, *_: Any) -> None:
        with self._changed:
            self._subscribed += 1
            self._changed.notify_all()

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        came = time.time()
        with self._changed:
            if message.topic == MARKS:
                self._marks.add(message.payload)
            elif message.topic.startswith(self._root + "stream/"):
                self._keep(parse(message.topic.rpartition("/")[2], message.payload, came))
            else:
                body = json.loads(message.payload) if message.payload else None
                self.others.append((message.topic.removeprefix(self._root), body))
            self._changed.notify_all()

    def _keep(self, message: Message) -> None:
        self.messages.append(message)
        if message.stream in self.confirms:
            receipt = {"boot": message.boot, "seq": message.seq, "kind": "delivered", "by": "recorder"}
            self._client.publish(f"{self._root}receipt/{message.stream}", json.dumps(receipt), qos=1)

    # ── for tests ────────────────────────────────────────────────────────────────────────────────────────────────────

    def connected(self, times: int) -> None:
        """Wait until it has subscribed that often."""
        self.wait(lambda: self._subscribed >= times, "the recorder cannot connect")

    @property
    def connects(self) -> int:
        return self._subscribed

    def wait(
        self, enough: Callable[[], Any], why: str | Callable[[], str] = "it never came", within_s: float | None = None
    ) -> None:
        """Wait until `enough`, asked again after every message; no longer than there is hope."""
        deadline = time.monotonic() + (WITHIN_S if within_s is None else within_s)
        with self._changed:
            while not self._changed.wait_for(enough, LOOK_EVERY_S):
                end = self.hopeless()
                late = time.monotonic() >= deadline
                if end or late:
                    raise AssertionError(f"{why if isinstance(why, str) else why()} {end or ''}")

    def count(self, stream: str, n: int) -> None:
        """Wait for `n` messages of a stream."""
        self.wait(lambda: len(self.of(stream)) >= n, f"{stream} has fewer than {n}")

    def of(self, stream: str) -> list[Message]:
        return [message for message in list(self.messages) if message.stream == stream]

    def last(self, topic: str) -> Any:
        """The newest payload on another topic of the device, None where there was none."""
        return next((body for name, body in reversed(list(self.others)) if name == topic), None)

    def settle(self) -> int:
        """Wait until everything that the broker took before this moment has come here; returns how many messages there are."""
        mark = b"%d" % next(self._numbers)
        self._client.publish(MARKS, mark, qos=1)
        self.wait(lambda: mark in self._marks, "the broker is gone")
        return len(self.messages)


def parse(stream: str, payload: bytes, came: float = 0.0) -> Message:
    """A message out of its envelope (ARCHITECTURE section 6)."""
    body = json.loads(payload)
    return Message(
        stream=stream,
        boot=body["boot"],
        seq=body["seq"],
        at=datetime.fromisoformat(body["at"]).timestamp(),
        data=body["data"],
        elided=body.get("elided"),
        lost=body.get("lost"),
        late=body.get("late", False),
        came=came,
    )
