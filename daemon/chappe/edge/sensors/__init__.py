"""Sensors: when to read is the engine's decision, reading is this edge's work.

`Sensors` has one thread per driver, so that a driver that is slow or hangs delays nobody else's readings. See `driver` for how to
write one, `lane` for what happens to a reading that does not return.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from chappe.core.calibration import Value, calibrate, unit_of
from chappe.core.effects import Effect, ReadSensors
from chappe.core.events import Event, SensorFailed, SensorRead
from chappe.core.settings import Sensor
from chappe.core.units import Ns, as_seconds
from chappe.edge.host import Clock, SystemClock
from chappe.edge.sensors.driver import Driver, Find, available_drivers, find_driver
from chappe.edge.sensors.lane import Lane
from chappe.edge.sensors.sysfs import SYS
from chappe.errors import SensorError

__all__ = ["Driver", "Sensors", "available_drivers", "find_driver", "read_once"]

PATIENCE_S = 0.5


class Sensors:
    """The sensors of one device.

    `check` belongs into each pass of the main loop; it is the one place where a reading that hangs is noticed.

    Args:
        sensors: the sections ``[sensors.NAME]``.
        clock: stamps readings.
        post: takes `SensorRead`, `SensorFailed`, and `Faulted` for a driver's bug.
        root: the folder that stands for ``/sys``; offered to every driver as option ``root``.
        find: where a driver's class comes from.
    """

    def __init__(
        self,
        sensors: Mapping[str, Sensor],
        *,
        clock: Clock,
        post: Callable[[Event], None],
        root: Path = SYS,
        find: Find = find_driver,
    ) -> None:
        self._sensors = sensors
        self._clock = clock
        self._post = post
        self._root = root
        self._find = find
        self._lanes: dict[str, Lane] = {}
        self._lane_of: dict[str, Lane] = {}
        self.unknown = 0

    def open(self) -> None:
        """Start one thread per driver in use."""
        for driver in sorted({sensor.driver for sensor in self._sensors.values()}):
            mine = {name: _rooted(one, self._root) for name, one in self._sensors.items() if one.driver == driver}
            lane = Lane(driver, mine, clock=self._clock, post=self._post, find=self._find)
            self._lanes[driver] = lane
            self._lane_of.update(dict.fromkeys(mine, lane))
            lane.open()

    def handle(self, effects: Iterable[Effect]) -> None:
        """Have the named sensors read; never blocks. A sensor that is not configured is counted in `unknown`."""
        for effect in effects:
            if isinstance(effect, ReadSensors):
                for name in effect.names:
                    if (lane := self._lane_of.get(name)) is None:
                        self.unknown += 1
                    else:
                        lane.ask(name)

    def check(self, now: Ns) -> Ns | None:
        """Give up readings that have taken too long (``sensor_timeout``); cheap, never blocks.

        Returns:
            When it has to be called again at the latest; None while nothing is being read.
        """
        due = [at for lane in self._lanes.values() if (at := lane.check(now)) is not None]
        return min(due, default=None)

    def counts(self) -> dict[str, dict[str, int]]:
        """What became of the readings, by driver; see `Lane.counts`."""
        return {driver: dict(lane.counts) for driver, lane in self._lanes.items()}

    def close(self) -> None:
        """Close every sensor and end the threads; one that hangs is left behind after half a second. Idempotent."""
        lanes, self._lanes, self._lane_of = self._lanes, {}, {}
        for lane in lanes.values():
            lane.close()
        for lane in lanes.values():
            lane.join(PATIENCE_S)


def _rooted(sensor: Sensor, root: Path) -> Sensor:
    return msgspec.structs.replace(sensor, options={"root": str(root), **sensor.options})


def read_once(sensor: Sensor, root: Path = SYS, *, find: Find = find_driver) -> tuple[Value, str]:
    """Read one sensor now, for ``chappe sensor read``: the calibrated value and its unit.

    Raises:
        SensorError: if the sensor is missing, fails, does not answer within its `timeout`, or reads what is no value.
    """
    answers: queue.SimpleQueue[Event] = queue.SimpleQueue()
    edge = Sensors({"sensor": sensor}, clock=SystemClock(), post=answers.put, root=root, find=find)
    edge.open()
    try:
        edge.handle([ReadSensors(names=("sensor",))])
        answer = answers.get(timeout=as_seconds(sensor.timeout))
    except queue.Empty:
        limit = f"no answer within {as_seconds(sensor.timeout):g} s"
        raise SensorError(limit, remedy="check its wiring, or raise `timeout`", code="sensor_timeout") from None
    finally:
        edge.close()
    if isinstance(answer, SensorRead):
        try:
            return calibrate(answer.value, sensor), unit_of(sensor)
        except ValueError as error:
            raise SensorError(str(error), code="sensor_value") from error
    if isinstance(answer, SensorFailed):
        raise SensorError(answer.message, code=answer.code)
    raise SensorError(f"the driver {sensor.driver} failed: {getattr(answer, 'message', answer)}")
