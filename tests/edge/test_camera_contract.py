"""Six faults below the adapter, over each source: what the engine would see of them, from the fault to the healing.

The camera's edge and the core's watch play together here at manual time, as they do in the daemon; the engine between them is reduced
to handing decisions on. What is asserted are faults, healings and the lamp, not calls.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chappe.core import events as ev
from chappe.core.camera import CameraWatch, Close, Decision, Fault, Heal, Open, State
from chappe.core.effects import CloseCamera, OpenCamera
from chappe.core.settings import Camera
from chappe.core.units import SECOND, Ns, seconds
from chappe.edge.camera import CameraEdge
from chappe.edge.camera.grip import Make
from chappe.edge.slot import FrameSlot
from chappe.edge.sources import make
from chappe.errors import CameraError

from .puppet import Lamp, Puppet
from .stage import Stage
from .test_sources_picamera2 import Library
from .test_sources_v4l2 import Device

BREAK, MEND = 5.0, 30.0


class Loop(Stage):
    """Camera and watch in a closed loop.

    Attributes:
        faults: (when, code) of each fault; `heals` likewise.
        frames: when each frame was captured.
    """

    def __init__(self, settings: Camera, lamp: Lamp, make_source: Make = make) -> None:
        super().__init__()
        self.faults: list[tuple[float, str]] = []
        self.heals: list[tuple[float, str]] = []
        self.starts: list[float] = []
        self.frames: list[float] = []
        self.watch = CameraWatch(settings.source, settings.rate_hz, settings.stall)
        self.edge = CameraEdge(
            settings, clock=self.clock, post=self.post, slot=FrameSlot(), lamp=lamp, make_source=make_source
        )
        self._inside: list[object] = []
        self._wakes = [self.add(self._first), self.add(self._standby)]
        self._wake_engine = self.add(self._engine)

    def begin(self) -> None:
        self._carry_out(self.watch.started(self.now, None))

    # The camera's thread, and one that stands by to be the thread which takes over when the first hangs.

    def _first(self, now: Ns) -> Ns | None:
        return self._camera(now)

    def _standby(self, now: Ns) -> Ns | None:
        return self._camera(now) if self._inside else None

    def _camera(self, now: Ns) -> Ns | None:
        grip = self.edge._grip
        if grip in self._inside:
            return None
        self._inside.append(grip)
        try:
            due = self.edge.step(now)
        finally:
            self._inside.remove(grip)
        return due if grip is self.edge._grip else now

    def post(self, event: ev.Event) -> None:
        super().post(event)
        now, watch = event.at, self.watch
        match event:
            case ev.CameraOpened():
                self._carry_out(watch.opened(now))
            case ev.CameraClosed():
                self._carry_out(watch.closed(now))
            case ev.CameraFailed():
                self._carry_out(watch.failed(event.code, event.retriable, now, event.message))
            case ev.CameraExhausted():
                self._carry_out(watch.exhausted(now))
            case ev.FramesCaptured():
                self.frames.append(event.last_at / SECOND)
                self._carry_out(watch.frame(event.last_at, now))
            case ev.Faulted():
                self.faults.append((now / SECOND, event.code))
            case ev.Healed():
                self.heals.append((now / SECOND, event.code))
        self._wake_engine()

    def _engine(self, now: Ns) -> Ns | None:
        self._carry_out(self.watch.expire(now))
        return self.watch.due()

    def _carry_out(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Open():
                    self.starts.append(self.now / SECOND)
                    self.edge.handle([OpenCamera()])
                case Close():
                    self.edge.handle([CloseCamera()])
                case Fault():
                    self.faults.append((self.now / SECOND, decision.code))
                case Heal():
                    self.heals.append((self.now / SECOND, decision.code))
        if decisions:
            for wake in self._wakes:
                wake()


class Time:
    """The clock as a device sees it: when it lets time pass, everybody else goes on."""

    def __init__(self) -> None:
        self.loop: Loop

    def now(self) -> Ns:
        return self.loop.now

    def advance(self, span_s: float) -> None:
        self.loop.spend(seconds(span_s))

    def set(self, moment: Ns) -> None:
        self.loop.run(moment)


class Rig:
    """A device below one adapter.

    Attributes:
        wrong: the fault that is in force, if any.
    """

    settings = Camera(source="v4l2", rate_hz=10.0)

    def __init__(self) -> None:
        self.wrong = ""
        self.time = Time()
        self.lamp = Lamp([])

    def loop(self) -> Loop:
        raise NotImplementedError

    def hang(self) -> None:
        """A call that does not return before it is mended, or that is late."""
        while self.wrong == "never returns":
            self.time.advance(0.25)
        if self.wrong == "late":
            self.time.advance(3.0)

    def go(self, wrong: str) -> None:
        self.wrong = wrong

    @property
    def open(self) -> bool:
        """Whether the device itself is open."""
        raise NotImplementedError


class PuppetRig(Rig):
    """The puppet is its own adapter."""

    def __init__(self) -> None:
        super().__init__()
        self.puppet = Puppet()
        self.puppet.lamp = self.lamp
        self.puppet.during["read"] = self.hang

    def loop(self) -> Loop:
        return Loop(self.settings, self.lamp, self.puppet.source)

    def go(self, wrong: str) -> None:
        super().go(wrong)
        puppet = self.puppet
        puppet.fail = {}
        if wrong == "raises":
            puppet.fail["read"] = CameraError("the driver has lost its head")
        if wrong == "disappears":
            puppet.fail = dict.fromkeys(("read", "open"), CameraError("gone", code="camera_missing"))
        puppet.stamp = puppet.taken if wrong == "repeats one buffer" else None
        puppet.frame_size = (4, 4) if wrong == "wrong size" else puppet.size

    @property
    def open(self) -> bool:
        return bool(self.puppet.held)


class V4l2Device(Device):
    """A camera whose faults come from a rig."""

    def __init__(self, rig: Rig, node: Path) -> None:
        super().__init__(rig.time, 10.0)
        self.rig, self.node, self.open = rig, node, False

    def VideoCapture(self, path: str, backend: int) -> V4l2Device:
        if not self.open:
            super().VideoCapture(path, backend)
        self.busy, self.open = self.open, True
        return self

    def grab(self) -> bool:
        self.rig.hang()
        return super().grab()

    def release(self) -> None:
        self.open = self.busy  # who was refused has nothing to give back
        self.busy = False


class V4l2Rig(Rig):
    """OpenCV's capture, made to fail."""

    def __init__(self, node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.settings = Camera(source="v4l2", device=str(node), rate_hz=10.0, width=64, height=48)
        self.node = node
        self.node.touch()
        self.device = V4l2Device(self, node)
        monkeypatch.setenv("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")
        monkeypatch.setitem(sys.modules, "cv2", self.device)

    def loop(self) -> Loop:
        return Loop(self.settings, self.lamp)

    def go(self, wrong: str) -> None:
        super().go(wrong)
        self.device.failing = wrong == "raises"
        self.device.silent = wrong == "disappears"
        self.device.stamp = 1234.5 if wrong == "repeats one buffer" else None
        self.device.frame_size = (32, 24) if wrong == "wrong size" else self.device.size
        if wrong == "disappears":
            self.node.unlink()
        else:
            self.node.touch()

    @property
    def open(self) -> bool:
        return self.device.open


class LibraryOfRig(Library):
    """Picamera2 whose faults come from a rig."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig.time)  # type: ignore[arg-type]
        self.rig, self.open = rig, False
        self.size = (64, 48)

    def __call__(self) -> LibraryOfRig:
        if self.open:
            raise RuntimeError("Failed to acquire camera: Device or resource busy")
        super().__call__()
        self.open = True
        return self

    def expose(self) -> int:
        self.rig.hang()
        stamp = super().expose()
        return 1234 if self.rig.wrong == "repeats one buffer" else stamp

    def close(self) -> None:
        self.open = False


class Picamera2Rig(Rig):
    """Picamera2, made to fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.settings = Camera(source="picamera2", rate_hz=10.0, width=64, height=48)
        self.library = LibraryOfRig(self)
        monkeypatch.setitem(sys.modules, "picamera2", self.library)

    def loop(self) -> Loop:
        return Loop(self.settings, self.lamp)

    def go(self, wrong: str) -> None:
        super().go(wrong)
        self.library.breaks = "capture" if wrong in ("raises", "disappears") else ""
        self.library.cameras = [] if wrong == "disappears" else [{"Model": "stand-in"}]
        self.library.buffer_size = (32, 24) if wrong == "wrong size" else None  # type: ignore[assignment]

    @property
    def open(self) -> bool:
        return self.library.open


@pytest.fixture(params=["puppet", "v4l2", "picamera2"])
def rig(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    if request.param == "puppet":
        return PuppetRig()
    return V4l2Rig(tmp_path / "video0", monkeypatch) if request.param == "v4l2" else Picamera2Rig(monkeypatch)


def play(rig: Rig, wrong: str) -> Loop:
    """Five good seconds, 25 with the fault, then as long as it takes."""
    loop = rig.time.loop = rig.loop()

    def check(now: Ns) -> Ns:
        assert rig.lamp.lit or not rig.open, "the camera is open in the dark"
        return Ns(now + SECOND // 20)

    loop.add(check)
    loop.at(seconds(BREAK), lambda: rig.go(wrong))
    loop.at(seconds(MEND), lambda: rig.go(""))
    loop.begin()
    loop.run(100 * SECOND)
    return loop


FIRST = {
    "raises": {"camera_failed"},
    "repeats one buffer": {"camera_stalled"},
    "wrong size": {"camera_format"},
    "never returns": {"camera_stalled", "camera_hung", "camera_failed"},
    "disappears": {"camera_missing", "camera_failed"},
}


@pytest.mark.feature("CAP-04", breaks="chappe.core.camera:CameraWatch._fault")
@pytest.mark.parametrize("wrong", FIRST)
def test_a_fault_is_told_and_heals_when_the_device_works_again(rig: Rig, wrong: str) -> None:
    """Told within a stall's span of the last frame, restarted until it works, healed to the last code, and lit only while it is open."""
    loop = play(rig, wrong)
    last = max(at for at in loop.frames if at <= BREAK)
    began = loop.faults[0][0]
    stalled = "camera_stalled" in FIRST[wrong]
    assert began == last + 5.0 if stalled else began <= BREAK + 1.2
    assert {code for at, code in loop.faults if at == began} <= FIRST[wrong]
    assert not [at for at in loop.frames if began < at < MEND]
    assert len(loop.starts) > 2
    assert sorted(code for _, code in loop.faults) == sorted(code for _, code in loop.heals)
    assert all(at >= MEND for at, _ in loop.heals)
    assert loop.watch.phase is State.OPEN
    assert loop.frames[-1] > 99.0
    assert rig.lamp.lit


def test_a_late_camera_is_no_fault(rig: Rig) -> None:
    """Three seconds for a frame, but five are a stall."""
    loop = play(rig, "late")
    assert loop.faults == []
    assert len(loop.starts) == 1
    assert [at for at in loop.frames if BREAK + 1 < at < MEND]
    assert len([at for at in loop.frames if BREAK + 1 < at < MEND]) < 12


def test_a_call_that_does_not_return_is_left_behind_and_told(rig: Rig) -> None:
    """Restarts go on beside it and find the device in use; the lamp stays lit all the time, as the old call still has the camera."""
    loop = rig.time.loop = rig.loop()
    dark: list[float] = []
    hung: list[int] = []

    def look(now: Ns) -> Ns:
        if now > SECOND and not rig.lamp.lit:
            dark.append(now / SECOND)
        return Ns(now + SECOND // 4)

    loop.begin()
    loop.add(look)
    loop.at(seconds(BREAK), lambda: rig.go("never returns"))
    loop.at(29 * SECOND, lambda: hung.append(loop.edge.hung_for(loop.now)))
    loop.at(seconds(MEND), lambda: rig.go(""))
    loop.run(100 * SECOND)
    codes = [code for _, code in loop.faults]
    assert sorted(codes) == ["camera_failed", "camera_hung", "camera_stalled"]
    assert [at for at in dark if at < MEND] == []
    assert hung[0] > 23 * SECOND
    assert loop.edge.hung_for(loop.now) < SECOND
    assert loop.heals[0][1] == "camera_hung"
    assert loop.watch.phase is State.OPEN


def test_switched_off_while_it_hangs(rig: Rig) -> None:
    """Off is obeyed when the call returns: then it closes, the lamp goes dark, and only then is it said to be closed."""
    loop = rig.time.loop = rig.loop()
    loop.begin()
    loop.at(seconds(BREAK), lambda: rig.go("never returns"))

    def switch_off() -> None:
        assert loop.watch.turn(False, "owner", loop.now) is None
        loop._wake_engine()

    states: list[tuple[bool, State]] = []
    loop.at(20 * SECOND, switch_off)
    loop.at(29 * SECOND, lambda: states.append((rig.lamp.lit, loop.watch.phase)))
    loop.at(seconds(MEND), lambda: rig.go(""))
    loop.run(100 * SECOND)
    assert states == [(True, State.CLOSING)]
    assert not rig.lamp.lit
    assert not rig.open
    assert loop.watch.phase is State.OFF
    assert [at for at in loop.frames if at > BREAK + 0.2] == []


def test_pictures_that_vanish_and_come_back(tmp_path: Path) -> None:
    """The same for `files`: an emptied folder is a missing camera, and heals when there are pictures again."""
    from PIL import Image

    def fill() -> None:
        Image.new("RGB", (4, 4)).save(tmp_path / "a.png")

    fill()
    loop = Loop(Camera(source="files", path=str(tmp_path)), Lamp([]))
    loop.begin()
    loop.at(seconds(BREAK), (tmp_path / "a.png").unlink)
    loop.at(seconds(MEND), fill)
    loop.run(100 * SECOND)
    assert [code for _, code in loop.faults if code != "camera_picture"] == ["camera_missing"]
    assert {code for _, code in loop.faults} == {code for _, code in loop.heals}
    assert loop.watch.phase is State.OPEN


def test_without_its_library_the_camera_is_missing_and_everything_else_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """One fault, one try, no event after it."""
    monkeypatch.setitem(sys.modules, "picamera2", None)
    loop = Loop(Camera(source="picamera2"), Lamp([]))
    loop.begin()
    loop.run(3600 * SECOND)
    assert loop.faults == [(0.0, "camera_missing")]
    assert loop.starts == [0.0]
    assert loop.watch.phase is State.REFUSED
