"""`chappe demo` as a process: real frames, real models, a real broker, real signals, a real terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chappe.core.labels import LABELS
from chappe.edge.broker import LOOPBACK, find_amqtt, find_mosquitto

from .process import WITHIN_S, Process, Socket, alive, children, environment

GESTURES = set(LABELS) - {"None"}
SIGNALS = {"BUY", "SELL", "HOLD"}


def can_connect(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1.0):
        return True
    return False


class Played:
    """One demo from beginning to end, and what was seen of it meanwhile.

    Args:
        folder: for its temporary files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.children: list[int] = []
        self.folders: list[str] = []
        self.connected_from_outside = False
        self.code: int | None = None
        self.demo = Process("demo", "--json", folder=folder)
        try:
            self._play()
        finally:
            self.demo.kill()

    def _play(self) -> None:
        self.demo.wait_for(lambda: self.seen("gesture") != set())
        self.port = next((event["port"] for event in self.demo.events if event["event"] == "demo"), 0)
        self.children = children(self.demo.pid)
        self.folders = sorted(path.name for path in self.folder.glob("chappe-demo-*"))
        self.connected_from_outside = can_connect(self.port)
        self.demo.process.send_signal(signal.SIGHUP)
        # The whole round of pictures, and the first of the next one, so that the end is a time like any other.
        self.demo.wait_for(lambda: self.seen("gesture") >= GESTURES and self.seen("signal") >= SIGNALS)
        self.code = self.demo.end(signal.SIGINT)

    def seen(self, kind: str) -> set[str]:
        """Gestures or signals so far."""
        return {event[kind] for event in self.demo.events if event["event"] == kind}

    def published(self, topic: str) -> list[dict[str, Any]]:
        """Payloads of the messages on a topic of the device."""
        return [
            event["payload"]
            for event in self.demo.events
            if event["event"] == "published" and event["topic"] == f"chappe/tower-1/{topic}"
        ]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Played:
    """The one long run: about as long as eight pictures of a second each."""
    del weights
    return Played(tmp_path_factory.mktemp("demo"))


# ── the round of pictures ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OPS-07", breaks="chappe.demo.session:Session.run")
def test_every_gesture_and_every_signal_is_seen_and_ctrl_c_ends_it_with_nothing_left(played: Played) -> None:
    """All 7 gestures, 3 signals, exit 0; no process, no port and no folder stays."""
    assert played.seen("gesture") == GESTURES
    assert played.seen("signal") == SIGNALS
    assert played.code == 0
    assert played.children
    assert not any(alive(pid) for pid in played.children)
    assert played.connected_from_outside
    assert not can_connect(played.port)
    assert played.folders
    assert list(played.folder.glob("chappe-demo-*")) == []


def test_what_was_decided_was_also_published(played: Played) -> None:
    """Each gesture is a message with the model that saw it; the signal is retained; the end is announced."""
    gestures = played.published("stream/gesture")
    assert {message["data"]["gesture"] for message in gestures} == GESTURES
    assert all(message["model"].startswith("hands-lite@") for message in gestures)
    assert [message["seq"] for message in gestures] == list(range(1, len(gestures) + 1))
    assert {message["signal"] for message in played.published("signal")} == {"-", *SIGNALS}
    assert [message["status"] for message in played.published("state")] == ["online", "stopped"]


def test_elision_can_be_seen_in_the_messages(played: Played) -> None:
    """The counter loses none; the sine says how many values each message stands for, and none is unaccounted for."""
    ticks = played.published("stream/tick")
    assert [message["data"]["value"] for message in ticks] == list(range(len(ticks)))
    assert not any("elided" in message for message in ticks)
    waves = played.published("stream/temperature")
    assert len(waves) < sum(1 + message.get("elided", {"n": 0})["n"] for message in waves) / 5
    assert all(message["data"]["unit"] == "°C" for message in waves)


def test_the_rule_is_carried_out(played: Played) -> None:
    """Thumb_Up, and only it, sets off the rule."""
    rules = [event for event in played.demo.events if event["event"] in {"gesture", "rule"}]
    before = [first["gesture"] for first, then in zip(rules, rules[1:], strict=False) if then["event"] == "rule"]
    assert set(before) == {"Thumb_Up"}


def test_a_hang_up_reads_the_same_configuration_again(played: Played) -> None:
    """SIGHUP is harmless: reloaded, nothing changed, nothing to restart for."""
    (state,) = [event for event in played.demo.events if event.get("status") == "reloaded"]
    assert (state["changed"], state["restart_required"]) == ([], [])


def test_no_fault_and_no_complaint(played: Played) -> None:
    """A demo without a single fault, on a machine without a GPIO chip; stderr holds nothing but the runtime's chatter."""
    assert [event for event in played.demo.events if event["event"] == "fault"] == []
    assert [line for line in played.demo.err if not line.startswith("INFO: ")] == []


@pytest.mark.feature("SEC-05", breaks="chappe.edge.mqtt.link:MqttLink.open")
def test_it_listens_nowhere_and_speaks_to_its_broker_alone(played: Played) -> None:
    """At every line it printed: no listening TCP socket, no UDP socket, no peer but the broker on loopback."""
    seen = played.demo.seen
    assert seen, "the link to the broker was not found, so nothing was looked at"
    assert {found for found in seen if found.listens} == set()
    assert {(found.peer_is_loopback, found.peer_port) for found in seen} == {(True, played.port)}


def test_such_a_socket_would_be_found(tmp_path: Path) -> None:
    """The look at /proc sees listeners and UDP sockets, and tells loopback from elsewhere."""
    script = (
        "import socket, sys; a = socket.create_server(('127.0.0.1', 0)); "
        "b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); b.bind(('127.0.0.1', 0)); "
        "c = socket.create_connection(a.getsockname()); print(a.getsockname()[1], flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(tmp_path)
    ) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        from .process import sockets_of

        found = sockets_of(other.pid)
        other.communicate()
    assert {(one.kind, one.listens) for one in found} == {("tcp", True), ("udp", True), ("tcp", False)}
    (link,) = [one for one in found if one.kind == "tcp" and not one.listens and one.peer_port == port]
    assert link.peer_is_loopback
    assert not Socket("tcp", "01", "0100007F:0001", "0101A8C0:0050").peer_is_loopback


# ── a socket trace of the daemon itself ──────────────────────────────────────────────────────────────────────────────

CALL = re.compile(r"\b(?P<call>connect|bind|listen|sendto)\((?P<arguments>.*)")


@pytest.mark.feature("SEC-05", breaks="chappe.edge.mqtt.link:MqttLink.open")
def test_under_a_socket_trace_run_connects_to_the_broker_alone(
    tmp_path: Path, weights: Path, checkout: Path, broker_port: int
) -> None:
    """`chappe run` with the demo's configuration: every connect, bind and sendto the kernel was asked for."""
    trace = tmp_path / "trace"
    words = ("run", "--json", "--config", checkout / "config/demo.toml", "--set", f"device.state_dir={tmp_path / 'state'}")
    more = ("--set", f"mqtt.port={broker_port}", "--set", f"models.dir={weights}")
    run = Traced(trace, *words, *more, folder=tmp_path)
    try:
        run.wait_for(lambda: any(event["event"] == "gesture" for event in run.events) and reached(run, broker_port))
        code = run.end(signal.SIGTERM)
    finally:
        run.kill()
    calls = [match for line in trace.read_text(encoding="utf-8").splitlines() if (match := CALL.search(line))]
    internet = [match for match in calls if "AF_INET" in match["arguments"]]
    assert {match["call"] for match in internet} == {"connect"}
    places = {tuple(re.findall(r'htons\((\d+)\)|inet_addr\("([^"]+)"\)', match["arguments"])) for match in internet}
    assert places == {((str(broker_port), ""), ("", "127.0.0.1"))}
    assert code == 0


def reached(run: Process, port: int) -> bool:
    """Whether a message was handed to the broker, or never will be."""
    return any(found.peer_port == port for found in run.seen) and any(e["event"] == "published" for e in run.events)


class Traced(Process):
    """A process under strace; ends when its signals do not reach strace but the program below it.

    Args:
        trace: the file that strace writes.
        words: the command line.
        folder: for temporary files and as home.
    """

    def __init__(self, trace: Path, *words: str | Path, folder: Path) -> None:
        raise NotImplementedError
