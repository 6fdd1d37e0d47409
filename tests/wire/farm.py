"""Four brokers behind one interface: mosquitto, NATS, RabbitMQ and amqtt, started on free ports of loopback and ended by process id.

Nothing of the machine's own configuration is read and nothing is left behind: each broker has a folder of its own, which goes with it.
Started by root, a broker becomes ``nobody`` (amqtt cannot: it runs in this very Python, which others may not be allowed to read); a
broker whose tests are killed dies with them.

Every broker here forbids publishing below ``forbidden/`` and allows everything else to everybody, so that one that runs already serves
most tests. Topics of tests begin with ``chappe/`` or ``probe/``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from chappe.core.units import SECOND
from chappe.edge.broker import LOOPBACK, answers, find_amqtt, find_mosquitto, free_port
from chappe.edge.host import SystemClock

FORBIDDEN = "forbidden"
AMQTT_PROGRAM = Path(__file__).with_name("amqtt_server.py")
READY_WITHIN = 90 * SECOND
"""RabbitMQ takes 7 s alone on two cores; more where others want them too."""
STOP_WITHIN_S = 30.0
_POLL_S = 0.02
_ATTEMPTS = 3
_SBIN = "/usr/sbin:/usr/local/sbin:/usr/bin:/bin"


class FarmBroker(ABC):
    """A broker in a folder of its own; a block ends it and removes the folder.

    Attributes:
        name: as options and test ids write it.
        title: as people write it.
        port: its MQTT port on loopback, the same over all restarts.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    privileged: ClassVar[bool] = False

    def __init__(self) -> None:
        self.port = 0
        self.folder = Path()
        self._clock = SystemClock()
        self._processes: list[subprocess.Popen[bytes]] = []

    # ── what each broker answers for itself ──────────────────────────────────────────────────────────────────────────

    @classmethod
    @abstractmethod
    def program(cls) -> str | None:
        """The path of its program, None where it is not installed."""

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """The version that is installed."""

    @abstractmethod
    def configure(self) -> None:
        """Choose ports and write the configuration into `folder`."""

    @abstractmethod
    def launch(self) -> None:
        """Start its processes with `spawn`; the broker itself is the last."""

    # ── its life ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def data(self) -> Path:
        """What it keeps over a restart, as far as it keeps anything."""
        return self.folder / "data"

    @property
    def pids(self) -> list[int]:
        """The process ids of what runs of it."""
        return [process.pid for process in self._processes if process.poll() is None]

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Start it on a free port and wait until it answers a CONNECT.

        Raises:
            RuntimeError: if it does not come up.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="chappe-broker-"))
        for _ in range(_ATTEMPTS):
            self.port = free_port()
            self.configure()
            if self._start():
                return
        words = self.last_words()
        self.close()
        raise RuntimeError(f"{self.title} did not come up: {words}")

    def restart(self, *, keep: bool, politely: bool = False) -> None:
        """End it and start it again on the same port.

        Args:
            keep: whether its data stay.
            politely: end it by SIGTERM, so that it can save what it likes; else by SIGKILL.

        Raises:
            RuntimeError: if it does not come back.
        """
        self.stop() if politely else self.kill()
        if not keep:
            shutil.rmtree(self.data, ignore_errors=True)
        if not self._start():
            raise RuntimeError(f"{self.title} did not come back: {self.last_words()}")

    def _start(self) -> bool:
        self.data.mkdir(exist_ok=True)
        self._hand_over()
        self.launch()
        deadline = self._clock.now() + READY_WITHIN
        while self._clock.now() < deadline and self._processes[-1].poll() is None:
            # Somebody else may have taken the port in between: what answers must not outlive our process.
            if answers(self.port):
                return self._processes[-1].poll() is None
            _wait(self._processes[-1], _POLL_S)
        self.kill()
        return False

    def stop(self) -> None:
        """End it politely, by force if that takes too long; idempotent."""
        self._signal(signal.SIGTERM)
        if self._processes and not _wait(self._processes[-1], STOP_WITHIN_S):
            self._signal(signal.SIGKILL)
        self._end_rest()

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL); idempotent."""
        self._signal(signal.SIGKILL)
        self._end_rest()

    def close(self) -> None:
        """End it and remove its folder; idempotent."""
        self.kill()
        if self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = Path()

    def last_words(self) -> str:
        """The end of what it logged."""
        try:
            lines = (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return " | ".join(lines[-3:]) or "it said nothing"

    # ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────

    def spawn(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        """Start one of its processes, with as few rights as it can do with, in the folder."""
        with (self.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [*self._reins(), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment,
                # Ctrl-C ends the tests, which then end it.
                start_new_session=True,
            )
        self._processes.append(process)

    def _reins(self) -> list[str]:
        program = setpriv()
        if program is None:
            return []
        nobody = ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"] if self._drops else []
        return [program, *nobody, "--pdeathsig", "KILL"]

    @property
    def _drops(self) -> bool:
        """Whether it becomes nobody: root started it, and the folder is one that nobody can reach."""
        reachable = all(parent.stat().st_mode & 0o001 for parent in self.folder.parents)
        return os.geteuid() == 0 and setpriv() is not None and reachable and not self.privileged

    def _hand_over(self) -> None:
        if self._drops:
            for path in [self.folder, *self.folder.iterdir()]:
                shutil.chown(path, "nobody", "nogroup")

    def _signal(self, number: signal.Signals) -> None:
        if self._processes and self._processes[-1].poll() is None:
            self._processes[-1].send_signal(number)

    def _end_rest(self) -> None:
        for process in reversed(self._processes):
            if process is not self._processes[-1]:
                process.kill()
            process.wait(STOP_WITHIN_S)
        self._processes.clear()


def setpriv() -> str | None:
    """The path of util-linux's program that starts another with fewer rights, and has it die with its parent."""
    return shutil.which("setpriv", path=_SBIN)


def _wait(process: subprocess.Popen[bytes], within_s: float) -> bool:
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


@cache
def _first_version(*command: str) -> str:
    """The first thing that looks like a version in what a command says."""
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+\.\d+", said.stdout + said.stderr)
    return found[0] if found else ""


class Mosquitto(FarmBroker):
    """Eclipse mosquitto with its store, all other limits as it ships."""

    name = "mosquitto"
    title = "mosquitto"

    @classmethod
    def program(cls) -> str | None:
        return find_mosquitto()

    @classmethod
    def version(cls) -> str:
        return _first_version(cls.program() or "mosquitto", "-h")

    def configure(self) -> None:
        (self.folder / "acl").write_text(f"topic readwrite #\ntopic deny {FORBIDDEN}/#\n", encoding="ascii")
        lines = [
            f"listener {self.port} {LOOPBACK}",
            "allow_anonymous true",
            f"acl_file {self.folder}/acl",
            "persistence true",
            f"persistence_location {self.data}/",
            "log_dest stderr",
        ]
        if os.geteuid() == 0 and not self._drops:
            # It would become user mosquitto, who may not read this folder.
            lines.append("user root")
        (self.folder / "mosquitto.conf").write_text("\n".join(lines) + "\n", encoding="ascii")

    def launch(self) -> None:
        self.spawn([self.program() or "mosquitto", "-c", str(self.folder / "mosquitto.conf")])


class Nats(FarmBroker):
    """NATS with JetStream, which its MQTT needs."""

    name = "nats"
    title = "NATS"

    @classmethod
    def program(cls) -> str | None:
        return shutil.which("nats-server") or shutil.which("nats-server", path=_SBIN)

    @classmethod
    def version(cls) -> str:
        return _first_version(cls.program() or "nats-server", "--version")

    def configure(self) -> None:
        (self.folder / "nats.conf").write_text(
            f"""\
server_name: farm
listen: "{LOOPBACK}:{free_port()}"
jetstream {{ store_dir: "{self.data}", max_file_store: 256MB, max_memory_store: 16MB }}
mqtt {{ listen: "{LOOPBACK}:{self.port}", no_auth_user: anyone }}
authorization {{
  users: [ {{ user: anyone, password: anyone, permissions: {{ publish: {{ deny: ["{FORBIDDEN}.>"] }} }} }} ]
}}
""",
            encoding="ascii",
        )

    def launch(self) -> None:
        self.spawn([self.program() or "nats-server", "-c", str(self.folder / "nats.conf")])


class RabbitMq(FarmBroker):
    """RabbitMQ with its MQTT plug-in alone, and Erlang's port mapper beside it on a port of its own.

    The packaged command insists on root or its own user, so the script behind it is started. Left to itself, RabbitMQ would start a
    port mapper on port 4369 of every address, which outlives it.
    """

    name = "rabbitmq"
    title = "RabbitMQ"

    def __init__(self) -> None:
        super().__init__()
        self._mapper_port = 0
        self._node_port = 0

    @classmethod
    def program(cls) -> str | None:
        return shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin") if shutil.which("epmd") else None

    @classmethod
    def version(cls) -> str:
        found = re.search(r"rabbitmq_server-(\d+\.\d+\.\d+)", os.path.realpath(cls.program() or ""))
        return found[1] if found else ""

    def configure(self) -> None:
        self._mapper_port, self._node_port = free_port(), free_port()
        files = {
            # Read in place of the machine's own file of this name.
            "environment.conf": "",
            "enabled_plugins": "[rabbitmq_mqtt].\n",
            "rabbitmq.conf": f"""\
listeners.tcp = none
mqtt.listeners.tcp.1 = {LOOPBACK}:{self.port}
mqtt.allow_anonymous = true
log.file = false
log.console = true
disk_free_limit.absolute = 1MB
load_definitions = {self.folder}/definitions.json
""",
            "definitions.json": json.dumps(_RABBITMQ_RIGHTS),
        }
        for name, text in files.items():
            (self.folder / name).write_text(text, encoding="ascii")

    def launch(self) -> None:
        environment = {
            "PATH": _SBIN,
            "LANG": "C.UTF-8",
            "HOME": str(self.data),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(self._mapper_port),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "environment.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_NODENAME": f"farm{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_MNESIA_BASE": str(self.data),
            "RABBITMQ_LOG_BASE": str(self.data),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            # The script then becomes the broker instead of waiting beside it, and a signal to it reaches the broker.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-noinput -kernel inet_dist_use_interface {127,0,0,1} +sbwt none",
        }
        self.spawn([shutil.which("epmd") or "epmd", "-address", LOOPBACK], environment)
        self.spawn([self.program() or "rabbitmq-server"], environment)


_RABBITMQ_RIGHTS = {
    "vhosts": [{"name": "/"}],
    "users": [{"name": "guest", "password": "guest", "tags": ""}],
    "permissions": [{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
    "topic_permissions": [
        {"user": "guest", "vhost": "/", "exchange": "amq.topic", "write": rf"^(?!{FORBIDDEN}\.)", "read": ".*"}
    ],
}


class Amqtt(FarmBroker):
    """amqtt in a process of its own, from this environment.

    Args:
        logins: clients count as logged in (with whatever they say); else, as in the demo, as anonymous.
    """

    name = "amqtt"
    title = "amqtt"
    privileged = True

    def __init__(self, *, logins: bool = False) -> None:
        super().__init__()
        self._logins = logins

    @classmethod
    def program(cls) -> str | None:
        return sys.executable if find_amqtt() else None

    @classmethod
    def version(cls) -> str:
        from importlib.metadata import version

        return version("amqtt")

    def configure(self) -> None:
        """All it needs is its address."""

    def launch(self) -> None:
        options = ["--logins"] if self._logins else []
        self.spawn([sys.executable, "-W", "ignore", str(AMQTT_PROGRAM), f"{LOOPBACK}:{self.port}", *options])


KINDS: dict[str, type[FarmBroker]] = {kind.name: kind for kind in (Mosquitto, Nats, RabbitMq, Amqtt)}
