"""Anchors, decoding and the palm detector."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from chappe.vision import palm
from chappe.vision.geometry import Frame, Roi

ROLES = pytest.mark.parametrize("name", ["hands-lite", "hands-full"])


class Flat:
    """A warper that fills the input with one value."""

    name = "flat"

    def __init__(self, value: float) -> None:
        self.value = value

    def warp(self, rgb: Frame, roi: Roi, out: Any) -> None:
        out[...] = self.value


class Scripted:
    """A palm model that answers with given candidates."""

    def __init__(self, rows: dict[int, tuple[float, list[float]]]) -> None:
        self.regressors = np.zeros((1, 2016, 18), np.float32)
        self.logits = np.full((1, 2016, 1), -100, np.float32)
        for row, (logit, values) in rows.items():
            self.logits[0, row, 0] = logit
            self.regressors[0, row] = values
        self.filled = ""

    def fill(self, name: str, write: Any) -> None:
        write(np.zeros((1, 192, 192, 3), np.float32))
        self.filled = name

    def invoke(self, feeds: dict[str, Any]) -> dict[str, Any]:
        assert self.filled == "input_1"
        assert not feeds
        return {"Identity": self.regressors, "Identity_1": self.logits}


@pytest.mark.parametrize(
    ("row", "x", "y"),
    [
        (0, 0.0208333, 0.0208333),
        (1, 0.0208333, 0.0208333),
        (2, 0.0625, 0.0208333),
        (1151, 0.9791667, 0.9791667),
        (1152, 0.0416667, 0.0416667),
        (1153, 0.0416667, 0.0416667),
        (2015, 0.9583333, 0.9583333),
    ],
)
def test_anchors_are_where_mediapipe_has_them(row: int, x: float, y: float) -> None:
    """Two layers, y outer, x inner, repeats innermost: 2016 rows."""
    centres = palm.anchors()
    assert centres.shape == (2016, 2)
    assert centres[row].tolist() == pytest.approx([x, y], abs=1e-6)


def test_decoding_adds_the_anchor_and_keeps_what_scores() -> None:
    """Box and keypoints are relative to the anchor in units of 192 px; only logits above ln(p / (1 - p)) are kept."""
    regressors = np.zeros((2016, 18), np.float32)
    regressors[2] = [19.2, 9.6, 38.4, 19.2, *range(14)]
    logits = np.full(2016, -5.0, np.float32)
    logits[2], logits[7] = 2.0, 0.0
    boxes, scores = palm.decode(regressors, logits, palm.anchors())
    assert boxes.shape == (1, 18)
    centre = (0.0625 + 0.1, 0.0208333 + 0.05)
    assert boxes[0, :4].tolist() == pytest.approx(
        [centre[0] - 0.1, centre[1] - 0.05, centre[0] + 0.1, centre[1] + 0.05], abs=1e-6
    )
    assert boxes[0, 4:6].tolist() == pytest.approx([0.0625, 0.0208333 + 1 / 192], abs=1e-6)
    assert scores.tolist() == pytest.approx([1 / (1 + math.exp(-2))])
    assert len(palm.decode(regressors, logits, palm.anchors(), score=0.49)[1]) == 2
    assert len(palm.decode(regressors, logits, palm.anchors(), score=0.9)[1]) == 0


def test_extreme_logits_do_not_overflow() -> None:
    logits = np.full(2016, 1e4, np.float32)
    assert palm.decode(np.zeros((2016, 18), np.float32), logits, palm.anchors())[1].tolist() == [1.0] * 2016


def test_a_palm_becomes_a_region_in_frame_pixels() -> None:
    """A palm in the middle of a 640 x 480 frame: letterbox units times 640, minus the 80 px that the frame lacks above."""
    # The anchor of row 600 is at ((300 % 24 + 0.5) / 24, (300 // 24 + 0.5) / 24): twelve and a half cells each way.
    keypoints = [0.0] * 14
    keypoints[1], keypoints[5] = 20.0, -20.0
    model: Any = Scripted({600: (3.0, [0, 0, 48, 24, *keypoints])})
    [found] = palm.PalmDetector(model, Flat(0)).detect(np.zeros((480, 640, 3), np.uint8), 2)
    centre = 12.5 / 24 * 640
    assert found.score == pytest.approx(1 / (1 + math.exp(-3)))
    assert found.roi.rotation == pytest.approx(0, abs=1e-6)
    assert found.roi.side == pytest.approx(2.6 * 48 / 192 * 640)
    assert (found.roi.cx, found.roi.cy) == pytest.approx((centre, centre - 80 - 0.5 * 24 / 192 * 640))


def test_neighbouring_candidates_are_one_palm() -> None:
    """Two candidates of one cell blend into one palm; a far one is a second, and only as many as asked for are given."""
    model: Any = Scripted(
        {600: (3.0, [0.0, 0, 48, 48, *[0.0] * 14]), 601: (1.0, [4.0, 0, 48, 48, *[0.0] * 14]), 0: (2.0, [60.0, 60, 48, 48, *[0.0] * 14])}
    )  # fmt: skip
    detector = palm.PalmDetector(model, Flat(0))
    frame = np.zeros((640, 640, 3), np.uint8)
    assert len(detector.detect(frame, 5)) == 2
    [best] = detector.detect(frame, 1)
    first, second = 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(-1))
    blended = (12.5 / 24 + 4 / 192 * second / (first + second)) * 640
    # Its keypoints coincide, so it points nowhere in particular: only the side along x is looked at.
    assert best.roi.cx - 0.5 * 160 * math.sin(best.roi.rotation) == pytest.approx(blended, abs=1e-3)


@ROLES
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_flat_picture_has_no_palm(opened: Any, name: str, value: float) -> None:
    """The best logit over a flat input is that of the real models, far below any threshold."""
    expected = {
        ("hands-lite", 0.0): -3.66,
        ("hands-full", 0.0): -4.90,
        ("hands-lite", 0.5): -3.00,
        ("hands-full", 0.5): -4.40,
    }
    model = opened(name)._parts.palms._model
    best = model.invoke({"input_1": np.full((1, 192, 192, 3), value, np.float32)})["Identity_1"].max()
    assert best == pytest.approx(expected[name, value], abs=0.02)
    assert palm.PalmDetector(model, Flat(value)).detect(np.zeros((480, 640, 3), np.uint8), 2) == []
