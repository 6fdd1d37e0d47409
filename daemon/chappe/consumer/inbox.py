"""The inbox: messages and news of gaps, on the disk until the application has taken them, in the order in which it wants them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from chappe.consumer.keeper import Keeper
from chappe.consumer.ledger import BookId
from chappe.consumer.words import HIGHEST, Gap, Message, message
from chappe.errors import StoreError

if TYPE_CHECKING:
    import sqlite3

_HELD = "SELECT device, stream, boot, count(*) FROM chappe_inbox GROUP BY device, stream, boot"
_NEXT = "SELECT id, device, stream, boot, seq, what, payload FROM chappe_inbox ORDER BY id LIMIT ?"
_IN_ORDER = """
SELECT id, device, stream, boot, seq, what, payload FROM chappe_inbox
WHERE (device, stream, boot) = (?, ?, ?) AND seq < ? ORDER BY seq, id LIMIT ?
"""


class _Row(NamedTuple):
    """A row of the inbox; `what` is ``fresh``, ``overdue`` or ``gap``."""

    id: int
    device: str
    stream: str
    boot: str
    seq: int
    what: str
    payload: bytes

    @property
    def book_id(self) -> BookId:
        return self.device, self.stream, self.boot

    def item(self) -> Message | Gap:
        """What the application gets."""
        if self.what == "gap":
            return msgspec.json.decode(self.payload, type=Gap)
        return message(self.device, self.stream, self.payload, overdue=self.what == "overdue")


Take = Callable[[Message | Gap, "sqlite3.Connection"], None]
"""The application's hand: gets what is next, and the connection with the open transaction."""


class Inbox:
    """What the application has not taken yet.

    Args:
        keeper: has the table.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._held: dict[BookId, int] = {}

    def open(self) -> None:
        """Count what an earlier run left."""
        self._held = {(row[0], row[1], row[2]): row[3] for row in self._keeper.db.execute(_HELD)}

    def put(self, book_id: BookId, seq: int, what: str, payload: bytes) -> None:
        """Keep a message, or the news of a gap, until the application takes it; inside a transaction."""
        self._keeper.db.execute(
            "INSERT INTO chappe_inbox (device, stream, boot, seq, what, payload) VALUES (?, ?, ?, ?, ?, ?)",
            (*book_id, seq, what, payload),
        )
        self._held[book_id] = self._held.get(book_id, 0) + 1

    def hand_over(
        self, take: Take, *, most: int, enough: Callable[[], bool], first_hole: Callable[[BookId], int | None] | None
    ) -> int:
        """Let the application take what is next, in one transaction; what it took before it failed is committed.

        Args:
            take: called with each item and the connection.
            most: how many items at most.
            enough: whether to leave the rest for later; asked after each item.
            first_hole: for order within each book: the number that is waited for; None for the order of arrival.

        Returns:
            How many items it took.

        Raises:
            StoreError: if `take` ended the transaction.
        """
        rows = self._next(most) if first_hole is None else self._in_order(most, first_hole)
        if not rows:
            return 0
        taken = 0
        self._keeper.db.execute("BEGIN IMMEDIATE")
        try:
            while taken < len(rows) and not (taken and enough()):
                self._take_one(rows[taken], take)
                taken += 1
        finally:
            if self._keeper.db.in_transaction:
                self._keeper.db.execute("COMMIT")
        return taken

    def _take_one(self, row: _Row, take: Take) -> None:
        self._keeper.db.execute("SAVEPOINT chappe_one")
        try:
            take(row.item(), self._keeper.db)
        except BaseException:
            if self._keeper.db.in_transaction:
                self._keeper.db.execute("ROLLBACK TO chappe_one")
            raise
        if not self._keeper.db.in_transaction:
            raise StoreError("the handler ended the transaction", remedy="leave commit and rollback to the consumer")
        self._keeper.db.execute("DELETE FROM chappe_inbox WHERE id = ?", (row.id,))
        self._keeper.db.execute("RELEASE chappe_one")
        self._held[row.book_id] -= 1
        if not self._held[row.book_id]:
            del self._held[row.book_id]

    def _next(self, most: int) -> list[_Row]:
        return [_Row(*row) for row in self._keeper.db.execute(_NEXT, (most,))] if self._held else []

    def _in_order(self, most: int, first_hole: Callable[[BookId], int | None]) -> list[_Row]:
        rows: list[_Row] = []
        for book_id in self._held:
            hole = first_hole(book_id)
            limit = HIGHEST + 1 if hole is None else hole
            rows += [_Row(*row) for row in self._keeper.db.execute(_IN_ORDER, (*book_id, limit, most - len(rows)))]
        return rows

    def holds(self, book_id: BookId, seq: int) -> bool:
        """Whether the application has this message still before it."""
        found = self._keeper.db.execute(
            "SELECT 1 FROM chappe_inbox WHERE (device, stream, boot, seq) = (?, ?, ?, ?) AND what <> 'gap'",
            (*book_id, seq),
        )
        return found.fetchone() is not None
