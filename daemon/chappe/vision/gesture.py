"""What does the hand say? Landmarks to one of the canned gestures.

Normalisation as in MediaPipe's ``hand_gesture_recognizer_graph.cc`` and ``landmarks_to_matrix_calculator.cc``: the wrist becomes
the origin and the larger extent in x or y becomes 1. The hand's rotation stays in: it is what tells Thumb_Up from Thumb_Down.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from chappe.vision.landmarks import Landmarks
from chappe.vision.runtime import Model

Floats = npt.NDArray[np.floating[Any]]

SMALLEST = 1e-5

HANDTRACK_NAMES = {"open": "Open_Palm", "closed": "Closed_Fist", "point": "Pointing_Up"}
"""Labels of handtrack.js that have a counterpart here; face, pinch, pinchtip and pointtip have none."""


def normalise(points: Floats, scale: Floats, out: Floats) -> None:
    """Move the wrist to the origin and make the larger extent in x or y 1.

    Args:
        points: (21, 3) x, y, z.
        scale: (3,) unit of each axis: coordinates are multiplied by it first.
        out: (21, 3) float32, receives the result.
    """
    np.subtract(points, points[0], out=out)
    out *= scale
    flat = out[:, :2]
    out /= float((flat.max(axis=0) - flat.min(axis=0)).max()) + SMALLEST


class GestureClassifier:
    """Scores the gestures of a hand.

    Args:
        embedder: the gesture embedder, owned by the calling thread.
        classifier: the classifier over its 128 numbers, owned by the calling thread.
    """

    def __init__(self, embedder: Model, classifier: Model) -> None:
        self._embedder = embedder
        self._classifier = classifier
        self._hand = np.zeros((1, 21, 3), np.float32)
        self._world = np.zeros((1, 21, 3), np.float32)
        self._right = np.zeros((1, 1), np.float32)
        self._feeds = {"hand": self._hand, "world_hand": self._world, "handedness": self._right}
        self._unit = np.ones(3, np.float32)

    def score(self, hand: Landmarks, width: int, height: int) -> Floats:
        """Probability of each label, (labels,) float32 with sum 1.

        Args:
            hand: landmarks in frame pixels.
            width: width of the frame, pixels.
            height: height of the frame, pixels.
        """
        # x and y in units of the longer side, z in units of the width: what the embedder was trained on.
        side = 1 / max(width, height)
        normalise(hand.points, np.array((side, side, 1 / width), np.float32), self._hand[0])
        normalise(hand.world, self._unit, self._world[0])
        self._right[0, 0] = hand.right
        embedding = self._embedder.invoke(self._feeds)["Identity"]
        scores: Floats = self._classifier.invoke({"hand_embedding": embedding})["Identity"][0]
        return scores
