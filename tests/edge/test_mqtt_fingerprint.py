"""Whether secrets have changed, without keeping them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from chappe.core.settings import Mqtt
from chappe.edge.mqtt.fingerprint import fingerprint

KEYS = ("password_file", "ca_file", "cert_file", "key_file")


@pytest.fixture
def settings(tmp_path: Path) -> Mqtt:
    """A file of its own for each."""
    paths = {key: tmp_path / key for key in KEYS}
    for key, path in paths.items():
        path.write_bytes(key.encode())
    return msgspec.structs.replace(Mqtt(), **{key: str(path) for key, path in paths.items()})


@pytest.mark.feature("SEC-01", breaks="chappe.edge.mqtt.fingerprint:fingerprint")
@pytest.mark.parametrize("key", KEYS)
def test_every_file_counts(settings: Mqtt, key: str) -> None:
    """A new content of any of them is another fingerprint, the old one is the same again."""
    path = Path(getattr(settings, key))
    before, content = fingerprint(settings), path.read_bytes()
    path.write_bytes(b"new")
    assert fingerprint(settings) != before
    path.write_bytes(content)
    assert fingerprint(settings) == before
    assert before is not None


def test_it_matters_in_which_file_it_stands(settings: Mqtt) -> None:
    """Two files with their contents exchanged are not the same."""
    before = fingerprint(settings)
    first, second = (Path(getattr(settings, key)) for key in KEYS[:2])
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    assert fingerprint(settings) != before


def test_a_file_that_cannot_be_read_gives_none(settings: Mqtt) -> None:
    """It is just being replaced, perhaps."""
    Path(settings.key_file).unlink()
    assert fingerprint(settings) is None


def test_no_files_are_always_the_same() -> None:
    """Nothing to change."""
    assert fingerprint(Mqtt()) == fingerprint(Mqtt())


def test_a_secret_is_not_in_it(settings: Mqtt) -> None:
    """Of whatever length, it is a digest of 64 bytes."""
    Path(settings.password_file).write_bytes(b"hunter2" * 100)
    made = fingerprint(settings)
    assert made is not None
    assert (len(made), b"hunter2" in made) == (64, False)
