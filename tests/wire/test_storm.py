"""A link that is cut again and again: nothing is missing, and what comes twice is known as such."""

from __future__ import annotations

import json
import os
import random
import threading
from collections import deque
from collections.abc import Callable

import pytest

from chappe.core.effects import Publish
from chappe.core.events import Acked, Event, LinkDown, LinkUp
from chappe.edge.broker import LocalBroker
from chappe.edge.mqtt import MqttLink

from .conftest import MakeDevice
from .people import WITHIN_S, Heard, Peer
from .proxy import Proxy

STREAM = "chappe/tower-1/stream/x"


class Eager(random.Random):
    """Comes back after next to no time."""

    def uniform(self, a: float, b: float) -> float:
        return min(a, b) / 25


class Core(Heard):
    """As much of the core as this needs: one window, and what is unacknowledged is offered again, oldest first."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self.handle: Callable[[list[Publish]], None] = lambda _: None
        self.delivered: set[int] = set()
        self.done = threading.Event()
        self.progress = threading.Condition()
        self._total = total
        self._waiting: deque[int] = deque()
        self._flying: dict[int, int] = {}
        self._token = 0
        self._window = 0

    def produce(self, seq: int) -> None:
        with self.progress:
            self._waiting.append(seq)
            self._pump()

    def post_many(self, events: object) -> None:
        taken: list[Event] = list(events)  # type: ignore[call-overload]
        with self.progress:
            for event in taken:
                self._step(event)
            self._pump()
            self.progress.notify_all()
        super().post_many(taken)

    def _step(self, event: Event) -> None:
        if isinstance(event, LinkUp):
            self._window = event.window
        elif isinstance(event, LinkDown):
            self._window = 0
            self._waiting.extendleft(sorted(self._flying.values(), reverse=True))
            self._flying.clear()
        elif isinstance(event, Acked):
            self.delivered.update(self._flying.pop(ack.token) for ack in event.items if ack.token in self._flying)
            if len(self.delivered) == self._total:
                self.done.set()

    def _pump(self) -> None:
        batch = []
        while self._waiting and len(self._flying) < self._window:
            self._token += 1
            seq = self._flying[self._token] = self._waiting.popleft()
            batch.append(Publish(token=self._token, topic=STREAM, payload=json.dumps({"seq": seq}).encode()))
        if batch:
            self.handle(batch)


@pytest.mark.feature("MQT-07", breaks="chappe.edge.mqtt.pump:Pump._ended")
def test_twenty_cuts_lose_nothing(mosquitto: LocalBroker, proxy: Proxy, make_device: MakeDevice) -> None:
    """A stream of messages through 20 resets: each number arrives, in order after the repeats are dropped; nothing else does."""
    cuts, each = 20, 50 if not os.environ.get("NIGHTLY") else 150
    core = Core(cuts * each)
    device = make_device(proxy.port, heard=core, jitter=Eager())
    link: MqttLink = device.link
    core.handle = link.handle
    with Peer(mosquitto.port, STREAM) as peer:
        device.online()
        for cut in range(cuts):
            for n in range(each):
                core.produce(cut * each + n)
                if n == each // 2:
                    proxy.cut()
            device.online()
        assert core.done.wait(WITHIN_S), f"{len(core.delivered)} of {cuts * each}"
        peer.publish(STREAM, b'{"seq": -1}')
        peer.wait_for(lambda message: message.payload == b'{"seq": -1}')
        heard = [json.loads(message.payload)["seq"] for message in peer.messages][:-1]
    assert list(dict.fromkeys(heard)) == list(range(cuts * each))
    assert link.reconnects == cuts
