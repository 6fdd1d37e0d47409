"""What comes with the program is found in a wheel and in a checkout; the bundled demo is what it should be."""

from __future__ import annotations

import doctest
import hashlib
import tomllib
from pathlib import Path

import pytest

from chappe import bundled as module
from chappe.bundled import bundled
from chappe.config import load
from chappe.core.labels import LABELS


def test_examples_in_the_docstrings() -> None:
    """The example is true here."""
    results = doctest.testmod(module)
    assert (results.attempted, results.failed) == (1, 0)


def test_a_checkout_keeps_it_above_the_package_and_a_wheel_inside(tmp_path: Path) -> None:
    """The wheel's own copy wins: it belongs to this version."""
    package = tmp_path / "daemon" / "chappe"
    above = tmp_path / "config"
    above.mkdir()
    (above / "demo.toml").touch()
    assert bundled("config/demo.toml", package) == above / "demo.toml"
    inside = package / "_config"
    inside.mkdir(parents=True)
    (inside / "demo.toml").touch()
    assert bundled("config/demo.toml", package) == inside / "demo.toml"
    assert bundled("config", package) == inside


def test_what_is_missing_is_named_with_both_places(tmp_path: Path) -> None:
    """A broken installation says what it lacks."""
    with pytest.raises(FileNotFoundError, match=r"config/demo\.toml is missing"):
        bundled("config/demo.toml", tmp_path / "daemon" / "chappe")


def test_the_wheel_carries_what_is_looked_for(checkout: Path) -> None:
    """The build puts the checkout's folders where `bundled` looks for them."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included["config"] == "chappe/_config"
    manifests = {f"models/{file.name}" for file in (checkout / "models").glob("*.toml")}
    assert {name: where for name, where in included.items() if name in manifests} == {
        name: f"chappe/_{name}" for name in manifests
    }


def test_the_wheel_carries_no_weights(checkout: Path) -> None:
    """A checkout's model folder also holds what was pulled; a folder that is included whole would take it along."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert "models" not in included
    assert not [name for name in included if name.endswith(".tflite")]


def test_there_is_one_frame_for_every_label_and_a_note_on_their_licences() -> None:
    """Eight pictures, named after what they show; each is in the table with its source, and the licences lie beside them."""
    folder = bundled("config/frames")
    assert sorted(file.stem for file in folder.glob("*.png")) == sorted(LABELS)
    note = (folder / "LICENSE.md").read_text(encoding="utf-8")
    assert all(f"`{label}.png`" in note for label in LABELS)
    assert "SIL OPEN FONT LICENSE Version 1.1" in (folder / "OFL.txt").read_text(encoding="utf-8")
    assert "Microsoft Corporation" in (folder / "MIT.txt").read_text(encoding="utf-8")


def test_the_frames_are_those_that_the_models_were_checked_with() -> None:
    """A picture that was saved again is another picture to a model."""
    digest = hashlib.sha256()
    for file in sorted(bundled("config/frames").glob("*.png")):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    assert digest.hexdigest() == "2426c2d0fc7c3d38c894c2aacdb8b420ea0245354817b9258f1f9976a093e74e"


def test_the_demo_is_an_ordinary_valid_configuration() -> None:
    """Pictures held for a second, three signals, both kinds of stream, a rule and simulated pins; no privacy lamp needed."""
    config = load(bundled("config/demo.toml"), environ={}).config
    assert Path(config.camera.path) == bundled("config/frames")
    assert str(config.camera.hold) == "1s"
    assert config.signals == {"Pointing_Up": "BUY", "Open_Palm": "SELL", "Closed_Fist": "HOLD"}
    assert {name: stream.class_ for name, stream in config.streams.items()} == {"tick": "log", "temperature": "latest"}
    assert config.rules["applause"].output in config.outputs
    assert config.indicators.privacy is None
