"""Receipts: noted with the message that they confirm, sent until the broker has them, and said again to a device that has not heard."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from chappe.consumer.inbox import Inbox
from chappe.consumer.keeper import Keeper
from chappe.consumer.ledger import BookId
from chappe.consumer.terms import Clock, Options, Outgoing
from chappe.consumer.words import Kind
from chappe.core.envelope import to_json
from chappe.core.topics import Topics
from chappe.core.units import SECOND, WallNs

ANSWERED_FOR: WallNs = WallNs(30 * SECOND)
"""A repeat that comes later than this after its receipt says that the device has not heard it; a device waits 60 s (HIS-06)."""

_OWE = """
INSERT INTO chappe_receipts (device, stream, boot, seq, kind, wall) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (device, stream, boot, seq, kind) DO UPDATE SET sent = 0, wall = excluded.wall
WHERE sent = 1 AND NOT wall BETWEEN ? AND ?
RETURNING id
"""
_OWED = "SELECT id, device, stream, boot, seq, kind FROM chappe_receipts WHERE sent = 0 ORDER BY id"


class _Owed(NamedTuple):
    """A row of the table."""

    id: int
    device: str
    stream: str
    boot: str
    seq: int
    kind: Kind


class Receipts:
    """What this consumer has to confirm.

    Args:
        keeper: has the table.
        inbox: knows what the application has not taken yet.
        clock: tells how long ago something was said.
        options: which receipts are wanted, and whose they are.
    """

    def __init__(self, keeper: Keeper, inbox: Inbox, clock: Clock, options: Options) -> None:
        self._keeper = keeper
        self._inbox = inbox
        self._clock = clock
        self._options = options
        self._noted: list[_Owed] = []
        self._owed: deque[_Owed] = deque()
        self._under_way = 0

    def open(self) -> None:
        """Take up what was not sent, or not heard to have arrived: by an earlier run, or over a connection that is gone."""
        self._owed = deque(_Owed(*row) for row in self._keeper.db.execute(_OWED))
        self._under_way = 0

    @property
    def quiet(self) -> bool:
        """Whether the broker has all of them."""
        return not self._owed and not self._under_way

    # ── inside a transaction ─────────────────────────────────────────────────────────────────────────────────────────

    def note(self, book_id: BookId, seq: int, kind: Kind) -> None:
        """A message has come that far. Nothing becomes of it where one is under way or was sent a moment ago."""
        if kind not in self._options.receipts:
            return
        wall = self._clock.wall()
        # A wall clock that was set back makes no receipt immortal: one of the future is old as well.
        values = (*book_id, seq, kind, wall, wall - ANSWERED_FOR, wall + ANSWERED_FOR)
        row = self._keeper.db.execute(_OWE, values).fetchone()
        if row is not None:
            self._noted.append(_Owed(row[0], *book_id, seq, kind))

    def repeated(self, book_id: BookId, seq: int) -> None:
        """A message has come again: whoever sends again after a while has not heard how far it has come."""
        read = "read" in self._options.receipts and not self._inbox.holds(book_id, seq)
        self.note(book_id, seq, "read" if read else "delivered")

    def arrived(self, ids: Sequence[int]) -> None:
        """These are with the broker; those of some time ago are forgotten."""
        db, wall = self._keeper.db, self._clock.wall()
        db.executemany("UPDATE chappe_receipts SET sent = 1, wall = ? WHERE id = ?", ((wall, each) for each in ids))
        db.execute("DELETE FROM chappe_receipts WHERE sent = 1 AND wall < ?", (wall - ANSWERED_FOR,))
        db.execute("DELETE FROM chappe_receipts WHERE sent = 1 AND wall > ?", (wall + ANSWERED_FOR,))

    # ── after it ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def committed(self, ids: Sequence[int] = ()) -> None:
        """What was noted is on the disk, and may be said.

        Args:
            ids: those of which the broker has acknowledged the arrival.
        """
        self._owed.extend(self._noted)
        self._noted.clear()
        self._under_way -= len(ids)

    def outgoing(self, room: int) -> list[Outgoing]:
        """The next ones, at most `room`."""
        out = [self._message(self._owed.popleft()) for _ in range(min(room, len(self._owed)))]
        self._under_way += len(out)
        return out

    def _message(self, owed: _Owed) -> Outgoing:
        body = {"boot": owed.boot, "seq": owed.seq, "kind": owed.kind, "by": self._options.name}
        topic = Topics(self._options.prefix, owed.device).receipt(owed.stream)
        return Outgoing(topic, to_json(body), receipt=owed.id)
