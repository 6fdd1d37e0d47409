"""Questions to the history, answered a slice at a time: a search through everything must not hold up a commit."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from typing import Any

import msgspec

from chappe.core.stored import LANE_BITS, Found, Page, Query
from chappe.edge.store.codec import believable
from chappe.edge.store.entries import Entries

SLICE = 2000
CHUNK = 256
FAR = (1 << LANE_BITS) - 1


class _Part(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"")


_envelope = msgspec.json.Decoder(_Part)


class Search:
    """One question.

    Args:
        entries: the history.
        query: what is asked.
    """

    def __init__(self, entries: Entries, query: Query) -> None:
        self._entries = entries
        self._query = query
        self._newest = query.newest and not query.reader
        self._needles = _needles(query.text)
        self._walk = self._summary() if query.summary else self._all()
        self._rows: list[Found] = []
        self.bad: list[tuple[str, int]] = []

    def advance(self, most: int = SLICE) -> Page | None:
        """Look at up to `most` more entries.

        Returns:
            The answer, None while there is more to look at.

        Raises:
            sqlite3.Error: if the file is corrupt or cannot be read.
        """
        query = self._query
        for _ in range(most):
            with believable():
                looked = next(self._walk, False)
            if looked is False:
                return self._page(more=False)
            if isinstance(looked, Found):
                if len(self._rows) == query.n:
                    return self._page(more=True)
                self._rows.append(looked)
        return None

    def _page(self, *, more: bool) -> Page:
        first = self._entries.first(self._query.stream) if self._query.stream else None
        return Page(rows=tuple(self._rows), more=more, first=first)

    # ── ways through the entries; what does not match is None ────────────────────────────────────────────────────────

    def _streams(self) -> list[str]:
        return [self._query.stream] if self._query.stream else sorted(self._entries.lanes)

    def _all(self) -> Iterator[Found | None]:
        """In the order of time across streams, in that of offsets within each."""
        ways = [self._stream(stream) for stream in self._streams()]
        sign = -1 if self._newest else 1
        for found in ways[0] if len(ways) == 1 else heapq.merge(*ways, key=lambda one: sign * one.wall):
            yield found if self._matches(found) else None

    def _summary(self) -> Iterator[Found | None]:
        for stream in self._streams():
            for found in self._stream(stream):
                matches = self._matches(found)
                yield found if matches else None
                if matches:
                    break

    def _stream(self, stream: str) -> Iterator[Found]:
        lane = self._entries.lanes.get(stream)
        if lane is None:
            return
        query = self._query
        after = self._entries.cursor(query.reader, stream) if query.reader else query.after
        ranged = query.boot and (query.from_ is not None or query.to is not None)
        for record in self._numbered(lane.no) if ranged else self._placed(lane.no, after):
            found = self._entries.found(record, stream)
            if found is None:
                self.bad.append((stream, record[0]))
            elif after is None or _beyond(found.offset, after, newest=self._newest):
                yield found

    def _placed(self, lane: int, after: int | None) -> Iterator[tuple[Any, ...]]:
        """By offset; a new statement for each chunk, so that whatever is written meanwhile does no harm."""
        low, newest = lane << LANE_BITS, self._newest
        order, bound = ("DESC", "id >= ? AND id < ?") if newest else ("ASC", "id > ? AND id <= ?")
        beginning = low + FAR if newest else low - 1
        start = beginning if after is None else low + after
        while True:
            chunk = self._entries.link.execute(
                f"SELECT id, boot, seq, wall, crc, envelope FROM entries WHERE {bound} ORDER BY id {order} LIMIT ?",  # noqa: S608 - words of ours
                (low, start, CHUNK) if newest else (start, low + FAR, CHUNK),
            ).fetchall()
            yield from chunk
            if len(chunk) < CHUNK:
                return
            start = chunk[-1][0]

    def _numbered(self, lane: int) -> Iterator[tuple[Any, ...]]:
        """By number within a boot, along the index."""
        query = self._query
        boot = self._entries.boots.get(query.boot, -1)
        low, high = query.from_ or 0, FAR if query.to is None else query.to
        order = "DESC" if self._newest else "ASC"
        while True:
            chunk = self._entries.link.execute(
                "SELECT id, boot, seq, wall, crc, envelope FROM entries "  # noqa: S608 - words of ours
                f"WHERE lane = ? AND boot = ? AND seq BETWEEN ? AND ? ORDER BY seq {order} LIMIT ?",
                (lane, boot, low, high, CHUNK),
            ).fetchall()
            yield from chunk
            if len(chunk) < CHUNK:
                return
            low, high = (low, chunk[-1][2] - 1) if self._newest else (chunk[-1][2] + 1, high)

    # ── conditions ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _matches(self, found: Found) -> bool:
        query = self._query
        if query.boot and found.boot != query.boot:
            return False
        if query.since is not None and found.wall < query.since:
            return False
        if query.from_ is not None and found.seq < query.from_:
            return False
        if query.to is not None and found.seq > query.to:
            return False
        return not self._needles or _contains(found.envelope, self._needles)


def _beyond(offset: int, after: int, *, newest: bool) -> bool:
    return offset < after if newest else offset > after


def _needles(text: str) -> tuple[str, ...]:
    """What to look for in JSON: the text as given, and as it stands inside a JSON string."""
    if not text:
        return ()
    return tuple({text.casefold(), json.dumps(text, ensure_ascii=False)[1:-1].casefold()})


def _contains(envelope: bytes, needles: tuple[str, ...]) -> bool:
    """Whether the data of a message contains any of the needles, without regard to case."""
    try:
        data = bytes(_envelope.decode(envelope).data).decode().casefold()
    except (msgspec.MsgspecError, ValueError):
        return False
    return any(needle in data for needle in needles)
