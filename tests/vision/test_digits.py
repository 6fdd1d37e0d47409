"""Real photographs: 30 hands for each of ten digits, of which three are gestures of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chappe.vision.geometry import Frame
from chappe.vision.preprocess import available

GESTURES = {1: "Pointing_Up", 2: "Victory", 5: "Open_Palm"}
# Hits of 90 at least, false gestures of 210 at most, and no gesture below 22 of 30.
LIMITS = {"hands-full": (83, 6), "hands-lite": (79, 5)}
LEAST_OF_EACH = 22


def framed(path: Path) -> Frame:
    """A photograph scaled to 300 x 300, centred in 640 x 480, its edge pixels repeated to the border."""
    from PIL import Image

    with Image.open(path) as image:
        picture = np.asarray(image.convert("RGB").resize((300, 300), Image.Resampling.BICUBIC))
    return np.pad(picture, ((90, 90), (170, 170), (0, 0)), mode="edge")


@pytest.fixture(scope="module")
def photographs(data_dir: Path) -> list[tuple[int, Frame]]:
    folder = data_dir / "hands" / "digits"
    if not folder.is_dir():
        pytest.skip(f"no photographs at {folder}")
    return [(digit, framed(path)) for digit in range(10) for path in sorted((folder / str(digit)).glob("*.jpg"))]


@pytest.mark.feature("VIS-03", breaks="chappe.vision.gesture:normalise")
@pytest.mark.parametrize("name", ["hands-lite", "hands-full"])
@pytest.mark.parametrize("backend", ["pillow", "auto"])
def test_gestures_are_read_from_photographs(
    opened: Any, photographs: list[tuple[int, Frame]], name: str, backend: str
) -> None:
    """1, 2 and 5 are Pointing_Up, Victory and Open_Palm in most photographs; the other digits are rarely taken for a gesture."""
    if backend == "auto" and available()[0] == "pillow":
        pytest.skip("auto is Pillow here")
    assert len(photographs) == 300
    pipeline = opened(name, backend=backend)
    hits, false = dict.fromkeys(GESTURES, 0), 0
    for digit, frame in photographs:
        labels = [hand.gesture for hand in pipeline.detect(frame)]
        if digit in GESTURES:
            hits[digit] += labels == [GESTURES[digit]]
        else:
            false += labels not in ([], ["None"])
    least, most = LIMITS[name]
    print(f"{name} {pipeline.backend}: hits {hits}, false {false}")
    assert sum(hits.values()) >= least, hits
    assert min(hits.values()) >= LEAST_OF_EACH, hits
    assert false <= most
