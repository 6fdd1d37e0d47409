"""The rows of one stream that wait: the head in memory, the middle on disk alone, the tail in memory until it is written.

However long the queue, what it takes in memory stays about the same. As long as nothing lies on disk alone (the shelf is empty) there is no
tail either, and the queue is a deque.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from chappe.core.row import OVERHEAD, Row

PAGE = 512
"""Rows fetched at a time; the head is filled up when it is down to half of that."""

PAGE_BYTES = 1 << 20
"""Or so many bytes, where rows are large."""


class Totals:
    """What waits, is in flight or wants to be confirmed, over all lanes; and how many bytes of that are in memory alone."""

    __slots__ = ("bytes", "loose", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self.bytes = 0
        self.loose = 0


class Queue:
    """Rows in the order in which they leave.

    Args:
        totals: shared by all queues.

    Attributes:
        rows: the head; whatever leaves, leaves from here.
        tail: newer than anything on the shelf.
        shelf: how many rows lie on disk alone, between the two.
        after: id behind which the shelf begins.
        upto: id of its last row.
        fetching: whether a page of it has been asked for.
        unwanted: id up to which the owner wants nothing of what comes from the shelf.
        stored: rows of this stream in the table.
        stored_bytes: what they count for.
    """

    def __init__(self, totals: Totals) -> None:
        self.rows: deque[Row] = deque()
        self.tail: deque[Row] = deque()
        self.shelf = 0
        self.shelf_bytes = 0
        self.after = 0
        self.upto = 0
        self.fetching = False
        self.unwanted = 0
        self.stored = 0
        self.stored_bytes = 0
        self._totals = totals
        self._taken_down: set[int] = set()

    def found(self, rows: int, size: int, first: int, last: int) -> None:
        """Rows of earlier boots lie in the table."""
        self.stored, self.stored_bytes = rows, size
        self.shelf, self.shelf_bytes = rows, size
        self.after, self.upto = first - 1, last
        self._totals.rows += rows
        self._totals.bytes += size

    def append(self, row: Row) -> None:
        """A new row."""
        (self.tail if self.shelved else self.rows).append(row)
        totals = self._totals
        totals.rows += 1
        totals.bytes += row.size
        totals.loose += row.size

    def resize(self, row: Row, size: int) -> None:
        """A row that waits takes another value."""
        self._totals.bytes += size - row.size
        if row.stored:
            self.stored_bytes += size - row.size
        else:
            self._totals.loose += size - row.size

    def put_back(self, row: Row) -> None:
        """A row that had left comes back into its place."""
        rows = self.rows
        if not rows or row.id < rows[0].id:
            rows.appendleft(row)
            return
        place = next((place for place, other in enumerate(rows) if other.id > row.id), len(rows))
        rows.insert(place, row)

    def remove(self, row: Row) -> None:
        """A row leaves out of turn."""
        rows = self.rows
        if rows and rows[0] is row:
            rows.popleft()
        elif rows and rows[-1] is row:
            rows.pop()
        elif self.tail and self.tail[-1] is row:
            self.tail.pop()
        else:
            (self.rows if row in self.rows else self.tail).remove(row)

    def left(self, row: Row) -> None:
        """A row is gone for good."""
        totals = self._totals
        totals.rows -= 1
        totals.bytes -= row.size
        if not row.stored:
            totals.loose -= row.size

    # ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────

    def written(self, row: Row) -> None:
        """A row is in the table for the first time."""
        self.stored += 1
        self.stored_bytes += row.size
        if not row.done:
            self._totals.loose -= row.size

    def deleted(self, rows: int, size: int) -> None:
        """Rows are in the table no more."""
        self.stored, self.stored_bytes = self.stored - rows, self.stored_bytes - size

    def revive(self, row: Row) -> None:
        """A dead letter is a row of the table again."""
        self.stored += 1
        self.stored_bytes += row.size
        self._totals.rows += 1
        self._totals.bytes += row.size
        if self.after < row.id <= self.upto:
            self.shelf += 1
            self.shelf_bytes += row.size
        else:
            self.put_back(row)

    def shelve(self) -> None:
        """Leave on disk alone what is written there and will not be needed soon."""
        if not self.shelved:
            if len(self.rows) <= 2 * PAGE and _weight(self.rows) <= 2 * PAGE_BYTES:
                return
            head = deque([self.rows.popleft()])
            room = PAGE_BYTES - head[0].size
            while len(head) < PAGE and self.rows and (room := room - self.rows[0].size) >= 0:
                head.append(self.rows.popleft())
            self.tail, self.rows = self.rows, head
            self.after = self.upto = head[-1].id
        while self.tail and _restable(self.tail[0]):
            row = self.tail.popleft()
            self.shelf += 1
            self.shelf_bytes += row.size
            self.upto = row.id
        self._join()

    def fetched(self, rows: Iterable[Row], after: int, bad: int) -> int:
        """A page has come. Returns how many rows that should lie on the shelf are not there."""
        self.fetching = False
        for row in rows:
            if row.id not in self._taken_down:
                self.rows.append(row)
                self.shelf -= 1
                self.shelf_bytes -= row.size
        self._taken_down = {row_id for row_id in self._taken_down if row_id > after}
        self.after = after
        missing, size = bad, bad * OVERHEAD
        if self.after >= self.upto:
            missing, size = self.shelf, self.shelf_bytes
        self._forget(missing, size)
        self._join()
        return missing

    def recounted(self, rows: int, size: int) -> int:
        """The shelf has been counted anew. Returns how many rows are not there any more."""
        missing = self.shelf - rows
        self._forget(missing, self.shelf_bytes - size)
        return missing

    def _forget(self, rows: int, size: int) -> None:
        self.shelf -= rows
        self.shelf_bytes -= size
        self.stored -= rows
        self.stored_bytes -= size
        self._totals.rows -= rows
        self._totals.bytes -= size

    def holds(self, row_id: int) -> bool:
        """Whether a row is one of the shelf."""
        return self.after < row_id <= self.upto and row_id not in self._taken_down

    def take_down(self, row_id: int, size: int) -> None:
        """A row leaves the shelf for good; the table has it until it is deleted there."""
        self._taken_down.add(row_id)
        self.shelf -= 1
        self.shelf_bytes -= size
        self._totals.rows -= 1
        self._totals.bytes -= size
        self._join()

    def _join(self) -> None:
        if not self.shelved and self.tail:
            self.rows.extend(self.tail)
            self.tail.clear()

    @property
    def shelved(self) -> bool:
        """Whether anything may lie on disk alone. Ids decide, not the count: a count can be wrong, and then nothing may stay there."""
        return self.after < self.upto

    @property
    def wants(self) -> bool:
        """Whether a page should be fetched."""
        low = self.shelved and not self.fetching and len(self.rows) < PAGE // 2
        return low and _weight(self.rows) < PAGE_BYTES // 2

    @property
    def depth(self) -> int:
        """Rows that wait."""
        return len(self.rows) + self.shelf + len(self.tail)


def _weight(rows: Iterable[Row]) -> int:
    return sum(row.size for row in rows)


def _restable(row: Row) -> bool:
    """Whether the table holds all there is to a row, and nothing newer can take its place."""
    return row.stored and not row.dirty and not row.writing and row.payload is None and row.data is None
