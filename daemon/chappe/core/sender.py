"""What leaves: whose turn it is, whether a row may leave yet, and the message it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from chappe.core.drain import Pace, Turns
from chappe.core.echo import Echo
from chappe.core.effects import Chronicle, Listen, Publish
from chappe.core.envelope import Envelope, to_json
from chappe.core.lane import Lane
from chappe.core.row import Row
from chappe.core.stock import Stock
from chappe.core.stored import Entry
from chappe.core.units import SECOND, Ns

POISON_AFTER = 3
"""Connections in a row that the peer ended with a message in flight; then it is sent alone."""

CONFIRM_WINDOW = 256
"""Messages of one stream that may wait for a consumer's word; the rest stays where it is cheap."""


class Sender:
    """Makes messages out of rows.

    Args:
        stock: the outbox's state.
        names: topic of each stream.
        token: draws a number that no other message of this boot has.
        pace: of the backlog.
        echo: proof by echo.

    Attributes:
        alone: the message that is suspected of ending connections, while it is in flight with no other.
    """

    def __init__(
        self, stock: Stock, names: Mapping[str, str], token: Callable[[], int], pace: Pace, echo: Echo
    ) -> None:
        self.alone: int | None = None
        self._stock = stock
        self._names = names
        self._token = token
        self._pace = pace
        self._echo = echo
        self._turns = Turns(pace)
        self._chronicle: list[Entry] = []

    def restart(self, now: Ns) -> None:
        """A connection begins."""
        self.alone = None
        self._pace.restart(now)
        self._echo.restart(self._names)

    @property
    def due(self) -> Ns | None:
        """When the pace lets the backlog go on."""
        return self._pace.due

    def take(self, now: Ns, credit: int) -> list[Publish | Listen]:
        """At most `credit` messages for the socket: by priority, then oldest first; in a stream by number."""
        out: list[Publish | Listen] = []
        stock = self._stock
        if not stock.online or not (stock.keeper.known or stock.keeper.failing) or self.alone in stock.tokens:
            return out
        waiting = [lane for lane in stock.order if lane.queue.rows]
        while len(out) < credit:
            chosen = self._choose(waiting, now)
            if chosen is None:
                stock.worth_a_look = False
                break
            lane, row = chosen
            suspect = row.flights >= POISON_AFTER
            if suspect and (stock.tokens or out):
                break
            if self._echo.needs(lane.spec.name):
                out.append(Listen(filter=self._names[lane.spec.name]))
            message = self._hand_over(lane, now)
            out.append(message)
            if suspect:
                self.alone = message.token
                break
        return out

    def _choose(self, waiting: list[Lane], now: Ns) -> tuple[Lane, Row] | None:
        ready = [
            (lane, row, self.is_late(row))
            for lane in waiting
            if lane.queue.rows and (row := self._sendable(lane, now)) is not None
        ]
        if not ready:
            return None
        chosen = self._turns.next(ready, now)
        if chosen is None:
            self._stock.wake_by(self._pace.due)
        return chosen

    def _sendable(self, lane: Lane, now: Ns) -> Row | None:
        """The head of a lane if it may leave now: `first` rows and new gaps of written rows have to be on the disk."""
        row = lane.head(now)
        if row is None or self._echo.blocks(lane.spec.name):
            return None
        if lane.spec.confirm and len(lane.confirming) + len(lane.flying) >= CONFIRM_WINDOW:
            return None
        if lane.gaps.pending and not row.fixed and not self._disclose(lane, row, now):
            return None
        if row.payload is not None or self._stock.keeper.failing:
            return row
        if lane.durable and lane.spec.durability == "first":
            return row if row.stored and not (row.dirty or row.writing) else None
        if row.dirty and (row.stored or row.writing):
            self._write_first(lane, row, now)
            return None
        return None if row.stored and row.writing else row

    def _write_first(self, lane: Lane, row: Row, now: Ns) -> None:
        """What is on the disk is not what would leave: after a kill the same number would have another content."""
        lane.pin(row)
        lane.urgent = True
        self._stock.keeper.wants(now)

    def _disclose(self, lane: Lane, row: Row, now: Ns) -> bool:
        """Let a row carry the gaps before it. Returns False if it has to wait for the commit that it is part of."""
        gaps = lane.gaps.for_message(row.seq)
        if not gaps or row.lost is not None:
            return True
        if row.writing:
            return False
        row.lost = lane.gaps.ride(row.id, gaps)
        if row.stored and not row.dirty:
            row.dirty = True
            lane.pending.append(row)
            lane.urgent = True
        self._stock.keeper.wants(now)
        return True

    def is_late(self, row: Row) -> bool:
        """Whether a row waited while the link was down."""
        return row.late or row.accepted < self._stock.since or bool(row.boot)

    def _hand_over(self, lane: Lane, now: Ns) -> Publish:
        token = self._token()
        row = lane.hand_over(token)
        self._stock.tokens[token] = lane
        if row.payload is None:
            late = self.is_late(row)
            lane.book.late += late
            row.payload = self._render(row, late=late)
            if lane.spec.history is not None and (not row.kept or row.lost is not None):
                self.keep(lane, row)
        if self._echo.needs(lane.spec.name):
            self._echo.sent(lane.spec.name, token, row.payload, now)
            self._stock.wake_by(self._echo.due())
        left = row.accepted + lane.spec.expiry - now
        return Publish(
            token=token,
            topic=self._names[lane.spec.name],
            payload=row.payload,
            qos=0 if lane.spec.class_ == "transient" else 1,
            expiry_s=-(-left // SECOND) if left > SECOND else 1,
        )

    def _render(self, row: Row, *, late: bool) -> bytes:
        """A row's message, made once and repeated byte for byte."""
        stamp = self._stock.boots.stamp(row.boot, row.at)
        data = msgspec.Raw(row.body)
        return to_json(
            Envelope(
                self._stock.boot_of(row), row.seq, stamp.at, stamp.synced, data, row.elided, late, row.lost, row.model
            )
        )

    # ── history ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def keep(self, lane: Lane, row: Row) -> None:
        """A row enters the history, as it was sent or would be sent."""
        row.kept = True
        stock = self._stock
        wall = stock.boots.wall(row.boot, row.at)
        payload = row.payload or self._render(row, late=False)
        self._chronicle.append(Entry(lane.spec.name, stock.boot_of(row), row.seq, wall, payload))

    def keep_written(self) -> None:
        """What is being written because it cannot be sent enters the history now."""
        for lane, row in self._stock.keeper.rows_under_way:
            if not row.kept and row.data is None and lane.spec.history is not None:
                self.keep(lane, row)

    def chronicle(self) -> Chronicle | None:
        """What has entered the history since the last call."""
        if not self._chronicle:
            return None
        entries = tuple(self._chronicle)
        self._chronicle.clear()
        return Chronicle(entries=entries)
