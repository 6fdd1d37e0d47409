"""SIGKILL by the kernel at numbered system calls of a real consumer: nothing lost, nothing twice in its own file."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chappe.edge.broker import LocalBroker

from .people import WITHIN_S, ScriptedDevice

PROGRAM = Path(__file__).with_name("killable.py")
EACH = 30
LIVES_S = 8.0
"""A run that has not come to its point by then is killed where it is."""

# The n-th of a kind, counted from the start of the process: while the file is opened, at the first commit, between commit and acknowledgement …
POINTS = [("fdatasync", 1), ("fdatasync", 5), ("pwrite64", 12), ("sendto", 4), ("fdatasync", 7), ("recvfrom", 40)]
LATEST = {"pwrite64": 40, "fdatasync": 12, "sendto": 40, "recvfrom": 150}


class Life:
    """One process after the other on one folder."""

    def __init__(self, port: int, folder: Path, *options: str) -> None:
        self.folder = folder
        self._command = [sys.executable, str(PROGRAM), str(port), str(folder), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *under: str) -> None:
        # A group of its own: what strace traces must not outlive it.
        self._process = subprocess.Popen([*under, *self._command], stderr=subprocess.DEVNULL, start_new_session=True)

    def start_to_die(self, call: str, n: int) -> None:
        only, inject = f"trace={call}", f"inject={call}:signal=SIGKILL:when={n}"
        self.start("strace", "-f", "-qq", "-o", str(self.folder / "strace.log"), "-e", only, "-e", inject)

    def dies(self) -> bool:
        """Wait until it is dead, by force if need be; whether the kernel did it."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LIVES_S)
        self.kill()
        return "killed by SIGKILL" in (self.folder / "strace.log").read_text(encoding="ascii")

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(WITHIN_S)

    def end(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(WITHIN_S)

    def stored(self) -> list[int]:
        db = sqlite3.connect(self.folder / "state.db")
        try:
            return [row[0] for row in db.execute("SELECT seq FROM got ORDER BY rowid")]
        finally:
            db.close()

    def plain(self) -> list[int]:
        return [int(line) for line in (self.folder / "plain.txt").read_text(encoding="ascii").split()]


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Callable[..., Life]]:
    """Makes processes on one folder; none outlives the test."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    made: list[Life] = []

    def make(broker: LocalBroker, *options: str) -> Life:
        made.append(Life(broker.port, tmp_path, *options))
        return made[-1]

    yield make
    for each in made:
        each.kill()


def live_and_die(one: Life, tower: ScriptedDevice, points: list[tuple[str, int]]) -> int:
    """One process after the other, each killed at its point while messages come; how many reached it.

    The broker never gets three of each thirty, and these alone are in the device's history: what the consumer loses by its own fault
    stays lost.
    """
    reached = sent = 0
    for call, n in points:
        one.start_to_die(call, n)
        numbers = tower.make(range(sent + 1, sent + EACH + 1))
        sent += EACH
        for payload in (*numbers[:10], *numbers[13:]):
            tower.forget(payload)
        tower.send([*numbers[:10], *numbers[13:], *numbers[20:25]])
        reached += one.dies()
    one.start()
    tower.send(tower.make([sent + 1]))
    tower.wait_until(lambda: {body["seq"] for body in tower.receipts} == set(range(1, sent + 2)))
    assert one.end() == 0
    return reached


@pytest.mark.feature("FLT-01", breaks="chappe.consumer.keeper:Keeper.save")
@pytest.mark.parametrize("options", [(), ("ordered",)], ids=["as they come", "ordered"])
def test_killed_at_numbered_points_nothing_is_lost_and_nothing_stored_twice(
    broker: LocalBroker, life: Callable[..., Life], options: tuple[str, ...]
) -> None:
    """What the handler writes through the connection is there exactly once; what it does elsewhere at least once, and repeated only for
    what was not committed; every message has its receipt."""
    points = POINTS[:: 2 if options else 1]
    if os.environ.get("NIGHTLY"):
        chance = random.Random(7)
        points = [(call, chance.randint(1, LATEST[call])) for call in LATEST for _ in range(25)]
    one = life(broker, *options)
    one.start()
    with ScriptedDevice(broker.port) as tower:
        first = tower.make([1])
        # What comes before there is a session is not for this consumer.
        assert any(tower.send(first) or tower.hears(1, within_s=0.2) for _ in range(100))
        assert one.end() == 0
        reached = live_and_die(one, tower, points)
    total = EACH * len(points) + 1
    stored = one.stored()
    assert Counter(stored) == Counter(range(1, total + 1))
    assert set(one.plain()) == set(range(1, total + 1))
    assert reached >= len(points) // 2, "hardly any run came to its point"
    if options:
        assert stored == sorted(stored)
