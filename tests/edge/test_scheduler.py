"""The scheduler: runs that were missed, clocks that step, and the thread around them."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chappe.core.effects import Drive
from chappe.core.events import Event, Faulted, JobFired
from chappe.core.settings import Job, Site
from chappe.core.units import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Ns, Span, WallNs
from chappe.edge import scheduler as module
from chappe.edge.host import SystemClock
from chappe.edge.scheduler import CronPlan, Ledger, Plan, Scheduler, runs_between

PATIENCE_S = 20.0
HOURLY = {"hourly": Job(cron="0 * * * *")}
HERE = Site(timezone="UTC")


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


class ManualClock:
    """Two clocks: time passes on both, a step moves only the wall."""

    def __init__(self, wall: datetime) -> None:
        self.at = 5 * SECOND
        self._wall = int(wall.timestamp()) * SECOND

    def now(self) -> Ns:
        return Ns(self.at)

    def wall(self) -> WallNs:
        return WallNs(self._wall)

    def wait(self, span: int) -> None:
        self.at += span
        self._wall += span

    def step(self, span: int) -> None:
        self._wall += span


class Heard(list[Event]):
    """What an edge has posted; waits for more with a deadline."""

    def __init__(self) -> None:
        super().__init__()
        self._more = threading.Condition()
        self.threads: set[str] = set()

    def post(self, event: Event) -> None:
        with self._more:
            self.append(event)
            self.threads.add(threading.current_thread().name)
            self._more.notify_all()

    def until(self, count: int) -> list[Event]:
        with self._more:
            assert self._more.wait_for(lambda: len(self) >= count, PATIENCE_S), list(self)
            return list(self)


# ── the ledger ───────────────────────────────────────────────────────────────────────────────────────────────────────


def hourly(*mark: int) -> Ledger:
    return Ledger(CronPlan("0 * * * *", UTC), utc(*mark))


def test_a_run_on_time_has_missed_nothing() -> None:
    """Each hour one run, and none in between."""
    ledger = hourly(2026, 1, 1, 10, 30)
    assert ledger.settle(utc(2026, 1, 1, 10, 59)) is None
    assert ledger.settle(utc(2026, 1, 1, 11)) == 0
    assert ledger.settle(utc(2026, 1, 1, 11, 0, 1)) is None
    assert ledger.settle(utc(2026, 1, 1, 12)) == 0


def test_a_clock_set_forward_gives_one_run_and_the_number_it_missed() -> None:
    """10:30 becomes 13:30: of 11, 12 and 13 o'clock one run happens, two are disclosed."""
    ledger = hourly(2026, 1, 1, 10, 30)
    assert ledger.settle(utc(2026, 1, 1, 13, 30)) == 2
    assert ledger.next_run(utc(2026, 1, 1, 13, 30)) == utc(2026, 1, 1, 14)


def test_a_clock_set_back_repeats_nothing() -> None:
    """10:30 becomes 09:30: the 10:00 run is not repeated, the next is at 11:00."""
    ledger = hourly(2026, 1, 1, 9, 59)
    assert ledger.settle(utc(2026, 1, 1, 10)) == 0
    assert ledger.settle(utc(2026, 1, 1, 10, 30)) is None
    assert ledger.settle(utc(2026, 1, 1, 9, 30)) is None
    assert ledger.next_run(utc(2026, 1, 1, 9, 30)) == utc(2026, 1, 1, 11)
    assert ledger.settle(utc(2026, 1, 1, 10)) is None
    assert ledger.settle(utc(2026, 1, 1, 11)) == 0


def test_a_corrected_clock_starts_afresh() -> None:
    """What lay between was no time at all, in either direction."""
    ledger = hourly(2031, 1, 1, 10, 30)
    ledger.correct(utc(2026, 1, 1, 10, 30))
    assert ledger.next_run(utc(2026, 1, 1, 10, 30)) == utc(2026, 1, 1, 11)
    assert ledger.settle(utc(2026, 1, 1, 11)) == 0


@settings(deadline=None)
@given(st.lists(st.integers(-20 * 60, 20 * 60), max_size=15))
def test_whatever_the_clock_does_each_hour_is_settled_once(minutes: list[int]) -> None:
    """Runs that happened and runs that were missed make up every hour up to the latest time seen, none twice."""
    now = start = utc(2026, 1, 1, 0, 30)
    ledger = Ledger(CronPlan("0 * * * *", UTC), start)
    settled, latest = 0, start
    for step in minutes:
        now += timedelta(minutes=step)
        latest = max(latest, now)
        missed = ledger.settle(now)
        settled += 0 if missed is None else missed + 1
    assert settled == (latest - start + timedelta(minutes=30)) // timedelta(hours=1)


# ── the edge, step by step ───────────────────────────────────────────────────────────────────────────────────────────


class ByHand:
    """A scheduler whose thread is the test. The wall clock starts on 1 January 2040, 10:30."""

    def __init__(self, jobs: dict[str, Job] | None = None, site: Site = HERE) -> None:
        self.clock = ManualClock(utc(2040, 1, 1, 10, 30))
        self.heard = Heard()
        self.edge = Scheduler(jobs or HOURLY, site, clock=self.clock, post=self.heard.post)

    def work(self) -> Ns:
        return self.edge._step(self.clock.now())

    def fired(self) -> list[tuple[str, int]]:
        """Jobs that were told since the last look, and what they missed."""
        told = [(event.job, event.missed) for event in self.heard if isinstance(event, JobFired)]
        self.heard.clear()
        return told


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ByHand]]:
    monkeypatch.setattr(module.Worker, "start", lambda _worker: None)
    made: list[ByHand] = []

    def making(jobs: dict[str, Job] | None = None, site: Site = HERE) -> ByHand:
        made.append(ByHand(jobs, site))
        made[-1].edge.open()
        return made[-1]

    yield making
    for one in made:
        one.edge.close()


def test_a_step_forward_fires_once_with_the_missed_runs(by_hand: Callable[..., ByHand]) -> None:
    """10:30 to 13:30: one run, two missed; its time is the monotonic one."""
    one = by_hand()
    one.work()
    one.clock.step(3 * HOUR)
    one.clock.wait(SECOND)
    one.work()
    assert one.heard == [JobFired(at=Ns(6 * SECOND), job="hourly", missed=2)]
    one.fired()
    one.clock.wait(SECOND)
    one.work()
    assert one.fired() == []


def test_a_step_back_repeats_no_run(by_hand: Callable[..., ByHand]) -> None:
    """10:30 to 09:30, and time goes on: nothing at 10:00, one run at 11:00."""
    one = by_hand()
    one.work()
    one.clock.step(-HOUR)
    one.work()
    for _ in range(3):
        one.clock.wait(30 * MINUTE - SECOND)
        one.clock.step(SECOND)
        one.work()
        if one.clock.wall() < WallNs(int(utc(2040, 1, 1, 11).timestamp()) * SECOND):
            assert one.fired() == []
    assert one.fired() == [("hourly", 0)]


@pytest.mark.parametrize("jump", [13 * 365 * DAY, -56 * 365 * DAY, 25 * HOUR, -25 * HOUR])
def test_a_correction_is_no_missed_run_and_holds_nothing_back(by_hand: Callable[..., ByHand], jump: int) -> None:
    """A clock that was wrong by more than a day was no clock: nothing is made up for, and the next hour runs."""
    one = by_hand()
    one.work()
    one.clock.step(jump)
    one.work()
    assert one.fired() == []
    one.clock.step(30 * MINUTE)
    one.work()
    assert one.fired() == [("hourly", 0)]


def test_a_small_correction_of_the_clock_changes_nothing(by_hand: Callable[..., ByHand]) -> None:
    """Half a second back at 11:00:00.2 does not make it eleven o'clock again."""
    one = by_hand()
    one.clock.step(30 * MINUTE + 200 * MILLISECOND)
    one.work()
    assert one.fired() == [("hourly", 0)]
    one.clock.step(-500 * MILLISECOND)
    one.work()
    one.clock.wait(2 * SECOND)
    one.work()
    assert one.fired() == []


def test_every_job_heeds_the_step(by_hand: Callable[..., ByHand]) -> None:
    """Each job settles its own runs."""
    jobs = {"hour": Job(cron="0 * * * *"), "ten": Job(cron="*/10 * * * *"), "night": Job(cron="0 3 * * *")}
    one = by_hand(jobs)
    one.work()
    one.clock.step(HOUR)
    one.work()
    assert sorted(one.fired()) == [("hour", 0), ("ten", 5)]


def test_sun_jobs_are_fired_too(by_hand: Callable[..., ByHand]) -> None:
    """Sunset in Paris in January lies between 15:00 and 17:00 UTC."""
    one = by_hand({"lamp": Job(sun="sunset")}, Site(latitude=48.8566, longitude=2.3522, timezone="UTC"))
    one.clock.step(4 * HOUR + 30 * MINUTE)
    one.work()
    assert one.fired() == []
    one.clock.step(2 * HOUR)
    one.work()
    assert one.fired() == [("lamp", 0)]


def test_the_thread_looks_at_the_clock_every_two_seconds(by_hand: Callable[..., ByHand]) -> None:
    """However far the next run is: for the watchdog's beat, and to notice steps nobody told of."""
    one = by_hand({"yearly": Job(cron="0 0 1 1 *")})
    assert one.work() == one.clock.now() + 2 * SECOND


def test_a_job_that_cannot_be_planned_is_a_fault_and_the_others_run(by_hand: Callable[..., ByHand]) -> None:
    """The fault names job and reason."""
    one = by_hand({"bad": Job(cron="0 99 * * *"), "dark": Job(sun="dusk"), **HOURLY})
    faults = [(event.code, event.message) for event in one.heard if isinstance(event, Faulted)]
    assert [code for code, _ in faults] == ["job_invalid", "job_invalid"]
    assert faults[0][1].startswith("job bad: hour '99'")
    assert "latitude" in faults[1][1]
    one.clock.step(HOUR)
    one.work()
    assert one.fired() == [("hourly", 0)]


def test_no_effect_concerns_the_scheduler(by_hand: Callable[..., ByHand]) -> None:
    """It takes what every edge is handed."""
    one = by_hand()
    one.edge.handle([Drive(pin="status", level=1.0)])
    assert one.heard == []


# ── the thread ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Often:
    """A plan with a run every 20 ms of wall time."""

    def next_run(self, after: datetime) -> datetime | None:
        return after.replace(microsecond=after.microsecond // 20_000 * 20_000) + timedelta(milliseconds=20)


@contextmanager
def often(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Scheduler, Heard]]:
    """A scheduler on the machine's own clock whose only job runs often."""
    monkeypatch.setattr(module, "plan_of", lambda _job, _site: Often())
    heard = Heard()
    edge = Scheduler({"often": Job(cron="* * * * *")}, HERE, clock=SystemClock(), post=heard.post)
    edge.open()
    yield edge, heard
    edge.close()


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Scheduler, Heard]]:
    with often(monkeypatch) as pair:
        yield pair


@pytest.mark.feature("SCH-01", breaks="chappe.edge.scheduler:Scheduler._settle")
def test_jobs_are_fired_by_their_time_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread wakes for them, every span of time is settled once, and a run that comes late says what it missed."""
    spans: list[tuple[datetime, datetime, int]] = []

    def recording(plan: Plan, after: datetime, until: datetime) -> list[datetime]:
        runs = runs_between(plan, after, until)
        spans.append((after, until, len(runs)))
        return runs

    monkeypatch.setattr(module, "runs_between", recording)
    with often(monkeypatch) as (edge, heard):
        heard.until(5)
        edge.close()
    assert all(later[0] == earlier[1] for earlier, later in pairwise(spans))
    assert [(event.job, event.missed) for event in heard if isinstance(event, JobFired)] == [
        ("often", count - 1) for _, _, count in spans if count
    ]
    assert heard.threads == {"apscheduler"}
    assert all(later.at > earlier.at for earlier, later in pairwise(heard))


def test_the_thread_has_a_beat(running: tuple[Scheduler, Heard]) -> None:
    """The watchdog can see that it lives."""
    edge, heard = running
    first = edge.beat
    pause, deadline = threading.Event(), time.monotonic() + PATIENCE_S
    while edge.beat <= first:
        assert time.monotonic() < deadline
        pause.wait(0.001)
    assert heard.until(1)


def test_a_step_of_the_clock_is_heeded_at_once() -> None:
    """`clock_changed` wakes the thread; it does not wait for its two seconds."""
    clock, heard = ManualClock(utc(2040, 1, 1, 10, 30)), Heard()
    edge = Scheduler(HOURLY, HERE, clock=clock, post=heard.post)
    edge.open()
    clock.step(3 * HOUR)
    edge.clock_changed()
    assert heard.until(1) == [JobFired(at=clock.now(), job="hourly", missed=2)]
    edge.close()


def test_close_ends_the_thread(running: tuple[Scheduler, Heard]) -> None:
    """Nothing is fired afterwards, and closing twice is no error."""
    edge, heard = running
    heard.until(1)
    edge.close()
    edge.close()
    told = len(heard)
    edge.clock_changed()
    assert "apscheduler" not in {thread.name for thread in threading.enumerate()}
    assert len(heard) == told


def test_an_edge_that_never_opened_can_be_closed() -> None:
    """`close` asks for nothing."""
    heard = Heard()
    edge = Scheduler(HOURLY, HERE, clock=SystemClock(), post=heard.post)
    edge.clock_changed()
    edge.close()
    assert "apscheduler" not in {thread.name for thread in threading.enumerate()}


def test_the_libraries_are_imported_when_jobs_are_planned() -> None:
    """A device without such jobs does not pay for APScheduler and astral."""
    script = "import sys, chappe.edge.scheduler; print([m for m in sys.modules if m in ('apscheduler', 'astral', 'tzlocal')])"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("jobs", [{}, {"tick": Job(every=Span(10 * SECOND))}])
def test_without_cron_and_sun_there_is_no_thread(jobs: dict[str, Job]) -> None:
    """Periodic jobs are the engine's; the beat is always fresh then."""
    clock = ManualClock(utc(2040, 1, 1, 10, 30))
    edge = Scheduler(jobs, HERE, clock=clock, post=Heard().post)
    edge.open()
    clock.wait(HOUR)
    assert edge.beat == clock.now()
    assert "apscheduler" not in {thread.name for thread in threading.enumerate()}
    edge.close()


def test_the_journal_is_not_filled_with_each_run(
    running: tuple[Scheduler, Heard], caplog: pytest.LogCaptureFixture
) -> None:
    """APScheduler's own account of runs stays out of the log."""
    _, heard = running
    with caplog.at_level(logging.INFO):
        heard.until(len(heard) + 3)
    assert caplog.records == []
