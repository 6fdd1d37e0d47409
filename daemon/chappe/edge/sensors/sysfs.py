"""The driver ``sysfs``: a number the kernel offers as a file, in its natural unit.

`path` names the file in one of three ways; the last does not care how the kernel numbered its devices at this boot:

- ``class/thermal/thermal_zone0/temp``, relative to ``/sys`` (with or without ``/sys`` in front);
- ``class/hwmon/hwmon*/temp1_input``, a pattern: the first match counts, hwmon2 before hwmon10;
- ``hwmon:cpu_thermal/temp1_input``, ``iio:bme280/in_humidityrelative_input``, ``thermal:cpu-thermal/temp``,
  ``w1:28-0316a2795dff/temperature``: the device of that name.

Milli-degrees, millivolts and the like become °C and V (`chappe.core.calibration.quantity_of`). Of an IIO channel
``in_X_raw`` the value is ``(raw + offset) * scale``, as Documentation/ABI/testing/sysfs-bus-iio of the Linux kernel says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from chappe.core.calibration import Value, quantity_of
from chappe.core.settings import Sensor
from chappe.errors import SensorError

SYS = Path("/sys")
MOST_BYTES = 4096  # sysfs offers one page


class Family(NamedTuple):
    """A kind of device that can be chosen by name: where the devices are, and which file holds the name ("": the folder)."""

    folders: str
    name: str


FAMILIES = {
    "hwmon": Family("class/hwmon/hwmon*", "name"),
    "iio": Family("bus/iio/devices/iio:device*", "name"),
    "thermal": Family("class/thermal/thermal_zone*", "type"),
    "w1": Family("bus/w1/devices/*", ""),
}


class Sysfs:
    """Reads one file. A device that goes and comes back may have another number, so each `open` looks for it anew."""

    def __init__(self) -> None:
        self._file: Path | None = None

    def open(self, sensor: Sensor) -> None:
        self._file = locate(sensor.path, Path(sensor.options.get("root", SYS)))

    def read(self) -> Value:
        assert self._file is not None, "read before open"
        return _reading(self._file)

    def close(self) -> None:
        self._file = None


# ── finding the file ─────────────────────────────────────────────────────────────────────────────────────────────────


def locate(path: str, root: Path = SYS) -> Path:
    """The file that a sensor's `path` means at this moment.

    Raises:
        SensorError: if there is none (``sensor_missing``), or `path` leads out of `root`.
    """
    for pattern in _spellings(_patterns(path, root)):
        for file in sorted(root.glob(pattern), key=_natural):
            if not file.resolve().is_relative_to(root.resolve()):
                raise _outside(path)
            return file
    raise SensorError(
        f"there is no {path!r} under {root}",
        remedy="look which files are there, and whether the sensor's overlay is in config.txt",
        code="sensor_missing",
    )


def _patterns(path: str, root: Path) -> Iterator[str]:
    """Glob patterns relative to `root`, best first."""
    family, _, rest = path.partition(":")
    if family in FAMILIES:
        name, _, file = rest.partition("/")
        yield from (f"{folder.relative_to(root)}/{file}" for folder in _devices(family, name, root))
        return
    if path.startswith("/"):
        path = path.removeprefix("/sys/")
    if path.startswith("/"):
        raise _outside(path)
    yield path


def _spellings(patterns: Iterator[str]) -> Iterator[str]:
    """Each pattern, and for an IIO channel its other ways: chips offer ``_input`` or ``_raw``, seldom both."""
    for pattern in patterns:
        parts = pattern.split("/")
        if ".." in parts or "**" in pattern or not parts[-1]:
            raise _outside(pattern)
        yield pattern
        if parts[-1].startswith("in_"):
            channel = re.sub(r"_(input|raw)$", "", pattern)
            yield from (f"{channel}_input", f"{channel}_raw")


def _devices(family: str, name: str, root: Path) -> list[Path]:
    folders = sorted(root.glob(FAMILIES[family].folders), key=_natural)
    named = [(folder, _name(folder, FAMILIES[family])) for folder in folders]
    found = [folder for folder, own in named if fnmatchcase(own, name)]
    if not found:
        known = ", ".join(sorted({own for _, own in named if own})) or "none at all"
        raise SensorError(
            f"there is no {family} device named {name!r}",
            remedy=f"the kernel shows: {known}",
            code="sensor_missing",
        )
    return found


def _name(folder: Path, family: Family) -> str:
    if not family.name:
        return folder.name
    try:
        return (folder / family.name).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""  # the device went while we looked


def _natural(path: Path) -> list[tuple[int, str]]:
    """hwmon2 before hwmon10."""
    return [(int(digits or -1), text) for digits, text in re.findall(r"(\d+)|(\D+)", str(path))]


def _outside(path: str) -> SensorError:
    return SensorError(
        f"{path!r} does not name a file below /sys",
        remedy='write it relative to /sys, without "..", for example class/thermal/thermal_zone0/temp',
        code="sensor_missing",
        retriable=False,
    )


# ── reading it ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _reading(file: Path) -> Value:
    value = _number(file)
    if isinstance(value, str):
        return value
    if file.name.startswith("in_") and file.name.endswith("_raw"):
        value = (value + _factor(file, "offset", 0)) * _factor(file, "scale", 1)
    divisor = quantity_of(file.name).divisor
    return value if divisor == 1 else value / divisor


def _number(file: Path) -> int | float | str:
    """What stands in the file, as a number if it is one."""
    try:
        with file.open("rb") as stream:
            text = stream.read(MOST_BYTES).decode("utf-8", errors="replace").strip()
    except FileNotFoundError as error:
        raise SensorError(f"{file} has gone", code="sensor_missing") from error
    except OSError as error:
        raise SensorError(f"{file} cannot be read: {error.strerror}") from error
    if not text:
        raise SensorError(f"{file} is empty: the sensor did not answer")
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    if quantity_of(file.name).divisor != 1:
        raise SensorError(f"{file} says {text[:40]!r}, which is no number")
    return text


def _factor(file: Path, what: str, default: float) -> float:
    """``in_X_scale`` or ``in_X_offset`` of a channel, else the one that the channels of its type share."""
    channel = file.name.removesuffix("_raw")
    unnumbered = re.sub(r"\d+", "", channel)  # in_voltage0 -> in_voltage, in_voltage0-voltage1 -> in_voltage-voltage
    for name in (channel, unnumbered, re.sub(r"_[a-z]+$", "", unnumbered)):  # in_accel_x -> in_accel
        factor = file.with_name(f"{name}_{what}")
        if factor.exists():
            value = _number(factor)
            if isinstance(value, str):
                raise SensorError(f"{factor} says {value[:40]!r}, which is no number")
            return value
    return default
