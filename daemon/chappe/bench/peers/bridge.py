"""mosquitto as a bridge: a broker on the device that forwards to the one upstream."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from chappe.bench.peers import install
from chappe.bench.peers.base import Peer
from chappe.bench.peers.feeders import MqttFeeder
from chappe.edge.broker import LOOPBACK, free_port

_BEST = ("max_queued_messages 0", "autosave_interval 1", "restart_timeout 1", "keepalive_interval 5")


class Bridge(Peer):
    """A mosquitto bridge.

    Args:
        folder: unused: it is the system's mosquitto.
        best: unlimited queue, a save every second, quick reconnect; else its defaults and ``persistence true``.
    """

    accepted_means = "PUBACK of the bridge"

    def __init__(self, folder: Path, *, best: bool = False) -> None:
        super().__init__(folder)
        self.name = "mosquitto bridge, best settings" if best else "mosquitto bridge, defaults"
        self._best = best
        self._port = 0
        self._feeder: MqttFeeder | None = None

    def install(self) -> str:
        return install.mosquitto_version()

    def configure(self) -> None:
        self._port = free_port()
        # Options of a bridge follow its `connection`; the others come before it.
        general = [line for line in _BEST if self._best and line.startswith(("max_", "autosave"))]
        bridge = [line for line in _BEST if self._best and line not in general]
        lines = [
            f"listener {self._port} {LOOPBACK}",
            "allow_anonymous true",
            # Started by root it would become user mosquitto, who may not write here.
            *(["user root"] if os.geteuid() == 0 else []),
            "persistence true",
            f"persistence_location {self.site.state}/",
            "log_dest stderr",
            *general,
            "connection upstream",
            f"address {self.site.host}:{self.site.port}",
            "topic bench/# out 1",
            "notifications false",
            *bridge,
        ]
        (self.site.state / "bridge.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        # The configuration was there long before the power goes.
        os.sync()

    def command(self) -> Sequence[str]:
        return [install.mosquitto(), "-c", str(self.site.state / "bridge.conf")]

    def feed(self, rate_hz: int) -> None:
        self._feeder = MqttFeeder(self._port, rate_hz, self.offered, self.accepted)
        self._feeder.start()

    def rest(self) -> None:
        if self._feeder is not None:
            self._feeder.stop()
            self._feeder = None
