"""The link comes back for ever, notices a dead one, and leaves or dies as it should."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from chappe.core.effects import Publish
from chappe.core.events import Asked, Event, Faulted, LinkDown, LinkUp
from chappe.core.units import SECOND
from chappe.edge.broker import LocalBroker, free_port
from chappe.edge.host import SystemClock

from .conftest import MakeBroker, MakeDevice, protocol_of
from .people import WITHIN_S, Device, Heard, Peer
from .proxy import Proxy
from .scripted import Conversation, Scripted

STATE = "chappe/tower-1/state"
SCALED = {"keepalive": "2s", "ack_stall": "1s", "connect_timeout": "500ms"}


def is_will(message: object) -> bool:
    return getattr(message, "payload", b"") == b"offline"


# ── coming back ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("MQT-04", breaks="chappe.edge.mqtt.backoff:Backoff.wait")
def test_the_broker_may_start_after_the_link(make_broker: MakeBroker, make_device: MakeDevice) -> None:
    """Nothing listens: `refused`, said once; two attempts later the broker is there and the link comes up."""
    port = free_port()
    device = make_device(port)
    assert "refuse" in device.heard.down("refused").reason
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        listener.bind(("127.0.0.1", port))
        listener.listen()
        listener.settimeout(WITHIN_S)
        listener.accept()[0].close()
    make_broker("mosquitto", port=port)
    device.online()
    assert [event.status for event in device.heard.all(LinkDown)] == ["connecting", "refused"]
    assert device.link.reconnects == 0


@pytest.mark.feature("MQT-06", breaks="chappe.edge.mqtt.codec:Codec.subscribe")
def test_an_empty_broker_gets_the_subscriptions_again(broker: LocalBroker, make_device: MakeDevice) -> None:
    """The broker comes back having forgotten everything; a request reaches the device all the same."""
    device = make_device(broker.port, version=protocol_of(broker))
    device.online()
    broker.restart()
    device.heard.down("lost")
    device.online()
    assert device.link.reconnects == 1
    with Peer(broker.port, protocol=protocol_of(broker)) as peer:
        peer.publish("chappe/tower-1/req/status", b"{}")
    assert device.heard.next(Asked).verb == "status"


def test_a_cut_connection_comes_back(proxy: Proxy, make_device: MakeDevice) -> None:
    """A reset is `lost`; so is each of several, and each time the link is up again within seconds."""
    device = make_device(proxy.port)
    device.online()
    for _ in range(3):
        proxy.cut()
        assert device.heard.down("lost").cut
        device.online()
    assert device.link.reconnects == 3
    assert [event.status for event in device.heard.all(LinkDown)] == ["connecting", "lost", "lost", "lost"]


def test_the_reason_changes_while_offline(proxy: Proxy, make_device: MakeDevice) -> None:
    """First `lost`, then `refused` as nothing listens there any more, then up again."""
    device = make_device(proxy.port)
    device.online()
    proxy.refuse()
    device.heard.down("lost")
    device.heard.down("refused")
    proxy.accept()
    device.online()
    assert [event.status for event in device.heard.all(LinkDown)] == ["connecting", "lost", "refused"]


# ── half-open links ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("MQT-04", breaks="chappe.edge.mqtt.session:Session._overdue")
def test_a_black_hole_is_found_by_a_missing_acknowledgement(proxy: Proxy, make_device: MakeDevice) -> None:
    """The network falls silent without a word: an unanswered publish shows it after the stall time; then the link heals."""
    device = make_device(proxy.port, **{**SCALED, "keepalive": "1h"})
    device.online()
    proxy.hold()
    device.link.publish([Publish(token=1, topic="t", payload=b"x")])
    down = device.heard.down("lost")
    assert (down.reason, down.cut) == ("no PUBACK for 1 s", False)
    proxy.resume()
    device.online()


@pytest.mark.feature("MQT-04", breaks="chappe.edge.mqtt.session:Session._overdue")
def test_a_black_hole_is_found_without_traffic(proxy: Proxy, make_device: MakeDevice) -> None:
    """Nothing is published: a ping that nobody answers shows it within two keepalives; silence afterwards is no news."""
    device = make_device(proxy.port, **{**SCALED, "keepalive": "1s"})
    device.online()
    proxy.hold()
    down = device.heard.down("lost")
    assert (down.reason, down.cut) == ("the broker does not answer pings", False)
    accepted = proxy.accepted
    assert device.heard.all(LinkDown)[-1].status == "lost"
    proxy.resume()
    device.online()
    assert proxy.accepted >= accepted
    assert [event.status for event in device.heard.all(LinkDown)] == ["connecting", "lost"]


@pytest.mark.skipif(not os.environ.get("NIGHTLY"), reason="55 s; make nightly runs it")
def test_a_black_hole_is_found_in_time_with_the_settings_as_they_are(proxy: Proxy, make_device: MakeDevice) -> None:
    """In full size: 15 s after an unanswered publish at most, 45 s where there is no traffic at all."""
    device = make_device(proxy.port)
    clock = SystemClock()
    for publishes, at_most in ((True, 15 * SECOND), (False, 45 * SECOND)):
        device.online()
        proxy.hold()
        begun = clock.now()
        if publishes:
            device.link.publish([Publish(token=1, topic="t", payload=b"x")])
        device.heard.next(LinkDown, lambda event: event.status == "lost", within_s=60)
        assert clock.now() - begun <= at_most
        proxy.resume()


@pytest.mark.skipif(not os.environ.get("NIGHTLY"), reason="a minute; make nightly runs it")
def test_a_broker_that_starts_a_minute_later_is_found(make_broker: MakeBroker, make_device: MakeDevice) -> None:
    """In full size: nothing listens for 60 s, then there is a broker, and the link is up within one more wait."""
    port = free_port()
    device = make_device(port, jitter=random.Random(4))
    device.heard.down("refused")
    assert not threading.Event().wait(60)
    make_broker("mosquitto", port=port)
    begun = SystemClock().now()
    device.online()
    assert SystemClock().now() - begun <= 4 * SECOND


@pytest.mark.feature("MQT-05", breaks="chappe.edge.mqtt.handshake:Handshake.open")
@pytest.mark.parametrize(
    "keepalive", ["2s", pytest.param("20s", marks=pytest.mark.skipif(not os.environ.get("NIGHTLY"), reason="30 s"))]
)
def test_a_device_in_a_black_hole_is_declared_offline(
    mosquitto: LocalBroker, proxy: Proxy, make_device: MakeDevice, keepalive: str
) -> None:
    """Nothing comes through any more: the broker publishes the will after one and a half keepalives (MQTT 5 section 3.1.2.10)."""
    device = make_device(proxy.port, keepalive=keepalive)
    device.online()
    with Peer(mosquitto.port, STATE) as peer:
        proxy.hold()
        assert peer.wait_for(is_will, within_s=45)[0].payload == b"offline"


def test_acknowledgements_that_keep_coming_are_no_stall(make_device: MakeDevice, stack: ExitStack) -> None:
    """A slow broker whose PUBACKs come in order, each within the stall time, is not dropped, however long the last one waits."""
    pace = threading.Event()

    def script(peer: Conversation) -> None:
        peer.greet()
        for mid in [peer.publish()[0] for _ in range(4)]:
            pace.wait(0.3)
            peer.send(b"\x40\x02" + mid.to_bytes(2))
        peer.packet()

    server = stack.enter_context(Scripted(script))
    device = make_device(server.port, ack_stall="800ms")
    device.online()
    device.link.publish([Publish(token=n, topic="t", payload=b"x") for n in range(4)])
    assert set(device.heard.codes(range(4)).values()) == {0}
    assert [event.status for event in device.heard.all(LinkDown)] == ["connecting"]


def test_a_broker_that_skips_one_is_dropped(make_device: MakeDevice, stack: ExitStack) -> None:
    """PUBACKs come in order: one that is passed over stalls the link, however many others are acknowledged."""

    def script(peer: Conversation) -> None:
        peer.greet()
        _, *rest = [peer.publish()[0] for _ in range(5)]
        for mid in rest:
            peer.send(b"\x40\x02" + mid.to_bytes(2))
        peer.packet()

    server = stack.enter_context(Scripted(script))
    device = make_device(server.port, ack_stall="300ms")
    device.online()
    device.link.publish([Publish(token=n, topic="t", payload=b"x") for n in range(5)])
    assert set(device.heard.codes(range(1, 5)).values()) == {0}
    assert "PUBACK" in device.heard.down("lost").reason


def test_a_broker_that_never_answers_the_subscribe_is_dropped(make_device: MakeDevice, stack: ExitStack) -> None:
    """CONNACK without SUBACK is not online, and not for ever."""

    def script(peer: Conversation) -> None:
        peer.send(b"\x20\x03\x00\x00\x00")
        peer.expect(0x80)
        peer.packet()

    server = stack.enter_context(Scripted(script))
    device = make_device(server.port, connect_timeout="300ms")
    assert "SUBSCRIBE" in device.heard.down("refused").reason
    assert device.heard.all(LinkUp) == []


# ── leaving and dying ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("MQT-05", breaks="chappe.edge.mqtt.session:Session.leave")
def test_a_clean_goodbye_leaves_what_was_published_last(broker: LocalBroker, make_device: MakeDevice) -> None:
    """State `stopped`, then DISCONNECT: the broker keeps it retained and publishes no will."""
    device = make_device(broker.port, version=protocol_of(broker))
    device.online()
    with Peer(broker.port, STATE, protocol=protocol_of(broker)) as peer:
        device.link.publish([Publish(token=1, topic=STATE, payload=b"stopped", retain=True)])
        device.link.disconnect()
        assert device.heard.down("off").reason == "disconnected"
        device.link.close()
        peer.publish(STATE + "/after", b"")
        peer.payloads(STATE, 1)
        assert [message.payload for message in peer.messages] == [b"stopped"]
    with Peer(broker.port, STATE, protocol=protocol_of(broker), client_id="late") as late:
        assert late.payloads(STATE, 1) == [b"stopped"]
        assert late.messages[0].retain


@pytest.mark.feature("MQT-05", breaks="chappe.edge.mqtt.codec:Codec.open")
def test_a_cut_socket_brings_the_will(mosquitto: LocalBroker, proxy: Proxy, make_device: MakeDevice) -> None:
    """The connection breaks without DISCONNECT: the broker publishes the will at once, retained."""
    device = make_device(proxy.port)
    device.online()
    with Peer(mosquitto.port, STATE) as peer:
        proxy.refuse()
        peer.wait_for(is_will)
    with Peer(mosquitto.port, STATE, client_id="late") as late:
        (message,) = late.wait_for(is_will)
    assert message.retain


def test_closing_without_a_goodbye_is_dying(mosquitto: LocalBroker, make_device: MakeDevice) -> None:
    """`close` alone cuts the connection, as a crash would."""
    device = make_device(mosquitto.port)
    device.online()
    with Peer(mosquitto.port, STATE) as peer:
        device.link.close()
        assert len(peer.wait_for(is_will)) == 1


PROGRAM = """
import random, sys, threading
from chappe.core.events import LinkUp
from chappe.core.settings import Mqtt
from chappe.edge.host import SystemClock
from chappe.edge.mqtt import MqttLink

def post_many(events):
    if any(isinstance(event, LinkUp) for event in events):
        print("online", flush=True)

link = MqttLink(
    Mqtt(port=int(sys.argv[1])), client_id="victim", subscriptions=(), request_prefix="r/", will=("victim/state", b"offline"),
    clock=SystemClock(), post=lambda event: None, post_many=post_many, password=lambda: None, jitter=random.Random(1),
)
link.open()
threading.Event().wait(20)
"""


@pytest.mark.feature("MQT-05", breaks="chappe.edge.mqtt.codec:Codec.open")
def test_a_killed_process_brings_the_will(mosquitto: LocalBroker) -> None:
    """kill -9: the kernel closes the socket and the broker tells everybody."""
    with Peer(mosquitto.port, "victim/state") as peer:
        command = [sys.executable, "-c", PROGRAM, str(mosquitto.port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
            assert victim.stdout is not None
            assert victim.stdout.readline() == "online\n"
            victim.send_signal(signal.SIGKILL)
        peer.wait_for(is_will)


def test_the_broker_says_why_it_ends_a_connection(make_device: MakeDevice, stack: ExitStack) -> None:
    """The reason in a DISCONNECT of MQTT 5 is passed on, even where our own next write finds the connection reset."""

    def script(peer: Conversation) -> None:
        peer.greet()
        peer.send(b"\xe0\x01\x8e")

    server = stack.enter_context(Scripted(script))
    device = make_device(server.port)
    device.online()
    down = device.heard.down("lost")
    assert (down.reason, down.cut) == ("the broker says: Session taken over", True)


def test_a_goodbye_before_the_broker_was_reached_ends_the_attempts(make_device: MakeDevice) -> None:
    """Disconnecting while offline is `off` at once, and nothing is tried any more."""
    device = make_device(free_port())
    device.heard.down("refused")
    device.link.disconnect()
    device.heard.down("off")
    device.link.close()
    assert device.heard.all(LinkDown)[-1].status == "off"


# ── what is left behind ──────────────────────────────────────────────────────────────────────────────────────────────


def descriptors() -> int:
    """How many sockets, pipes and selectors this process has open."""
    names = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(name.startswith(("socket:", "pipe:", "anon_inode:[eventpoll]")) for name in names)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_threads_and_descriptors_are_back_after_close(proxy: Proxy, make_device: MakeDevice) -> None:
    """Online, cut, online again, lost in a black hole, dialling, closed: everything acquired is released."""
    proxy.refuse()
    threads, files = set(threading.enumerate()), descriptors()
    proxy.accept()
    device = make_device(proxy.port, **SCALED)
    device.online()
    assert descriptors() > files
    proxy.cut()
    device.online()
    proxy.hold()
    device.link.publish([Publish(token=1, topic="t", payload=b"x")])
    device.heard.down("lost")
    device.link.close()
    device.link.close()
    proxy.refuse()
    # An attempt that was cancelled ends by itself, but not in no time.
    for thread in set(threading.enumerate()) - threads:
        thread.join(30)
    assert set(threading.enumerate()) == threads
    assert descriptors() <= files  # an earlier test's may still have been closing


def test_connecting_does_not_hold_up_closing(make_device: MakeDevice, stack: ExitStack) -> None:
    """A connect that hangs (a full backlog answers nothing) is abandoned, its thread with it."""
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    port = listener.getsockname()[1]
    for _ in range(2):
        filler = stack.enter_context(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
    device = make_device(port, connect_timeout="1h")
    device.heard.down("connecting")
    device.link.close(5)
    assert "mqtt-connect" not in {thread.name for thread in threading.enumerate()}


def test_a_bug_in_the_thread_is_a_fault_and_the_link_comes_back(
    mosquitto: LocalBroker, make_device: MakeDevice
) -> None:
    """An exception inside a pass drops the connection and starts again; the thread survives."""

    class Stumbling(Heard):
        stumbled = False

        def post_many(self, events: object) -> None:
            taken: list[Event] = list(events)  # type: ignore[call-overload]
            if not self.stumbled and any(isinstance(event, LinkUp) for event in taken):
                self.stumbled = True
                raise RuntimeError("boom")
            super().post_many(taken)

    device: Device = make_device(mosquitto.port, heard=Stumbling())
    fault = device.heard.next(Faulted)
    assert (fault.part, fault.code) == ("mqtt", "mqtt_bug")
    device.heard.down("lost")
    device.online()


# ── where it goes ────────────────────────────────────────────────────────────────────────────────────────────────────

CONNECTS: list[object] | None = None


def note_connects(event: str, arguments: tuple[object, ...]) -> None:
    if CONNECTS is not None and event == "socket.connect":
        CONNECTS.append(arguments[1])


sys.addaudithook(note_connects)


def test_it_connects_to_the_broker_and_nowhere_else(
    mosquitto: LocalBroker, make_device: MakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every connect of this process while a link works, breaks and comes back goes to the configured address."""
    monkeypatch.setitem(globals(), "CONNECTS", [])
    device = make_device(mosquitto.port)
    device.online()
    mosquitto.kill()
    device.heard.down("lost")
    device.heard.down("refused")
    device.link.close()
    assert CONNECTS
    assert set(CONNECTS) == {("127.0.0.1", mosquitto.port)}
