"""MQTT over WebSocket, to a broker that has it on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chappe.core.effects import Publish
from chappe.core.events import Asked, Carried
from chappe.edge.broker import LOOPBACK, LocalBroker, free_port

from .conftest import MakeDevice
from .farm import Nats
from .people import Peer

pytest.importorskip("websockets", reason="the package websockets is not installed")


class NatsWithWebSocket(Nats):
    """NATS that listens for WebSocket, too."""

    web_port = 0

    def configure(self) -> None:
        super().configure()
        self.web_port = free_port()
        with (self.folder / "nats.conf").open("a", encoding="ascii") as file:
            file.write(f'websocket {{ listen: "{LOOPBACK}:{self.web_port}", no_tls: true, no_auth_user: anyone }}\n')


@pytest.fixture
def nats() -> Iterator[NatsWithWebSocket]:
    """One of this test's own."""
    if not Nats.program():
        pytest.skip("NATS is not installed (make test-brokers brings it)")
    with NatsWithWebSocket() as broker:
        yield broker


@pytest.mark.feature("MQT-09", breaks="chappe.edge.mqtt.websocket:upgrade")
def test_a_link_through_websocket_is_a_link(nats: NatsWithWebSocket, make_device: MakeDevice) -> None:
    """Online, 300 messages of 2 KB arrive in order at a subscriber on TCP, a request comes in, and we leave politely."""
    device = make_device(nats.web_port, transport="websockets", version="3.1.1")
    assert device.online().protocol == "3.1.1"
    with Peer(nats.port, "chappe/tower-1/stream/#", protocol="3.1.1") as peer:
        for start in range(0, 300, 100):
            batch = range(start, start + 100)
            device.link.publish(
                [Publish(token=n, topic="chappe/tower-1/stream/x", payload=b"%04d" % n + bytes(2000)) for n in batch]
            )
            assert set(device.heard.codes(batch).values()) == {0}
        numbers = [payload[:4] for payload in peer.payloads("chappe/tower-1/stream/x", 300)]
        peer.publish("chappe/tower-1/req/status", b"{}")
        assert device.heard.next(Asked).body == b"{}"
    device.link.disconnect()
    assert device.heard.down("off").reason == "disconnected"
    assert numbers == [b"%04d" % n for n in range(300)]
    # Packets alone, 30 bytes before each payload; what the frames add is not among them.
    sent = sum(event.sent for event in device.heard.all(Carried))
    assert 0 < sent - 300 * (2004 + 30) < 300


def test_a_broker_that_speaks_no_websocket_is_refused(mosquitto: LocalBroker, make_device: MakeDevice) -> None:
    """A port of plain MQTT: what answers there is named, and it is no portal."""
    device = make_device(mosquitto.port, transport="websockets")
    assert "WebSocket" in device.heard.down("refused").reason
