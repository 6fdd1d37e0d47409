"""One driver's readings: a queue, a thread that reads, and what happens when a reading does not return.

A thread that hangs in a driver cannot be ended, only left behind. The lane then hires another one, which goes on with every
instance but the one that hangs; that sensor is left alone until its call returns. With `MOST_LEFT_BEHIND` such calls at a time the
lane hires no more: its other sensors fail too, and the lane goes on when one of the calls returns.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping

from chappe.core.events import Event, SensorFailed, SensorRead
from chappe.core.settings import Sensor
from chappe.core.units import Ns, as_seconds
from chappe.edge.host import Clock
from chappe.edge.sensors.driver import Driver, Find
from chappe.edge.sensors.instances import Instances, close
from chappe.edge.worker import Worker
from chappe.errors import EdgeError, SensorError

MOST_LEFT_BEHIND = 3

Post = Callable[[Event], None]


class Reader:
    """One thread, and what it is doing; guarded by its lane's lock.

    Attributes:
        name: the sensor being read, "" while idle.
        since: when that reading began.
    """

    def __init__(self, lane: Lane, thread: str, clock: Clock, post: Post) -> None:
        self.name = ""
        self.since = Ns(0)
        self.worker = Worker(
            thread, lambda _now: lane.work(self), clock=clock, post=post, reset=lambda: lane.forget(self)
        )

    @property
    def able(self) -> bool:
        return self.worker.alive and not self.worker.stopping


class Lane:
    """Reads the sensors of one driver, one after the other.

    Args:
        driver: its name.
        sensors: the sensors that use it.
        clock: stamps readings.
        post: takes `SensorRead`, `SensorFailed` and the faults of the thread.
        find: where a driver's class comes from.

    Attributes:
        counts: ``read``; ``failed``; ``timeout``; ``repeat`` (asked for while still waiting or being read); ``refused``
            (asked for while nobody can read); ``late`` (returned after its timeout, and not published).
    """

    def __init__(self, driver: str, sensors: Mapping[str, Sensor], *, clock: Clock, post: Post, find: Find) -> None:
        self._driver = driver
        self._sensors = dict(sensors)
        self._clock = clock
        self._post = post
        self._instances = Instances(driver, sensors, find)
        self._lock = threading.Lock()
        self._queue: deque[str] = deque()
        self._asked: set[str] = set()
        self._reader: Reader | None = None
        self._left_behind: list[Reader] = []
        self._closing = False
        self._closed = threading.Event()
        self.counts: Counter[str] = Counter()

    # ── the main thread ──────────────────────────────────────────────────────────────────────────────────────────────

    def open(self) -> None:
        """Start the thread; a sensor is opened by its first reading."""
        with self._lock:
            self._hire()

    def ask(self, name: str) -> None:
        """Have a sensor read as soon as the thread is free; never blocks."""
        with self._lock:
            if name in self._asked:
                self.counts["repeat"] += 1
            elif self._reader is None or not self._reader.able:
                self.counts["refused"] += 1
            else:
                self._asked.add(name)
                self._queue.append(name)
                self._reader.worker.wake()

    def check(self, now: Ns) -> Ns | None:
        """Give up a reading that has taken longer than its sensor's `timeout`.

        Returns:
            The earliest time at which a reading can be overdue; None while there is none.
        """
        with self._lock:
            self._refuse_if_off()
            overdue = self._overdue(now)
            failures = self._give_up(overdue, now) if overdue else []
            due = self._due(now)
        for failure in failures:
            self._post(failure)
        return due

    def close(self) -> None:
        """Begin to close: the thread finishes its reading, closes every instance, and takes no more."""
        with self._lock:
            self._closing = True
            self._queue.clear()
            if self._reader is not None and self._reader.able:
                self._reader.worker.wake()
                return
            if self._reader is not None:
                self._reader.worker.stop(0)
            self._hire()

    def join(self, patience_s: float) -> None:
        """Wait for the end of `close`, but leave a thread that hangs behind after `patience_s`; idempotent."""
        closed = self._closed.wait(patience_s)
        with self._lock:
            reader, self._reader = self._reader, None
        if reader is not None:
            reader.worker.stop(patience_s if closed else 0)

    # ── under the lock ───────────────────────────────────────────────────────────────────────────────────────────────

    def _hire(self) -> None:
        self._reader = Reader(self, f"sensors-{self._driver}", self._clock, self._post)
        self._reader.worker.start()

    def _refuse_if_off(self) -> None:
        """What waits for a thread that its driver's bugs have ended waits in vain."""
        if self._queue and self._reader is not None and not self._reader.able:
            self.counts["refused"] += len(self._queue)
            self._asked.difference_update(self._queue)
            self._queue.clear()

    def _overdue(self, now: Ns) -> Reader | None:
        reader = self._reader
        if reader is None or not reader.name or now < reader.since + self._sensors[reader.name].timeout:
            return None
        return reader

    def _due(self, now: Ns) -> Ns | None:
        if self._reader is None:
            return None
        if self._reader.name:
            return Ns(self._reader.since + self._sensors[self._reader.name].timeout)
        # What only waits has not begun, so it cannot be overdue before its whole timeout from now.
        return Ns(now + min(self._sensors[name].timeout for name in self._queue)) if self._queue else None

    def _give_up(self, reader: Reader, now: Ns) -> list[SensorFailed]:
        self.counts["timeout"] += 1
        limit = as_seconds(self._sensors[reader.name].timeout)
        failures = [_failure(reader.name, "sensor_timeout", f"no answer within {limit:g} s", now)]
        self._left_behind.append(reader)
        self._reader = None
        reader.worker.stop(0)
        if len(self._left_behind) < MOST_LEFT_BEHIND:
            self._hire()
            return failures
        hanging = {gone.name for gone in self._left_behind}
        self._queue.clear()
        self._asked &= hanging
        message = f"the driver {self._driver} hangs in {', '.join(sorted(hanging))}"
        others = sorted(self._sensors.keys() - hanging)
        return failures + [_failure(name, "sensor_timeout", message, now) for name in others]

    def _release(self, reader: Reader) -> bool:
        """The reading is over; returns whether anybody still waits for it."""
        self._asked.discard(reader.name)
        reader.name = ""
        if reader is self._reader:
            return True
        self.counts["late"] += 1
        if reader in self._left_behind:
            self._left_behind.remove(reader)
        if self._reader is None and not self._closing:
            self._hire()
        return False

    # ── the reading thread ───────────────────────────────────────────────────────────────────────────────────────────

    def work(self, reader: Reader) -> None:
        """Read whatever is asked for; `reader` is who calls."""
        while self._next(reader):
            event, driver = self._attempt(reader.name)
            self._finish(reader, event, driver)
        if self._closing and self._reader in (reader, None):
            try:
                self._instances.close()
            finally:
                self._closed.set()

    def _next(self, reader: Reader) -> bool:
        with self._lock:
            if reader is not self._reader or not self._queue:
                return False
            reader.since = self._clock.now()
            reader.name = self._queue.popleft()
            return True

    def _attempt(self, name: str) -> tuple[SensorRead | SensorFailed, Driver | None]:
        try:
            value, driver = self._instances.read(name)
        except (OSError, ValueError) as error:
            return _failure(name, _code(error), _text(error), self._clock.now()), None
        return SensorRead(at=self._clock.now(), name=name, value=value), driver

    def _finish(self, reader: Reader, event: SensorRead | SensorFailed, driver: Driver | None) -> None:
        with self._lock:
            awaited = self._release(reader)
            if awaited:
                self.counts["read" if isinstance(event, SensorRead) else "failed"] += 1
                if driver is not None:
                    self._instances.keep(event.name, driver)
        if awaited:
            self._post(event)
        elif driver is not None:
            close(driver)

    def forget(self, reader: Reader) -> None:
        """A bug ended the reading that `reader` was at."""
        with self._lock:
            self._release(reader)


def _failure(name: str, code: str, message: str, at: Ns) -> SensorFailed:
    return SensorFailed(at=at, name=name, code=code, message=message)


def _code(error: Exception) -> str:
    if isinstance(error, EdgeError) and error.code.startswith("sensor_"):
        return error.code
    return SensorError.default_code


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, EdgeError) else f"{type(error).__name__}: {error}"
