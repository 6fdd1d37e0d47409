"""One stream's way to the broker: numbers, elision in front, the rows that wait, the rows in flight, and the books.

Order within a stream is strict: rows leave in the order of their numbers. `latest` rows conflate: while a row of a key waits, a newer
value of that key takes its place (and its number); a row that was ever handed to a socket is never touched again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from chappe.core.books import Book
from chappe.core.elision import Elider, Emission, Outcome, Summary
from chappe.core.elision.values import number
from chappe.core.envelope import Lost, merge
from chappe.core.streams import Spec
from chappe.core.units import Ns

# Elision holds a value for an interval; nobody swaps models that often within one.
MODELS_KNOWN = 16


class Row:
    """One message that waits, or is in flight.

    Attributes:
        at: when its value arrived.
        accepted: when it entered the outbox; expiry counts from here.
        offline: whether it was accepted, or took its value, while the link was down.
        payload: the envelope, fixed when it is first handed to a socket; None before.
    """

    __slots__ = (
        "accepted",
        "at",
        "attempts",
        "data",
        "elided",
        "key",
        "lost",
        "model",
        "offline",
        "payload",
        "seq",
        "size",
    )

    def __init__(self, seq: int, key: str, emission: Emission, model: str, now: Ns, offline: bool, size: int) -> None:
        self.seq = seq
        self.key = key
        self.at = emission.at
        self.data = emission.data
        self.elided = emission.elided
        self.model = model
        self.accepted = now
        self.offline = offline
        self.size = size
        self.lost: Lost | None = None
        self.payload: bytes | None = None
        self.attempts = 0

    def take(self, newer: Row) -> None:
        """Become the newer value of the same key; this row's own value counts as elided."""
        self.elided = absorb(self.elided, self.data, newer.elided)
        self.at, self.data, self.model = newer.at, newer.data, newer.model
        self.accepted, self.offline, self.size = newer.accepted, self.offline or newer.offline, newer.size


def absorb(older: Summary | None, data: Mapping[str, Any], newer: Summary | None) -> Summary:
    """The summary of a conflated row: what each of the two had elided, and the value that gave way."""
    value = number(data)
    gone = Summary(n=1) if value is None else Summary(n=1, min=value, max=value, mean=value)
    parts = [part for part in (older, gone, newer) if part is not None and part.n]
    known = [part for part in parts if part.mean is not None and part.min is not None and part.max is not None]
    total = sum(part.n for part in parts)
    if not known:
        return Summary(n=total)
    weight = sum(part.n for part in known)
    return Summary(
        n=total,
        min=min(part.min for part in known if part.min is not None),
        max=max(part.max for part in known if part.max is not None),
        mean=sum(part.n * part.mean for part in known if part.mean is not None) / weight,
    )


class Totals:
    """Messages and bytes that wait or are in flight, over all lanes."""

    __slots__ = ("bytes", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self.bytes = 0

    def add(self, rows: int, size: int) -> None:
        """Rows came (or went, where negative)."""
        self.rows += rows
        self.bytes += size


class Lane:
    """The state of one stream.

    Args:
        spec: what the stream is.
        size_of: bytes that a row's data will take up, roughly; asked once a row.
        totals: shared by all lanes of an outbox.
    """

    def __init__(self, spec: Spec, size_of: Callable[[Mapping[str, Any]], int], totals: Totals) -> None:
        self.spec = spec
        self.book = Book()
        self.elider = Elider(spec.elide) if spec.elide is not None else None
        self.rows: deque[Row] = deque()
        self.flying: dict[int, Row] = {}
        self.dead: list[tuple[Row, str]] = []
        self.blocked_until: Ns | None = None
        self.refusals = 0
        self.seq = 0
        self.bytes = 0
        self._size_of = size_of
        self._totals = totals
        self._waiting: dict[str, Row] = {}
        self._gap: Lost | None = None
        self._models: list[tuple[Ns, str]] = [(Ns(0), "")]

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def produce(self, data: Mapping[str, Any], now: Ns, *, key: str, model: str, offline: bool) -> None:
        """Take in one value."""
        self.book.produced += 1
        self.book.queued += 1
        if not key and self.spec.elide is not None:
            key = self.spec.elide.key_of(data)
        if self.elider is None:
            self._append(Emission(key=key, at=now, data=data, elided=None), model, now, offline)
            return
        if self._models[-1][1] != model:
            self._models = [*self._models[-MODELS_KNOWN:], (now, model)]
        self.settle(self.elider.offer(key, data, now), now, offline=offline)
        self.book.elide_overflow = self.elider.overflow

    def settle(self, outcome: Outcome, now: Ns, *, offline: bool) -> None:
        """Book what elision decided and queue what it lets through."""
        self._elided(outcome.elided)
        for emission in outcome.emit:
            self._append(emission, self._model_at(emission.at), now, offline)

    def _model_at(self, at: Ns) -> str:
        """The model behind a value that arrived at `at`; elision may let it out after the model was changed."""
        return next((model for since, model in reversed(self._models) if since <= at), "")

    def overload(self, n: int) -> None:
        """`n` values were turned away at the inbox: they count, take numbers, and are disclosed."""
        self.book.produced += n
        self.book.spilled += n
        first, self.seq = self.seq + 1, self.seq + n
        self._gap = merge(self._gap, Lost(from_=first, to=self.seq, n=n, reason="overload"))

    def _elided(self, n: int) -> None:
        self.book.elided += n
        self.book.queued -= n

    def _append(self, emission: Emission, model: str, now: Ns, offline: bool) -> None:
        row = Row(self.seq + 1, emission.key, emission, model, now, offline, self._size_of(emission.data))
        waiting = self._waiting.get(emission.key) if self.spec.class_ == "latest" else None
        if waiting is not None:
            self._grow(0, row.size - waiting.size)
            waiting.take(row)
            self._elided(1)
            return
        self.seq += 1
        row.lost, self._gap = self._gap, None
        self.rows.append(row)
        self._grow(1, row.size)
        if self.spec.class_ == "latest":
            self._waiting[row.key] = row

    def _grow(self, rows: int, size: int) -> None:
        self.bytes += size
        self._totals.add(rows, size)

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def head(self, now: Ns) -> Row | None:
        """The row to hand over next, or None: none waits, the stream is held back, or its key is still in flight."""
        if not self.rows or (self.blocked_until is not None and now < self.blocked_until):
            return None
        row = self.rows[0]
        if self.spec.class_ == "latest" and any(other.key == row.key for other in self.flying.values()):
            return None
        return row

    def hand_over(self, token: int) -> Row:
        """Take the head off the queue and into flight under `token`."""
        row = self.rows.popleft()
        self.flying[token] = row
        if self._waiting.get(row.key) is row:
            del self._waiting[row.key]
        return row

    def delivered(self, token: int) -> None:
        """The broker has it."""
        self._grow(-1, -self.flying.pop(token).size)
        self.book.delivered += 1
        self.book.queued -= 1
        self.refusals, self.blocked_until = 0, None

    def take_back(self, token: int) -> Row:
        """Put a row that was in flight back at the head."""
        row = self.flying.pop(token)
        self.rows.appendleft(row)
        return row

    def take_all_back(self) -> None:
        """The link is gone: everything in flight waits again, oldest first, before everything else."""
        for row in sorted(self.flying.values(), key=lambda row: row.seq, reverse=True):
            self.rows.appendleft(row)
        self.flying.clear()
        self.blocked_until, self.refusals = None, 0

    def bury(self, token: int, reason: str) -> None:
        """A row that can never be delivered becomes a dead letter: kept, still counted as queued, out of the way."""
        row = self.flying.pop(token)
        self._grow(-1, -row.size)
        self.dead.append((row, reason))

    # ── dropping ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def drop(self, index: int, reason: str) -> None:
        """Give up the waiting row at `index`: counted by the caller's reason and disclosed on the next message."""
        row = self.rows[index]
        del self.rows[index]
        self._grow(-1, -row.size)
        if self._waiting.get(row.key) is row:
            del self._waiting[row.key]
        self.book.queued -= 1
        if reason == "expired":
            self.book.expired += 1
        else:
            self.book.spilled += 1
        gap = merge(row.lost, Lost(from_=row.seq, to=row.seq, n=1, reason=reason))
        follower = self.rows[index] if 0 <= index < len(self.rows) else None
        if follower is not None and follower.payload is None:
            follower.lost = merge(gap, follower.lost)
        else:
            self._gap = merge(gap, self._gap)

    def expired(self, now: Ns) -> int:
        """Drop the rows whose time is over; returns how many. Rows in flight stay: the broker may have them already."""
        count = 0
        while self.rows and self.rows[0].payload is None and now >= self.rows[0].accepted + self.spec.expiry:
            self.drop(0, "expired")
            count += 1
        return count

    def spillable(self) -> int | None:
        """Index of the oldest row that may be dropped: one that was never handed to a socket."""
        for index, row in enumerate(self.rows):
            if row.payload is None:
                return index
        return None

    def due(self) -> Ns | None:
        """When time alone changes something here: elision, the expiry of the oldest row, the end of a pause."""
        due = self.elider.due() if self.elider is not None else None
        if self.rows:
            if self.rows[0].payload is None:
                expiry = Ns(self.rows[0].accepted + self.spec.expiry)
                due = expiry if due is None else min(due, expiry)
            if self.blocked_until is not None:
                due = self.blocked_until if due is None else min(due, self.blocked_until)
        return due

    @property
    def depth(self) -> int:
        """Messages that wait or are in flight."""
        return len(self.rows) + len(self.flying)

    @property
    def held(self) -> int:
        """Values that elision holds back."""
        return self.elider.held if self.elider is not None else 0

    @property
    def audit(self) -> bool:
        """Whether the books balance and agree with what really waits here."""
        return self.book.balanced and self.book.queued == self.depth + self.held + len(self.dead)
