"""The history of a `Shelf`: every question is answered by looking at everything."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from chappe.core.stored import LANE_BITS, Entry, Found, Page, Query
from chappe.core.units import DAY, Ns, WallNs

BESIDE = 64
DEFAULT_AGE = Ns(7 * DAY)


class Bounds(NamedTuple):
    """Bounds of a history: most bytes, and how long each stream's messages are kept."""

    bytes: int
    retention: Mapping[str, Ns]


class Annals(msgspec.Struct):
    """A history.

    Attributes:
        kept: entries by stream and offset.
        offsets: the next offset of each stream.
        cursors: offset by reader and stream.
        waiting: what a kill would take.
    """

    kept: dict[str, dict[int, Entry]] = {}
    offsets: dict[str, int] = {}
    cursors: dict[tuple[str, str], int] = {}
    waiting: list[Entry] = []

    def after_kill(self) -> Annals:
        """A copy of what a kill leaves."""
        kept = {stream: dict(entries) for stream, entries in self.kept.items()}
        return Annals(kept=kept, offsets=dict(self.offsets), cursors=dict(self.cursors))

    def add(self, entries: Iterable[Entry]) -> int:
        """Take entries in; returns the bytes that wait."""
        self.waiting.extend(entries)
        return sum(map(_size, self.waiting))

    def flush(self) -> None:
        """Keep what waits; what is there already is replaced and keeps its offset."""
        for entry in self.waiting:
            kept = self.kept.setdefault(entry.stream, {})
            same = (offset for offset, old in kept.items() if (old.boot, old.seq) == (entry.boot, entry.seq))
            offset = next(same, None)
            if offset is None:
                offset = self.offsets.get(entry.stream, 0)
                self.offsets[entry.stream] = offset + 1
            kept[offset] = entry
        self.waiting.clear()

    def prune(self, now: WallNs, bounds: Bounds) -> None:
        """Remove what is too old, then the oldest of what is too much; alerts last."""
        for stream, kept in self.kept.items():
            limit = now - bounds.retention.get(stream, DEFAULT_AGE)
            while kept and kept[min(kept)].wall < limit:
                del kept[min(kept)]
        while sum(_size(one) for kept in self.kept.values() for one in kept.values()) > bounds.bytes:
            full = [stream for stream, kept in self.kept.items() if kept]
            victims = self.kept[min(full, key=self._turn)]
            del victims[min(victims)]

    def _turn(self, stream: str) -> tuple[bool, WallNs]:
        kept = self.kept[stream]
        return stream == "alert", kept[min(kept)].wall

    # ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────

    def answer(self, query: Query) -> Page:
        """The page that answers a question."""
        streams = [query.stream] if query.stream else sorted(self.kept)
        sign = -1 if query.newest and not query.reader else 1
        ways = [self._matching(query, stream, newest=sign < 0) for stream in streams]
        if query.summary:
            found = [one for way in ways for one in way[:1]]
        else:
            found = ways[0] if query.stream else list(heapq.merge(*ways, key=lambda one: sign * one.wall))
        kept = self.kept.get(query.stream)
        return Page(
            rows=tuple(found[: query.n]), more=len(found) > query.n, first=min(kept) if query.stream and kept else None
        )

    def _matching(self, query: Query, stream: str, *, newest: bool) -> list[Found]:
        after = self.cursors.get((query.reader, stream)) if query.reader else query.after
        found = []
        for offset, one in sorted(self.kept.get(stream, {}).items(), reverse=newest):
            beyond = after is None or (offset < after if newest else offset > after)
            numbered = (query.from_ or 0) <= one.seq <= (query.to if query.to is not None else 1 << LANE_BITS)
            recent = query.since is None or one.wall >= query.since
            if beyond and numbered and recent and query.boot in ("", one.boot) and _says(one.envelope, query.text):
                found.append(Found(offset, stream, one.boot, one.seq, one.wall, one.envelope))
        if query.boot and (query.from_ is not None or query.to is not None):
            found.sort(key=lambda one: one.seq, reverse=newest)
        return found


def _size(entry: Entry) -> int:
    return len(entry.envelope) + BESIDE


def _says(envelope: bytes, text: str) -> bool:
    if not text:
        return True
    data = json.dumps(json.loads(envelope).get("data"), ensure_ascii=False, separators=(",", ":")).casefold()
    return text.casefold() in data or json.dumps(text, ensure_ascii=False)[1:-1].casefold() in data
