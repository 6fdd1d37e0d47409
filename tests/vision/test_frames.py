"""The bundled frames: the files that were measured, and the licences they travel with."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chappe.core.labels import LABELS

# Rendered once; the golden values hold for exactly these bytes.
SHA256 = {
    "Closed_Fist": "d059ede8d2ae07141a7a318e3a30382e7a16471ff99d610e410080dd7aaeb400",
    "ILoveYou": "f34e8f48a2ac08280fb5dbd98c4e783b2d1377f9cf361d36fc07a5e63e447cb2",
    "None": "24c32eb58de9a070f34759e88e79684bc90b3d8b37e93b90832db80929105ed3",
    "Open_Palm": "11f205a9f4299146761942c3b1858297e8f0327a576298912d3acddffb6c8a7a",
    "Pointing_Up": "6be85aba08a120d7d08b63a542ec477ffee1c806c092a39375335e1ccad1a5ce",
    "Thumb_Down": "496454a0441a5474d65a102db19cce2bea09352583767109e1186f9d0d12c995",
    "Thumb_Up": "f2a423b3b542ba1ddf90d8bb95c7a30aef09fe877992b80a560c1bc7e4fc384a",
    "Victory": "f07d24b3d63b1d531bb2749bbb27d9f86b79e30537080baaa42679be20217c8a",
}
NOTO = {"Open_Palm", "Victory", "ILoveYou"}


@pytest.fixture
def folder(checkout: Path) -> Path:
    return checkout / "config" / "frames"


def test_there_is_one_frame_per_label(folder: Path) -> None:
    """Eight labels, eight files, byte for byte those that were measured."""
    found = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.png")}
    assert found == SHA256
    assert set(found) == set(LABELS)


def test_the_frames_lie_on_one_plain_background(folder: Path) -> None:
    """640 x 480, RGB, and a border of one colour, so that tests may slide them."""
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            assert (image.size, image.mode) == ((640, 480), "RGB")
            pixels = np.asarray(image)
        for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
            assert (edge == (90, 110, 120)).all()


def test_every_frame_has_its_licence(folder: Path) -> None:
    """Each file stands in the notice with the licence of its glyph, and both licence texts lie beside it, with their holders."""
    rows = {
        line.split("|")[1].strip().strip("`").removesuffix(".png"): line
        for line in (folder / "LICENSE.md").read_text("utf-8").splitlines()
        if line.startswith("| `")
    }
    assert set(rows) == set(SHA256)
    for label, row in rows.items():
        assert ("SIL Open Font License 1.1" if label in NOTO else "MIT") in row
        assert ("OFL.txt" if label in NOTO else "MIT.txt") in row
    font, art = (folder / "OFL.txt").read_text("utf-8"), (folder / "MIT.txt").read_text("utf-8")
    assert font.startswith("Copyright 2013-2017 Google Inc.")
    assert "SIL OPEN FONT LICENSE Version 1.1 - 26 February 2007" in font
    assert "DISCLAIMER" in font
    assert "Copyright (c) Microsoft Corporation" in art
    assert "The above copyright notice and this permission notice shall be included" in art


def test_nothing_but_frames_and_words_lies_in_the_folder(folder: Path) -> None:
    """A picture that slipped in would be played by the demo, and would have no licence."""
    assert {path.name for path in folder.iterdir() if path.suffix not in {".md", ".txt"}} == {
        f"{label}.png" for label in SHA256
    }
