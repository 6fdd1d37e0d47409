"""From a frame to hands: the public face of `chappe.vision`.

One pipeline belongs to one thread: the one that calls `HandPipeline.open` also calls everything else on it, because a TFLite interpreter
must not be shared. Frames are `(H, W, 3)` uint8 with red first; with blue first most hands vanish without any error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import msgspec
import numpy as np

from chappe.errors import ModelError
from chappe.vision.gate import SECOND, Gate
from chappe.vision.geometry import Frame, Roi, whole_box
from chappe.vision.gesture import GestureClassifier
from chappe.vision.landmarks import HandLandmarker, Landmarks
from chappe.vision.manifest import Manifest
from chappe.vision.palm import PalmDetector
from chappe.vision.preprocess import Warper, open_warper
from chappe.vision.runtime import Model, Runtime, find_runtime
from chappe.vision.tracker import Tracker, distinct


class Hand(msgspec.Struct, frozen=True):
    """A hand in a frame.

    Attributes:
        id: number that stays with the hand while it is followed.
        gesture: the likeliest label.
        score: the classifier's probability of `gesture`.
        handedness: ``left`` or ``right``: the physical hand, for a picture that is not mirrored.
        presence: probability that there is a hand.
        box: bounds of the landmarks: x, y of the top left, width, height, whole pixels, clipped to the frame.
        landmarks: 21 points x, y, z in pixels; z is negative towards the camera.
        scores: probability of each label, in the order of the model's labels.
    """

    id: int
    gesture: str
    score: float
    handedness: str
    presence: float
    box: tuple[int, int, int, int]
    landmarks: list[list[float]]
    scores: list[float]


@dataclass(frozen=True)
class HandSettings:
    """How a pipeline looks for hands.

    Attributes:
        hands: how many hands are wanted, 1 or 2.
        palm_score: least probability of a palm, in (0, 1).
        presence: least probability that a region holds a hand, in (0, 1).
        gone_after: a hand's id ends after so many frames without it.
        backend: pre-processing: ``auto``, ``opencv``, ``pillow`` or ``numpy``.
        threads: threads of one inference.
        idle_ns: least time between palm searches while no hand is seen.
        still_ns: time between palm searches while the picture stands still.
    """

    hands: int = 1
    palm_score: float = 0.5
    presence: float = 0.5
    gone_after: int = 5
    backend: str = "auto"
    threads: int = 1
    idle_ns: int = SECOND // 2
    still_ns: int = 5 * SECOND


@dataclass
class _Parts:
    """What exists between open and close."""

    runtime: Runtime
    warper: Warper
    palms: PalmDetector
    landmarks: HandLandmarker
    gestures: GestureClassifier
    tracker: Tracker
    gate: Gate


class HandPipeline:
    """Palm search, tracking, landmarks and gesture over one model.

    Args:
        manifest: the model.
        contents: bytes of each of its files by role; each is checked against the manifest once more before it is used.
        settings: how to look.
        runtime: the TFLite runtime; None to find one.
    """

    def __init__(
        self,
        manifest: Manifest,
        contents: Mapping[str, bytes],
        settings: HandSettings | None = None,
        *,
        runtime: Runtime | None = None,
    ) -> None:
        self.manifest = manifest
        self.settings = settings or HandSettings()
        self.palm_runs = 0
        self.landmark_runs = 0
        self._contents = contents
        self._runtime = runtime
        self._parts: _Parts | None = None

    def open(self) -> None:
        """Build the interpreters, for use by the calling thread.

        Raises:
            ModelError: if no runtime works, or a file's bytes or tensors differ from the manifest.
        """
        if self._parts is not None:
            return
        settings, runtime = self.settings, self._runtime or find_runtime()
        warper = open_warper(settings.backend)
        self._parts = _Parts(
            runtime,
            warper,
            PalmDetector(self._load(runtime, "palm"), warper, score=settings.palm_score),
            HandLandmarker(self._load(runtime, "landmark"), warper),
            GestureClassifier(self._load(runtime, "embedder"), self._load(runtime, "classifier")),
            Tracker(settings.hands, gone_after=settings.gone_after),
            Gate(settings.idle_ns, settings.still_ns),
        )

    def close(self) -> None:
        """Let go of the interpreters; a closed pipeline can be opened again and then knows no hand."""
        self._parts = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def model_id(self) -> str:
        """The model as ``name@hash8``."""
        return self.manifest.model_id

    @property
    def labels(self) -> tuple[str, ...]:
        """What `Hand.scores` mean, by index."""
        return self.manifest.labels

    @property
    def backend(self) -> str:
        """Name of the pre-processing back-end in use."""
        return self._opened().warper.name

    @property
    def runtime(self) -> Runtime:
        """The TFLite runtime in use."""
        return self._opened().runtime

    def process(self, rgb: Frame, now_ns: int) -> list[Hand]:
        """Follow hands through a stream of frames.

        Args:
            rgb: (H, W, 3) uint8, red first.
            now_ns: monotonic time of the frame, not before that of the frame before.

        Returns:
            The hands of this frame, surest first.
        """
        parts, rgb = self._opened(), np.ascontiguousarray(rgb)
        tracker = parts.tracker
        regions = tracker.regions()
        if tracker.wanted and parts.gate.due(rgb, now_ns, force=tracker.recovering):
            regions += tracker.unclaimed(self._search(rgb, self.settings.hands))
        return [self._describe(rgb, number, hand) for number, hand in tracker.update(self._read(rgb, regions))]

    def detect(self, rgb: Frame, *, hands: int | None = None) -> list[Hand]:
        """The hands of a single picture: no tracking, no gate, and nothing remembered.

        Args:
            rgb: (H, W, 3) uint8, red first.
            hands: how many to look for; None for the settings' number.

        Returns:
            The hands, surest first, numbered from 0.
        """
        rgb, limit = np.ascontiguousarray(rgb), hands or self.settings.hands
        seen = self._read(rgb, self._search(rgb, limit))
        kept = distinct(seen, iou=0.3, limit=limit)
        return [self._describe(rgb, number, hand) for number, hand in enumerate(kept)]

    def _opened(self) -> _Parts:
        if self._parts is None:
            raise RuntimeError("the pipeline is not open")
        return self._parts

    def _load(self, runtime: Runtime, role: str) -> Model:
        file = self.manifest.by_role(role)
        if role not in self._contents:
            raise ModelError(f"model {self.manifest.name}: the content of {file.file} was not given")
        wrong = file.mismatch(self._contents[role])
        if wrong:
            raise ModelError(f"model {self.manifest.name}: {file.file}: {wrong}", remedy="run `chappe models verify`")
        model = runtime.load(self._contents[role], self.settings.threads, file=file.file)
        model.require(file.inputs, file.outputs, file=file.file)
        return model

    def _search(self, rgb: Frame, limit: int) -> list[Roi]:
        self.palm_runs += 1
        return [palm.roi for palm in self._opened().palms.detect(rgb, limit)]

    def _read(self, rgb: Frame, regions: list[Roi]) -> list[Landmarks]:
        landmarker = self._opened().landmarks
        self.landmark_runs += len(regions)
        hands = [landmarker.read(rgb, roi) for roi in regions]
        return [hand for hand in hands if hand.presence >= self.settings.presence]

    def _describe(self, rgb: Frame, number: int, hand: Landmarks) -> Hand:
        height, width = rgb.shape[:2]
        scores = self._opened().gestures.score(hand, width, height).tolist()
        score = max(scores)
        return Hand(
            id=number,
            gesture=self.labels[scores.index(score)],
            score=score,
            handedness="right" if hand.right > 0.5 else "left",
            presence=hand.presence,
            box=whole_box(hand.bounds, width, height),
            landmarks=hand.points.tolist(),
            scores=scores,
        )
