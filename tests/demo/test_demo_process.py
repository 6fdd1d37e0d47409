"""`chappe demo` as a process: real frames, real models, a real broker, real signals, a real terminal."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chappe.core.labels import LABELS
from chappe.edge.broker import LOOPBACK, LocalBroker, find_amqtt

from .process import WITHIN_S, Process, Socket, alive, children, environment, sockets_of

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
    before = [first["gesture"] for first, then in itertools.pairwise(rules) if then["event"] == "rule"]
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
        found = sockets_of(other.pid)
        other.communicate()
    assert {(one.kind, one.listens) for one in found} == {("tcp", True), ("udp", True), ("tcp", False)}
    (link,) = [one for one in found if one.kind == "tcp" and not one.listens and one.peer_port == port]
    assert link.peer_is_loopback
    assert not Socket("tcp", "01", "0100007F:0001", "0101A8C0:0050").peer_is_loopback


# ── a socket trace of the daemon itself ──────────────────────────────────────────────────────────────────────────────

CALL = re.compile(r"\b(?P<call>connect|bind|listen|sendto|sendmsg)\((?P<arguments>.*)")
# Data on a link that exists names no address; whatever names one, or makes a TCP or UDP socket listen, does.
INTERNET = re.compile(r"AF_INET|AF_PACKET|^\d+<(?:TCP|UDP)")
PLACE = re.compile(r'htons\((?P<port>\d+)\).*inet_addr\("(?P<address>[^"]+)"\)')


def internet_calls(trace: str) -> list[tuple[str, str]]:
    """Each (call, arguments) by which a program reached for the network."""
    found = [(match["call"], match["arguments"]) for line in trace.splitlines() if (match := CALL.search(line))]
    return [
        (call, arguments)
        for call, arguments in found
        if INTERNET.search(arguments) and (not call.startswith("send") or "AF_" in arguments)
    ]


@pytest.mark.feature("SEC-05", breaks="chappe.edge.mqtt.link:MqttLink.open")
def test_under_a_socket_trace_the_daemon_connects_to_its_broker_alone(
    tmp_path: Path, weights: Path, checkout: Path
) -> None:
    """`chappe run` with the demo's configuration: every connect, bind, listen and send that the kernel was asked for."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    tracer = ("strace", "-D", "-f", "-qq", "-yy", "-e", "trace=network", "-o", trace)
    with LocalBroker(tmp_path) as broker:
        keys = (f"mqtt.port={broker.port}", f"device.state_dir={tmp_path / 'state'}", f"models.dir={weights}")
        options = [word for key in keys for word in ("--set", key)]
        run = Process(
            "run", "--json", "--config", checkout / "config/demo.toml", *options, folder=tmp_path, under=tracer
        )
        try:
            # Something published and something seen; or five gestures, which is long enough for the one to follow the other.
            run.wait_for(lambda: {"gesture", "published"} <= set(kinds_of(run)) or kinds_of(run).count("gesture") > 4)
            code = run.end(signal.SIGTERM)
        finally:
            run.kill()
    calls = internet_calls(trace.read_text(encoding="utf-8"))
    places = [PLACE.search(arguments) for _, arguments in calls]
    assert {call for call, _ in calls} == {"connect"}
    assert {place and (place["address"], int(place["port"])) for place in places} == {(LOOPBACK, broker.port)}
    assert code == 0


def kinds_of(run: Process) -> list[str]:
    """The kind of every event so far."""
    return [event["event"] for event in run.events]


def test_such_calls_would_be_found() -> None:
    """The trace is read right: data on a link and Unix sockets are no reach for the network, all else is."""
    lines = """\
    7 connect(3<TCP:[1]>, {sa_family=AF_INET, sin_port=htons(1883), sin_addr=inet_addr("127.0.0.1")}, 16) = 0
    7 sendto(3<TCP:[127.0.0.1:5->127.0.0.1:1883]>, "x", 1, 0, NULL, 0) = 1
    7 bind(4<UNIX-STREAM:[2]>, {sa_family=AF_UNIX, sun_path="s"}, 5) = 0
    7 listen(4<UNIX-STREAM:[2,"s"]>, 5) = 0
    8 listen(5<TCP:[0.0.0.0:80]>, 5) = 0
    8 sendto(6<UDP:[3]>, "x", 1, 0, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("1.1.1.1")}, 16) = 1
    8 connect(7<TCPv6:[4]>, {sa_family=AF_INET6, sin6_port=htons(443)}, 28 <unfinished ...>
    """
    assert [call for call, _ in internet_calls(lines)] == ["connect", "listen", "sendto", "connect"]


# ── other ways to begin and to end ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def demo(tmp_path: Path, weights: Path) -> Iterator[Any]:
    """Starts `chappe demo` with some options."""
    del weights
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> Process:
            process = Process("demo", *options, folder=tmp_path)
            stack.callback(process.kill)
            return process

        yield start


def test_plain_lines_on_amqtt_and_the_brokers_death_does_not_end_it(demo: Any, tmp_path: Path) -> None:
    """No terminal, no mosquitto: lines; the link is lost and said to be, gestures go on; SIGTERM ends it with 0."""
    if not find_amqtt():
        pytest.skip("amqtt is not installed")
    plain = demo("--broker", "amqtt")
    port = int(re.search(r"amqtt on 127\.0\.0\.1:(\d+) ", plain.line("broker  "))[1])
    assert plain.line("mosquitto_sub").strip() == f"mosquitto_sub -h 127.0.0.1 -p {port} -t 'chappe/#' -v"
    plain.line("online, MQTT 3.1.1")
    (broker,) = children(plain.pid)
    os.kill(broker, signal.SIGKILL)
    plain.line("link     lost")
    heard = len(plain.out)
    assert plain.wait_for(lambda: any(" gesture " in line for line in plain.out[heard:]))
    assert plain.end(signal.SIGTERM) == 0
    assert plain.out[-4].startswith("stream ")
    assert not can_connect(port)
    assert list(tmp_path.glob("chappe-demo-*")) == []


def test_it_ends_by_itself_after_so_many_seconds(demo: Any, tmp_path: Path) -> None:
    """--seconds is a clean stop like any other."""
    short = demo("--json", "--seconds", "0.5")
    assert short.wait() == 0
    assert short.events[0]["event"] == "demo"
    assert {"event": "state", "status": "stopping"} in short.events
    assert list(tmp_path.glob("chappe-demo-*")) == []


def test_a_reader_that_has_seen_enough_ends_it(tmp_path: Path, weights: Path) -> None:
    """`chappe demo --json | head -2`: exit 0, no traceback, nothing left."""
    del weights
    command = [sys.executable, "-m", "chappe", "demo", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(tmp_path)
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["event"] == "demo"
        process.stdout.close()
        complaints = [line for line in process.stderr if not line.startswith("INFO: ")]
        assert process.wait(WITHIN_S) == 0
    assert complaints == []
    assert list(tmp_path.glob("chappe-demo-*")) == []


class Terminal:
    """A terminal of 80 columns and 24 lines, with a demo on it.

    Args:
        folder: for its temporary files.
    """

    def __init__(self, folder: Path) -> None:
        self.written = ""
        self._until = time.monotonic() + WITHIN_S
        self._over = False
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [sys.executable, "-m", "chappe", "demo"], environment(folder) | {"TERM": "xterm"})
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    @property
    def text(self) -> str:
        """What was written, without colours and movements of the cursor."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.written)

    def read(self, wanted: str) -> bool:
        """Read until `wanted` has been written, or nothing more comes."""
        while wanted not in self.text and not self._over and (left := self._until - time.monotonic()) > 0:
            if select.select([self._master], [], [], left)[0]:
                try:
                    self.written += os.read(self._master, 65536).decode("utf-8", "replace")
                except OSError:  # how Linux says that nobody is left on the other side
                    self._over = True
        return wanted in self.text

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    def hang_up(self) -> None:
        """The window is closed."""
        os.close(self._master)
        self._master = -1

    def wait(self) -> int:
        """Read to the end; returns the exit code."""
        if self._master >= 0:
            self.read("\0")
        with contextlib.suppress(ProcessLookupError):
            watchdog = threading.Timer(max(0.0, self._until - time.monotonic()), os.kill, (self.pid, signal.SIGKILL))
            watchdog.start()
            try:
                status = os.waitpid(self.pid, 0)[1]
            finally:
                watchdog.cancel()
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """Nothing of it is left, however the test went."""
        if self._master >= 0:
            self.hang_up()
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)
            os.waitpid(self.pid, 0)


@pytest.fixture
def terminal(tmp_path: Path, weights: Path) -> Iterator[Terminal]:
    """A terminal with a demo on it."""
    del weights
    with warnings.catch_warnings():
        # Python warns of forks beside other threads; this one does nothing but turn into another program.
        warnings.simplefilter("ignore", DeprecationWarning)
        opened = Terminal(tmp_path)
    yield opened
    opened.close()


def test_on_a_terminal_it_is_drawn_in_place_and_ctrl_c_gives_the_terminal_back(
    terminal: Terminal, tmp_path: Path
) -> None:
    """80 columns are kept, nothing of TFLite's chatter shows, the cursor is back, exit 0."""
    assert terminal.read("gesture  Closed_Fist 0."), terminal.text[-2000:]
    assert terminal.read("stream/gesture"), terminal.text[-2000:]
    terminal.press(b"\x03")
    assert terminal.wait() == 0
    shown = terminal.text.replace("^C", "")  # the terminal's own echo
    assert max(map(len, re.split(r"[\r\n]+", shown))) <= 80
    assert "INFO:" not in terminal.text
    assert "● blue" in terminal.text
    assert terminal.written.rfind("\x1b[?25h") > terminal.written.rfind("\x1b[?25l") > 0
    assert list(tmp_path.glob("chappe-demo-*")) == []


def test_closing_the_terminal_ends_it(terminal: Terminal, tmp_path: Path) -> None:
    """A window that is closed leaves no demo behind."""
    assert terminal.read("lamps"), terminal.text[-2000:]
    terminal.hang_up()
    assert terminal.wait() == 0
    assert list(tmp_path.glob("chappe-demo-*")) == []
