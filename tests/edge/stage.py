"""Edges at manual time, without threads: `Stage` runs their steps in the order in which they are due.

A step may take time: what it calls says so with `Stage.spend`, and whatever else is due meanwhile runs inside that call, as it would
in another thread. The step itself is not entered again before it has returned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from chappe.core.events import Event
from chappe.core.units import Ns
from chappe.edge.worker import Step
from chappe.testing import ManualClock

E = TypeVar("E", bound=Event)

ENDLESS = 10_000
"""So many steps at one moment are a loop."""


@dataclass
class Actor:
    """One worker: its step, when it wants to run (None: when woken), and whether it is running now."""

    step: Step
    due: Ns | None
    busy: bool = False
    woken: bool = False


class Stage:
    """A clock, the actors on it, and everything they posted."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.events: list[Event] = []
        self._actors: list[Actor] = []
        self._in_place = 0

    @property
    def now(self) -> Ns:
        return self.clock.now()

    def add(self, step: Step) -> Callable[[], None]:
        """Put an actor on the stage, ahead of those that come later; returns what wakes it."""
        actor = Actor(step, self.now)
        self._actors.append(actor)

        def wake() -> None:
            actor.woken = True
            if not actor.busy:
                actor.due = self.now

        return wake

    def at(self, moment: int, do: Callable[[], object]) -> None:
        """Do something at a time, whoever is busy then."""

        def act(now: Ns) -> Ns | None:
            if now < moment:
                return Ns(moment)
            do()
            return None

        self.add(act)

    def post(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """Every event of a kind, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]

    def run(self, until: int) -> None:
        """Let time pass until `until`; steps due exactly then run too."""
        while (actor := self._next(until)) is not None:
            assert actor.due is not None
            self._in_place = self._in_place + 1 if actor.due <= self.now else 0
            assert self._in_place < ENDLESS, f"time stands still at {self.now}"
            self.clock.set(Ns(max(self.now, actor.due)))
            actor.busy, actor.woken = True, False
            actor.due = actor.step(self.now)
            actor.busy = False
            if actor.woken:
                actor.due = self.now
        self.clock.set(Ns(max(self.now, until)))

    def spend(self, span: int) -> None:
        """Called inside a step: it takes this long."""
        self.run(self.now + span)

    def _next(self, until: int) -> Actor | None:
        ready = [actor for actor in self._actors if not actor.busy and actor.due is not None and actor.due <= until]
        return min(ready, key=lambda actor: actor.due or 0, default=None)
