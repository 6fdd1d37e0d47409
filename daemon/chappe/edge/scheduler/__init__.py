"""Jobs at times of day: ``cron`` and ``sun``.

(``every`` is a deadline of the engine on monotonic time, and no concern of this edge.)

When a job runs is pure: a `Plan` names the next run after a moment, and a `Ledger` decides what a clock that has moved means.
Around them APScheduler's timer says which job's time has come, in one thread of ours, so that its beat can be watched and its
bugs become faults; nothing runs in a pool.

Missed runs and steps of the wall clock, after crontab(5) and cron(8) as Debian ships them:

- A run whose time passed unseen (the clock was set forward, the machine was busy) happens once, late; `missed` counts the others.
- A clock set back repeats nothing: until it has caught up with itself, no run before the old time happens again.
- A step of more than a day is no step but a correction, typically the first time a Pi without a clock hears from the network:
  what lies between was no time at all, so nothing counts as missed and nothing is held back.
- Nothing is made up for what was due while the daemon did not run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from chappe.core.effects import Effect
from chappe.core.events import Event, Faulted, JobFired
from chappe.core.settings import Job, Site
from chappe.core.units import DAY, SECOND, Ns, WallNs
from chappe.edge.host import Clock
from chappe.edge.scheduler.plans import CronPlan, Plan, SunPlan, plan_of, runs_between, validate_job
from chappe.edge.worker import Worker

__all__ = ["CronPlan", "Ledger", "Plan", "Scheduler", "SunPlan", "plan_of", "runs_between", "validate_job"]

BEAT = 2 * SECOND
STEP = SECOND
CORRECTION = DAY


class Ledger:
    """Which runs of one job are settled: all up to `mark`.

    Args:
        plan: when the job runs.
        mark: the wall time from which on runs count.
    """

    def __init__(self, plan: Plan, mark: datetime) -> None:
        self._plan = plan
        self.mark = mark

    def settle(self, now: datetime) -> int | None:
        """Settle all runs up to `now`.

        Returns:
            None if none was due; else how many were due besides the one that happens now.
        """
        if now <= self.mark:
            return None
        runs = runs_between(self._plan, self.mark, now)
        self.mark = now
        return len(runs) - 1 if runs else None

    def correct(self, now: datetime) -> None:
        """The clock was wrong until now: start afresh."""
        self.mark = now

    def next_run(self, after: datetime) -> datetime | None:
        """The next run that is not settled, and after a moment."""
        return self._plan.next_run(max(self.mark, after))


class Scheduler:
    """Posts `JobFired` at the times of cron and sun jobs.

    Steps of the clock are noticed within two seconds, at once after `clock_changed`.

    Args:
        jobs: the sections ``[jobs.NAME]``; those with ``every`` are the engine's.
        site: the section ``[site]``.
        clock: monotonic and wall time.
        post: takes `JobFired`, and `Faulted` for a job that cannot be planned.
    """

    def __init__(self, jobs: Mapping[str, Job], site: Site, *, clock: Clock, post: Callable[[Event], None]) -> None:
        self._jobs = jobs
        self._site = site
        self._clock = clock
        self._post = post
        self._ledgers: dict[str, Ledger] = {}
        self._due: list[str] = []
        self._offset = 0
        self._timer: Any = None
        self._worker: Worker | None = None

    @property
    def beat(self) -> Ns:
        """When the thread last showed that it lives; now where there is nothing to do, and so no thread."""
        return self._worker.beat if self._worker else self._clock.now()

    def open(self) -> None:
        """Plan every cron and sun job; start the thread if there is one."""
        self._offset = self._clock.wall() - self._clock.now()
        for name, job in self._jobs.items():
            if job.cron or job.sun:
                self._plan(name, job)
        if not self._ledgers:
            return
        self._worker = Worker("apscheduler", self._step, clock=self._clock, post=self._post)
        self._timer = _timer(self._worker.wake)
        self._timer.start()
        for name in self._ledgers:
            self._schedule(name)
        self._worker.start()

    def _plan(self, name: str, job: Job) -> None:
        try:
            self._ledgers[name] = Ledger(plan_of(job, self._site), self._wall())
        except ValueError as error:
            message = f"job {name}: {error}"
            self._post(Faulted(at=self._clock.now(), part="scheduler", code="job_invalid", message=message))

    def _wall(self) -> datetime:
        return _moment(self._clock.wall())

    def handle(self, effects: Iterable[Effect]) -> None:
        """No effect concerns this edge; it only speaks."""

    def clock_changed(self) -> None:
        """The wall clock was stepped: look at every job now, not in two seconds."""
        if self._worker is not None:
            self._worker.wake()

    def close(self) -> None:
        """Stop; idempotent."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.shutdown(wait=False)

    # ── the thread ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _step(self, now: Ns) -> Ns:
        self._heed_clock()
        wait_s = self._timer.work()
        due, self._due = self._due, []
        for name in due:
            self._settle(name)
        return Ns(now + (BEAT if wait_s is None else min(BEAT, round(wait_s * SECOND))))

    def _heed_clock(self) -> None:
        offset = self._clock.wall() - self._clock.now()
        jump, self._offset = offset - self._offset, offset
        if abs(jump) < STEP:
            return
        for name, ledger in self._ledgers.items():
            if abs(jump) > CORRECTION:
                ledger.correct(self._wall())
            else:
                self._settle(name)
            self._schedule(name)

    def _note(self, name: str) -> None:
        self._due.append(name)

    def _settle(self, name: str) -> None:
        missed = self._ledgers[name].settle(self._wall())
        if missed is not None:
            self._post(JobFired(at=self._clock.now(), job=name, missed=missed))

    def _schedule(self, name: str) -> None:
        # Late or not, it runs, and once: what was missed is the ledger's to count.
        trigger = _trigger(self._ledgers[name])
        self._timer.add_job(
            self._note, trigger, (name,), id=name, replace_existing=True, coalesce=True, misfire_grace_time=None
        )


def _moment(wall: WallNs) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=wall // 1000)


def _timer(wake: Callable[[], None]) -> Any:
    """APScheduler's bookkeeping without a thread of its own: ``work()`` runs what is due and says for how long nothing will be."""
    from apscheduler.executors.debug import DebugExecutor
    from apscheduler.schedulers.base import BaseScheduler

    class Timer(BaseScheduler):  # type: ignore[misc]  # APScheduler 3 has no types
        def wakeup(self) -> None:
            wake()

        def shutdown(self, wait: bool = True) -> None:
            super().shutdown(wait)

        def work(self) -> float | None:
            seconds: float | None = self._process_jobs()
            return seconds

    logging.getLogger("apscheduler").setLevel(logging.WARNING)  # its account of each run says less than `JobFired`
    return Timer(executors={"default": DebugExecutor()}, timezone=UTC)


def _trigger(ledger: Ledger) -> Any:
    from apscheduler.triggers.base import BaseTrigger

    class Next(BaseTrigger):  # type: ignore[misc]  # APScheduler 3 has no types
        def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
            return ledger.next_run(max(previous or now, now))

    return Next()
