"""Which hand is which: ids, doubles, losses and returns, without a pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.vision.geometry import Roi, roi_from_landmarks
from chappe.vision.landmarks import Landmarks
from chappe.vision.tracker import Tracker, distinct


def seen(x: float, y: float = 240, *, presence: float = 0.9, roi: Roi | None = None) -> Landmarks:
    """An upright hand of about 100 px around (x, y), read in `roi`."""
    grid = np.linspace(-50, 50, 21)
    points = np.stack((x + grid, y - grid, np.zeros(21)), axis=1).astype(np.float32)
    points[0, 1], points[9] = y + 50, (x, y - 30, 0)
    return Landmarks(points, points, presence, 0.9, roi or Roi(x, y, 200))


def follow(tracker: Tracker, x: float) -> list[tuple[int, Landmarks]]:
    """One frame in which every followed hand is seen, at `x`."""
    return tracker.update([seen(x, roi=roi) for roi in tracker.regions()])


def ids(named: list[tuple[int, Landmarks]]) -> list[int]:
    return [number for number, _ in named]


def test_a_new_tracker_searches() -> None:
    tracker = Tracker(hands=2)
    assert tracker.regions() == []
    assert tracker.wanted == 2
    assert not tracker.recovering


@pytest.mark.feature("VIS-05", breaks="chappe.vision.tracker:Tracker.update")
def test_a_followed_hand_keeps_its_id_and_needs_no_search() -> None:
    """Its next region is fitted to its landmarks; nothing more is wanted."""
    tracker = Tracker()
    [(number, first)] = tracker.update([seen(300)])
    for x in range(304, 500, 4):
        assert tracker.wanted == 0
        assert ids(follow(tracker, x)) == [number]
    assert tracker.regions() == [roi_from_landmarks(seen(496).points)]
    assert first.points[9, 0] == 300


@pytest.mark.parametrize(("missed", "same"), [(1, True), (4, True), (5, False), (9, False)])
def test_an_id_outlives_four_frames_without_its_hand(missed: int, same: bool) -> None:
    """Found again after up to four empty frames it is the same hand; the fifth ends the id."""
    tracker = Tracker()
    tracker.update([seen(300)])
    for count in range(missed):
        assert tracker.update([]) == []
        assert tracker.regions() == []
        assert tracker.wanted == 1
        assert tracker.recovering == (count < 4)
    assert ids(tracker.update([seen(310)])) == [0 if same else 1]
    assert not tracker.recovering


def test_a_hand_that_returns_far_away_is_another_hand() -> None:
    """Within one side of its region it is the lost one; a whole picture away it is not."""
    tracker = Tracker()
    tracker.update([seen(100)])
    tracker.update([])
    assert ids(tracker.update([seen(560)])) == [1]


def test_the_nearest_lost_hand_returns() -> None:
    """Two hands lost together come back as themselves, in whichever order they are seen."""
    tracker = Tracker(hands=2)
    before = {number: hand.points[9, 0] for number, hand in tracker.update([seen(200), seen(450, presence=0.8)])}
    tracker.update([])
    after = {number: hand.points[9, 0] for number, hand in tracker.update([seen(460), seen(190, presence=0.7)])}
    assert before == {0: 200, 1: 450}
    assert after == {1: 460, 0: 190}


def test_ids_are_never_used_twice() -> None:
    tracker = Tracker(gone_after=1)
    found = [ids(tracker.update([seen(300)] if turn % 2 == 0 else [])) for turn in range(8)]
    assert found == [[0], [], [1], [], [2], [], [3], []]


# ---- doubles ---------------------------------------------------------------------------------------------------------


@pytest.mark.feature("VIS-05", breaks="chappe.vision.tracker:distinct")
def test_one_hand_is_never_counted_twice() -> None:
    """Two regions that ended on one hand: the surer one stays, and keeps its id."""
    tracker = Tracker(hands=2)
    tracker.update([seen(300)])
    [(number, kept)] = tracker.update([seen(302, presence=0.8, roi=tracker.regions()[0]), seen(304, presence=0.95)])
    assert kept.presence == 0.95
    assert number == 0


def test_two_hands_are_two() -> None:
    tracker = Tracker(hands=2)
    assert ids(tracker.update([seen(200, presence=0.7), seen(450)])) == [0, 1]
    assert tracker.wanted == 0


@given(st.lists(st.tuples(st.integers(0, 640), st.floats(0.5, 1)), max_size=6), st.integers(1, 2))
def test_what_is_kept_is_the_surest_and_apart(hands: list[tuple[int, float]], limit: int) -> None:
    """No two kept hands overlap by 0.3, none is less sure than one left out for room, and at most `limit` stay."""
    every = [seen(x, presence=presence) for x, presence in hands]
    kept = distinct(every, iou=0.3, limit=limit)
    assert len(kept) <= limit
    assert bool(kept) == bool(every)
    assert [hand.presence for hand in kept] == sorted((hand.presence for hand in kept), reverse=True)
    assert not kept or kept[0].presence == max(hand.presence for hand in every)


# ---- palms -----------------------------------------------------------------------------------------------------------


def test_a_palm_of_a_followed_hand_is_not_new() -> None:
    """A palm region that overlaps a followed one by half or more is that hand; others are given out, best first."""
    tracker = Tracker(hands=2)
    tracker.update([seen(200)])
    [followed] = tracker.regions()
    near = Roi(followed.cx + 0.2 * followed.side, followed.cy, followed.side)
    apart = Roi(followed.cx + 0.5 * followed.side, followed.cy, followed.side)
    assert tracker.unclaimed([near, apart, Roi(600, 240, 100)]) == [apart]


def test_no_more_palms_than_hands_are_wanted() -> None:
    palms = [Roi(100, 100, 50), Roi(300, 100, 50), Roi(500, 100, 50)]
    assert Tracker(hands=2).unclaimed(palms) == palms[:2]
    assert Tracker(hands=1).unclaimed(palms) == palms[:1]
    assert Tracker(hands=1).unclaimed([]) == []


@given(st.lists(st.lists(st.integers(0, 640), max_size=3), max_size=30), st.integers(1, 2))
def test_whatever_is_seen_there_are_never_more_hands_than_wanted(script: list[list[int]], hands: int) -> None:
    """Over any sequence of frames ids rise, none repeats within a frame, and regions never exceed what is wanted."""
    tracker = Tracker(hands)
    highest = -1
    for frame in script:
        regions = tracker.regions()
        named = tracker.update([seen(x, roi=regions[i] if i < len(regions) else None) for i, x in enumerate(frame)])
        numbers = ids(named)
        assert len(numbers) <= hands
        assert len(set(numbers)) == len(numbers)
        assert all(number <= highest + hands for number in numbers)
        highest = max([highest, *numbers])
        assert len(tracker.regions()) == len(numbers)
        assert tracker.wanted == hands - len(numbers)
