"""`chappe replay`: the same effects, the first difference, or a file that is no recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chappe.testing import Tower

CONFIG = '[sensors.tick]\ndriver = "simulated"\nwave = "counter"\nevery = "1s"\n[signals]\nVictory = "BUY"\n'


@pytest.fixture
def lines() -> list[bytes]:
    """Ten seconds of a tower with a link, a sensor and a gesture."""
    tower = Tower(CONFIG)
    tower.link_up()
    tower.advance(5)
    for _ in range(4):
        tower.see("Victory")
        tower.advance(0.1)
    tower.advance(5)
    return tower.lines


@pytest.fixture
def recording(tmp_path: Path, lines: list[bytes]) -> Path:
    return written(tmp_path, lines)


def written(folder: Path, lines: list[bytes]) -> Path:
    file = folder / "run.jsonl"
    file.write_bytes(b"".join(lines))
    return file


def with_effects(line: bytes, effects: list[Any]) -> bytes:
    """The same step as if it had had other effects."""
    return json.dumps({**json.loads(line), "effects": effects}, separators=(",", ":")).encode() + b"\n"


def test_a_recording_replays_to_the_same_effects(chappe: Any, recording: Path, lines: list[bytes]) -> None:
    """Exit 0 and one line with the number of steps and boots."""
    ran = chappe("replay", recording)
    assert (ran.code, ran.out, ran.err) == (0, f"same effects: {len(lines)} steps, 1 boots\n", "")
    assert chappe("replay", recording, "--json").json == {
        "same": True,
        "steps": len(lines),
        "boots": 1,
        "difference": None,
    }


def test_a_file_may_hold_several_boots(chappe: Any, tmp_path: Path, lines: list[bytes]) -> None:
    """The daemon appends; each boot begins with an engine of its own."""
    ran = chappe("replay", written(tmp_path, lines * 3), "--json")
    assert (ran.json["steps"], ran.json["boots"]) == (3 * len(lines), 3)


@pytest.mark.feature("OPS-02", breaks="chappe.record:_difference")
def test_the_first_difference_is_told_and_ends_with_1(chappe: Any, tmp_path: Path, lines: list[bytes]) -> None:
    """Line, event, what was recorded and what was found; later differences are not looked for."""
    wanted = next(number for number, line in enumerate(lines) if b'"type":"Seen"' in line and b"BUY" in line)
    for number in (wanted, len(lines) - 1):
        lines[number] = with_effects(lines[number], [])
    ran = chappe("replay", written(tmp_path, lines))
    assert ran.code == 1
    told = ran.out.splitlines()
    assert told[0] == f"line {wanted + 1}: the effects are not those recorded"
    assert [line.split()[0] for line in told[1:]] == ["event", "expected", "found"]
    assert '"Seen"' in told[1]
    assert told[2].endswith("[]")
    assert "BUY" in told[3]
    difference = chappe("replay", tmp_path / "run.jsonl", "--json").json["difference"]
    assert (difference["line"], difference["expected"]) == (wanted + 1, "[]")


def test_until_ends_before_a_later_difference(chappe: Any, tmp_path: Path, lines: list[bytes]) -> None:
    """`--until N` replays N steps and no more."""
    lines[4] = with_effects(lines[4], [{"type": "Drive", "pin": "status", "level": 0.5}])
    recording = written(tmp_path, lines)
    assert chappe("replay", recording, "--until", "4", "--json").json["steps"] == 4
    assert chappe("replay", recording, "--until", "5").code == 1


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_until_wants_a_number_of_steps(chappe: Any, recording: Path, number: str) -> None:
    """Anything else is wrong usage."""
    assert chappe("replay", recording, "--until", number).code == 2


def test_effects_are_printed_as_json_lines(chappe: Any, recording: Path, lines: list[bytes]) -> None:
    """Every effect of every step, in order, and nothing else on stdout."""
    ran = chappe("replay", recording, "--effects")
    recorded = [effect for line in lines for effect in json.loads(line)["effects"]]
    assert ran.lines == recorded
    assert ran.err.startswith("same effects")
    assert chappe("replay", recording, "--effects", "--json").lines[-1]["same"] is True


def test_a_line_cut_off_by_a_kill_is_passed_over(chappe: Any, tmp_path: Path, lines: list[bytes]) -> None:
    """At the end of the file, and before the next boot."""
    torn = [*lines, lines[-1][:20], b"\n", *lines, lines[-1][:20]]
    assert chappe("replay", written(tmp_path, torn), "--json").json["steps"] == 2 * len(lines)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no step"),
        (b"no json\n{}\n", "line 1 is no step"),
        (b'{"event":{"type":"Tick","at":1},"effects":[]}\n', "before any boot"),
        (None, "cannot be read"),
    ],
    ids=["empty", "garbage", "no boot", "a folder"],
)
def test_what_is_no_recording_is_74(chappe: Any, tmp_path: Path, content: bytes | None, words: str) -> None:
    """Told on stderr, without a traceback."""
    file = tmp_path / "run.jsonl"
    file.mkdir() if content is None else file.write_bytes(content)
    ran = chappe("replay", file)
    assert (ran.code, ran.out) == (74, "")
    assert words in ran.err
    assert str(file) in ran.err
    assert "remedy: name a file" in ran.err
    assert "Traceback" not in ran.err


def test_a_missing_file_is_74_with_a_remedy(chappe: Any, tmp_path: Path) -> None:
    """The file is named, and how one is made."""
    ran = chappe("replay", tmp_path / "nowhere.jsonl")
    assert ran.code == 74
    assert "nowhere.jsonl cannot be read: No such file" in ran.err
    assert "--record" in ran.err
