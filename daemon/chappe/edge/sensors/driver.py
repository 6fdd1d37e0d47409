"""What a sensor driver is, and how one is found. The built-in drivers use exactly this way.

A plug-in is a class with three methods, named by an entry point of its package::

    [project.entry-points."chappe.sensors"]
    tides = "chappe_tides:Tides"

    class Tides:
        def open(self, sensor: Sensor) -> None:
            self._port = sensor.options["port"]       # whatever stands under [sensors.NAME.options]
        def read(self) -> float:
            return ask(self._port)                    # raw; calibration happens later
        def close(self) -> None: ...

and is used as ``driver = "tides"``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

from chappe.core.calibration import Value
from chappe.core.settings import Sensor
from chappe.errors import PlugInError

GROUP = "chappe.sensors"
BUILT_IN = {
    name: EntryPoint(name, f"chappe.edge.sensors.{name}:{factory}", GROUP)
    for name, factory in (("simulated", "Simulated"), ("sysfs", "Sysfs"), ("mcp3008", "Mcp3008"))
}


class Driver(Protocol):
    """Reads one sensor. There is one instance per configured sensor; all calls come from one thread at a time.

    `OSError` and `ValueError` mean that this reading failed (a `SensorError` may also say with which code); the
    instance is closed and the next reading opens a new one. A call that does not return within the sensor's `timeout`
    is left behind, instance and thread. Any other exception is a bug of the driver.
    """

    def open(self, sensor: Sensor) -> None:
        """Acquire what is needed; called once, before the first reading.

        Args:
            sensor: the section ``[sensors.NAME]``; its `options` hold the driver's own keys, and ``root``, the folder
                that stands for ``/sys``.

        Raises:
            SensorError: if there is no such sensor (code ``sensor_missing``) or it does not answer.
        """

    def read(self) -> Value:
        """One raw reading: a finite number, text, or a truth value."""

    def close(self) -> None:
        """Release everything; idempotent, also after a failed `open`."""


Find = Callable[[str], Callable[[], Driver]]


def find_driver(name: str) -> Callable[[], Driver]:
    """The class of a driver: built in, else from a plug-in.

    Raises:
        PlugInError: if nobody offers `name`, or what is offered cannot be imported or is no driver.
    """
    entry = BUILT_IN.get(name) or next(iter(entry_points(group=GROUP, name=name)), None)
    if entry is None:
        raise _unknown(name)
    try:
        factory: Any = entry.load()
    except (ImportError, AttributeError) as error:
        raise PlugInError(
            f"the sensor driver {name!r} cannot be loaded: {error}",
            remedy=f"reinstall the package that offers {entry.value}",
            code="sensor_missing",
            retriable=False,
        ) from error
    missing = [method for method in ("open", "read", "close") if not callable(getattr(factory, method, None))]
    if missing:
        raise PlugInError(
            f"the sensor driver {name!r} ({entry.value}) has no {', '.join(missing)}",
            remedy="a driver is a class with open(sensor), read() and close()",
            code="sensor_missing",
            retriable=False,
        )
    return lambda: _instance(factory)


def _instance(factory: Any) -> Driver:
    driver: Driver = factory()
    return driver


def available_drivers() -> tuple[str, ...]:
    """Names of every driver that is built in or installed, in order of the alphabet."""
    return tuple(sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))}))


def _unknown(name: str) -> PlugInError:
    known = available_drivers()
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return PlugInError(
        f"there is no sensor driver {name!r}",
        remedy=f"{hint}there are {', '.join(known)}",
        code="sensor_missing",
        retriable=False,
    )
