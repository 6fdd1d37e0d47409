"""What the link promises, on every broker: mosquitto, NATS, RabbitMQ, amqtt. What differs between them is in `test_brokers_table`."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from chappe.core.effects import Acknowledge, Publish
from chappe.core.events import Acked, Asked, LinkDown
from chappe.core.units import as_seconds
from chappe.edge.broker import answers
from chappe.edge.host import SystemClock

from . import farm
from .broker_process import FarmBroker, setpriv
from .farm import KINDS, RabbitMq
from .ground import Ground
from .people import WITHIN_S, Device
from .proxy import Proxy

MESSAGES, EXTRA = 500, 60
PARTS = 8 if os.environ.get("NIGHTLY") else 2


LOOPBACK_4, LOOPBACK_6 = "0100007F", "00000000000000000000000001000000"
MQTT, AMQP, NATS, PORT_MAPPER = 1883, 5672, 4222, 4369


# ── coming and going ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("MQT-01", breaks="chappe.edge.mqtt.versions:Versions.failed")
def test_the_link_speaks_the_best_the_broker_knows(ground: Ground) -> None:
    """MQTT 5 where it is known, 3.1.1 where it is refused, hung up on or met with silence; nobody has to configure it."""
    clock = SystemClock()
    since = clock.now()
    device = ground.link(version="auto")
    assert device.online().protocol == ground.protocol
    print(f"{ground.broker.title}: online with {ground.protocol} after {as_seconds(clock.now() - since):.2f} s")
    assert {event.status for event in device.heard.all(LinkDown)} <= {"connecting", "refused"}


def test_who_dies_leaves_a_will(ground: Ground) -> None:
    """The connection breaks without a goodbye: the will is published, and retained for who comes later."""
    state = ground.topic("state")
    watcher = ground.peer(state)
    device = ground.link()
    device.online()
    device.link.close()
    assert watcher.payloads(state, 1) == [b"offline"]
    (late,) = ground.peer(state).wait_for(lambda message: message.topic == state)
    assert (late.payload, late.retain) == (b"offline", True)


def test_who_says_goodbye_leaves_none(ground: Ground) -> None:
    """`stopped`, then DISCONNECT: that is the last word, now and for who comes later."""
    state = ground.topic("state")
    watcher = ground.peer(state)
    device = ground.link()
    device.online()
    device.link.publish([Publish(token=1, topic=state, payload=b"stopped", retain=True)])
    device.link.disconnect()
    device.heard.down("off")
    device.link.close()
    watcher.payloads(state, 1)
    ground.settle(watcher)
    assert [message.payload for message in watcher.messages if message.topic == state] == [b"stopped"]
    assert ground.peer(state).payloads(state, 1) == [b"stopped"]


# ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_last_values_are_replaced_and_cleared(ground: Ground) -> None:
    """Who subscribes later gets the newest `signal`; after an empty payload, nothing."""
    signal_ = ground.topic("signal")
    device = ground.link()
    device.online()
    publish(device, (1, signal_, b"BUY"), (2, signal_, b"SELL"))
    late = ground.peer(signal_)
    late.payloads(signal_, 1)
    ground.settle(late)
    assert [(m.payload, m.retain) for m in late.messages if m.topic == signal_] == [(b"SELL", True)]
    publish(device, (3, signal_, b""))
    assert not ground.reaches(signal_, ground.peer(signal_), hoped=False)


def publish(device: Device, *messages: tuple[int, str, bytes]) -> None:
    """Publish these retained, and wait for the PUBACKs."""
    device.link.publish(
        [Publish(token=token, topic=topic, payload=data, retain=True) for token, topic, data in messages]
    )
    device.heard.codes([token for token, _, _ in messages])


def test_sixty_kilobytes_arrive_whole(ground: Ground) -> None:
    """A payload of 60 kB is neither refused nor cut."""
    topic, data = ground.topic("stream/big"), os.urandom(60_000)
    watcher = ground.peer(topic)
    device = ground.link()
    device.online()
    device.link.publish([Publish(token=1, topic=topic, payload=data)])
    assert device.heard.codes([1]) == {1: 0}
    assert watcher.payloads(topic, 1) == [data]


def test_messages_stay_complete_and_in_order_through_cuts(ground: Ground, stack: ExitStack) -> None:
    """500 messages while the connection is cut on the way: after the repeats are dropped, each once, in order, none missing.

    The test does what the core does: what is unacknowledged when the link dies is offered again, oldest first, when it is back. Where
    the broker loses what it has acknowledged, the order must still be right, and how much it lost is said.
    """
    proxy = stack.enter_context(Proxy(ground.broker.port))
    topic = ground.topic("stream/t")
    watcher = ground.peer(topic)
    device = ground.link(port=proxy.port)
    waiting = dict.fromkeys(range(MESSAGES))
    for part in range(1, PARTS + 1):
        device.online()
        until = MESSAGES * part // PARTS
        device.link.publish([Publish(token=n, topic=topic, payload=b"%d" % n) for n in waiting if n < until + EXTRA])
        while MESSAGES - len(waiting) < until:
            for ack in device.heard.next(Acked).items:
                waiting.pop(ack.token, None)
        if part < PARTS:
            proxy.cut()
            device.heard.down("lost")
    assert device.link.reconnects == PARTS - 1
    watcher.wait_for(lambda message: message.payload == b"%d" % (MESSAGES - 1))
    got = list(dict.fromkeys(int(message.payload) for message in watcher.messages if message.topic == topic))
    missing = sorted(set(range(MESSAGES)) - set(got))
    assert got == sorted(got)
    assert ground.can.keeps_acknowledged is False or not missing
    print(f"{ground.broker.title}: {len(missing)} of {MESSAGES} lost by the broker after their PUBACK")


# ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_requests_come_in_order(ground: Ground) -> None:
    """A hundred requests: each once, in the order they were sent, none marked as retained."""
    device = ground.link()
    device.online()
    bodies = [b"%d" % number for number in range(100)]
    ground.post(ground.topic("req/status"), *bodies)
    asked = [heard_and_taken(device) for _ in bodies]
    assert [each.body for each in asked] == bodies
    assert {(each.verb, each.retained) for each in asked} == {("status", False)}


def heard_and_taken(device: Device) -> Asked:
    """The next request, which the broker may forget now; it sends no more than twenty at a time."""
    asked = device.heard.next(Asked)
    device.link.handle([Acknowledge(receipts=(asked.receipt,))])
    return asked


# ── the farm itself ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_listens_on_loopback_alone(farmed: FarmBroker) -> None:
    """Every listening socket of its processes is bound to a loopback address, and none to a port that others may want."""
    if not Path("/proc/net/tcp").exists():
        pytest.skip("needs /proc")
    links = [entry for pid in farmed.pids for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
    sockets = {str(link.readlink()) for link in links}
    bound = {
        (fields[1].split(":")[0], int(fields[1].split(":")[1], 16))
        for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
        for fields in (line.split() for line in table.read_text(encoding="ascii").splitlines()[1:])
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets
    }
    assert {address for address, _ in bound} in ({LOOPBACK_4}, {LOOPBACK_4, LOOPBACK_6})
    assert farmed.port in {port for _, port in bound}
    assert not {port for _, port in bound} & {MQTT, AMQP, NATS, PORT_MAPPER}


def test_it_has_no_rights_it_does_not_need(farmed: FarmBroker) -> None:
    """Started by root it has become nobody; amqtt alone, which runs in this Python, stays what the tests are."""
    users = {Path(f"/proc/{pid}").stat().st_uid for pid in farmed.pids}
    if os.geteuid() == 0 and not farmed.privileged:
        assert 0 not in users
    else:
        assert users == {os.geteuid()}


@pytest.mark.parametrize("name", [name for name in KINDS if name != RabbitMq.name])
def test_a_closed_broker_leaves_nothing(name: str) -> None:
    """No process, no port, no folder; closing again is no error. (RabbitMQ, slow to start, takes the same way.)"""
    kind = KINDS[name]
    if not kind.program():
        pytest.skip(f"{kind.title} is not installed")
    with kind() as broker:
        port, pids, folder = broker.port, broker.pids, broker.folder
        broker.stop()
        assert not answers(port)
        broker.restart(keep=True)
    broker.close()
    assert not answers(port)
    assert not folder.exists()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_a_broker_dies_with_its_tests(tmp_path: Path) -> None:
    """A test run that is killed leaves no broker behind."""
    if not KINDS["mosquitto"].program() or not setpriv():
        pytest.skip("needs mosquitto and setpriv")
    code = "import sys; from wire.farm import Mosquitto as M; m = M(); m.open(); print(m.pids[0], flush=True); sys.stdin.read()"
    folder = str(Path(__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Its folder stays behind, so it goes where the tests' own are.
        env={
            **os.environ,
            "TMPDIR": str(tmp_path),
            "PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")]),
        },
    ) as tests:
        assert tests.stdout is not None
        pid = int(tests.stdout.readline())
        ended = os.pidfd_open(pid)
        tests.send_signal(signal.SIGKILL)
    assert select.select([ended], [], [], WITHIN_S)[0]
    os.close(ended)


def test_a_broker_that_cannot_start_says_why() -> None:
    """Its last words are in the error; neither a process nor the folder is left."""
    made: list[tuple[FarmBroker, Path]] = []

    class Broken(farm.Mosquitto):
        def configure(self) -> None:
            made.append((self, self.folder))
            super().configure()
            with (self.folder / "mosquitto.conf").open("a", encoding="ascii") as file:
                file.write("no_such_option 1\n")

    if not Broken.program():
        pytest.skip("mosquitto is not installed")
    with pytest.raises(RuntimeError, match="no_such_option"):
        Broken().open()
    assert [(broker.pids, folder.exists()) for broker, folder in made] == [([], False)] * len(made)
