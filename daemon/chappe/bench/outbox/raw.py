"""What everything is compared with: paho-mqtt as it is, in its fastest form, in a process of its own.

One thread, own loop, MQTT 5, QoS 1, paho's own count of inflight messages off (it costs a scan of all of them at each PUBACK), one window of
messages unacknowledged. Nothing is kept, nothing is numbered, nothing is counted but PUBACKs.
"""

from __future__ import annotations

import json
import select
import sys
import time
from typing import Any

FILLER = b"|" + b"x" * 191


class Raw:
    """One run.

    Args:
        port: of the broker, on loopback.
        topic: to publish on.
        n: messages, 200 bytes each: eight digits, a stroke, filler.
        window: most unacknowledged messages.
    """

    def __init__(self, port: int, topic: str, n: int, window: int) -> None:
        self._port = port
        self._topic = topic
        self._n = n
        self._window = window
        self._up = False
        self._acked = 0
        self._client: Any = None

    def run(self) -> dict[str, float]:
        """Connect and publish.

        Returns:
            Seconds from the first publish to the last PUBACK, and the CPU of the process in between.
        """
        self._connect()
        wall, cpu = time.perf_counter(), time.process_time()
        self._publish()
        return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}

    def _connect(self) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        client = Client(CallbackAPIVersion.VERSION2, client_id="bench-raw", protocol=MQTTProtocolVersion.MQTTv5)
        client.max_inflight_messages_set(0)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.connect("127.0.0.1", self._port)
        sock = client.socket()
        assert sock is not None, "connect() has made it"
        sock.setblocking(False)
        self._client = client
        while not self._up:
            self._turn()

    def _publish(self) -> None:
        client, topic = self._client, self._topic
        sent = 0
        while self._acked < self._n:
            while sent < self._n and sent - self._acked < self._window:
                client.publish(topic, b"%08d" % sent + FILLER, 1)
                sent += 1
            self._turn()

    def _turn(self) -> None:
        client = self._client
        sock = client.socket()
        readable, writable, _ = select.select([sock], [sock] if client.want_write() else [], [], 1.0)
        if writable:
            client.loop_write()
        if readable:
            client.loop_read()

    def _on_connect(self, *_: Any) -> None:
        self._up = True

    def _on_publish(self, *_: Any) -> None:
        self._acked += 1


def main(arguments: list[str]) -> None:
    """Run as ``python -m chappe.bench.outbox.raw PORT TOPIC N WINDOW``; one line of JSON on stdout."""
    port, topic, n, window = arguments
    print(json.dumps(Raw(int(port), topic, int(n), int(window)).run()))


if __name__ == "__main__":
    main(sys.argv[1:])
