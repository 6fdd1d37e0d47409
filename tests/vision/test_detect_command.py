"""``chappe detect``: any picture in, a line out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chappe.cli import run as chappe
from chappe.cli.detect import as_data
from chappe.edge import models
from chappe.vision.hands import Hand


@pytest.fixture(autouse=True)
def _weights(contents_of: Any) -> None:
    """Every test here needs the real models."""
    contents_of("hands-lite")


@pytest.fixture
def pictures(checkout: Path) -> list[str]:
    return [str(path) for path in sorted((checkout / "config" / "frames").glob("*.png"))]


@pytest.mark.feature("VIS-02", breaks="chappe.cli.detect:as_data")
@pytest.mark.parametrize("name", ["hands-lite", "hands-full"])
def test_each_bundled_frame_gives_a_json_line(
    pictures: list[str], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Eight pictures, eight lines in the order asked, eight labels = file names; each hand complete."""
    assert chappe(["detect", "--json", "--model", name, *pictures]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == pictures
    for line in lines:
        assert set(line) == {"file", "hands"}
        [hand] = line["hands"]
        assert set(hand) == {"gesture", "score", "handedness", "box", "landmarks"}
        assert hand["gesture"] == Path(line["file"]).stem
        assert 0.4 < hand["score"] <= 1
        assert hand["handedness"] in {"left", "right"}
        assert len(hand["box"]) == 4
        assert all(isinstance(value, int) for value in hand["box"])
        assert np.shape(hand["landmarks"]) == (21, 3)


def test_for_people_there_is_a_readable_line_per_hand(
    pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty.png"
    Image.new("RGB", (320, 240), (90, 110, 120)).save(empty)
    assert chappe(["detect", *pictures, str(empty)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert lines[0].endswith("px at 250,154")
    assert "Closed_Fist (83%), right hand" in lines[0]
    assert lines[-1] == f"{empty}: no hand"


def test_two_hands_are_two_lines_unless_one_is_asked_for(
    frames: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "both.png"
    Image.fromarray(np.concatenate((frames["Open_Palm"][:, 160:480], frames["Closed_Fist"][:, 160:480]), axis=1)).save(
        picture
    )
    assert chappe(["detect", str(picture)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert chappe(["detect", "--hands", "1", str(picture)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(
    pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing file, a folder and a text between good pictures: exit 74 at the end, and every good picture has its line."""
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    missing = tmp_path / "gone.png"
    asked = [pictures[0], str(missing), str(tmp_path), str(text), pictures[1]]
    assert chappe(["detect", "--json", *asked]) == 74
    output = capsys.readouterr()
    assert [json.loads(line)["file"] for line in output.out.splitlines()] == [pictures[0], pictures[1]]
    for name in (missing, tmp_path, text):
        assert f"chappe: {name}: " in output.err


def test_a_portrait_with_alpha_lying_on_its_side_is_read(
    frames: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stored turned by a quarter, with an EXIF mark and an alpha channel: the hand is upright again."""
    picture = tmp_path / "phone.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(frames["Open_Palm"]).convert("RGBA").transpose(Image.Transpose.ROTATE_90)
    stored.save(picture, exif=exif)
    assert chappe(["detect", "--json", str(picture)]) == 0
    [hand] = json.loads(capsys.readouterr().out)["hands"]
    assert hand["gesture"] == "Open_Palm"


def test_grey_pictures_are_taken(frames: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "grey.jpg"
    Image.fromarray(frames["Open_Palm"]).convert("L").save(picture, quality=95)
    assert chappe(["detect", "--json", str(picture)]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(picture)


@pytest.mark.parametrize("backend", ["auto", "pillow", "numpy"])
def test_the_back_end_can_be_chosen(pictures: list[str], capsys: pytest.CaptureFixture[str], backend: str) -> None:
    assert chappe(["detect", "--backend", backend, pictures[0]]) == 0
    assert "Closed_Fist" in capsys.readouterr().out


def test_an_unknown_model_is_told_what_there_is(pictures: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert chappe(["detect", "--model", "hands-huge", pictures[0]]) == 74
    assert "choose one of hands-full, hands-lite" in capsys.readouterr().err


def test_without_weights_the_remedy_is_told(
    pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is guessed: the missing file, the folders, and `chappe models pull`."""
    monkeypatch.setattr(models, "search_dirs", lambda *_, **__: [tmp_path])
    assert chappe(["detect", pictures[0]]) == 74
    told = capsys.readouterr().err
    assert f"palm_detection_lite.tflite is missing; looked in {tmp_path}" in told
    assert "chappe models pull" in told


def test_numbers_are_rounded_for_the_wire() -> None:
    """Probabilities to four places, landmarks to a hundredth of a pixel."""
    hand = Hand(0, "Victory", 0.123456, "left", 0.9, (1, 2, 3, 4), [[1.23456, 2.0, -3.98765]] * 21, [0.1] * 8)
    assert as_data(hand) == {
        "gesture": "Victory",
        "score": 0.1235,
        "handedness": "left",
        "box": [1, 2, 3, 4],
        "landmarks": [[1.23, 2.0, -3.99]] * 21,
    }
