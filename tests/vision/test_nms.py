"""Non-maximum suppression against a brute-force reading of the rules."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from chappe.vision import nms
from chappe.vision.geometry import overlap

Floats = npt.NDArray[np.floating[Any]]

SETS = 1000


def random_set(seed: int) -> tuple[Floats, Floats, float]:
    """Up to 30 boxes with 4 more columns, distinct scores, and a threshold."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 31))
    corners = rng.uniform(0, 100, (count, 2))
    sides = rng.uniform(1, 60, (count, 2))
    extra = rng.uniform(-5, 5, (count, 4))
    scores = rng.permutation(count) / 40 + 0.1
    return np.concatenate((corners, corners + sides, extra), axis=1), scores, float(rng.uniform(0.1, 0.9))


def iou(one: Floats, other: Floats) -> float:
    """Intersection over union, with plain floats."""
    return overlap(*(tuple(float(value) for value in box[:4]) for box in (one, other)))  # type: ignore[arg-type]


def brute_greedy(boxes: Floats, scores: Floats, threshold: float, least: float, limit: int | None) -> list[int]:
    kept: list[int] = []
    for row in sorted(range(len(scores)), key=lambda row: -scores[row]):
        if scores[row] >= least and all(iou(boxes[row], boxes[other]) <= threshold for other in kept):
            kept.append(row)
    return kept[:limit]


def brute_weighted(values: Floats, scores: Floats, threshold: float) -> list[tuple[list[float], float]]:
    left = sorted(range(len(scores)), key=lambda row: -scores[row])
    groups = []
    while left:
        group = [row for row in left if row == left[0] or iou(values[left[0]], values[row]) > threshold]
        total = sum(scores[row] for row in group)
        mean = [sum(scores[row] * values[row][column] for row in group) / total for column in range(values.shape[1])]
        groups.append((mean, scores[left[0]]))
        left = [row for row in left if row not in group]
    return groups


# ---- greedy ----------------------------------------------------------------------------------------------------------


@pytest.mark.feature("VIS-04", breaks="chappe.vision.nms:greedy")
def test_of_five_raw_boxes_two_stay() -> None:
    """Scores .95 .93 .91 .60 .40, the first two at IoU .5; least score .9, IoU .2, at most 2: boxes 1 and 3 stay."""
    boxes = np.array(
        [(0, 0, 30, 10), (10, 0, 40, 10), (100, 0, 130, 10), (200, 0, 230, 10), (300, 0, 330, 10)], np.float64
    )
    scores = np.array([0.95, 0.93, 0.91, 0.60, 0.40])
    assert iou(boxes[0], boxes[1]) == pytest.approx(0.5)
    assert nms.greedy(boxes, scores, iou=0.2, score=0.9, limit=2) == [0, 2]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"iou": 0.2}, [0, 2, 3, 4]),
        ({"iou": 0.6}, [0, 1, 2, 3, 4]),
        ({"iou": 0.2, "score": 0.5}, [0, 2, 3]),
        ({"iou": 0.2, "limit": 1}, [0]),
        ({"iou": 0.2, "score": 0.99}, []),
        ({"iou": 0.2, "limit": 0}, []),
    ],
)
def test_each_threshold_does_its_part(settings: dict[str, Any], kept: list[int]) -> None:
    """IoU, least score and number each change what stays, and only that."""
    boxes = np.array(
        [(0, 0, 30, 10), (10, 0, 40, 10), (100, 0, 130, 10), (200, 0, 230, 10), (300, 0, 330, 10)], np.float64
    )
    assert nms.greedy(boxes, np.array([0.95, 0.93, 0.91, 0.60, 0.40]), **settings) == kept


@pytest.mark.feature("VIS-04", breaks="chappe.vision.nms:overlaps")
def test_greedy_keeps_what_brute_force_keeps() -> None:
    """1,000 random sets: the same rows, in the same order."""
    for seed in range(SETS):
        boxes, scores, threshold = random_set(seed)
        limit = None if seed % 3 else 2
        expected = brute_greedy(boxes, scores, threshold, 0.3, limit)
        assert nms.greedy(boxes[:, :4], scores, iou=threshold, score=0.3, limit=limit) == expected, seed


def test_equal_scores_keep_their_order() -> None:
    """Of two equally good boxes the earlier one stays, so that a result does not depend on the sort."""
    boxes = np.array([(0, 0, 10, 10), (1, 0, 11, 10)], np.float64)
    assert nms.greedy(boxes, np.array([0.7, 0.7]), iou=0.3) == [0]


# ---- weighted --------------------------------------------------------------------------------------------------------


@pytest.mark.feature("VIS-04", breaks="chappe.vision.nms:weighted")
def test_weighted_gives_what_brute_force_gives() -> None:
    """1,000 random sets: the same groups, blended within 1e-6, carrying the best score."""
    for seed in range(SETS):
        values, scores, threshold = random_set(seed)
        blended, best = nms.weighted(values, scores, iou=threshold)
        expected = brute_weighted(values, scores, threshold)
        assert len(blended) == len(expected), seed
        for (mean, score), row, found in zip(expected, blended, best, strict=True):
            assert np.abs(row - mean).max() < 1e-6, seed
            assert found == score, seed


def test_a_limit_cuts_the_groups_and_not_their_members() -> None:
    """The first group is the same blend whether or not others are asked for."""
    values, scores, threshold = random_set(5)
    every, _ = nms.weighted(values, scores, iou=threshold)
    first, best = nms.weighted(values, scores, iou=threshold, limit=1)
    assert first.shape == (1, 8)
    assert (first[0] == every[0]).all()
    assert best[0] == scores.max()


@pytest.mark.parametrize("limit", [None, 1, 2])
def test_boxes_without_area_are_groups_of_their_own(limit: int | None) -> None:
    """They overlap nothing, not even themselves, and must not keep the search from ending."""
    values = np.zeros((3, 4))
    blended, best = nms.weighted(values, np.array([0.3, 0.2, 0.1]), iou=0.3, limit=limit)
    assert len(blended) == len(best) == (limit or 3)


def test_nothing_in_gives_nothing_out() -> None:
    blended, best = nms.weighted(np.zeros((0, 18)), np.zeros(0), iou=0.3)
    assert blended.shape == (0, 18)
    assert best.shape == (0,)
    assert nms.greedy(np.zeros((0, 4)), np.zeros(0), iou=0.3) == []


def test_overlaps_agree_with_the_scalar_form() -> None:
    values, _, _ = random_set(9)
    for one, other in itertools.product(range(len(values)), repeat=2):
        found = nms.overlaps(values[one, :4], values[[other], :4])[0]
        assert found == pytest.approx(iou(values[one], values[other]))
