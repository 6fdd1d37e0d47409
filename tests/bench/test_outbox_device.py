"""The bench's device and source: readings only as fast as they get through, and a clock that stands between the first and the last of them."""

from __future__ import annotations

import io
import json
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chappe.bench.outbox import begin, children, device, rates, wear
from chappe.bench.outbox.device import AHEAD, BATCH, Device, Plan, Source
from chappe.bench.outbox.setting import FIRST_VALUE, STREAM, TOPIC, configuration
from chappe.config import loads
from chappe.core.effects import Publish
from chappe.core.engine import Engine
from chappe.core.events import Ack, Acked, Event, LinkUp, SensorRead, Tick
from chappe.core.units import Ns
from chappe.edge.inbox import Inbox
from chappe.errors import EdgeError

DOCS = sorted((Path(__file__).resolve().parents[2] / "docs").glob("*.md"))


class Idle:
    """An engine that wants nothing and gives nothing."""

    def step(self, event: Event) -> list[Any]:
        return []


IDLE = cast("Engine", Idle())


@pytest.fixture
def idle_device(tmp_path: Path) -> Device:
    """A device that is not running: its passes are ours to make."""
    return Device(loads(configuration(tmp_path / "state", 9)), [0])


def message(token: int, topic: str = TOPIC) -> Publish:
    return Publish(token=token, topic=topic, payload=b"{}")


# ── what the device notes ────────────────────────────────────────────────────────────────────────────────────────────


def test_every_puback_is_counted_and_the_last_one_stops_the_clock(idle_device: Device) -> None:
    idle_device._pass(IDLE, [Acked(at=Ns(1), items=(Ack(1), Ack(2)))])
    first = idle_device.done_at
    idle_device._pass(IDLE, [Tick(at=Ns(2)), Acked(at=Ns(2), items=(Ack(3),))])
    assert idle_device.acked == 3
    assert idle_device.done_at > first
    last = idle_device.done_at
    idle_device._pass(IDLE, [Tick(at=Ns(3))])
    assert idle_device.done_at == last


def test_the_clock_of_a_drain_starts_when_the_link_is_up(idle_device: Device) -> None:
    idle_device._pass(IDLE, [Tick(at=Ns(1))])
    assert idle_device.up_at is None
    idle_device._pass(IDLE, [LinkUp(at=Ns(2), protocol="5", window=100)])
    assert idle_device.up_at is not None
    assert idle_device.up_at <= device.moment()


def test_what_was_read_is_noted_at_the_first_message_of_the_stream_and_then_no_more(idle_device: Device) -> None:
    """What goes out before, as the state, is not what a backlog is about."""
    idle_device._steps[0] = 7
    idle_device._see([message(1, "chappe/bench/state")])
    assert idle_device.before_first == {}
    idle_device._see([message(2, "chappe/bench/info"), message(3)])
    assert idle_device.before_first["steps"] == 7
    idle_device._steps[0] = 8
    idle_device._see([message(4)])
    assert idle_device.before_first["steps"] == 7
    assert idle_device.handed == 4


def test_quiet_is_when_everything_handed_over_has_come_back(
    idle_device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "QUIET_S", 0.01)
    quiet = threading.Event()

    def wait() -> None:
        idle_device.wait_quiet()
        quiet.set()

    threading.Thread(target=wait, daemon=True).start()
    idle_device._see([message(1), message(2)])
    idle_device._pass(IDLE, [LinkUp(at=Ns(1), protocol="5", window=100), Acked(at=Ns(1), items=(Ack(1),))])
    assert not quiet.wait(0.1)
    idle_device._pass(IDLE, [Acked(at=Ns(2), items=(Ack(2),))])
    assert quiet.wait(20.0)


# ── the source ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Sluggish:
    """A device that gets one batch through each time somebody waits for it, and notes how full its inbox became.

    Args:
        step: how many readings get through at a time.
    """

    def __init__(self, step: int) -> None:
        self.acked = 0
        self.values: list[float] = []
        self.most = 0
        self.inbox = SimpleNamespace(put_many=self._put)
        self.clock = SimpleNamespace(now=lambda: Ns(5))
        self.stopped = False
        self.before_first: dict[str, int] = {}
        self.up_at = (1.0, 2.0)
        self.done_at = (3.0, 2.5)
        self._step = step

    def _put(self, events: Sequence[SensorRead]) -> None:
        for event in events:
            assert (event.name, event.at) == (STREAM, 5)
            self.values.append(cast("float", event.value))
        self.most = max(self.most, len(self.values) - self.acked)

    def wait_acked(self, n: int) -> None:
        while self.acked < n:
            assert self.acked < len(self.values), "waits for what was never put in"
            self.acked = min(len(self.values), self.acked + self._step)

    def wait_quiet(self) -> None:
        pass

    def request_stop(self) -> None:
        self.stopped = True


def work(sluggish: Sluggish, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n"))
    monkeypatch.setattr(sys, "stdout", said)
    Source(cast("Device", sluggish), plan)._work()
    return [json.loads(line) for line in said.getvalue().splitlines()]


@pytest.mark.parametrize("n", [1, BATCH, BATCH + 1, 3 * AHEAD + 7])
@pytest.mark.parametrize("step", [1, 13, 400])
def test_never_more_is_on_its_way_than_the_inbox_holds(n: int, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly readings get through, the inbox is not filled, each reading is put in once, and all are waited for."""
    slow = Sluggish(step)
    said = work(slow, Plan(config="", n=n), monkeypatch)
    assert slow.values == [FIRST_VALUE + each for each in range(n)]
    assert slow.most <= AHEAD + BATCH < _inbox_limit()
    assert slow.acked == n
    assert [set(words) & {"warm", "done"} for words in said] == [{"warm"}, {"done"}]
    assert slow.stopped


def _inbox_limit() -> int:
    defaults = Inbox.__init__.__defaults__
    assert defaults is not None
    return int(defaults[0])


def test_a_backlog_is_drained_without_a_reading_and_timed_from_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    drained = Sluggish(1)
    drained.values = [0.0] * 10
    (done,) = work(drained, Plan(config="", n=10, backlog=True), monkeypatch)
    assert (done["wall_s"], done["cpu_s"]) == (2.0, 0.5)
    assert (drained.acked, drained.most) == (10, 0)


def test_a_paced_source_keeps_to_its_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """One reading at a time, each at its moment of the grid, so that a late one does not push the others back."""
    clock = [100.0]
    waits: deque[float] = deque()

    class Never:
        def wait(self, seconds: float) -> None:
            waits.append(round(seconds, 6))
            clock[0] += seconds + (0.003 if len(waits) == 2 else 0.0)

    monkeypatch.setattr(device.time, "monotonic", lambda: clock[0])
    paced = Sluggish(1)
    source = Source(cast("Device", paced), Plan(config="", n=4, rate_hz=200))
    source._never = cast("threading.Event", Never())
    source._paced()
    assert list(waits) == [0.0, 0.005, 0.002, 0.005]
    assert len(paced.values) == 4


def test_a_source_that_fails_ends_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Sluggish(1)
    monkeypatch.setattr(broken, "wait_quiet", _raise)
    with pytest.raises(EdgeError):
        work(broken, Plan(config="", n=1), monkeypatch)
    assert broken.stopped


def _raise() -> None:
    raise EdgeError("broken")


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def speaking(line: str) -> Callable[..., list[str]]:
    return lambda *_, **__: [sys.executable, "-c", f"print({line!r}, flush=True); input(); input()"]


@pytest.fixture
def talker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> children.Child:
    """A child that says that it is warm, whatever it is told to do, and ends after two lines."""
    real = children.subprocess.Popen
    words = speaking('{"warm": true}')()
    monkeypatch.setattr(children.subprocess, "Popen", lambda _, **pipes: real(words, **pipes))
    return children.Child(Plan(config="", n=1), tmp_path)


def test_a_child_is_heard_and_told_to_go_on(talker: children.Child) -> None:
    with talker as child:
        assert child.hear("warm") == {"warm": True}
        child.go_on()
        child.go_on()
    assert child._process is not None
    assert child._process.returncode == 0


def test_a_child_that_says_another_thing_is_an_error_and_is_ended(talker: children.Child) -> None:
    with pytest.raises(EdgeError, match="did not come to 'done': it said nothing"), talker as child:
        child.hear("done")
    assert talker._process is not None
    assert talker._process.returncode == -9


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_tells_the_promises_that_the_bench_judges() -> None:
    """Limits in the table are the limits in the code."""
    (page,) = [text for path in DOCS if "\n## Throughput, wear, start\n" in "\n" + (text := path.read_text("utf-8"))]
    section = re.split(r"^## ", page.split("## Throughput, wear, start\n")[1], flags=re.MULTILINE)[0]
    promises = {
        row.split("|")[1].strip(): row.split("|")[2].strip() for row in section.splitlines() if row.startswith("| ")
    }
    assert promises["drain of a backlog of 50,000 ÷ raw paho"] == f"≥ {rates.LEAST['drain']:g}"
    assert promises["`behind` ÷ raw paho"] == f"≥ {rates.LEAST['behind']:g}"
    assert promises["bytes to the block device per message, online"] == f"≤ {wear.MOST_ONLINE:g}"
    assert promises["start to the first message, 1,000,000 rows"] == f"≤ {begin.MOST_S:g} s"
    assert promises["start, 100,000 rows ÷ empty"] == f"≤ {begin.MOST_RATIO:g}"
    assert promises["memory (Pss) while 1,000,000 rows drain, over empty"] == f"≤ {begin.MOST_MB:g} MB"
