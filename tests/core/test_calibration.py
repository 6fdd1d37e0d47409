"""Calibration: raw readings to values, and what is wrong with a sensor's settings."""

from __future__ import annotations

import doctest
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.core import calibration
from chappe.core.calibration import calibrate, problems, quantity_of, unit_of
from chappe.core.settings import Sensor
from chappe.core.units import Span

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "sensors_calibration.json").read_text(encoding="utf-8"))

finite = st.floats(-1e6, 1e6)


def sensor(**keys: object) -> Sensor:
    return Sensor(driver="simulated", **keys)


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("SEN-02", breaks="chappe.core.calibration:_shape")
def test_scale_offset_and_precision_make_the_documented_value() -> None:
    """Raw 1024 with scale 0.1, offset -2 and precision 1 is 100.4."""
    assert calibrate(1024, sensor(scale=0.1, offset=-2.0, precision=1)) == 100.4


@pytest.mark.feature("SEN-02", breaks="chappe.core.calibration:_interpolate")
@pytest.mark.parametrize(("raw", "value"), GOLDEN["two_point"]["values"])
def test_two_points_make_the_golden_line(raw: float, value: float) -> None:
    """Two points make a straight line, also beyond their ends."""
    points = tuple(tuple(pair) for pair in GOLDEN["two_point"]["points"])
    assert calibrate(raw, sensor(points=points, precision=3)) == value


@pytest.mark.feature("SEN-02", breaks="chappe.core.calibration:_polynomial")
@pytest.mark.parametrize(("raw", "value"), GOLDEN["polynomial"]["values"])
def test_a_polynomial_makes_the_golden_curve(raw: float, value: float) -> None:
    """Coefficients stand with the constant first."""
    coefficients = tuple(GOLDEN["polynomial"]["coefficients"])
    assert calibrate(raw, sensor(polynomial=coefficients, precision=3)) == value


@pytest.mark.parametrize(
    ("raw", "value"), [(-5.0, -10.0), (0.0, 0.0), (5.0, 10.0), (10.0, 20.0), (15.0, 70.0), (25.0, 170.0)]
)
def test_three_points_bend_at_the_middle_one(raw: float, value: float) -> None:
    """Each reading lies on the line of the two points around it; beyond the ends the last line goes on."""
    assert calibrate(raw, sensor(points=((0.0, 0.0), (10.0, 20.0), (20.0, 120.0)))) == value


@given(st.lists(st.tuples(st.integers(-1000, 1000), finite), min_size=2, max_size=8, unique_by=lambda point: point[0]))
def test_every_point_is_met(points: list[tuple[int, float]]) -> None:
    """Whatever the points are, each raw number among them becomes its value."""
    given_points = tuple((float(raw), value) for raw, value in sorted(points))
    for raw, value in given_points:
        assert calibrate(raw, sensor(points=given_points)) == pytest.approx(value, rel=1e-9, abs=1e-6)


@given(finite, finite, finite)
def test_a_line_is_the_same_in_all_three_ways(raw: float, scale: float, offset: float) -> None:
    """Scale and offset, a polynomial of degree one and two points agree."""
    by_scale = calibrate(raw, sensor(scale=scale, offset=offset))
    by_polynomial = calibrate(raw, sensor(polynomial=(offset, scale)))
    by_points = calibrate(raw, sensor(points=((0.0, offset), (1.0, offset + scale))))
    assert by_polynomial == by_scale
    assert by_points == pytest.approx(by_scale, rel=1e-6, abs=1e-2)


def test_points_come_before_a_polynomial_and_that_before_scale() -> None:
    """With several given, the order is the one the settings promise."""
    everything = {"points": ((0.0, 1.0), (1.0, 2.0)), "polynomial": (7.0,), "scale": 3.0}
    assert calibrate(1, sensor(**everything)) == 2.0
    del everything["points"]
    assert calibrate(1, sensor(**everything)) == 7.0
    del everything["polynomial"]
    assert calibrate(1, sensor(**everything)) == 3.0


def test_an_offset_alone_is_added() -> None:
    """Without a scale the raw number is taken as it is."""
    assert calibrate(20, sensor(offset=-1.5)) == 18.5


def test_a_scale_of_nothing_is_a_scale() -> None:
    """Scale 0 is set, not absent."""
    assert calibrate(20, sensor(scale=0.0, offset=4.0)) == 4.0


@pytest.mark.parametrize("raw", [True, False, "on", "23.5", ""])
def test_text_and_truth_values_pass_untouched(raw: object) -> None:
    """What is no number is not calculated with."""
    assert calibrate(raw, sensor(scale=2.0, precision=1)) is raw


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 12))
def test_whole_numbers_stay_whole_when_nothing_is_applied(raw: int, precision: int) -> None:
    """A counter is published as 17, not 17.0, and never loses a digit."""
    for settings in (sensor(), sensor(precision=precision)):
        value = calibrate(raw, settings)
        assert value == raw
        assert type(value) is int


def test_precision_nought_makes_whole_numbers() -> None:
    """No decimals means no decimals."""
    value = calibrate(23.6, sensor(precision=0))
    assert (value, type(value)) == (24, int)


def test_a_float_too_large_for_a_message_as_integer_stays_a_float() -> None:
    """Precision 0 does not make a number of 300 digits."""
    assert calibrate(1e300, sensor(precision=0)) == 1e300


def test_nothing_is_rounded_without_precision() -> None:
    """All digits are kept unless the owner says otherwise."""
    assert calibrate(0.1 + 0.2, sensor()) == 0.1 + 0.2


def test_minus_nought_becomes_nought() -> None:
    """A reading just below zero is not published as -0.0."""
    value = calibrate(-0.04, sensor(precision=1))
    assert math.copysign(1.0, value) == 1.0


@given(finite, st.integers(1, 6))
def test_rounding_moves_a_value_by_half_a_unit_at_most(raw: float, precision: int) -> None:
    """`precision` changes no value by more than half of its last decimal."""
    assert abs(calibrate(raw, sensor(precision=precision)) - raw) <= 0.5 * 10.0**-precision * (1 + 1e-6) + 1e-9


@pytest.mark.parametrize("raw", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("keys", [{}, {"scale": 2.0}, {"precision": 0}, {"points": ((0.0, 0.0), (1.0, 1.0))}])
def test_what_is_no_number_is_refused(raw: float, keys: dict[str, object]) -> None:
    """NaN and infinity never become a value."""
    with pytest.raises(ValueError, match="no value"):
        calibrate(raw, sensor(**keys))


def test_a_result_that_overflows_is_refused() -> None:
    """A number that calibration makes infinite is refused like one that came so."""
    with pytest.raises(ValueError, match="becomes inf"):
        calibrate(1e300, sensor(polynomial=(0.0, 0.0, 1.0)))


def test_an_integer_beyond_floats_is_refused() -> None:
    """A number no float can hold cannot be calibrated."""
    with pytest.raises(ValueError, match="too large"):
        calibrate(10**400, sensor(scale=2.0))


def test_the_example_in_the_docstring_holds() -> None:
    """The documented examples are true."""
    result = doctest.testmod(calibration)
    assert result.attempted >= 2
    assert result.failed == 0


# ── units ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "unit", "divisor"),
    [
        ("class/thermal/thermal_zone0/temp", "°C", 1000),
        ("class/hwmon/hwmon*/temp1_input", "°C", 1000),
        ("class/hwmon/hwmon0/temp*_crit", "°C", 1000),
        ("hwmon:rp1_adc/in3_input", "V", 1000),
        ("hwmon:ina219/curr1_input", "A", 1000),
        ("hwmon:ina219/power1_input", "W", 1_000_000),
        ("hwmon:sht3x/humidity1_input", "%", 1000),
        ("hwmon:pwmfan/fan1_input", "rpm", 1),
        ("iio:bme280/in_temp_input", "°C", 1000),
        ("iio:bme280/in_humidityrelative_input", "%", 1000),
        ("iio:bme280/in_pressure_input", "kPa", 1),
        ("iio:ads1015/in_voltage0_raw", "V", 1000),
        ("iio:ads1015/in_voltage0-voltage1_raw", "V", 1000),
        ("iio:tsl2563/in_illuminance0_input", "lx", 1),
        ("iio:adxl345/in_accel_x_raw", "m/s²", 1),
        ("w1:28-0316a2795dff/temperature", "°C", 1000),
        ("class/hwmon/hwmon0/temp1_alarm", "", 1),
        ("class/power_supply/BAT0/capacity", "", 1),
        ("", "", 1),
    ],
)
def test_a_kernel_file_has_its_unit(path: str, unit: str, divisor: int) -> None:
    """The kernel's ABI says what each file counts in."""
    assert quantity_of(path) == (divisor, unit)


def test_the_owners_unit_wins() -> None:
    """What the owner writes is not second-guessed."""
    assert unit_of(Sensor(driver="sysfs", path="class/thermal/thermal_zone0/temp", unit="K")) == "K"


@pytest.mark.parametrize(
    "keys", [{"scale": 1.8, "offset": 32.0}, {"points": ((0.0, 0.0), (1.0, 1.0))}, {"polynomial": (1.0,)}]
)
def test_a_calibrated_value_has_no_invented_unit(keys: dict[str, object]) -> None:
    """Whoever calibrates a temperature into °F is not told that it is °C."""
    assert unit_of(Sensor(driver="sysfs", path="class/thermal/thermal_zone0/temp", **keys)) == ""


@pytest.mark.parametrize(
    ("settings", "unit"),
    [
        (Sensor(driver="sysfs", path="class/thermal/thermal_zone0/temp", precision=1), "°C"),
        (Sensor(driver="sysfs", path="class/thermal/thermal_zone0/temp", offset=-0.5), "°C"),
        (Sensor(driver="mcp3008"), "V"),
        (Sensor(driver="simulated"), ""),
        (Sensor(driver="tides"), ""),
    ],
)
def test_a_driver_suggests_its_unit(settings: Sensor, unit: str) -> None:
    """Rounding and a zero-point correction leave the unit alone; waves and plug-ins have none of themselves."""
    assert unit_of(settings) == unit


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def found(settings: Sensor) -> list[tuple[str, str]]:
    return [(problem.path, problem.code) for problem in problems(settings, "sensors.x")]


@pytest.mark.parametrize(
    "settings",
    [
        sensor(),
        sensor(scale=0.1, offset=-2.0, precision=1),
        sensor(points=((0.0, 5.0), (1.0, -5.0))),
        sensor(polynomial=(1.0, 2.0, 3.0)),
        Sensor(driver="sysfs", path="class/thermal/thermal_zone0/temp"),
        sensor(wave="counter", low=1.0, high=1.0),
    ],
)
def test_good_settings_have_no_problems(settings: Sensor) -> None:
    """What is right is not complained about."""
    assert found(settings) == []


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (sensor(points=((0.0, 0.0), (1.0, 1.0)), polynomial=(1.0,)), ("sensors.x.polynomial", "conflict")),
        (sensor(polynomial=(1.0,), scale=2.0), ("sensors.x.scale", "conflict")),
        (sensor(points=((0.0, 0.0), (1.0, 1.0)), offset=2.0), ("sensors.x.scale", "conflict")),
        (sensor(points=((0.0, 0.0),)), ("sensors.x.points", "range")),
        (sensor(points=((0.0, 0.0), (0.0, 1.0))), ("sensors.x.points", "range")),
        (sensor(points=((1.0, 0.0), (0.0, 1.0))), ("sensors.x.points", "range")),
        (sensor(points=((0.0, 0.0), (1.0, math.nan))), ("sensors.x.points", "range")),
        (sensor(polynomial=(math.inf,)), ("sensors.x.polynomial", "range")),
        (sensor(scale=math.nan), ("sensors.x.scale", "range")),
        (sensor(offset=math.inf), ("sensors.x.offset", "range")),
        (sensor(every=Span(0)), ("sensors.x.every", "range")),
        (sensor(timeout=Span(0)), ("sensors.x.timeout", "range")),
        (sensor(period=Span(0)), ("sensors.x.period", "range")),
        (sensor(low=1.0, high=1.0), ("sensors.x.high", "range")),
        (Sensor(driver="sysfs"), ("sensors.x.path", "missing")),
    ],
)
def test_each_mistake_is_named_at_its_key(settings: Sensor, problem: tuple[str, str]) -> None:
    """One mistake gives one problem, at the key that has to be changed."""
    assert found(settings) == [problem]


def test_all_mistakes_are_told_at_once() -> None:
    """Nobody has to correct a file three times."""
    settings = Sensor(driver="sysfs", every=Span(0), points=((1.0, 0.0),), polynomial=(math.nan,))
    assert [path for path, _ in found(settings)] == [
        "sensors.x.polynomial",
        "sensors.x.points",
        "sensors.x.polynomial",
        "sensors.x.every",
        "sensors.x.path",
    ]
