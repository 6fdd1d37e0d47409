"""Four brokers behind one interface: mosquitto, NATS, RabbitMQ and amqtt, started on free ports of loopback and ended by process id.

Nothing of the machine's own configuration is read and nothing is left behind: each broker has a folder of its own, which goes with it.
Started by root, a broker becomes ``nobody`` (amqtt cannot: it runs in this very Python, which others may not be allowed to read); a
broker whose tests are killed dies with them.

Every broker here forbids publishing below ``forbidden/`` and on any device's stream ``forbidden``, and allows everything else to
everybody, so that one that runs already serves most tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

from chappe.edge.broker import LOOPBACK, find_amqtt, find_mosquitto, free_port

from .broker_process import SBIN, FarmBroker, first_version

FORBIDDEN = "forbidden"
AMQTT_PROGRAM = Path(__file__).with_name("amqtt_server.py")


class Mosquitto(FarmBroker):
    """Eclipse mosquitto with its store, all other limits as it ships.

    Args:
        more: further lines of its configuration.
    """

    name = "mosquitto"
    title = "mosquitto"

    def __init__(self, *more: str) -> None:
        super().__init__()
        self._more = more

    @classmethod
    def program(cls) -> str | None:
        return find_mosquitto()

    @classmethod
    def version(cls) -> str:
        return first_version(cls.program() or "mosquitto", "-h")

    def configure(self) -> None:
        rights = ["topic readwrite #", f"topic deny {FORBIDDEN}/#", f"topic deny chappe/+/stream/{FORBIDDEN}"]
        (self.folder / "acl").write_text("\n".join(rights) + "\n", encoding="ascii")
        lines = [
            f"listener {self.port} {LOOPBACK}",
            "allow_anonymous true",
            f"acl_file {self.folder}/acl",
            "persistence true",
            f"persistence_location {self.data}/",
            "log_dest stderr",
            *self._more,
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
        return shutil.which("nats-server") or shutil.which("nats-server", path=SBIN)

    @classmethod
    def version(cls) -> str:
        return first_version(cls.program() or "nats-server", "--version")

    def configure(self) -> None:
        (self.folder / "nats.conf").write_text(
            f"""\
server_name: farm
listen: "{LOOPBACK}:{free_port()}"
jetstream {{ store_dir: "{self.data}", max_file_store: 256MB, max_memory_store: 16MB }}
mqtt {{ listen: "{LOOPBACK}:{self.port}", no_auth_user: anyone }}
authorization {{
  users: [ {{ user: anyone, password: anyone, permissions: {{ publish: {{ deny: ["{FORBIDDEN}.>", "chappe.*.stream.{FORBIDDEN}"] }} }} }} ]
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
    slow = True

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
            "PATH": SBIN,
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


_RABBITMQ_MAY = rf"^(?!{FORBIDDEN}\.|chappe\.[^.]+\.stream\.{FORBIDDEN}$)"
_RABBITMQ_RIGHTS = {
    "vhosts": [{"name": "/"}],
    "users": [{"name": "guest", "password": "guest", "tags": ""}],
    "permissions": [{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
    "topic_permissions": [
        {"user": "guest", "vhost": "/", "exchange": "amq.topic", "write": _RABBITMQ_MAY, "read": ".*"}
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
