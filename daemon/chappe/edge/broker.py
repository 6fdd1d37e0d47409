"""A broker of one's own on loopback: mosquitto when it is installed, else amqtt in a process of its own.

The demo uses it so that nothing needs to be installed or plugged in, and tests use it to have a broker they may kill. It is no
part of the daemon: `chappe run` talks to the owner's broker. Websockets are never switched on: mosquitto 2.0.11 binds a
websockets listener to every address, whatever the configuration says.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

from chappe.core.units import SECOND
from chappe.edge.host import Clock, SystemClock
from chappe.errors import LinkError

LOOPBACK = "127.0.0.1"
Kind = Literal["mosquitto", "amqtt"]

_SBIN = ("/usr/sbin", "/usr/local/sbin")
_READY_WITHIN = 20 * SECOND
_POLL_S = 0.02
_PORTS_TO_TRY = 3
_REMEDY = "install mosquitto (`sudo apt install mosquitto`) or the demo's extra (`pip install 'chappe[demo]'`)"

# CONNECT, MQTT 3.1.1, clean session, keepalive 10 s, client id "ready" (MQTT 3.1.1 section 3.1): every broker here answers it.
_CONNECT = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x0a\x00\x05ready"
_CONNACK = b"\x20\x02"
_DISCONNECT = b"\xe0\x00"


def find_mosquitto() -> str | None:
    """Path of the mosquitto program, or None; Debian puts it where an ordinary user's PATH does not look."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=os.pathsep.join(_SBIN))


def find_amqtt() -> bool:
    """Whether amqtt can be imported by this Python."""
    from importlib.util import find_spec

    return find_spec("amqtt") is not None


def free_port() -> int:
    """A TCP port that was free on loopback a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether nobody listens on `port` of loopback."""
    with socket.socket() as probe:
        # As brokers do: connections of a listener that has gone do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def answers(port: int, timeout_s: float = 1.0) -> bool:
    """Whether something on `port` answers an MQTT CONNECT with a CONNACK, be it a refusal."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout_s) as link:
            link.sendall(_CONNECT)
            answer = link.recv(4)
            link.sendall(_DISCONNECT)
    except OSError:
        return False
    return answer.startswith(_CONNACK)


class LocalBroker:
    """A broker on loopback, ended with the block.

    Args:
        folder: where its configuration, log and (with `persistence`) its store go; must exist.
        kind: which broker; None takes mosquitto where it is installed, else amqtt.
        port: fixed port; 0 takes a free one at `open`.
        persistence: whether mosquitto keeps retained messages and sessions over a restart.
        extra: further lines for mosquitto's configuration; later lines win over the generated ones.
        clock: limits the wait for readiness.
    """

    def __init__(
        self,
        folder: Path,
        *,
        kind: Kind | None = None,
        port: int = 0,
        persistence: bool = False,
        extra: Sequence[str] = (),
        clock: Clock | None = None,
    ) -> None:
        self.port = port
        self._folder = folder
        self._wanted = kind
        self._fixed_port = port != 0
        self._persistence = persistence
        self._extra = tuple(extra)
        self._clock = clock or SystemClock()
        self._kind: Kind = "mosquitto"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return LOOPBACK

    @property
    def kind(self) -> Kind:
        """Which broker runs."""
        return self._kind

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def describe(self) -> str:
        """The broker, its address and what it cannot do, in one line for people."""
        note = " (MQTT 3.1.1, no durable sessions)" if self._kind == "amqtt" else ""
        return f"{self._kind} on {LOOPBACK}:{self.port}{note}"

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def open(self) -> None:
        """Start it and wait until it answers a CONNECT.

        Raises:
            LinkError: if no broker is installed, or it does not come up.
        """
        self._kind = self._choose()
        if self._fixed_port and not is_free(self.port):
            raise LinkError(f"port {self.port} is in use by somebody else", remedy="stop that, or name another port")
        for left in reversed(range(1 if self._fixed_port else _PORTS_TO_TRY)):
            if not self._fixed_port:
                self.port = free_port()
            self._spawn()
            if self._came_up():
                return
            self.kill()
            if not left:
                raise LinkError(f"the local {self._kind} on port {self.port} did not come up: {self._last_words()}")

    def _choose(self) -> Kind:
        if self._wanted != "amqtt" and find_mosquitto():
            return "mosquitto"
        if self._wanted != "mosquitto" and find_amqtt():
            return "amqtt"
        raise LinkError(
            f"{self._wanted or 'no broker'} is not installed on this machine", remedy=_REMEDY, retriable=False
        )

    def _spawn(self) -> None:
        with self._log_path.open("wb") as log:
            # A session of its own: Ctrl-C must reach the daemon alone, which then says goodbye to a broker that still listens.
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self._folder, start_new_session=True
            )

    @property
    def _log_path(self) -> Path:
        return self._folder / f"{self._kind}.log"

    def _command(self) -> list[str]:
        if self._kind == "amqtt":
            return [sys.executable, "-W", "ignore", "-m", "chappe.edge.broker", f"{LOOPBACK}:{self.port}"]
        path = self._folder / "mosquitto.conf"
        path.write_text("\n".join(self._configuration()) + "\n", encoding="utf-8")
        return [find_mosquitto() or "mosquitto", "-c", str(path)]

    def _configuration(self) -> list[str]:
        lines = [
            f"listener {self.port} {LOOPBACK}",
            "allow_anonymous true",
            "max_queued_messages 0",
            "max_inflight_messages 100",
            f"persistence {'true' if self._persistence else 'false'}",
            "log_dest stderr",
        ]
        if self._persistence:
            lines.append(f"persistence_location {self._folder}/")
        if os.geteuid() == 0:
            # Started by root it would become user mosquitto, who may not read this folder.
            lines.append("user root")
        return [*lines, *self._extra]

    def _came_up(self) -> bool:
        deadline = self._clock.now() + _READY_WITHIN
        while self._clock.now() < deadline:
            if answers(self.port):
                return self.pid is not None
            if self._ended(within_s=_POLL_S):
                return False
        return False

    def _ended(self, within_s: float) -> bool:
        if self._process is None:
            return True
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return lines[-1] if lines else "it said nothing"
        return "it left no log"

    def stop(self) -> None:
        """End it politely (SIGTERM), and by force if it does not go; idempotent."""
        self._signal(signal.SIGTERM)
        if not self._ended(within_s=5.0):
            self.kill()
        self._forget()

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL); idempotent."""
        self._signal(signal.SIGKILL)
        self._ended(within_s=5.0)
        self._forget()

    def restart(self) -> None:
        """Kill it and start it again on the same port; without `persistence` it has forgotten everything."""
        self.kill()
        self._fixed_port = True
        self.open()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _forget(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._process = None


def _run_amqtt(address: str, orders: IO[bytes]) -> None:
    import asyncio

    asyncio.run(_serve_amqtt(address, orders))


async def _serve_amqtt(address: str, orders: IO[bytes]) -> None:
    import asyncio

    from amqtt.broker import Broker

    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ending.set)
    # The parent holds the other end and never writes: end of file means that it is gone, even if it was killed.
    loop.add_reader(orders.fileno(), ending.set)
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": address}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    await ending.wait()
    await broker.shutdown()


if __name__ == "__main__":
    _run_amqtt(sys.argv[1], sys.stdin.buffer)
