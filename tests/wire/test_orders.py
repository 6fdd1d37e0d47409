"""What the core asks of a link beside publishing: acknowledge, listen, connect again; and what it is told of the bytes."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from chappe.core.effects import Acknowledge, Disconnect, Listen, Publish, Reconnect, Unlisten
from chappe.core.events import Arrived, Asked, Carried, Faulted, LinkDown, LinkUp
from chappe.core.units import MILLISECOND, SECOND, Ns
from chappe.edge.broker import LocalBroker
from chappe.edge.mqtt.codec import OWN_RECEIVE_MAXIMUM

from .conftest import MakeBroker, MakeDevice
from .people import Device, Peer
from .proxy import Proxy
from .scripted import CONNECT, Conversation, Scripted

REQ = "chappe/tower-1/req/"
STATE = "chappe/tower-1/state"
STREAM = "chappe/tower-1/stream/x"


# ── requests are acknowledged when the core says so ──────────────────────────────────────────────────────────────────


def asked(device: Device, count: int) -> list[Asked]:
    """The next `count` requests."""
    return [device.heard.next(Asked) for _ in range(count)]


def test_no_more_requests_come_than_may_wait(mosquitto: LocalBroker, make_device: MakeDevice) -> None:
    """Of 25 requests 20 come, as that is our Receive Maximum; each that is acknowledged makes room for another."""
    device = make_device(mosquitto.port)
    device.online()
    with Peer(mosquitto.port) as peer:
        for n in range(25):
            peer.publish(f"{REQ}status", b"%d" % n)
        first = asked(device, OWN_RECEIVE_MAXIMUM)
        # What comes through the same connection behind them has overtaken nothing: there is no 21st on its way.
        device.link.publish([Publish(token=1, topic="t", payload=b"")])
        device.heard.codes([1])
        assert len(device.heard.all(Asked)) == OWN_RECEIVE_MAXIMUM
        device.link.handle([Acknowledge(receipts=tuple(each.receipt for each in first))])
        rest = asked(device, 5)
    assert [each.body for each in first + rest] == [b"%d" % n for n in range(25)]
    assert len({each.receipt for each in first + rest}) == 25


def test_a_request_that_nobody_answered_for_comes_again(
    mosquitto: LocalBroker, proxy: Proxy, make_device: MakeDevice
) -> None:
    """The link is cut before the second of two was acknowledged: the broker sends that one anew, and an old receipt is nobody's."""
    device = make_device(proxy.port)
    device.online()
    with Peer(mosquitto.port) as peer:
        for body in (b"kept", b"open"):
            peer.publish(f"{REQ}status", body)
        kept, left = asked(device, 2)
        device.link.handle([Acknowledge(receipts=(kept.receipt,)), Publish(token=1, topic="t", payload=b"")])
        device.heard.codes([1])
        proxy.cut()
        (again,) = asked(device, 1)
        device.link.handle([Acknowledge(receipts=(left.receipt,)), Publish(token=2, topic="t", payload=b"")])
        device.heard.codes([2])
        proxy.cut()
        (third,) = asked(device, 1)
    assert (again.body, third.body) == (b"open", b"open")
    assert again.receipt not in (0, kept.receipt, left.receipt)


def test_behind_a_request_that_waits_other_messages_come_all_the_same(
    mosquitto: LocalBroker, make_device: MakeDevice
) -> None:
    """They are heard at once; only their PUBACKs keep the order (MQTT 5 section 4.6), and leave with the request's."""
    device = make_device(mosquitto.port)
    device.online()
    device.link.handle([Listen(filter="news/+")])
    device.link.handle([Publish(token=1, topic="news/own", payload=b"")])
    assert device.heard.next(Arrived).topic == "news/own"
    with Peer(mosquitto.port) as peer:
        peer.publish(f"{REQ}status", b"{}")
        (first,) = asked(device, 1)
        for n in range(OWN_RECEIVE_MAXIMUM - 1):
            peer.publish("news/a", b"%d" % n)
            device.heard.next(Arrived)
        peer.publish("news/a", b"later")
        device.link.handle([Acknowledge(receipts=(first.receipt,))])
        assert device.heard.next(Arrived).body == b"later"


# ── listening to more ────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_published_after_listening_comes_back(mosquitto: LocalBroker, make_device: MakeDevice) -> None:
    """In one list: listen, publish, stop listening, publish; the first comes back, the second does not."""
    device = make_device(mosquitto.port)
    device.online()
    messages = [Publish(token=n, topic=STREAM, payload=b"%d" % n) for n in (1, 2)]
    device.link.handle([Listen(filter=STREAM), messages[0], Unlisten(filter=STREAM), messages[1]])
    device.heard.codes([1, 2])
    echo = device.heard.next(Arrived)
    assert (echo.topic, echo.body) == (STREAM, b"1")
    device.link.publish([Publish(token=3, topic=REQ + "x", payload=b"last")])
    device.heard.next(Asked)
    assert [event.body for event in device.heard.all(Arrived)] == [b"1"]


def test_listening_is_not_repeated_by_the_link(mosquitto: LocalBroker, proxy: Proxy, make_device: MakeDevice) -> None:
    """It was asked for on one connection: a broker that has forgotten the session is not asked again, unless the core does."""
    device = make_device(proxy.port)
    device.online()
    device.link.handle([Listen(filter=STREAM), Publish(token=1, topic=STREAM, payload=b"1")])
    device.heard.next(Arrived)
    mosquitto.restart()
    device.online()
    device.link.handle([Publish(token=2, topic=STREAM, payload=b"2"), Publish(token=3, topic=REQ + "x", payload=b"")])
    device.heard.next(Asked)
    assert [event.body for event in device.heard.all(Arrived)] == [b"1"]


def test_a_filter_that_is_refused_later_is_a_fault(make_device: MakeDevice, stack: ExitStack) -> None:
    """The link stays up; the fault names the filter."""

    def script(peer: Conversation) -> None:
        peer.greet()
        peer.send(b"\x90\x04" + peer.expect(0x80)[:2] + b"\x00\x87")
        peer.packet()

    server = stack.enter_context(Scripted(script))
    device = make_device(server.port)
    device.online()
    device.link.handle([Listen(filter=STREAM)])
    fault = device.heard.next(Faulted)
    assert fault.code == "subscription_refused"
    assert STREAM in fault.message


# ── connecting again ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_connecting_again_is_a_clean_goodbye_first(mosquitto: LocalBroker, make_device: MakeDevice) -> None:
    """What was published before it arrives, no will is published, the reason is told, and the link is up again."""
    device = make_device(mosquitto.port)
    device.online()
    with Peer(mosquitto.port, STATE) as peer:
        device.link.handle([Publish(token=1, topic=STATE, payload=b"online", retain=True), Reconnect()])
        down = device.heard.next(LinkDown, lambda event: event.status == "connecting" and bool(event.reason))
        assert (down.reason, down.cut) == ("asked to connect again", False)
        device.online()
        peer.publish(STATE, b"mark")
        assert peer.payloads(STATE, 2) == [b"online", b"mark"]
    assert device.link.reconnects == 1
    assert [event.status for event in device.heard.all(LinkDown)] == ["connecting", "connecting"]


def test_the_pause_before_it_is_kept(mosquitto: LocalBroker, make_device: MakeDevice) -> None:
    """Not before it is over; a goodbye in the pause ends it for good."""
    device = make_device(mosquitto.port)
    device.online()
    pause = 300 * MILLISECOND
    device.link.handle([Reconnect(after=Ns(pause))])
    down = device.heard.next(LinkDown, lambda event: bool(event.reason))
    assert device.online().at - down.at >= pause // 2
    device.link.handle([Reconnect(after=Ns(3600 * SECOND))])
    device.heard.next(LinkDown, lambda event: event.status == "connecting")
    device.link.handle([Disconnect()])
    device.heard.down("off")
    assert len(device.heard.all(LinkUp)) == 2


def test_an_attempt_under_way_is_begun_again(make_device: MakeDevice, stack: ExitStack) -> None:
    """While the broker has not yet answered, too: the old attempt is left, a new one follows."""

    def script(peer: Conversation) -> None:
        if peer.number > 1:
            peer.greet()
        peer.packet()

    server = stack.enter_context(Scripted(script))
    device = make_device(server.port, version="5")
    server.wait_for_connects(1)
    device.link.handle([Reconnect()])
    device.online()
    assert len(server.levels) == 2


def test_a_second_device_by_our_name_throws_us_off_and_can_be_left_alone(
    mosquitto: LocalBroker, make_device: MakeDevice
) -> None:
    """The broker ends the older connection (mosquitto 2.0 without a word); whoever stays away then is not in the other's way."""
    first = make_device(mosquitto.port)
    first.online()
    second = make_device(mosquitto.port)
    second.online()
    assert first.heard.down("lost").cut
    first.link.handle([Reconnect(after=Ns(3600 * SECOND))])
    ups = len(second.heard.all(LinkUp))
    second.link.publish([Publish(token=1, topic="t", payload=b"")])
    second.heard.codes([1])
    assert len(second.heard.all(LinkUp)) == ups


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("SEC-01", breaks="chappe.edge.mqtt.link:MqttLink.secrets_changed")
def test_a_password_that_was_replaced_is_used_after_a_reload(
    make_broker: MakeBroker, make_device: MakeDevice, tmp_path: Path
) -> None:
    """A new file and a broker that knows both: the link sees that it changed, connects again, and the broker hears the new one."""
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto_passwd is not installed")
    passwords, file = tmp_path / "passwords", tmp_path / "secret"
    file.write_text("old\n")
    subprocess.run([program, "-b", "-c", passwords, "tower", "old"], check=True, capture_output=True)
    broker = make_broker("mosquitto", extra=["allow_anonymous false", "password_file passwords"])
    device = make_device(
        broker.port,
        username="tower",
        password_file=str(file),
        password=lambda: file.read_text().strip(),
    )
    device.online()
    assert not device.link.secrets_changed()
    subprocess.run([program, "-b", passwords, "tower", "new"], check=True, capture_output=True)
    file.write_text("new\n")
    assert device.link.secrets_changed()
    broker.restart()
    device.online()
    assert not device.link.secrets_changed()
    file.unlink()
    assert not device.link.secrets_changed()


@pytest.mark.feature("SEC-01", breaks="chappe.edge.mqtt.pump:Pump._begin_again")
def test_the_next_connection_says_the_new_password(make_device: MakeDevice, stack: ExitStack, tmp_path: Path) -> None:
    """Replaced, asked to connect again: the first CONNECT had the old one, the second has the new one."""
    file = tmp_path / "secret"
    file.write_text("first-secret")
    said: list[bytes] = []

    def script(peer: Conversation) -> None:
        said.append(peer.expect(CONNECT))
        peer.greet()
        peer.packet()

    server = stack.enter_context(Scripted(script, connect=False))
    device = make_device(server.port, username="u", password_file=str(file), password=file.read_text)
    device.online()
    file.write_text("second-secret")
    assert device.link.secrets_changed()
    device.link.handle([Reconnect()])
    device.online()
    assert [words.split(b"\x00")[-1][1:] for words in said] == [b"first-secret", b"second-secret"]


# ── bytes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("ELI-10", breaks="chappe.edge.mqtt.meter:Meter.rest")
def test_every_byte_of_every_packet_is_told(mosquitto: LocalBroker, proxy: Proxy, make_device: MakeDevice) -> None:
    """What went through between us and the broker, counted on the way, is what was told, exactly, before the end was told."""
    device = make_device(proxy.port)
    device.online()
    with Peer(mosquitto.port) as peer:
        device.link.publish([Publish(token=n, topic="t", payload=bytes(10 * n)) for n in range(100)])
        device.heard.codes(range(100))
        peer.publish(f"{REQ}status", bytes(1000))
        device.heard.next(Asked)
        device.link.disconnect()
        device.heard.down("off")
    every = device.heard.all(Carried)
    assert [sum(each.sent for each in every), sum(each.received for each in every)] == proxy.carried
    assert proxy.carried[0] > 10 * sum(range(100))
    assert isinstance(device.heard.events[-1], LinkDown)
