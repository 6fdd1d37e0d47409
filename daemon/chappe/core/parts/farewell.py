"""A clean stop: what waits goes out for a moment, then ``stopped``, then goodbye, and the rest is written for the next boot."""

from __future__ import annotations

from chappe.core.context import Context
from chappe.core.effects import Disconnect, Drive, Finished
from chappe.core.envelope import to_json
from chappe.core.parts.wire import Wire
from chappe.core.units import SECOND, Ns

PATIENCE = SECOND
"""How long a clean stop waits for PUBACKs, and again for that of ``stopped``."""


class Farewell:
    """The end of a boot.

    Args:
        context: the engine's.
        wire: the link.
    """

    def __init__(self, context: Context, wire: Wire) -> None:
        self._context = context
        self._wire = wire
        self._deadline: Ns | None = None

    def begin(self) -> None:
        """What elision holds goes out, then PUBACKs are waited for."""
        self._context.outbox.flush(self._context.now)
        self._deadline = Ns(self._context.now + PATIENCE)

    def due(self) -> Ns | None:
        return self._deadline

    def progress(self) -> None:
        """Move on: streams, then ``stopped``, then goodbye."""
        if self._deadline is None:
            return
        context = self._context
        late = context.now >= self._deadline
        quiet = context.outbox.empty and context.answers.empty
        if self._wire.status != "online":
            self._finish()
        elif not self._said() and (quiet or late):
            context.said_goodbye = True
            context.last.set(context.topics.state, state(context, "stopped"))
            self._deadline = Ns(context.now + PATIENCE)
        elif self._said() and (context.last.empty or late):
            self._wire.silent = True
            context.emit(Disconnect())
            self._finish()

    def _said(self) -> bool:
        return b'"stopped"' in self._context.last.get(self._context.topics.state)

    def _finish(self) -> None:
        self._deadline = None
        context = self._context
        context.emit(context.outbox.last_commit(context.now))
        context.announce("state", status="stopped", undelivered=context.outbox.counter.depth(context.now).depth)
        if context.config.indicators.status is not None:
            context.emit(Drive(pin="status", level=0.0))  # safe to unplug
        context.emit(Finished(code=0))


def state(context: Context, status: str) -> bytes:
    """The retained ``state``; a clean stop also says the last number of each stream, so that a gap behind it is seen."""
    said = {"status": status, "boot": context.started.boot}
    if status != "stopped":
        return to_json(said)
    last = {name: lane.seq for name, lane in context.outbox.lanes.items() if lane.seq}
    return to_json({**said, "last": last})
