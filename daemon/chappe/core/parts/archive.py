"""What has been: the history that this device keeps of its streams, how far each message has come, and the receipts that say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from chappe.core.context import Context
from chappe.core.effects import Consult, PlaceCursor
from chappe.core.events import Consulted
from chappe.core.ladder import RANKS
from chappe.core.lane import Lane
from chappe.core.parts.alerts import STREAM as ALERT
from chappe.core.parts.alerts import Alerts, written_soon
from chappe.core.questions import (
    HIGHEST,
    LONGEST_NAME,
    Question,
    Range,
    answered,
    boot_of,
    joined,
    name,
    runs,
    understood,
)
from chappe.core.requests import Handler, Later, field, number
from chappe.core.stored import Found
from chappe.core.units import Ns
from chappe.errors import WireError

LOOKED_THROUGH = 1000
"""Rows of a stream among which a single message is looked for; of what lies further back nothing is known but that it waits."""

LARGEST_RECEIPT = 1024
"""Bytes of a receipt that are read; a real one has a tenth of that."""


class Receipt(msgspec.Struct, frozen=True):
    """A message on ``receipt/<stream>``."""

    boot: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$(?!\n)")]
    seq: Annotated[int, Meta(ge=1, le=HIGHEST)]
    kind: Literal["delivered", "read"]
    by: Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME)]


_receipts = msgspec.json.Decoder(Receipt)


class Archive:
    """Answers about messages that have left, or are about to.

    Args:
        context: the engine's.
        alerts: hear of alerts that somebody has read.
        ticket: draws the number of a question to the store.
    """

    def __init__(self, context: Context, alerts: Alerts, ticket: Callable[[], int]) -> None:
        self._context = context
        self._alerts = alerts
        self._ticket = ticket
        self._counts: Counter[str] = Counter()

    def verbs(self) -> Mapping[str, Handler]:
        """What can be asked."""
        return {"history": self.history, "delivery": self.delivery, "cursor": self.cursor}

    # ── receipts ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def heard(self, stream: str, body: bytes) -> None:
        """Something arrived on ``receipt/<stream>``: what it confirms need not be kept any longer."""
        confirmed = self.receipt(stream, body)
        if confirmed is not None:
            self._context.outbox.returns.confirm(stream, *confirmed, self._context.now)

    def receipt(self, stream: str, body: bytes) -> tuple[str, int] | None:
        """A consumer says how far a message has come; whatever it sends, nothing else happens than is said here.

        Args:
            stream: the last level of the topic.
            body: the payload as it came.

        Returns:
            Boot and number of the message, if its stream waits for a consumer's word before it forgets a message; else None.
        """
        context = self._context
        lane = context.outbox.lanes.get(stream)
        found = _decoded(body) if lane is not None else None
        if lane is None or found is None:
            self._counts["invalid"] += 1
            return None
        wall = context.clock.wall(context.now)
        exists = self._on_the_way(lane, found.boot, found.seq)
        standing = context.ladder.receipt(stream, found.boot, found.seq, found.kind, found.by, wall, exists=exists)
        if standing is not None:
            self._counts[found.kind] += 1
            if found.kind == "read" and stream == ALERT:
                self._alerts.read(found.boot, found.seq)
            written_soon(context)
        return (found.boot, found.seq) if lane.spec.confirm else None

    def _on_the_way(self, lane: Lane, boot: str, seq: int) -> bool:
        """Whether a message is in flight: a receipt may overtake the broker's acknowledgement."""
        own = "" if boot == self._context.started.boot else boot
        return any(row.seq == seq and row.boot == own for row in lane.flying.values())

    def document(self) -> dict[str, int]:
        """For ``health``: receipts by what they said, and those that said nothing."""
        ladder = self._context.ladder
        counts = {kind: self._counts[kind] for kind in ("delivered", "read", "invalid")}
        return {**counts, "repeated": ladder.repeated, "unknown": ladder.unknown}

    # ── the history ──────────────────────────────────────────────────────────────────────────────────────────────────

    def history(self, body: Mapping[str, Any], now: Ns) -> Any:
        """Messages of the past; see `chappe.core.questions` for what can be asked and what is answered."""
        context = self._context
        question = understood(body, context.started.boot, context.clock.wall(now))
        ticket = self._ticket()
        context.emit(Consult(ticket=ticket, query=question.query))
        return Later(ticket, lambda event: self._consulted(question, event))

    def _consulted(self, question: Question, event: Consulted) -> dict[str, Any]:
        if event.error:
            raise WireError("busy", f"the history cannot be read: {event.error}")
        query = question.query
        lane = self._context.outbox.lanes.get(query.stream)
        if query.stream and lane is None and not event.page.rows and event.page.first is None:
            raise WireError("not_found", f"there is no stream {query.stream!r}")
        last = lane.seq if lane is not None and query.boot == self._context.started.boot else HIGHEST
        answer = answered(question, event.page, self._coming(lane, query.boot) if question.range else (), last)
        if question.mark:
            self._mark(answer.rows, question.by)
        return answer.document

    def _mark(self, rows: Iterable[Found], by: str) -> None:
        """What a read session has shown counts as read, once each."""
        context = self._context
        wall = context.clock.wall(context.now)
        for row in rows:
            context.ladder.receipt(row.stream, row.boot, row.seq, "read", by, wall, exists=True)
            if row.stream == ALERT:
                self._alerts.read(row.boot, row.seq)
        written_soon(context)

    def _coming(self, lane: Lane | None, boot: str) -> list[Range]:
        """Numbers of a boot that may still wait to be sent. Of those on disk alone only the bounds are known: none is called lost."""
        if lane is None:
            return []
        own = "" if boot == self._context.started.boot else boot
        queue = lane.queue
        waiting = (*lane.rows, *lane.flying.values(), *(row for row, _ in lane.confirming.values()))
        found = runs(row.seq for row in waiting if row.boot == own)
        if queue.shelf:
            below = max((row.seq for row in queue.rows if row.boot == own), default=0)
            above = min((row.seq for row in queue.tail if row.boot == own), default=HIGHEST if own else lane.seq + 1)
            if below + 1 < above:
                found.append((below + 1, above - 1))
        return joined(found)

    def cursor(self, body: Mapping[str, Any], now: Ns) -> Any:
        """A reader has everything of a stream up to an offset."""
        del now
        reader, stream = name(body, "reader"), name(body, "stream")
        if not reader or not stream:
            raise WireError("bad_request", "reader and stream must be given")
        offset = number(body, "offset", 0, HIGHEST)
        self._context.emit(PlaceCursor(reader=reader, stream=stream, offset=offset))
        return {"reader": reader, "stream": stream, "offset": offset}

    # ── one message ──────────────────────────────────────────────────────────────────────────────────────────────────

    def delivery(self, body: Mapping[str, Any], now: Ns) -> Any:
        """How far one message has come."""
        context = self._context
        stream, seq = field(body, "stream", str), number(body, "seq", 1, HIGHEST)
        boot = boot_of(body, context.started.boot)
        standing = context.ladder.of(stream, boot, seq)
        row = self._row(stream, boot, seq, now)
        if standing is None and row is None and not self._may_wait(stream, boot, seq):
            raise WireError("not_found", f"nothing is known of message {seq} of {stream!r} in boot {boot}")
        if standing is None:
            state = "stored" if row is None else row["state"] if row["state"] in RANKS else "queued"
            standing = {"stream": stream, "boot": boot, "seq": seq, "state": state, "times": {}, "by": {}}
        return {**standing, **({"row": row} if row is not None else {})}

    def _may_wait(self, stream: str, boot: str, seq: int) -> bool:
        """Whether a message may lie on disk alone."""
        return any(first <= seq <= last for first, last in self._coming(self._context.outbox.lanes.get(stream), boot))

    def _row(self, stream: str, boot: str, seq: int, now: Ns) -> dict[str, Any] | None:
        """What the queue knows of a message that waits."""
        listing = self._context.outbox.counter.listing(now, LOOKED_THROUGH, stream)
        waiting = (*listing["rows"], *listing["dead"])
        return next((row for row in waiting if (row["stream"], row["boot"], row["seq"]) == (stream, boot, seq)), None)


def _decoded(body: bytes) -> Receipt | None:
    """A receipt, None where it is none."""
    if len(body) > LARGEST_RECEIPT:
        return None
    try:
        return _receipts.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
