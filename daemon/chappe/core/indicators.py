"""Lamps: which state the status lamp shows, and how it blinks.

`State` is the whole vocabulary, in order of precedence: of all states that hold, the lamp shows the first, and its pattern begins
at the moment it becomes the one shown. Nothing here knows a pin: the caller asks when the level changes next, and what it is then.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import Final

from chappe.core.buttons import Stage
from chappe.core.units import MILLISECOND, SECOND, Ns

Step = tuple[float, int]
"""A level, 0 (dark) to 1, and for how many nanoseconds."""

Pattern = tuple[Step, ...]
"""Steps that repeat; a pattern of one step never changes."""

_FADE_STEPS = 25


def blink(*seconds: float) -> Pattern:
    """On, off, on, off … for so many seconds each."""
    return tuple((float(place % 2 == 0), round(span * 1000) * MILLISECOND) for place, span in enumerate(seconds))


def flashes(count: int) -> Pattern:
    """`count` short flashes and a pause: ``count x (0.2 s on, 0.2 s off)`` + 1.2 s off."""
    return blink(*(0.2, 0.2) * (count - 1), 0.2, 1.4)


def fade(up: float, down: float) -> Pattern:
    """From dark to full in `up` seconds and back in `down`, in 25 steps each way; only a dimmable lamp can show it."""
    rise = [(step / _FADE_STEPS, round(up * SECOND) // _FADE_STEPS) for step in range(_FADE_STEPS)]
    fall = [(1 - step / _FADE_STEPS, round(down * SECOND) // _FADE_STEPS) for step in range(_FADE_STEPS)]
    return (*rise, *fall)


DARK: Final = blink(0, 1)[1:]


class State(enum.Enum):
    """What the status lamp can say: number (the precedence, 0 first), pattern, and whether quiet hours let it through.

    A finger on the button (0 and 1) gets its answer at night too.
    """

    BUTTON_HELD = 0, blink(7, 5), True  # begins at 3 s of the hold; RESET_COUNTDOWN takes over at 15 s
    RESET_COUNTDOWN = 1, blink(0.15, 0.05), True
    IDENTIFY = 2, blink(0.05, 0.05), True
    STARTING = 3, blink(0.1, 0.1), False
    UPDATING = 4, fade(1.0, 1.0), False
    ALERT = 5, blink(0.5, 0.5), True
    CONFIG_REJECTED = 6, flashes(7), False
    THERMAL = 7, flashes(8), False
    CAMERA_FAULT = 8, flashes(4), False
    OUTBOX_FULL = 9, flashes(3), False
    BROKER_REFUSES = 10, flashes(9), False
    NO_NETWORK = 11, flashes(1), False
    BROKER_UNREACHABLE = 12, flashes(2), False
    SENSOR_FAULT = 13, flashes(5), False
    CLOCK_UNSYNCED = 14, flashes(6), False
    CAMERA_OFF = 15, blink(0.8, 0.2, 0.2, 0.8), False
    HEALTHY = 16, blink(0.06, 4.94), False
    STOPPED = 17, DARK, False

    def __init__(self, number: int, pattern: Pattern, at_night: bool) -> None:
        self.number = number
        self.pattern = pattern
        self.at_night = at_night

    @property
    def label(self) -> str:
        """The word that status and health use, for example ``camera_fault``."""
        return self.name.lower()


# What a lamp that is only on or off shows instead.
_UNDIMMED: Final[Mapping[State, Pattern]] = {State.UPDATING: blink(1.0, 1.0)}

_FEEDBACK: Final[Mapping[Stage, State]] = {
    Stage.LIT: State.BUTTON_HELD,
    Stage.DARK: State.BUTTON_HELD,
    Stage.COUNTDOWN: State.RESET_COUNTDOWN,
}

SIGNAL_LAMPS: Final[Mapping[str, str]] = {"BUY": "green", "SELL": "red", "HOLD": "blue"}
"""The lamp that burns steadily while a signal is latched."""


def signal_levels(signal: str) -> dict[str, float]:
    """Level of each signal lamp while `signal` is latched; all dark for ``-`` and any other word.

    >>> signal_levels("SELL")
    {'green': 0.0, 'red': 1.0, 'blue': 0.0}
    """
    return {lamp: float(word == signal) for word, lamp in SIGNAL_LAMPS.items()}


class StatusLamp:
    """The status lamp. Times must not go back; `advance` reports what the other calls change.

    Args:
        pwm: whether the lamp can be dimmed.
        brightness: level of a fully lit lamp, 0 to 1; without `pwm` everything above 0 is 1.

    >>> lamp = StatusLamp()
    >>> lamp.set(State.NO_NETWORK, True, Ns(0))
    >>> lamp.advance(Ns(0)), lamp.due(), lamp.advance(Ns(200_000_000)), lamp.due()
    (1.0, 200000000, 0.0, 1600000000)
    """

    def __init__(self, *, pwm: bool = True, brightness: float = 1.0) -> None:
        self.level = 0.0
        self.shown: State | None = None
        self._pwm = pwm
        self._brightness = brightness
        self._quiet = False
        self._active: set[State] = set()
        self._until: dict[State, Ns] = {}
        self._now = Ns(0)
        self._since = Ns(0)
        self._steps: Pattern = DARK
        self._ends: tuple[int, ...] = (DARK[0][1],)
        # Asked after every event, changed by few.
        self._due: Ns | None = None
        self._due_known = False

    @property
    def active(self) -> tuple[State, ...]:
        """Every state that holds, in order of precedence, shown or not."""
        return tuple(sorted(self._active, key=_number))

    def set(self, state: State, on: bool, now: Ns) -> None:
        """A state begins or ends."""
        self._tell(now)
        (self._active.add if on else self._active.discard)(state)
        self._until.pop(state, None)
        self._choose(now)

    def clear(self, state: State, now: Ns) -> None:
        """A state ends."""
        self.set(state, False, now)

    def show_for(self, state: State, span: int, now: Ns) -> None:
        """A state holds for `span` nanoseconds from `now`, or longer if it already would."""
        self._tell(now)
        if state not in self._active or state in self._until:
            self._until[state] = Ns(max(now + span, self._until.get(state, 0)))
        self._active.add(state)
        self._choose(now)

    def follow(self, stage: Stage, now: Ns) -> None:
        """Answer a finger on the button."""
        wanted = _FEEDBACK.get(stage)
        for state in (State.BUTTON_HELD, State.RESET_COUNTDOWN):
            if (state in self._active) != (state is wanted):
                self.set(state, state is wanted, now)

    def dim(self, *, brightness: float, quiet: bool, now: Ns) -> None:
        """Change the brightness, and whether it is a quiet hour."""
        self._tell(now)
        self._brightness, self._quiet = brightness, quiet
        self._choose(now)

    def due(self) -> Ns | None:
        """When `advance` has to be called next: the next change of level, or the end of a state with a span."""
        if not self._due_known:
            self._due_known = True
            self._due = self._next()
        return self._due

    def _next(self) -> Ns | None:
        if self._target(self._now) != self.level:
            return self._now
        moments = [*self._until.values()]
        if len(self._steps) > 1:
            moments.append(Ns(self._now + self._left(self._now)))
        return min(moments, default=None)

    def advance(self, now: Ns) -> float | None:
        """The level from `now` on, if it changes; else None."""
        self._tell(now)
        level = self._target(now)
        if level == self.level:
            return None
        self.level = level
        return level

    def _tell(self, now: Ns) -> None:
        """Let time pass: states with a span end at their own time, however late the call."""
        self._due_known = False
        for state, end in sorted(self._until.items(), key=_second):
            if end <= now:
                del self._until[state]
                self._active.discard(state)
                self._choose(end)
        self._now = now

    def _choose(self, now: Ns) -> None:
        """Show the first of the states that hold; its pattern begins now if it was not shown before."""
        allowed = (state for state in self._active if state.at_night or not self._quiet)
        first = min(allowed, key=_number, default=None)
        if first is self.shown:
            return
        self.shown, self._since = first, now
        self._steps = DARK if first is None else first.pattern
        if first is not None and not self._pwm:
            self._steps = _UNDIMMED.get(first, first.pattern)
        self._ends = tuple(accumulate(span for _, span in self._steps))

    def _target(self, now: Ns) -> float:
        level = self._steps[bisect_right(self._ends, (now - self._since) % self._ends[-1])][0]
        return level * self._brightness if self._pwm else float(level * self._brightness > 0)

    def _left(self, now: Ns) -> int:
        """Nanoseconds until the next step."""
        phase = (now - self._since) % self._ends[-1]
        return self._ends[bisect_right(self._ends, phase)] - phase


def _number(state: State) -> int:
    return state.number


def _second(item: tuple[State, Ns]) -> Ns:
    return item[1]
