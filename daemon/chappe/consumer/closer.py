"""Which gaps are asked for, when, and when to stop asking. Pure: time is an argument.

A gap is not asked for at once: after a reconnect a device offers again what was not acknowledged, and what the broker refused once
comes later than what follows it, so that most gaps close by themselves. One that is older than the patience (and at most twice as
old) is asked for with ``req/history``, one question at a time per device, page by page. A *round* goes through all old gaps of one book; a round that brought
nothing is repeated after a wait that doubles, and after `Patience.tries` such rounds the gaps are given up. Only devices that are
there are asked, so that a device without power costs no tries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from chappe.consumer.ledger import BookId, Ledger
from chappe.consumer.ranges import Span
from chappe.consumer.words import Gap
from chappe.core.units import MILLISECOND, MINUTE, SECOND, Ns

WORTH = 3
"""Gaps are asked for together while at least one number in this many is missing; what is there already comes as a repeat."""

BREATH: Ns = Ns(SECOND)
"""What a device asks for that is asked too much: it counts requests over one second."""


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How a consumer treats gaps; all times in nanoseconds.

    Attributes:
        first: how old a gap must be before it is asked for.
        answer: how long an answer may take.
        pace: time between two questions to one device, which takes 10 requests a second from all who ask.
        longest: longest wait after a round that brought nothing.
        tries: rounds in a row that bring nothing before the gap is given up; 0 for never.
    """

    first: Ns = Ns(5 * SECOND)
    answer: Ns = Ns(10 * SECOND)
    pace: Ns = Ns(200 * MILLISECOND)
    longest: Ns = Ns(10 * MINUTE)
    tries: int = 10

    def after(self, failures: int) -> Ns:
        """How long to wait after so many rounds in a row that brought nothing."""
        return min(self.longest, Ns(self.first << min(failures, 40)))


class Question(msgspec.Struct, frozen=True):
    """What to ask a device for: numbers `first` to `last`, or everything from `first` on where `last` is None."""

    book_id: BookId
    first: int
    last: int | None

    def covers(self, boot: str, seq: int) -> bool:
        """Whether this message is among what is asked for."""
        return boot == self.book_id[2] and seq >= self.first and (self.last is None or seq <= self.last)


class _Round:
    """Where the asking about one book stands.

    Attributes:
        seen_at, seen_top: up to which number gaps were seen when.
        mature: gaps up to this number are old enough.
        tail_since: since when the end of the boot is in question, None if it is not.
        cursor: next number to ask for in this round.
        asked, moved, promised: whether anything was asked in this round, whether it brought anything, and whether the device is still about
            to send some of it.
        failures: rounds in a row that brought nothing.
        not_before: when the next question may be asked.
        hopeless: whether to give up.
    """

    __slots__ = (
        "asked",
        "cursor",
        "failures",
        "hopeless",
        "mature",
        "moved",
        "not_before",
        "promised",
        "seen_at",
        "seen_top",
        "tail_asked",
        "tail_since",
    )

    def __init__(self, now: Ns, top: int) -> None:
        self.seen_at, self.seen_top = now, top
        self.mature = 0
        self.tail_since: Ns | None = None
        self.tail_asked = False
        self.cursor = 0
        self.asked = self.moved = self.promised = self.hopeless = False
        self.failures = 0
        self.not_before = now

    def grow_old(self, now: Ns, top: int, patience: Ns, *, tail: bool) -> None:
        """Time passes."""
        if now >= self.seen_at + patience:
            self.mature = self.seen_top
        if self.mature >= self.seen_top and top > self.seen_top:
            self.seen_at, self.seen_top = now, top
        if not tail:
            self.tail_since = None
        elif self.tail_since is None:
            self.tail_since = now


class _Desk:
    """What is under way with one device."""

    __slots__ = ("deadline", "not_before", "question")

    def __init__(self) -> None:
        self.question: Question | None = None
        self.deadline = self.not_before = Ns(0)


class Closer:
    """Closes gaps.

    Args:
        ledger: knows them.
        patience: how long to wait, and how often to ask.
    """

    def __init__(self, ledger: Ledger, patience: Patience) -> None:
        self._ledger = ledger
        self._patience = patience
        self._rounds: dict[BookId, _Round] = {}
        self._desks: dict[str, _Desk] = {}

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, now: Ns, answers: Callable[[str], bool], most: int = 1000) -> list[Question]:
        """What is to be asked now; at most one question for each device.

        Args:
            now: when.
            answers: whether a device is there to answer.
            most: how many questions at most.
        """
        self._look(now)
        questions: list[Question] = []
        for device, mine in self._by_device().items():
            desk = self._desks.setdefault(device, _Desk())
            if desk.question is not None and now >= desk.deadline:
                # It may have gone while we waited: that says nothing about what it has.
                (self.failed if answers(device) else self.too_fast)(desk.question, now)
            if desk.question is None and now >= desk.not_before and len(questions) < most and answers(device):
                desk.question = self._next(mine, now)
                desk.deadline = Ns(now + self._patience.answer)
                questions += [desk.question] if desk.question is not None else []
        return questions

    def _by_device(self) -> dict[str, list[BookId]]:
        found: dict[str, list[BookId]] = {}
        for book_id in sorted(self._ledger.wanting):
            found.setdefault(book_id[0], []).append(book_id)
        return found

    def _look(self, now: Ns) -> None:
        wanting = self._ledger.wanting
        self._rounds = {book_id: round_ for book_id, round_ in self._rounds.items() if book_id in wanting}
        for book_id in wanting:
            book = self._ledger.book(book_id)
            assert book is not None
            round_ = self._rounds.setdefault(book_id, _Round(now, book.top))
            round_.grow_old(now, book.top, self._patience.first, tail=book.tail)

    def _next(self, mine: list[BookId], now: Ns) -> Question | None:
        for book_id in mine:
            round_ = self._rounds[book_id]
            if now < round_.not_before or round_.hopeless:
                continue
            question = self._question(book_id, round_, now)
            if question is not None:
                round_.asked = True
                return question
            if round_.asked:
                self._round_over(round_, now)
        return None

    def _question(self, book_id: BookId, round_: _Round, now: Ns) -> Question | None:
        book = self._ledger.book(book_id)
        assert book is not None
        span = _together(book.holes(round_.cursor, round_.mature))
        if span is not None:
            return Question(book_id, *span)
        ripe = round_.tail_since is not None and now >= round_.tail_since + self._patience.first
        if ripe and not round_.tail_asked:
            return Question(book_id, max(book.top + 1, round_.cursor), None)
        return None

    def _round_over(self, round_: _Round, now: Ns) -> None:
        round_.failures = 0 if round_.moved else round_.failures + 1
        # What is promised may take days (a stream that the broker forbids): asked about ever less often, but never given up.
        round_.hopeless = 0 < self._patience.tries <= round_.failures and not round_.promised
        round_.not_before = Ns(now + self._patience.after(round_.failures)) if round_.failures else now
        round_.cursor = 0
        round_.asked = round_.moved = round_.promised = round_.tail_asked = False

    # ── what comes of it ─────────────────────────────────────────────────────────────────────────────────────────────

    def answered(
        self, question: Question, now: Ns, *, last: int | None, more: bool, moved: bool, promised: bool = False
    ) -> None:
        """The device has answered, and the ledger has it.

        Args:
            question: what was asked.
            now: when.
            last: highest number in the answer, None where it had no message.
            more: whether the device says that more would follow.
            moved: whether the ledger knows more than before.
            promised: whether the device says that some of it is still to be sent.
        """
        self._free(question, Ns(now + self._patience.pace))
        further = more and last is not None and last >= question.first
        if question.last is None and not further and not promised:
            self._ledger.ended(question.book_id)
        round_ = self._rounds.get(question.book_id)
        if round_ is not None:
            round_.moved |= moved
            round_.promised |= promised
            self._move_on(round_, question, last if further else None)

    def failed(self, question: Question, now: Ns) -> None:
        """The device refused, or did not answer."""
        self._free(question, Ns(now + self._patience.pace))
        round_ = self._rounds.get(question.book_id)
        if round_ is not None:
            self._move_on(round_, question, None)

    def too_fast(self, question: Question, now: Ns) -> None:
        """The device takes no requests for now: the same again a little later."""
        self._free(question, Ns(now + BREATH))

    def link_down(self) -> None:
        """No answer will come any more: what was under way is asked again."""
        for desk in self._desks.values():
            desk.question = None

    def _free(self, question: Question, not_before: Ns) -> None:
        desk = self._desks[question.book_id[0]]
        desk.question, desk.not_before = None, not_before

    def _move_on(self, round_: _Round, question: Question, last: int | None) -> None:
        if last is not None:
            round_.cursor = last + 1
        elif question.last is not None:
            round_.cursor = question.last + 1
        else:
            round_.tail_asked = True

    @property
    def hopeless(self) -> bool:
        """Whether there is something to give up."""
        return any(round_.hopeless for round_ in self._rounds.values())

    def give_up(self) -> list[Gap]:
        """What was asked for in vain often enough is lost, and said to be."""
        gaps: list[Gap] = []
        for book_id, round_ in self._rounds.items():
            if round_.hopeless:
                round_.hopeless, round_.failures = False, 0
                gaps += self._ledger.give_up(book_id, round_.mature)
        return gaps


def _together(holes: Iterator[Span]) -> Span | None:
    """The first of `holes`, with those that follow closely enough to be asked for in one go."""
    span = next(holes, None)
    if span is None:
        return None
    first, last = span
    missing = last - first + 1
    for begin, end in holes:
        missing += end - begin + 1
        if missing * WORTH < end - first + 1:
            break
        last = end
    return first, last
