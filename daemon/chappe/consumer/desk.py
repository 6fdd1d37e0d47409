"""The consumer without its connection: messages in, things to publish out, and the application in between.

No network and no thread: `chappe.consumer.client` carries messages to and from the broker.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chappe.consumer.closer import Closer
from chappe.consumer.inbox import Inbox
from chappe.consumer.inquiry import Inquiry
from chappe.consumer.intake import Intake
from chappe.consumer.keeper import Keeper
from chappe.consumer.ledger import Ledger
from chappe.consumer.receipts import Receipts
from chappe.consumer.terms import Clock, Counts, Incoming, Options, Outgoing
from chappe.consumer.words import Gap, Message
from chappe.core.units import MILLISECOND, Ns

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger(__name__)

TURN: Ns = Ns(100 * MILLISECOND)
"""How long the application may take items before the network has its turn again."""

MOST_IN_A_TURN = 200


class Desk:
    """Everything but the network.

    Args:
        keeper: the file; opened before this is.
        clock: where now comes from.
        options: what to do.
    """

    def __init__(self, keeper: Keeper, clock: Clock, options: Options) -> None:
        self.counts = Counts()
        self._keeper = keeper
        self._clock = clock
        self._options = options
        self._begin()

    def _begin(self) -> None:
        options = self._options
        self._ledger = Ledger(backfill=options.backfill)
        self._closer = Closer(self._ledger, options.patience)
        self._inquiry = Inquiry(options)
        self._inbox = Inbox(self._keeper)
        self._receipts = Receipts(self._keeper, self._inbox, self._clock, options)
        self._intake = Intake(
            options,
            self.counts,
            inbox=self._inbox,
            ledger=self._ledger,
            closer=self._closer,
            inquiry=self._inquiry,
            receipts=self._receipts,
        )

    def open(self) -> None:
        """Take up where an earlier run ended: what is in the file counts, and nothing else."""
        self._begin()
        self._keeper.load(self._ledger)
        self._inbox.open()
        self._receipts.open()
        books = self._ledger.counts()
        missing = sum(holes for _, holes in books.values())
        log.info("%d boots of streams are known, %d messages are missing", len(books), missing)

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, batch: Sequence[Incoming], receipted: Sequence[int] = ()) -> None:
        """Deal with what came; when this returns, it is on the disk, and may be acknowledged.

        Args:
            batch: messages.
            receipted: numbers of the receipts that the broker has acknowledged.

        Raises:
            StoreError: if the disk does not take it; nothing of `batch` may be acknowledged then.
        """
        if not batch and not receipted and not self._closer.hopeless:
            return
        now = self._clock.now()
        try:
            with self._keeper.transaction():
                for incoming in batch:
                    self._intake.take(incoming, now)
                self._intake.told(self._closer.give_up())
                self._receipts.arrived(receipted)
                self._keeper.save(self._ledger)
        except BaseException:
            # The ledger in memory is ahead of the file now: going on would acknowledge what is not there.
            self._keeper.close()
            raise
        self._receipts.committed(receipted)
        self.counts.receipts += len(receipted)

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def outgoing(self, room: int) -> list[Outgoing]:
        """What is to be published now.

        Args:
            room: how much may be published; what does not fit waits.
        """
        if room <= 0:
            return []
        questions = self._closer.ask(self._clock.now(), self._is_there, room)
        self.counts.questions += len(questions)
        out = [self._inquiry.request(question) for question in questions]
        return out + self._receipts.outgoing(room - len(out))

    def _is_there(self, device: str) -> bool:
        return device not in self._intake.absent

    def link_down(self) -> None:
        """The connection is gone: what had no answer is asked, and said, again."""
        self._closer.link_down()
        self._inquiry.link_down()
        self._receipts.open()

    # ── the application ──────────────────────────────────────────────────────────────────────────────────────────────

    def hand_over(self) -> bool:
        """Let the application take what is next, for a turn; True if there may be more.

        Raises:
            Exception: whatever the application's handlers raise; what they took before is committed, the item at hand will come again.
        """
        ends = self._clock.now() + TURN
        first_hole = self._ledger.first_hole if self._options.ordered else None
        try:
            count = self._inbox.hand_over(
                self._give, most=MOST_IN_A_TURN, enough=lambda: self._clock.now() >= ends, first_hole=first_hole
            )
        finally:
            self._receipts.committed()
        return count > 0

    def _give(self, item: Message | Gap, db: sqlite3.Connection) -> None:
        if isinstance(item, Gap):
            if self._options.on_gap is not None:
                self._options.on_gap(item, db)
            return
        self._options.handler(item, db)
        book_id = (item.device, item.stream, item.boot)
        if not self._ledger.is_transient(book_id):
            self._receipts.note(book_id, item.seq, "read")

    @property
    def quiet(self) -> bool:
        """Whether every receipt is with the broker."""
        return self._receipts.quiet

    @property
    def wanting(self) -> bool:
        """Whether something is missing that a device could be asked for."""
        return bool(self._ledger.wanting)
