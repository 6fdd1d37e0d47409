"""When is a palm search worth its cost? An appliance sees no hand for most of its life, and searching costs more than following.

While no hand is seen the search runs at a low rate, and at a much lower one while the picture stands still. "Still" is judged cell by
cell of an 8 x 6 grid against the picture of the last search. Against the frame before, a hand that comes and is then held would be one
change and be missed until the slow search; against the last search it stays a change until it has been looked at.

A cell has changed when its mean absolute difference exceeds what noise explains. How much noise there is, is learnt from consecutive
frames: the median over the cells ignores what moves in less than half of them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from chappe.vision.geometry import Frame

Floats = npt.NDArray[np.float32]

ROWS, COLUMNS = 6, 8
SAMPLES = 10
"""Samples per side of a cell. A 60 x 60 hand in the corner of four 80 x 80 cells still covers at least 9 of a cell's 100."""
LEAST_CHANGE = 1.0
"""Grey levels of mean absolute difference beyond the noise: that hand at a contrast of 11 in a picture without noise."""
RELATIVE_CHANGE = 0.3
"""Share of the noise: the mean over a cell's 300 values strays by 4.4 % of it, so chance alone gets there once in centuries."""
MOST_NOISE = 6.0
"""Grey levels of mean absolute difference between two frames: pixel noise of 5.3. More is movement, however often it happens."""
LEARNING_UP, LEARNING_DOWN = 0.1, 0.3
"""Share of the newest frame in the running noise estimate; quicker downwards, so that one shake does not blind the gate for long."""
SECOND = 1_000_000_000


class Gate:
    """Decides, frame by frame, whether to search for palms. It holds the times it was given and never reads a clock.

    Args:
        idle_ns: least time between two searches while no hand is seen.
        still_ns: a search runs after this time even if the picture stands still.
    """

    def __init__(self, idle_ns: int = SECOND // 2, still_ns: int = 5 * SECOND) -> None:
        self._idle_ns = idle_ns
        self._still_ns = still_ns
        self._searched: Floats | None = None
        self._before: Floats | None = None
        self._before_ns = 0
        self._noise: float | None = None
        self._moved = False
        self._last_ns = 0
        self._next_ns = 0

    def due(self, rgb: Frame, now_ns: int, *, force: bool = False) -> bool:
        """Whether to search this frame; if so, the frame becomes the picture that later ones are compared with.

        Args:
            rgb: (H, W, 3) uint8.
            now_ns: monotonic time of the frame.
            force: search in any case, for example because a hand was just lost.
        """
        picture = samples(rgb)
        if self._searched is None:
            self._next_ns = now_ns
        self._look(picture, now_ns)
        waited = now_ns - self._last_ns >= self._still_ns
        if not force and (now_ns < self._next_ns or not (self._moved or waited)):
            return False
        self._searched, self._moved, self._last_ns = picture, False, now_ns
        # Keeping the phase holds the mean rate when frames do not fall on the interval; a gap starts a new phase.
        self._next_ns += self._idle_ns
        if self._next_ns <= now_ns or force:
            self._next_ns = now_ns + self._idle_ns
        return True

    def _look(self, picture: Floats, now_ns: int) -> None:
        """Note a change since the last search, and learn the noise."""
        found = self._noise_of(picture, now_ns)
        if self._noise is None:
            self._noise = found
        if self._searched is None or self._searched.shape != picture.shape:
            self._moved = True
        elif not self._moved:
            # A change is remembered: the noise estimate that it inflates must not hide it from the next frame.
            noise = self._noise or 0.0
            change = float(difference(picture, self._searched).max())
            self._moved = change > noise + max(LEAST_CHANGE, RELATIVE_CHANGE * noise)
        if self._noise is not None and found is not None:
            self._noise += (LEARNING_UP if found > self._noise else LEARNING_DOWN) * (found - self._noise)

    def _noise_of(self, picture: Floats, now_ns: int) -> float | None:
        """The noise between this frame and the one before; None if that was long ago or of another shape."""
        before, age = self._before, now_ns - self._before_ns
        self._before, self._before_ns = picture, now_ns
        if before is None or before.shape != picture.shape or age > SECOND:
            return None
        return min(_median(difference(picture, before)), MOST_NOISE)


def samples(rgb: Frame) -> Floats:
    """About 60 x 80 pixels spread over a frame, as rows of red, green, blue, red, …: (rows, 3 x columns) float32.

    Args:
        rgb: (H, W, 3) uint8.
    """
    height, width = rgb.shape[:2]
    step = max(1, min(height // (ROWS * SAMPLES), width // (COLUMNS * SAMPLES)))
    picked = rgb[step // 2 :: step, step // 2 :: step].astype(np.float32)
    return picked.reshape(picked.shape[0], -1)


def difference(one: Floats, other: Floats) -> Floats:
    """Mean absolute difference of two sampled pictures in each cell of the grid, (6, 8) grey levels.

    Args:
        one: what `samples` gave.
        other: the same of another frame of that size.
    """
    apart = np.abs(one - other)
    rows, columns = _grid(ROWS, one.shape[0]), _grid(COLUMNS, one.shape[1] // 3, 3)
    cells: Floats = rows @ apart @ columns.T
    return cells


def _median(values: Floats) -> float:
    # The upper median, by one partition: numpy's own median takes six times as long over so few values.
    middle = values.size // 2
    return float(np.partition(values.ravel(), middle)[middle])


@lru_cache(maxsize=8)
def _grid(cells: int, count: int, repeat: int = 1) -> Floats:
    """Matrix (cells, count * repeat) that averages over each cell; matrix products are numpy's fastest way to sum small blocks."""
    owner = np.repeat(np.arange(count) * cells // max(count, 1), repeat)
    members = (owner == np.arange(cells)[:, np.newaxis]).astype(np.float32)
    averages: Floats = members / np.maximum(members.sum(axis=1, keepdims=True), 1)
    return averages
