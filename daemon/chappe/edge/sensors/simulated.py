"""The driver ``simulated``: a repeatable wave, for trying things out without a sensor and for tests.

Every reading is a function of its number, of the settings and of the seed alone. The wall clock has no part in it, so two runs
with the same settings read the same values, whatever the machine did in between.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import count

from chappe.core.calibration import Value
from chappe.core.settings import Sensor

WALK_STEP = 0.05
"""Longest step of ``random_walk``, as a share of the span from low to high."""


class Simulated:
    """Reads ``counter``, ``sine``, ``square``, ``random_walk`` or ``noise``."""

    def __init__(self) -> None:
        self._next: Callable[[], Value] | None = None

    def open(self, sensor: Sensor) -> None:
        numbers = count()
        wave = _WAVES[sensor.wave](sensor)
        self._next = lambda: wave(next(numbers))

    def read(self) -> Value:
        assert self._next is not None, "read before open"
        return self._next()

    def close(self) -> None:
        self._next = None


Wave = Callable[[int], Value]


def _counter(_sensor: Sensor) -> Wave:
    return lambda n: n


def _sine(sensor: Sensor) -> Wave:
    """From the middle upwards, one turn per `period`."""
    middle, swing = (sensor.low + sensor.high) / 2, (sensor.high - sensor.low) / 2
    return lambda n: middle + swing * math.sin(math.tau * _phase(n, sensor))


def _square(sensor: Sensor) -> Wave:
    """The first half of each `period` high, the second low."""
    return lambda n: sensor.high if _phase(n, sensor) < 0.5 else sensor.low


def _phase(n: int, sensor: Sensor) -> float:
    """How much of its period the wave has behind it at reading `n`, 0..1; exact, as both times are whole nanoseconds."""
    return (n * sensor.every % sensor.period) / sensor.period


def _noise(sensor: Sensor) -> Wave:
    # `random()` is the one method whose sequence Python promises to keep for a seed.
    chance = random.Random(sensor.seed)  # noqa: S311 - a wave, no secret
    return lambda _n: sensor.low + (sensor.high - sensor.low) * chance.random()


def _random_walk(sensor: Sensor) -> Wave:
    """From the middle, in even steps of at most `WALK_STEP` of the span, held back at the ends."""
    chance = random.Random(sensor.seed)  # noqa: S311 - a wave, no secret
    span = sensor.high - sensor.low
    at = [(sensor.low + sensor.high) / 2]

    def step(n: int) -> Value:
        if n:
            moved = at[0] + (2 * chance.random() - 1) * WALK_STEP * span
            at[0] = min(sensor.high, max(sensor.low, moved))
        return at[0]

    return step


_WAVES: dict[str, Callable[[Sensor], Wave]] = {
    "counter": _counter,
    "sine": _sine,
    "square": _square,
    "noise": _noise,
    "random_walk": _random_walk,
}
