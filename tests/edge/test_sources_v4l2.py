"""USB cameras, over a stand-in for OpenCV's capture of a V4L2 device."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chappe.core.settings import Camera
from chappe.core.units import MILLISECOND, SECOND, Ns
from chappe.edge.slot import Grid
from chappe.edge.sources import Reading, make, probe
from chappe.edge.sources.v4l2 import BREATH, V4l2Source
from chappe.errors import CameraError
from chappe.testing import ManualClock

BLUE_GREEN_RED = (10, 20, 30)


class Device:
    """A camera and the library that reads it: frames come at its own rate, on the clock's time.

    Attributes:
        size: what it delivers, whatever it was asked for.
        silent: it has stopped delivering.
        wishes: what was asked of it, in order.
    """

    CAP_V4L2, COLOR_BGR2RGB = 200, 4
    CAP_PROP_POS_MSEC, CAP_PROP_FRAME_WIDTH, CAP_PROP_FRAME_HEIGHT, CAP_PROP_FPS, CAP_PROP_FOURCC = 0, 3, 4, 5, 6
    CAP_PROP_BUFFERSIZE = 38

    class error(Exception):  # noqa: N801, N818 - the name is OpenCV's
        """What OpenCV raises."""

    def __init__(self, clock: Any, fps: float = 30.0, size: tuple[int, int] = (64, 48)) -> None:
        self.clock, self.fps, self.size = clock, fps, size
        self.frame_size = size
        self.opened: list[tuple[str, int]] = []
        self.wishes: list[tuple[int, float]] = []
        self.busy = self.silent = self.failing = self.undecodable = False
        self.frame = self.decoded = self.released = 0
        self.stamp: float | None = None
        self.VideoWriter_fourcc = lambda *letters: int.from_bytes("".join(letters).encode(), "little")

    def VideoCapture(self, path: str, backend: int) -> Device:
        self.opened.append((path, backend))
        return self

    def isOpened(self) -> bool:
        return not self.busy

    def set(self, key: int, value: float) -> bool:
        self.wishes.append((key, value))
        return True

    def get(self, key: int) -> float:
        if key == self.CAP_PROP_POS_MSEC:
            return self.clock.now() / MILLISECOND if self.stamp is None else self.stamp
        return float({self.CAP_PROP_FRAME_WIDTH: self.size[0], self.CAP_PROP_FRAME_HEIGHT: self.size[1]}[key])

    def grab(self) -> bool:
        """Waits for the next frame, or a second."""
        if self.silent:
            self.clock.advance(1.0)
            return False
        if self.failing:
            raise self.error("the driver has lost its head")
        grid = Grid(self.fps, Ns(0))
        self.frame = grid.last(self.clock.now()) + 1
        self.clock.set(grid.at(self.frame))
        return True

    def retrieve(self) -> tuple[bool, Any]:
        self.decoded += 1
        pixels = np.empty((*self.frame_size[::-1], 3), np.uint8)
        pixels[:] = BLUE_GREEN_RED
        return (False, None) if self.undecodable else (True, pixels)

    def release(self) -> None:
        self.released += 1

    @staticmethod
    def cvtColor(pixels: np.ndarray, code: int) -> np.ndarray:
        assert code == Device.COLOR_BGR2RGB
        return np.ascontiguousarray(pixels[..., ::-1])


Plug = Callable[..., tuple[V4l2Source, Device]]


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """What stands where a device file would."""
    path = tmp_path / "video0"
    path.touch()
    return path


@pytest.fixture
def plug(node: Path, monkeypatch: pytest.MonkeyPatch) -> Plug:
    """Plugs a camera in; returns its source, not yet open, and the camera."""
    monkeypatch.setenv("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")

    def plug(fps: float = 30.0, size: tuple[int, int] = (64, 48), **keys: Any) -> tuple[V4l2Source, Device]:
        clock = ManualClock()
        device = Device(clock, fps, size)
        monkeypatch.setitem(sys.modules, "cv2", device)
        return V4l2Source(Camera(source="v4l2", device=str(node), **keys), clock), device

    return plug


def watch(source: V4l2Source, device: Device, until_s: float) -> list[Reading]:
    """Reads until a time, as the camera's thread would; returns what brought a frame."""
    readings = []
    while device.clock.now() < until_s * SECOND:
        reading = source.read(device.clock.now())
        device.clock.set(max(device.clock.now(), reading.due))
        readings.append(reading)
    return [reading for reading in readings if reading.pixels is not None]


# ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_configured_mode_is_asked_for(plug: Plug, node: Path) -> None:
    """The device by its path through V4L2, MJPEG first, then size, rate and a short queue."""
    source, device = plug(width=800, height=600, rate_hz=15.0)
    source.open()
    assert device.opened == [(str(node), 200)]
    mjpg = int.from_bytes(b"MJPG", "little")
    assert device.wishes == [(6, mjpg), (3, 800), (4, 600), (5, 15.0), (38, 2)]


@pytest.mark.parametrize(("rotate", "size"), [(0, (320, 180)), (90, (180, 320))])
def test_what_the_camera_says_is_believed(plug: Plug, rotate: int, size: tuple[int, int]) -> None:
    """It was asked for 640x480 and chose something else; a turned picture has its size turned."""
    source, _ = plug(size=(320, 180), rotate=rotate)
    source.open()
    assert source.size == size
    pixels = source.read(Ns(0)).pixels
    assert pixels is not None
    assert pixels.shape[1::-1] == size


@pytest.mark.feature("CAP-01", breaks="chappe.edge.sources.v4l2:V4l2Source._require_device")
def test_no_device_is_a_missing_camera(plug: Plug, node: Path) -> None:
    """With its path and a remedy, from the probe as from the opening; it may be plugged in later."""
    source, _ = plug()
    node.unlink()
    for attempt in (source.open, source.probe, lambda: probe(Camera(source="v4l2", device=str(node)))):
        with pytest.raises(CameraError, match="no camera at") as failure:
            attempt()
        assert failure.value.code == "camera_missing"
        assert str(node) in failure.value.message
        assert "v4l2-ctl" in failure.value.remedy
        assert failure.value.retriable


def test_no_opencv_is_said_with_what_to_install(plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying again would not help."""
    source, _ = plug()
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(CameraError, match="OpenCV") as failure:
        source.open()
    assert (failure.value.code, failure.value.retriable) == ("camera_missing", False)
    assert "pip install" in failure.value.remedy


def test_a_device_without_permission_names_the_group(plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may do everything, so the question is answered for it."""
    source, _ = plug()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(CameraError, match="may not be used") as failure:
        source.open()
    assert "video" in failure.value.remedy


def test_a_device_in_use_is_let_go_of_again(plug: Plug) -> None:
    """Another program has it: a failure that may pass, and nothing is held."""
    source, device = plug()
    device.busy = True
    with pytest.raises(CameraError, match="cannot be opened") as failure:
        source.open()
    assert (failure.value.code, failure.value.retriable) == ("camera_failed", True)
    assert device.released == 1


def test_closing_releases_once(plug: Plug) -> None:
    """However often it is called."""
    source, device = plug()
    source.open()
    source.close()
    source.close()
    assert device.released == 1


def test_the_wait_for_a_frame_is_bounded_before_opencv_is_asked(plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    """One second instead of ten, unless the owner has set another time."""
    source, _ = plug()
    monkeypatch.delenv("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT")
    source.open()
    assert os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] == "1"


# ── frames ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_frames_are_rgb(plug: Plug) -> None:
    """Red first in memory, contiguous, stamped with the time of capture and the camera's own mark."""
    source, device = plug()
    source.open()
    reading = source.read(Ns(0))
    assert reading.pixels is not None
    assert reading.pixels[0, 0].tolist() == [30, 20, 10]
    assert reading.pixels.flags.c_contiguous
    assert reading.at == device.clock.now()
    assert reading.stamp == round(device.clock.now() / 1000)


@pytest.mark.parametrize(
    ("fps", "rate_hz", "frames"),
    [(30.0, 10.0, 100), (30.0, 30.0, 300), (30.0, 20.0, 200), (10.0, 10.0, 100), (5.0, 10.0, 50)],
)
def test_only_frames_that_are_due_are_decoded(plug: Plug, fps: float, rate_hz: float, frames: int) -> None:
    """Every frame is taken out of the kernel, but decoded at the configured rate, or the camera's if that is lower."""
    source, device = plug(fps=fps, rate_hz=rate_hz)
    source.open()
    taken = watch(source, device, 10.0)
    assert len(taken) == device.decoded
    assert abs(device.decoded - frames) <= 1
    assert device.frame == fps * 10


def test_an_unpunctual_camera_keeps_its_rate(plug: Plug) -> None:
    """Each frame up to 20 ms early or late at 10 Hz: none is left out."""
    source, device = plug(fps=10.0, rate_hz=10.0)
    source.open()
    early = [0, -20, 15, -10, 20]

    def jittering() -> bool:
        device.frame += 1
        device.clock.set(Ns((100 * device.frame + early[device.frame % 5]) * MILLISECOND))
        return True

    device.grab = jittering  # type: ignore[method-assign]
    assert len(watch(source, device, 10.0)) >= 99


def test_after_a_pause_the_rate_is_not_made_up_for(plug: Plug) -> None:
    """Nobody read for five seconds: the next frames come at the usual distance."""
    source, device = plug(fps=30.0, rate_hz=10.0)
    source.open()
    watch(source, device, 1.0)
    device.clock.advance(5.0)
    before = device.decoded
    watch(source, device, 7.0)
    assert abs(device.decoded - before - 10) <= 1


# ── faults below the adapter ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_silent_camera_brings_nothing_and_does_not_hang(plug: Plug) -> None:
    """Each read ends after the bounded wait, and the next one is due soon."""
    source, device = plug()
    source.open()
    device.silent = True
    reading = source.read(Ns(0))
    assert (reading.pixels, reading.due) == (None, BREATH)
    assert device.clock.now() == SECOND


def test_a_camera_that_is_unplugged_is_missing(plug: Plug, node: Path) -> None:
    """Its device file has gone."""
    source, device = plug()
    source.open()
    source.read(Ns(0))
    device.silent = True
    node.unlink()
    with pytest.raises(CameraError) as failure:
        source.read(Ns(0))
    assert failure.value.code == "camera_missing"


def test_an_error_of_opencv_is_a_failed_camera(plug: Plug) -> None:
    """It may work again when it is opened anew."""
    source, device = plug()
    source.open()
    device.failing = True
    with pytest.raises(CameraError, match="lost its head") as failure:
        source.read(Ns(0))
    assert (failure.value.code, failure.value.retriable) == ("camera_failed", True)


def test_a_frame_that_cannot_be_decoded_is_left_out(plug: Plug) -> None:
    """A transfer was cut short; the next one may be whole."""
    source, device = plug()
    source.open()
    device.undecodable = True
    assert source.read(Ns(0)).pixels is None
    device.undecodable = False
    device.clock.advance(1.0)
    assert source.read(device.clock.now()).pixels is not None


def test_a_buffer_that_is_handed_out_again_bears_the_same_mark(plug: Plug) -> None:
    """So that whoever reads can tell; a driver without marks has none."""
    source, device = plug(fps=10.0)
    source.open()
    device.stamp = 1234.5
    assert [source.read(device.clock.now()).stamp for _ in range(2)] == [1234500, 1234500]
    device.stamp = 0.0
    assert source.read(device.clock.now()).stamp is None


# ── the real library ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_opencv_has_what_is_used(tmp_path: Path) -> None:
    """The names exist in the real library, and a file that is no camera cannot be opened as one."""
    cv2 = pytest.importorskip("cv2")
    names = [name for name in vars(Device) if name.startswith(("CAP_", "COLOR_"))]
    assert {name: getattr(cv2, name) for name in names} == {name: getattr(Device, name) for name in names}
    assert issubclass(cv2.error, Exception)
    assert cv2.VideoWriter_fourcc(*"MJPG") == int.from_bytes(b"MJPG", "little")
    blue = np.zeros((2, 2, 3), np.uint8)
    blue[..., 0] = 255
    assert cv2.cvtColor(blue, cv2.COLOR_BGR2RGB)[0, 0].tolist() == [0, 0, 255]
    node = tmp_path / "no_camera"
    node.touch()
    source = make(Camera(source="v4l2", device=str(node)), ManualClock())
    with pytest.raises(CameraError, match="cannot be opened"):
        source.open()
    source.close()
