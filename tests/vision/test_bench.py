"""The bench of vision: what it measures and how it judges. No time is asserted here; `chappe bench vision` judges the ratios."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from chappe.bench import vision as bench
from chappe.bench.vision import Figure
from chappe.errors import EdgeError
from chappe.vision.palm import PalmDetector


def asked(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def figures(*values: tuple[float, float | None]) -> Any:
    def measure(*_: object, **__: object) -> Iterator[Figure]:
        for number, (value, limit) in enumerate(values):
            yield Figure(f"figure {number}", value, "ratio", limit)

    return measure


@pytest.mark.feature("VIS-08", breaks="chappe.bench.vision:run")
@pytest.mark.parametrize(
    ("values", "code"),
    [([(1.3, 1.4), (9.0, None)], 0), ([(1.4, 1.4)], 0), ([(1.2, 1.4), (1.71, 1.7)], 1), ([], 0)],
)
def test_a_figure_beyond_its_limit_fails_the_bench(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    values: list[tuple[float, float | None]],
    code: int,
) -> None:
    """Exit 1 if any limit is exceeded, in words and as JSON; figures without a limit are only shown."""
    monkeypatch.setattr(bench, "measure", figures(*values))
    assert bench.run(asked("--json")) == code
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] == (code == 0)
    assert [row["ok"] for row in told["figures"]] == [limit is None or value <= limit for value, limit in values]
    assert bench.run(asked()) == code
    assert ("FAILED" in capsys.readouterr().out) == (code == 1)


def test_the_limits_are_those_agreed() -> None:
    """A tracked frame: lite 1.4 and 1.7, full 1.3 and 1.5; idle 8 % and 45 %; memory 120 and 140 MB."""
    assert bench.TRACKED_LIMITS == {
        ("hands-lite", "opencv"): 1.4,
        ("hands-lite", "pillow"): 1.7,
        ("hands-full", "opencv"): 1.3,
        ("hands-full", "pillow"): 1.5,
    }
    assert (bench.STILL_LIMIT, bench.CHANGING_LIMIT) == (0.08, 0.45)
    assert bench.MEMORY_LIMITS_MB == {"pillow": 120, "opencv": 140}


def test_the_moving_sequence_has_122_different_steps(frames: dict[str, Any]) -> None:
    """There and back in steps of 4 px; the middle frame is the picture itself."""
    moving = bench.moving()
    assert len(moving) == 122
    assert np.array_equal(moving[30], frames["Open_Palm"])
    assert np.array_equal(moving[60], moving[61])
    assert all(not np.array_equal(one, other) for one, other in itertools.pairwise(moving[:61]))


def test_what_is_measured_is_tracking_alone(contents_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One palm search before the clock starts, then none: CPU and wall ratios and times, the CPU ratio judged."""
    contents_of("hands-lite")
    runs: list[int] = []
    search = PalmDetector.detect
    monkeypatch.setattr(PalmDetector, "detect", lambda *args: runs.append(1) or search(*args))
    found = list(bench.tracked("hands-lite", "pillow", 1, None, 1))
    assert len(runs) == 1
    assert [(figure.unit, figure.limit) for figure in found] == [
        ("ratio", 1.7),
        ("ratio", None),
        ("ms", None),
        ("ms", None),
    ]
    assert all(np.isfinite(figure.value) and figure.value > 0 for figure in found)


@pytest.mark.feature("VIS-08", breaks="chappe.vision.gate:samples")
def test_the_scenes_are_what_they_are_called(contents_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The still scene is searched 0.2 times a second, the changing one twice, and neither shows a hand."""
    contents_of("hands-lite")
    monkeypatch.setattr(bench, "IDLE_FRAMES", 100)
    found = list(bench.idle("hands-lite", "pillow", None, 1))
    assert [figure.value for figure in found if figure.unit == "Hz"] == [0.2, 2.0]
    assert [figure.limit for figure in found if figure.unit == "ratio"] == [0.08, 0.45]


def test_a_hand_that_is_lost_spoils_the_measurement() -> None:
    """Frames without a hand would be cheap, so losing it is an error and not a good figure."""

    class Blind:
        def process(self, frame: object, now_ns: int) -> list[object]:
            return []

    blind: Any = Blind()
    with pytest.raises(EdgeError, match="the hand was lost"):
        bench._follow(blind, [np.zeros((4, 4, 3), np.uint8)], iter(range(10)))
