"""The vision thread: which frames it looks at and when, and how models are changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.core.effects import CloseCamera, LoadModel, OpenCamera
from chappe.core.events import Event, Faulted, FramesCaptured, Healed, ModelLoaded, ModelRejected, Seen
from chappe.core.gestures import Sighting
from chappe.core.settings import Camera, Vision
from chappe.core.units import MILLISECOND, SECOND, Ns
from chappe.edge.camera import CameraEdge
from chappe.edge.sight import Detector, SightEdge
from chappe.edge.slot import Frame, FrameSlot, Grid
from chappe.errors import ModelError
from chappe.testing import ManualClock

from .puppet import Puppet
from .stage import Stage

PATIENCE_S = 10.0


@dataclass
class Found:
    """A hand as a pipeline gives it: more than is asked for, and numbers as numpy has them."""

    id: Any = 3
    gesture: str = "Victory"
    score: Any = 0.75
    handedness: str = "right"
    box: Any = (1, 2, 30, 40)
    presence: float = 0.9


class Stub:
    """A detector that takes as long as it is told."""

    def __init__(self, work: Callable[[], object], name: str = "hands-lite") -> None:
        self.work = work
        self.model_id = f"{name}@12345678"
        self.palm_runs = 0
        self.landmark_runs = 0
        self.palm = False
        self.hands: Sequence[Found] = ()
        self.seen: list[tuple[int, int]] = []

    def process(self, rgb: Any, now_ns: int) -> Sequence[Found]:
        self.palm_runs += self.palm
        self.work()
        self.seen.append((int(rgb[0, 0, 0]), now_ns))
        return self.hands


class Scene(Stage):
    """A camera and an eye behind it, both at manual time.

    Attributes:
        took: how long a look takes, in nanoseconds; `loads` likewise for the loading of a model.
        models: what `load` knows; an exception is raised.
    """

    def __init__(self, fps: float, rate_hz: float, took: int, *, loads: int = 0) -> None:
        super().__init__()
        self.took, self.loads = took, loads
        self.models: dict[str, Any] = {}
        self.puppet = Puppet(rate_hz=fps)
        self.slot = FrameSlot()
        self.camera = CameraEdge(
            Camera(source="v4l2"),
            clock=self.clock,
            post=self.post,
            slot=self.slot,
            lamp=self.puppet.lamp,
            make_source=self.puppet.source,
        )
        self.sight = SightEdge(
            Vision(), rate_hz, self.slot, clock=self.clock, post=self.post, load=self.load, listing=lambda: ({"a": 1},)
        )
        self.wake_camera = self.add(self.camera.step)
        self.wake_vision = self.add(self.sight.step)
        self.wake_loader = self.add(self._fetch)
        self.slot.listen(self.wake_vision)

    def _fetch(self, now: Ns) -> Ns | None:
        due = self.sight.fetch(now)
        self.wake_vision()
        return due

    def load(self, name: str) -> Detector:
        self.spend(self.loads)
        made = self.models.setdefault(name, self.stub(name))
        if isinstance(made, Exception):
            raise made
        detector: Detector = made
        return detector

    def stub(self, name: str = "hands-lite") -> Stub:
        return Stub(lambda: self.spend(self.took), name)

    def use(self, name: str = "hands-lite") -> None:
        self.sight.handle([LoadModel(name=name)])
        self.wake_loader()

    def film(self) -> None:
        self.camera.handle([OpenCamera()])
        self.wake_camera()

    def cut(self) -> None:
        self.camera.handle([CloseCamera()])
        self.wake_camera()

    def put(self, number: int) -> None:
        """A frame out of nowhere."""
        self.slot.put(Frame(np.full((6, 8, 3), number, np.uint8), self.now, number))

    @property
    def starts(self) -> list[int]:
        """When each look began."""
        return [seen.at - seen.took for seen in self.of(Seen)]


# ── newest frame, one at a time ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("CAP-02", breaks="chappe.edge.slot:FrameSlot.take")
@pytest.mark.parametrize("rate_hz", [10.0, 30.0])
def test_thirty_frames_a_second_before_an_eye_that_takes_100_ms(rate_hz: float) -> None:
    """Ten seconds: 100 ±1 looks, each at a frame at most 34 ms old, and every other frame skipped."""
    scene = Scene(fps=30.0, rate_hz=rate_hz, took=100 * MILLISECOND)
    scene.use()
    scene.film()
    scene.at(10 * SECOND - 1, scene.cut)
    scene.run(11 * SECOND)
    looks = scene.of(Seen)
    assert abs(len(looks) - 100) <= 1
    assert max(seen.at - seen.took - seen.frame_at for seen in looks) <= 34 * MILLISECOND
    pulse = scene.of(FramesCaptured)[-1]
    assert pulse.frames == 300
    assert pulse.skipped == 300 - len(looks)
    assert [seen.frame for seen in looks] == sorted({seen.frame for seen in looks})


@pytest.mark.feature("CAP-02", breaks="chappe.edge.sight:SightEdge._next")
def test_a_look_longer_than_its_period_skips_ticks_and_keeps_the_grid() -> None:
    """Period 1 s, a look of 1.7 s: starts at 0, 2, 4, 6, 8 s; five ticks skipped in ten seconds."""
    scene = Scene(fps=10.0, rate_hz=1.0, took=1700 * MILLISECOND)
    scene.use()
    scene.film()
    scene.run(10 * SECOND - 1)
    assert scene.starts == [0, 2 * SECOND, 4 * SECOND, 6 * SECOND, 8 * SECOND]
    assert scene.sight.skipped == 5


def test_a_look_that_ends_on_a_tick_uses_it() -> None:
    """Exactly one period: no tick is lost, however long it goes on."""
    scene = Scene(fps=120.0, rate_hz=30.0, took=33_333_333)
    scene.use()
    scene.film()
    scene.run(10 * SECOND - 1)
    assert len(scene.starts) == 300
    assert scene.sight.skipped == 0


def test_looks_are_not_more_frequent_than_asked_for() -> None:
    """A fast camera and a fast eye: the rate is kept."""
    scene = Scene(fps=30.0, rate_hz=5.0, took=MILLISECOND)
    scene.use()
    scene.film()
    scene.run(10 * SECOND - 1)
    assert scene.starts == [n * 200 * MILLISECOND for n in range(50)]


def test_a_frame_that_is_late_is_looked_at_as_it_comes() -> None:
    """The tick has passed without a frame: no waiting for the next, and no tick counts as skipped, as nothing was missed."""
    scene = Scene(fps=10.0, rate_hz=10.0, took=20 * MILLISECOND)
    scene.use()
    scene.run(0)
    moments = [0, 130 * MILLISECOND, 210 * MILLISECOND, 350 * MILLISECOND, 390 * MILLISECOND]
    for number, moment in enumerate(moments):
        scene.run(moment)
        scene.put(number)
    scene.run(SECOND)
    assert scene.starts == [*moments[:4], 400 * MILLISECOND]
    assert scene.sight.skipped == 0


def test_no_frame_is_looked_at_twice() -> None:
    """The camera has frozen; the eye waits."""
    scene = Scene(fps=10.0, rate_hz=10.0, took=MILLISECOND)
    scene.use()
    scene.film()
    scene.run(450 * MILLISECOND)
    scene.puppet.stamp = scene.puppet.taken
    scene.run(5 * SECOND)
    assert [seen.frame for seen in scene.of(Seen)] == [1, 2, 3, 4, 5]


@given(
    fps=st.sampled_from([1.0, 5.0, 10.0, 30.0]),
    rate_hz=st.sampled_from([0.5, 5.0, 10.0, 30.0]),
    looks=st.lists(st.integers(1, 400), min_size=1, max_size=10),
)
def test_frames_are_conserved_and_never_old(fps: float, rate_hz: float, looks: list[int]) -> None:
    """Seen + skipped = captured, frames in order, none older than a period of the camera; looks begin on a tick or as a frame arrives."""
    scene = Scene(fps=fps, rate_hz=rate_hz, took=0)
    turn = iter(looks * 1000)
    scene.models["hands-lite"] = Stub(lambda: scene.spend(next(turn) * MILLISECOND))
    scene.use()
    scene.film()
    scene.run(5 * SECOND)
    scene.cut()
    scene.run(6 * SECOND)
    seen = scene.of(Seen)
    pulse = scene.of(FramesCaptured)[-1]
    assert len(seen) + pulse.skipped == pulse.frames
    assert [one.frame for one in seen] == sorted({one.frame for one in seen})
    assert max(one.at - one.took - one.frame_at for one in seen) <= SECOND / fps + 1
    grid = Grid(rate_hz, Ns(scene.starts[0]))
    assert all(
        at == one.frame_at or at == grid.at(grid.last(Ns(at))) for at, one in zip(scene.starts, seen, strict=True)
    )


# ── what is said ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_seen_is_said_in_plain_values() -> None:
    """Frame, its time, how long it took, and the hands: whatever types the detector has, an event holds Python's own."""
    scene = Scene(fps=10.0, rate_hz=10.0, took=30 * MILLISECOND)
    stub = scene.models["hands-lite"] = scene.stub()
    stub.hands = [Found(id=np.int64(3), score=np.float32(0.75), box=np.array([1, 2, 30, 40]))]
    scene.use()
    scene.run(5 * MILLISECOND)
    scene.put(7)
    scene.run(40 * MILLISECOND)
    assert scene.of(Seen) == [
        Seen(
            at=Ns(35 * MILLISECOND),
            frame=7,
            frame_at=Ns(5 * MILLISECOND),
            took=Ns(30 * MILLISECOND),
            hands=(Sighting("Victory", 0.75, "right", (1, 2, 30, 40), 3),),
        )
    ]
    (hand,) = scene.of(Seen)[0].hands
    assert [type(value) for value in (hand.hand, hand.score, *hand.box)] == [int, float, int, int, int, int]
    assert stub.seen == [(7, 5 * MILLISECOND)]


def test_a_palm_search_is_said() -> None:
    """In the look in which it ran."""
    scene = Scene(fps=10.0, rate_hz=10.0, took=MILLISECOND)
    stub = scene.models["hands-lite"] = scene.stub()
    scene.use()
    scene.film()
    scene.run(50 * MILLISECOND)
    stub.palm = True
    scene.run(150 * MILLISECOND)
    stub.palm = False
    scene.run(250 * MILLISECOND)
    assert [seen.palm for seen in scene.of(Seen)] == [False, True, False]


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_model_nothing_is_looked_at_and_the_camera_goes_on() -> None:
    """No runtime: said once, and the frames go on being told."""
    scene = Scene(fps=10.0, rate_hz=10.0, took=MILLISECOND)
    scene.models["hands-lite"] = ModelError(
        "no TFLite runtime", remedy="pip install ai-edge-litert", code="model_runtime"
    )
    scene.use()
    scene.film()
    scene.run(5 * SECOND - 1)
    assert scene.of(ModelRejected) == [
        ModelRejected(
            at=Ns(0), name="hands-lite", message="no TFLite runtime (pip install ai-edge-litert)", code="model_runtime"
        )
    ]
    assert scene.of(Seen) == []
    assert len(scene.of(FramesCaptured)) == 50


def test_a_library_that_is_missing_is_a_model_that_cannot_be_used() -> None:
    """numpy itself, for one."""
    scene = Scene(fps=10.0, rate_hz=10.0, took=MILLISECOND)
    scene.models["hands-lite"] = ModuleNotFoundError("No module named 'numpy'")
    scene.use()
    scene.run(SECOND)
    (rejected,) = scene.of(ModelRejected)
    assert rejected.code == "model_runtime"
    assert "No module named 'numpy'" in rejected.message


def test_a_model_that_is_loaded_is_said_with_what_there_is() -> None:
    """Its name, its id, and the models on this device, from the moment on at which it is in use."""
    scene = Scene(fps=10.0, rate_hz=10.0, took=MILLISECOND, loads=250 * MILLISECOND)
    scene.use()
    scene.film()
    scene.run(SECOND)
    (loaded,) = scene.of(ModelLoaded)
    assert loaded == ModelLoaded(
        at=Ns(250 * MILLISECOND), name="hands-lite", model="hands-lite@12345678", listing=({"a": 1},)
    )
    assert scene.starts[0] == 250 * MILLISECOND


@pytest.mark.feature("MOD-02", breaks="chappe.edge.sight:SightEdge._reject")
@pytest.mark.parametrize(
    "wrong", ["sha256 differs", "input has shape [1, 96, 96, 3]", "truncated", "not a TFLite file"]
)
def test_a_model_that_is_refused_costs_no_frame_and_the_loaded_one_goes_on(wrong: str) -> None:
    """Half a second of checking, at ten frames a second: every frame is looked at, by the old model; the mismatch is named."""
    scene = Scene(fps=10.0, rate_hz=10.0, took=30 * MILLISECOND, loads=0)
    scene.use()
    scene.film()
    scene.run(SECOND)
    scene.loads = 500 * MILLISECOND
    scene.models["hands-full"] = ModelError(f"hand_landmark_full.tflite: {wrong}")
    scene.use("hands-full")
    scene.run(3 * SECOND - 1)
    (rejected,) = scene.of(ModelRejected)
    assert (rejected.name, rejected.code) == ("hands-full", "model_rejected")
    assert wrong in rejected.message
    assert [seen.frame for seen in scene.of(Seen)] == list(range(1, 31))
    assert scene.slot.skipped == scene.sight.skipped == 0
    assert len(scene.models["hands-lite"].seen) == 30
    assert len(scene.of(ModelLoaded)) == 1


@pytest.mark.feature("MOD-02", breaks="chappe.edge.sight:SightEdge._swap")
def test_models_are_swapped_between_two_frames() -> None:
    """While the new one loads the old one looks; no frame is lost, none is looked at by both."""
    scene = Scene(fps=10.0, rate_hz=10.0, took=30 * MILLISECOND)
    scene.use()
    scene.film()
    scene.run(SECOND)
    scene.loads = 515 * MILLISECOND
    scene.use("hands-full")
    scene.run(3 * SECOND - 1)
    assert [loaded.name for loaded in scene.of(ModelLoaded)] == ["hands-lite", "hands-full"]
    before, after = (scene.models[name].seen for name in ("hands-lite", "hands-full"))
    assert [at for _, at in before + after] == [n * 100 * MILLISECOND for n in range(30)]
    assert before[-1][1] == 1500 * MILLISECOND
    assert scene.slot.skipped == scene.sight.skipped == 0


def test_a_model_that_comes_during_a_look_waits_for_its_end() -> None:
    """The look is finished by the detector that began it."""
    scene = Scene(fps=10.0, rate_hz=10.0, took=90 * MILLISECOND, loads=10 * MILLISECOND)
    scene.use()
    scene.run(20 * MILLISECOND)
    scene.put(1)
    scene.models["hands-lite"].work = lambda: (scene.use("hands-full"), scene.spend(90 * MILLISECOND))
    scene.run(300 * MILLISECOND)
    assert [type(event) for event in scene.events] == [ModelLoaded, Seen, ModelLoaded]
    assert scene.models["hands-lite"].seen == [(1, 20 * MILLISECOND)]


def test_every_wish_for_a_model_is_answered_in_order() -> None:
    """Three at once, one of them refused: the last good one stays."""
    scene = Scene(fps=10.0, rate_hz=10.0, took=MILLISECOND)
    scene.models["b"] = ModelError("no")
    for name in ("a", "b", "c"):
        scene.use(name)
    scene.film()
    scene.run(SECOND)
    answers = [event.name for event in scene.events if isinstance(event, (ModelLoaded, ModelRejected))]
    assert sorted(answers) == ["a", "b", "c"]
    assert [loaded.name for loaded in scene.of(ModelLoaded)] == ["a", "c"]
    assert scene.models["c"].seen
    assert "a" not in [name for name, stub in scene.models.items() if isinstance(stub, Stub) and stub.seen][1:]


def test_effects_of_others_are_not_its_business() -> None:
    """A batch may hold anything."""
    scene = Scene(fps=10.0, rate_hz=10.0, took=MILLISECOND)
    scene.sight.handle([OpenCamera()])
    scene.wake_loader()
    scene.run(SECOND)
    assert scene.events == []


# ── real threads ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Mail:
    """Everything that was posted; a test may wait for more."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._arrived = threading.Condition()

    def post(self, event: Event) -> None:
        with self._arrived:
            self.events.append(event)
            self._arrived.notify_all()

    def wait_for(self, kind: type[Event], count: int = 1) -> None:
        with self._arrived:
            there = self._arrived.wait_for(
                lambda: sum(isinstance(event, kind) for event in self.events) >= count, PATIENCE_S
            )
        assert there, f"never happened; there was only {self.events}"


def frame(number: int) -> Frame:
    return Frame(np.zeros((6, 8, 3), np.uint8), Ns(0), number)


def test_the_threads_have_their_names_and_end_with_the_edge() -> None:
    """`vision` and `model`; a frame in the slot wakes the eye, and so does a new model."""
    clock, mail, slot = ManualClock(), Mail(), FrameSlot()
    stub = Stub(lambda: clock.advance(1.0))
    sight = SightEdge(Vision(), 10.0, slot, clock=clock, post=mail.post, load=lambda name: stub)
    sight.open()
    assert {"vision", "model"} <= {thread.name for thread in threading.enumerate()}
    slot.put(frame(1))
    sight.handle([LoadModel(name="hands-lite")])
    mail.wait_for(Seen)
    slot.put(frame(2))
    mail.wait_for(Seen, 2)
    assert [event.frame for event in mail.events if isinstance(event, Seen)] == [1, 2]
    assert sight.beat > 0
    sight.close()
    sight.close()
    assert not {"vision", "model"} & {thread.name for thread in threading.enumerate()}


def test_a_bug_of_a_detector_gets_a_new_detector() -> None:
    """Its state is unknown, so it is made anew; the next frame heals the fault."""
    clock, mail, slot = ManualClock(), Mail(), FrameSlot()
    made: list[Stub] = []

    def load(name: str) -> Stub:
        made.append(Stub(lambda: 1 // len(made[1:]), name))
        return made[-1]

    sight = SightEdge(Vision(model="hands-full"), 10.0, slot, clock=clock, post=mail.post, load=load)
    sight.open()
    sight.handle([LoadModel(name="hands-lite")])
    slot.put(frame(1))
    mail.wait_for(ModelLoaded, 2)
    slot.put(frame(2))
    mail.wait_for(Healed)
    sight.close()
    assert [(event.part, event.code) for event in mail.events if isinstance(event, (Faulted, Healed))] == [
        ("vision", "vision_bug"),
        ("vision", "vision_bug"),
    ]
    assert [one.model_id for one in made] == ["hands-lite@12345678"] * 2
    assert [event.frame for event in mail.events if isinstance(event, Seen)] == [2]


def test_an_eye_that_hangs_does_not_keep_the_daemon_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left behind."""
    clock, mail, slot = ManualClock(), Mail(), FrameSlot()
    inside, free = threading.Event(), threading.Event()
    stub = Stub(lambda: (inside.set(), free.wait(PATIENCE_S)))
    sight = SightEdge(Vision(), 10.0, slot, clock=clock, post=mail.post, load=lambda name: stub)
    monkeypatch.setattr("chappe.edge.sight.CLOSE_S", 0.01)
    sight.open()
    sight.handle([LoadModel(name="hands-lite")])
    slot.put(frame(1))
    assert inside.wait(PATIENCE_S)
    sight.close()
    free.set()
    mail.wait_for(Seen)
