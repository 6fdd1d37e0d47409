"""The processes that are measured: each does one run and says what it took."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from chappe.bench.outbox.device import Plan
from chappe.bench.outbox.setting import TOPIC, WINDOW
from chappe.errors import EdgeError

PATIENCE_S = 300.0
STOP_WITHIN_S = 30.0


def run_raw(port: int, n: int) -> dict[str, float]:
    """One run of raw paho: seconds and CPU seconds."""
    words = [sys.executable, "-m", "chappe.bench.outbox.raw", str(port), TOPIC, str(n), str(WINDOW)]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=PATIENCE_S)
    if done.returncode:
        raise EdgeError(f"the raw side of the bench failed: {done.stderr.strip()[-400:]}")
    taken: dict[str, float] = json.loads(done.stdout)
    return taken


class Child:
    """The product in a process of its own; ended with the block.

    Args:
        plan: what it does.
        folder: where what it says about itself goes.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._log = folder / "said.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        words = [sys.executable, "-m", "chappe.bench.outbox.device", msgspec.json.encode(self._plan).decode()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None, "a context manager"
        if kind is not None:
            self._process.kill()
        with self._process as process:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, "a context manager"
        return self._process.pid

    def go_on(self) -> None:
        """It waits; it may go on."""
        assert self._process is not None, "a context manager"
        assert self._process.stdin is not None, "opened with a pipe"
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def hear(self, word: str) -> dict[str, Any]:
        """Its next line, which must be about `word`.

        Raises:
            EdgeError: if it says something else, ends, or says nothing for minutes.
        """
        assert self._process is not None, "a context manager"
        assert self._process.stdout is not None, "opened with a pipe"
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            line = self._process.stdout.readline() if selector.select(PATIENCE_S) else b""
        said = json.loads(line) if line else {}
        if word not in said:
            raise EdgeError(f"the daemon of the outbox bench did not come to {word!r}: {self._last_words()}")
        return dict(said)

    def _last_words(self) -> str:
        return self._log.read_text("utf-8", errors="replace")[-400:].strip() or "it said nothing"
