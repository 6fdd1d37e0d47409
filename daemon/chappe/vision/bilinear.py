"""Bilinear warping with numpy alone, fast enough to be used: about two thirds of Pillow's time for a rotated crop.

The trick is arithmetic on whole pixels. Each pixel is widened to one 64-bit integer of four 16-bit lanes (red, green, blue, unused).
With positions in sixteenths of a pixel the four weights are integers that sum to 256, so a weighted sum of four pixels cannot leave
its lanes (255 * 256 < 2**16), and one multiplication serves three channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from chappe.vision.geometry import Affine, Frame, Roi, crop_bounds

Input = npt.NDArray[np.float32]
Ints = npt.NDArray[np.signedinteger[Any]]

STEPS_BITS = 4
"""Sixteen positions per pixel, the most that the lanes allow; OpenCV uses 32."""
SPARE_BITS = 8
"""Further bits of a position while it is summed up, so that a row does not drift."""
MOST_PIXELS = 1 << 20
"""A crop that reads more of the frame than this is made in parts, so that a photograph does not cost hundreds of megabytes."""
TO_UNIT = np.float32(1 / (255 * 256))


class _Scratch:
    """Arrays of one crop size, made once."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.x, self.y, self.fx, self.fy, self.weight = (np.empty(shape, np.int32) for _ in range(5))
        self.index = np.empty(shape, np.intp)
        self.sum, self.term = np.empty(shape, np.int64), np.empty(shape, np.int64)


class NumpyWarper:
    """Warps with numpy alone. See `chappe.vision.preprocess.Warper`."""

    name = "numpy"

    def __init__(self) -> None:
        self._scratch: dict[tuple[int, int], _Scratch] = {}

    def warp(self, rgb: Frame, roi: Roi, out: Input) -> None:
        """See `chappe.vision.preprocess.Warper.warp`."""
        self._fill(rgb, roi.affine(out.shape[1]), out)

    def _fill(self, rgb: Frame, affine: Affine, out: Input) -> None:
        rows, columns, _ = out.shape
        left, top, right, bottom = crop_bounds(affine, (rows, columns), rgb.shape[1], rgb.shape[0])
        if left >= right or top >= bottom:
            out[...] = 0
        elif (right - left) * (bottom - top) > MOST_PIXELS and rows > 1:
            half = rows // 2
            self._fill(rgb, affine, out[:half])
            self._fill(rgb, affine.from_row(half), out[half:])
        else:
            scratch = self._scratch.get((rows, columns)) or self._scratch.setdefault(
                (rows, columns), _Scratch((rows, columns))
            )
            pixels, width = widen(rgb, left, top, right, bottom)
            # The widened part has a black border of one pixel, hence the 1.
            _positions(affine._replace(c=affine.c - left + 1, f=affine.f - top + 1), scratch)
            _clamp(scratch, right - left + 1, bottom - top + 1)
            _blend(pixels, width, scratch)
            lanes = scratch.sum.view(np.uint16).reshape(rows, columns, 4)
            np.multiply(lanes[..., :3], TO_UNIT, out=out)


def widen(rgb: Frame, left: int, top: int, right: int, bottom: int) -> tuple[npt.NDArray[np.int64], int]:
    """A part of a frame as 64-bit pixels within a black border: one pixel left and above, two right and below.

    Args:
        rgb: (H, W, 3) uint8, C-contiguous.
        left: first column of the part.
        top: first row.
        right: column behind the last.
        bottom: row behind the last.

    Returns:
        The pixels, flat, and how many make a row.
    """
    height, width = bottom - top, right - left
    narrow = np.zeros((height + 3, width + 3), np.uint32)
    # Four bytes per pixel are read at a stride of three, which takes the next pixel's red along into the unused lane. The frame's
    # very last pixel has no next one, so the last row is copied channel by channel.
    stride = rgb.strides[0]
    if height > 1:
        narrow[1:height, 1 : width + 1] = np.ndarray(
            (height - 1, width), np.uint32, rgb.data, top * stride + left * 3, (stride, 3)
        )
    narrow.view(np.uint8).reshape(height + 3, width + 3, 4)[height, 1 : width + 1, :3] = rgb[bottom - 1, left:right]
    return narrow.view(np.uint8).astype(np.uint16).view(np.int64).reshape(-1), width + 3


def _positions(affine: Affine, scratch: _Scratch) -> None:
    """Where each pixel of the crop lies, in sixteenths of a pixel, into `scratch.x` and `scratch.y`."""
    rows, columns = scratch.x.shape
    one = 1 << (STEPS_BITS + SPARE_BITS)
    rounding = 1 << (SPARE_BITS - 1)
    u, v = np.arange(columns), np.arange(rows)
    for along, across, offset, position in (
        (affine.a, affine.b, affine.c, scratch.x),
        (affine.d, affine.e, affine.f, scratch.y),
    ):
        column = np.rint((v * across + offset) * one + rounding).astype(np.int32)[:, np.newaxis]
        np.add(column, np.rint(u * along * one).astype(np.int32), out=position)
        np.right_shift(position, SPARE_BITS, out=position)


def _clamp(scratch: _Scratch, last_x: int, last_y: int) -> None:
    """Pull positions beyond the black border onto it."""
    for position, last in ((scratch.x, last_x), (scratch.y, last_y)):
        # The position is affine in row and column, so its extremes are in the corners.
        corners = position[:: position.shape[0] - 1 or 1, :: position.shape[1] - 1 or 1]
        if corners.min() < 0 or corners.max() > last << STEPS_BITS:
            np.clip(position, 0, last << STEPS_BITS, out=position)


def _blend(pixels: npt.NDArray[np.int64], width: int, scratch: _Scratch) -> None:
    """Weigh the four neighbours of each position, into `scratch.sum`."""
    x, y, fx, fy, both = scratch.x, scratch.y, scratch.fx, scratch.fy, scratch.weight
    index, total, term = scratch.index, scratch.sum, scratch.term
    fraction = (1 << STEPS_BITS) - 1
    np.bitwise_and(x, fraction, out=fx)
    np.bitwise_and(y, fraction, out=fy)
    x >>= STEPS_BITS
    y >>= STEPS_BITS
    y *= width
    np.add(y, x, out=index)
    # Weights: right below = fx * fy, right = 16 fx - fx fy, below = 16 fy - fx fy, and what is left to 256.
    np.multiply(fx, fy, out=both)
    for weight in (fx, fy):
        np.left_shift(weight, STEPS_BITS, out=weight)
        np.subtract(weight, both, out=weight)
    rest = x
    np.subtract(1 << (2 * STEPS_BITS), both, out=rest)
    rest -= fx
    rest -= fy
    # Indices are within bounds by construction; mode "wrap" is numpy's fastest, as it needs no second pass and no buffer.
    np.take(pixels, index, out=total, mode="wrap")
    total *= rest
    for step, weight in ((1, fx), (width, both), (-1, fy)):
        index += step
        np.take(pixels, index, out=term, mode="wrap")
        term *= weight
        total += term
