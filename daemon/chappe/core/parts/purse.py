"""The monthly budget of bytes at work: what it lets pass, and what it makes rarer (FEATURES ELI-10)."""

from __future__ import annotations

from chappe.core.context import Context
from chappe.core.events import Carried

MEMORY = "budget"
NOTED_EVERY = 65_536
"""Bytes between two notes for the next boot; a kill forgets at most so many."""


class Purse:
    """Counts what goes over the link and acts on the step it has come to.

    Args:
        context: the engine's.
    """

    def __init__(self, context: Context) -> None:
        self.sent = 0
        self.received = 0
        self._context = context
        self._noted = context.budget.used
        self._apply()

    def carried(self, event: Carried) -> None:
        """So much went over the link."""
        self.sent += event.sent
        self.received += event.received
        context = self._context
        month = context.clock.stamp(context.now).at[:7] if context.clock.synced else ""
        changed = context.budget.carried(event.sent + event.received, month)
        if changed:
            self._apply()
            context.announce("budget", **context.budget.document())
        if context.budget.limit is not None and (changed or abs(context.budget.used - self._noted) >= NOTED_EVERY):
            self.note()

    def note(self) -> None:
        """Let the next boot know."""
        budget = self._context.budget
        if budget.limit is not None:
            self._noted = budget.used
            self._context.remember(MEMORY, {"used": budget.used, "month": budget.month})

    def _apply(self) -> None:
        budget, outbox = self._context.budget, self._context.outbox
        self._context.last.only(None if budget.step < 2 else budget.allows_topic)
        outbox.stock.ration(budget.stretch, budget.allows)
