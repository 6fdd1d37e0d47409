"""Where are palms? Anchors, decoding and the palm detector.

The anchors and the decoding are those of MediaPipe's ``palm_detection_cpu.pbtxt`` (``SsdAnchorsCalculator``,
``TensorsToDetectionsCalculator``): one layer of 24 x 24 cells with 2 anchors each, then 12 x 12 cells with 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chappe.vision import nms
from chappe.vision.geometry import Frame, Roi, letterbox, roi_from_palm
from chappe.vision.preprocess import Warper
from chappe.vision.runtime import Model

Floats = npt.NDArray[np.floating[Any]]

INPUT_SIZE = 192
LAYERS = ((24, 2), (12, 6))
"""Cells per side and anchors per cell of each layer; 2016 anchors in all."""


def anchors() -> npt.NDArray[np.float32]:
    """Centres (2016, 2) of the anchors as x, y in 0..1 of the input; y is the outer loop, repeats the innermost.

    >>> anchors()[2].round(7).tolist()
    [0.0625, 0.020833300426602364]
    """
    layers = []
    for cells, repeats in LAYERS:
        centres = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(centres, centres, indexing="ij")
        layers.append(np.repeat(np.stack((x.ravel(), y.ravel()), axis=1), repeats, axis=0))
    return np.concatenate(layers).astype(np.float32)


def decode(
    regressors: Floats, logits: Floats, centres: Floats, *, score: float = 0.5
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Candidates above a score, from the two outputs of the palm model.

    Args:
        regressors: (2016, 18): centre x, y, width, height and 7 keypoints x, y, in input pixels, relative to the anchor.
        logits: (2016,).
        centres: (2016, 2), see `anchors`.
        score: probability that a candidate must exceed, in (0, 1).

    Returns:
        (n, 18) left, top, right, bottom and 7 keypoints x, y in 0..1 of the letterboxed input, and (n,) scores.
    """
    rows = np.flatnonzero(logits > math.log(score / (1 - score)))
    raw = regressors[rows].astype(np.float64) / INPUT_SIZE
    at = centres[rows]
    raw[:, 0:2] += at
    raw[:, 4:] += np.tile(at, 7)
    half = raw[:, 2:4] / 2
    boxes = np.concatenate((raw[:, 0:2] - half, raw[:, 0:2] + half, raw[:, 4:]), axis=1)
    return boxes, 1 / (1 + np.exp(-np.clip(logits[rows].astype(np.float64), -100, 100)))


@dataclass(frozen=True)
class Palm:
    """A palm in a frame.

    Attributes:
        roi: the region in which its hand lies.
        score: probability that it is a palm.
    """

    roi: Roi
    score: float


class PalmDetector:
    """Finds palms in a whole frame.

    Args:
        model: the palm model, owned by the calling thread.
        warper: fills the model's input.
        score: least probability of a palm.
        iou: candidates that overlap more than this are one palm.
    """

    def __init__(self, model: Model, warper: Warper, *, score: float = 0.5, iou: float = 0.3) -> None:
        self._model = model
        self._warper = warper
        self._score = score
        self._iou = iou
        self._anchors = anchors()

    def detect(self, rgb: Frame, limit: int) -> list[Palm]:
        """At most `limit` palms, best first.

        Args:
            rgb: (H, W, 3) uint8, red first.
            limit: how many to look for.
        """
        height, width = rgb.shape[:2]
        self._model.fill("input_1", lambda view: self._warper.warp(rgb, letterbox(width, height), view[0]))
        outputs = self._model.invoke({})
        candidates, scores = decode(
            outputs["Identity"][0], outputs["Identity_1"][0, :, 0], self._anchors, score=self._score
        )
        found, best = nms.weighted(candidates, scores, iou=self._iou, limit=limit)
        side = max(width, height)
        pixels = found * side + np.tile(((width - side) / 2, (height - side) / 2), 9)
        return [Palm(_roi(row), float(score)) for row, score in zip(pixels.tolist(), best, strict=True)]


def _roi(row: list[float]) -> Roi:
    # Keypoint 0 is the wrist, keypoint 2 the knuckle of the middle finger; keypoints start at column 4.
    return roi_from_palm((row[0], row[1], row[2], row[3]), row[4:6], row[8:10])
