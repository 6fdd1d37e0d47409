"""The elider: a bounded table of keys, their timers, and the counting."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any, Final

from chappe.core.elision.config import Elide
from chappe.core.elision.policies import POLICIES, Policy, summed_up
from chappe.core.elision.values import NEVER, NOTHING, ONE_ELIDED, Emission, Outcome, Slot
from chappe.core.units import Ns

IDLE_PERIODS: Final = 10
"""A key without an arrival for this many intervals of its policy makes room for another."""


class Elider:
    """Decides for every value of one stream whether it goes out, waits or is elided.

    Times must not go back. Data that was offered must not be changed afterwards: it is kept, not copied.

    Args:
        elide: a configuration in which `problems` finds nothing.

    Raises:
        ValueError: if `elide` lacks a parameter that its policy requires.
    """

    def __init__(self, elide: Elide) -> None:
        self.elide = elide
        self._policy: Policy = POLICIES[elide.policy](elide)
        self._bypass = elide.bypass
        self._slots: dict[str, Slot] = {}
        # One entry per slot with a timer, never later than the slot's deadline. A deadline that has moved is put right when its
        # entry comes up, so that an arrival which only postpones it (debounce) does not touch the heap.
        self._heap: list[tuple[Ns, int, Slot]] = []
        self._pushes = 0
        self._next_idle = 0
        self._held = 0
        self._overflow = 0
        # In the order of `Verdict`.
        self._actions = (self._hold, self._send, self._drop, self._turn)

    @property
    def held(self) -> int:
        """Values offered and neither emitted nor elided yet."""
        return self._held

    @property
    def overflow(self) -> int:
        """Values that passed un-elided because the key table was full."""
        return self._overflow

    def stretch(self, factor: int) -> None:
        """Multiply the policy's interval by `factor` from now on (1: as configured); timers that run are not moved."""
        self._policy.stretch(factor)

    def offer(self, key: str, data: Mapping[str, Any], now: Ns) -> Outcome:
        """Decide about a value that arrives at `now`; timers that are due by then fire first."""
        if self._heap and self._heap[0][0] <= now:
            fired = self.expire(now)
            if fired is not NOTHING:
                return fired + self.offer(key, data, now)
        if not self._policy.keyed:
            return _alone(Emission(key, now, data, None))
        slot = self._slots.get(key)
        if slot is None:
            slot = self._admit(key, now)
            if slot is None:
                return self._pass(key, data, now)
        slot.seen = now
        if self._bypass is not None and self._bypasses(slot, data):
            return self._send(slot, data, now)
        return self._actions[self._policy.judge(slot, data, now)](slot, data, now)

    def due(self) -> Ns | None:
        """When `expire` has to be called next; None while no timer runs."""
        heap = self._heap
        while heap:
            at, _, slot = heap[0]
            if at == slot.deadline:
                return at
            self._settle()
        return None

    def expire(self, now: Ns) -> Outcome:
        """Release what is due at `now`, earliest first.

        However late the call, each timer counts as fired at its own time, so intervals keep their phase.
        """
        heap = self._heap
        if not heap or heap[0][0] > now:
            return NOTHING
        emit, elided = [], 0
        while heap and heap[0][0] <= now:
            at, _, slot = heap[0]
            if at != slot.deadline:
                self._settle()
                continue
            heapq.heappop(heap)
            slot.queued = False
            period = self._policy.period
            emission, summed = self._release(slot, Ns(now - (now - at) % period) if period else at)
            emit.append(emission)
            elided += summed
        return Outcome(tuple(emit), elided) if emit else NOTHING

    def flush(self, now: Ns) -> Outcome:
        """Release all that is held, oldest first, but for exact repeats of what was sent last: the clean stop."""
        emit, elided = [], 0
        for slot in sorted((slot for slot in self._slots.values() if slot.held is not None), key=_arrival):
            if slot.held == slot.sent and not self._policy.sums_up:
                elided += self._drop_held(slot)
                continue
            emission, summed = self._release(slot, now)
            emit.append(emission)
            elided += summed
        return Outcome(tuple(emit), elided)

    # -- the key table ---------------------------------------------------------------------------------------------------

    def _admit(self, key: str, now: Ns) -> Slot | None:
        """A slot for a new key; None if the table is full of live keys."""
        if len(self._slots) >= self.elide.max_keys:
            self._evict(now)
            if len(self._slots) >= self.elide.max_keys:
                return None
        slot = self._slots[key] = Slot(key, now)
        return slot

    def _evict(self, now: Ns) -> None:
        """Take idle keys out. Only a full table is searched: until then, an idle key still has its tally to disclose."""
        period = self._policy.period
        if period is None or now < self._next_idle:
            return
        oldest_live = now - IDLE_PERIODS * period
        # An idle key holds nothing: every timer is shorter than that. The check keeps the books right all the same.
        self._slots = {k: s for k, s in self._slots.items() if s.seen > oldest_live or s.held is not None}
        self._next_idle = min((s.seen for s in self._slots.values()), default=now) + IDLE_PERIODS * period

    def _pass(self, key: str, data: Mapping[str, Any], now: Ns) -> Outcome:
        self._overflow += 1
        # Consumers of summaries get one even here: the summary of one value.
        rendered = summed_up(Slot(key, now), data, data) if self._policy.sums_up else data
        return _alone(Emission(key, now, rendered, None))

    # -- what a verdict means --------------------------------------------------------------------------------------------

    def _bypasses(self, slot: Slot, data: Mapping[str, Any]) -> bool:
        reference = slot.held if slot.held is not None else slot.sent
        assert self._bypass is not None
        return reference is not None and reference.get(self._bypass) != data.get(self._bypass)

    def _hold(self, slot: Slot, data: Mapping[str, Any], now: Ns) -> Outcome:
        outcome = NOTHING
        if slot.held is None:
            slot.since, slot.first = now, data
            self._held += 1
        else:
            slot.drop(slot.held)
            if self._policy.sums_up:
                self._held += 1
            else:
                outcome = ONE_ELIDED
        slot.held, slot.held_at = data, now
        if not slot.queued and slot.deadline != NEVER:
            self._pushes += 1
            slot.queued = True
            heapq.heappush(self._heap, (slot.deadline, self._pushes, slot))
        return outcome

    def _send(self, slot: Slot, data: Mapping[str, Any], now: Ns) -> Outcome:
        elided = self._drop_held(slot)
        return Outcome((_emission(slot, data, now, now),), elided)

    def _drop(self, slot: Slot, data: Mapping[str, Any], _now: Ns) -> Outcome:
        elided = self._drop_held(slot)
        slot.drop(data)
        return Outcome((), elided + 1) if elided else ONE_ELIDED

    def _turn(self, slot: Slot, data: Mapping[str, Any], now: Ns) -> Outcome:
        assert slot.held is not None
        corner = _emission(slot, slot.held, slot.held_at, now)
        slot.held, slot.held_at = data, now
        return _alone(corner)

    def _drop_held(self, slot: Slot) -> int:
        """Drop the held value, if there is one, and say how many that were."""
        slot.deadline = NEVER
        if slot.held is None:
            return 0
        slot.drop(slot.held)
        slot.held = None
        self._held -= 1
        return 1

    def _release(self, slot: Slot, at: Ns) -> tuple[Emission, int]:
        """Let the held value out; with it, how many values that sums up beside the one it stands for."""
        elided = slot.summary()
        summed = slot.dropped if self._policy.sums_up else 0
        emission = Emission(slot.key, slot.held_at, self._policy.render(slot), elided)
        _sent(slot, emission.data, slot.held_at, at)
        slot.held = None
        slot.deadline = NEVER
        self._held -= 1 + summed
        return emission, summed

    def _settle(self) -> None:
        """Put the top entry of the heap right: its slot's deadline has moved on, or is gone."""
        _, serial, slot = self._heap[0]
        if slot.deadline == NEVER:
            heapq.heappop(self._heap)
            slot.queued = False
        else:
            heapq.heapreplace(self._heap, (slot.deadline, serial, slot))


def _alone(emission: Emission) -> Outcome:
    return Outcome((emission,), 0)


def _arrival(slot: Slot) -> Ns:
    return slot.held_at


def _emission(slot: Slot, data: Mapping[str, Any], arrived: Ns, now: Ns) -> Emission:
    emission = Emission(slot.key, arrived, data, slot.summary())
    _sent(slot, data, arrived, now)
    return emission


def _sent(slot: Slot, data: Mapping[str, Any], arrived: Ns, at: Ns) -> None:
    slot.clear()
    slot.sent, slot.sent_from, slot.sent_at = data, arrived, at
