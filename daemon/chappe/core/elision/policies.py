"""The policies: each looks at one arrival of one key and says what becomes of it.

A policy never sends or counts; `Elider` does. It may set the deadline of the slot, which matters only while a value is held.
"""

from __future__ import annotations

import abc
import enum
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from chappe.core.elision.config import Elide
from chappe.core.elision.values import NEVER, OPEN, Slot, number
from chappe.core.units import Ns

# A reader of the configuration expects 0.2 -> 0.7 to be a step of 0.5, which binary floats miss by one part in 10^16.
_ROUNDING: Final = 1e-9

_ABSENT: Final = object()


class Verdict(enum.IntEnum):
    """What becomes of an arrival; the number is the index into the elider's actions."""

    HOLD = 0
    """It waits, and a value that waited before is dropped."""
    SEND = 1
    """It goes out, and a value that waited is dropped."""
    DROP = 2
    """It is dropped, and so is a value that waited."""
    TURN = 3
    """The value that waited goes out as a corner of the trend, and this one waits."""


HOLD, SEND, DROP, TURN = Verdict


class Policy(abc.ABC):
    """A policy of elision.

    Attributes:
        keyed: whether keys are told apart.
        period: the policy's own interval, which also says when a key is idle; None if it has none.
        sums_up: whether a release stands for all the values since the first that waits.
    """

    keyed = True
    period: int | None = None
    sums_up = False

    def __init__(self, elide: Elide) -> None:
        self.elide = elide

    @abc.abstractmethod
    def judge(self, slot: Slot, data: Mapping[str, Any], now: Ns, /) -> Verdict:
        """What becomes of `data`, which arrives at `now`."""

    def render(self, slot: Slot) -> Mapping[str, Any]:
        """The data that goes out when the held value is released."""
        assert slot.held is not None
        return slot.held

    def stretch(self, factor: int) -> None:  # noqa: B027 - most policies have no interval
        """Multiply the interval, where there is one, by `factor`."""


class Everything(Policy):
    """All values, of whatever key."""

    keyed = False

    def judge(self, _slot: Slot, _data: Mapping[str, Any], _now: Ns, /) -> Verdict:
        return SEND


def _span(value: int | None) -> int:
    """A parameter that the policy requires.

    Raises:
        ValueError: if it is absent; `config.problems` says so in the words of the configuration.
    """
    if value is None:
        raise ValueError("a required parameter of the policy is missing; check with chappe.core.elision.problems()")
    return value


class _Every(Policy):
    """Policies with one interval."""

    def __init__(self, elide: Elide) -> None:
        super().__init__(elide)
        self._configured = _span(elide.every)
        self.every = self.period = self._configured

    def stretch(self, factor: int) -> None:
        self.every = self.period = self._configured * factor


class Latest(_Every):
    """The first at once, then the newest, once per `every`."""

    def judge(self, slot: Slot, _data: Mapping[str, Any], now: Ns, /) -> Verdict:
        deadline = slot.sent_at + self.every
        if slot.sent is None or now >= deadline:
            return SEND
        slot.deadline = Ns(deadline)
        return HOLD


class ThrottleFirst(_Every):
    """The first of each `every`."""

    def judge(self, slot: Slot, _data: Mapping[str, Any], now: Ns, /) -> Verdict:
        return SEND if slot.sent is None or now >= slot.sent_at + self.every else DROP


class Sample(_Every):
    """The newest at each tick; the ticks are the same for all keys, and begin with the first arrival of the stream."""

    def __init__(self, elide: Elide) -> None:
        super().__init__(elide)
        self._tick: int | None = None

    def judge(self, slot: Slot, _data: Mapping[str, Any], now: Ns, /) -> Verdict:
        tick = now if self._tick is None else self._tick
        if tick <= now:
            tick += ((now - tick) // self.every + 1) * self.every
            self._tick = tick
        slot.deadline = Ns(tick)
        return HOLD


class Aggregate(Sample):
    """One summary per window between two ticks; fields other than ``value`` are those of the newest value."""

    sums_up = True

    def render(self, slot: Slot) -> Mapping[str, Any]:
        assert slot.held is not None
        return summed_up(slot, slot.first, slot.held)


def summed_up(slot: Slot, first: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    """The summary of the tally and `last`, as `aggregate` sends it; enters `last` into the tally."""
    slot.drop(last)
    whole = slot.summary()
    assert whole is not None
    rendered: dict[str, Any] = {"count": whole.n}
    if whole.mean is not None:
        rendered |= {"min": whole.min, "max": whole.max, "mean": whole.mean}
    if "value" in last:
        rendered |= {"first": first.get("value"), "last": last["value"]}
    return rendered | {field: value for field, value in last.items() if field not in rendered and field != "value"}


class Debounce(Policy):
    """The newest after `quiet` without an arrival, or `max_wait` after the first that waits."""

    def __init__(self, elide: Elide) -> None:
        super().__init__(elide)
        self._quiet = _span(elide.quiet)
        self._max_wait = self.period = _span(elide.max_wait)

    def judge(self, slot: Slot, _data: Mapping[str, Any], now: Ns, /) -> Verdict:
        since = now if slot.held is None else slot.since
        slot.deadline = Ns(min(now + self._quiet, since + self._max_wait))
        return HOLD


class _AgainstSent(Policy):
    """What differs enough from the last sent value goes out; the newest of the rest waits for the heartbeat, or the stop."""

    def __init__(self, elide: Elide) -> None:
        super().__init__(elide)
        self.period = elide.heartbeat

    @abc.abstractmethod
    def differs(self, sent: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
        """Whether `data` has to go out after `sent`."""

    def judge(self, slot: Slot, data: Mapping[str, Any], now: Ns, /) -> Verdict:
        sent = slot.sent
        if sent is None or self.differs(sent, data):
            return SEND
        if self.period is None:
            # Nothing would ever release an exact repeat; what differs a little still goes out at a clean stop.
            slot.deadline = NEVER
            return DROP if sent == data else HOLD
        slot.deadline = Ns(slot.sent_at + self.period)
        return SEND if slot.deadline <= now else HOLD


class Change(_AgainstSent):
    """What differs from the last sent value, in `fields` or in all but `ignore`."""

    def differs(self, sent: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
        chosen, ignored = self.elide.fields, self.elide.ignore
        if sent == data or not (chosen or ignored):
            return sent != data
        fields = chosen or [field for field in {**sent, **data} if field not in ignored]
        return any(sent.get(field, _ABSENT) != data.get(field, _ABSENT) for field in fields)


class Deadband(_AgainstSent):
    """What lies a band or more from the last sent value; what is not a number goes out when it differs."""

    def __init__(self, elide: Elide) -> None:
        super().__init__(elide)
        low, high = elide.range or (0.0, 0.0)
        fixed = elide.abs if elide.abs is not None else (elide.pct_range or 0.0) / 100 * (high - low)
        self._fixed = fixed * (1 - _ROUNDING)
        self._share = (elide.pct or 0.0) / 100 * (1 - _ROUNDING)

    def differs(self, sent: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
        reference, value = number(sent), number(data)
        if reference is None or value is None:
            return sent != data
        distance = abs(value - reference)
        # The share of a last sent 0 is 0: then every other value is a change, but a repeat of it is none.
        return distance > 0 and distance >= self._fixed + self._share * abs(reference)


class SwingingDoor(Policy):
    """The corner points of the trend: what is left out lies within `tolerance` of the line between its sent neighbours.

    After E. H. Bristol's swinging door trending (1990). The doors are kept as the steepest and shallowest slope from the last
    sent point that pass every point since within `tolerance`. Bristol asks whether the doors have opened beyond parallel, which
    lets the line to the held point err by up to twice the tolerance; here the line to the newest point itself has to fit.
    """

    def __init__(self, elide: Elide) -> None:
        super().__init__(elide)
        self.period = elide.max_gap
        self._tolerance = elide.tolerance or 0.0

    def judge(self, slot: Slot, data: Mapping[str, Any], now: Ns, /) -> Verdict:
        if slot.sent is None:
            return SEND
        value, base = number(data), number(slot.sent)
        turns = self._breaks(slot, data) if value is None or base is None else self._leaves(slot, value - base, now)
        start = slot.sent_from
        if turns:
            # The held point becomes the base, and the doors open anew from there.
            base, start = number(slot.held or {}), slot.held_at
        if value is not None and base is not None:
            doors = OPEN if turns or slot.held is None else slot.doors
            slot.doors = self._narrowed(doors, value - base, now - start)
        slot.deadline = NEVER if self.period is None else Ns((now if turns else slot.sent_at) + self.period)
        return TURN if turns else SEND if slot.deadline <= now else HOLD

    def _breaks(self, slot: Slot, data: Mapping[str, Any]) -> bool:
        """Whether `data` ends what was held, where no line can be drawn because one of the two is not a number."""
        return slot.held is not None and slot.held != data

    def _leaves(self, slot: Slot, rise: float, now: Ns) -> bool:
        """Whether the line from the last sent point to a new one misses a point between them."""
        if slot.held is None:
            return False
        if number(slot.held) is None:
            return True
        slope = _slope(rise, now - slot.sent_from)
        shallowest, steepest = slot.doors
        return not shallowest <= slope <= steepest

    def _narrowed(self, doors: tuple[float, float], rise: float, run: int) -> tuple[float, float]:
        shallowest, steepest = doors
        tolerance = self._tolerance
        return max(shallowest, _slope(rise - tolerance, run)), min(steepest, _slope(rise + tolerance, run))


def _slope(rise: float, run: int) -> float:
    if run > 0:
        return rise / run
    return math.copysign(math.inf, rise) if rise else 0.0


POLICIES: Mapping[str, Callable[[Elide], Policy]] = {
    "none": Everything,
    "latest": Latest,
    "sample": Sample,
    "throttle_first": ThrottleFirst,
    "debounce": Debounce,
    "change": Change,
    "deadband": Deadband,
    "swinging_door": SwingingDoor,
    "aggregate": Aggregate,
}
