"""Where are the 21 points of a hand? The landmark model on a rotated region (MediaPipe's ``hand_landmark_cpu.pbtxt``)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chappe.vision.geometry import Bounds, Frame, Roi, bounds_of
from chappe.vision.preprocess import Warper
from chappe.vision.runtime import Model

Floats = npt.NDArray[np.floating[Any]]

INPUT_SIZE = 224
Z_SCALE = 0.4
"""The model's z is this much smaller than its x and y (``normalize_z`` of TensorsToLandmarksCalculator)."""


@dataclass(frozen=True)
class Landmarks:
    """What the landmark model sees in one region.

    Attributes:
        points: (21, 3) float32 x, y, z in frame pixels; z is negative towards the camera, 0 at the wrist.
        world: (21, 3) float32 x, y, z in metres, turned like the frame, about the hand's own centre.
        presence: probability that the region holds a hand.
        right: probability that it is a physical right hand, for a picture that is not mirrored.
        roi: the region.
    """

    points: Floats
    world: Floats
    presence: float
    right: float
    roi: Roi

    @property
    def bounds(self) -> Bounds:
        """Left, top, right, bottom of the points, pixels."""
        return bounds_of(self.points)


class HandLandmarker:
    """Reads the landmarks of a hand out of a region.

    Args:
        model: the landmark model, owned by the calling thread.
        warper: fills the model's input.
    """

    def __init__(self, model: Model, warper: Warper) -> None:
        self._model = model
        self._warper = warper

    def read(self, rgb: Frame, roi: Roi) -> Landmarks:
        """The landmarks in `roi`, whether or not a hand is there: see `presence`.

        Args:
            rgb: (H, W, 3) uint8, red first.
            roi: where to look.
        """
        self._model.fill("input_1", lambda view: self._warper.warp(rgb, roi, view[0]))
        outputs = self._model.invoke({})
        points = outputs["Identity"].reshape(21, 3)
        points *= 1 / INPUT_SIZE
        points[:, 2] *= roi.side / Z_SCALE
        points[:, :2] = roi.to_frame(points[:, :2] - np.float32(0.5))
        world = outputs["Identity_3"].reshape(21, 3)
        cos, sin = math.cos(roi.rotation), math.sin(roi.rotation)
        world[:, :2] = world[:, :2] @ np.array(((cos, sin), (-sin, cos)), np.float32)
        return Landmarks(points, world, float(outputs["Identity_1"][0, 0]), float(outputs["Identity_2"][0, 0]), roi)
