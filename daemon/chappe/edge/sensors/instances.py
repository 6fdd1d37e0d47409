"""The open drivers of one lane, and what counts as a reading."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping

from chappe.core.calibration import Value
from chappe.core.settings import Sensor
from chappe.edge.sensors.driver import Driver, Find
from chappe.errors import PlugInError, SensorError

_INT64 = 2**63


class Instances:
    """One instance per sensor; touched only by the thread that reads.

    Args:
        driver: the driver's name.
        sensors: the sensors that use it.
        find: where its class comes from.
    """

    def __init__(self, driver: str, sensors: Mapping[str, Sensor], find: Find) -> None:
        self._driver = driver
        self._sensors = sensors
        self._find = find
        self._idle: dict[str, Driver] = {}
        self._factory: Callable[[], Driver] | PlugInError | None = None

    def read(self, name: str) -> tuple[Value, Driver]:
        """Read once, and hand the instance over with the value: whoever still waits for it gives it back with `keep`.

        Raises:
            OSError: if the sensor cannot be opened or read; the instance is closed, and the next reading opens a new one.
            ValueError: likewise.
        """
        driver = self._idle.pop(name, None)
        good = False
        try:
            if driver is None:
                driver = self._new()
                driver.open(self._sensors[name])
            value = _sound(driver.read())
            good = True
        finally:
            if driver is not None and not good:
                close(driver)
        return value, driver

    def keep(self, name: str, driver: Driver) -> None:
        """The instance serves the next reading too."""
        self._idle[name] = driver

    def close(self) -> None:
        """Close every instance that is not reading."""
        while self._idle:
            close(self._idle.popitem()[1])

    def _new(self) -> Driver:
        if self._factory is None:
            try:
                self._factory = self._find(self._driver)
            except PlugInError as error:
                self._factory = error  # looking through all installed packages again would find the same
        if isinstance(self._factory, PlugInError):
            raise self._factory
        return self._factory()


def close(driver: Driver) -> None:
    """Close a driver; what cannot be closed properly is left."""
    with contextlib.suppress(OSError):
        driver.close()


def _sound(value: object) -> Value:
    """The reading, if an event can carry it.

    Raises:
        SensorError: if it is none.
    """
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise SensorError(f"the driver read {value}, which is no value", code="sensor_value")
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return int(value)
    raise SensorError(f"the driver read {value!r:.60}, which is neither number, text nor truth value")
