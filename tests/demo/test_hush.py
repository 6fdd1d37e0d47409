"""What is held back below Python, and what is said afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chappe.demo.hush import hushed


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A descriptor in the place of stderr's, and the file that shows what got through."""
    file = tmp_path / "terminal"
    opened = os.open(file, os.O_CREAT | os.O_RDWR)
    yield opened, file
    os.close(opened)


def test_nothing_gets_through_and_afterwards_everything_does(
    descriptor: tuple[int, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Chatter is dropped; a complaint is repeated on stderr; the descriptor is what it was."""
    number, file = descriptor
    with hushed(number):
        os.write(number, b"INFO: I made a delegate\nERROR: no more memory\n\n")
        assert file.read_bytes() == b""
    assert file.read_bytes() == b""
    assert capsys.readouterr().err == "ERROR: no more memory\n"
    os.write(number, b"later")
    assert file.read_bytes() == b"later"


def test_an_error_inside_is_not_swallowed_and_the_descriptor_is_given_back(descriptor: tuple[int, Path]) -> None:
    """Whatever ends the picture, the terminal is whole again."""
    number, file = descriptor
    with pytest.raises(ValueError, match="inside"), hushed(number):
        raise ValueError("inside")
    os.write(number, b"later")
    assert file.read_bytes() == b"later"


def test_no_descriptor_is_left_open(descriptor: tuple[int, Path]) -> None:
    """A demo may be shown any number of times."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with hushed(descriptor[0]):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before
