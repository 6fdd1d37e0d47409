"""Publishing, acknowledgements, the window and what comes in, on a connection that works."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from chappe.core.effects import Publish
from chappe.core.events import Acked, Arrived, Asked, Faulted, Healed
from chappe.edge.broker import LocalBroker

from .conftest import MakeBroker, MakeDevice, protocol_of
from .people import Peer
from .scripted import PUBLISH, Conversation, Scripted, connack, puback

REQ = "chappe/tower-1/req/"


# ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_message_arrives_once_in_order_and_is_acknowledged(broker: LocalBroker, make_device: MakeDevice) -> None:
    """1,000 messages handed over in batches: all acknowledged with their own token, all received, in order."""
    device = make_device(broker.port, version=protocol_of(broker))
    with Peer(broker.port, "chappe/tower-1/stream/#", protocol=protocol_of(broker)) as peer:
        device.online()
        for start in range(0, 1000, 100):
            batch = range(start, start + 100)
            device.link.publish(
                [Publish(token=n, topic="chappe/tower-1/stream/t", payload=b"%d" % n, expiry_s=60) for n in batch]
            )
            assert set(device.heard.codes(batch).values()) == {0}
        assert peer.payloads("chappe/tower-1/stream/t", 1000) == [b"%d" % n for n in range(1000)]


def test_acknowledgements_come_in_batches(mosquitto: LocalBroker, make_device: MakeDevice) -> None:
    """The PUBACKs of one pass over the socket are one event: far fewer events than messages."""
    device = make_device(mosquitto.port)
    device.online()
    for start in range(0, 1000, 100):
        device.link.publish([Publish(token=start + n, topic="a", payload=b"x" * 200) for n in range(100)])
        device.heard.codes(range(start, start + 100))
    sizes = [len(event.items) for event in device.heard.all(Acked)]
    assert sum(sizes) == 1000
    assert len(sizes) < 500


def test_a_message_without_quality_of_service_counts_as_handed_over(
    broker: LocalBroker, make_device: MakeDevice
) -> None:
    """QoS 0 is acknowledged with code 0 when the socket took it."""
    device = make_device(broker.port, version=protocol_of(broker))
    with Peer(broker.port, "t", protocol=protocol_of(broker)) as peer:
        device.online()
        device.link.publish([Publish(token=7, topic="t", payload=b"now", qos=0)])
        assert device.heard.codes([7]) == {7: 0}
        assert peer.payloads("t", 1) == [b"now"]


def test_properties_reach_the_subscriber(mosquitto: LocalBroker, make_device: MakeDevice) -> None:
    """Message expiry and correlation data are on the wire, retain is kept by the broker."""
    device = make_device(mosquitto.port)
    device.online()
    device.link.publish([Publish(token=1, topic="keep", payload=b"x", retain=True, expiry_s=60, correlation="AAH/")])
    device.heard.codes([1])
    with Peer(mosquitto.port, "keep") as peer:
        (message,) = peer.wait_for(lambda message: message.topic == "keep")
    assert message.retain
    assert 0 < message.properties.MessageExpiryInterval <= 60
    assert message.properties.CorrelationData == b"\x00\x01\xff"


def test_a_topic_that_cannot_be_published_to_is_refused_here(mosquitto: LocalBroker, make_device: MakeDevice) -> None:
    """Wildcards and the empty topic (a peer's response topic can be anything) get 0x90; the connection stays."""
    device = make_device(mosquitto.port)
    device.online()
    topics = ("a/+", "#", "", "x" * 65_536, "fine")
    device.link.publish([Publish(token=n, topic=topic, payload=b"x") for n, topic in enumerate(topics)])
    assert device.heard.codes(range(5)) == {0: 0x90, 1: 0x90, 2: 0x90, 3: 0x90, 4: 0x10}


def test_a_message_above_the_brokers_limit_is_never_sent(make_broker: MakeBroker, make_device: MakeDevice) -> None:
    """The limit is in `LinkUp`; one byte above it is refused here with 0x95, at the limit it is delivered."""
    device = make_device(make_broker("mosquitto", extra=["max_packet_size 1000"]).port)
    assert device.online().max_packet == 1000
    overhead = 1 + 2 + 2 + len("big") + 2 + 1
    sizes = {1: 1000 - overhead, 2: 1001 - overhead}
    device.link.publish([Publish(token=n, topic="big", payload=b"x" * size) for n, size in sizes.items()])
    assert device.heard.codes(sizes) == {1: 0x10, 2: 0x95}


def test_what_is_published_offline_is_not_sent(mosquitto: LocalBroker, make_device: MakeDevice) -> None:
    """A batch handed over after the link was lost is forgotten: the core offers it again when the link is up."""
    device = make_device(mosquitto.port)
    device.online()
    mosquitto.restart()
    device.heard.down("lost")
    device.link.publish([Publish(token=1, topic="t", payload=b"too early")])
    device.online()
    with Peer(mosquitto.port, "t") as peer:
        device.link.publish([Publish(token=2, topic="t", payload=b"again")])
        assert device.heard.codes([2]) == {2: 0}
        assert peer.payloads("t", 1) == [b"again"]
    assert [ack.token for event in device.heard.all(Acked) for ack in event.items] == [2]


# ── the window ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("MQT-03", breaks="chappe.edge.mqtt.codec:Codec._on_connect")
@pytest.mark.parametrize(("allowed", "own", "window"), [(5, 100, 5), (100, 100, 100), (50, 20, 20)])
def test_the_window_is_the_smaller_of_both_wishes(
    make_broker: MakeBroker, make_device: MakeDevice, allowed: int, own: int, window: int
) -> None:
    """mosquitto names its `max_inflight_messages` as Receive Maximum; `LinkUp` carries the smaller of that and ours."""
    device = make_device(make_broker("mosquitto", extra=[f"max_inflight_messages {allowed}"]).port, window=own)
    assert device.online().window == window


@pytest.mark.feature("MQT-03", breaks="chappe.edge.mqtt.handshake:Handshake._connected")
def test_a_broker_that_names_no_maximum_gets_our_own_window(make_device: MakeDevice, stack: ExitStack) -> None:
    """Receive Maximum absent means 65,535 (MQTT 5 section 3.2.2.3.3), so our 100 rule."""

    def script(peer: Conversation) -> None:
        peer.greet()
        peer.packet()

    server = stack.enter_context(Scripted(script))
    assert make_device(server.port).online().window == 100


@pytest.mark.feature("MQT-03", breaks="chappe.edge.mqtt.flight:Flight.landed")
def test_never_more_unacknowledged_than_the_broker_allows(make_device: MakeDevice, stack: ExitStack) -> None:
    """Receive Maximum 20 and 27 messages handed over: 20 are sent, each PUBACK makes room for one more, whatever the core does."""
    seen: list[int] = []

    def script(peer: Conversation) -> None:
        peer.greet(properties=b"\x21\x00\x14")
        flying = [peer.publish()[0] for _ in range(20)]
        for _ in range(7):
            seen.append(len(flying))
            assert peer.quiet(0.03)
            peer.send(puback(flying.pop(0)))
            flying.append(peer.publish()[0])
        for mid in flying:
            peer.send(puback(mid))
        peer.packet()

    server = stack.enter_context(Scripted(script))
    device = make_device(server.port)
    assert device.online().window == 20
    device.link.publish([Publish(token=n, topic="t", payload=b"x") for n in range(27)])
    assert set(device.heard.codes(range(27)).values()) == {0}
    assert seen == [20] * 7


# ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_carries_where_to_answer(mosquitto: LocalBroker, make_device: MakeDevice) -> None:
    """Response topic and correlation data of MQTT 5 become `reply_to` and base64."""
    device = make_device(mosquitto.port)
    device.online()
    with Peer(mosquitto.port, "me/answers") as peer:
        peer.publish(f"{REQ}identify", b'{"id":"1"}', ResponseTopic="me/answers", CorrelationData=b"\x00\xff")
        asked = device.heard.next(Asked)
        assert (asked.verb, asked.body, asked.size, asked.retained) == ("identify", b'{"id":"1"}', 10, False)
        assert (asked.via, asked.reply_to, asked.correlation) == ("mqtt", "me/answers", "AP8=")
        device.link.publish([Publish(token=1, topic=asked.reply_to, payload=b"ok", correlation=asked.correlation)])
        (answer,) = peer.wait_for(lambda message: message.topic == "me/answers")
    assert answer.properties.CorrelationData == b"\x00\xff"


def test_a_request_on_3_1_1_has_a_body_only(make_broker: MakeBroker, make_device: MakeDevice) -> None:
    """Without MQTT 5 there is nothing but verb and body."""
    broker = make_broker("amqtt")
    device = make_device(broker.port, version="3.1.1")
    device.online()
    with Peer(broker.port, protocol="3.1.1") as peer:
        peer.publish(f"{REQ}status", b"{}")
    asked = device.heard.next(Asked)
    assert (asked.verb, asked.body, asked.reply_to, asked.correlation) == ("status", b"{}", "", "")


def test_an_oversized_request_comes_in_cut_with_its_true_size(mosquitto: LocalBroker, make_device: MakeDevice) -> None:
    """Of 1 MB 256 KiB + 1 byte enter the core, which is enough to see that it is too large."""
    device = make_device(mosquitto.port)
    device.online()
    with Peer(mosquitto.port) as peer:
        peer.publish(f"{REQ}deploy", b"x" * 1_000_000)
    asked = device.heard.next(Asked)
    assert (len(asked.body), asked.size) == (256 * 1024 + 1, 1_000_000)


def test_a_retained_request_is_marked(mosquitto: LocalBroker, make_device: MakeDevice) -> None:
    """Retain As Published shows that the sender asked to keep it; at the next connect it is not delivered again."""
    device = make_device(mosquitto.port)
    device.online()
    with Peer(mosquitto.port) as peer:
        peer.publish(f"{REQ}reboot", b"{}", retain=True)
        assert device.heard.next(Asked).retained
        other = make_device(mosquitto.port, client_id="chappe-other")
        other.online()
        peer.publish(f"{REQ}status", b"{}")
        assert other.heard.next(Asked).verb == "status"
    assert len(other.heard.all(Asked)) == 1


def test_other_topics_arrive_as_they_are(make_device: MakeDevice, stack: ExitStack) -> None:
    """A message on a subscribed topic that is no request is `Arrived`, with its retain flag."""

    def script(peer: Conversation) -> None:
        peer.greet()
        peer.send(b"\x31\x07\x00\x03a/b\x00x" + b"\x30\x06\x00\x03a/b\x00")
        peer.packet()

    server = stack.enter_context(Scripted(script))
    device = make_device(server.port)
    first, second = device.heard.next(Arrived), device.heard.next(Arrived)
    assert (first.topic, first.body, first.retained) == ("a/b", b"x", True)
    assert (second.body, second.retained) == (b"", False)


def test_a_refused_subscription_is_a_fault_until_it_is_granted(make_device: MakeDevice, stack: ExitStack) -> None:
    """The link is up all the same; the fault names the filter and heals when a later SUBACK grants it."""

    def script(peer: Conversation) -> None:
        peer.greet(suback=0x87 if peer.number == 1 else 1)
        if peer.number > 1:
            peer.packet()

    server = stack.enter_context(Scripted(script))
    device = make_device(server.port)
    device.online()
    fault = device.heard.next(Faulted)
    assert (fault.part, fault.code) == ("mqtt", "subscription_refused")
    assert "chappe/tower-1/req/+" in fault.message
    device.online()
    assert device.heard.next(Healed).code == "subscription_refused"


def test_online_means_subscribed(make_device: MakeDevice, stack: ExitStack) -> None:
    """Nothing is published between CONNACK and SUBACK: the device is online when it can be asked."""

    def script(peer: Conversation) -> None:
        peer.send(connack())
        body = peer.expect(0x80)
        assert peer.quiet(0.1)
        peer.send(b"\x90\x04" + body[:2] + b"\x00\x01")
        # A message handed over on the very threshold may still be on its way to the thread, and then goes out after all.
        while peer.send(puback((sent := peer.publish())[0])) or sent[1] != "late":
            pass
        peer.packet()

    server = stack.enter_context(Scripted(script))
    device = make_device(server.port)
    device.link.publish([Publish(token=1, topic="early", payload=b"dropped, or sent once online")])
    device.online()
    device.link.publish([Publish(token=2, topic="late", payload=b"sent")])
    assert device.heard.codes([2]) == {2: 0}
    assert PUBLISH == 0x30
