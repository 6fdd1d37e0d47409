"""The built-in sensor drivers, and how a driver is found."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory, MockSPIDevice
from hypothesis import given
from hypothesis import strategies as st

from chappe.core.settings import Sensor
from chappe.core.units import MILLISECOND, MINUTE, SECOND, Span
from chappe.edge.sensors import available_drivers, find_driver, read_once
from chappe.edge.sensors.mcp3008 import Mcp3008
from chappe.edge.sensors.simulated import WALK_STEP, Simulated
from chappe.edge.sensors.sysfs import Sysfs, locate
from chappe.errors import PlugInError, SensorError

GOLDEN = Path(__file__).parents[1] / "golden" / "sensors_random_walk.json"


def take(count: int, **keys: Any) -> list[Any]:
    driver = Simulated()
    driver.open(Sensor(driver="simulated", **keys))
    values = [driver.read() for _ in range(count)]
    driver.close()
    return values


# ── simulated ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("SEN-01", breaks="chappe.edge.sensors.simulated:Simulated.read")
def test_the_counter_counts_from_nought() -> None:
    """A thousand readings of ``counter`` are 0 to 999, as whole numbers."""
    values = take(1000, wave="counter", every=Span(10 * MILLISECOND))
    assert values == list(range(1000))
    assert {type(value) for value in values} == {int}


@pytest.mark.feature("SEN-01", breaks="chappe.edge.sensors.simulated:Simulated.read")
def test_the_random_walk_is_the_golden_one() -> None:
    """A seed fixes the walk for ever: release, machine and Python may change, the values do not."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    for walk in golden:
        assert take(len(walk["values"]), **walk["sensor"]) == walk["values"]


def test_a_sine_starts_in_the_middle_and_turns_in_its_period() -> None:
    """Its four quarters are middle, high, middle, low, by the number of the reading."""
    values = take(9, wave="sine", low=10.0, high=30.0, every=Span(SECOND), period=Span(4 * SECOND))
    assert values == pytest.approx([20, 30, 20, 10, 20, 30, 20, 10, 20])


def test_a_square_is_high_for_half_its_period() -> None:
    """The first half of each period is high, the second low."""
    values = take(8, wave="square", low=-1.0, high=1.0, every=Span(SECOND), period=Span(4 * SECOND))
    assert values == [1, 1, -1, -1, 1, 1, -1, -1]


def test_a_period_that_is_no_multiple_of_every_does_not_drift() -> None:
    """After a million periods the phase is still exact."""
    driver = Simulated()
    driver.open(Sensor(driver="simulated", wave="square", every=Span(1_000_000 * 3 * SECOND), period=Span(3 * SECOND)))
    assert {driver.read() for _ in range(10)} == {1.0}


@given(
    wave=st.sampled_from(["sine", "square", "random_walk", "noise"]),
    low=st.floats(-1e6, 1e6),
    span=st.floats(1e-3, 1e6),
    seed=st.integers(0, 2**31),
)
def test_every_wave_stays_between_low_and_high(wave: str, low: float, span: float, seed: int) -> None:
    """No reading leaves the span that the owner set (but for the last digit of a sine)."""
    high = low + span
    values = take(50, wave=wave, low=low, high=high, seed=seed, period=Span(7 * SECOND))
    slack = 1e-9 * max(1.0, abs(low), abs(high))
    assert low - slack <= min(values) <= max(values) <= high + slack


@given(st.integers(0, 2**31))
def test_a_walk_moves_by_small_steps(seed: int) -> None:
    """Neighbouring readings differ by at most the documented share of the span."""
    values = take(100, wave="random_walk", seed=seed)
    assert values[0] == 0.5
    assert max(abs(right - left) for left, right in itertools.pairwise(values)) <= WALK_STEP


def test_noise_uses_its_seed() -> None:
    """Same seed, same noise; another seed, another noise."""
    assert take(20, wave="noise", seed=1) == take(20, wave="noise", seed=1) != take(20, wave="noise", seed=2)


def test_noise_fills_the_span_evenly() -> None:
    """Ten thousand readings have the mean and the spread of a uniform distribution."""
    values = take(10_000, wave="noise", low=0.0, high=12.0, seed=5)
    mean = sum(values) / len(values)
    assert mean == pytest.approx(6.0, abs=0.15)
    assert sum((value - mean) ** 2 for value in values) / len(values) == pytest.approx(12.0, rel=0.05)


def test_waves_are_the_same_in_another_process() -> None:
    """Neither the process nor its hash seed has a part in the values."""
    script = (
        "from chappe.core.settings import Sensor\n"
        "from chappe.edge.sensors.simulated import Simulated\n"
        "for wave in ('random_walk', 'noise', 'sine'):\n"
        "    driver = Simulated()\n"
        "    driver.open(Sensor(driver='simulated', wave=wave, seed=7))\n"
        "    print([driver.read() for _ in range(5)])\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    here = "".join(f"{take(5, wave=wave, seed=7)}\n" for wave in ("random_walk", "noise", "sine"))
    assert outputs == {here}


# ── sysfs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def sys_root(tmp_path: Path) -> Path:
    """A folder that looks like the ``/sys`` of a Pi 5 with a BME280, an ADS1015 and a DS18B20; links as the kernel makes them."""
    root = tmp_path / "sys"
    files = {
        "devices/virtual/thermal/thermal_zone0/temp": "48312\n",
        "devices/virtual/thermal/thermal_zone0/type": "cpu-thermal\n",
        "devices/platform/cpu/hwmon/hwmon10/name": "cpu_thermal\n",
        "devices/platform/cpu/hwmon/hwmon10/temp1_input": "51234\n",
        "devices/platform/adc/hwmon/hwmon2/name": "rp1_adc\n",
        "devices/platform/adc/hwmon/hwmon2/temp1_input": "39500\n",
        "devices/platform/adc/hwmon/hwmon2/in1_input": "1462\n",
        "devices/i2c/iio:device0/name": "bme280\n",
        "devices/i2c/iio:device0/in_temp_input": "21580\n",
        "devices/i2c/iio:device0/in_pressure_input": "101.325000000\n",
        "devices/i2c/iio:device0/in_humidityrelative_input": "45123\n",
        "devices/i2c/iio:device1/name": "ads1015\n",
        "devices/i2c/iio:device1/in_voltage0_raw": "1000\n",
        "devices/i2c/iio:device1/in_voltage1_raw": "500\n",
        "devices/i2c/iio:device1/in_voltage1_scale": "4.0\n",
        "devices/i2c/iio:device1/in_voltage_scale": "2.0\n",
        "devices/i2c/iio:device1/in_voltage0-voltage1_raw": "100\n",
        "devices/i2c/iio:device1/in_voltage-voltage_scale": "3.0\n",
        "devices/i2c/iio:device1/in_temp_raw": "300\n",
        "devices/i2c/iio:device1/in_temp_offset": "-100\n",
        "devices/i2c/iio:device1/in_temp_scale": "125.0\n",
        "devices/i2c/iio:device1/in_accel_x_raw": "-256\n",
        "devices/i2c/iio:device1/in_accel_scale": "0.038245\n",
        "devices/w1/28-0316a2795dff/temperature": "22125\n",
        "devices/bat/capacity": "87\n",
        "devices/bat/status": "Discharging\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    links = {
        "class/thermal/thermal_zone0": "devices/virtual/thermal/thermal_zone0",
        "class/hwmon/hwmon10": "devices/platform/cpu/hwmon/hwmon10",
        "class/hwmon/hwmon2": "devices/platform/adc/hwmon/hwmon2",
        "bus/iio/devices/iio:device0": "devices/i2c/iio:device0",
        "bus/iio/devices/iio:device1": "devices/i2c/iio:device1",
        "bus/w1/devices/28-0316a2795dff": "devices/w1/28-0316a2795dff",
        "class/power_supply/BAT0": "devices/bat",
    }
    for name, target in links.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(root / target)
    return root


def read(path: str, root: Path) -> Any:
    driver = Sysfs()
    driver.open(Sensor(driver="sysfs", path=path, options={"root": str(root)}))
    return driver.read()


@pytest.mark.feature("SEN-01", breaks="chappe.edge.sensors.sysfs:_reading")
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("class/thermal/thermal_zone0/temp", 48.312),
        ("/sys/class/thermal/thermal_zone0/temp", 48.312),
        ("thermal:cpu-thermal/temp", 48.312),
        ("hwmon:cpu_thermal/temp1_input", 51.234),
        ("hwmon:rp1_*/temp1_input", 39.5),
        ("hwmon:rp1_adc/in1_input", 1.462),
        ("class/hwmon/hwmon*/temp1_input", 39.5),
        ("iio:bme280/in_temp_input", 21.58),
        ("iio:bme280/in_temp", 21.58),
        ("iio:bme280/in_temp_raw", 21.58),
        ("iio:bme280/in_pressure_input", 101.325),
        ("iio:bme280/in_humidityrelative_input", 45.123),
        ("bus/iio/devices/iio:device0/in_temp_input", 21.58),
        ("iio:ads1015/in_voltage0_raw", 2.0),
        ("iio:ads1015/in_voltage1_raw", 2.0),
        ("iio:ads1015/in_voltage0-voltage1_raw", 0.3),
        ("iio:ads1015/in_temp_raw", 25.0),
        ("iio:ads1015/in_accel_x_raw", -256 * 0.038245),
        ("w1:28-0316a2795dff/temperature", 22.125),
        ("w1:28-*/temperature", 22.125),
        ("class/power_supply/BAT0/capacity", 87),
        ("class/power_supply/BAT0/status", "Discharging"),
    ],
)
def test_a_kernel_file_is_read_in_its_natural_unit(path: str, value: object, sys_root: Path) -> None:
    """Whichever way the file is named, the value is in °C, V, kPa and so on."""
    assert read(path, sys_root) == pytest.approx(value) if isinstance(value, float) else read(path, sys_root) == value


def test_a_counting_file_gives_a_whole_number(sys_root: Path) -> None:
    """87 percent is 87, not 87.0."""
    assert type(read("class/power_supply/BAT0/capacity", sys_root)) is int


def test_a_name_finds_its_device_under_any_number(sys_root: Path) -> None:
    """The kernel numbers hwmon anew at each boot; a name does not care."""
    (sys_root / "class/hwmon/hwmon10").rename(sys_root / "class/hwmon/hwmon3")
    assert read("hwmon:cpu_thermal/temp1_input", sys_root) == 51.234


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("class/hwmon/hwmon99/temp1_input", "there is no 'class/hwmon/hwmon99/temp1_input'"),
        ("hwmon:cpu_termal/temp1_input", "the kernel shows: cpu_thermal, rp1_adc"),
        ("w1:28-000000000000/temperature", "the kernel shows: 28-0316a2795dff"),
        ("iio:bme280/in_illuminance_input", "there is no 'iio:bme280/in_illuminance_input'"),
    ],
)
def test_a_missing_sensor_is_named(path: str, hint: str, sys_root: Path) -> None:
    """The error says what is not there, and where it helps what is."""
    with pytest.raises(SensorError, match=hint) as caught:
        read(path, sys_root)
    assert caught.value.code == "sensor_missing"
    assert caught.value.retriable


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../secret",
        "class/../../secret",
        "class/**",
        "hwmon:cpu_thermal/../../../../../secret",
        "link",
        "",
    ],
)
def test_no_path_leads_out_of_the_root(path: str, sys_root: Path) -> None:
    """A sensor cannot be made to read a file elsewhere, not even over a link."""
    secret = sys_root.parent / "secret"
    secret.write_text("42", encoding="utf-8")
    (sys_root / "link").symlink_to(secret)
    with pytest.raises(SensorError, match="below /sys") as caught:
        locate(path, sys_root)
    assert not caught.value.retriable


@pytest.mark.parametrize(("text", "hint"), [("", "did not answer"), ("N/A", "no number")])
def test_a_file_without_a_number_is_a_failed_reading(text: str, hint: str, sys_root: Path) -> None:
    """An empty or senseless answer is not made into a temperature."""
    (sys_root / "devices/virtual/thermal/thermal_zone0/temp").write_text(text, encoding="utf-8")
    with pytest.raises(SensorError, match=hint) as caught:
        read("class/thermal/thermal_zone0/temp", sys_root)
    assert caught.value.code == "sensor_failed"


def test_a_channel_with_a_senseless_scale_is_a_failed_reading(sys_root: Path) -> None:
    """Without its scale a raw number means nothing."""
    (sys_root / "devices/i2c/iio:device1/in_temp_scale").write_text("none", encoding="utf-8")
    with pytest.raises(SensorError, match="no number"):
        read("iio:ads1015/in_temp_raw", sys_root)


def test_a_file_that_goes_away_is_missing(sys_root: Path) -> None:
    """A device pulled out between two readings is told as such."""
    driver = Sysfs()
    driver.open(Sensor(driver="sysfs", path="w1:28-*/temperature", options={"root": str(sys_root)}))
    assert driver.read() == 22.125
    (sys_root / "devices/w1/28-0316a2795dff/temperature").unlink()
    with pytest.raises(SensorError, match="gone") as caught:
        driver.read()
    assert caught.value.code == "sensor_missing"


def test_a_file_that_cannot_be_read_fails_with_the_reason(sys_root: Path) -> None:
    """What the kernel says is passed on."""
    with pytest.raises(SensorError, match="Is a directory"):
        read("class/thermal", sys_root)


def test_only_a_page_is_read(sys_root: Path) -> None:
    """A file that is no sensor cannot fill the memory."""
    (sys_root / "big").write_text("x" * 100_000, encoding="utf-8")
    assert len(read("big", sys_root)) == 4096


# ── mcp3008 ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Converter(MockSPIDevice):
    """The chip's side of the protocol (Microchip DS21295, figure 6-1): start bit, mode, channel, then ten bits."""

    def __init__(self, factory: MockFactory, channels: dict[int, int]) -> None:
        super().__init__(11, 10, 9, 8, pin_factory=factory)
        self.channels = channels

    def on_bit(self) -> None:
        if self.rx_bit == 12:
            self.tx_word(self.channels[self.rx_word() & 7], 12)


@pytest.fixture
def spi(monkeypatch: pytest.MonkeyPatch) -> MockFactory:
    """gpiozero's default pins, in memory."""
    factory = MockFactory()
    monkeypatch.setattr(gpiozero.Device, "pin_factory", factory)
    return factory


@pytest.mark.feature("SEN-01", breaks="chappe.edge.sensors.mcp3008:Mcp3008.read")
@pytest.mark.parametrize(("channel", "raw"), [(0, 0), (3, 512), (7, 1023)])
def test_the_converter_gives_volts(channel: int, raw: int, spi: MockFactory) -> None:
    """The channel's share of the reference voltage, bit by bit over the bus."""
    Converter(spi, {channel: raw})
    driver = Mcp3008()
    driver.open(Sensor(driver="mcp3008", channel=channel, vref=3.3))
    assert driver.read() == pytest.approx(raw / 1023 * 3.3)
    driver.close()


@pytest.mark.usefixtures("spi")
def test_the_converter_lets_go_of_the_bus() -> None:
    """After `close` the pins can be had again, and closing twice is no error."""
    for _ in range(2):
        driver = Mcp3008()
        driver.open(Sensor(driver="mcp3008"))
        assert driver.read() == pytest.approx(0.0)
        driver.close()
        driver.close()


@pytest.mark.usefixtures("spi")
def test_a_bus_that_cannot_be_had_is_a_missing_sensor() -> None:
    """A wrong chip-enable line is told with a remedy."""
    with pytest.raises(SensorError, match="cannot be opened") as caught:
        Mcp3008().open(Sensor(driver="mcp3008", options={"device": 5}))
    assert caught.value.code == "sensor_missing"
    assert "SPI" in caught.value.remedy


# ── finding a driver ─────────────────────────────────────────────────────────────────────────────────────────────────

Install = Callable[[str, str], None]

TIDES = """
class Tides:
    def open(self, sensor):
        self._height = sensor.options["height"]
    def read(self):
        return self._height
    def close(self):
        pass
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package with one sensor driver, as pip would."""

    def doing(name: str, code: str) -> None:
        (tmp_path / f"chappe_{name}.py").write_text(code, encoding="utf-8")
        info = tmp_path / f"chappe_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: chappe-{name}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(
            f"[chappe.sensors]\n{name} = chappe_{name}:{name.title()}\n", encoding="utf-8"
        )
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, f"chappe_{name}", raising=False)

    return doing


@pytest.mark.feature("SEN-01", breaks="chappe.edge.sensors.driver:_instance")
def test_a_plug_in_is_found_and_read(install: Install) -> None:
    """A driver of an installed package is used by its name alone."""
    install("tides", TIDES)
    assert read_once(Sensor(driver="tides", unit="m", options={"height": 4.25})) == (4.25, "m")
    assert available_drivers() == ("mcp3008", "simulated", "sysfs", "tides")


def test_a_built_in_driver_cannot_be_replaced_from_outside(install: Install) -> None:
    """A package that calls its driver ``sysfs`` does not get it."""
    install("sysfs", TIDES.replace("Tides", "Sysfs"))
    assert [entry.name for entry in entry_points(group="chappe.sensors")] == ["sysfs"]
    assert type(find_driver("sysfs")()) is Sysfs


def test_an_unknown_driver_is_refused_with_a_suggestion() -> None:
    """A typing error is met with the name that was meant, and all there are."""
    with pytest.raises(PlugInError, match="did you mean 'simulated'") as caught:
        find_driver("simulatd")
    assert "mcp3008, simulated, sysfs" in caught.value.remedy
    assert not caught.value.retriable


def test_a_driver_without_a_method_is_refused(install: Install) -> None:
    """The missing method is named before anything is read."""
    install("waves", "class Waves:\n    def open(self, sensor): ...\n    def close(self): ...\n")
    with pytest.raises(PlugInError, match=r"'waves' \(chappe_waves:Waves\) has no read"):
        find_driver("waves")


@pytest.mark.parametrize(("code", "hint"), [("import no_such_module", "no_such_module"), ("Other = 1", "Mud")])
def test_a_driver_that_cannot_be_imported_is_refused(code: str, hint: str, install: Install) -> None:
    """The reason of the failed import is told."""
    install("mud", code)
    with pytest.raises(PlugInError, match=hint):
        find_driver("mud")


# ── one reading for the command line ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("SEN-01", breaks="chappe.edge.sensors.sysfs:Sysfs.read")
def test_one_reading_has_value_and_unit(sys_root: Path) -> None:
    """``chappe sensor read`` shows the calibrated value with its unit."""
    sensor = Sensor(driver="sysfs", path="thermal:cpu-thermal/temp", precision=1)
    assert read_once(sensor, sys_root) == (48.3, "°C")


def test_one_reading_of_a_missing_sensor_fails_with_its_code(sys_root: Path) -> None:
    """The command line gets the same code as the fault would have."""
    with pytest.raises(SensorError) as caught:
        read_once(Sensor(driver="sysfs", path="hwmon:none/temp1_input"), sys_root)
    assert caught.value.code == "sensor_missing"


class Odd:
    """A driver of which `answer` is read, or raised."""

    answer: Any = None

    def open(self, sensor: Sensor) -> None: ...

    def read(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("answer", "code", "hint"),
    [
        (math.nan, "sensor_value", "nan"),
        (math.inf, "sensor_value", "inf"),
        (1e308, "sensor_value", "becomes inf"),
        (None, "sensor_failed", "None"),
        (b"23", "sensor_failed", "b'23'"),
        (2**63, "sensor_failed", "9223372036854775808"),
        (OSError(5, "Input/output error"), "sensor_failed", "Input/output error"),
        (ValueError("checksum"), "sensor_failed", "checksum"),
        (SensorError("no answer", code="sensor_missing"), "sensor_missing", "no answer"),
        (ZeroDivisionError("bug"), "sensor_failed", "ZeroDivisionError: bug"),
    ],
)
def test_what_is_no_reading_is_an_error(answer: object, code: str, hint: str) -> None:
    """Nothing that a driver may say or raise becomes a value that is none."""
    odd = type("OddOne", (Odd,), {"answer": answer})
    with pytest.raises(SensorError, match=hint) as caught:
        read_once(Sensor(driver="odd", scale=10.0, period=Span(MINUTE)), find=lambda _name: odd)
    assert caught.value.code == code
