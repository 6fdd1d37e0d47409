"""Three back-ends, one picture: each against an exact bilinear interpolation in floating point."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.errors import ModelError
from chappe.vision import bilinear, preprocess
from chappe.vision.geometry import Frame, Roi, letterbox
from chappe.vision.preprocess import open_warper

BACKENDS = ["pillow", "numpy", pytest.param("opencv", marks=pytest.mark.skipif("opencv" not in preprocess.available(), reason="OpenCV is not installed"))]  # fmt: skip

REGIONS = {
    "upright": Roi(300, 200, 224),
    "turned": Roi(326.3, 237.8, 206.8, 0.252),
    "small": Roi(320.2, 240.7, 60, -1.1),
    "large": Roi(330, 250, 420, 2.9),
    "top left": Roi(10, 20, 300, -2.0),
    "bottom right": Roi(620, 470, 500, 1.1),
    "last pixel": Roi(638.7, 478.2, 20),
    "letterbox": letterbox(640, 480),
    "beyond": Roi(320, 240, 2000, 0.5),
}


@pytest.fixture(scope="module")
def scene() -> Frame:
    """Smooth random colours, different in each channel, 640 x 480."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (13, 17, 3)).astype(np.float64)
    rows, columns = np.linspace(0, 11.999, 480), np.linspace(0, 15.999, 640)
    y, x = rows.astype(int), columns.astype(int)
    fy, fx = (rows - y)[:, None, None], (columns - x)[None, :, None]
    upper = coarse[y][:, x] * (1 - fx) + coarse[y][:, x + 1] * fx
    lower = coarse[y + 1][:, x] * (1 - fx) + coarse[y + 1][:, x + 1] * fx
    return np.ascontiguousarray(upper * (1 - fy) + lower * fy, np.uint8)


def exact(rgb: Frame, roi: Roi, size: int) -> npt.NDArray[np.float64]:
    """Bilinear interpolation over a frame with black around it, in floating point, values 0..1."""
    height, width = rgb.shape[:2]
    affine = roi.affine(size)
    u, v = np.meshgrid(np.arange(size), np.arange(size))
    x = np.clip(affine.a * u + affine.b * v + affine.c, -1, width)
    y = np.clip(affine.d * u + affine.e * v + affine.f, -1, height)
    framed = np.pad(rgb.astype(np.float64), ((1, 2), (1, 2), (0, 0)))
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - left)[..., None], (y - top)[..., None]
    upper = framed[top + 1, left + 1] * (1 - fx) + framed[top + 1, left + 2] * fx
    lower = framed[top + 2, left + 1] * (1 - fx) + framed[top + 2, left + 2] * fx
    return (upper * (1 - fy) + lower * fy) / 255


def warp(backend: str, rgb: Frame, roi: Roi, size: int = 224) -> npt.NDArray[np.float32]:
    out = np.full((size, size, 3), np.nan, np.float32)
    open_warper(backend).warp(rgb, roi, out)
    return out


@pytest.mark.parametrize("roi", REGIONS.values(), ids=REGIONS.keys())
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_back_end_interpolates_bilinearly(scene: Frame, backend: str, roi: Roi) -> None:
    """Within the frame each value is within 1.1 grey levels of the exact one; beyond it all is black."""
    found, expected = warp(backend, scene, roi), exact(scene, roi, 224)
    assert not np.isnan(found).any()
    inside = exact(np.full_like(scene, 255), roi, 224)[..., 0] > 1 - 1e-9
    outside = exact(np.full_like(scene, 255), roi, 224)[..., 0] == 0
    apart = np.abs(found - expected) * 255
    # Pillow ends the frame half a pixel further out and repeats the edge there; the sum over the whole crop still agrees.
    assert apart[inside].max(initial=0) <= 1.1
    assert apart.mean() <= 3
    assert found[outside].max(initial=0) <= (0 if backend != "pillow" else 1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_far_region_is_black(scene: Frame, backend: str) -> None:
    assert warp(backend, scene, Roi(-500, -500, 100, 0.3)).max() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_half_pixel_is_where_it_belongs(backend: str) -> None:
    """One white column at x = 100, crop at scale 1: it is column 50 of the crop and no other (Pillow is half a pixel off by itself)."""
    rgb = np.zeros((200, 200, 3), np.uint8)
    rgb[:, 100] = 255
    found = warp(backend, rgb, Roi(114, 114, 128), 128)
    assert found[64, :, 0].argmax() == 50
    assert found[64, 50, 0] == 1
    assert found[64].sum() == 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_red_stays_red(backend: str) -> None:
    """Channels keep their order, and full range is exactly 0 to 1."""
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[..., 0] = 255
    found = warp(backend, rgb, Roi(32, 32, 40), 32)
    assert found.reshape(-1, 3).min(axis=0).tolist() == [1, 0, 0]
    assert found.reshape(-1, 3).max(axis=0).tolist() == [1, 0, 0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (2, 2)])
def test_tiny_frames_are_no_special_case(backend: str, shape: tuple[int, int]) -> None:
    """A frame of one pixel, one row or one column warps without an error, and its brightness shows."""
    rgb = np.full((*shape, 3), 200, np.uint8)
    found = warp(backend, rgb, letterbox(shape[1], shape[0]), 32)
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 200 / 255 + 1e-6


# ---- numpy -----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.floats(2, 300), st.floats(-4, 4), st.floats(-20, 120), st.floats(-20, 100))
def test_numpy_is_exact_to_a_sixteenth_of_a_pixel(seed: int, side: float, turn: float, cx: float, cy: float) -> None:
    """Over pure noise, the hardest picture, no value strays further than a thirty-second of a pixel in x and y explains."""
    rgb = np.random.default_rng(seed).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    roi = Roi(cx, cy, side, turn)
    found, expected = warp("numpy", rgb, roi, 24), exact(rgb, roi, 24)
    # Neighbours differ by at most 255: half a step in x and in y moves a value by at most 2 * 255 / 32.
    assert np.abs(found - expected).max() * 255 <= 2 * 255 / 32 + 0.6


def test_numpy_makes_a_large_crop_in_parts(scene: Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crop over many pixels is assembled from bands, and is the same picture."""
    whole = warp("numpy", scene, REGIONS["large"])
    monkeypatch.setattr(bilinear, "MOST_PIXELS", 5000)
    assert np.array_equal(warp("numpy", scene, REGIONS["large"]), whole)


def test_widened_pixels_have_a_black_border(scene: Frame) -> None:
    """One pixel left and above, two right and below; the lanes are red, green, blue."""
    pixels, width = bilinear.widen(scene, 630, 470, 640, 480)
    lanes = pixels.view(np.uint16).reshape(-1, width, 4)[..., :3]
    assert lanes.shape == (13, 13, 3)
    assert np.array_equal(lanes[1:11, 1:11], scene[470:, 630:])
    lanes = lanes.copy()
    lanes[1:11, 1:11] = 0
    assert lanes.max() == 0


# ---- choosing --------------------------------------------------------------------------------------------------------


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Make the import of some packages fail, as a broken installation does."""
    load = preprocess.importlib.import_module

    def refuse(name: str) -> Any:
        if name.partition(".")[0] in packages:
            raise ImportError(f"{name}: cannot open shared object file")
        return load(name)

    monkeypatch.setattr(preprocess.importlib, "import_module", refuse)


@pytest.mark.parametrize(
    ("broken", "chosen"), [((), "opencv"), (("cv2",), "pillow"), (("cv2", "PIL"), "numpy"), (("PIL",), "opencv")]
)
def test_auto_takes_the_first_that_can_be_imported(
    monkeypatch: pytest.MonkeyPatch, broken: tuple[str, ...], chosen: str
) -> None:
    """OpenCV, else Pillow, else numpy alone; a package that is there but broken counts as absent."""
    if chosen not in preprocess.available():
        pytest.skip(f"{chosen} is not installed")
    without(monkeypatch, *broken)
    assert open_warper("auto").name == chosen


def test_what_is_available_is_told_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess.importlib.util, "find_spec", lambda name: None if name == "cv2" else name)
    assert preprocess.available() == ["pillow", "numpy"]


def test_a_back_end_that_cannot_be_imported_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by name there is no silent substitute: the reason and the package are told."""
    without(monkeypatch, "cv2")
    with pytest.raises(ModelError, match="opencv: cv2: cannot open shared object file") as caught:
        open_warper("opencv")
    assert "pip install opencv-python-headless" in caught.value.remedy


def test_an_unknown_back_end_is_told_what_there_is() -> None:
    with pytest.raises(ModelError, match="'nearest' is unknown") as caught:
        open_warper("nearest")
    assert "auto, opencv, pillow, numpy" in caught.value.remedy


def test_crops_of_one_warper_do_not_share_memory(scene: Frame) -> None:
    """Buffers are reused between frames, results are not."""
    for name in preprocess.available():
        warper: Any = open_warper(name)
        first, second = np.empty((32, 32, 3), np.float32), np.empty((32, 32, 3), np.float32)
        warper.warp(scene, REGIONS["upright"], first)
        kept = first.copy()
        warper.warp(scene, REGIONS["turned"], second)
        assert np.array_equal(first, kept)
        assert not np.array_equal(first, second)
