"""Buttons: from the raw edges of a contact to presses.

Debouncing. Edges closer than 30 ms are one. A press counts from its first edge, so that no tap is too short; a release counts only
once the contact has been open and quiet for 30 ms, with the time of the first edge of that bounce, so that noise inside a hold does
not end it. A stage acts on release, except `reset`, which needs a contact that is still closed, and quiet, at 20 s.

=============  ==================================================================================================
press          when (times run from the press)
=============  ==================================================================================================
`short`        released before 1 s, no second press within 0.4 s of the release
`double`       two such, the second begins at most 0.4 s after the first release; a third press starts anew
`cancelled`    released in 1 to 3 s, or in 15 to 20 s; means nothing and is not published
`long`         released in 3 to 10 s
`very_long`    released in 10 to 15 s
`reset`        still held at 20 s
=============  ==================================================================================================

A second press that is not short counts alone, and the `short` before it is not sent.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Mapping
from typing import Final

from chappe.core.units import MILLISECOND, SECOND, Ns

BOUNCE: Final = 30 * MILLISECOND
RESET_AFTER: Final = 20 * SECOND

# "Within 0.4 s" includes the instant itself, and a timer fires before an edge of the same instant.
_LAPSE: Final = 400 * MILLISECOND + 1


class Press(enum.StrEnum):
    """What a button said."""

    SHORT = "short"
    DOUBLE = "double"
    CANCELLED = "cancelled"
    LONG = "long"
    VERY_LONG = "very_long"
    RESET = "reset"


class Stage(enum.StrEnum):
    """What the status lamp shows while a button is held."""

    NONE = "none"
    LIT = "lit"
    DARK = "dark"
    COUNTDOWN = "countdown"


# Of each stage of a hold: from when on it runs, what the lamp shows, what a release means.
_HOLD: Final = (
    (0 * SECOND, Stage.NONE, Press.SHORT),
    (1 * SECOND, Stage.NONE, Press.CANCELLED),
    (3 * SECOND, Stage.LIT, Press.LONG),
    (10 * SECOND, Stage.DARK, Press.VERY_LONG),
    (15 * SECOND, Stage.COUNTDOWN, Press.CANCELLED),
)
_BEGINS: Final = tuple(begin for begin, _, _ in _HOLD)
_SHOWN: Final = tuple(begin for begin, stage, _ in _HOLD if stage is not Stage.NONE)


class _At(enum.Enum):
    """Where in the grammar a button is."""

    REST = enum.auto()
    FIRST = enum.auto()
    """Pressed."""
    BETWEEN = enum.auto()
    """One short press so far, and a second may follow."""
    SECOND = enum.auto()
    """Pressed again."""
    SPENT = enum.auto()
    """Still held after a reset: this release means nothing."""


class _Input(enum.Enum):
    PRESSED = enum.auto()
    LAPSED = enum.auto()


# Place in the grammar and input (a release by its meaning), to next place and what is said.
_GRAMMAR: Final[Mapping[tuple[_At, _Input | Press], tuple[_At, Press | None]]] = {
    (_At.REST, _Input.PRESSED): (_At.FIRST, None),
    (_At.FIRST, Press.SHORT): (_At.BETWEEN, None),
    (_At.FIRST, Press.CANCELLED): (_At.REST, Press.CANCELLED),
    (_At.FIRST, Press.LONG): (_At.REST, Press.LONG),
    (_At.FIRST, Press.VERY_LONG): (_At.REST, Press.VERY_LONG),
    (_At.FIRST, Press.RESET): (_At.SPENT, Press.RESET),
    (_At.BETWEEN, _Input.LAPSED): (_At.REST, Press.SHORT),
    (_At.BETWEEN, _Input.PRESSED): (_At.SECOND, None),
    (_At.SECOND, Press.SHORT): (_At.REST, Press.DOUBLE),
    (_At.SECOND, Press.CANCELLED): (_At.REST, Press.CANCELLED),
    (_At.SECOND, Press.LONG): (_At.REST, Press.LONG),
    (_At.SECOND, Press.VERY_LONG): (_At.REST, Press.VERY_LONG),
    (_At.SECOND, Press.RESET): (_At.SPENT, Press.RESET),
    (_At.SPENT, Press.CANCELLED): (_At.REST, None),
}
_HELD: Final = (_At.FIRST, _At.SECOND)


class Button:
    """One button. Times must not go back.

    >>> button = Button()
    >>> button.edge(True, Ns(0)), button.edge(False, Ns(4 * SECOND))
    ([], [])
    >>> button.due() == 4 * SECOND + BOUNCE
    True
    >>> button.expire(Ns(4 * SECOND + BOUNCE))
    [<Press.LONG: 'long'>]
    """

    def __init__(self) -> None:
        self._place = _At.REST
        self._closed = False
        self._now = Ns(0)
        self._last_edge = Ns(0)
        self._pressed = Ns(0)
        # When the contact opened, while it is not yet known whether that is a release or noise.
        self._opened: Ns | None = None
        self._lapses = Ns(0)

    def edge(self, down: bool, now: Ns) -> list[Press]:
        """The contact closed (`down`) or opened at `now`; timers that are due by then fire first.

        An edge to the level the contact already has is ignored: a button that is held while the daemon starts is first heard of
        when it is let go, and that is no press.
        """
        presses = self.expire(now)
        if down == self._closed:
            return presses
        self._closed, self._last_edge = down, now
        if down and self._place in (_At.REST, _At.BETWEEN):
            self._pressed = now
            presses += self._step(_Input.PRESSED)
        elif not down and self._opened is None:
            self._opened = now
        return presses

    def due(self) -> Ns | None:
        """When `expire` has to be called next, or the stage changes; None while neither lies ahead."""
        timer = self._timer()
        if self._place not in _HELD or self._opened is not None:
            return timer
        ahead = (Ns(self._pressed + begin) for begin in _SHOWN if self._pressed + begin > self._now)
        return min((moment for moment in (timer, *ahead) if moment is not None), default=None)

    def expire(self, now: Ns) -> list[Press]:
        """What follows from time alone, up to `now`."""
        presses: list[Press] = []
        while (timer := self._timer()) is not None and timer <= now:
            presses += self._fire()
        self._now = now
        return presses

    def stage(self, now: Ns) -> Stage:
        """What the status lamp shows at `now`; ask after `expire`."""
        if self._place not in _HELD:
            return Stage.NONE
        until = now if self._opened is None else self._opened
        return _HOLD[bisect_right(_BEGINS, until - self._pressed) - 1][1]

    def _timer(self) -> Ns | None:
        if self._opened is not None:
            return Ns(self._last_edge + BOUNCE)
        if self._place is _At.BETWEEN:
            return self._lapses
        return Ns(self._pressed + RESET_AFTER) if self._place in _HELD else None

    def _fire(self) -> list[Press]:
        opened, self._opened = self._opened, None
        if opened is None:
            return self._step(_Input.LAPSED if self._place is _At.BETWEEN else Press.RESET)
        if self._closed:
            return []
        self._lapses = Ns(opened + _LAPSE)
        return self._step(_HOLD[bisect_right(_BEGINS, opened - self._pressed) - 1][2])

    def _step(self, heard: _Input | Press) -> list[Press]:
        self._place, said = _GRAMMAR[self._place, heard]
        return [] if said is None else [said]
