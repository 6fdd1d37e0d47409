"""A real ``chappe run`` in a process of its own, with sensors whose every value stands in a ledger."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chappe.bench.outage import plugin
from chappe.bench.outage.ledger import Ledger
from chappe.bench.outage.plan import now
from chappe.edge.control import SOCKET, call
from chappe.errors import EdgeError, LinkError

DEVICE = "bench"
FILLER = "x" * 90
"""A unit that makes an envelope about 200 bytes long."""
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 30.0
_READY = b"state status=ready"


class Daemon:
    """One device over all its boots.

    Args:
        folder: configuration, ledgers and what the daemon says; outside the disk that is cut.
        state: its state folder.
        host, port: where it finds the broker.
        streams: durability of each stream; a sensor of the same name feeds it.
        rate_hz: values per second, over all streams.
        mqtt: further lines of ``[mqtt]``.
        each: further lines of every ``[streams.*]``.
    """

    def __init__(
        self,
        folder: Path,
        state: Path,
        host: str,
        port: int,
        streams: Mapping[str, str],
        rate_hz: int,
        *,
        mqtt: str = "",
        each: str = "",
    ) -> None:
        self.state = state
        self.streams = dict(streams)
        self.ledgers = {name: Ledger(folder / f"{name}.ledger") for name in streams}
        self._folder = folder
        self._where = f'[mqtt]\nhost = "{host}"\nport = {port}\n{mqtt}'
        self._every_ms = max(1, round(1000 * len(streams) / rate_hz))
        self._each = each
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._heard = threading.Event()
        self._ready_at = 0

    def open(self) -> None:
        """Write the configuration and open the ledgers; starts nothing."""
        plugin.describe(self._folder / "plugin")
        for ledger in self.ledgers.values():
            ledger.open()
        self._config.write_text(self._text(), encoding="utf-8")

    @property
    def _config(self) -> Path:
        return self._folder / "chappe.toml"

    @property
    def _log(self) -> Path:
        return self._folder / "said.log"

    def _text(self) -> str:
        text = f'[device]\nid = "{DEVICE}"\nstate_dir = "{self.state}"\n{self._where}'
        for name, durability in self.streams.items():
            text += (
                f'[sensors.{name}]\ndriver = "{plugin.NAME}"\nevery = "{self._every_ms}ms"\nunit = "{FILLER}"\n'
                f'options = {{ ledger = "{self.ledgers[name].path}" }}\n'
                f'[streams.{name}]\nclass = "log"\ndurability = "{durability}"\n{self._each}'
            )
        return text

    def start(self) -> int:
        """Start it; returns when it said that it is ready, monotonic nanoseconds.

        Raises:
            EdgeError: if it ends, or does not become ready.
        """
        self._ready_at = 0
        self._heard.clear()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chappe", "run", "--config", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self._environment(),
        )
        self._listener = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._listener.start()
        self._heard.wait(READY_WITHIN_S)
        if not self._ready_at:
            raise EdgeError(f"chappe run did not become ready: {self.last_words()}")
        return self._ready_at

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr as lines, self._log.open("ab", buffering=0) as log:
            for line in lines:
                log.write(line)
                if _READY in line and not self._ready_at:
                    self._ready_at = now()
                    self._heard.set()
        self._heard.set()

    def _environment(self) -> dict[str, str]:
        own = {name for name in os.environ if name.startswith("CHAPPE_") and ("__" in name or name == "CHAPPE_CONFIG")}
        environment = {name: value for name, value in os.environ.items() if name not in own}
        path = [str(self._folder / "plugin"), environment.get("PYTHONPATH", "")]
        return environment | {"PYTHONPATH": os.pathsep.join(filter(None, path))}

    def last_words(self) -> str:
        """The end of what it wrote."""
        with contextlib.suppress(OSError):
            return self._log.read_text("utf-8", errors="replace")[-600:]
        return "it said nothing"

    def kill(self) -> int:
        """SIGKILL; returns when."""
        assert self._process is not None, "start() comes first"
        if self._process.poll() is not None:
            raise EdgeError(f"chappe run ended by itself: {self.last_words()}")
        self._process.kill()
        at = now()
        self._ended()
        return at

    def _ended(self) -> None:
        """Reap it and everything it still had to say."""
        if self._process is not None:
            self._process.wait()
        if self._listener is not None:
            self._listener.join()
            self._listener = None

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if it does not go; idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._ended()

    def ask(self, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask the running daemon through its socket; the data of its answer, empty where there is none."""
        try:
            data: dict[str, Any] = call(self.state / SOCKET, verb, body).get("data", {})
        except LinkError:
            return {}
        return data

    def offered(self, stream: str) -> Sequence[int]:
        """When each value of a stream was offered."""
        return self.ledgers[stream].times()

    def unplug(self, unplugged: bool = True) -> None:
        """The sensors read nothing any more, or again."""
        for ledger in self.ledgers.values():
            ledger.seal(unplugged)

    def close(self) -> None:
        """Stop it and close the ledgers; idempotent."""
        self.stop()
        for ledger in self.ledgers.values():
            ledger.close()
