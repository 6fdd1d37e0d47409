"""What is done to a daemon and its way to the broker. Each scenario is a function that does it, undoes it and says what happened."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from chappe.bench.outage import oracle
from chappe.bench.outage.counter import Arrival, Counter
from chappe.bench.outage.daemon import DEVICE, Daemon
from chappe.bench.outage.disk import Disk
from chappe.bench.outage.judge import Course, Figures, Kill, judge, messages
from chappe.bench.outage.link import Link
from chappe.bench.outage.normal import Control
from chappe.bench.outage.plan import Plan, hold, now
from chappe.bench.outage.scratch import scratch_folder
from chappe.edge.broker import LocalBroker

STREAMS = {"first": "first", "behind": "behind"}
_UP_WITHIN_S = 30.0


@dataclass
class Stage:
    """Everything a scenario plays on; all of it is running.

    Attributes:
        disk: that the daemon's state lies on, for a power cut.
        control: the writer beside the daemon that has to lose, for a power cut.
    """

    plan: Plan
    chance: random.Random
    folder: Path
    broker: LocalBroker
    link: Link
    counter: Counter
    daemon: Daemon
    disk: Disk | None = None
    control: Control | None = None

    def snapshot(self) -> Kill:
        """SIGKILL now; what was in the store just before and is there just after."""
        seen = oracle.beside(self.daemon.state)
        at = self.daemon.kill()
        return Kill(at, oracle.copied(self.daemon.state, self.folder / "copy"), seen)

    def random_part(self) -> float:
        """Between three quarters and all of the outage, in seconds."""
        return self.plan.outage_s * self.chance.uniform(0.75, 1.0)


def refused(stage: Stage) -> Course:
    """Every connection is reset and every new one refused, as by a broker that is down."""
    stage.link.refuse()
    hold(stage.plan.outage_s)
    stage.link.heal()
    return Course(recovered=now())


def black_hole(stage: Stage) -> Course:
    """Packets vanish in both directions; nobody says so."""
    stage.link.hole()
    hold(stage.plan.outage_s)
    stage.link.heal()
    return Course(recovered=now())


def kill_outage(stage: Stage) -> Course:
    """SIGKILL late in an outage, then the link and a new boot."""
    stage.link.refuse()
    hold(stage.random_part())
    kill = stage.snapshot()
    stage.link.heal()
    return Course(recovered=stage.daemon.start(), kills=[kill])


def kill_drain(stage: Stage) -> Course:
    """SIGKILL while the backlog of an outage is being sent, then a new boot."""
    stage.link.refuse()
    hold(stage.plan.outage_s)
    before = len(stage.counter.arrivals)
    backlog = stage.plan.outage_s * stage.plan.rate_hz
    enough = before + backlog * stage.chance.uniform(0.1, 0.6)
    stage.link.heal()
    stage.counter.wait_for(lambda arrivals: len(arrivals) >= enough, _UP_WITHIN_S)
    kill = stage.snapshot()
    return Course(recovered=stage.daemon.start(), kills=[kill])


def power_cut(stage: Stage) -> Course:
    """The disk under the state folder loses its power late in an outage."""
    assert stage.disk is not None, "the stage has a disk"
    assert stage.control is not None, "the stage has a control"
    stage.link.refuse()
    hold(stage.random_part())
    seen = oracle.beside(stage.daemon.state)
    at = now()
    stage.disk.cut()
    stage.daemon.kill()
    stage.control.kill()
    stage.disk.restore()
    kill = Kill(at, oracle.copied(stage.daemon.state, stage.folder / "copy"), seen)
    stage.link.heal()
    return Course(recovered=stage.daemon.start(), kills=[kill])


SCENARIOS: dict[str, Callable[[Stage], Course]] = {
    "refused": refused,
    "black_hole": black_hole,
    "kill_outage": kill_outage,
    "kill_drain": kill_drain,
    "power_cut": power_cut,
}


@contextmanager
def stage_for(scenario: str, plan: Plan, seed: int, *, kernel: bool) -> Iterator[Stage]:
    """A broker, a link, a counter and a daemon whose first messages have arrived; all of it undone at the end."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        disk = stack.enter_context(Disk(folder)) if scenario == "power_cut" else None
        (folder / "broker").mkdir()
        broker = stack.enter_context(LocalBroker(folder / "broker", kind="mosquitto", persistence=True))
        link = stack.enter_context(Link(broker.port, kernel=kernel))
        counter = stack.enter_context(Counter(broker.port, f"chappe/{DEVICE}/stream/+", f"chappe/{DEVICE}/state"))
        state = (disk.mount if disk is not None else folder) / "state"
        daemon = Daemon(folder, state, link.host, link.port, STREAMS, plan.rate_hz)
        stack.callback(daemon.close)
        control = None
        if disk is not None:
            control = Control(disk.mount, folder, plan.rate_hz)
            stack.callback(control.close)
            control.start()
        daemon.open()
        daemon.start()
        yield Stage(plan, random.Random(seed), folder, broker, link, counter, daemon, disk, control)  # noqa: S311


def play(scenario: str, plan: Plan, seed: int, *, kernel: bool) -> list[Figures]:
    """One scenario for Chappe; one line per stream, and one for the control of a power cut."""
    with stage_for(scenario, plan, seed, kernel=kernel) as stage:
        stage.counter.wait_for(lambda arrivals: len(messages(arrivals)) > 0, _UP_WITHIN_S)
        hold(plan.clean_s)
        course = SCENARIOS[scenario](stage)
        hold(plan.tail_s)
        finish(stage, course)
        received = messages(stage.counter.arrivals)
        lines = [
            judge(name, received, course, stage.daemon.offered(name), Figures(scenario, f"Chappe, {durability}", "1"))
            for name, durability in stage.daemon.streams.items()
        ]
        return lines + ([stage.control.figures()] if stage.control is not None else [])


def finish(stage: Stage, course: Course) -> None:
    """Wait until what waited has arrived, stop the daemon cleanly, and note where it ended."""
    counter, daemon = stage.counter, stage.daemon
    waiting = {(row.stream, row.boot, row.seq) for row in oracle.beside(daemon.state)}
    waiting |= {(row.stream, row.boot, row.seq) for kill in course.kills for row in kill.rows}
    counter.settle(lambda arrivals: waiting <= ids(arrivals), stage.plan.silence_s)
    daemon.stop()
    hold(0.5)
    course.left = oracle.copied(daemon.state, stage.folder / "copy")
    course.last = goodbye(counter.arrivals)


def ids(arrivals: Sequence[Arrival]) -> set[tuple[str, str, int]]:
    """Every (stream, boot, seq) that arrived."""
    return {(message.stream, message.boot, message.seq) for message in messages(arrivals)}


def goodbye(arrivals: Sequence[Arrival]) -> dict[str, int]:
    """Last number of each stream, from the state that a clean stop leaves behind; empty without one."""
    states = [json.loads(arrival.payload) for arrival in arrivals if arrival.topic.endswith("/state")]
    stopped = [state for state in states if state.get("status") == "stopped"]
    last: dict[str, int] = stopped[-1].get("last", {}) if stopped else {}
    return last
