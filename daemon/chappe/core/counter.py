"""The owner's desk: what waits and why, giving it up, trying it again (``chappe queue``)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from chappe.core.effects import Exhume, Fetch
from chappe.core.envelope import iso
from chappe.core.events import Fetched
from chappe.core.lane import Lane
from chappe.core.row import Row
from chappe.core.shelves import SWEEP
from chappe.core.stock import Stock
from chappe.core.units import SECOND, Ns

PATIENCE = 5 * SECOND
"""How long the store may take to make dead letters rows again, until commits go on without its answer."""


class Depth(msgspec.Struct, frozen=True):
    """What waits: messages, bytes, age of the oldest in seconds, dead letters."""

    depth: int
    bytes: int
    oldest_s: float
    dead: int


class Dropped(msgspec.Struct, frozen=True):
    """What came of giving rows up.

    Attributes:
        count: given up now.
        in_flight: rows that cannot be, as they are on their way.
        pending: rows that lie on disk alone and are given up as they are found there.
    """

    count: int
    in_flight: int = 0
    pending: int = 0


class Counter:
    """Serves the owner.

    Args:
        stock: the outbox's state.
    """

    def __init__(self, stock: Stock) -> None:
        self._stock = stock

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def depth(self, now: Ns) -> Depth:
        """What waits, as figures."""
        stock = self._stock
        heads = [row for lane in stock.order for row in (*list(lane.queue.rows)[:1], *lane.flying.values())]
        oldest = min((row.accepted for row in heads), default=now)
        return Depth(stock.totals.rows, stock.totals.bytes, (now - oldest) / SECOND, len(stock.dead))

    def listing(self, now: Ns, n: int, stream: str = "") -> dict[str, Any]:
        """What waits, oldest first in each stream; of rows and dead letters at most `n` each."""
        stock = self._stock
        lanes = [lane for lane in stock.order if not stream or lane.spec.name == stream]
        rows = [self._row(lane, row, state, now) for lane in lanes for row, state in _rows(lane, n)]
        oldest = min((row.accepted for lane in lanes for row, _ in _rows(lane, 1)), default=now)
        dead = [row for row in stock.dead.values() if not stream or row.stream == stream]
        return {
            "depth": sum(lane.depth for lane in lanes),
            "bytes": stock.totals.bytes,
            "oldest_s": round((now - oldest) / SECOND, 3),
            "streams": {
                lane.spec.name: self._lane(lane, now) for lane in lanes if lane.depth or lane.dead or lane.held
            },
            "rows": rows[:n],
            "dead": [{**msgspec.to_builtins(row), "since": iso(row.since), "state": "rejected"} for row in dead[:n]],
        }

    def _lane(self, lane: Lane, now: Ns) -> dict[str, Any]:
        waits = lane.blocked_until
        return {
            "depth": lane.depth,
            "on_disk_only": lane.queue.shelf,
            "in_flight": len(lane.flying),
            "unconfirmed": len(lane.confirming),
            "dead": lane.dead,
            "held": lane.held,
            **({"retry_in_s": round((waits - now) / SECOND, 3)} if waits is not None and waits > now else {}),
        }

    def _row(self, lane: Lane, row: Row, state: str, now: Ns) -> dict[str, Any]:
        held = lane.held and state != "in_flight"
        return {
            "id": row.id,
            "stream": lane.spec.name,
            "boot": self._stock.boot_of(row),
            "seq": row.seq,
            "key": row.key,
            "priority": lane.spec.priority,
            "state": state,
            "age_s": round((now - row.accepted) / SECOND, 3),
            "attempts": row.attempts,
            "reason": "not_authorized" if held else "",
        }

    # ── giving up ────────────────────────────────────────────────────────────────────────────────────────────────────

    def drop_rows(self, ids: Collection[int], stream: str, dead: bool, now: Ns) -> Dropped:
        """Give up rows by id, of a stream, or all; or dead letters likewise."""
        if dead:
            chosen = [row.id for row in self._stock.dead.values() if self._meant(row.id, row.stream, ids, stream)]
            return Dropped(self._stock.forget_dead(chosen, "operator", now))
        count = in_flight = pending = 0
        for lane in self._stock.order:
            if stream in ("", lane.spec.name):
                waiting = [row for row in lane.rows if not ids or row.id in ids]
                flying = [*lane.flying.values(), *(row for row, _ in lane.confirming.values())]
                in_flight += sum(1 for row in flying if not ids or row.id in ids)
                for row in waiting:
                    self._stock.drop(lane, row, "operator", now)
                count += len(waiting)
                pending += self._sweep(lane, ids) if ids else self._unwant(lane)
        if ids:
            count += self._stock.forget_dead([row_id for row_id in ids if row_id in self._stock.dead], "operator", now)
        return Dropped(count, in_flight, pending)

    def _meant(self, row_id: int, owner: str, ids: Collection[int], stream: str) -> bool:
        return row_id in ids or (not ids and stream in ("", owner))

    def _sweep(self, lane: Lane, ids: Collection[int]) -> int:
        """Ask for what is meant of the rows on disk alone, without their data."""
        wanted = [row_id for row_id in ids if lane.queue.holds(row_id)]
        for row_id in wanted:
            self._stock.wishes.append(
                Fetch(stream=lane.spec.name, after=row_id - 1, upto=row_id, limit=1, purpose=SWEEP)
            )
        return len(wanted)

    def _unwant(self, lane: Lane) -> int:
        """Nothing of what lies on disk alone is wanted: page by page it is given up as it comes."""
        lane.queue.unwanted = lane.queue.upto
        return lane.queue.shelf

    def swept(self, event: Fetched, now: Ns) -> None:
        """Rows on disk alone that are to be given up have been found; they may have been paged in meanwhile."""
        stock = self._stock
        lane = stock.lanes[event.stream]
        for found in event.rows:
            if lane.queue.holds(found.id):
                lane.give_up(found, stock.own(found.boot))
                stock.ladder.ended(event.stream, found.boot, found.seq, "spilled", now)
                stock.keeper.freed(1, now)
            else:
                for row in [row for row in lane.rows if row.id == found.id]:
                    stock.drop(lane, row, "operator", now)
        stock.worth_a_look = True

    # ── trying again ─────────────────────────────────────────────────────────────────────────────────────────────────

    def retry(self, ids: Collection[int], stream: str, dead: bool, now: Ns) -> int:
        """Try dead letters again, by id, of a stream, or all; and a stream that the broker holds back, at once.

        Returns:
            How many letters.
        """
        stock = self._stock
        chosen = tuple(row.id for row in stock.dead.values() if self._meant(row.id, row.stream, ids, stream))
        if chosen and not stock.exhuming:
            stock.exhuming = chosen
            stock.keeper.retry_at = Ns(now + PATIENCE)
            stock.wishes.append(Exhume(ids=chosen))
        if not dead and not ids:
            for lane in stock.order:
                if stream in ("", lane.spec.name):
                    lane.blocked_until, lane.shunned = None, False
            stock.worth_a_look = True
        return len(chosen)


def _rows(lane: Lane, n: int) -> list[tuple[Row, str]]:
    """The first `n` rows of a lane that are in memory, with their states."""
    flying = [(row, "in_flight") for row in lane.flying.values()]
    flying += [(row, "unconfirmed") for row, _ in lane.confirming.values()]
    waiting = ((row, "stored" if row.stored else "queued") for row in (*lane.queue.rows, *lane.queue.tail))
    return sorted([*flying, *(item for item, _ in zip(waiting, range(n), strict=False))], key=lambda item: item[0].id)[
        :n
    ]
