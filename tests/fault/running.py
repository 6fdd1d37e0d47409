"""`chappe run` as a process that may be killed, and how busy the machine is meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from .borrowed import borrow

process = borrow("demo/process.py")
WITHIN_S: float = process.WITHIN_S
PAUSE_S = 0.02


class Stopwatch:
    """How long this machine makes a thread wait, and takes to bring a page to the disk: what it does to us, it does to the daemon.

    Args:
        folder: on the disk in question.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "stopwatch"
        self._late: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stopwatch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(WITHIN_S)

    def _run(self) -> None:
        before = time.monotonic()
        with self._file.open("wb", buffering=0) as file:
            while not self._over.wait(PAUSE_S):
                os.pwrite(file.fileno(), bytes(4096), 0)
                os.fdatasync(file.fileno())
                now = time.monotonic()
                self._late.append((now, now - before - PAUSE_S))
                before = now

    def worst(self, within_s: float) -> float:
        """The longest of the last seconds."""
        since = time.monotonic() - within_s
        return max((late for at, late in list(self._late) if at >= since), default=0.0)


class Running(process.Process):  # type: ignore[misc]
    """`chappe run`; what it decides stands in its log.

    Args:
        file: its configuration.
        folder: for its temporary files.
        under: programs that run it, for example a tracer.
    """

    def __init__(self, file: Path, folder: Path, under: Sequence[str | Path] = ()) -> None:
        super().__init__("run", "--config", file, folder=folder, under=under)
        self._traced = bool(under) and Path(str(under[0])).name == "strace"
        self.ready_at: float | None = None

    @property
    def tower_pid(self) -> int:
        """Of the daemon itself; a tracer is its parent."""
        try:
            return (process.children(self.pid) or [self.pid])[0] if self._traced else self.pid
        except FileNotFoundError:
            return self.pid

    def said(self, text: str, count: int = 1) -> bool:
        """Wait until a text stands in the log that often; False where it ended before."""
        return bool(self.wait_for(lambda: sum(text in line for line in list(self.err)) >= count))

    def ready(self, *, mortal: bool = False) -> bool:
        """Wait until every part is open; False where it was killed before, which only a `mortal` one may be."""
        return self._reached("state status=ready", 1, mortal=mortal)

    def online(self, times: int = 1, *, mortal: bool = False) -> bool:
        """Wait until it has been connected that often; False where it was killed before, which only a `mortal` one may be."""
        return self._reached("link status=online", times, mortal=mortal)

    def _reached(self, text: str, times: int, *, mortal: bool) -> bool:
        there = self.said(text, times)
        assert there or mortal, (text, self.err[-20:])
        if there and self.ready_at is None:
            self.ready_at = time.time()
        return there

    def strike(self) -> float:
        """SIGKILL; returns when."""
        at = time.time()
        if self.process.poll() is None:
            os.kill(self.tower_pid, signal.SIGKILL)
        self.process.wait(WITHIN_S)
        self._join()
        return at

    def dies(self, within_s: float) -> bool:
        """Wait for its death by another's hand; whether it came."""
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def terminate(self) -> None:
        """SIGTERM, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.tower_pid, signal.SIGTERM)

    def stop(self) -> float:
        """SIGTERM; returns how many seconds it took to end, which it must do by itself and well."""
        began = time.monotonic()
        self.terminate()
        code = self.wait()
        assert code == 0, (code, self.err[-20:])
        return time.monotonic() - began

    def descriptors(self) -> tuple[int, int]:
        """How many files it has open and how many threads it runs."""
        home = Path(f"/proc/{self.tower_pid}")
        return len(list((home / "fd").iterdir())), len(list((home / "task").iterdir()))
