"""mqtt-io: its mock sensors, 200 of them read once a second, as its intervals are whole seconds."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from chappe.bench.outage import ledger
from chappe.bench.peers import install
from chappe.bench.peers.base import Peer


class MqttIo(Peer):
    """mqtt-io with as many sensors as the load needs; each value read is the next number.

    It sends sensor readings at QoS 0 and has no setting for it; only its status topic goes out at QoS 1, once a keepalive.
    """

    name = "mqtt-io, mock sensors"
    qos = "0"
    accepted_means = "read from its sensor"
    # Its status topic goes on for ever, and would never be silent.
    topics = "bench/sensor/#"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._python = Path()
        self._sensors = 0

    def install(self) -> str:
        self._python = install.mqtt_io(self.folder)
        return install.MQTT_IO

    def configure(self) -> None:
        """Nothing yet: the number of sensors comes with the load."""

    def _write(self) -> None:
        mqtt = {
            "host": self.site.host,
            "port": self.site.port,
            "topic_prefix": "bench",
            "client_id": "bench-mqtt-io",
            "clean_session": True,
            "keepalive": 5,
            "reconnect_delay": 1,
        }
        inputs = [
            {"name": f"s{n}", "module": "mock", "interval": 1, "digits": 0, "retain": False}
            for n in range(self._sensors)
        ]
        settings = {
            "mqtt": mqtt,
            "options": {"install_requirements": False},
            "sensor_modules": [{"name": "mock", "module": "mock"}],
            "sensor_inputs": inputs,
        }
        # JSON is YAML.
        (self.site.state / "config.yml").write_text(json.dumps(settings), encoding="utf-8")
        os.sync()

    def command(self) -> Sequence[str]:
        child = Path(__file__).with_name("children") / "mqttio_child.py"
        return [str(self._python), "-P", str(child), str(self.site.state / "config.yml")]

    def environment(self) -> Mapping[str, str]:
        return {
            **os.environ,
            "BENCH_LEDGER_MODULE": ledger.__file__,
            "BENCH_OFFERED": str(self.offered.path),
            "BENCH_ACCEPTED": str(self.accepted.path),
            "BENCH_FEED": str(self._pause),
        }

    @property
    def _pause(self) -> Path:
        """While this file exists it reads; it is removed for `rest`."""
        return self.site.scratch / "feeding"

    def start(self) -> None:
        """Start it once it knows its load; `feed` does so the first time."""
        if self._sensors:
            super().start()

    def feed(self, rate_hz: int) -> None:
        self._pause.touch()
        if not self._sensors:
            self._sensors = rate_hz
            self._write()
            super().start()

    def rest(self) -> None:
        self._pause.unlink(missing_ok=True)

    def number(self, body: bytes) -> int:
        return int(body) if body.isdigit() else -1
