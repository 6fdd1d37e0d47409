"""Camera buffers to upright RGB: (H, W, 3) uint8, C-contiguous, whatever the camera delivers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from chappe.errors import CameraError

if TYPE_CHECKING:
    from chappe.edge.slot import Pixels

Size = tuple[int, int]
"""(width, height) in pixels."""


def upright(pixels: Pixels, rotate: int) -> Pixels:
    """`pixels` turned clockwise by `rotate` degrees (0, 90, 180 or 270), C-contiguous."""
    import numpy as np

    return np.ascontiguousarray(np.rot90(pixels, k=-(rotate // 90)))


def turned(size: Size, rotate: int) -> Size:
    """Size of a picture after `upright`.

    >>> turned((640, 480), 90)
    (480, 640)
    """
    return size if rotate % 180 == 0 else (size[1], size[0])


def to_rgb(buffer: Pixels, pixel_format: str, size: Size) -> Pixels:
    """An array as ``make_array`` of picamera2 gives it, as RGB.

    libcamera names formats by the order of bits in a word, not of bytes in memory: its BGR888 is R, G, B in memory, its
    RGB888 is B, G, R (libcamera ``formats.yaml``, DRM fourcc BG24 and RG24).

    Args:
        buffer: packed formats (H, W, 3 or 4); NV12 and YUV420 (H * 3 / 2, stride), rows padded on the right.
        pixel_format: libcamera's name of the format.
        size: (width, height).

    Raises:
        CameraError: if the format is not one of the five, or the buffer has not the size that was agreed.
    """
    convert = _CONVERT.get(pixel_format)
    if convert is None:
        raise _wrong(f"it delivers {pixel_format}, which is none of {', '.join(_CONVERT)}")
    width, height = size
    planar = pixel_format in PLANAR
    rows = height * 3 // 2 if planar else height
    if buffer.shape[0] != rows or buffer.shape[1] < width or (planar and (width % 2 or height % 2)):
        raise _wrong(f"a {pixel_format} buffer of shape {buffer.shape} is no picture of {width}x{height}")
    return convert(buffer, size)


def _wrong(what: str) -> CameraError:
    return CameraError(
        f"camera format: {what}", code="camera_format", remedy="set camera.width and height to a mode it has"
    )


def _rgb(buffer: Pixels, size: Size) -> Pixels:
    import numpy as np

    return np.ascontiguousarray(buffer[:, : size[0], :3])


def _bgr(buffer: Pixels, size: Size) -> Pixels:
    import numpy as np

    return np.ascontiguousarray(buffer[:, : size[0], 2::-1])


def _nv12(buffer: Pixels, size: Size) -> Pixels:
    width, height = size
    chroma = buffer[height:, :width].reshape(height // 2, width // 2, 2)
    return _yuv(buffer[:height, :width], chroma[..., 0], chroma[..., 1])


def _yuv420(buffer: Pixels, size: Size) -> Pixels:
    width, height = size
    stride = buffer.shape[1]
    planes = buffer[height:].reshape(2, height // 2, stride // 2)[:, :, : width // 2]
    return _yuv(buffer[:height, :width], planes[0], planes[1])


def _yuv(luma: Pixels, u: Pixels, v: Pixels) -> Pixels:
    """Full-range BT.601 (ITU-T T.871, JFIF), in 1/256; chroma is worked out once for its 2x2 pixels."""
    import numpy as np

    height, width = luma.shape
    cb, cr = u.astype(np.int32) - 128, v.astype(np.int32) - 128
    shifts = (359 * cr + 128) >> 8, (-88 * cb - 183 * cr + 128) >> 8, (454 * cb + 128) >> 8
    cells = luma.reshape(height // 2, 2, width // 2, 2).astype(np.int16)
    rgb = np.empty((height, width, 3), np.uint8)
    out = rgb.reshape(height // 2, 2, width // 2, 2, 3)
    for channel, shift in enumerate(shifts):
        np.clip(cells + shift.astype(np.int16)[:, None, :, None], 0, 255, out=out[..., channel], casting="unsafe")
    return rgb


PLANAR = ("NV12", "YUV420")
_CONVERT: dict[str, Callable[[Pixels, Size], Pixels]] = {
    "BGR888": _rgb,
    "RGB888": _bgr,
    "XBGR8888": _rgb,
    "NV12": _nv12,
    "YUV420": _yuv420,
}
