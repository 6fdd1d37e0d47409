"""How fast messages go through, and what CPU they take: each durability and the drain of a backlog, against raw paho in the same run."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chappe.bench.outbox.backlog import fill
from chappe.bench.outbox.children import PATIENCE_S, Child, run_raw
from chappe.bench.outbox.device import Plan
from chappe.bench.outbox.figures import Figure, beside, median
from chappe.bench.outbox.listener import Listener
from chappe.bench.outbox.setting import TOPIC, configuration
from chappe.edge.broker import LocalBroker
from chappe.errors import EdgeError

DURABILITIES = ("behind", "first", "memory")
LEAST: Mapping[str, float] = {"behind": 0.75, "drain": 0.6}


@dataclass
class Laps:
    """What one kind of run took, round by round.

    Attributes:
        rate: messages per second.
        cpu: CPU of the whole process per message, in microseconds.
    """

    rate: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, n: int, wall_s: float, cpu_s: float) -> None:
        """A run of `n` messages."""
        self.rate.append(n / wall_s)
        self.cpu.append(cpu_s / n * 1e6)


def measure(*, n: int, backlog: int, rounds: int, subscriber: bool) -> Iterator[Figure]:
    """All rates.

    Args:
        n: messages per run.
        backlog: messages of a drained backlog.
        rounds: alternations; medians count.
        subscriber: whether a subscriber with QoS 1 takes every message, on both sides alike.
    """
    raw: list[Laps] = []
    kinds = {kind: Laps() for kind in (*DURABILITIES, "drain")}
    for _ in range(rounds):
        raw.append(Laps())
        # The machine's speed drifts within seconds: every run is compared with what raw paho does just before and just after it.
        _lap_of_raw(raw[-1], n, subscriber=subscriber)
        for kind, laps in kinds.items():
            if kind == "drain":
                _lap(laps, "behind", backlog, subscriber=subscriber, drain=True)
            else:
                _lap(laps, kind, n, subscriber=subscriber)
            _lap_of_raw(raw[-1], n, subscriber=subscriber)
    yield from _figures(raw, kinds, "with a subscriber" if subscriber else "no subscriber")


def _figures(raw: list[Laps], kinds: Mapping[str, Laps], about: str) -> Iterator[Figure]:
    yield median(f"raw paho: {about}", "msgs/s", [rate for lap in raw for rate in lap.rate])
    yield median(f"raw paho, CPU: {about}", "us/msg", [cpu for lap in raw for cpu in lap.cpu])
    for index, (kind, laps) in enumerate(kinds.items()):
        rates = [beside(rate, *lap.rate[index : index + 2]) for lap, rate in zip(raw, laps.rate, strict=True)]
        costs = [beside(cpu, *lap.cpu[index : index + 2]) for lap, cpu in zip(raw, laps.cpu, strict=True)]
        yield median(f"{kind} / raw paho: {about}", "ratio", rates, least=LEAST.get(kind))
        yield median(f"{kind} / raw paho, CPU: {about}", "ratio", costs)
        yield median(f"{kind}: {about}", "msgs/s", laps.rate)
        yield median(f"{kind}, CPU: {about}", "us/msg", laps.cpu)


def _lap_of_raw(laps: Laps, n: int, *, subscriber: bool) -> None:
    with _ground(subscriber) as (_, broker, listener):
        taken = run_raw(broker.port, n)
        _arrived(listener, n)
    laps.add(n, taken["wall_s"], taken["cpu_s"])


def _lap(laps: Laps, durability: str, n: int, *, subscriber: bool, drain: bool = False) -> None:
    with _ground(subscriber) as (folder, broker, listener):
        config = folder / "chappe.toml"
        config.write_text(configuration(folder / "state", broker.port, durability=durability), encoding="utf-8")
        if drain:
            fill(folder / "state", n)
        with Child(Plan(config=str(config), n=n, backlog=drain), folder) as child:
            if not drain:
                child.hear("warm")
                child.go_on()
            done = child.hear("done")
            child.go_on()
        _arrived(listener, n)
    laps.add(n, done["wall_s"], done["cpu_s"])


def _arrived(listener: Listener | None, n: int) -> None:
    """A rate at which something was lost or repeated is none."""
    if listener is not None and not (listener.wait(n, PATIENCE_S) and n <= listener.distinct == listener.count):
        raise EdgeError(f"of {n} messages {listener.distinct} different ones arrived, {listener.count} in all")


@contextlib.contextmanager
def _ground(subscriber: bool) -> Iterator[tuple[Path, LocalBroker, Listener | None]]:
    with tempfile.TemporaryDirectory(prefix="chappe-bench-") as name, contextlib.ExitStack() as stack:
        broker = stack.enter_context(LocalBroker(Path(name), kind="mosquitto"))
        listener = stack.enter_context(Listener(broker.port, TOPIC)) if subscriber else None
        yield Path(name), broker, listener
