"""Manifests: everything about a model but its weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from chappe.core.labels import LABELS
from chappe.errors import ModelError
from chappe.vision.manifest import Manifest, files_of, parse

# The six files as Google pins them in google-ai-edge/mediapipe, third_party/external_files.bzl.
PINNED = {
    "palm_detection_lite.tflite": ("e9a4aaddf90dda56a87235303cf00e4c2d3fb28725f68fd88772997dac905c18", 1985440),
    "palm_detection_full.tflite": ("1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54", 2339846),
    "hand_landmark_lite.tflite": ("048edd3645c9bf7397d19a9f6e3a42957d6e414c9bea6598030a2e9b624156e6", 2071597),
    "hand_landmark_full.tflite": ("11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3", 5478917),
    "gesture_embedder.tflite": ("927e4f6cbe6451da6b4fd1485e2576a6f8dbd95062666661cbd9dea893c41d01", 628312),
    "canned_gesture_classifier.tflite": ("ee121d85979de1b86126faabb0a0f4d2e4039c3e33e2cd687db50571001b24d0", 6928),
}


@pytest.mark.feature("MOD-01", breaks="chappe.vision.manifest:files_of")
def test_the_two_models_are_made_of_the_six_pinned_files(manifests: dict[str, Manifest]) -> None:
    """hands-lite and hands-full list exactly the six files, with their hashes and sizes, and share two of them."""
    assert sorted(manifests) == ["hands-full", "hands-lite"]
    found = {file.file: (file.sha256, file.bytes) for file in files_of(manifests.values())}
    assert found == PINNED
    shared = {f.file for f in manifests["hands-lite"].files} & {f.file for f in manifests["hands-full"].files}
    assert shared == {"gesture_embedder.tflite", "canned_gesture_classifier.tflite"}


def test_each_file_names_its_licence_its_owner_and_its_place(manifests: dict[str, Manifest]) -> None:
    """The weights are Google's under Apache-2.0, whichever package carries them, and the notice says so."""
    for manifest in manifests.values():
        assert "MediaPipe" in manifest.notice
        assert "Apache License, Version 2.0" in manifest.notice
        assert manifest.licence == "Apache-2.0"
        for file in manifest.files:
            assert file.licence == "Apache-2.0"
            assert "Google" in file.copyright
            assert manifest.package_of(file).wheel.endswith(".whl")
            assert file.path[-1].endswith(file.file)


def test_the_labels_are_those_of_the_core(manifests: dict[str, Manifest]) -> None:
    """The vision part and the core never import each other; their label lists are the same all the same."""
    for manifest in manifests.values():
        assert manifest.labels == LABELS
        assert manifest.by_role("classifier").outputs["Identity"][-1] == len(LABELS)


def test_a_model_id_is_its_name_and_the_hash_of_its_files_hashes(manifests: dict[str, Manifest]) -> None:
    """`hash8` can be recomputed by hand, and differs where one file differs."""
    lite = manifests["hands-lite"]
    digests = "".join(file.sha256 for file in lite.files)
    assert lite.model_id == f"hands-lite@{hashlib.sha256(digests.encode()).hexdigest()[:8]}"
    assert lite.hash8 != manifests["hands-full"].hash8


def test_what_a_file_must_be_is_told_apart_from_what_it_is(manifests: dict[str, Manifest]) -> None:
    """The size is compared first, then the hash; both messages say what was expected and what was found."""
    file = manifests["hands-lite"].by_role("classifier")
    assert file.mismatch(b"x") == "expected 6928 bytes, found 1"
    other = bytes(file.bytes)
    assert file.mismatch(other) == f"expected sha256 {file.sha256}, found {hashlib.sha256(other).hexdigest()}"


def test_a_role_or_package_that_is_not_listed_is_named(manifests: dict[str, Manifest]) -> None:
    lite = manifests["hands-lite"]
    with pytest.raises(ModelError, match="hands-lite has no file with role eye"):
        lite.by_role("eye")
    orphan = Manifest(lite.name, "1", "", "", (), (), lite.files)
    with pytest.raises(
        ModelError, match=r"palm_detection_lite\.tflite comes from mediapipe, which the manifest does not"
    ):
        orphan.package_of(lite.files[0])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "hands-lite"', 'name = "hands-lite', "hands.toml"),
        ('name = "hands-lite"', "", "missing required field `name`"),
        ('summary = "', 'sumary = "', "unknown field `sumary`"),
        ("bytes = 628312", 'bytes = "628312"', r"Expected `int`, got `str` - at `\$.files\[2\].bytes`"),
        ('sha256 = "e9a4', 'sha256 = "E9A4', r"at `\$.files\[0\].sha256`"),
        ('package = "mediapipe"', 'package = "mediapie"', "comes from mediapie"),
        ('path = ["mediapipe/modules/palm_detection/palm_detection_lite.tflite"]', "path = []", r"files\[0\].path"),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_place(checkout: Path, old: str, new: str, message: str) -> None:
    """A typing error, a missing or unknown field, a wrong type or a dangling reference: the message says where."""
    text = (checkout / "models" / "hands-lite.toml").read_text("utf-8")
    assert old in text
    with pytest.raises(ModelError, match=message):
        parse(text.replace(old, new, 1), origin="hands.toml")
