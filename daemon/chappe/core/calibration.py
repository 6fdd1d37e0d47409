"""From the number a sensor's chip gives to the value the owner wants: calibration, rounding and units.

Everything here is a pure function of a raw reading and the sensor's settings, so that a recorded run replays to the same values.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from chappe.core.settings import Sensor
from chappe.errors import Problem

Value = float | int | str | bool

_WHOLE = 2.0**53  # every float beyond is a whole number already, and its int may not fit into a message


def calibrate(raw: Value, sensor: Sensor) -> Value:
    """The calibrated value of one raw reading.

    `points` come first, else `polynomial`, else ``raw * scale + offset``; then `precision`. Text and truth values pass
    untouched, and so does a whole number to which nothing is applied. Rounding is Python's (half to even).

    Args:
        raw: what the driver read.
        sensor: the section ``[sensors.NAME]``.

    Raises:
        ValueError: if the reading, or what becomes of it, is NaN, infinite or beyond a float: JSON has no such
            numbers, and a value is never invented. The reading becomes the fault ``sensor_value``.

    >>> calibrate(1024, Sensor(driver="sysfs", scale=0.1, offset=-2.0, precision=1))
    100.4
    """
    if isinstance(raw, (bool, str)):
        return raw
    try:
        value = _shape(raw, sensor)
    except OverflowError as error:
        raise ValueError("the reading is too large to calibrate") from error
    if isinstance(value, int):
        return value
    if not math.isfinite(value):
        raise ValueError(f"the reading {raw} becomes {value}, which is no value")
    return _rounded(value, sensor.precision)


def _shape(raw: float, sensor: Sensor) -> float | int:
    if len(sensor.points) > 1:
        return _interpolate(float(raw), sensor.points)
    if sensor.polynomial:
        return _polynomial(float(raw), sensor.polynomial)
    if sensor.scale is not None or sensor.offset:
        return raw * (1.0 if sensor.scale is None else sensor.scale) + sensor.offset
    return raw


def _interpolate(raw: float, points: tuple[tuple[float, float], ...]) -> float:
    """On the line through the two points around `raw`; beyond the ends, on the line of the last two."""
    after = bisect_right(points, raw, key=lambda point: point[0])
    right = min(max(after, 1), len(points) - 1)
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return y0 + (y1 - y0) * ((raw - x0) / (x1 - x0))


def _polynomial(raw: float, coefficients: tuple[float, ...]) -> float:
    """Horner's rule, constant first."""
    value = 0.0
    for coefficient in reversed(coefficients):
        value = value * raw + coefficient
    return value


def _rounded(value: float, precision: int | None) -> float | int:
    if precision is None:
        return value
    if precision == 0 and abs(value) < _WHOLE:
        return round(value)
    return round(value, precision) + 0.0  # -0.0 becomes 0.0: "-0.0 °C" puzzles people and defeats `change`


# ── what the kernel's files mean ─────────────────────────────────────────────────────────────────────────────────────


class Quantity(NamedTuple):
    """What a file of sysfs counts in.

    Attributes:
        divisor: the file's number divided by this is in `unit`.
        unit: as messages carry it, "" where the number has none.
    """

    divisor: int
    unit: str


PLAIN = Quantity(1, "")
_LIMITS = r"(?:input|average|lowest|highest|min|max|crit|lcrit|emergency)"
_IIO = r"(?:\d*|\d+-[a-z]+\d+|_\w+)(?:_input|_raw)?"

# hwmon: Linux Documentation/hwmon/sysfs-interface.rst. IIO: Documentation/ABI/testing/sysfs-bus-iio. Thermal zones:
# Documentation/ABI/testing/sysfs-class-thermal. 1-wire: Documentation/w1/slaves/w1_therm.rst.
_QUANTITIES: tuple[tuple[re.Pattern[str], Quantity], ...] = tuple(
    (re.compile(pattern), quantity)
    for pattern, quantity in (
        (rf"temp\d+_{_LIMITS}", Quantity(1_000, "°C")),
        (rf"in\d+_{_LIMITS}", Quantity(1_000, "V")),
        (rf"curr\d+_{_LIMITS}", Quantity(1_000, "A")),
        (rf"power\d+_{_LIMITS}", Quantity(1_000_000, "W")),
        (r"energy\d+_input", Quantity(1_000_000, "J")),
        (r"humidity\d+_input", Quantity(1_000, "%")),
        (rf"fan\d+_{_LIMITS}", Quantity(1, "rpm")),
        (rf"in_temp{_IIO}", Quantity(1_000, "°C")),
        (rf"in_humidityrelative{_IIO}", Quantity(1_000, "%")),
        (rf"in_pressure{_IIO}", Quantity(1, "kPa")),
        (rf"in_(?:alt)?voltage{_IIO}", Quantity(1_000, "V")),
        (rf"in_current{_IIO}", Quantity(1_000, "A")),
        (rf"in_power{_IIO}", Quantity(1_000, "W")),
        (rf"in_energy{_IIO}", Quantity(1, "J")),
        (rf"in_illuminance{_IIO}", Quantity(1, "lx")),
        (rf"in_resistance{_IIO}", Quantity(1, "Ω")),
        (rf"in_distance{_IIO}", Quantity(1, "m")),
        (rf"in_concentration{_IIO}", Quantity(1, "%")),
        (rf"in_accel{_IIO}", Quantity(1, "m/s²")),
        (rf"in_anglvel{_IIO}", Quantity(1, "rad/s")),
        (rf"in_magn{_IIO}", Quantity(1, "G")),
        (r"temp", Quantity(1_000, "°C")),
        (r"temperature", Quantity(1_000, "°C")),
    )
)


def quantity_of(path: str) -> Quantity:
    """What the file that `path` (or a pattern for it) names counts in.

    >>> quantity_of("class/thermal/thermal_zone0/temp")
    Quantity(divisor=1000, unit='°C')
    """
    name = path.rsplit("/", 1)[-1].replace("*", "0")
    return next((quantity for pattern, quantity in _QUANTITIES if pattern.fullmatch(name)), PLAIN)


def unit_of(sensor: Sensor) -> str:
    """The unit of a sensor's values: the owner's word, else what the driver gives when nothing else is applied, else ""."""
    if sensor.unit or sensor.points or sensor.polynomial or sensor.scale is not None:
        return sensor.unit
    if sensor.driver == "sysfs":
        return quantity_of(sensor.path).unit
    return "V" if sensor.driver == "mcp3008" else ""


# ── configuration errors ─────────────────────────────────────────────────────────────────────────────────────────────


def problems(sensor: Sensor, path: str) -> list[Problem]:
    """Everything wrong with a sensor's settings that types and ranges alone do not show.

    Args:
        sensor: the section.
        path: its dotted key, for example ``sensors.temperature``.
    """
    return [Problem(f"{path}.{key}", code, message) for key, code, message in (*_curve(sensor), *_driver(sensor))]


def _curve(sensor: Sensor) -> Iterator[tuple[str, str, str]]:
    given = [
        name
        for name, present in (
            ("points", sensor.points),
            ("polynomial", sensor.polynomial),
            ("scale", sensor.scale is not None or sensor.offset),
        )
        if present
    ]
    if len(given) > 1:
        yield given[1], "conflict", f"{' and '.join(given)} exclude each other; keep one"
    if len(sensor.points) == 1:
        yield "points", "range", "one point makes no line; give at least two [raw, value] pairs"
    rising = zip(sensor.points, sensor.points[1:], strict=False)
    if any(not right[0] > left[0] for left, right in rising):
        yield "points", "range", "raw numbers must rise from pair to pair"
    for name, numbers in (
        ("points", [number for point in sensor.points for number in point]),
        ("polynomial", list(sensor.polynomial)),
        ("scale", [] if sensor.scale is None else [sensor.scale]),
        ("offset", [sensor.offset]),
    ):
        if not all(map(math.isfinite, numbers)):
            yield name, "range", "NaN and infinity are no numbers to calibrate with"


def _driver(sensor: Sensor) -> Iterator[tuple[str, str, str]]:
    for name in ("every", "timeout", "period"):
        if getattr(sensor, name) <= 0:
            yield name, "range", 'must be longer than nothing, for example "1s"'
    if sensor.driver == "sysfs" and not sensor.path:
        yield "path", "missing", 'the driver sysfs needs a file, for example "class/thermal/thermal_zone0/temp"'
    if sensor.driver == "simulated" and not sensor.low < sensor.high and sensor.wave != "counter":
        yield "high", "range", f"must be above low ({sensor.low:g})"
