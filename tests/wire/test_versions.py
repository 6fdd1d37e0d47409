"""MQTT 5 first, 3.1.1 where the broker shows that it does not know 5; on real brokers and on scripted ones."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from chappe.core.effects import Publish
from chappe.core.events import LinkDown, LinkUp

from .conftest import MakeBroker, MakeDevice
from .people import Peer
from .scripted import Conversation, Scripted, connack

V5, V311 = 5, 4

# With `max_queued_messages 0` mosquitto 2.0.11 ends a connection that published what it may not.
ACCESS_LIST = ["acl_file acl", "max_queued_messages 1000"]


@pytest.mark.feature("MQT-01", breaks="chappe.edge.mqtt.versions:Versions.failed")
def test_a_broker_of_3_1_1_alone_gets_3_1_1(make_broker: MakeBroker, make_device: MakeDevice) -> None:
    """amqtt never answers a CONNECT of MQTT 5; the link comes up with 3.1.1, without a word of an earlier refusal."""
    device = make_device(make_broker("amqtt").port)
    assert device.online().protocol == "3.1.1"
    assert [event.status for event in device.heard.all(LinkDown)] == ["connecting"]


@pytest.mark.feature("MQT-01", breaks="chappe.edge.mqtt.codec:Codec._on_connect")
def test_a_broker_of_mqtt_5_gets_5(make_broker: MakeBroker, make_device: MakeDevice) -> None:
    """mosquitto knows MQTT 5, so that is spoken, and its first attempt is the only one."""
    broker = make_broker("mosquitto")
    device = make_device(broker.port)
    assert device.online().protocol == "5"


def test_3_1_1_can_be_forced(make_broker: MakeBroker, make_device: MakeDevice) -> None:
    """`mqtt.version = "3.1.1"` speaks that to a broker which knows 5."""
    device = make_device(make_broker("mosquitto").port, version="3.1.1")
    assert device.online().protocol == "3.1.1"


def test_5_can_be_forced(make_broker: MakeBroker, make_device: MakeDevice) -> None:
    """`mqtt.version = "5"` never falls back: a broker that does not answer it stays out of reach."""
    device = make_device(make_broker("amqtt").port, version="5", connect_timeout="300ms")
    assert "CONNECT" in device.heard.down("refused").reason
    assert device.heard.all(LinkUp) == []


@pytest.mark.parametrize(
    "answer",
    [pytest.param(b"\x20\x02\x00\x01", id="0x01 as 3.1.1 writes it"), pytest.param(connack(0x84), id="0x84 as 5 does")],
)
def test_a_refused_version_is_believed_at_once(make_device: MakeDevice, stack: ExitStack, answer: bytes) -> None:
    """The attempt after a CONNACK that names the version speaks 3.1.1, with no wait and no change of status between."""

    def script(peer: Conversation) -> None:
        if peer.level == V5:
            peer.send(answer)
        else:
            peer.send(b"\x20\x02\x00\x00")
            peer.send(b"\x90\x03" + peer.expect(0x80)[:2] + b"\x01")
        peer.packet()

    server = stack.enter_context(Scripted(script))
    device = make_device(server.port)
    assert device.online().protocol == "3.1.1"
    assert server.levels == [V5, V311]
    assert [event.status for event in device.heard.all(LinkDown)] == ["connecting"]


@pytest.mark.feature("MQT-01", breaks="chappe.edge.mqtt.versions:Versions.failed")
def test_two_closed_connections_earn_3_1_1_one_attempt(make_device: MakeDevice, stack: ExitStack) -> None:
    """Closed without CONNACK twice, then 3.1.1 at once; as that is closed too, MQTT 5 is tried again."""
    server = stack.enter_context(Scripted(lambda _peer: None))
    make_device(server.port)
    assert server.wait_for_connects(4) == [V5, V5, V311, V5]


def test_every_connection_starts_with_5_again(make_device: MakeDevice, stack: ExitStack) -> None:
    """A broker that was upgraded is spoken to in MQTT 5 after the next reconnect."""

    def script(peer: Conversation) -> None:
        if peer.number == 1:
            peer.send(connack(0x84))
        elif peer.level == V5:
            peer.greet()
            peer.packet()
        else:
            peer.send(b"\x20\x02\x00\x00")
            peer.send(b"\x90\x03" + peer.expect(0x80)[:2] + b"\x01")

    server = stack.enter_context(Scripted(script))
    device = make_device(server.port)
    assert device.online().protocol == "3.1.1"
    assert device.online().protocol == "5"
    assert server.levels == [V5, V311, V5]


def test_on_3_1_1_a_forbidden_publish_looks_delivered(make_broker: MakeBroker, make_device: MakeDevice) -> None:
    """What `check` warns of: without reason codes a denied message is acknowledged like any other."""
    device = make_device(make_broker("mosquitto", extra=ACCESS_LIST).port, version="3.1.1")
    device.online()
    device.link.publish([Publish(token=1, topic="forbidden/x", payload=b"x")])
    assert device.heard.codes([1]) == {1: 0}


@pytest.mark.feature("MQT-02", breaks="chappe.edge.mqtt.flight:Flight.landed")
def test_on_5_a_forbidden_publish_is_told_apart(make_broker: MakeBroker, make_device: MakeDevice) -> None:
    """The PUBACK's reason code comes through: 0x87 where the ACL forbids, 0x10 where nobody listens, 0 where somebody does."""
    broker = make_broker("mosquitto", extra=ACCESS_LIST)
    device = make_device(broker.port)
    device.online()
    with Peer(broker.port, "allowed/heard"):
        topics = ("forbidden/x", "allowed/unheard", "allowed/heard")
        device.link.publish([Publish(token=n, topic=topic, payload=b"x") for n, topic in enumerate(topics)])
        assert device.heard.codes(range(3)) == {0: 0x87, 1: 0x10, 2: 0}


@pytest.fixture(autouse=True)
def access_list(tmp_path) -> None:
    """The access list these brokers read, in their folder."""
    (tmp_path / "acl").write_text("topic readwrite allowed/#\ntopic readwrite chappe/#\n", encoding="utf-8")
