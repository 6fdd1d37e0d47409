"""What enters a stream: elision, conflation, the number and the id of each row.

`latest` rows conflate: while a row of a key waits, a newer value of that key takes its place (and its number); a row that was ever handed to a
socket is never touched again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from chappe.core.elision import Elider, Emission, Outcome
from chappe.core.envelope import Lost, to_json
from chappe.core.gaps import Gaps
from chappe.core.queue import Queue, Totals
from chappe.core.row import OVERHEAD, Row
from chappe.core.stored import LANE_BITS, LaneEntry
from chappe.core.streams import Spec
from chappe.core.units import Ns

# Elision holds a value for an interval; nobody swaps models that often within one.
MODELS_KNOWN = 16


class Intake:
    """The way into one stream.

    Args:
        spec: what the stream is.
        totals: shared by all streams of an outbox.
        entry: what earlier boots left in the store.
        gaps: gaps that no message has disclosed yet, of earlier boots.

    Attributes:
        no: number of the lane in the store.
        next: the low bits of the next row's id.
        book: counters, over all boots.
        queue: the rows that wait.
        pending: rows that may have to be written, oldest first; those that need it no more are passed over.
        seq: last number given.
        changed: whether the books have changed since they were written.
        durable: whether rows of this stream are ever written.
    """

    def __init__(self, spec: Spec, totals: Totals, entry: LaneEntry, gaps: Iterable[Lost] = ()) -> None:
        self.spec = spec
        self.no = entry.no
        self.next = entry.next
        self.book = msgspec.structs.replace(entry.book)
        self.elider = Elider(spec.elide) if spec.elide is not None else None
        self.queue = Queue(totals)
        self.pending: deque[Row] = deque()
        self.gaps = Gaps(gaps)
        self.seq = 0
        self.changed = False
        self.durable = spec.durability != "memory" and spec.class_ != "transient"
        self._latest = spec.class_ == "latest"
        self._waiting: dict[str, Row] = {}
        self._models: list[tuple[Ns, str]] = [(Ns(0), "")]

    def produce(self, data: Mapping[str, Any], now: Ns, *, key: str = "", model: str = "", late: bool = False) -> None:
        """Take in one value."""
        self.book.produced += 1
        self.book.queued += 1
        self.changed = True
        if not key and self.spec.elide is not None:
            key = self.spec.elide.key_of(data)
        if self.elider is None:
            self._append(key, now, data, None, model, now, late)
            return
        if self._models[-1][1] != model:
            self._models = [*self._models[-MODELS_KNOWN:], (now, model)]
        self.settle(self.elider.offer(key, data, now), now, late=late)
        self.book.elide_overflow = self.elider.overflow

    def settle(self, outcome: Outcome, now: Ns, *, late: bool) -> None:
        """Book what elision decided and queue what it lets through."""
        self._elided(outcome.elided)
        for emission in outcome.emit:
            self._emit(emission, now, late)

    def _emit(self, one: Emission, now: Ns, late: bool) -> None:
        self._append(one.key, one.at, one.data, one.elided, self._model_at(one.at), now, late)

    def _model_at(self, at: Ns) -> str:
        """The model behind a value that arrived at `at`; elision may let it out after the model was changed."""
        return next((model for since, model in reversed(self._models) if since <= at), "")

    def overload(self, n: int) -> None:
        """`n` values were turned away at the inbox: they count, take numbers, and are disclosed."""
        self.book.produced += n
        self.book.spilled += n
        self.changed = True
        first, self.seq = self.seq + 1, self.seq + n
        self.gaps.add(Lost(from_=first, to=self.seq, n=n, reason="overload"))

    def _elided(self, n: int) -> None:
        if n:
            self.book.elided += n
            self.book.queued -= n
            self.changed = True

    def _append(self, key: str, at: Ns, data: Mapping[str, Any], elided: Any, model: str, now: Ns, late: bool) -> None:
        body = to_json(data)
        size = len(body) + OVERHEAD
        if self._latest:
            row = Row(0, 0, key, at, now, late, body, size, data, elided, model)
            if self._conflated(row):
                return
        else:
            row = Row(0, 0, key, at, now, late, body, size, None, elided, model)
        self.seq += 1
        row.seq = self.seq
        row.id = (self.no << LANE_BITS) | self.next
        self.next += 1
        self.queue.append(row)
        if self._latest:
            self._waiting[key] = row
        if self.durable:
            row.dirty = True
            self.pending.append(row)

    def _conflated(self, newer: Row) -> bool:
        waiting = self._waiting.get(newer.key)
        if waiting is None:
            return False
        self.queue.resize(waiting, newer.size)
        waiting.conflate(newer)
        self._elided(1)
        if self.durable and not waiting.dirty:
            waiting.dirty = True
            self.pending.append(waiting)
        return True

    @property
    def holding(self) -> int:
        """Values that elision holds back."""
        return self.elider.held if self.elider is not None else 0
