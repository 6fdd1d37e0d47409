"""From the bytes of a picture file to a frame, whatever the format: turned upright, alpha dropped, three channels, red first."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np

from chappe.errors import EdgeError
from chappe.vision.geometry import Frame

UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What Pillow's many decoders raise over broken files, beside its own errors (found by feeding it damaged ones)."""

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "ICO", "TGA")
"""What cameras, telephones and people produce. Not all that Pillow knows: some of its rarer decoders hang on damaged files."""


def decode(data: bytes, *, name: str = "the picture") -> Frame:
    """Decode a picture.

    Args:
        data: the bytes of a file in one of `FORMATS`.
        name: how messages name the picture.

    Returns:
        (H, W, 3) uint8, red first, turned as its EXIF orientation says; of an animation the first picture.

    Raises:
        EdgeError: if the bytes are no picture, are cut short, or would fill the memory.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow warns of pictures that are merely large or oddly tagged; what is too large it refuses. One thread decodes
            # in the daemon, so the process-wide filter is safe to touch.
            warnings.simplefilter("ignore")
            Image.init()
            known = [name for name in FORMATS if name in Image.OPEN]
            with Image.open(io.BytesIO(data), formats=known) as image:
                image.load()
                return to_rgb(ImageOps.exif_transpose(image))
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "no known format" if unknown else str(error) or type(error).__name__
        raise EdgeError(
            f"{name}: not a readable picture: {reason}",
            remedy="give a picture such as JPEG, PNG or WebP that other programs can show",
            code="picture",
            retriable=False,
        ) from error


def to_rgb(image: Any) -> Frame:
    """Three channels of eight bits from a Pillow image of any mode.

    Args:
        image: a `PIL.Image.Image`.

    Returns:
        (H, W, 3) uint8, C-contiguous.
    """
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        # Pillow's own conversion of deep greys clips instead of scaling: a 16-bit scan would come out white.
        grey = _eight_bits(np.asarray(image, np.float64))
        return np.repeat(grey[..., np.newaxis], 3, axis=2)
    if image.mode in ("PA", "La", "RGBa"):
        image = image.convert("RGBA" if image.mode != "La" else "LA")
    return np.array(image.convert("RGB"))


def _eight_bits(grey: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    finite = np.nan_to_num(grey, nan=0.0, posinf=65535.0, neginf=0.0)
    top = float(finite.max(initial=0.0))
    scale = 1.0 if 1.0 < top <= 255 else 255.0 if top <= 1 else 255 / 65535
    return np.asarray(np.rint(np.clip(finite * scale, 0, 255)), np.uint8)
