"""Node-RED: lines over TCP in, MQTT out at QoS 1 with a session that the broker keeps."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from chappe.bench.peers import install
from chappe.bench.peers.base import TOPIC, Peer
from chappe.bench.peers.feeders import LineFeeder
from chappe.edge.broker import LOOPBACK, free_port

_SETTINGS = """module.exports = {{
  flowFile: "flows.json", uiHost: "{host}", uiPort: {port}, credentialSecret: false,
  editorTheme: {{ tours: false }}, telemetry: {{ enabled: false, updateNotification: false }},
  logging: {{ console: {{ level: "info", metrics: false, audit: false }} }}
}}
"""


class NodeRed(Peer):
    """Node-RED with a flow of two nodes."""

    name = "Node-RED, mqtt out QoS 1"
    accepted_means = "written to its TCP socket"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._script = Path()
        self._port = 0
        self._feeder: LineFeeder | None = None

    def install(self) -> str:
        self._script = install.node_red(self.folder)
        return install.node_red_version(self.folder)

    def configure(self) -> None:
        self._port = free_port()
        settings = _SETTINGS.format(host=LOOPBACK, port=free_port())
        (self.site.state / "settings.js").write_text(settings, encoding="utf-8")
        (self.site.state / "flows.json").write_text(json.dumps(self._flow()), encoding="utf-8")
        os.sync()

    def _flow(self) -> list[dict[str, object]]:
        broker: dict[str, object] = {
            "id": "broker",
            "type": "mqtt-broker",
            "broker": self.site.host,
            "port": str(self.site.port),
            "clientid": "bench-node-red",
            "autoConnect": True,
            "usetls": False,
            "protocolVersion": "4",
            "keepalive": "5",
            "cleansession": False,
        }
        lines: dict[str, object] = {
            "id": "lines",
            "type": "tcp in",
            "z": "flow",
            "server": "server",
            "host": "",
            "port": str(self._port),
            "datamode": "stream",
            "datatype": "utf8",
            "newline": "\\n",
            "topic": "",
            "trim": True,
            "base64": False,
            "wires": [["out"]],
        }
        out: dict[str, object] = {
            "id": "out",
            "type": "mqtt out",
            "z": "flow",
            "topic": TOPIC,
            "qos": "1",
            "broker": "broker",
            "wires": [],
        }
        return [{"id": "flow", "type": "tab", "label": "bench"}, broker, lines, out]

    def command(self) -> Sequence[str]:
        return ["node", str(self._script.resolve()), "--userDir", str(self.site.state)]

    def feed(self, rate_hz: int) -> None:
        self._feeder = LineFeeder(self._port, rate_hz, self.offered, self.accepted)
        self._feeder.start()

    def rest(self) -> None:
        if self._feeder is not None:
            self._feeder.stop()
            self._feeder = None
