"""A start with a backlog: how soon the first message is sent, and what the rows cost in memory, however many there are.

The daemons are those that systemd would start: ``chappe run`` in a process of its own. Time begins with the process.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from chappe.bench.memory import pss_mb
from chappe.bench.outbox.backlog import fill
from chappe.bench.outbox.children import PATIENCE_S, STOP_WITHIN_S, Child
from chappe.bench.outbox.device import Plan
from chappe.bench.outbox.figures import Figure, median
from chappe.bench.outbox.listener import Listener
from chappe.bench.outbox.setting import STATE_TOPIC, TOPIC, configuration
from chappe.edge.broker import LocalBroker
from chappe.errors import EdgeError

MOST_S = 2.0
MOST_RATIO = 1.3
MOST_MB = 10.0
FEW = 10_000
LOOK_EVERY_S = 0.1
ONLINE = b'"online"'


class Start(NamedTuple):
    """What one start took.

    Attributes:
        seconds: from the start of the process to the first message at the subscriber.
        pss: the most memory seen, MB, while the backlog drained.
    """

    seconds: float
    pss: float


class Reads(NamedTuple):
    """What was read before the first message was handed to the socket.

    Attributes:
        steps: of SQLite's virtual machine.
        read: bytes by system calls, everything that Python imports included.
    """

    steps: int
    read: int


def measure(*, many: int, some: int, rounds: int, look_s: float) -> Iterator[Figure]:
    """All figures about starts.

    Args:
        many: rows of the long backlog (a million).
        some: rows of the shorter one (100,000).
        rounds: alternations; medians count.
        look_s: how long memory is watched after the first message.
    """
    with (
        tempfile.TemporaryDirectory(prefix="chappe-bench-") as name,
        LocalBroker(Path(name), kind="mosquitto") as broker,
    ):
        grounds = {rows: _ground(Path(name), rows, broker.port) for rows in (0, some, many)}
        laps: dict[int, list[Start]] = {rows: [] for rows in grounds}
        for _ in range(rounds):
            for rows, config in grounds.items():
                laps[rows].append(_start(config, broker.port, rows, look_s))
        yield from _starts(laps, some, many)
        few = _ground(Path(name), FEW, broker.port, name="few")
        yield from _reads(_read(few, FEW), _read(grounds[many], many), many)


def _starts(laps: dict[int, list[Start]], some: int, many: int) -> Iterator[Figure]:
    empty = laps[0]
    for rows, most in ((0, None), (some, None), (many, MOST_S)):
        what = "online" if rows == 0 else "first message"
        yield median(f"start to {what}, {rows:,} rows", "s", [lap.seconds for lap in laps[rows]], most=most)
    beside = [lap.seconds / bare.seconds for lap, bare in zip(laps[some], empty, strict=True)]
    yield median(f"start, {some:,} rows / empty", "ratio", beside, most=MOST_RATIO)
    yield median("memory (Pss), empty", "MB", [lap.pss for lap in empty])
    for rows in (some, many):
        growth = [lap.pss - bare.pss for lap, bare in zip(laps[rows], empty, strict=True)]
        yield median(f"memory while {rows:,} rows drain, over empty", "MB", growth, most=MOST_MB)


def _reads(few: Reads, lots: Reads, many: int) -> Iterator[Figure]:
    yield Figure(f"SQLite steps before the first message, {FEW:,} rows", few.steps, "steps")
    # A look at the first or the last row goes through one page more per factor of about a hundred; a row costs a dozen steps.
    yield Figure(f"SQLite steps before the first message, {many:,} rows", lots.steps, "steps", most=1.1 * few.steps)
    yield Figure(f"bytes read before the first message, {FEW:,} rows", few.read, "B")
    yield Figure(f"bytes read before the first message, {many:,} rows", lots.read, "B", most=1.1 * few.read)


# ── one start ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _ground(folder: Path, rows: int, port: int, name: str = "") -> Path:
    """A configuration, and beside it what its state folder looks like at each start: with `rows` messages in it."""
    place = folder / (name or str(rows))
    place.mkdir()
    config = place / "chappe.toml"
    config.write_text(configuration(place / "state", port), encoding="utf-8")
    fill(place / "found", rows)
    return config


def _found(config: Path) -> None:
    """Put the state folder back to what an earlier boot left."""
    shutil.rmtree(config.parent / "state", ignore_errors=True)
    shutil.copytree(config.parent / "found", config.parent / "state")


def _start(config: Path, port: int, rows: int, look_s: float) -> Start:
    _found(config)
    topic, about = (TOPIC, b'"late":true') if rows else (STATE_TOPIC, ONLINE)
    with Listener(port, topic, about) as listener:
        begun = time.perf_counter()
        with _running(config) as process:
            if not listener.wait(1, PATIENCE_S) or listener.first_at is None:
                raise EdgeError(f"nothing came of a daemon with {rows} rows", remedy="run `chappe check`")
            return Start(listener.first_at - begun, _watch(process.pid, look_s))


@contextlib.contextmanager
def _running(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-m", "chappe", "run", "--config", str(config)]
    with (config.parent / "said.log").open("ab") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(STOP_WITHIN_S)


def _watch(pid: int, look_s: float) -> float:
    """The most memory that a process has within `look_s`, MB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup")
    never = threading.Event()
    looks = []
    deadline = time.perf_counter() + look_s
    while time.perf_counter() < deadline:
        never.wait(LOOK_EVERY_S)
        looks.append(pss_mb(rollup))
    return max(looks)


def _read(config: Path, rows: int) -> Reads:
    _found(config)
    plan = Plan(config=str(config), n=min(rows, 100), backlog=True, count=True)
    with Child(plan, config.parent) as child:
        done = child.hear("done")
        child.go_on()
    return Reads(int(done["steps"]), int(done["read"]))
