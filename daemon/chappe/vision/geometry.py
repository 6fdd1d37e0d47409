"""Boxes, rotated regions and the affine maps between a frame and a model's square input.

A frame is `(H, W, 3)`; x runs right, y runs down, and integer coordinates are pixel positions (no half-pixel term). Angles are in
radians; rotation 0 is a hand whose fingers point up. The constants of the regions are those of MediaPipe's hand graphs
(``palm_detection_detection_to_roi.pbtxt``, ``hand_landmark_landmarks_to_roi.pbtxt``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Frame = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]
Bounds = tuple[float, float, float, float]

PALM_SHIFT, PALM_SCALE = 0.5, 2.6
HAND_SHIFT, HAND_SCALE = 0.1, 2.0
HAND_POINTS = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)
"""Wrist, thumb without its tip, and the two lower joints of each finger: what the next region is fitted to."""


class Affine(NamedTuple):
    """Map from crop pixel (u, v) to frame pixel: x = a*u + b*v + c, y = d*u + e*v + f."""

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float

    def from_row(self, row: int) -> Affine:
        """The map for the part of the crop that starts at `row`."""
        return self._replace(c=self.c + self.b * row, f=self.f + self.e * row)


@dataclass(frozen=True, slots=True)
class Roi:
    """A square region of a frame.

    Attributes:
        cx: centre, pixels from the left.
        cy: centre, pixels from the top.
        side: side of the square, pixels.
        rotation: clockwise turn of the square, radians in [-pi, pi).
    """

    cx: float
    cy: float
    side: float
    rotation: float = 0.0

    def affine(self, size: int) -> Affine:
        """The map that fills a `size` x `size` crop from this region."""
        step = self.side / size
        cos, sin = math.cos(self.rotation), math.sin(self.rotation)
        half = self.side / 2
        return Affine(
            step * cos, -step * sin, self.cx - half * (cos - sin), step * sin, step * cos, self.cy - half * (sin + cos)
        )

    def bounds(self) -> Bounds:
        """Left, top, right, bottom of the square as if it were not turned: what regions are compared by."""
        half = self.side / 2
        return self.cx - half, self.cy - half, self.cx + half, self.cy + half

    def to_frame(self, points: Floats) -> Floats:
        """Points of this region, with its centre at 0 and its side 1, in frame pixels.

        Args:
            points: (n, 2).
        """
        cos, sin = math.cos(self.rotation) * self.side, math.sin(self.rotation) * self.side
        turned: Floats = points @ np.array(((cos, sin), (-sin, cos)), points.dtype)
        turned += np.array((self.cx, self.cy), points.dtype)
        return turned


def letterbox(width: int, height: int) -> Roi:
    """The square around a whole frame, frame centred, so that nothing is stretched."""
    return Roi(width / 2, height / 2, float(max(width, height)))


def crop_bounds(affine: Affine, shape: tuple[int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """The part of a frame that a crop reads: left, top, right, bottom in whole pixels, a pixel to spare, clipped to the frame.

    Args:
        affine: map from crop to frame.
        shape: rows and columns of the crop.
        width: width of the frame.
        height: height of the frame.
    """
    us, vs = (0, shape[1] - 1), (0, shape[0] - 1)
    xs = [affine.a * u + affine.b * v + affine.c for u in us for v in vs]
    ys = [affine.d * u + affine.e * v + affine.f for u in us for v in vs]
    return (
        min(max(math.floor(min(xs)) - 1, 0), width),
        min(max(math.floor(min(ys)) - 1, 0), height),
        min(max(math.floor(max(xs)) + 3, 0), width),
        min(max(math.floor(max(ys)) + 3, 0), height),
    )


def normal_angle(angle: float) -> float:
    """The same angle in [-pi, pi).

    >>> normal_angle(3 * math.pi) == -math.pi
    True
    """
    return angle - 2 * math.pi * math.floor((angle + math.pi) / (2 * math.pi))


def rotation_between(x0: float, y0: float, x1: float, y1: float) -> float:
    """How far the line from (x0, y0) to (x1, y1) is turned clockwise from pointing up.

    >>> rotation_between(0, 0, 0, -1), round(rotation_between(0, 0, 1, 0), 6)
    (0.0, 1.570796)
    """
    return normal_angle(math.pi / 2 - math.atan2(-(y1 - y0), x1 - x0))


def roi_from_palm(bounds: Bounds, wrist: Sequence[float], middle: Sequence[float]) -> Roi:
    """The region of the hand that belongs to a palm.

    Args:
        bounds: left, top, right, bottom of the palm, pixels.
        wrist: palm keypoint 0, pixels.
        middle: palm keypoint 2, the knuckle of the middle finger, pixels.
    """
    left, top, right, bottom = bounds
    width, height = right - left, bottom - top
    rotation = rotation_between(wrist[0], wrist[1], middle[0], middle[1])
    return Roi(
        (left + right) / 2 + PALM_SHIFT * height * math.sin(rotation),
        (top + bottom) / 2 - PALM_SHIFT * height * math.cos(rotation),
        PALM_SCALE * max(width, height),
        rotation,
    )


def roi_from_landmarks(points: Floats) -> Roi:
    """The region in which the hand of these landmarks is expected in the next frame.

    Args:
        points: (21, 2 or more) landmarks in pixels.
    """
    # Twelve points: plain floats are faster here than arrays.
    hand = [(row[0], row[1]) for row in points.tolist()]
    middle_x, middle_y = ((hand[5][i] + hand[13][i]) / 4 + hand[9][i] / 2 for i in (0, 1))
    rotation = rotation_between(hand[0][0], hand[0][1], middle_x, middle_y)
    cos, sin = math.cos(rotation), math.sin(rotation)
    used = [hand[index] for index in HAND_POINTS]
    xs, ys = [x for x, _ in used], [y for _, y in used]
    cx, cy = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    us = [(x - cx) * cos + (y - cy) * sin for x, y in used]
    vs = [(y - cy) * cos - (x - cx) * sin for x, y in used]
    width, height = max(us) - min(us), max(vs) - min(vs)
    u, v = (min(us) + max(us)) / 2, (min(vs) + max(vs)) / 2
    return Roi(
        cx + u * cos - v * sin + HAND_SHIFT * height * sin,
        cy + u * sin + v * cos - HAND_SHIFT * height * cos,
        HAND_SCALE * max(width, height),
        rotation,
    )


def bounds_of(points: Floats) -> Bounds:
    """Left, top, right, bottom of points (n, 2 or more)."""
    left, top = points[:, :2].min(axis=0).tolist()
    right, bottom = points[:, :2].max(axis=0).tolist()
    return left, top, right, bottom


def overlap(one: Bounds, other: Bounds) -> float:
    """Intersection over union of two boxes given as left, top, right, bottom.

    >>> overlap((0, 0, 2, 2), (1, 0, 3, 2))
    0.3333333333333333
    """
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    union = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - both
    # The area of a sliver can be too small for a float.
    return both / union if union > 0 else 0.0


def whole_box(bounds: Bounds, width: int, height: int) -> Box:
    """A box as published: x, y of its top left, width and height, whole pixels, clipped to the frame.

    Args:
        bounds: left, top, right, bottom, pixels.
        width: width of the frame.
        height: height of the frame.

    >>> whole_box((-3.2, 10.4, 20.6, 500), 640, 480)
    (0, 10, 21, 470)
    """
    left, right = (min(max(round(x), 0), width) for x in (bounds[0], bounds[2]))
    top, bottom = (min(max(round(y), 0), height) for y in (bounds[1], bounds[3]))
    return left, top, right - left, bottom - top


def mirror_box(box: Box, width: int) -> Box:
    """The same box in the mirrored picture: x' = W - x - w. For previews only; frames are never mirrored before inference.

    >>> mirror_box((10, 20, 30, 40), 640)
    (600, 20, 30, 40)
    """
    x, y, w, h = box
    return width - x - w, y, w, h
