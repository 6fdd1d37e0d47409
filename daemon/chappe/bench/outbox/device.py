"""The product, in a process of its own: the real `chappe.run.Daemon`, every part and thread of it, with the bench as the source of readings.

The bench's source puts readings where a sensor's worker puts them, into the inbox, and no faster than they get through: it waits while too many
are on their way, so that the inbox is never full. What is measured lies between the first reading and the last PUBACK in the books.

The process speaks in lines of JSON, ``warm`` (not with a backlog) and ``done``, and waits for a line after each, so that whoever started it can look
at the disk meanwhile.
"""

from __future__ import annotations

import functools
import json
import sqlite3
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from chappe.bench.outbox.setting import FIRST_VALUE, STREAM, TOPIC
from chappe.config import Loaded, loads
from chappe.core.effects import Effect, Publish
from chappe.core.engine import Engine
from chappe.core.events import Acked, Event, LinkUp, SensorRead
from chappe.run import Daemon

BATCH = 25
AHEAD = 1000
QUIET_S = 0.3


class Plan(msgspec.Struct, frozen=True):
    """What one process has to do.

    Attributes:
        config: configuration file.
        n: readings to put in; with `backlog`, messages that wait already.
        rate_hz: readings per second, 0 for as many as get through.
        backlog: put nothing in, drain what an earlier boot left.
        offline: nobody listens; readings only go to disk.
        count: count the steps of SQLite's virtual machine (slow).
    """

    config: str
    n: int
    rate_hz: int = 0
    backlog: bool = False
    offline: bool = False
    count: bool = False


class Device(Daemon):
    """A daemon that can be watched while it works.

    Args:
        loaded: the configuration.
        steps: where SQLite's steps are counted, by `count_steps`.
    """

    def __init__(self, loaded: Loaded, steps: list[int]) -> None:
        super().__init__(loaded, observe=self._see)
        self.up_at: tuple[float, float] | None = None
        self.done_at = (0.0, 0.0)
        self.before_first: dict[str, int] = {}
        self.handed = 0
        self.acked = 0
        self._steps = steps
        self._read_at_start = read_bytes()
        self._changed = threading.Condition()

    def _pass(self, engine: Engine, events: Sequence[Event]) -> None:
        super()._pass(engine, events)
        for event in events:
            if isinstance(event, Acked):
                with self._changed:
                    self.acked += len(event.items)
                    self.done_at = moment()
                    self._changed.notify_all()
            elif isinstance(event, LinkUp):
                with self._changed:
                    self.up_at = moment()
                    self._changed.notify_all()

    def _see(self, effects: Sequence[Effect]) -> None:
        handed = [effect for effect in effects if isinstance(effect, Publish)]
        self.handed += len(handed)
        if not self.before_first and any(effect.topic == TOPIC for effect in handed):
            self.before_first = {"steps": self._steps[0], "read": read_bytes() - self._read_at_start}

    def wait_acked(self, n: int) -> None:
        """Wait until `n` PUBACKs are booked."""
        with self._changed:
            self._changed.wait_for(lambda: self.acked >= n)

    def wait_quiet(self) -> None:
        """Wait until the link is up and nothing has been on its way for a while."""
        with self._changed:
            self._changed.wait_for(lambda: self.up_at is not None)
            while self._changed.wait(QUIET_S) or self.acked < self.handed:
                pass


class Source:
    """Puts readings in, from a thread of its own.

    Args:
        device: the daemon.
        plan: how many, how fast.
    """

    def __init__(self, device: Device, plan: Plan) -> None:
        self._device = device
        self._plan = plan
        self._value = FIRST_VALUE
        self._never = threading.Event()

    def start(self) -> None:
        """Start the thread; it asks the daemon to stop when all is done."""
        threading.Thread(target=self._work, name="bench-source", daemon=True).start()

    def _work(self) -> None:
        try:
            self._measure()
        finally:
            self._device.request_stop()

    def _measure(self) -> None:
        device, plan = self._device, self._plan
        if plan.backlog:
            # Nothing is put in, and nothing waits for a word: the clock runs from the link's coming up to the last PUBACK.
            device.wait_acked(plan.n)
            begun = device.up_at or (0.0, 0.0)
        elif plan.offline:
            self._settle_offline()
            begun = moment()
            self._paced()
            device.done_at = moment()
        else:
            device.wait_quiet()
            say(warm=True)
            sys.stdin.readline()
            begun, before = moment(), device.acked
            self._paced() if plan.rate_hz else self._flat_out(before)
            device.wait_acked(before + plan.n)
        wall, cpu = (end - start for start, end in zip(begun, device.done_at, strict=True))
        say(done=True, wall_s=wall, cpu_s=cpu, **device.before_first)
        sys.stdin.readline()

    def _settle_offline(self) -> None:
        self._never.wait(1.0)
        say(warm=True)
        sys.stdin.readline()

    def _flat_out(self, before: int) -> None:
        for sent in range(0, self._plan.n, BATCH):
            self._device.wait_acked(before + sent - AHEAD)
            self._put(min(BATCH, self._plan.n - sent))

    def _paced(self) -> None:
        begun = time.monotonic()
        for sent in range(self._plan.n):
            due = begun + sent / self._plan.rate_hz
            self._never.wait(max(0.0, due - time.monotonic()))
            self._put(1)

    def _put(self, n: int) -> None:
        now = self._device.clock.now()
        self._device.inbox.put_many(SensorRead(at=now, name=STREAM, value=self._value + each) for each in range(n))
        self._value += n


def moment() -> tuple[float, float]:
    """Now, and the CPU this process has used so far, in seconds."""
    return time.perf_counter(), time.process_time()


def say(**words: Any) -> None:
    """A line of JSON on stdout."""
    print(json.dumps(words), flush=True)


def read_bytes() -> int:
    """Bytes that this process has read by system calls (``rchar`` of /proc/self/io, proc(5)), 0 where unknown."""
    try:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return int(next((line.split()[1] for line in lines if line.startswith("rchar")), "0"))


def count_steps(steps: list[int]) -> None:
    """Count into `steps` every step of SQLite's virtual machine, in every connection opened from now on.

    Each row that a query reads takes several steps (https://www.sqlite.org/opcode.html), so a count that does not grow with the table says that
    its rows are not read.
    """

    def tick() -> int:
        steps[0] += 1
        return 0

    class Counting(sqlite3.Connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.set_progress_handler(tick, 1)

    sqlite3.connect = functools.partial(sqlite3.connect, factory=Counting)  # type: ignore[assignment]


def main(argument: str) -> int:
    """Run as ``python -m chappe.bench.outbox.device PLAN``, the plan in JSON."""
    plan = msgspec.json.decode(argument, type=Plan)
    steps = [0]
    if plan.count:
        count_steps(steps)
    device = Device(loads(Path(plan.config).read_text(encoding="utf-8")), steps)
    Source(device, plan).start()
    return device.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
