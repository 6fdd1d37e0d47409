"""What the store says: commits, pages of a long queue, a file that had to be replaced, a disk that is full."""

from __future__ import annotations

from chappe.core import events as ev
from chappe.core.context import Context
from chappe.core.indicators import State


class Keep:
    """Passes the store's answers on to the outbox.

    Args:
        context: the engine's.
    """

    def __init__(self, context: Context) -> None:
        self.disk_free = 1.0
        self.store_bytes = 0
        self._shown = False
        self._context = context
        salvaged = context.started.backlog.salvaged
        if salvaged is not None:
            context.announce("store", status="salvaged", rows=salvaged)

    def committed(self, event: ev.Committed) -> None:
        """A commit is on the disk."""
        del event
        self._context.outbox.committed(self._context.now)

    def failed(self, event: ev.CommitFailed) -> None:
        """A commit is not on the disk."""
        self._context.outbox.commit_failed(event.code, self._context.now)

    def fetched(self, event: ev.Fetched) -> None:
        """A page of a long queue has come."""
        self._context.outbox.fetched(event, self._context.now)

    def exhumed(self, event: ev.Exhumed) -> None:
        """Dead letters are rows again."""
        self._context.outbox.shelves.exhumed(event, self._context.now)

    def reset(self, event: ev.StoreReset) -> None:
        """The store has a new file."""
        self._context.outbox.shelves.reset(self._context.now)
        self._context.announce("store", status="salvaged", rows=event.salvaged, path=event.path)

    def counted(self, event: ev.Counted) -> None:
        """What is left of a long queue."""
        self._context.outbox.shelves.counted(event, self._context.now)

    def disk(self, event: ev.DiskSampled) -> None:
        """How full the disk is."""
        self.disk_free, self.store_bytes = event.free, event.used
        self._context.outbox.stock.bounds.disk(event.free)

    def show(self) -> None:
        """The lamp for an outbox that is nearly full, or spilling."""
        nearly = self._context.outbox.stock.bounds.nearly
        if nearly != self._shown:
            self._shown = nearly
            self._context.lamp.set(State.OUTBOX_FULL, nearly, self._context.now)
