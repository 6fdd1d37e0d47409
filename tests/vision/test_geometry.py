"""Regions, boxes and the affine maps between a frame and a crop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.vision import geometry as g
from chappe.vision.geometry import Roi

coordinates = st.floats(-2000, 2000)
angles = st.floats(-math.pi, math.pi, exclude_max=True)
rois = st.builds(Roi, coordinates, coordinates, st.floats(1, 2000), angles)
corners = st.tuples(coordinates, coordinates, st.floats(0, 500), st.floats(0, 500))
boxes = corners.map(lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3]))


def place(affine: g.Affine, u: float, v: float) -> tuple[float, float]:
    return affine.a * u + affine.b * v + affine.c, affine.d * u + affine.e * v + affine.f


# ---- regions ---------------------------------------------------------------------------------------------------------


def test_an_upright_region_maps_its_corners() -> None:
    """A square of side 200 at (300, 200): crop pixel (0, 0) is its top left, (224, 224) its bottom right."""
    affine = Roi(300, 200, 200).affine(224)
    assert place(affine, 0, 0) == (200, 100)
    assert place(affine, 224, 224) == (400, 300)


def test_a_turned_region_turns_clockwise() -> None:
    """At +90 degrees the crop's top edge is the region's right edge."""
    x, y = place(Roi(300, 200, 200, math.pi / 2).affine(224), 0, 0)
    assert (round(x, 6), round(y, 6)) == (400, 100)


@given(rois, st.integers(16, 256), st.floats(0, 1), st.floats(0, 1))
def test_the_affine_map_and_the_way_back_agree(roi: Roi, size: int, p: float, q: float) -> None:
    """A crop pixel lies where a point of the same place in the region lies."""
    there = place(roi.affine(size), p * size, q * size)
    back = roi.to_frame(np.array([(p - 0.5, q - 0.5)]))[0]
    assert np.allclose(there, back, atol=1e-6 * max(1, roi.side))


@given(rois, st.integers(1, 100))
def test_a_map_can_start_at_any_row(roi: Roi, row: int) -> None:
    """`from_row` is the same map, counted from that row."""
    affine = roi.affine(224)
    assert np.allclose(place(affine.from_row(row), 3, 0), place(affine, 3, row))


def test_a_letterbox_holds_the_whole_frame_centred() -> None:
    assert g.letterbox(640, 480) == Roi(320, 240, 640)
    assert g.letterbox(300, 500) == Roi(150, 250, 500)


@given(rois)
def test_a_crop_reads_nothing_beyond_its_bounds(roi: Roi) -> None:
    """Every sample and its right and lower neighbour lie within the bounds, as far as they lie within the frame."""
    affine = roi.affine(64)
    left, top, right, bottom = g.crop_bounds(affine, (64, 64), 640, 480)
    assert 0 <= left <= 640
    assert 0 <= bottom <= 480
    for u, v in ((0, 0), (63, 0), (0, 63), (63, 63), (31, 7)):
        x, y = place(affine, u, v)
        for column in (math.floor(x), math.floor(x) + 1):
            assert left <= column < right or not 0 <= column < 640
        for row in (math.floor(y), math.floor(y) + 1):
            assert top <= row < bottom or not 0 <= row < 480


# ---- angles ----------------------------------------------------------------------------------------------------------


@given(st.floats(-100, 100))
def test_a_normal_angle_points_the_same_way(angle: float) -> None:
    normal = g.normal_angle(angle)
    assert -math.pi <= normal < math.pi + 1e-9
    assert math.isclose(math.cos(normal), math.cos(angle), abs_tol=1e-9)
    assert math.isclose(math.sin(normal), math.sin(angle), abs_tol=1e-9)


@pytest.mark.parametrize(
    ("x", "y", "degrees"), [(0, -1, 0), (1, 0, 90), (-1, 0, -90), (0, 1, -180), (1, -1, 45), (-1, -1, -45)]
)
def test_rotation_is_measured_clockwise_from_up(x: float, y: float, degrees: float) -> None:
    assert math.degrees(g.rotation_between(10, 10, 10 + x, 10 + y)) == pytest.approx(degrees)


# ---- regions of hands ------------------------------------------------------------------------------------------------


def test_the_region_of_an_upright_palm_lies_above_it() -> None:
    """Palm 100 x 80 at (300, 240), fingers up: half its height upwards, 2.6 times its larger side."""
    roi = g.roi_from_palm((250, 200, 350, 280), (300, 280), (300, 200))
    assert (roi.cx, roi.cy, roi.side, roi.rotation) == pytest.approx((300, 200, 260, 0))


def test_the_region_of_a_lying_palm_lies_beside_it() -> None:
    """The same palm with its fingers to the right: the region moves right, not up."""
    roi = g.roi_from_palm((250, 200, 350, 280), (250, 240), (350, 240))
    assert (roi.cx, roi.cy, roi.side, roi.rotation) == pytest.approx((340, 240, 260, math.pi / 2))


def upright_hand() -> np.ndarray:
    """21 points of a plain upright hand: wrist at (300, 300), fingers straight up."""
    points = np.zeros((21, 3), np.float32)
    points[0] = (300, 300, 0)
    for finger, x in enumerate((260, 280, 300, 320, 340)):
        for joint in range(4):
            points[1 + 4 * finger + joint] = (x, 260 - 20 * joint, -5)
    return points


def test_the_region_of_an_upright_hand_is_fitted_to_its_joints() -> None:
    """Bounds of the twelve joints x 260..340, y 220..300 ([thumb to joint 3, fingers to joint 2]); a tenth upwards; twice the side."""
    roi = g.roi_from_landmarks(upright_hand())
    assert (roi.cx, roi.cy, roi.side, roi.rotation) == pytest.approx((300, 260 - 8, 160, 0), abs=1e-4)


@given(angles, st.floats(0.2, 5), st.floats(-500, 500), st.floats(-500, 500))
def test_the_region_moves_with_the_hand(turn: float, scale: float, dx: float, dy: float) -> None:
    """A hand that is turned, scaled and moved has its region turned, scaled and moved."""
    still = g.roi_from_landmarks(upright_hand().astype(np.float64))
    cos, sin = math.cos(turn), math.sin(turn)
    matrix = scale * np.array(((cos, -sin), (sin, cos)))
    points = upright_hand().astype(np.float64)
    points[:, :2] = points[:, :2] @ matrix.T + (dx, dy)
    moved = g.roi_from_landmarks(points)
    centre = matrix @ (still.cx, still.cy) + (dx, dy)
    assert (moved.cx, moved.cy) == pytest.approx(tuple(centre), abs=1e-3)
    assert moved.side == pytest.approx(still.side * scale, rel=1e-6)
    assert math.cos(moved.rotation - turn) == pytest.approx(1)


# ---- boxes -----------------------------------------------------------------------------------------------------------


@given(boxes, boxes)
def test_overlap_is_symmetric_and_at_most_one(one: g.Bounds, other: g.Bounds) -> None:
    ratio = g.overlap(one, other)
    assert 0 <= ratio <= 1 + 1e-12
    assert ratio == g.overlap(other, one)


@given(boxes)
def test_a_box_overlaps_itself_wholly(box: g.Bounds) -> None:
    area = (box[2] - box[0]) * (box[3] - box[1])
    assert g.overlap(box, box) == pytest.approx(1 if area > 0 else 0)


@given(boxes)
def test_a_published_box_lies_within_the_frame(box: g.Bounds) -> None:
    """Whole pixels, never negative, never beyond the frame, also for a hand that lies outside."""
    x, y, w, h = g.whole_box(box, 640, 480)
    assert all(isinstance(value, int) for value in (x, y, w, h))
    assert 0 <= x <= x + w <= 640
    assert 0 <= y <= y + h <= 480


def test_bounds_of_points() -> None:
    assert g.bounds_of(np.array([(3.0, 9.0, 1.0), (-1.0, 4.0, 7.0)])) == (-1, 4, 3, 9)


@pytest.mark.feature("VIS-04", breaks="chappe.vision.geometry:mirror_box")
@given(st.integers(0, 600), st.integers(0, 400), st.integers(1, 40), st.integers(1, 80))
def test_a_mirrored_box_starts_at_width_minus_x_minus_w(x: int, y: int, w: int, h: int) -> None:
    """x' = W - x - w; nothing else changes; mirroring twice changes nothing."""
    mirrored = g.mirror_box((x, y, w, h), 640)
    assert mirrored == (640 - x - w, y, w, h)
    assert g.mirror_box(mirrored, 640) == (x, y, w, h)
