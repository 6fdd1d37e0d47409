"""One stream's way to the broker: the rows that wait, the rows in flight, what becomes of them, and the books.

Order within a stream is strict: rows leave in the order of their ids, which is boot by boot the order of their numbers. Where the middle of a
long queue lies, and how it comes back, is the business of `chappe.core.queue`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from chappe.core.envelope import Lost
from chappe.core.intake import Intake
from chappe.core.queue import Totals
from chappe.core.row import OVERHEAD, Row, lost_of
from chappe.core.stored import LaneEntry, StoredRow
from chappe.core.streams import Spec
from chappe.core.units import Ns

# Reasons that count in another column than `spilled`.
COLUMNS: Mapping[str, str] = {"expired": "expired", "recalled": "expired"}


class Lane(Intake):
    """The state of one stream.

    Args:
        spec: what the stream is.
        totals: shared by all lanes of an outbox.
        entry: what earlier boots left in the store.
        gaps: gaps that no message has disclosed yet, of earlier boots.

    Attributes:
        flying: rows in flight, by token.
        confirming: rows that the broker has and a consumer has not confirmed, by (boot, number).
        gone: (id, size) of rows in the table that are to be deleted.
        unsure: ids of rows that may be in the table, and must not stay there.
        burials: rows that become dead letters with the next commit, and why.
        blocked_until: the broker refused the head; not before then is it tried again.
        held: whether the broker forbids this stream.
        urgent: whether a row waits for being written before it can leave.
        shunned: whether trying its head ended a connection: a new one alone is no reason to try it again.
        troubled: whether a refusal has been told of that no delivery has ended.
        poisons: how many of its messages in a row ended connections for good.
        rationed: whether there are no bytes for it this month.
        dead: how many dead letters there are.
    """

    def __init__(self, spec: Spec, totals: Totals, entry: LaneEntry, gaps: Iterable[Lost] = ()) -> None:
        super().__init__(spec, totals, entry, gaps)
        self.flying: dict[int, Row] = {}
        self.confirming: dict[tuple[str, int], tuple[Row, Ns]] = {}
        self.gone: list[tuple[int, int]] = []
        self.burials: list[tuple[Row, str]] = []
        self.unsure: list[int] = []
        self.blocked_until: Ns | None = None
        self.held = False
        self.shunned = False
        self.troubled = False
        self.poisons = 0
        self.rationed = False
        self.urgent = False
        self._early: set[tuple[str, int]] = set()
        self.refusals = 0
        self.dead = 0

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def head(self, now: Ns) -> Row | None:
        """The row to hand over next, or None: none waits here, the stream is held back, or its key is still in flight."""
        rows = self.queue.rows
        if not rows or self.rationed or (self.blocked_until is not None and now < self.blocked_until):
            return None
        row = rows[0]
        if self._latest and any(other.key == row.key for other in self.flying.values()):
            return None
        return row

    def hand_over(self, token: int) -> Row:
        """Take the head off the queue and into flight under `token`."""
        row = self.queue.rows.popleft()
        self.flying[token] = row
        self.pin(row)
        return row

    def pin(self, row: Row) -> None:
        """No newer value takes the place of a row any more."""
        if self._latest and self._waiting.get(row.key) is row:
            del self._waiting[row.key]

    def delivered(self, token: int, now: Ns) -> Row | None:
        """The broker has it. Returns the row if that ends its stay here, None if a consumer has to confirm it first."""
        self.refusals, self.blocked_until, self.held = 0, None, False
        self.shunned, self.poisons = False, 0
        row = self.flying.pop(token)
        if self.spec.confirm and (row.boot, row.seq) not in self._early:
            self.confirming[row.boot, row.seq] = (row, now)
            return None
        self._early.discard((row.boot, row.seq))
        self._deliver(row)
        return row

    def confirmed(self, boot: str, seq: int) -> Row | None:
        """A consumer has it."""
        found = self.confirming.pop((boot, seq), None)
        if found is None:
            if any((row.boot, row.seq) == (boot, seq) for row in self.flying.values()):
                self._early.add((boot, seq))  # faster than the broker's acknowledgement
            return None
        self._deliver(found[0])
        return found[0]

    def _deliver(self, row: Row) -> None:
        self.book.delivered += 1
        self.book.queued -= 1
        self._leave(row)
        self.gaps.arrived(row.id)

    def _leave(self, row: Row) -> None:
        """A row goes for good."""
        row.done = True
        row.dirty = False
        self.changed = True
        self.queue.left(row)
        if row.stored and not row.writing:
            self.gone.append((row.id, row.size))

    def take_back(self, token: int) -> Row:
        """Put a row that was in flight back into its place."""
        row = self.flying.pop(token)
        self.queue.put_back(row)
        return row

    def take_all_back(self) -> None:
        """The link is gone: everything in flight waits again, in order, before everything else."""
        for row in sorted(self.flying.values(), key=_id, reverse=True):
            self.queue.put_back(row)
        self.flying.clear()
        self.try_again()

    def try_again(self) -> None:
        """A new connection may change the broker's mind, unless this stream is what ended the last."""
        if not self.shunned:
            self.blocked_until, self.refusals = None, 0

    def resend(self, before: Ns) -> bool:
        """Offer again what the broker has had since before `before` and nobody has confirmed. Returns whether there was any."""
        overdue = [key for key, (_, since) in self.confirming.items() if since <= before]
        for row in sorted((self.confirming.pop(key)[0] for key in overdue), key=_id, reverse=True):
            self.queue.put_back(row)
        return bool(overdue)

    def bury(self, row: Row, reason: str) -> None:
        """A row that can never be delivered becomes a dead letter: kept, still counted as queued, out of the way."""
        self.burials.append((row, reason))
        row.done = True
        row.dirty = False
        self.changed = True
        self.dead += 1
        self.queue.left(row)
        self._unsaid(row.id, row.lost, row.boot)

    def _unsaid(self, row_id: int, lost: Lost | None, boot: str) -> None:
        """A row that disclosed a gap will not arrive: another one has to say it."""
        if lost is not None:
            self.gaps.riding.pop(row_id, None)
            self.gaps.add(lost if lost.boot or not boot else msgspec.structs.replace(lost, boot=boot))

    # ── dropping ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def drop(self, row: Row, reason: str) -> None:
        """Give up a waiting row: counted by its reason and disclosed on the next message."""
        self.queue.remove(row)
        if self._waiting.get(row.key) is row:
            del self._waiting[row.key]
        self.discount(1, reason)
        self._unsaid(row.id, row.lost, row.boot)
        self.gaps.add(Lost(from_=row.seq, to=row.seq, n=1, reason=reason, boot=row.boot))
        self._leave(row)

    def give_up(self, found: StoredRow, boot: str) -> int:
        """The owner gives up a row that lies on disk alone. Returns its size."""
        size = len(found.data) + OVERHEAD
        self.queue.take_down(found.id, size)
        self.discount(1, "operator")
        self._unsaid(found.id, lost_of(found), boot)
        self.gaps.add(Lost(from_=found.seq, to=found.seq, n=1, reason="operator", boot=boot))
        self.gone.append((found.id, size))
        return size

    def discount(self, n: int, reason: str) -> None:
        """`n` values that were queued are not any more."""
        self.book.queued -= n
        self.changed = True
        if COLUMNS.get(reason) == "expired":
            self.book.expired += n
        else:
            self.book.spilled += n

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def rows(self) -> list[Row]:
        """The rows that wait and are in memory, in order."""
        return [*self.queue.rows, *self.queue.tail]

    @property
    def depth(self) -> int:
        """Messages that wait, are in flight or want to be confirmed."""
        return self.queue.depth + len(self.flying) + len(self.confirming)

    @property
    def audit(self) -> bool:
        """Whether the books balance and agree with what really waits here."""
        return self.book.balanced and self.book.queued == self.depth + self.holding + self.dead


def _id(row: Row) -> int:
    return row.id
