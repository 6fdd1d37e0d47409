"""From a frame to a model's input: one rotated square, scaled, as float32 in 0..1, black beyond the frame.

Three back-ends give the same picture within a grey level or two: OpenCV (fastest), Pillow (the default without OpenCV) and numpy alone.
All interpolate bilinearly; nearest neighbour would cost landmarks a factor of four in accuracy.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from chappe.errors import ModelError
from chappe.vision.bilinear import NumpyWarper
from chappe.vision.geometry import Frame, Roi, crop_bounds

Input = npt.NDArray[np.float32]

TO_UNIT = np.float32(1 / 255)
BACKENDS = ("opencv", "pillow", "numpy")
PACKAGES = {"opencv": ("cv2", "opencv-python-headless"), "pillow": ("PIL", "pillow"), "numpy": ("numpy", "numpy")}


class Warper(Protocol):
    """Fills a model's input from a region of a frame."""

    @property
    def name(self) -> str:
        """Name of the back-end."""

    def warp(self, rgb: Frame, roi: Roi, out: Input) -> None:
        """Fill `out` from `roi`.

        Args:
            rgb: (H, W, 3) uint8, red first, C-contiguous.
            roi: the region; what lies beyond the frame becomes 0.
            out: (n, n, 3) float32, receives values in 0..1.
        """


def available() -> list[str]:
    """Back-ends whose packages can be imported, fastest first; nothing is imported to find out."""
    return [name for name in BACKENDS if importlib.util.find_spec(PACKAGES[name][0])]


def open_warper(name: str = "auto") -> Warper:
    """The back-end of that name.

    Args:
        name: ``opencv``, ``pillow``, ``numpy``, or ``auto`` for the first of them that can be imported.

    Raises:
        ModelError: if the name is unknown or its package cannot be imported; the remedy names the package.
    """
    if name != "auto" and name not in BACKENDS:
        raise ModelError(f"vision back-end {name!r} is unknown", remedy=f"choose one of auto, {', '.join(BACKENDS)}")
    warpers: dict[str, Callable[[], Warper]] = {"opencv": OpenCvWarper, "pillow": PillowWarper, "numpy": NumpyWarper}
    reasons = []
    for candidate in BACKENDS if name == "auto" else (name,):
        try:
            return warpers[candidate]()
        except ImportError as error:
            # A package may be there and still not load: OpenCV without its system libraries, or built for another numpy.
            reasons.append(f"{candidate}: {error}")
    raise ModelError(
        f"vision back-end {name} cannot be used: {'; '.join(reasons)}",
        remedy=f"pip install {PACKAGES.get(name, PACKAGES['numpy'])[1]}, or choose another back-end",
        code="vision_backend",
    )


class OpenCvWarper:
    """Warps with OpenCV's ``warpAffine``, whose convention of integer pixel positions is ours."""

    name = "opencv"

    def __init__(self) -> None:
        self._cv2: Any = importlib.import_module("cv2")
        # One crop is too small to share out: OpenCV's thread pool would cost more than it saves.
        self._cv2.setNumThreads(1)
        self._crops: dict[int, npt.NDArray[np.uint8]] = {}

    def warp(self, rgb: Frame, roi: Roi, out: Input) -> None:
        """See `Warper.warp`."""
        size = out.shape[0]
        crop = self._crops.setdefault(size, np.zeros((size, size, 3), np.uint8))
        matrix = np.array(roi.affine(size)).reshape(2, 3)
        self._cv2.warpAffine(
            rgb, matrix, (size, size), dst=crop, flags=self._cv2.INTER_LINEAR | self._cv2.WARP_INVERSE_MAP
        )
        np.multiply(crop, TO_UNIT, out=out)


class PillowWarper:
    """Warps with Pillow's affine ``Image.transform``.

    Pillow samples at pixel centres, half a pixel off our convention; the offsets are corrected for that. Only the part of the frame
    that the crop reads is handed over: Pillow copies what it is given into pixels of four bytes.
    """

    name = "pillow"

    def __init__(self) -> None:
        self._image: Any = importlib.import_module("PIL.Image")
        self._as_buffer: Callable[[memoryview], Any] = self._find_buffer()

    def _find_buffer(self) -> Callable[[memoryview], Any]:
        """How this Pillow takes pixels without a copy; Pillow 9 (Debian 12's) takes nothing but bytes."""
        try:
            self._image.frombuffer("RGB", (1, 1), memoryview(bytearray(3)), "raw", "RGB", 3, 1)
        except TypeError:
            return bytes
        return memoryview

    def warp(self, rgb: Frame, roi: Roi, out: Input) -> None:
        """See `Warper.warp`."""
        size = out.shape[0]
        height, width = rgb.shape[:2]
        affine = roi.affine(size)
        left, top, right, bottom = crop_bounds(affine, (size, size), width, height)
        if left >= right or top >= bottom:
            out[...] = 0
            return
        a, b, c, d, e, f = affine
        data = (a, b, c - left - (a + b) / 2 + 0.5, d, e, f - top - (d + e) / 2 + 0.5)
        part = self._part(rgb, left, top, right, bottom)
        crop = part.transform(
            (size, size), self._image.Transform.AFFINE, data, resample=self._image.Resampling.BILINEAR
        )
        np.multiply(np.asarray(crop), TO_UNIT, out=out)

    def _part(self, rgb: Frame, left: int, top: int, right: int, bottom: int) -> Any:
        width, stride = right - left, rgb.strides[0]
        first = top * stride + left * 3
        data = rgb.data.cast("B")[first : first + (bottom - top - 1) * stride + width * 3]
        return self._image.frombuffer("RGB", (width, bottom - top), self._as_buffer(data), "raw", "RGB", stride, 1)
