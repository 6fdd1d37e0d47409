"""What waits in a stopped store, as ``queue show --json`` prints it; a running daemon tells it in the same shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from chappe.core.envelope import iso
from chappe.core.stored import BootFound, DeadRow, LaneFound
from chappe.core.streams import effective
from chappe.core.units import SECOND
from chappe.edge.host import Clock
from chappe.edge.store.base import Base, span
from chappe.edge.store.found import backlog


class Listing:
    """Reads what waits.

    Args:
        base: the open file.
        clock: for ages.
    """

    def __init__(self, base: Base, clock: Clock) -> None:
        self._base = base
        self._clock = clock
        self._boots: dict[str, BootFound] = {}

    def told(self, limit: int, stream: str, priorities: Mapping[str, int]) -> dict[str, Any]:
        """Everything, or one stream; of rows and dead letters at most `limit` each.

        Raises:
            sqlite3.Error: if the file cannot be read.
        """
        found = backlog(self._base)
        self._boots = {boot.boot: boot for boot in found.boots}
        ranks = {name: priorities.get(name, effective(name).priority) for name in found.lanes}
        lanes = {name: lane for name, lane in found.lanes.items() if stream in ("", name)}
        order = sorted(lanes, key=lambda name: -ranks[name])
        ages = [self._age(lane.boot, lane.accepted) for lane in lanes.values() if lane.first]
        dead = [letter for letter in found.dead if letter.stream in lanes]
        rows: list[dict[str, Any]] = []
        for name in order:
            rows += self._rows(lanes[name].entry.no, name, ranks[name], limit - len(rows))
        return {
            "depth": sum(lane.entry.rows for lane in lanes.values()),
            "bytes": sum(lane.entry.bytes for lane in lanes.values()),
            "oldest_s": max(ages, default=0.0),
            "streams": {name: told for name in order if (told := _lane(lanes[name], dead, name))},
            "rows": rows,
            "dead": [
                {**msgspec.to_builtins(one), "since": iso(one.since), "state": "rejected"} for one in dead[:limit]
            ],
        }

    def _rows(self, no: int, stream: str, priority: int, limit: int) -> list[dict[str, Any]]:
        found = self._base.link.execute(
            'SELECT id, boot, seq, "key", accepted, attempts FROM rows WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?',
            (*span(no), max(0, limit)),
        )
        return [
            {
                "id": id_,
                "stream": stream,
                "boot": (boot := self._base.boot_names.get(number, "")),
                "seq": seq,
                "key": key,
                "priority": priority,
                "state": "stored",
                "age_s": self._age(boot, accepted),
                "attempts": attempts,
                "reason": "",
            }
            for id_, number, seq, key, accepted, attempts in found
        ]

    def _age(self, boot: str, accepted: int) -> float:
        """Seconds since a moment of a boot; over a restart of the machine the wall clock connects the two."""
        old = self._boots.get(boot)
        if old is None or old.kernel == self._base.kernel:
            age = self._clock.now() - accepted
        else:
            age = self._clock.wall() - accepted - old.offset
        return round(max(0, age) / SECOND, 3)


def _lane(found: LaneFound, dead: list[DeadRow], stream: str) -> dict[str, Any]:
    """A stream with something in it, as the running daemon tells it."""
    letters = sum(letter.stream == stream for letter in dead)
    if not found.entry.rows and not letters:
        return {}
    rows = found.entry.rows
    return {"depth": rows, "on_disk_only": rows, "in_flight": 0, "unconfirmed": 0, "dead": letters, "held": False}
