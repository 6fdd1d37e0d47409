"""A broker as processes of its own: started with as few rights as it can do with, waited for, ended by process id."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from chappe.core.units import SECOND
from chappe.edge.broker import answers, free_port
from chappe.edge.host import SystemClock

READY_WITHIN = 90 * SECOND
"""RabbitMQ takes 7 s alone on two cores; more where others want them too."""
STOP_WITHIN_S = 30.0
SBIN = "/usr/sbin:/usr/local/sbin:/usr/bin:/bin"
_POLL_S = 0.02
_ATTEMPTS = 3


class FarmBroker(ABC):
    """A broker in a folder of its own; a block ends it and removes the folder.

    Attributes:
        name: as options and test ids write it.
        title: as people write it.
        privileged: whether it keeps the rights of who starts it.
        slow: whether it takes seconds to start.
        port: its MQTT port on loopback, the same over all restarts.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    privileged: ClassVar[bool] = False
    slow: ClassVar[bool] = False

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
    return shutil.which("setpriv", path=SBIN)


def _wait(process: subprocess.Popen[bytes], within_s: float) -> bool:
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


@cache
def first_version(*command: str) -> str:
    """The first thing that looks like a version in what a command says."""
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+\.\d+", said.stdout + said.stderr)
    return found[0] if found else ""
