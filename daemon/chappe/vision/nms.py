"""Non-maximum suppression: of boxes that mean the same thing, one stays.

`greedy` drops what overlaps a better box (as in handtrack.js); `weighted` blends a group into one (as MediaPipe's
``non_max_suppression_calculator.cc`` with algorithm WEIGHTED), which steadies the box of a palm.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]


def overlaps(box: Floats, boxes: Floats) -> Floats:
    """Intersection over union of one box with each of many.

    Args:
        box: (4,) left, top, right, bottom.
        boxes: (n, 4).
    """
    sides = np.clip(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0, None)
    both = sides[:, 0] * sides[:, 1]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    union = (box[2] - box[0]) * (box[3] - box[1]) + areas - both
    ratios: Floats = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
    return ratios


def greedy(boxes: Floats, scores: Floats, *, iou: float, score: float = 0.0, limit: int | None = None) -> list[int]:
    """Rows that stay when each box must not overlap a better one that stays.

    Args:
        boxes: (n, 4) left, top, right, bottom.
        scores: (n,).
        iou: a box whose intersection over union with a better one is above this is dropped.
        score: boxes below this are never kept.
        limit: at most so many; None for all.

    Returns:
        Row numbers, best first; of equal scores the earlier row first.
    """
    order = np.argsort(-scores, kind="stable")
    rows = order[scores[order] >= score]
    kept: list[int] = []
    while rows.size and (limit is None or len(kept) < limit):
        best = rows[0]
        kept.append(int(best))
        rest = rows[1:]
        rows = rest[overlaps(boxes[best], boxes[rest]) <= iou]
    return kept


def weighted(values: Floats, scores: Floats, *, iou: float, limit: int | None = None) -> tuple[Floats, Floats]:
    """Blend each group of overlapping boxes into its score-weighted mean.

    Args:
        values: (n, 4 or more); the first four columns are left, top, right, bottom, the others are blended with them.
        scores: (n,), positive.
        iou: boxes that overlap the best remaining one by more than this belong to its group.
        limit: at most so many groups; None for all.

    Returns:
        (m, columns of values) and (m,): a row per group and the best score in it, best first.
    """
    rows = np.argsort(-scores, kind="stable")
    blended: list[Floats] = []
    best_scores: list[float] = []
    while rows.size and (limit is None or len(blended) < limit):
        best = rows[0]
        near = overlaps(values[best, :4], values[rows, :4]) > iou
        near[0] = True  # a box without area overlaps nothing, not even itself
        group = rows[near]
        weights = scores[group]
        blended.append((weights @ values[group]) / weights.sum())
        best_scores.append(float(scores[best]))
        rows = rows[~near]
    return np.array(blended, values.dtype).reshape(-1, values.shape[1]), np.array(best_scores, scores.dtype)
