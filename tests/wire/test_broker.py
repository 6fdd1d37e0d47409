"""The local broker: up when it says so, on loopback alone, gone when it should be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chappe.edge import broker as module
from chappe.edge.broker import LocalBroker, answers, find_amqtt, find_mosquitto, free_port
from chappe.errors import Exit, LinkError

from .conftest import MakeBroker, protocol_of
from .people import Peer


def test_it_answers_when_it_is_open_and_not_after(broker: LocalBroker) -> None:
    """`open` returns when a CONNECT is answered; after `stop` neither process nor port is left."""
    pid = broker.pid
    assert pid is not None
    assert answers(broker.port)
    broker.stop()
    broker.stop()
    assert not answers(broker.port)
    assert not Path(f"/proc/{pid}").exists()
    assert broker.pid is None


def listening() -> set[tuple[str, int]]:
    """(hexadecimal address, port) of every listening TCP socket here."""
    found = set()
    for table in ("tcp", "tcp6"):
        path = Path("/proc/net") / table
        for line in path.read_text(encoding="ascii").splitlines()[1:] if path.exists() else []:
            local, state = line.split()[1], line.split()[3]
            if state == "0A":
                address, port = local.rsplit(":", 1)
                found.add((address, int(port, 16)))
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc")
def test_it_listens_on_loopback_alone(broker: LocalBroker) -> None:
    """Its one port is bound to 127.0.0.1."""
    assert {address for address, port in listening() if port == broker.port} == {"0100007F"}


def test_a_restarted_broker_has_forgotten(broker: LocalBroker) -> None:
    """Restarted on the same port, without what was retained."""
    port, protocol = broker.port, protocol_of(broker)
    with Peer(port, protocol=protocol) as peer:
        peer.publish("kept", b"x", retain=True)
        peer.publish("kept", b"x", retain=True)
    first = broker.pid
    broker.restart()
    assert (broker.port, broker.pid != first) == (port, True)
    with Peer(port, "kept", "mark", protocol=protocol, client_id="other") as peer:
        peer.publish("mark", b"")
        peer.payloads("mark", 1)
        assert [message.topic for message in peer.messages] == ["mark"]


def test_with_persistence_it_remembers(make_broker: MakeBroker) -> None:
    """mosquitto with its store keeps retained messages over a clean restart."""
    broker = make_broker("mosquitto", persistence=True)
    with Peer(broker.port) as peer:
        peer.publish("kept", b"x", retain=True)
    broker.stop()
    broker.open()
    with Peer(broker.port, "kept") as peer:
        assert peer.payloads("kept", 1) == [b"x"]


def test_it_says_what_it_is(broker: LocalBroker) -> None:
    """One line with kind and address; amqtt's limits are part of it."""
    line = broker.describe()
    assert line.startswith(f"{broker.kind} on {broker.host}:{broker.port}")
    assert ("no durable sessions" in line) == (broker.kind == "amqtt")


def test_a_fixed_port_is_kept(make_broker: MakeBroker) -> None:
    """`port` names the port."""
    port = free_port()
    assert make_broker("mosquitto", port=port).port == port


def test_a_taken_port_is_an_error(make_broker: MakeBroker, tmp_path: Path) -> None:
    """A fixed port that somebody else has ends in a `LinkError`, and no process is left."""
    taken = make_broker("mosquitto")
    folder = tmp_path / "second"
    folder.mkdir()
    second = LocalBroker(folder, kind="mosquitto", port=taken.port)
    with pytest.raises(LinkError, match=str(taken.port)):
        second.open()
    assert second.pid is None


def test_without_any_broker_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither mosquitto nor amqtt: exit 69 and how to get one."""
    monkeypatch.setattr(module, "find_mosquitto", lambda: None)
    monkeypatch.setattr(module, "find_amqtt", lambda: False)
    with pytest.raises(LinkError, match="apt install mosquitto") as caught:
        LocalBroker(tmp_path).open()
    assert (caught.value.exit_code, caught.value.retriable) == (Exit.UNAVAILABLE, False)


def test_amqtt_stands_in_for_mosquitto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where mosquitto is missing, the same call gives amqtt."""
    if not find_amqtt():
        pytest.skip("amqtt is not installed")
    monkeypatch.setattr(module, "find_mosquitto", lambda: None)
    with LocalBroker(tmp_path) as broker:
        assert broker.kind == "amqtt"
        assert answers(broker.port)


def test_mosquitto_is_found_where_debian_puts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/usr/sbin and /usr/local/sbin are searched though PATH does not name them."""
    program = tmp_path / "mosquitto"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(module, "_SBIN", (str(tmp_path),))
    assert find_mosquitto() == str(program)
    monkeypatch.setattr(module, "_SBIN", ())
    assert find_mosquitto() is None


PARENT = """
import sys
from pathlib import Path
from chappe.edge.broker import LocalBroker
broker = LocalBroker(Path(sys.argv[1]), kind="amqtt")
broker.open()
print(broker.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd")
def test_amqtt_does_not_outlive_its_parent(tmp_path: Path) -> None:
    """The process that started it is killed: it goes too."""
    if not find_amqtt():
        pytest.skip("amqtt is not installed")
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    import select

    poll = select.poll()
    poll.register(child, select.POLLIN)
    ended = poll.poll(20_000)
    os.close(child)
    assert ended
