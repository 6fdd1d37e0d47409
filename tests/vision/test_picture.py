"""Any picture becomes a frame, and what is no picture gets a message."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chappe.errors import EdgeError
from chappe.vision.picture import decode, to_rgb

RED, GREEN = (200, 30, 40), (20, 180, 60)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def two_halves(mode: str = "RGB") -> Image.Image:
    """Red on the left, green on the right, 16 x 8."""
    image = Image.new("RGB", (16, 8), RED)
    image.paste(GREEN, (8, 0, 16, 8))
    return image.convert(mode)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_common_formats_are_read(form: str) -> None:
    """Red left, green right, three channels, red first, whatever the format."""
    options = {"lossless": True} if form == "WEBP" else {"quality": 95, "subsampling": 0} if form == "JPEG" else {}
    frame = decode(encoded(two_halves(), form, **options))
    assert (frame.shape, frame.dtype) == ((8, 16, 3), np.uint8)
    assert frame.flags.c_contiguous
    assert np.abs(frame[4, 2].astype(int) - RED).max() <= 12
    assert np.abs(frame[4, 13].astype(int) - GREEN).max() <= 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_honoured(orientation: int) -> None:
    """A phone's picture stands upright: the red half is where the camera's holder saw it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    frame = decode(encoded(two_halves(), "PNG", exif=exif))
    red = {1: (4, 2), 2: (4, 13), 3: (4, 13), 4: (4, 2), 5: (2, 4), 6: (2, 4), 7: (13, 4), 8: (13, 4)}[orientation]
    assert frame.shape == ((8, 16, 3) if orientation <= 4 else (16, 8, 3))
    assert tuple(frame[red]) == RED


def test_alpha_is_dropped_not_blended() -> None:
    """A transparent red pixel is red."""
    image = Image.new("RGBA", (4, 4), (*RED, 0))
    assert tuple(decode(encoded(image))[0, 0]) == RED


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16", "I;16B"])  # fmt: skip
def test_every_mode_has_three_channels(mode: str) -> None:
    frame = to_rgb(Image.new(mode, (5, 4)))
    assert (frame.shape, frame.dtype) == ((4, 5, 3), np.uint8)


def test_grey_is_three_equal_channels() -> None:
    frame = decode(encoded(Image.new("L", (3, 2), 77)))
    assert frame.tolist() == [[[77] * 3] * 3] * 2


def test_sixteen_bit_greys_are_scaled_not_clipped() -> None:
    """Half of the range comes out as half of the range; Pillow's own conversion would make it white."""
    deep = np.full((4, 4), 32768, np.uint16)
    deep[0] = 65535
    frame = decode(encoded(Image.fromarray(deep)))
    assert frame[0, 0].tolist() == [255] * 3
    assert frame[2, 2].tolist() == [128] * 3


@pytest.mark.parametrize(("top", "expected"), [(0.5, 128), (200.0, 200), (65535.0, 255)])
def test_floating_point_greys_keep_their_scale(top: float, expected: int) -> None:
    assert to_rgb(Image.fromarray(np.full((2, 2), top, np.float32)))[0, 0].tolist() == [expected] * 3


def test_a_palette_with_transparency_makes_no_noise() -> None:
    """Pillow warns of such pictures; the owner need not hear of it."""
    image = two_halves().quantize(4)
    assert decode(encoded(image, "PNG", transparency=b"\x00\x80\xff\xff")).shape == (8, 16, 3)


def test_of_an_animation_the_first_picture_is_taken() -> None:
    first, second = Image.new("RGB", (4, 4), RED), Image.new("RGB", (4, 4), GREEN)
    frame = decode(encoded(first, "WEBP", save_all=True, append_images=[second], lossless=True))
    assert tuple(frame[0, 0]) == RED


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff"], ids=repr)
def test_what_is_no_picture_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(EdgeError, match=r"hall\.png: not a readable picture") as caught:
        decode(data, name="hall.png")
    assert "JPEG" in caught.value.remedy
    assert "0x" not in caught.value.message


def test_a_picture_cut_short_is_refused(checkout: Path) -> None:
    data = (checkout / "config" / "frames" / "Victory.png").read_bytes()
    with pytest.raises(EdgeError, match="not a readable picture"):
        decode(data[: len(data) // 2])


def test_a_picture_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's limit against decompression bombs becomes a message, not a crash."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(EdgeError, match="decompression bomb"):
        decode(encoded(two_halves()))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "DDS"])
def test_damaged_pictures_are_decoded_or_refused_and_nothing_else(form: str) -> None:
    """Random bytes changed, random ends cut off: a frame or an `EdgeError`, never another exception."""
    try:
        whole = encoded(two_halves(), form)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow cannot write {form}")
    rng = random.Random(form)
    refused = 0
    for _ in range(150):
        data = bytearray(whole[: rng.randint(1, len(whole))] if rng.random() < 0.5 else whole)
        for _ in range(rng.randint(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            frame = decode(bytes(data))
        except EdgeError:
            refused += 1
        else:
            assert frame.dtype == np.uint8
            assert frame.shape[2] == 3
    assert refused > 0
