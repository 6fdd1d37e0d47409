"""Alerts: raised by rules and jobs, shown by the status lamp until somebody has acknowledged them, here or from afar."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from chappe.core.context import Context
from chappe.core.indicators import State
from chappe.core.ladder import NEWEST
from chappe.core.units import SECOND

STREAM = "alert"
MEMORY = "alerts.shown"

MOST = 64
"""Runs of alerts that are remembered. Alerts follow one another, so that a flood is one run; only receipts for single ones make holes."""


WITHIN = SECOND
"""How soon it is on disk that somebody has read something."""


class Shown:
    """Numbers of alerts, as runs of one boot each, oldest first.

    Args:
        data: as `data` gave it; what is not of that form is passed over.
    """

    def __init__(self, data: Any = ()) -> None:
        given = data if isinstance(data, list | tuple) else ()
        self._runs: list[tuple[str, int, int]] = [(run[0], run[1], run[2]) for run in given if _is_run(run)][-MOST:]

    def __bool__(self) -> bool:
        return bool(self._runs)

    def __reversed__(self) -> Iterator[tuple[str, int]]:
        for boot, first, last in reversed(self._runs):
            for seq in range(last, first - 1, -1):
                yield boot, seq

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(last - first + 1 for _, first, last in self._runs)

    def add(self, boot: str, seq: int) -> None:
        """One more; numbers of a boot come in their order."""
        if self._runs and self._runs[-1][0] == boot and self._runs[-1][2] >= seq - 1:
            self._runs[-1] = (boot, self._runs[-1][1], max(seq, self._runs[-1][2]))
        else:
            self._runs = [*self._runs, (boot, seq, seq)][-MOST:]

    def discard(self, boot: str, seq: int) -> bool:
        """One less; returns whether it was there."""
        for place, (owner, first, last) in enumerate(self._runs):
            if owner == boot and first <= seq <= last:
                rest = ((boot, first, seq - 1), (boot, seq + 1, last))
                self._runs[place : place + 1] = [run for run in rest if run[1] <= run[2]]
                self._runs = self._runs[-MOST:]
                return True
        return False

    def clear(self) -> None:
        """None are left."""
        self._runs.clear()

    @property
    def data(self) -> list[list[Any]]:
        """For the memory of the next boot."""
        return [list(run) for run in self._runs]


def _is_run(run: Any) -> bool:
    return (
        isinstance(run, list | tuple)
        and len(run) == 3
        and isinstance(run[0], str)
        and all(isinstance(number, int) for number in run[1:])
        and run[1] <= run[2]
    )


class Alerts:
    """What the status lamp calls for, and who has seen it.

    Args:
        context: the engine's.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._shown = Shown(context.memory.get(MEMORY))
        context.lamp.set(State.ALERT, bool(self._shown), context.now)

    @property
    def count(self) -> int:
        """How many are not acknowledged."""
        return self._shown.count

    def begin(self, name: str, text: str, cause: str, missed: int = 0) -> None:
        """An alert is raised: published before anything else is, and shown until it is acknowledged.

        Args:
            name: the rule or job.
            text: what it says.
            cause: as in marks, for example ``rule:door``.
            missed: runs of the job that should have been before.
        """
        context = self._context
        data = {"alert": name, "text": text, "by": cause, **({"missed": missed} if missed else {})}
        context.produce(STREAM, data)
        context.announce(STREAM, **data)
        self._shown.add(context.started.boot, context.outbox.lanes[STREAM].seq)
        self._tell()

    def acknowledge(self, by: str) -> int:
        """Somebody has seen all that is shown.

        Args:
            by: who, for example ``button:main``.

        Returns:
            How many that were.
        """
        count = self._shown.count
        if not count:
            return 0
        for boot, seq in islice(reversed(self._shown), NEWEST):
            self._read(boot, seq, by)
        self._shown.clear()
        self._tell()
        written_soon(self._context)
        self._context.announce(STREAM, acknowledged=count, by=by)
        return count

    def read(self, boot: str, seq: int) -> None:
        """Somebody has read one of them elsewhere; the ladder knows already."""
        if self._shown.discard(boot, seq):
            self._tell()

    def _read(self, boot: str, seq: int, by: str) -> None:
        context = self._context
        context.ladder.receipt(STREAM, boot, seq, "read", by, context.clock.wall(context.now), exists=True)

    def _tell(self) -> None:
        context = self._context
        context.remember(MEMORY, self._shown.data)
        context.lamp.set(State.ALERT, bool(self._shown), context.now)


def written_soon(context: Context) -> None:
    """Delivery states that are kept on disk ride on commits; where nothing else calls for one, they do."""
    if context.ladder.dirty:
        context.outbox.stock.keeper.wants(context.now + WITHIN)
