"""Sensors and jobs with a period: when they are due, and what their readings become."""

from __future__ import annotations

from chappe.core.calibration import calibrate, unit_of
from chappe.core.context import Context
from chappe.core.effects import ReadSensors
from chappe.core.events import JobFired, SensorFailed, SensorRead
from chappe.core.parts.deeds import Deeds
from chappe.core.units import SECOND, Ns

STALE_PERIODS = 3
STALE_AT_LEAST = 30 * SECOND


class Senses:
    """Deadlines of sensors and periodic jobs on the monotonic clock: the first at the start, then on a fixed grid.

    A deadline that passed while the engine was busy is skipped, not made up for: a reading that was not taken is not invented.
    """

    def __init__(self, context: Context, deeds: Deeds) -> None:
        self._context = context
        self._deeds = deeds
        now = context.now
        self._sensors = context.config.sensors
        self._units = {name: unit_of(sensor) for name, sensor in self._sensors.items()}
        self._next: dict[str, Ns] = dict.fromkeys(self._sensors, now)
        self._jobs = {name: job.every for name, job in context.config.jobs.items() if job.every}
        self._next_job: dict[str, Ns] = dict.fromkeys(self._jobs, now)
        self._heard: dict[str, Ns] = dict.fromkeys(self._sensors, now)
        self._stale_after = {
            name: max(STALE_PERIODS * sensor.every, STALE_AT_LEAST) for name, sensor in self._sensors.items()
        }
        self._stale_due: Ns | None = min((Ns(now + span) for span in self._stale_after.values()), default=None)
        self._due: Ns | None = None
        self._schedule()

    def due(self) -> Ns | None:
        return self._due

    def _schedule(self) -> None:
        moments = [*self._next.values(), *self._next_job.values()]
        if self._stale_due is not None:
            moments.append(self._stale_due)
        self._due = min(moments) if moments else None

    def stop(self) -> None:
        """No further readings and jobs."""
        self._due = None

    def expire(self, horizon: Ns) -> None:
        """Fire what is due; `horizon` is the time of the event that is about to be handled."""
        if self._due is None or self._due > self._context.now:
            return
        self._read_due(horizon)
        self._do_due(horizon)
        self._find_stale()
        self._schedule()

    def _read_due(self, horizon: Ns) -> None:
        names = tuple(name for name, at in self._next.items() if at <= self._context.now)
        if names:
            self._context.emit(ReadSensors(names=names))
        for name in names:
            self._next[name] = _following(self._next[name], self._sensors[name].every, horizon)

    def _do_due(self, horizon: Ns) -> None:
        for name in [name for name, at in self._next_job.items() if at <= self._context.now]:
            self._next_job[name] = _following(self._next_job[name], self._jobs[name] or SECOND, horizon)
            self._deeds.do(self._context.config.jobs[name], cause=f"job:{name}")

    def _find_stale(self) -> None:
        """Whoever has been silent for too long is stale. A reading only notes its time; the next look is when the first could be."""
        now = self._context.now
        if self._stale_due is None or self._stale_due > now:
            return
        coming: list[Ns] = []
        for name, heard in self._heard.items():
            limit = self._stale_after[name]
            if now >= heard + limit:
                self._context.fault(part_of(name), "sensor_stale", f"no reading for {(now - heard) // SECOND} s")
                coming.append(Ns(now + limit))
            else:
                coming.append(Ns(heard + limit))
        self._stale_due = min(coming)

    def read(self, event: SensorRead) -> None:
        """A reading becomes a value of the sensor's stream, or is refused and counted."""
        context = self._context
        sensor = self._sensors.get(event.name)
        if sensor is None or context.stopping:
            return
        try:
            value = calibrate(event.value, sensor)
        except ValueError as error:
            context.outbox.lanes[event.name].book.invalid += 1
            context.fault(part_of(event.name), "sensor_value", str(error))
            return
        self._heard[event.name] = event.at
        if context.faults:
            context.heal_all(part_of(event.name))
        unit = self._units[event.name]
        context.produce(event.name, {"value": value, "unit": unit} if unit else {"value": value})

    def failed(self, event: SensorFailed) -> None:
        """A reading that could not be taken is a fault, and no value is invented."""
        self._context.fault(part_of(event.name), event.code, event.message)

    def fired(self, event: JobFired) -> None:
        """A cron or sun job's time has come."""
        job = self._context.config.jobs.get(event.job)
        if job is not None:
            self._deeds.do(job, cause=f"job:{event.job}", missed=event.missed)


def part_of(name: str) -> str:
    """A sensor's name as a part in faults: its place in the configuration."""
    return f"sensors.{name}"


def _following(at: Ns, every: int, horizon: Ns) -> Ns:
    """The next point of the grid after `at` that lies beyond `horizon`, or is it."""
    steps = max(1, -(-(horizon - at) // every))
    return Ns(at + steps * every)
