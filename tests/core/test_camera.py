"""When the camera is opened, closed and started again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.core.camera import TABLE, CameraWatch, Close, Decision, Fault, Heal, Input, Open, State
from chappe.core.units import HOUR, MILLISECOND, SECOND, Ns, seconds

STALL = 5 * SECOND


class Scene:
    """A watch at manual time; notes when it decided what."""

    def __init__(self, source: str = "v4l2", rate_hz: float = 10.0, stall: int = STALL, off_by: object = None) -> None:
        self.now = Ns(0)
        self.decided: list[tuple[float, Decision]] = []
        self.watch = CameraWatch(source, rate_hz, stall)
        self.note(self.watch.started(self.now, off_by))

    def note(self, decisions: list[Decision]) -> None:
        self.decided.extend((self.now / SECOND, decision) for decision in decisions)

    def until(self, moment_s: float) -> None:
        """Let time pass; every deadline on the way is met exactly."""
        end = seconds(moment_s)
        while (due := self.watch.due()) is not None and due <= end:
            self.now = max(self.now, due)
            self.note(self.watch.expire(self.now))
        self.now = max(self.now, end)

    def opened(self) -> None:
        self.note(self.watch.opened(self.now))

    def frame(self, age_s: float = 0.0) -> None:
        self.note(self.watch.frame(Ns(self.now - seconds(age_s)), self.now))

    def frames(self, first_s: float, last_s: float, every_s: float = 0.1) -> None:
        """Frames at a steady rate, both ends included."""
        for n in range(round((last_s - first_s) / every_s) + 1):
            self.until(first_s + n * every_s)
            self.frame()

    def fail(self, code: str = "camera_failed", *, retriable: bool = True, message: str = "") -> None:
        self.note(self.watch.failed(code, retriable, self.now, message))

    def turn(self, on: bool, by: str) -> str | None:
        error = self.watch.turn(on, by, self.now)  # type: ignore[arg-type]
        self.note(self.watch.expire(self.now))
        return error

    def times(self, kind: type[Decision]) -> list[float]:
        return [at for at, decision in self.decided if isinstance(decision, kind)]

    @property
    def faults(self) -> list[tuple[float, str]]:
        return [(at, decision.code) for at, decision in self.decided if isinstance(decision, Fault)]

    @property
    def heals(self) -> list[tuple[float, str]]:
        return [(at, decision.code) for at, decision in self.decided if isinstance(decision, Heal)]


def running(**more: float) -> Scene:
    """A camera that is open and has delivered 50 frames at 10 fps, the last at 4.9 s."""
    scene = Scene(**more)  # type: ignore[arg-type]
    scene.opened()
    scene.frames(0.0, 4.9)
    return scene


# ── stalls ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("CAP-04", breaks="chappe.core.camera:CameraWatch._stall")
def test_a_frozen_camera_is_a_fault_after_five_seconds_and_is_restarted_with_growing_pauses() -> None:
    """Frames stop after number 50: 5.0 s later the fault, a restart at once, then 2, 4, 8 … 60 s apart, all counted."""
    scene = running()
    scene.until(400.0)
    assert scene.faults == [(9.9, "camera_stalled")]
    starts = scene.times(Open)
    assert starts[:2] == [0.0, 9.9]
    assert [round(later - sooner, 6) for sooner, later in pairwise(starts[1:])][:8] == [2, 4, 8, 16, 32, 60, 60, 60]
    assert scene.watch.restarts == len(starts) - 1 >= 9


@pytest.mark.feature("CAP-04", breaks="chappe.core.camera:CameraWatch._flow")
def test_frames_heal_it() -> None:
    """Frames return after the third restart: healed with the first of them, and no further restart."""
    scene = running()
    scene.until(16.0)
    assert scene.times(Open) == [0.0, 9.9, 11.9, 15.9]
    scene.opened()
    scene.frames(16.5, 60.0)
    assert scene.heals == [(16.5, "camera_stalled")]
    assert len(scene.times(Open)) == 4
    assert scene.watch.restarts == 3


def test_the_schedule_is_the_same_when_each_restart_opens_at_once() -> None:
    """Whether the restarted camera says "open" or nothing at all, the next restart comes at the same time."""
    silent, talking = running(), running()
    silent.until(130.0)
    for start in [9.9, 11.9, 15.9, 23.9, 39.9, 71.9]:
        talking.until(start)
        talking.opened()
    talking.until(130.0)
    assert talking.times(Open) == silent.times(Open)


def test_a_slow_camera_is_given_time_for_its_first_frame() -> None:
    """Opening took 1.5 s of the two: two more seconds are granted, not the half that is left."""
    scene = running()
    scene.until(11.4)
    scene.opened()
    scene.until(13.3)
    scene.frame()
    assert scene.times(Open) == [0.0, 9.9]
    assert scene.heals == [(13.3, "camera_stalled")]


def test_a_second_stall_of_a_camera_that_worked_begins_anew() -> None:
    """After more than a stall's span of frames the next stall is restarted at once again."""
    scene = running()
    scene.until(12.0)
    scene.opened()
    scene.frames(12.0, 20.0)
    scene.until(30.0)
    assert scene.faults == [(9.9, "camera_stalled"), (25.0, "camera_stalled")]
    assert scene.times(Open) == [0.0, 9.9, 11.9, 25.0, 27.0]


def test_a_camera_that_fails_after_each_first_frame_is_not_flogged() -> None:
    """One frame heals the fault but does not reset the pauses."""
    scene = running()
    for _ in range(5):
        scene.fail()
        while scene.watch.phase is State.WAITING:
            scene.until((scene.watch.due() or 0) / SECOND)
        scene.opened()
        scene.frame()
    starts = scene.times(Open)
    assert [round(later - sooner, 6) for sooner, later in pairwise(starts[1:])] == [2, 4, 8, 16]
    assert len(scene.heals) == 5


@pytest.mark.parametrize(
    ("rate_hz", "stall_s", "span_s"), [(10.0, 5.0, 5.0), (0.5, 5.0, 10.0), (30.0, 2.0, 2.0), (0.2, 60.0, 60.0)]
)
def test_a_stall_is_five_periods_or_the_configured_time(rate_hz: float, stall_s: float, span_s: float) -> None:
    """Whichever is longer."""
    scene = Scene(rate_hz=rate_hz, stall=seconds(stall_s))
    scene.opened()
    scene.frame()
    scene.until(span_s + 1)
    assert scene.faults == [(span_s, "camera_stalled")]


def test_a_camera_that_opens_and_never_delivers_has_stalled() -> None:
    """The span runs from the opening."""
    scene = Scene()
    scene.until(1.0)
    scene.opened()
    scene.until(7.0)
    assert scene.faults == [(6.0, "camera_stalled")]


def test_an_opening_that_is_never_answered_has_stalled() -> None:
    """Ten seconds for the first opening, then the pauses."""
    scene = Scene()
    scene.until(30.0)
    assert scene.faults == [(10.0, "camera_stalled")]
    assert scene.times(Open) == [0.0, 10.0, 12.0, 16.0, 24.0]


def test_late_news_of_frames_from_before_a_restart_heals_nothing() -> None:
    """Vision may finish with an old frame long after the camera was given up."""
    scene = running()
    scene.until(10.0)
    scene.frame(age_s=5.0)
    scene.opened()
    scene.frame(age_s=0.2)
    assert scene.heals == []
    scene.frame(age_s=0.05)
    assert scene.heals == [(10.0, "camera_stalled")]


def test_an_older_frame_told_late_does_not_move_the_deadline_back() -> None:
    """The camera's pulse says 3.0 s after vision has said 3.4 s."""
    scene = Scene()
    scene.opened()
    scene.frames(0.0, 3.4)
    scene.frame(age_s=0.4)
    assert scene.watch.due() == seconds(8.4)


def test_a_frame_that_came_in_time_counts_although_it_is_told_after_the_deadline() -> None:
    """The engine was busy; the frame's own time decides."""
    scene = Scene()
    scene.opened()
    scene.frames(0.0, 1.0)
    scene.now = seconds(6.5)
    scene.frame(age_s=1.5)
    assert scene.faults == []
    assert scene.watch.due() == seconds(10.0)


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_camera_that_cannot_be_opened_is_one_fault_and_is_tried_again() -> None:
    """At 2, 4, 8 … 60 s; the code is told once, the reason with it; frames heal it."""
    scene = Scene()
    for moment in [0.0, 2.0, 6.0, 14.0, 30.0, 62.0, 122.0]:
        scene.until(moment)
        scene.fail("camera_missing", message="nothing at /dev/video0")
    assert scene.faults == [(0.0, "camera_missing")]
    assert scene.decided[1] == (0.0, Fault("camera_missing", "nothing at /dev/video0"))
    scene.until(182.0)
    assert scene.times(Open) == [0.0, 2.0, 6.0, 14.0, 30.0, 62.0, 122.0, 182.0]
    scene.opened()
    scene.frame()
    assert scene.heals == [(182.0, "camera_missing")]


def test_a_camera_that_fails_at_work_is_opened_again_at_once() -> None:
    """Then after the pauses; every code that occurred is healed together."""
    scene = running()
    scene.fail("camera_missing")
    scene.fail("camera_failed")
    scene.until(6.9)
    scene.opened()
    scene.frame()
    assert scene.faults == [(4.9, "camera_missing"), (4.9, "camera_failed")]
    assert scene.times(Open) == [0.0, 4.9, 6.9]
    assert scene.heals == [(6.9, "camera_missing"), (6.9, "camera_failed")]


def test_what_cannot_be_helped_is_not_tried_again() -> None:
    """No library: a fault, and rest, until somebody switches the camera on again."""
    scene = Scene()
    scene.fail("camera_missing", retriable=False)
    scene.until(HOUR / SECOND)
    assert scene.times(Open) == [0.0]
    assert scene.watch.phase is State.REFUSED
    assert scene.turn(True, "request") is None
    assert scene.times(Open) == [0.0, 3600.0]


def test_a_camera_that_restarts_itself_after_a_bug_is_waited_for() -> None:
    """Closed without having been asked: its thread opens it again; if not, that is a stall."""
    scene = running()
    scene.note(scene.watch.closed(scene.now))
    scene.until(6.0)
    scene.opened()
    scene.frames(6.0, 7.0)
    assert scene.decided == [(0.0, Open())]
    scene.note(scene.watch.closed(scene.now))
    scene.until(18.0)
    assert scene.faults == [(17.0, "camera_stalled")]


def test_the_last_picture_of_a_folder_is_no_stall() -> None:
    """Nothing follows, and nothing is missed."""
    scene = Scene("files")
    scene.opened()
    scene.frames(0.0, 0.7)
    scene.note(scene.watch.exhausted(scene.now))
    scene.note(scene.watch.closed(scene.now))
    scene.until(100.0)
    assert scene.decided == [(0.0, Open())]
    assert scene.watch.due() is None


# ── off and on ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("CAP-07", breaks="chappe.core.camera:CameraWatch.turn")
def test_a_request_switches_the_camera_off_and_on_and_it_stays_off_over_a_restart() -> None:
    """Off is what `state` gives to be kept, and what `started` takes back."""
    scene = running()
    assert scene.turn(False, "request") is None
    assert scene.times(Close) == [4.9]
    kept = scene.watch.state()
    assert kept == "request"
    reborn = Scene(off_by=kept)
    assert reborn.decided == []
    assert reborn.turn(True, "request") is None
    assert reborn.times(Open) == [0.0]
    assert reborn.watch.state() is None


@pytest.mark.feature("CAP-07", breaks="chappe.core.camera:CameraWatch.turn")
def test_what_the_owner_switched_off_no_request_switches_on() -> None:
    """Error `owner_off`, before and after a restart of the daemon; a hand can."""
    scene = running()
    assert scene.turn(False, "owner") is None
    assert scene.turn(True, "request") == "owner_off"
    reborn = Scene(off_by=scene.watch.state())
    assert reborn.turn(True, "request") == "owner_off"
    assert reborn.decided == []
    assert reborn.turn(True, "owner") is None
    assert reborn.times(Open) == [0.0]


def test_the_owner_may_undo_a_request_and_a_request_takes_nothing_from_the_owner() -> None:
    """Off by request, then by hand: the hand counts. Off by hand, then by request: it still does."""
    scene = running()
    scene.turn(False, "request")
    assert scene.turn(True, "owner") is None
    scene.turn(False, "request")
    scene.turn(False, "owner")
    assert scene.watch.off_by == "owner"
    scene.turn(False, "request")
    assert scene.watch.off_by == "owner"
    assert scene.turn(True, "request") == "owner_off"


@pytest.mark.parametrize("kept", ["owner", "thermal", "", 0, False, {}])
def test_what_was_kept_and_is_not_understood_counts_as_the_owners_word(kept: object) -> None:
    """A camera is never opened because a file was damaged."""
    scene = Scene(off_by=kept)
    assert scene.decided == []
    assert scene.turn(True, "request") == "owner_off"


def test_switched_off_means_closed_whatever_it_was_doing() -> None:
    """Opening, waiting for the next try, refused or done: the order to close is given, and nothing is tried any more."""
    situations: list[Callable[[Scene], None]] = [
        lambda scene: None,
        Scene.opened,
        Scene.fail,
        lambda scene: scene.fail(retriable=False),
        lambda scene: scene.note(scene.watch.exhausted(scene.now)),
    ]
    for situation in situations:
        scene = Scene()
        situation(scene)
        scene.turn(False, "request")
        scene.until(200.0)
        assert len(scene.times(Open)) == 1
        assert scene.times(Close) == [0.0]


def test_a_camera_that_is_off_has_no_faults() -> None:
    """What was wrong is withdrawn, and a failure on the way down is nobody's business."""
    scene = Scene()
    scene.fail("camera_missing")
    scene.turn(False, "owner")
    assert scene.heals == [(0.0, "camera_missing")]
    scene.fail("camera_failed")
    assert scene.faults == [(0.0, "camera_missing")]
    assert scene.watch.phase is State.OFF


@pytest.mark.parametrize("code", ["privacy_led", "camera_not_closed"])
def test_a_camera_that_may_not_be_dark_is_a_fault_even_when_it_is_off(code: str) -> None:
    """The lamp did not go out, or the camera did not close: the owner has to know."""
    scene = running()
    scene.turn(False, "owner")
    scene.fail(code)
    assert scene.faults == [(4.9, code)]


def test_on_again_before_it_has_closed() -> None:
    """The newest wish wins; the answer to the old one changes nothing."""
    scene = running()
    scene.turn(False, "request")
    scene.turn(True, "request")
    scene.note(scene.watch.closed(scene.now))
    scene.opened()
    scene.frames(5.0, 6.0)
    assert scene.times(Open) == [0.0, 4.9]
    assert scene.watch.phase is State.OPEN


def test_on_when_it_is_on_changes_nothing() -> None:
    """No restart for a repeated request."""
    scene = running()
    assert scene.turn(True, "request") is None
    assert scene.decided == [(0.0, Open())]


def test_where_no_camera_is_configured_nothing_is_opened() -> None:
    """Source `off`: on is refused, off is remembered."""
    scene = Scene("off")
    assert scene.turn(True, "owner") == "disabled"
    assert scene.turn(False, "owner") is None
    assert scene.watch.state() == "owner"
    assert scene.decided == []


def test_what_turn_decides_waits_for_expire_and_says_so() -> None:
    """`due` is now while a decision waits to be fetched."""
    watch = CameraWatch("v4l2", 10.0, STALL)
    watch.started(Ns(0), None)
    assert watch.turn(False, "owner", seconds(3)) is None
    assert watch.due() == seconds(3)
    assert watch.expire(seconds(3)) == [Close()]
    assert watch.due() is None


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_state_can_be_switched_off_and_reached() -> None:
    """No state but `off` and `closing` lacks the way out, and the table names only deeds that exist."""
    for state in set(State) - {State.OFF, State.CLOSING}:
        assert TABLE[state, Input.UNWANT][0] is State.CLOSING
    assert {state for state, _ in TABLE.values()} == set(State)
    assert all(callable(getattr(CameraWatch, deed)) for _, deed in TABLE.values())


FROM_THE_EDGE = ["opened", "closed", "frame", "old frame", "fail", "refuse", "exhausted"]
HAPPENINGS = st.sampled_from([*FROM_THE_EDGE, "on", "off", "owner on", "owner off", "wait"])


def happen(scene: Scene, what: str) -> None:
    match what:
        case "opened" | "frame":
            getattr(scene, what)()
        case "closed" | "exhausted":
            scene.note(getattr(scene.watch, what)(scene.now))
        case "old frame":
            scene.frame(age_s=min(1.0, scene.now / SECOND))
        case "fail" | "refuse":
            scene.fail(retriable=what == "fail")
        case "wait":
            return
        case _:
            scene.turn(what.endswith("on"), "owner" if what.startswith("owner") else "request")


@given(st.lists(st.tuples(HAPPENINGS, st.integers(0, 20_000)), max_size=60))
def test_whatever_happens_the_books_of_faults_and_restarts_are_right(story: list[tuple[str, int]]) -> None:
    """A fault is told once until healed, a camera that is switched off is never opened, and no deadline lies in the past."""
    scene = Scene()
    for what, wait_ms in story:
        before = len(scene.times(Open))
        happen(scene, what)
        scene.until((scene.now + wait_ms * MILLISECOND) / SECOND)
        if scene.watch.off_by is not None:
            assert len(scene.times(Open)) == before
    held: set[str] = set()
    for _, decision in scene.decided:
        if isinstance(decision, Fault):
            assert decision.code not in held
            held.add(decision.code)
        elif isinstance(decision, Heal):
            held.remove(decision.code)
    due = scene.watch.due()
    assert due is None or due >= scene.now


@given(st.floats(0.5, 120.0), st.integers(0, 600))
def test_a_steady_camera_is_left_alone(rate_hz: float, jitter_ms: int) -> None:
    """Frames at the configured rate, some late by up to 600 ms: no decision but the first."""
    scene = Scene(rate_hz=rate_hz)
    scene.opened()
    for n in range(200):
        scene.until(n / rate_hz + (jitter_ms / 1000 if n % 3 == 0 else 0))
        scene.frame()
    assert scene.decided == [(0.0, Open())]
    assert scene.watch.restarts == 0
