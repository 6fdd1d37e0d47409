"""`chappe run --json` as a process whose lines can be waited for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A test that waits for what never comes waits this long; shorter where that is expected (`make features-prove`).
WITHIN_S = float(os.environ.get("CHAPPE_PATIENCE_S", "60"))


class Daemon:
    """A daemon process. Its JSON lines are read by a thread; `wait_for` waits on them, never on a clock.

    Args:
        file: its configuration.
        options: further options of `chappe run`.
    """

    def __init__(self, file: Path, *options: str) -> None:
        self.lines: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self.file = file
        self._changed = threading.Condition()
        self._over = False
        # The owner's configuration in the environment does not leak in; how a test run is set up does.
        own = {name for name in os.environ if name.startswith("CHAPPE_") and ("__" in name or name == "CHAPPE_CONFIG")}
        environment = {name: value for name, value in os.environ.items() if name not in own}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chappe", "run", "--json", "--config", str(file), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._complain, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _complain(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line)

    def wait_for(
        self, event: str, count: int = 1, where: Callable[[dict[str, Any]], bool] | None = None, **fields: Any
    ) -> dict[str, Any]:
        """The line of the `count`-th event of a kind with these fields."""

        def found() -> list[dict[str, Any]]:
            return [
                line
                for line in self.lines
                if line["event"] == event
                and all(line.get(name) == value for name, value in fields.items())
                and (where is None or where(line))
            ]

        with self._changed:
            self._changed.wait_for(lambda: len(found()) >= count or self._over, WITHIN_S)
            assert len(found()) >= count, f"no {event} {fields}: {self.lines[-5:]} {self.errors[-5:]}"
            return found()[count - 1]

    def ready(self) -> None:
        """Wait until every part is open."""
        self.wait_for("state", status="ready")

    def published(self, topic: str, count: int = 1) -> dict[str, Any]:
        """The payload of the `count`-th message handed to the broker on a topic of this device."""
        payload: dict[str, Any] = self.wait_for("published", count, topic=f"chappe/tower-1/{topic}")["payload"]
        return payload

    def send(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end and wait; returns the exit code."""
        self.send(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; returns the exit code."""
        code = self.process.wait(WITHIN_S)
        self._join()
        return code

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(WITHIN_S)
        self._join()

    def _join(self) -> None:
        for thread in self._threads:
            thread.join(WITHIN_S)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
