"""Which hand is which, from frame to frame, and where to look next. Pure bookkeeping: no pixels, no models, no clock.

A hand that is followed needs no palm search: its landmarks tell where it will be. The rules are MediaPipe's
(``hand_landmark_tracking_cpu.pbtxt``), with two additions: one hand is never counted twice, and hands carry ids. An id outlives a few
frames without its hand, because a fast hand is lost and found again more often than it is exchanged for another.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chappe.vision.geometry import Roi, overlap, roi_from_landmarks
from chappe.vision.landmarks import Landmarks


@dataclass
class _Track:
    """A hand known by its id: where it is expected, and for how many frames it has been missing."""

    id: int
    roi: Roi
    missed: int = 0


class Tracker:
    """Gives hands their ids and says where to look in the next frame.

    Args:
        hands: how many hands are wanted.
        gone_after: an id ends after so many frames without its hand.
        iou_followed: a palm whose region overlaps a followed one by this much or more is that hand.
        iou_same: two hands whose landmark boxes overlap by this much or more are one.
    """

    def __init__(
        self, hands: int = 1, *, gone_after: int = 5, iou_followed: float = 0.5, iou_same: float = 0.3
    ) -> None:
        self._hands = hands
        self._gone_after = gone_after
        self._iou_followed = iou_followed
        self._iou_same = iou_same
        self._tracks: list[_Track] = []
        self._next_id = 0

    def regions(self) -> list[Roi]:
        """Where the followed hands are expected in the coming frame."""
        return [track.roi for track in self._tracks if not track.missed]

    @property
    def wanted(self) -> int:
        """How many hands a palm search should still find."""
        return max(self._hands - len(self.regions()), 0)

    @property
    def recovering(self) -> bool:
        """Whether a hand was lost so recently that its id still lives."""
        return any(track.missed for track in self._tracks)

    def unclaimed(self, palms: Iterable[Roi]) -> list[Roi]:
        """The palm regions that belong to no followed hand, at most as many as are wanted.

        Args:
            palms: regions found by the palm search, best first.
        """
        followed = [roi.bounds() for roi in self.regions()]
        fresh = [roi for roi in palms if all(overlap(roi.bounds(), other) < self._iou_followed for other in followed)]
        return fresh[: self.wanted]

    def update(self, seen: Sequence[Landmarks]) -> list[tuple[int, Landmarks]]:
        """Take in what one frame showed; call it once for every frame, also for one without a hand.

        Args:
            seen: hands whose presence sufficed, read in the regions of `regions` and `unclaimed`.

        Returns:
            The hands with their ids, surest first, none twice.
        """
        kept = distinct(seen, iou=self._iou_same, limit=self._hands)
        followed = {id(track.roi): track for track in self._tracks if not track.missed}
        owners = [followed.pop(id(hand.roi), None) for hand in kept]
        lost = [track for track in self._tracks if track not in owners]
        named: list[tuple[int, Landmarks]] = []
        for hand, owner in zip(kept, owners, strict=True):
            track = owner or self._adopt(hand, lost)
            track.roi, track.missed = roi_from_landmarks(hand.points), 0
            named.append((track.id, hand))
        for track in lost:
            track.missed += 1
        self._tracks = [track for track in self._tracks if track.missed < self._gone_after]
        return named

    def _adopt(self, hand: Landmarks, lost: list[_Track]) -> _Track:
        """The nearest lost hand within one side of its region takes this one as its return; else it is a new hand."""
        nearest = min(lost, key=lambda track: _distance(track.roi, hand.roi), default=None)
        if nearest is not None and _distance(nearest.roi, hand.roi) <= nearest.roi.side:
            lost.remove(nearest)
            return nearest
        track = _Track(self._next_id, hand.roi)
        self._next_id += 1
        self._tracks.append(track)
        return track


def distinct(seen: Iterable[Landmarks], *, iou: float, limit: int) -> list[Landmarks]:
    """The surest hands of which no two are the same.

    Two regions can end on one hand; without this, a second wanted hand is "found" on the first one in most frames.

    Args:
        seen: hands in any order.
        iou: boxes that overlap by this much or more are one hand.
        limit: at most so many.
    """
    kept: list[Landmarks] = []
    for hand in sorted(seen, key=lambda one: one.presence, reverse=True):
        if len(kept) < limit and all(overlap(hand.bounds, other.bounds) < iou for other in kept):
            kept.append(hand)
    return kept


def _distance(one: Roi, other: Roi) -> float:
    return math.hypot(one.cx - other.cx, one.cy - other.cy)
