"""The part of the outbox that lies on disk alone: pages of it come in as there is room, and what the store has lost is disclosed."""

from __future__ import annotations

from chappe.core.effects import Count, Fetch
from chappe.core.envelope import Lost
from chappe.core.events import Counted, Exhumed, Fetched
from chappe.core.lane import Lane
from chappe.core.queue import PAGE, PAGE_BYTES
from chappe.core.row import OVERHEAD, Row, restored
from chappe.core.stock import Stock
from chappe.core.stored import StoredRow
from chappe.core.units import Ns

SWEEP = "sweep"


class Shelves:
    """Pages rows in.

    Args:
        stock: the outbox's state.

    Attributes:
        used: whether anything lies on disk alone.
    """

    def __init__(self, stock: Stock) -> None:
        self.used = False
        self._stock = stock

    def page_in(self) -> None:
        """Ask for rows where the head of a queue runs low."""
        self.used = False
        for lane in self._stock.order:
            queue = lane.queue
            self.used |= queue.shelved
            if queue.wants:
                queue.fetching = True
                self._stock.wishes.append(
                    Fetch(stream=lane.spec.name, after=queue.after, upto=queue.upto, limit=PAGE, most_bytes=PAGE_BYTES)
                )

    def fetched(self, event: Fetched, now: Ns) -> None:
        """A page has come."""
        lane = self._stock.lanes[event.stream]
        missing = lane.queue.fetched([self._row(row) for row in event.rows], event.after, event.bad)
        self._missing(lane, missing, now)
        for row in [row for row in lane.queue.rows if row.id <= lane.queue.unwanted and row.payload is None]:
            self._stock.drop(lane, row, "operator", now)
        self._stock.spill(now)
        self._stock.wake_by(now)
        self.page_in()
        self._stock.worth_a_look = True

    def _row(self, found: StoredRow) -> Row:
        return restored(found, self._stock.boot, self._stock.boots.here(found.boot, found.accepted))

    def _missing(self, lane: Lane, n: int, now: Ns) -> None:
        """Rows that should be in the store are not."""
        if n <= 0:
            return
        lane.discount(n, "corrupt")
        behind = lane.queue.rows[0] if lane.queue.rows else None
        last = behind.seq - 1 if behind is not None else lane.seq
        boot = behind.boot if behind is not None else ""
        lane.gaps.add(Lost(from_=max(1, last - n + 1), to=max(1, last), n=n, reason="corrupt", boot=boot))
        self._stock.keeper.wants(now)

    def exhumed(self, event: Exhumed, now: Ns) -> None:
        """Dead letters are rows again, with their old numbers."""
        for found in event.rows:
            lane = self._stock.lanes[found.stream]
            row = self._row(found)
            row.attempts = 0
            lane.dead -= 1
            lane.changed = True
            lane.queue.revive(row)
            self._stock.dead.pop(row.id, None)
        self._stock.exhuming = ()
        self._stock.keeper.retry_at = now
        self._stock.keeper.wants(now)
        self._stock.worth_a_look = True

    def expect(self) -> None:
        """The boot ends before the store has answered: what it was asked to make rows again counts as such."""
        for row_id in self._stock.exhuming:
            letter = self._stock.dead.get(row_id)
            if letter is not None:
                lane = self._stock.lanes[letter.stream]
                lane.dead -= 1
                lane.queue.stored += 1
                lane.queue.stored_bytes += letter.size + OVERHEAD
                lane.changed = True

    def reset(self, now: Ns) -> None:
        """The store has a new file with what could be salvaged of the old one."""
        for lane in self._stock.order:
            self._write_again(lane)
        self._stock.keeper.all_at_once(now)
        for lane in self._stock.order:
            if lane.queue.shelved:
                lane.queue.fetching = True
                self._stock.wishes.append(Count(stream=lane.spec.name, after=lane.queue.after, upto=lane.queue.upto))

    def _write_again(self, lane: Lane) -> None:
        """Whatever is in memory does not rely on what was in the old file."""
        for row in (*lane.rows, *lane.flying.values(), *(row for row, _ in lane.confirming.values())):
            if row.stored:
                row.stored, row.dirty = False, True
                lane.queue.deleted(1, row.size)
                self._stock.totals.loose += row.size
                lane.pending.append(row)
        lane.changed = lane.gaps.changed = True

    def counted(self, event: Counted, now: Ns) -> None:
        """What is left of a shelf."""
        lane = self._stock.lanes[event.stream]
        lane.queue.fetching = False
        self._missing(lane, lane.queue.recounted(event.rows, event.bytes), now)
        self.page_in()
