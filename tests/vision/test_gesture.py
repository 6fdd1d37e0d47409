"""Landmarks and gestures: the arithmetic around the models."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.core.labels import LABELS
from chappe.vision import gesture
from chappe.vision.geometry import Frame, Roi
from chappe.vision.landmarks import HandLandmarker, Landmarks


def hand(seed: int = 0) -> Landmarks:
    rng = np.random.default_rng(seed)
    points = rng.uniform(100, 300, (21, 3)).astype(np.float32)
    world = rng.uniform(-0.1, 0.1, (21, 3)).astype(np.float32)
    return Landmarks(points, world, 0.9, 0.8, Roi(200, 200, 200))


class Recorder:
    """A model that keeps what it was fed and answers with fixed outputs."""

    def __init__(self, outputs: dict[str, Any]) -> None:
        self.outputs = outputs
        self.fed: dict[str, Any] = {}

    def fill(self, name: str, write: Any) -> None:
        self.fed[name] = np.zeros((1, 224, 224, 3), np.float32)
        write(self.fed[name])

    def invoke(self, feeds: dict[str, Any]) -> dict[str, Any]:
        self.fed |= {name: array.copy() for name, array in feeds.items()}
        return {name: array.copy() for name, array in self.outputs.items()}


class Grey:
    """A warper that paints mid grey."""

    name = "grey"

    def warp(self, rgb: Frame, roi: Roi, out: Any) -> None:
        out[...] = 0.5


# ---- landmarks -------------------------------------------------------------------------------------------------------


def landmark_outputs() -> dict[str, Any]:
    points = np.zeros((21, 3), np.float32)
    points[0], points[1] = (112, 112, 0), (224, 112, 22.4)
    world = np.zeros((21, 3), np.float32)
    world[1] = (0.1, 0, -0.05)
    return {
        "Identity": points.reshape(1, 63),
        "Identity_1": np.array([[0.75]], np.float32),
        "Identity_2": np.array([[0.25]], np.float32),
        "Identity_3": world.reshape(1, 63),
    }


def test_landmarks_come_back_in_frame_pixels() -> None:
    """The middle of the crop is the region's centre; z is scaled like x, and 1 / 0.4 more; world points only turn."""
    model: Any = Recorder(landmark_outputs())
    read = HandLandmarker(model, Grey()).read(np.zeros((480, 640, 3), np.uint8), Roi(300, 200, 100, math.pi / 2))
    assert model.fed["input_1"].mean() == 0.5
    assert read.points[0].tolist() == pytest.approx([300, 200, 0], abs=1e-4)
    # Half a side to the right in the crop is half a side down in a frame whose region is turned by a quarter.
    assert read.points[1].tolist() == pytest.approx([300, 250, 22.4 / 224 / 0.4 * 100], abs=1e-4)
    assert read.world[1].tolist() == pytest.approx([0, 0.1, -0.05], abs=1e-7)
    assert (read.presence, read.right) == (0.75, 0.25)


def test_the_bounds_are_those_of_the_points() -> None:
    found = hand()
    assert found.bounds[0] == found.points[:, 0].min()
    assert found.bounds[3] == found.points[:, 1].max()


# ---- normalisation ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-300, 300), st.floats(-300, 300))
def test_size_and_place_do_not_matter(seed: int, scale: float, dx: float, dy: float) -> None:
    """A hand elsewhere in the picture, or further away, gives the same numbers."""
    points = hand(seed).points
    moved = (points * scale + np.array((dx, dy, 7))).astype(np.float32)
    one, other = np.zeros((21, 3), np.float32), np.zeros((21, 3), np.float32)
    unit = np.ones(3, np.float32)
    gesture.normalise(points, unit, one)
    gesture.normalise(moved, unit, other)
    assert np.abs(one - other).max() < 2e-3


def test_the_wrist_is_the_origin_and_the_larger_extent_is_one() -> None:
    out = np.zeros((21, 3), np.float32)
    gesture.normalise(hand().points, np.ones(3, np.float32), out)
    assert out[0].tolist() == [0, 0, 0]
    assert max(np.ptp(out[:, 0]), np.ptp(out[:, 1])) == pytest.approx(1, abs=1e-4)


def test_a_hand_collapsed_into_one_point_is_no_division_by_zero() -> None:
    """World landmarks can collapse on the back of a hand."""
    out = np.full((21, 3), np.nan, np.float32)
    gesture.normalise(np.full((21, 3), 5.0, np.float32), np.ones(3, np.float32), out)
    assert out.tolist() == [[0, 0, 0]] * 21


def test_the_embedder_is_fed_by_name_and_in_its_units() -> None:
    """x and y in units of the frame's longer side, z of its width; the handedness goes in raw."""
    embedder: Any = Recorder({"Identity": np.arange(128, dtype=np.float32).reshape(1, 128)})
    scores = np.array([[0.1] * 7 + [0.3]], np.float32)
    classifier: Any = Recorder({"Identity": scores})
    found = hand()
    result = gesture.GestureClassifier(embedder, classifier).score(found, 480, 640)
    assert result.tolist() == scores[0].tolist()
    assert set(embedder.fed) == {"hand", "world_hand", "handedness"}
    assert embedder.fed["handedness"].tolist() == [[np.float32(0.8)]]
    expected = np.zeros((21, 3), np.float32)
    gesture.normalise(found.points, np.array((1 / 640, 1 / 640, 1 / 480), np.float32), expected)
    assert embedder.fed["hand"][0] == pytest.approx(expected)
    # In a portrait frame z is stretched against x and y: units matter.
    assert embedder.fed["hand"][0][5, 2] / embedder.fed["hand"][0][5, 0] == pytest.approx(
        (found.points[5, 2] - found.points[0, 2]) / (found.points[5, 0] - found.points[0, 0]) * 640 / 480, rel=1e-4
    )
    assert classifier.fed["hand_embedding"][0].tolist() == list(range(128))


def test_handtracks_names_have_counterparts() -> None:
    """open, closed and point map to labels of ours; pinch, face, pointtip and pinchtip map to nothing."""
    assert gesture.HANDTRACK_NAMES == {"open": "Open_Palm", "closed": "Closed_Fist", "point": "Pointing_Up"}
    assert set(gesture.HANDTRACK_NAMES.values()) <= set(LABELS)
