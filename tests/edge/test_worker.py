"""Named threads: beat, wake-up, stop, and what becomes of a bug."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from chappe.core.events import Event, Faulted, Healed
from chappe.core.units import MINUTE, SECOND, Ns
from chappe.edge.worker import Worker, stuck
from chappe.testing import ManualClock

WITHIN_S = 20.0


class Bench:
    """A worker at manual time whose step a test scripts; it runs only when it is woken."""

    def __init__(self) -> None:
        self.clock = ManualClock(Ns(5 * SECOND))
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.steps: queue.SimpleQueue[Ns] = queue.SimpleQueue()
        self.resets = 0
        self.act: Callable[[Ns], Ns | None] = lambda _: None
        self.worker = Worker("bench", self.step, clock=self.clock, post=self.events.put, reset=self.reset)

    def step(self, now: Ns) -> Ns | None:
        try:
            return self.act(now)
        finally:
            self.steps.put(now)

    def reset(self) -> None:
        self.resets += 1

    def next_step(self) -> Ns:
        """Waits for the next step to have been made."""
        return self.steps.get(timeout=WITHIN_S)

    def again(self, after_s: float = 0.0) -> Ns:
        """Lets time pass, wakes the worker, waits for its step."""
        self.clock.advance(after_s)
        self.worker.wake()
        return self.next_step()

    def next_event(self) -> Event:
        return self.events.get(timeout=WITHIN_S)

    def ended(self) -> bool:
        """Waits for the thread to have ended by itself."""
        thread = self.worker._thread
        assert thread is not None
        thread.join(WITHIN_S)
        return not thread.is_alive()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.worker.stop()


def bug(_: Ns) -> Ns | None:
    raise ZeroDivisionError("injected")


# ── work ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_runs_before_it_is_started(bench: Bench) -> None:
    """A constructor starts no thread."""
    assert not bench.worker.alive
    assert bench.steps.empty()


def test_the_first_step_comes_at_once_in_a_thread_of_that_name(bench: Bench) -> None:
    """It gets the time, and its thread can be found in a list of threads."""
    named: list[str] = []
    bench.act = lambda _: named.append(threading.current_thread().name)  # type: ignore[func-returns-value]
    bench.worker.start()
    assert bench.next_step() == 5 * SECOND
    assert named == ["bench"]
    assert bench.worker.alive


def test_a_step_with_nothing_due_waits_to_be_woken(bench: Bench) -> None:
    """Each wake-up is one step, with the time of the wake-up."""
    bench.worker.start()
    bench.next_step()
    assert bench.again(1.0) == 6 * SECOND
    assert bench.again(0.5) == 6.5 * SECOND
    assert bench.steps.empty()


def test_a_wake_up_during_a_step_is_not_lost(bench: Bench) -> None:
    """Work that comes while the step is at the end of its work is done in the next."""
    inside, go_on = threading.Event(), threading.Event()

    def linger(_: Ns) -> None:
        inside.set()
        go_on.wait(WITHIN_S)

    bench.act = linger
    bench.worker.start()
    assert inside.wait(WITHIN_S)
    bench.act = lambda _: None
    bench.worker.wake()
    go_on.set()
    bench.next_step()
    bench.next_step()


def test_a_step_that_is_due_runs_without_being_woken(bench: Bench) -> None:
    """What it returns is when it wants to run next; a time that is over means at once."""
    dues = iter([Ns(0), bench.clock.now(), None])
    bench.act = lambda _: next(dues, None)
    bench.worker.start()
    for _ in range(3):
        bench.next_step()
    assert next(dues, "none left") == "none left"


def test_it_beats_with_each_step(bench: Bench) -> None:
    """The beat is the time at which the last step began."""
    bench.worker.start()
    bench.next_step()
    assert bench.worker.beat == 5 * SECOND
    bench.again(7.0)
    assert bench.worker.beat == 12 * SECOND


def test_a_step_that_hangs_stops_the_beat_and_is_named(bench: Bench) -> None:
    """Only while it is inside the step, and only beyond the limit: a worker that waits is not stuck."""
    inside, go_on = threading.Event(), threading.Event()

    def hang(_: Ns) -> None:
        inside.set()
        go_on.wait(WITHIN_S)

    bench.act = hang
    bench.worker.start()
    assert inside.wait(WITHIN_S)
    bench.clock.advance(10)
    try:
        assert bench.worker.beat == 5 * SECOND
        assert "bench" in stuck(bench.clock.now(), 9 * SECOND)
        assert "bench" not in stuck(bench.clock.now(), 10 * SECOND)
    finally:
        bench.act = lambda _: None
        go_on.set()
    bench.next_step()
    bench.again(100)
    bench.worker.stop()
    assert "bench" not in stuck(Ns(bench.clock.now() + MINUTE), SECOND)


# ── stop ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_stop_does_not_wait_for_a_deadline(bench: Bench) -> None:
    """A worker that would sleep for a year ends at once."""
    bench.act = lambda now: Ns(now + 365 * 86_400 * SECOND)
    bench.worker.start()
    bench.next_step()
    assert bench.worker.stop(timeout_s=WITHIN_S)
    assert not bench.worker.alive
    assert bench.steps.empty(), "a step ran after the stop"


def test_stop_is_idempotent_and_may_come_before_start(bench: Bench) -> None:
    """A part that could not be opened is closed all the same."""
    assert bench.worker.stop()
    bench.worker.start()
    assert bench.ended()
    assert bench.worker.stop()
    assert bench.steps.empty()


def test_a_step_may_stop_its_own_worker(bench: Bench) -> None:
    """Without waiting for itself."""

    def leave(_: Ns) -> None:
        bench.worker.stop()

    bench.act = leave
    bench.worker.start()
    bench.next_step()
    assert bench.ended()


def test_a_step_that_hangs_is_left_behind(bench: Bench) -> None:
    """Stop says so and does not hang with it; as it was asked to end, it is not called stuck."""
    inside, go_on = threading.Event(), threading.Event()

    def hang(_: Ns) -> None:
        inside.set()
        go_on.wait(WITHIN_S)

    bench.act = hang
    bench.worker.start()
    assert inside.wait(WITHIN_S)
    assert bench.worker.stop(timeout_s=0.01) is False
    assert bench.worker.alive
    assert "bench" not in stuck(Ns(bench.clock.now() + MINUTE), SECOND)
    go_on.set()
    assert bench.worker.stop(timeout_s=WITHIN_S)


# ── bugs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def silent(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.ERROR, "chappe.edge.worker")
    return caplog


def test_a_bug_is_a_fault_and_the_part_starts_afresh(bench: Bench, silent: pytest.LogCaptureFixture) -> None:
    """The thread goes on; the traceback is in the log, its last line in the fault."""
    bench.act = bug
    bench.worker.start()
    fault = bench.next_event()
    assert fault == Faulted(at=Ns(5 * SECOND), part="bench", code="bench_bug", message="ZeroDivisionError: injected")
    bench.next_step()
    bench.act = lambda _: None
    bench.again()
    assert bench.resets == 1
    assert bench.worker.alive
    assert "in bug" in silent.text
    assert "ZeroDivisionError: injected" in silent.text


def fail(bench: Bench, times: int, apart_s: float) -> None:
    """So many bugs, so far apart."""
    bench.act = bug
    bench.worker.start()
    bench.next_step()
    for _ in range(times - 1):
        bench.again(apart_s)


@pytest.mark.usefixtures("silent")
def test_the_third_bug_within_a_minute_leaves_the_part_off(bench: Bench) -> None:
    """Three faults, three resets, and then nothing, however often it is woken."""
    fail(bench, times=3, apart_s=29)
    assert bench.ended()
    assert bench.worker.stopping
    assert [type(bench.next_event()) for _ in range(3)] == [Faulted] * 3
    assert bench.resets == 3
    bench.worker.wake()
    assert bench.steps.empty()


@pytest.mark.usefixtures("silent")
def test_three_bugs_in_more_than_a_minute_do_not(bench: Bench) -> None:
    """The first has been forgotten when the third comes."""
    fail(bench, times=3, apart_s=30)
    bench.act = lambda _: None
    bench.again()
    assert bench.worker.alive
    assert not bench.worker.stopping


@pytest.mark.usefixtures("silent")
def test_a_minute_without_another_bug_heals(bench: Bench) -> None:
    """Told once, at the first step after it."""
    fail(bench, times=1, apart_s=0)
    assert isinstance(bench.next_event(), Faulted)
    bench.act = lambda _: None
    bench.again(59)
    assert bench.events.empty()
    bench.again(1)
    assert bench.next_event() == Healed(at=Ns(65 * SECOND), part="bench", code="bench_bug")
    bench.again(60)
    assert bench.events.empty()


@pytest.mark.usefixtures("silent")
def test_a_part_without_a_reset_survives_too() -> None:
    """Reset is an offer."""
    clock, events = ManualClock(), queue.SimpleQueue[Event]()
    worker = Worker("bare", bug, clock=clock, post=events.put)
    worker.start()
    assert isinstance(events.get(timeout=WITHIN_S), Faulted)
    assert worker.stop(WITHIN_S)


def test_a_reset_that_fails_is_a_bug_too_and_does_not_end_the_thread_silently(bench: Bench) -> None:
    """Two bugs in one: the step's and that of starting afresh; the second failing step leaves the part off, and says so."""

    def broken_reset() -> None:
        raise ZeroDivisionError("and again")

    bench.worker._reset = broken_reset
    bench.act = bug
    bench.worker.start()
    bench.next_step()
    messages = [bench.next_event(), bench.next_event()]
    assert all(isinstance(event, Faulted) for event in messages)
    bench.again(1.0)
    assert bench.ended()
