"""What each message from the broker means, and what it does to the ledger, the inbox and the receipts; inside a transaction."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from chappe.consumer.closer import Closer, Question
from chappe.consumer.inbox import Inbox
from chappe.consumer.inquiry import Inquiry
from chappe.consumer.ledger import Ledger
from chappe.consumer.receipts import Receipts
from chappe.consumer.terms import Counts, Incoming, Options
from chappe.consumer.words import Answer, Gap, Pages, read_answer, read_envelope, read_info, read_state
from chappe.core.envelope import to_json
from chappe.core.units import Ns

log = logging.getLogger(__name__)


class Intake:
    """Takes in what comes.

    Args:
        options: topics, and whether anybody wants to hear of gaps.
        counts: what is counted.
        inbox: keeps messages for the application.
        ledger: knows their numbers.
        closer: hears of answers.
        inquiry: knows which question an answer is for.
        receipts: are owed for messages.

    Attributes:
        absent: devices that are known not to be there.
    """

    def __init__(
        self,
        options: Options,
        counts: Counts,
        *,
        inbox: Inbox,
        ledger: Ledger,
        closer: Closer,
        inquiry: Inquiry,
        receipts: Receipts,
    ) -> None:
        self.absent: set[str] = set()
        self._options = options
        self._counts = counts
        self._inbox = inbox
        self._ledger = ledger
        self._closer = closer
        self._inquiry = inquiry
        self._receipts = receipts

    def take(self, incoming: Incoming, now: Ns) -> None:
        """Deal with one message; one that cannot be understood is counted and logged."""
        levels = incoming.topic.split("/")
        device, *rest = levels[1:] if levels[0] == self._options.prefix and len(levels) > 2 else [""]
        match rest:
            case ["stream", stream]:
                understood = self._message(device, stream, incoming.payload)
            case ["state"]:
                understood = self._state(device, incoming.payload)
            case ["info"]:
                understood = self._info(device, incoming.payload)
            case ["res", "history", *_]:
                understood = self._answer(device, incoming, now)
            case _:
                understood = False
        if not understood:
            self._not_understood(incoming.topic, incoming.payload)

    def _not_understood(self, where: str, payload: bytes) -> None:
        self._counts.invalid += 1
        log.warning("not understood, %d bytes on %s: %r", len(payload), where, payload[:80])

    # ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _message(self, device: str, stream: str, payload: bytes, question: Question | None = None) -> bool:
        arrived = read_envelope(payload)
        if arrived is None or (question is not None and not question.covers(arrived.boot, arrived.seq)):
            return False
        book_id = (device, stream, arrived.boot)
        taken = self._ledger.receive(device, stream, arrived, recalled=question is not None)
        self.told(taken.gaps)
        confirm = not self._ledger.is_transient(book_id)
        if taken.fresh:
            self._counts.messages += 1
            self._counts.recovered += question is not None
            self._inbox.put(book_id, arrived.seq, "overdue" if taken.overdue else "fresh", payload)
            if confirm:
                self._receipts.note(book_id, arrived.seq, "delivered")
        else:
            self._counts.repeats += 1
            if confirm and question is None:
                self._receipts.repeated(book_id, arrived.seq)
        return True

    def told(self, gaps: Iterable[Gap]) -> None:
        """These numbers will not come."""
        for gap in gaps:
            self._counts.lost += 1
            where = f"{gap.device}/{gap.stream}, boot {gap.boot}"
            log.warning("%s: %d to %s are lost (%s)", where, gap.first, gap.last or "its end", gap.reason)
            if self._options.on_gap is not None:
                self._inbox.put((gap.device, gap.stream, gap.boot), gap.first, "gap", to_json(gap))

    # ── what devices say of themselves ───────────────────────────────────────────────────────────────────────────────

    def _state(self, device: str, payload: bytes) -> bool:
        state = read_state(payload)
        if state is None:
            # Whoever wants a device forgotten publishes an empty retained message.
            return not payload
        (self.absent.discard if state.status == "online" else self.absent.add)(device)
        self._ledger.stopped(device, state)
        return True

    def _info(self, device: str, payload: bytes) -> bool:
        info = read_info(payload)
        if info is not None:
            self._ledger.described(device, (each.name for each in info.streams if each.class_ == "transient"))
        return info is not None or not payload

    # ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _answer(self, device: str, incoming: Incoming, now: Ns) -> bool:
        answer = read_answer(incoming.payload)
        if answer is None:
            return False
        question = self._inquiry.match(device, incoming, answer)
        if question is not None:
            self._answered(question, answer, now)
        return True

    def _answered(self, question: Question, answer: Answer, now: Ns) -> None:
        error = answer.error
        if answer.status == "ok":
            self._pages(question, answer.data or Pages(), now)
        elif error is not None and error.code == "rate_limited":
            self._closer.too_fast(question, now)
        else:
            why = error.message if error is not None else answer.status
            log.warning("%s does not tell its history: %s", question.book_id[0], why)
            self._closer.failed(question, now)

    def _pages(self, question: Question, pages: Pages, now: Ns) -> None:
        device, stream, _ = question.book_id
        before = self._ledger.extent(question.book_id)
        last: int | None = None
        for raw in pages.messages:
            payload = bytes(raw)
            arrived = read_envelope(payload)
            if arrived is not None and self._message(device, stream, payload, question):
                last = max(last or 0, arrived.seq)
            else:
                self._not_understood(f"the history of {device}, which was not asked for that", payload)
        self.told(self._ledger.gone(question.book_id, pages.lost, question.first, question.last))
        moved = self._ledger.extent(question.book_id) != before
        self._closer.answered(question, now, last=last, more=pages.more, moved=moved, promised=bool(pages.queued))
