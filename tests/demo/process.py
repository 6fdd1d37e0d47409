"""`chappe` as a process of a test's own, its sockets and its children."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A test that waits for what never comes waits this long; shorter where that is expected (`make features-prove`).
WITHIN_S = float(os.environ.get("CHAPPE_PATIENCE_S", "60"))

LISTENING = "0A"
"""State of a listening TCP socket in /proc/net/tcp (TCP_LISTEN of the kernel's include/net/tcp_states.h)."""


class Process:
    """A command line of chappe. Its lines are read by threads; `wait_for` waits on them, never on a clock.

    Args:
        words: the command line.
        folder: for temporary files and as home.
        under: a program that runs it, for example a tracer.
    """

    def __init__(self, *words: str | Path, folder: Path, under: Sequence[str | Path] = ()) -> None:
        self.out: list[str] = []
        self.err: list[str] = []
        self.seen: set[Socket] = set()
        self._changed = threading.Condition()
        self._over = 0
        self.process = subprocess.Popen(
            [*map(str, under), sys.executable, "-m", "chappe", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=environment(folder),
        )
        self._threads = [
            threading.Thread(target=self._read, args=(pipe, lines), daemon=True)
            for pipe, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, pipe: Any, lines: list[str]) -> None:
        for line in pipe:
            sockets = sockets_of(self.pid)
            with self._changed:
                self.seen |= sockets
                lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._over += 1
            self._changed.notify_all()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was printed, as JSON."""
        return [json.loads(line) for line in list(self.out)]

    def wait_for(self, enough: Callable[[], bool]) -> bool:
        """Wait until `enough`, asked anew after every line, or until nothing more can come."""
        with self._changed:
            self._changed.wait_for(lambda: enough() or self._over == len(self._threads), WITHIN_S)
            return enough()

    def line(self, text: str) -> str:
        """Wait for a line of stdout with this text in it."""
        assert self.wait_for(lambda: any(text in line for line in self.out)), (text, self.out[-9:], self.err[-9:])
        return next(line for line in self.out if text in line)

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end; returns the exit code."""
        code = self.process.wait(WITHIN_S)
        self._join()
        return code

    def kill(self) -> None:
        """SIGKILL for it and for what it left, if anything still runs."""
        for pid in [*children(self.pid), self.pid] if self.process.poll() is None else []:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(WITHIN_S)
        self._join()

    def _join(self) -> None:
        for thread in self._threads:
            thread.join(WITHIN_S)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def environment(folder: Path) -> dict[str, str]:
    """This process's environment without the machine's own configuration, and with a home of the test's own."""
    hidden = ("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "GPIOZERO_PIN_FACTORY", "CHAPPE_CONFIG")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in hidden and not (name.startswith("CHAPPE_") and "__" in name)
    }
    return kept | {"HOME": str(folder), "TMPDIR": str(folder)}


def children(pid: int) -> list[int]:
    """The processes that a process has started and not yet buried."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def alive(pid: int) -> bool:
    """Whether a process runs (a dead one that nobody has buried yet does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass(frozen=True)
class Socket:
    """A socket of a process.

    Attributes:
        kind: the table of /proc/net it stands in: tcp, tcp6, udp, udp6, raw, packet …
        state: two hex digits, as the kernel writes them.
        local: address and port, as the kernel writes them.
        peer: the other end.
    """

    kind: str
    state: str
    local: str
    peer: str

    @property
    def listens(self) -> bool:
        """Whether others could connect to it, or send to it unasked."""
        return self.state == LISTENING or not self.kind.startswith("tcp")

    @property
    def peer_port(self) -> int:
        return int(self.peer.partition(":")[2], 16)

    @property
    def peer_is_loopback(self) -> bool:
        """127.0.0.0/8; an IPv4 address stands there in the byte order of the machine."""
        address = self.peer.partition(":")[0]
        first = address[6:8] if sys.byteorder == "little" else address[:2]
        return len(address) == 8 and first == "7F"


def sockets_of(pid: int) -> set[Socket]:
    """The Internet sockets of a process; none once it has ended."""
    found: set[Socket] = set()
    try:
        inodes = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
        for kind in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
            for line in Path(f"/proc/{pid}/net/{kind}").read_text(encoding="ascii").splitlines()[1:]:
                _, local, peer, state, _, _, _, _, _, inode, *_ = line.split()
                if f"socket:[{inode}]" in inodes:
                    found.add(Socket(kind, state, local, peer))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return found
    return found
