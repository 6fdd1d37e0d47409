"""Real brokers on loopback, a proxy before them, and links to them; nothing here outlives its test."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chappe.core.settings import Mqtt
from chappe.core.topics import Subscription
from chappe.core.units import Span
from chappe.edge.broker import Kind, LocalBroker, find_amqtt, find_mosquitto
from chappe.edge.host import SystemClock
from chappe.edge.mqtt import MqttLink

from .broker_process import FarmBroker
from .daemons import StartDaemon, starter
from .farm import KINDS
from .ground import Ground
from .people import Device, Heard
from .proxy import Proxy

EVERY_BROKER = bool(os.environ.get("NIGHTLY")) or os.environ.get("CHAPPE_BROKERS") == "all"
"""Whether what takes long is tried too (`make test-brokers`, `make nightly`)."""

MakeBroker = Callable[..., LocalBroker]
MakeDevice = Callable[..., Device]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What a test opened is closed after it, the newest first."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def make_broker(stack: ExitStack, tmp_path: Path) -> MakeBroker:
    """Starts a broker of a kind; skips where it is not installed."""

    def make(kind: Kind = "mosquitto", **options: Any) -> LocalBroker:
        if not (find_mosquitto() if kind == "mosquitto" else find_amqtt()):
            pytest.skip(f"{kind} is not installed")
        broker = LocalBroker(tmp_path, kind=kind, **options)
        broker.open()
        # Not stopped but killed: how it ends politely is tested once, and takes mosquitto a tenth of a second.
        stack.callback(broker.kill)
        return broker

    return make


@pytest.fixture
def mosquitto(make_broker: MakeBroker) -> LocalBroker:
    """A mosquitto of this test's own."""
    return make_broker("mosquitto")


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker(request: pytest.FixtureRequest, make_broker: MakeBroker) -> LocalBroker:
    """Each broker that is installed."""
    return make_broker(request.param)


@pytest.fixture(scope="session", params=list(KINDS))
def farmed(request: pytest.FixtureRequest) -> Iterator[FarmBroker]:
    """Each of the four brokers that is installed, started once for all tests that share it; those use ids of their own."""
    kind = KINDS[request.param]
    if not kind.program():
        pytest.skip(f"{kind.title} is not installed (make test-brokers brings it)")
    if kind.slow and not EVERY_BROKER:
        pytest.skip(f"{kind.title} takes a minute (make test-brokers takes it)")
    with kind() as broker:
        yield broker


@pytest.fixture
def ground(farmed: FarmBroker, stack: ExitStack, make_device: MakeDevice) -> Ground:
    """A place of this test's own on each of them."""
    return Ground(farmed, stack, make_device)


@pytest.fixture
def start_daemon(ground: Ground, tmp_path: Path) -> StartDaemon:
    """Starts `chappe run` on that ground."""
    return starter(ground, tmp_path)


@pytest.fixture
def make_device(stack: ExitStack) -> MakeDevice:
    """Opens a link to a port of loopback; keywords other than the link's own are keys of ``[mqtt]``."""

    def make(
        port: int,
        *,
        device: str = "tower-1",
        client_id: str = "",
        password: Callable[[], str | None] = lambda: None,
        heard: Heard | None = None,
        jitter: random.Random | None = None,
        **keys: Any,
    ) -> Device:
        ears = heard or Heard()
        spans = {key: Span.parse(value) for key, value in keys.items() if key in SPANS}
        link = MqttLink(
            Mqtt(port=port, **{**keys, **spans}),
            client_id=client_id or f"chappe-{device}",
            subscriptions=[Subscription(f"chappe/{device}/req/+", retain_as_published=True, retain_handling=2)],
            request_prefix=f"chappe/{device}/req/",
            will=(f"chappe/{device}/state", b"offline"),
            clock=SystemClock(),
            post=ears.post,
            post_many=ears.post_many,
            password=password,
            jitter=jitter or Hasty(),
        )
        stack.enter_context(link)
        return Device(link, ears)

    return make


class Hasty(random.Random):
    """Takes the shortest wait that the spread allows."""

    def uniform(self, a: float, b: float) -> float:
        return min(a, b)


SPANS = {"keepalive", "connect_timeout", "ack_stall", "session_expiry"}


@pytest.fixture
def proxy(stack: ExitStack, mosquitto: LocalBroker) -> Proxy:
    """A proxy before this test's mosquitto."""
    return stack.enter_context(Proxy(mosquitto.port))


def protocol_of(broker: LocalBroker) -> str:
    """What `broker` speaks at best."""
    return "5" if broker.kind == "mosquitto" else "3.1.1"
