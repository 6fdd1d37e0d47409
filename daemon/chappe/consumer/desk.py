"""Where everything that a consumer hears is dealt with: what to keep, what to answer, what to ask, what the application gets.

No network and no thread: messages in, things to publish out. `chappe.consumer.client` carries them to and from the broker.
"""

from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from chappe.consumer.closer import Closer, Patience, Question
from chappe.consumer.keeper import Keeper, Owed
from chappe.consumer.ledger import BookId, Ledger
from chappe.consumer.words import (
    Answer,
    Gap,
    Kind,
    Message,
    Pages,
    read_answer,
    read_envelope,
    read_info,
    read_state,
)
from chappe.core.envelope import to_json
from chappe.core.topics import Topics
from chappe.core.units import MILLISECOND, Ns, WallNs

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger(__name__)

PAGE = 50
"""Messages asked for at a time."""

TURN: Ns = Ns(100 * MILLISECOND)
"""How long the application may take items before the network has its turn again."""

MOST_IN_A_TURN = 200

Handler = Callable[[Message, "sqlite3.Connection"], object]
GapHandler = Callable[[Gap, "sqlite3.Connection"], object]


class Clock(Protocol):
    """Where "now" comes from."""

    def now(self) -> Ns:
        """Monotonic nanoseconds."""

    def wall(self) -> WallNs:
        """Nanoseconds since the Unix epoch."""


class Incoming(msgspec.Struct, frozen=True):
    """A message from the broker.

    Attributes:
        correlation: MQTT 5 correlation data.
        handle: packet identifier by which it is acknowledged.
    """

    topic: str
    payload: bytes
    qos: int = 1
    correlation: bytes = b""
    handle: int = 0


class Outgoing(msgspec.Struct, frozen=True):
    """A message for the broker, QoS 1.

    Attributes:
        reply_to: MQTT 5 response topic, empty for none.
        correlation: MQTT 5 correlation data.
        receipt: number of the receipt that it is, 0 for none.
    """

    topic: str
    payload: bytes
    reply_to: str = ""
    correlation: bytes = b""
    receipt: int = 0


class Counts(msgspec.Struct):
    """What has happened since the start.

    Attributes:
        messages: first copies.
        repeats: further copies.
        recovered: of the first copies, those that had to be asked for.
        lost: disclosed gaps, and gaps given up.
        questions: requests sent.
        receipts: receipts that the broker has.
        invalid: messages that could not be understood; each is in the log.
    """

    messages: int = 0
    repeats: int = 0
    recovered: int = 0
    lost: int = 0
    questions: int = 0
    receipts: int = 0
    invalid: int = 0


class Desk:
    """The consumer without its connection.

    Args:
        keeper: open.
        clock: where now comes from.
        prefix: first level of all topics.
        name: this consumer's, as it stands in receipts.
        handler: gets each message.
        on_gap: gets each gap; None for nobody.
        receipts: which receipts to send.
        ordered: whether messages are held until those before them have come or are lost.
        backfill: whether to ask for what a device sent before this consumer knew it.
        patience: how gaps are treated.
    """

    def __init__(
        self,
        keeper: Keeper,
        *,
        clock: Clock,
        prefix: str,
        name: str,
        handler: Handler,
        on_gap: GapHandler | None,
        receipts: Sequence[Kind],
        ordered: bool,
        backfill: bool,
        patience: Patience,
    ) -> None:
        self.counts = Counts()
        self._keeper = keeper
        self._clock = clock
        self._prefix = prefix
        self._name = name
        self._handler = handler
        self._on_gap = on_gap
        self._receipts = tuple(receipts)
        self._ordered = ordered
        self._backfill = backfill
        self._patience = patience
        self._begin()

    def _begin(self) -> None:
        self._ledger = Ledger(backfill=self._backfill)
        self._closer = Closer(self._ledger, self._patience)
        # Answers to an earlier run's questions may still come: their ids must not be ours.
        self._run = secrets.token_hex(4)
        self._asked: dict[str, Question] = {}
        self._absent: set[str] = set()
        self._owed: deque[Owed] = deque()
        self._under_way = 0

    def open(self) -> None:
        """Take up where an earlier run ended: what is in the file counts, and nothing else."""
        self._begin()
        self._keeper.load(self._ledger)
        self._owed.extend(self._keeper.owed())
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
        owed: list[Owed] = []
        try:
            with self._keeper.transaction():
                self._take(batch, receipted, owed)
        except BaseException:
            # The ledger in memory is ahead of the file now: going on would acknowledge what is not there.
            self._keeper.close()
            raise
        self._owed.extend(owed)
        self._under_way -= len(receipted)
        self.counts.receipts += len(receipted)

    def _take(self, batch: Iterable[Incoming], receipted: Sequence[int], owed: list[Owed]) -> None:
        for incoming in batch:
            self._sort(incoming, owed)
        self._told(self._closer.give_up())
        self._keeper.save(self._ledger)
        if receipted or owed:
            self._keeper.sent(receipted, self._clock.wall())

    def _sort(self, incoming: Incoming, owed: list[Owed]) -> None:
        levels = incoming.topic.split("/")
        device, *rest = levels[1:] if levels[0] == self._prefix and len(levels) > 2 else [""]
        match rest:
            case ["stream", stream]:
                understood = self._message(device, stream, incoming.payload, owed)
            case ["state"]:
                understood = self._state(device, incoming.payload)
            case ["info"]:
                understood = self._info(device, incoming.payload)
            case ["res", "history", *_]:
                understood = self._answer(device, incoming, owed)
            case _:
                understood = False
        if not understood:
            self.counts.invalid += 1
            log.warning(
                "not understood, %d bytes on %s: %r", len(incoming.payload), incoming.topic, incoming.payload[:80]
            )

    def _message(
        self, device: str, stream: str, payload: bytes, owed: list[Owed], question: Question | None = None
    ) -> bool:
        arrived = read_envelope(payload)
        if arrived is None or (question is not None and not _answers(question, arrived.boot, arrived.seq)):
            return False
        book_id = (device, stream, arrived.boot)
        taken = self._ledger.receive(device, stream, arrived, recalled=question is not None)
        self._told(taken.gaps)
        if not taken.fresh:
            self.counts.repeats += 1
            if question is None:
                self._owe(book_id, arrived.seq, self._due_again(book_id, arrived.seq), owed)
            return True
        self.counts.messages += 1
        self.counts.recovered += question is not None
        self._keeper.put(book_id, arrived.seq, "overdue" if taken.overdue else "fresh", payload)
        self._owe(book_id, arrived.seq, "delivered" if "delivered" in self._receipts else None, owed)
        return True

    def _due_again(self, book_id: BookId, seq: int) -> Kind | None:
        """What to answer to a repeat: whoever sends again after a while has not heard the receipt."""
        read = "read" in self._receipts and not self._keeper.holds(book_id, seq)
        return "read" if read else "delivered" if "delivered" in self._receipts else None

    def _owe(self, book_id: BookId, seq: int, kind: Kind | None, owed: list[Owed]) -> None:
        if kind is None or self._ledger.is_transient(book_id):
            return
        due = self._keeper.owe(book_id, seq, kind, self._clock.wall())
        if due is not None:
            owed.append(due)

    def _told(self, gaps: Iterable[Gap]) -> None:
        for gap in gaps:
            self.counts.lost += 1
            log.warning(
                "%s/%s, boot %s: %d to %s are lost (%s)",
                gap.device,
                gap.stream,
                gap.boot,
                gap.first,
                gap.last or "its end",
                gap.reason,
            )
            if self._on_gap is not None:
                self._keeper.put((gap.device, gap.stream, gap.boot), gap.first, "gap", to_json(gap))

    def _state(self, device: str, payload: bytes) -> bool:
        state = read_state(payload)
        if state is None:
            # Whoever wants a device forgotten publishes an empty retained message.
            return not payload
        (self._absent.discard if state.status == "online" else self._absent.add)(device)
        self._ledger.stopped(device, state)
        return True

    def _info(self, device: str, payload: bytes) -> bool:
        info = read_info(payload)
        if info is not None:
            self._ledger.described(device, (each.name for each in info.streams if each.class_ == "transient"))
        return info is not None or not payload

    # ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _answer(self, device: str, incoming: Incoming, owed: list[Owed]) -> bool:
        answer = read_answer(incoming.payload)
        if answer is None:
            return False
        name = incoming.correlation.decode("ascii", "replace") or str(answer.id)
        question = self._asked.get(name)
        if question is None or question.book_id[0] != device:
            return True  # somebody else's, or an earlier run's
        del self._asked[name]
        now = self._clock.now()
        if answer.status == "ok":
            self._pages(question, answer.data or Pages(), now, owed)
        elif answer.error is not None and answer.error.code == "rate_limited":
            self._closer.too_fast(question, now)
        else:
            self._refused(question, answer, now)
        return True

    def _pages(self, question: Question, pages: Pages, now: Ns, owed: list[Owed]) -> None:
        device, stream, _ = question.book_id
        before = self._ledger.extent(question.book_id)
        last: int | None = None
        for raw in pages.messages:
            payload = bytes(raw)
            if self._message(device, stream, payload, owed, question):
                arrived = read_envelope(payload)
                assert arrived is not None
                last = max(last or 0, arrived.seq)
            else:
                self.counts.invalid += 1
                log.warning("%s answers with what was not asked for: %r", device, payload[:80])
        self._told(self._ledger.gone(question.book_id, pages.lost, question.first, question.last))
        moved = self._ledger.extent(question.book_id) != before
        self._closer.answered(question, now, last=last, more=pages.more, moved=moved, promised=bool(pages.queued))

    def _refused(self, question: Question, answer: Answer, now: Ns) -> None:
        error = answer.error
        log.warning("%s does not tell its history: %s", question.book_id[0], error.message if error else answer.status)
        self._closer.failed(question, now)

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def outgoing(self, room: int) -> list[Outgoing]:
        """What is to be published now.

        Args:
            room: how much may be published; what does not fit waits.
        """
        if room <= 0:
            return []
        now = self._clock.now()
        out = [self._request(question) for question in self._closer.ask(now, self._is_there, room)]
        while self._owed and len(out) < room:
            out.append(self._receipt(self._owed.popleft()))
            self._under_way += 1
        return out

    def _is_there(self, device: str) -> bool:
        return device not in self._absent

    def _request(self, question: Question) -> Outgoing:
        self.counts.questions += 1
        device, stream, boot = question.book_id
        topics = Topics(self._prefix, device)
        name = f"{self._name}-{self._run}-{self.counts.questions}"
        # An answer that is late for its question is nobody's: the question may have been asked again.
        self._asked = {key: other for key, other in self._asked.items() if other.book_id[0] != device}
        self._asked[name] = question
        until = {} if question.last is None else {"to": question.last}
        body = {"id": name, "stream": stream, "boot": boot, "from": question.first, **until, "n": PAGE}
        return Outgoing(topics.req("history"), to_json(body), f"{topics.res('history')}/{self._name}", name.encode())

    def _receipt(self, owed: Owed) -> Outgoing:
        body = {"boot": owed.boot, "seq": owed.seq, "kind": owed.kind, "by": self._name}
        return Outgoing(Topics(self._prefix, owed.device).receipt(owed.stream), to_json(body), receipt=owed.id)

    def link_down(self) -> None:
        """The connection is gone: what had no answer is asked, and said, again."""
        self._closer.link_down()
        self._asked.clear()
        self._owed = deque(self._keeper.owed())
        self._under_way = 0

    # ── the application ──────────────────────────────────────────────────────────────────────────────────────────────

    def hand_over(self) -> bool:
        """Let the application take what is next, for a turn; True if there may be more.

        Raises:
            Exception: whatever the application's handlers raise; what they took before is committed, the item at hand will come again.
        """
        ends = self._clock.now() + TURN
        owed: list[Owed] = []

        def take(item: Message | Gap, db: sqlite3.Connection) -> None:
            if isinstance(item, Message):
                self._handler(item, db)
                if "read" in self._receipts:
                    self._owe((item.device, item.stream, item.boot), item.seq, "read", owed)
            elif self._on_gap is not None:
                self._on_gap(item, db)

        first_hole = self._ledger.first_hole if self._ordered else None
        try:
            count = self._keeper.hand_over(
                take, most=MOST_IN_A_TURN, enough=lambda: self._clock.now() >= ends, first_hole=first_hole
            )
        finally:
            self._owed.extend(owed)
        return count > 0

    @property
    def quiet(self) -> bool:
        """Whether every receipt is with the broker."""
        return not self._owed and not self._under_way

    @property
    def wanting(self) -> bool:
        """Whether something is missing that a device could be asked for."""
        return bool(self._ledger.wanting)


def _answers(question: Question, boot: str, seq: int) -> bool:
    return boot == question.book_id[2] and seq >= question.first and (question.last is None or seq <= question.last)
