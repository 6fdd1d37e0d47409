"""The Raspberry Pi camera, over a stand-in for picamera2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from chappe.core.settings import Camera
from chappe.core.units import MILLISECOND, SECOND, Ns
from chappe.edge.slot import Grid
from chappe.edge.sources import make, probe
from chappe.edge.sources.picamera2 import Picamera2Source, reasons
from chappe.errors import CameraError
from chappe.testing import ManualClock

from .test_sources_pixels import PATCHES, buffer


class Request:
    """A completed request: counts how often it was given back."""

    def __init__(self, camera: Library, stamp: int) -> None:
        self.camera, self.stamp = camera, stamp
        camera.lent += 1

    def make_array(self, name: str) -> np.ndarray:
        assert name == "main"
        if self.camera.breaks == "make_array":
            raise RuntimeError("Format not supported")
        return buffer(self.camera.delivers, PATCHES["blue"], self.camera.buffer_size or self.camera.size)

    def get_metadata(self) -> dict[str, Any]:
        return {"SensorTimestamp": self.stamp}

    def release(self) -> None:
        self.camera.lent -= 1


class Job:
    """A request that was asked for; a camera that keeps silent lets the asker wait in vain."""

    def __init__(self, camera: Library) -> None:
        self.camera = camera

    def get_result(self, timeout: float) -> Request:
        if self.camera.breaks == "capture":
            raise RuntimeError("Camera frontend has timed out!")
        if self.camera.silent:
            self.camera.clock.advance(timeout)
            raise TimeoutError
        return Request(self.camera, self.camera.expose())


class Library:
    """The module picamera2, its class and the one camera there is.

    Attributes:
        delivers: the format that is delivered, whatever was asked for.
        size: the size that is delivered.
        limits: FrameDurationLimits as advertised, None if they are not.
        fps: how fast it really is.
        breaks: the call that fails.
    """

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.delivers, self.size, self.buffer_size = "BGR888", (640, 480), None
        self.limits: tuple[int, int, int] | None = (8_000, 1_000_000, 33_333)
        self.cameras: list[dict[str, Any]] = [{"Model": "stand-in"}]
        self.fps = 0.0
        self.breaks = ""
        self.silent = False
        self.asked: dict[str, Any] = {}
        self.calls: list[str] = []
        self.lent = self.jobs = 0

    # the class, called and asked
    @property
    def Picamera2(self) -> Library:
        return self

    def global_camera_info(self) -> list[dict[str, Any]]:
        return self.cameras

    def __call__(self) -> Library:
        self._step("construct")
        return self

    # the camera
    @property
    def camera_controls(self) -> dict[str, Any]:
        return {} if self.limits is None else {"FrameDurationLimits": self.limits}

    def create_preview_configuration(self, **wish: Any) -> dict[str, Any]:
        self.asked = wish
        return wish

    def configure(self, wish: dict[str, Any]) -> None:
        self._step("configure")

    def camera_configuration(self) -> dict[str, Any]:
        return {"main": {"format": self.delivers, "size": self.size, "stride": self.size[0]}, "lores": None}

    def start(self) -> None:
        self._step("start")

    def capture_request(self, wait: bool) -> Job:
        assert wait is False
        self.jobs += 1
        return Job(self)

    def close(self) -> None:
        self._step("close")

    def expose(self) -> int:
        """Time passes until the next frame is there."""
        grid = Grid(self.fps or 1_000_000 / self.asked["controls"]["FrameDurationLimits"][0], Ns(0))
        self.clock.set(grid.at(grid.last(self.clock.now()) + 1))
        return self.clock.now()

    def _step(self, name: str) -> None:
        self.calls.append(name)
        if self.breaks == name:
            cause = AttributeError("'NoneType' object has no attribute 'size'")
            raise RuntimeError("Camera __init__ sequence did not complete.") from cause


Mount = Callable[..., tuple[Picamera2Source, Library]]


@pytest.fixture
def mount(monkeypatch: pytest.MonkeyPatch) -> Mount:
    """Mounts a camera; returns its source, not yet open, and the library with the camera."""

    def mount(**keys: Any) -> tuple[Picamera2Source, Library]:
        clock = ManualClock()
        library = Library(clock)
        monkeypatch.setitem(sys.modules, "picamera2", library)
        return Picamera2Source(Camera(source="picamera2", **keys), clock), library

    return mount


def play(source: Picamera2Source, library: Library, until_s: float) -> list[Ns]:
    """Reads whenever it is due; returns when frames were captured."""
    times = []
    while library.clock.now() < until_s * SECOND:
        reading = source.read(library.clock.now())
        if reading.pixels is not None:
            assert reading.at is not None
            times.append(reading.at)
        library.clock.set(max(library.clock.now(), reading.due))
    return times


# ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("CAP-01", breaks="chappe.edge.sources.picamera2:Picamera2Source._configure")
def test_the_camera_is_asked_for_rgb_in_memory_at_640x480(mount: Mount) -> None:
    """That is called BGR888; beside it the small copy, and the rate as frame duration in microseconds."""
    source, library = mount()
    source.open()
    assert library.asked["main"] == {"format": "BGR888", "size": (640, 480)}
    assert library.asked["lores"] == {"format": "YUV420", "size": (320, 240)}
    assert library.asked["controls"] == {"FrameDurationLimits": (100_000, 100_000)}
    assert library.calls == ["construct", "configure", "start"]


@pytest.mark.parametrize("limits", [None, (33_333, 33_333, 33_333)])
def test_a_control_that_is_not_offered_is_not_set(mount: Mount, limits: tuple[int, int, int] | None) -> None:
    """Not advertised at all, or not for this rate."""
    source, library = mount()
    library.limits = limits
    source.open()
    assert library.asked["controls"] == {}


@pytest.mark.feature("CAP-01", breaks="chappe.edge.sources.picamera2:Picamera2Source.open")
def test_what_the_camera_says_afterwards_is_believed(mount: Mount) -> None:
    """Asked for RGB at 1280x720, it delivers NV12 at 640x480 without a word: size and colours are right all the same."""
    source, library = mount(width=1280, height=720, rotate=90)
    library.delivers = "NV12"
    source.open()
    assert source.size == (480, 640)
    pixels = source.read(Ns(0)).pixels
    assert pixels is not None
    assert pixels.shape == (640, 480, 3)
    assert np.abs(pixels.astype(int) - PATCHES["blue"]).max() <= 3


@pytest.mark.parametrize("pixel_format", ["BGR888", "RGB888", "XBGR8888", "NV12", "YUV420"])
def test_five_formats_are_accepted(mount: Mount, pixel_format: str) -> None:
    """A blue scene is blue in each."""
    source, library = mount()
    library.delivers = pixel_format
    source.open()
    pixels = source.read(Ns(0)).pixels
    assert pixels is not None
    assert np.abs(pixels.astype(int) - PATCHES["blue"]).max() <= 3
    assert library.lent == 0


@pytest.mark.feature("CAP-01", breaks="chappe.edge.sources.picamera2:_library")
def test_without_picamera2_the_camera_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe that `check` uses and the opening say the same: what to install, and that trying again is useless."""
    monkeypatch.setitem(sys.modules, "picamera2", None)
    settings = Camera(source="picamera2")
    for attempt in (lambda: probe(settings), make(settings, ManualClock()).open):
        with pytest.raises(CameraError, match="picamera2 is not there") as failure:
            attempt()
        assert (failure.value.code, failure.value.retriable) == ("camera_missing", False)
        assert "apt install python3-picamera2" in failure.value.remedy
        assert "--system-site-packages" in failure.value.remedy


def test_no_camera_on_the_cable_is_missing_too(mount: Mount) -> None:
    """It may be plugged in, so it is tried again."""
    source, library = mount()
    library.cameras = []
    for attempt in (source.open, source.probe):
        with pytest.raises(CameraError, match="finds no camera") as failure:
            attempt()
        assert (failure.value.code, failure.value.retriable) == ("camera_missing", True)
    assert library.calls == []


@pytest.mark.parametrize("step", ["construct", "configure", "start"])
def test_a_failed_opening_tells_the_whole_chain_of_reasons(mount: Mount, step: str) -> None:
    """The constructor's own sentence never says why; what was acquired by then is closed."""
    source, library = mount()
    library.breaks = step
    with pytest.raises(CameraError, match="sequence did not complete") as failure:
        source.open()
    assert "AttributeError: 'NoneType' object has no attribute 'size'" in failure.value.message
    assert failure.value.code == "camera_failed"
    assert library.calls.count("close") == (step != "construct")


def test_reasons_follow_cause_and_context() -> None:
    """Outermost first."""
    first, second = RuntimeError("first"), ValueError("second")
    first.__cause__ = second
    second.__context__ = OSError("third")
    assert reasons(first) == "RuntimeError: first <- ValueError: second <- OSError: third"


# ── frames ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_request_is_given_back(mount: Mount) -> None:
    """The camera has four buffers; each is back before the next is asked for, with its frame's time and mark."""
    source, library = mount()
    source.open()
    for _ in range(10):
        reading = source.read(library.clock.now())
        assert library.lent == 0
        assert reading.at == reading.stamp == library.clock.now()


def test_a_camera_that_keeps_the_rate_is_waited_for(mount: Mount) -> None:
    """Every one of its frames is taken as it comes."""
    source, library = mount(rate_hz=10.0)
    source.open()
    assert play(source, library, 5.0) == [n * 100 * MILLISECOND for n in range(1, 51)]


def test_a_camera_that_does_not_keep_the_rate_is_paced(mount: Mount) -> None:
    """1000 fps where 10 were wanted: ten frames a second are taken, without drift."""
    source, library = mount(rate_hz=10.0)
    library.limits, library.fps = None, 1000.0
    source.open()
    times = play(source, library, 10.0)
    assert 99 <= len(times) <= 101
    assert all(at % (100 * MILLISECOND) <= 2 * MILLISECOND for at in times)


def test_a_camera_that_only_says_it_keeps_the_rate_does_not_flood(mount: Mount) -> None:
    """The limits were accepted and are ignored: at most a ninth too many."""
    source, library = mount(rate_hz=10.0)
    library.fps = 1000.0
    source.open()
    assert len(play(source, library, 10.0)) <= 112


def test_a_slow_camera_is_asked_again_at_once(mount: Mount) -> None:
    """3 fps where 10 were wanted: all three."""
    source, library = mount(rate_hz=10.0)
    library.limits, library.fps = None, 3.0
    source.open()
    assert len(play(source, library, 10.0)) >= 29


# ── faults below the adapter ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_silent_camera_is_asked_once_and_not_hung_on(mount: Mount) -> None:
    """Each read ends after a second; the one open question is answered when frames return, and no request is lost."""
    source, library = mount()
    source.open()
    library.silent = True
    for second in (1, 2, 3):
        assert source.read(library.clock.now()).pixels is None
        assert library.clock.now() == second * SECOND
    library.silent = False
    assert source.read(library.clock.now()).pixels is not None
    assert (library.jobs, library.lent) == (1, 0)


@pytest.mark.parametrize("step", ["capture", "make_array"])
def test_a_camera_that_fails_at_work_has_failed(mount: Mount, step: str) -> None:
    """With the reason; a request that was lent is given back all the same."""
    source, library = mount()
    source.open()
    library.breaks = step
    with pytest.raises(CameraError, match="the camera failed: RuntimeError") as failure:
        source.read(Ns(0))
    assert failure.value.retriable
    assert library.lent == 0


@pytest.mark.feature("CAP-01", breaks="chappe.edge.sources.picamera2:to_rgb")
@pytest.mark.parametrize(("delivers", "size"), [("YUYV", None), ("BGR888", (320, 240)), ("NV12", (64, 48))])
def test_a_format_or_a_size_that_was_not_agreed_is_refused(
    mount: Mount, delivers: str, size: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault `camera_format`, and no buffer stays lent."""
    source, library = mount()
    library.delivers, library.buffer_size = delivers, size  # type: ignore[assignment]
    if delivers == "YUYV":
        monkeypatch.setattr(Request, "make_array", lambda self, name: np.zeros((480, 640, 2), np.uint8))
    source.open()
    with pytest.raises(CameraError) as failure:
        source.read(Ns(0))
    assert failure.value.code == "camera_format"
    assert library.lent == 0


def test_a_camera_that_does_not_close_says_so(mount: Mount) -> None:
    """It may be capturing still; it is not asked twice."""
    source, library = mount()
    source.open()
    library.breaks = "close"
    with pytest.raises(CameraError, match="did not close"):
        source.close()
    source.close()
    assert library.calls.count("close") == 1
