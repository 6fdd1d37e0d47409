"""The camera's thread, step by step at manual time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chappe.core.effects import CloseCamera, LoadModel, OpenCamera
from chappe.core.events import (
    CameraClosed,
    CameraExhausted,
    CameraFailed,
    CameraOpened,
    Event,
    Faulted,
    FramesCaptured,
    Healed,
)
from chappe.core.settings import Camera
from chappe.core.units import MILLISECOND, SECOND, Ns
from chappe.edge.camera import CameraEdge
from chappe.edge.slot import FrameSlot
from chappe.edge.sources import Trouble
from chappe.errors import CameraError

from .puppet import Puppet
from .stage import Stage

SETTINGS = Camera(source="v4l2")


class Set(Stage):
    """A stage with a camera on it, whose device is a puppet."""

    def __init__(self, puppet: Puppet | None = None, *, pulse_every: int = 0, settings: Camera = SETTINGS) -> None:
        super().__init__()
        self.puppet = puppet or Puppet()
        self.slot = FrameSlot()
        self.edge = CameraEdge(
            settings,
            clock=self.clock,
            post=self.post,
            slot=self.slot,
            lamp=self.puppet.lamp,
            pulse_every=Ns(pulse_every),
            make_source=self.puppet.source,
        )
        self.wake = self.add(self.edge.step)

    def give(self, *effects: OpenCamera | CloseCamera) -> None:
        self.edge.handle(effects)
        self.wake()

    def open(self) -> None:
        self.give(OpenCamera())

    def close(self) -> None:
        self.give(CloseCamera())

    @property
    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events if not isinstance(event, FramesCaptured)]

    @property
    def last(self) -> Event:
        return self.events[-1]


# ── opening and closing ──────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_opened_before_it_is_asked_for() -> None:
    """No call, no event, no light."""
    scene = Set()
    scene.run(10 * SECOND)
    assert (scene.puppet.log, scene.events) == ([], [])


def test_the_opened_camera_says_what_it_is() -> None:
    """Source and size as they turned out to be."""
    scene = Set()
    scene.open()
    scene.run(SECOND)
    assert scene.events[0] == CameraOpened(at=Ns(0), source="v4l2", width=8, height=6)


def test_frames_go_into_the_slot_with_time_and_number() -> None:
    """Numbers go on over closing and opening."""
    scene = Set()
    scene.open()
    scene.run(250 * MILLISECOND)
    frame = scene.slot.take()
    assert frame is not None
    assert (frame.number, frame.at, frame.pixels[0, 0].tolist()) == (3, 200 * MILLISECOND, [3, 3, 3])
    scene.close()
    scene.run(SECOND)
    scene.open()
    scene.run(SECOND)
    frame = scene.slot.take()
    assert frame is not None
    assert (frame.number, frame.at) == (4, SECOND)


def test_whoever_is_woken_does_not_read_before_it_is_time() -> None:
    """A wake that comes late, or for nothing, shows no picture early."""
    scene = Set()
    scene.open()
    scene.run(50 * MILLISECOND)
    scene.wake()
    scene.run(1050 * MILLISECOND)
    assert [pulse.last_at for pulse in scene.of(FramesCaptured)] == [n * 100 * MILLISECOND for n in range(11)]


def test_closing_what_is_not_open_is_answered() -> None:
    """The engine waits for the answer; it gets one for each order, and no second."""
    scene = Set()
    scene.close()
    scene.run(SECOND)
    assert scene.kinds == ["CameraClosed"]


def test_opening_what_is_open_opens_it_anew() -> None:
    """A restart: closed, then opened, in this order."""
    scene = Set()
    scene.open()
    scene.run(50 * MILLISECOND)
    scene.open()
    scene.run(60 * MILLISECOND)
    assert scene.kinds == ["CameraOpened", "CameraClosed", "CameraOpened"]
    assert scene.puppet.log == ["lamp on", "open", "read", "close", "lamp off", "lamp on", "open", "read"]


def test_of_a_batch_the_last_word_counts() -> None:
    """Open and close in one list: it stays closed; close and open: it is opened."""
    scene = Set()
    scene.give(OpenCamera(), CloseCamera())
    scene.run(SECOND)
    assert scene.kinds == ["CameraClosed"]
    scene.give(CloseCamera(), OpenCamera())
    scene.run(SECOND)
    assert scene.puppet.held


def test_effects_of_others_are_not_its_business() -> None:
    """A batch may hold anything."""
    scene = Set()
    scene.edge.handle([LoadModel(name="hands-lite")])
    scene.run(SECOND)
    assert scene.events == []


def test_after_an_order_to_close_no_frame_reaches_the_slot() -> None:
    """Not even the one that is being taken; what lay there unseen is gone, and counted."""
    scene = Set()
    scene.open()
    scene.run(SECOND)
    scene.puppet.during["read"] = scene.close
    scene.run(2 * SECOND)
    assert scene.slot.take() is None
    assert scene.kinds == ["CameraOpened", "CameraClosed"]
    pulse = scene.of(FramesCaptured)[-1]
    assert (pulse.frames, pulse.skipped) == (11, 11)


def test_an_order_to_close_while_it_opens_is_obeyed_when_it_has_opened() -> None:
    """It never says that it is open, and takes no frame."""
    scene = Set()
    scene.puppet.during["open"] = scene.close
    scene.open()
    scene.run(SECOND)
    assert scene.kinds == ["CameraClosed"]
    assert scene.puppet.log == ["lamp on", "open", "close", "lamp off"]


def test_an_opening_under_way_is_let_finish() -> None:
    """Asked again two seconds into an opening of five: it is not begun anew."""
    scene = Set()
    scene.puppet.during["open"] = lambda: (scene.spend(2 * SECOND), scene.open(), scene.spend(3 * SECOND))
    scene.open()
    scene.run(6 * SECOND)
    assert scene.puppet.log.count("open") == 1
    assert scene.kinds == ["CameraOpened"]


# ── the privacy lamp ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_lamp_is_lit_before_the_camera_opens_and_goes_out_after_it_has_closed() -> None:
    """In this order, and nothing else in between."""
    scene = Set()
    scene.open()
    scene.run(0)
    scene.close()
    scene.run(SECOND)
    assert scene.puppet.log == ["lamp on", "open", "read", "close", "lamp off"]


def test_a_camera_whose_lamp_cannot_be_lit_stays_closed() -> None:
    """Fault `privacy_led`; it may be tried again, when the lamp has been seen to."""
    scene = Set()
    scene.puppet.lamp.broken = "on"
    scene.open()
    scene.run(SECOND)
    (failed,) = scene.of(CameraFailed)
    assert (failed.code, failed.retriable) == ("privacy_led", True)
    assert "pin 27" in failed.message
    assert "look at the wiring" in failed.message
    assert scene.puppet.log == []
    scene.puppet.lamp.broken = ""
    scene.open()
    scene.run(2 * SECOND)
    assert scene.puppet.log[:3] == ["lamp on", "open", "read"]


def test_any_error_of_the_system_is_a_lamp_that_cannot_be_lit() -> None:
    """Also one that no edge has dressed up."""
    scene = Set()
    scene.puppet.lamp.on = lambda: (_ for _ in ()).throw(PermissionError(13, "denied"))  # type: ignore[method-assign]
    scene.open()
    scene.run(SECOND)
    assert scene.of(CameraFailed)[0].code == "privacy_led"
    assert "open" not in scene.puppet.log


def test_a_lamp_that_does_not_go_out_is_a_fault() -> None:
    """The camera has closed, but nobody can see that: no `CameraClosed`."""
    scene = Set()
    scene.open()
    scene.run(SECOND)
    scene.puppet.lamp.broken = "off"
    scene.close()
    scene.run(2 * SECOND)
    assert scene.kinds == ["CameraOpened", "CameraFailed"]
    assert scene.of(CameraFailed)[0].code == "privacy_led"


def test_a_camera_that_does_not_close_keeps_its_lamp_lit() -> None:
    """It may be capturing still, and the fault says so."""
    scene = Set()
    scene.open()
    scene.run(SECOND)
    scene.puppet.fail["close"] = CameraError("device or resource busy")
    scene.close()
    scene.run(2 * SECOND)
    (failed,) = scene.of(CameraFailed)
    assert failed.code == "camera_not_closed"
    assert "device or resource busy" in failed.message
    assert scene.puppet.lamp.lit


def test_pictures_from_files_need_no_lamp() -> None:
    """A lamp that works is driven as for any camera; one that does not is no obstacle, and is left alone."""
    working, broken = Set(Puppet(live=False)), Set(Puppet(live=False))
    broken.puppet.lamp.broken = "both"
    for scene in (working, broken):
        scene.open()
        scene.run(0)
        scene.close()
        scene.run(SECOND)
        assert scene.kinds == ["CameraOpened", "CameraClosed"]
    assert working.puppet.log == ["lamp on", "open", "read", "close", "lamp off"]
    assert broken.puppet.log == ["open", "read", "close"]


def test_where_the_owner_says_there_is_no_lamp_none_is_needed() -> None:
    """`privacy = false`."""
    stage, puppet = Stage(), Puppet()
    edge = CameraEdge(SETTINGS, clock=stage.clock, post=stage.post, slot=FrameSlot(), make_source=puppet.source)
    edge.handle([OpenCamera()])
    stage.add(edge.step)
    stage.run(SECOND)
    assert stage.of(CameraOpened)


# ── the pulse ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_vision_every_frame_is_told() -> None:
    """Totals, and when the newest was captured."""
    scene = Set(pulse_every=0)
    scene.open()
    scene.run(300 * MILLISECOND)
    told = [(pulse.frames, pulse.skipped, pulse.last_at) for pulse in scene.of(FramesCaptured)]
    assert told == [(n + 1, n, n * 100 * MILLISECOND) for n in range(4)]


def test_with_vision_frames_are_told_at_most_once_a_second() -> None:
    """The first at once."""
    scene = Set(pulse_every=SECOND)
    scene.open()
    scene.run(3500 * MILLISECOND)
    assert [(pulse.at, pulse.frames) for pulse in scene.of(FramesCaptured)] == [
        (n * SECOND, 10 * n + 1) for n in range(4)
    ]


def test_the_last_frame_before_a_freeze_is_told_too() -> None:
    """When nothing follows, the rest is told a second after the last pulse: the watch counts from the right frame."""
    scene = Set(pulse_every=SECOND)
    scene.open()
    scene.run(450 * MILLISECOND)
    scene.puppet.stamp = scene.puppet.taken
    scene.run(5 * SECOND)
    assert [(pulse.at, pulse.frames, pulse.last_at) for pulse in scene.of(FramesCaptured)] == [
        (0, 1, 0),
        (SECOND, 5, 400 * MILLISECOND),
    ]


def test_nothing_is_left_untold_when_the_camera_closes_or_opens_anew() -> None:
    """The totals are complete before `CameraClosed`, and the first frame after an opening is told at once."""
    scene = Set(pulse_every=SECOND)
    scene.open()
    scene.run(450 * MILLISECOND)
    scene.close()
    scene.run(460 * MILLISECOND)
    assert [type(event) for event in scene.events[-2:]] == [FramesCaptured, CameraClosed]
    assert scene.of(FramesCaptured)[-1].frames == 5
    scene.open()
    scene.run(470 * MILLISECOND)
    assert scene.of(FramesCaptured)[-1].frames == 6


@pytest.mark.feature("CAP-01", breaks="chappe.edge.camera.grip:Grip._use")
def test_eight_pictures_through_the_whole_camera(tmp_path: Path) -> None:
    """8 frames in order of name, the last 0.7 s after the first, told in full; then exhausted, closed, and the last frame still there."""
    for number in range(8):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number}.png")
    stage, slot = Stage(), FrameSlot()
    settings = Camera(source="files", path=str(tmp_path), loop=False, rate_hz=10.0)
    edge = CameraEdge(settings, clock=stage.clock, post=stage.post, slot=slot, pulse_every=Ns(SECOND))
    edge.handle([OpenCamera()])
    seen: list[tuple[int, int, int]] = []

    def look() -> None:
        frame = slot.take()
        assert frame is not None
        seen.append((frame.at, frame.number, int(frame.pixels[0, 0, 0])))

    slot.listen(look)
    stage.add(edge.step)
    stage.run(5 * SECOND)
    assert seen == [(n * 100 * MILLISECOND, n + 1, n) for n in range(8)]
    *_, pulse, exhausted, closed = stage.events
    assert isinstance(pulse, FramesCaptured)
    assert (pulse.frames, pulse.last_at) == (8, 700 * MILLISECOND)
    assert [type(exhausted), type(closed)] == [CameraExhausted, CameraClosed]


def test_the_last_picture_is_still_there_when_the_source_is_exhausted() -> None:
    """Vision may come for it later; only an order to close empties the slot."""
    scene = Set(Puppet(live=False))
    scene.puppet.frames_left = 3
    scene.open()
    scene.run(SECOND)
    assert scene.kinds == ["CameraOpened", "CameraExhausted", "CameraClosed"]
    frame = scene.slot.take()
    assert frame is not None
    assert frame.number == 3


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("CAP-04", breaks="chappe.edge.camera.grip:Grip._fail")
@pytest.mark.parametrize("call", ["make", "open", "read"])
def test_a_failure_closes_the_camera_and_is_told_once(call: str) -> None:
    """With code, message, remedy and whether trying again can help; nothing is tried before the next order."""
    scene = Set()
    scene.puppet.fail[call] = CameraError(
        "it is not there", code="camera_missing", remedy="plug it in", retriable=False
    )
    scene.open()
    scene.run(60 * SECOND)
    (failed,) = scene.of(CameraFailed)
    assert failed == CameraFailed(
        at=Ns(0), code="camera_missing", message="it is not there (plug it in)", retriable=False
    )
    assert scene.puppet.held == []
    assert not scene.puppet.lamp.lit
    assert scene.puppet.log.count(call) <= 1
    scene.puppet.fail.clear()
    scene.open()
    scene.run(61 * SECOND)
    assert scene.puppet.held


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((6, 9, 3), np.uint8), ((6, 8, 4), np.uint8), ((6, 8), np.uint8), ((6, 8, 3), np.float32), ((0,), np.uint8)],
)
def test_a_frame_that_is_not_what_was_agreed_is_refused(shape: tuple[int, ...], dtype: type) -> None:
    """Fault `camera_format`; nothing of it reaches the slot."""
    scene = Set()
    scene.puppet.shape, scene.puppet.dtype = shape, dtype
    scene.open()
    scene.run(SECOND)
    assert scene.of(CameraFailed)[0].code == "camera_format"
    assert scene.slot.take() is None


def test_pictures_may_differ_in_size() -> None:
    """Files are not a camera with one mode."""
    scene = Set(Puppet(live=False))
    scene.puppet.frame_size = (20, 10)
    scene.open()
    scene.run(SECOND)
    assert scene.kinds == ["CameraOpened"]
    assert scene.slot.take() is not None


def test_the_same_buffer_again_is_no_frame() -> None:
    """It is neither counted nor put into the slot, so the last frame grows old."""
    scene = Set()
    scene.open()
    scene.run(250 * MILLISECOND)
    scene.puppet.stamp = scene.puppet.taken
    scene.run(2 * SECOND)
    assert scene.of(FramesCaptured)[-1].frames == 3
    scene.puppet.stamp = None
    scene.run(3 * SECOND)
    assert scene.of(FramesCaptured)[-1].frames > 3


def test_troubles_of_a_source_become_faults_and_heal() -> None:
    """An unreadable picture ends nothing."""
    scene = Set()
    scene.open()
    scene.puppet.troubles = [Trouble("camera_picture", "a.png: broken")]
    scene.run(50 * MILLISECOND)
    scene.puppet.troubles = [Trouble("camera_picture", healed=True)]
    scene.run(150 * MILLISECOND)
    assert scene.of(Faulted) == [Faulted(at=Ns(0), part="camera", code="camera_picture", message="a.png: broken")]
    assert scene.of(Healed) == [Healed(at=Ns(100 * MILLISECOND), part="camera", code="camera_picture")]


def test_a_failure_under_an_order_that_is_over_is_not_told() -> None:
    """Switched off while the read was failing: only "closed" is of interest."""
    scene = Set()
    scene.open()
    scene.run(SECOND)
    scene.puppet.during["read"] = scene.close
    scene.puppet.fail["read"] = CameraError("gone")
    scene.run(2 * SECOND)
    assert scene.kinds == ["CameraOpened", "CameraClosed"]
    assert not scene.puppet.lamp.lit


def test_a_failure_under_an_order_that_is_over_does_not_stop_the_next() -> None:
    """Restarted while the read was failing: it is opened anew at once."""
    scene = Set()
    scene.open()
    scene.run(SECOND)

    def restart() -> None:
        scene.puppet.during.clear()
        scene.open()

    scene.puppet.during["read"] = restart
    scene.puppet.fail["read"] = CameraError("gone")
    scene.run(1100 * MILLISECOND)
    scene.puppet.fail.clear()
    scene.open()
    scene.run(2 * SECOND)
    assert scene.puppet.held
    assert scene.slot.take() is not None


# ── ending ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_closing_the_edge_closes_the_camera() -> None:
    """Also where no thread was ever started, and also twice."""
    scene = Set()
    scene.open()
    scene.run(SECOND)
    scene.edge.close()
    scene.edge.close()
    assert scene.puppet.held == []
    assert not scene.puppet.lamp.lit
    assert scene.slot.take() is None
