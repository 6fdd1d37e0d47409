"""What goes from the history first: what is too old for its stream, then the oldest of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chappe.core.units import Ns, WallNs
from chappe.edge.store.entries import Entries, Place

CHUNK = 256
LAST = frozenset({"alert"})
"""Streams that give way last."""

# Before this the clock was never set: nothing can be said of the age of such an entry.
PLAUSIBLE = WallNs(1_577_836_800 * 10**9)


def prune_age(entries: Entries, now: WallNs, retention: Mapping[str, Ns], default: Ns) -> int:
    """Remove entries that are older than their stream keeps them, some of each at a time.

    Returns:
        How many were removed.

    Raises:
        sqlite3.Error: if the file cannot be written.
    """
    removed = 0
    for stream in list(entries.lanes):
        limit = now - retention.get(stream, default)
        removed += entries.remove(stream, _prefix(entries.oldest(stream, 2 * CHUNK), limit), "age", now)
    return removed


def prune_bytes(entries: Entries, now: WallNs, limit: int) -> None:
    """Remove the oldest entries until all take up at most `limit`; alerts only when nothing else is left.

    Raises:
        sqlite3.Error: if the file cannot be written.
    """
    while entries.bytes > limit:
        heads = {stream: places for stream in entries.lanes if (places := entries.oldest(stream, CHUNK))}
        if not heads:
            break
        stream = min(heads, key=lambda name: (name in LAST, heads[name][0].wall))
        peers = [name for name in heads if name != stream and (name in LAST) == (stream in LAST)]
        until = min((heads[name][0].wall for name in peers), default=None)
        if not entries.remove(stream, _surplus(heads[stream], entries.bytes - limit, until), "bytes", now):
            break


def _prefix(places: Sequence[Place], limit: int) -> Sequence[Place]:
    """The entries before `limit`, up to the first one that is not; those stamped by a clock never set go with those behind them."""
    end = 0
    for index, place in enumerate(places):
        if place.wall >= limit:
            break
        if place.wall >= PLAUSIBLE:
            end = index + 1
    return places[:end]


def _surplus(places: Sequence[Place], surplus: int, until: int | None) -> Sequence[Place]:
    """As many of the oldest as make up `surplus` bytes, but none younger than `until`, and at least one."""
    for index, place in enumerate(places):
        if index and (surplus <= 0 or (until is not None and place.wall > until)):
            return places[:index]
        surplus -= place.size
    return places
