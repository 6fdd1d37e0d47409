"""The camera's real threads: what manual time alone cannot show."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from chappe.core.effects import CloseCamera, OpenCamera
from chappe.core.events import CameraClosed, CameraFailed, CameraOpened, Event, Faulted, FramesCaptured, Healed
from chappe.core.settings import Camera
from chappe.core.units import SECOND
from chappe.edge.camera import CameraEdge
from chappe.edge.slot import FrameSlot
from chappe.testing import ManualClock

from .puppet import Puppet

PATIENCE_S = 10.0


class Mail:
    """Everything that was posted; a test may wait for more."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._arrived = threading.Condition()

    def post(self, event: Event) -> None:
        with self._arrived:
            self.events.append(event)
            self._arrived.notify_all()

    def wait(self, condition: Callable[[list[Event]], bool]) -> None:
        """Until the condition holds, but not for ever."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: condition(self.events), PATIENCE_S):
                raise AssertionError(f"never happened; there was only {self.events}")

    def wait_for(self, kind: type[Event], count: int = 1) -> None:
        self.wait(lambda events: sum(isinstance(event, kind) for event in events) >= count)


class Studio:
    """A camera with real threads on a clock that stands still, and a puppet for a device."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.mail = Mail()
        self.slot = FrameSlot()
        self.puppet = Puppet(rate_hz=1 / 3600)
        self.edge = CameraEdge(
            Camera(source="v4l2"),
            clock=self.clock,
            post=self.mail.post,
            slot=self.slot,
            lamp=self.puppet.lamp,
            make_source=self.puppet.source,
        )

    def names(self) -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "camera"]


@pytest.fixture
def studio() -> Iterator[Studio]:
    made = Studio()
    made.edge.open()
    yield made
    made.edge.close()


def test_the_thread_has_its_name_and_ends_with_the_edge(studio: Studio) -> None:
    """One thread named `camera`, from `open` to `close`; the camera is closed and its lamp dark then."""
    assert studio.names() == ["camera"]
    studio.edge.handle([OpenCamera()])
    studio.mail.wait_for(FramesCaptured)
    assert studio.edge.beat == studio.clock.now()
    studio.edge.close()
    assert studio.names() == []
    assert studio.puppet.held == []
    assert not studio.puppet.lamp.lit
    assert isinstance(studio.mail.events[-1], CameraClosed)


def test_handling_an_effect_never_waits_for_the_camera(studio: Studio) -> None:
    """Open, close and open while the first opening has not returned: the last word counts in the end."""
    inside, free = threading.Event(), threading.Event()
    studio.puppet.during["open"] = lambda: (inside.set(), free.wait(PATIENCE_S))
    studio.edge.handle([OpenCamera()])
    assert inside.wait(PATIENCE_S)
    studio.edge.handle([CloseCamera()])
    studio.edge.handle([OpenCamera()])
    free.set()
    studio.mail.wait_for(FramesCaptured)
    assert [type(event) for event in studio.mail.events] == [CameraClosed, CameraOpened, FramesCaptured]


@pytest.mark.feature("CAP-04", breaks="chappe.edge.camera.grip:Grip.retire")
def test_a_thread_that_hangs_is_left_behind_and_what_it_brings_is_thrown_away(studio: Studio) -> None:
    """A second thread takes over; the lamp stays lit for the first; when it returns, its frame counts for nothing and it ends."""
    inside, free = threading.Event(), threading.Event()
    puppet, mail = studio.puppet, studio.mail
    puppet.during["read"] = lambda: (inside.set(), free.wait(PATIENCE_S))
    studio.edge.handle([OpenCamera()])
    assert inside.wait(PATIENCE_S)
    studio.clock.advance(5.0)
    assert studio.edge.hung_for(studio.clock.now()) == 5 * SECOND
    old = puppet.held.pop()  # this driver lets a second opening in
    puppet.during.clear()
    studio.edge.handle([OpenCamera()])
    mail.wait_for(FramesCaptured)
    assert len(studio.names()) == 2
    assert "close" not in puppet.log
    frame = studio.slot.take()
    assert frame is not None
    puppet.held.append(old)
    free.set()
    mail.wait_for(Healed)
    assert studio.slot.take() is None
    assert [(event.code) for event in mail.events if isinstance(event, Faulted)] == ["camera_hung"]
    assert puppet.lamp.lit
    assert studio.edge.hung_for(studio.clock.now()) == 0
    studio.edge.handle([CloseCamera()])
    mail.wait_for(CameraClosed)
    assert not puppet.lamp.lit
    assert puppet.log.count("close") == 2


def test_an_edge_that_hangs_does_not_keep_the_daemon_from_ending(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left behind with its lamp lit; the process's end will take both."""
    monkeypatch.setattr("chappe.edge.camera.CLOSE_S", 0.01)
    inside, free = threading.Event(), threading.Event()
    studio.puppet.during["read"] = lambda: (inside.set(), free.wait(PATIENCE_S))
    studio.edge.handle([OpenCamera()])
    assert inside.wait(PATIENCE_S)
    studio.edge.close()
    assert studio.puppet.lamp.lit
    free.set()
    studio.mail.wait_for(CameraClosed)
    assert not studio.puppet.lamp.lit


def test_a_bug_restarts_the_camera_and_heals_with_the_next_frame(studio: Studio) -> None:
    """It is closed, told, and opened again by its own thread."""
    studio.puppet.fail["read"] = ZeroDivisionError("a bug")
    studio.edge.handle([OpenCamera()])
    studio.mail.wait_for(CameraClosed)
    studio.puppet.fail.clear()
    studio.edge.handle([])  # wakes the thread, whose clock stands still
    studio.mail.wait_for(Healed)
    assert [(event.part, event.code) for event in studio.mail.events if isinstance(event, (Faulted, Healed))] == [
        ("camera", "camera_bug"),
        ("camera", "camera_bug"),
    ]
    assert studio.puppet.log == ["lamp on", "open", "read", "close", "lamp off", "lamp on", "open", "read"]


@pytest.mark.parametrize("call", ["open", "read", "close"])
def test_the_third_bug_in_a_minute_leaves_the_camera_off(studio: Studio, call: str) -> None:
    """Closed if it lets itself be closed; who asks for it again is told, and that asking is useless."""
    puppet, mail = studio.puppet, studio.mail
    puppet.fail[call] = ZeroDivisionError("a bug")
    for count in (1, 2, 3):
        studio.edge.handle([OpenCamera()])
        if call == "close":
            mail.wait_for(CameraOpened, count)
            studio.edge.handle([CloseCamera()])
        mail.wait(lambda events, n=count: sum(isinstance(event, Faulted) for event in events) >= n)  # type: ignore[misc]
        puppet.held.clear()
    assert studio.edge._grip.worker._stopping.wait(PATIENCE_S)
    studio.edge.handle([OpenCamera()])
    mail.wait_for(CameraFailed)
    failed = next(event for event in mail.events if isinstance(event, CameraFailed))
    assert (failed.code, failed.retriable) == ("camera_bug", False)
    assert puppet.lamp.lit == (call == "close")
