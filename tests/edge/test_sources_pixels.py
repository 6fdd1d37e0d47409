"""Camera buffers become RGB."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from chappe.edge.sources.pixels import to_rgb
from chappe.errors import CameraError

PATCHES = {"blue": (0, 0, 255), "red": (255, 0, 0), "skin": (224, 172, 138)}
FORMATS = ["BGR888", "RGB888", "XBGR8888", "NV12", "YUV420"]
SIZE = (64, 48)


def jfif(rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    """Y, Cb, Cr of a colour by another's arithmetic: Pillow's conversion is that of JFIF, full range."""
    pixel = Image.new("RGB", (1, 1), rgb).convert("YCbCr").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel[0], pixel[1], pixel[2]


def buffer(pixel_format: str, rgb: tuple[int, int, int], size: tuple[int, int] = SIZE, padding: int = 0) -> np.ndarray:
    """What picamera2's make_array gives for a picture of one colour, with `padding` bytes after each row of luma."""
    width, height = size
    red, green, blue = rgb
    y, u, v = jfif(rgb)
    if pixel_format in ("BGR888", "RGB888"):
        memory = (red, green, blue) if pixel_format == "BGR888" else (blue, green, red)
        return np.broadcast_to(np.array(memory, np.uint8), (height, width, 3)).copy()
    if pixel_format == "XBGR8888":
        return np.broadcast_to(np.array((red, green, blue, 255), np.uint8), (height, width, 4)).copy()
    plane = np.full((height * 3 // 2, width + padding), 77, np.uint8)
    plane[:height, :width] = y
    if pixel_format == "NV12":
        plane[height:, :width:2], plane[height:, 1:width:2] = u, v
    else:
        chroma = plane[height:].reshape(2, height // 2, (width + padding) // 2)
        chroma[0, :, : width // 2], chroma[1, :, : width // 2] = u, v
    return plane


@pytest.mark.feature("CAP-01", breaks="chappe.edge.sources.pixels:to_rgb")
@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize("padding", [0, 32])
@pytest.mark.parametrize("patch", PATCHES)
def test_colours_survive(pixel_format: str, padding: int, patch: str) -> None:
    """A blue, a red and a skin patch within ±3 in all five formats, with and without padded rows: red first in memory."""
    rgb = to_rgb(buffer(pixel_format, PATCHES[patch], padding=padding), pixel_format, SIZE)
    assert rgb.shape == (48, 64, 3)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    assert np.abs(rgb.astype(int) - PATCHES[patch]).max() <= 3


@given(st.tuples(*[st.integers(0, 255)] * 3), st.sampled_from(["NV12", "YUV420"]))
def test_every_colour_survives_the_way_through_yuv(colour: tuple[int, int, int], pixel_format: str) -> None:
    """Full range: nothing is stretched, clipped or tinted by more than rounding."""
    rgb = to_rgb(buffer(pixel_format, colour, (4, 4)), pixel_format, (4, 4))
    assert np.abs(rgb.astype(int) - colour).max() <= 3


@pytest.mark.parametrize("pixel_format", ["NV12", "YUV420"])
def test_chroma_belongs_to_its_own_four_pixels(pixel_format: str) -> None:
    """A picture of 2x2 blocks, each of another colour, comes out block by block."""
    width, height = 16, 8
    colours = np.random.default_rng(3).integers(0, 256, (height // 2, width // 2, 3), np.uint8)
    y, u, v = (np.asarray(plane) for plane in Image.fromarray(colours).convert("YCbCr").split())
    luma = y.repeat(2, 0).repeat(2, 1)
    chroma = np.stack([u, v], -1).reshape(height // 2, width) if pixel_format == "NV12" else np.concatenate([u, v])
    rgb = to_rgb(np.concatenate([luma, chroma.reshape(height // 2, width)]), pixel_format, (width, height))
    assert np.abs(rgb.astype(int) - colours.repeat(2, 0).repeat(2, 1)).max() <= 3


@pytest.mark.parametrize("pixel_format", ["YUYV", "SRGGB10_CSI2P", "MJPEG", ""])
def test_any_other_format_is_refused(pixel_format: str) -> None:
    """By name, with the five that would do."""
    with pytest.raises(CameraError, match="NV12, YUV420") as failure:
        to_rgb(np.zeros((48, 64, 3), np.uint8), pixel_format, SIZE)
    assert failure.value.code == "camera_format"


@pytest.mark.parametrize(
    ("pixel_format", "shape", "size"),
    [
        ("BGR888", (24, 64, 3), SIZE),
        ("RGB888", (48, 32, 3), SIZE),
        ("NV12", (48, 64), SIZE),
        ("YUV420", (72, 32), SIZE),
        ("NV12", (4, 3), (3, 3)),
    ],
)
def test_a_buffer_of_another_size_is_refused(pixel_format: str, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    """Too few rows, too few columns, and odd sizes where four pixels share a colour."""
    with pytest.raises(CameraError, match="no picture of") as failure:
        to_rgb(np.zeros(shape, np.uint8), pixel_format, size)
    assert failure.value.code == "camera_format"
