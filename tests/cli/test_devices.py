"""`gpio test`, `sensor read`, `camera snap`: one device at a time, without the daemon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chappe.cli import devices
from chappe.core.units import SECOND, Ns
from chappe.edge import gpio as gpio_edge
from chappe.edge.sources import Reading
from chappe.errors import CameraError

PINS = '[indicators]\nstatus = 17\nprivacy = 27\n[outputs.relay]\npin = 22\nsafe = "high"\n'


class Watched(gpio_edge.Gpio):
    """Pins that a test can look at."""

    last: Watched | None = None

    def open(self) -> None:
        Watched.last = self
        super().open()


@pytest.fixture
def pins(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, dict[str, float]]]:
    """Simulated pins; gives (seconds waited, levels meanwhile) for each wait of the command."""
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    monkeypatch.setattr(gpio_edge, "Gpio", Watched)
    seen: list[tuple[float, dict[str, float]]] = []

    def wait(span_s: float) -> None:
        assert Watched.last is not None
        seen.append((span_s, Watched.last.levels()))

    monkeypatch.setattr(devices, "wait", wait)
    return seen


# ── gpio test ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_pin_is_pulsed_for_half_a_second_alone(chappe: Any, configure: Any, pins: list[Any]) -> None:
    """Lamps on, an output away from its safe level, one after the other, and named."""
    ran = chappe("gpio", "test", "--config", configure(PINS))
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "status: pulsed pin 17",
        "privacy: pulsed pin 27",
        "relay: pulsed pin 22",
    ]
    assert pins == [
        (0.5, {"status": 1.0, "privacy": 0.0, "relay": 1.0}),
        (0.5, {"status": 0.0, "privacy": 1.0, "relay": 1.0}),
        (0.5, {"status": 0.0, "privacy": 0.0, "relay": 0.0}),
    ]


def test_only_the_named_pins_are_pulsed(chappe: Any, configure: Any, pins: list[Any]) -> None:
    """With --json one line for each."""
    ran = chappe("gpio", "test", "relay", "--json", "--config", configure(PINS))
    assert ran.lines == [{"name": "relay", "pin": 22}]
    assert len(pins) == 1


def test_an_unknown_pin_is_wrong_usage_and_pulses_none(chappe: Any, configure: Any, pins: list[Any]) -> None:
    """Checked before the first one moves; the answer lists those that exist."""
    ran = chappe("gpio", "test", "relay", "buzzer", "--config", configure(PINS))
    assert ran.code == 2
    assert "remedy: there are status, privacy, relay" in ran.err
    assert pins == []


def test_without_pins_there_is_nothing_to_test(chappe: Any, configure: Any, pins: list[Any]) -> None:
    """Said with a remedy; not a success."""
    ran = chappe("gpio", "test", "--config", configure("[buttons]\nmain = 26\n"))
    assert ran.code == 1
    assert "remedy: name pins" in ran.err


def test_pins_of_a_running_daemon_are_left_alone(
    chappe: Any, configure: Any, pins: list[Any], held_state: None
) -> None:
    """75, and no pin moves."""
    ran = chappe("gpio", "test", "--config", configure(PINS))
    assert ran.code == 75
    assert "remedy: stop it first" in ran.err
    assert pins == []


def test_a_machine_without_pins_is_74(chappe: Any, configure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated pins would prove nothing."""
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "no-such-factory")
    ran = chappe("gpio", "test", "--config", configure(PINS))
    assert ran.code == 74
    assert "no-such-factory" in ran.err


# ── sensor read ──────────────────────────────────────────────────────────────────────────────────────────────────────

SENSORS = """
[sensors.tick]
driver = "simulated"
wave = "counter"

[sensors.warm]
driver = "sysfs"
path = "class/thermal/thermal_zone0/temp"
precision = 1
options = {{ root = "{root}" }}
"""


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("48312\n")
    return tmp_path / "sys"


def test_a_sensor_is_read_once_calibrated_with_its_unit(chappe: Any, configure: Any, sysfs: Path) -> None:
    """Plain for people, one JSON document for programs."""
    file = configure(SENSORS.format(root=sysfs))
    assert chappe("sensor", "read", "warm", "--config", file).out == "48.3 °C\n"
    assert chappe("sensor", "read", "warm", "--config", file, "--json").json == {
        "name": "warm",
        "value": 48.3,
        "unit": "°C",
    }
    assert chappe("sensor", "read", "tick", "--config", file).out == "0\n"


def test_a_sensor_that_fails_is_74_with_its_reason(chappe: Any, configure: Any, tmp_path: Path) -> None:
    """The file that is missing is named."""
    ran = chappe("sensor", "read", "warm", "--config", configure(SENSORS.format(root=tmp_path)))
    assert (ran.code, ran.out) == (74, "")
    assert "class/thermal/thermal_zone0/temp" in ran.err


@pytest.mark.parametrize(
    ("text", "words"), [(SENSORS.format(root="/"), "configured are tick, warm"), ("", "add [sens")]
)
def test_an_unknown_sensor_is_wrong_usage(chappe: Any, configure: Any, text: str, words: str) -> None:
    """The answer lists those that are configured, or says how one is."""
    ran = chappe("sensor", "read", "cold", "--config", configure(text))
    assert ran.code == 2
    assert words in ran.err


# ── camera snap ──────────────────────────────────────────────────────────────────────────────────────────────────────

FILES = '[camera]\nsource = "files"\npath = "frames"\n'


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """A folder with one picture, 64 wide and 48 high, red."""
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "frames"
    folder.mkdir()
    image.new("RGB", (64, 48), (200, 10, 10)).save(folder / "red.png")
    return folder


@pytest.mark.parametrize("name", ["shot.png", "shot.jpg", "shot.JPEG"])
def test_one_frame_becomes_a_picture(chappe: Any, configure: Any, frames: Path, tmp_path: Path, name: str) -> None:
    """In the format of the file's name, in the size of the frame, in true colours."""
    from PIL import Image

    ran = chappe("camera", "snap", "-o", tmp_path / name, "--config", configure(FILES), "--json")
    assert ran.json == {"file": str(tmp_path / name), "width": 64, "height": 48, "source": "files"}
    with Image.open(tmp_path / name) as picture:
        assert picture.size == (64, 48)
        red, green, blue = picture.convert("RGB").getpixel((32, 24))  # type: ignore[misc]
    assert abs(red - 200) <= 3
    assert abs(green - 10) <= 3
    assert abs(blue - 10) <= 3


def test_the_picture_has_a_name_of_its_own(
    chappe: Any, configure: Any, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without -o it is snap.jpg in the present folder."""
    monkeypatch.chdir(tmp_path)
    assert chappe("camera", "snap", "--config", configure(FILES)).out == "snap.jpg: 64x48 from files\n"
    assert (tmp_path / "snap.jpg").stat().st_size > 0


@pytest.mark.parametrize("by", ["owner", "request"])
def test_a_camera_that_was_switched_off_stays_off(
    chappe: Any, configure: Any, frames: Path, tmp_path: Path, remember: Callable[..., None], by: str
) -> None:
    """The daemon need not run for its memory to count: refused, no file."""
    remember("camera.off_by", by)
    ran = chappe("camera", "snap", "-o", tmp_path / "shot.png", "--config", configure(FILES))
    assert ran.code == 1
    assert f"switched off ({by})" in ran.err
    assert not (tmp_path / "shot.png").exists()


def test_the_camera_of_a_running_daemon_is_left_alone(
    chappe: Any, configure: Any, frames: Path, held_state: None
) -> None:
    """75: try again when it is stopped."""
    assert chappe("camera", "snap", "--config", configure(FILES)).code == 75


@pytest.mark.parametrize(
    ("text", "output", "code", "words"),
    [
        (FILES, "shot.bmp", 2, "no name of a picture"),
        (FILES, "nowhere/shot.png", 74, "cannot be written"),
        ("", "shot.png", 74, "no camera is configured"),
        ('[camera]\nsource = "files"\npath = "empty"\n', "shot.png", 74, "empty"),
    ],
)
def test_what_cannot_be_is_told(
    chappe: Any, configure: Any, frames: Path, tmp_path: Path, text: str, output: str, code: int, words: str
) -> None:
    """A format we do not write, a folder that is missing, no camera, no picture."""
    ran = chappe("camera", "snap", "-o", tmp_path / output, "--config", configure(text))
    assert ran.code == code
    assert words in ran.err
    assert "remedy:" in ran.err


class Webcam:
    """A live source: dark frames while it settles, then a bright one. Notes the level of the privacy lamp."""

    live = True
    size = (4, 4)

    def __init__(self, brings: int = 20) -> None:
        self.lamp: list[float] = []
        self.closed = False
        self._left = brings

    def _look(self) -> None:
        assert Watched.last is not None
        self.lamp.append(Watched.last.levels()["privacy"])

    def open(self) -> None:
        self._look()

    def read(self, now: Ns) -> Reading:
        import numpy as np

        self._look()
        self._left -= 1
        bright = 200 if now >= SECOND else 1
        pixels = np.full((4, 4, 3), bright, np.uint8) if self._left >= 0 else None
        return Reading(due=Ns(now + SECOND // 10), pixels=pixels)

    def close(self) -> None:
        self._look()
        self.closed = True

    def probe(self) -> None:
        """Always there."""


@pytest.fixture
def webcam(monkeypatch: pytest.MonkeyPatch, pins: list[Any]) -> Webcam:
    """A webcam under a clock that only waiting moves."""
    pytest.importorskip("PIL")
    from chappe.edge import host, sources
    from chappe.testing import ManualClock

    camera, clock = Webcam(), ManualClock()
    monkeypatch.setattr(sources, "make", lambda *_: camera)
    monkeypatch.setattr(host, "SystemClock", lambda: clock)
    monkeypatch.setattr(devices, "wait", clock.advance)
    return camera


LIVE = '[camera]\nsource = "v4l2"\n[indicators]\nprivacy = 27\n'


def test_a_live_camera_settles_before_the_picture_is_taken(
    chappe: Any, configure: Any, webcam: Webcam, tmp_path: Path
) -> None:
    """The dark frames of its first second are passed over."""
    from PIL import Image

    assert chappe("camera", "snap", "-o", tmp_path / "shot.png", "--config", configure(LIVE)).code == 0
    with Image.open(tmp_path / "shot.png") as picture:
        assert picture.getpixel((1, 1)) == (200, 200, 200)


def test_the_privacy_lamp_shines_for_as_long_as_a_live_camera_is_open(
    chappe: Any, configure: Any, webcam: Webcam, tmp_path: Path
) -> None:
    """Lit before the camera opens, dark only after it has closed."""
    chappe("camera", "snap", "-o", tmp_path / "shot.png", "--config", configure(LIVE))
    assert webcam.closed
    assert len(webcam.lamp) > 3
    assert set(webcam.lamp) == {1.0}
    assert Watched.last is not None
    assert Watched.last.levels() == {}, "the pin was not released"


def test_without_its_lamp_a_live_camera_stays_closed(
    chappe: Any, configure: Any, webcam: Webcam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A privacy lamp that is configured and cannot be lit: refused, the camera is not opened."""
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "no-such-factory")
    ran = chappe("camera", "snap", "-o", tmp_path / "shot.png", "--config", configure(LIVE))
    assert ran.code == 74
    assert "privacy lamp cannot be driven" in ran.err
    assert webcam.lamp == []


def test_a_camera_that_brings_nothing_is_given_up(chappe: Any, configure: Any, webcam: Webcam, tmp_path: Path) -> None:
    """After five seconds, and closed."""
    webcam._left = 0
    ran = chappe("camera", "snap", "-o", tmp_path / "shot.png", "--config", configure(LIVE))
    assert ran.code == CameraError.exit_code
    assert "brings no frame" in ran.err
    assert webcam.closed
