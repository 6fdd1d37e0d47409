"""The account of every message: de-duplication, gaps, and what has to be asked for. Pure: it knows no clock, no file and no network.

The rules it carries out are those of docs/consumers.md. A message is named by (device, stream, boot, seq) and counts once; numbers
begin at 1 in each boot, so a number that is jumped over is a gap. Three things close a gap: the message comes after all (in another
order, or out of the device's history), the device says that it is lost, or the device is asked in vain (`Ledger.give_up`).

A stream begins with the first message of it that this consumer sees; from there on everything is accounted for, also what comes of
boots of which nothing has been seen yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from chappe.consumer.book import Book, Loss, Snapshot
from chappe.consumer.words import Arrived, Gap, State, losses
from chappe.core.envelope import Lost

BookId = tuple[str, str, str]
"""Device, stream, boot."""

BOOTS_KEPT = 1000
"""Boots of one stream that are remembered; repeats come from the last two."""


class Taken(msgspec.Struct, frozen=True):
    """What came of a message.

    Attributes:
        fresh: whether it is the first copy, to be handed to the application.
        overdue: whether its place had been passed already.
        gaps: what is now known to be lost; comes before the message.
    """

    fresh: bool
    overdue: bool = False
    gaps: tuple[Gap, ...] = ()


class Ledger:
    """Everything that one consumer knows of numbers.

    Args:
        backfill: whether a stream begins with number 1 of the first boot seen, and not with the first message seen.

    Attributes:
        dirty: books that changed since they were last saved; whoever saves them clears it.
        wanting: books of which the device has to be asked for something.

    >>> ledger = Ledger()
    >>> [ledger.receive("tower-1", "tick", Arrived(boot="b", seq=n)).fresh for n in (1, 2, 2, 4)]
    [True, True, False, True]
    >>> list(ledger.book(("tower-1", "tick", "b")).holes())
    [(3, 3)]
    """

    def __init__(self, *, backfill: bool = False) -> None:
        self.dirty: set[BookId] = set()
        self.wanting: set[BookId] = set()
        self._backfill = backfill
        self._streams: dict[tuple[str, str], dict[str, Book]] = {}
        self._transient: dict[str, frozenset[str]] = {}

    # ── on disk ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def load(self, kept: Iterable[tuple[BookId, Snapshot]]) -> None:
        """Take over what an earlier run saved, the oldest boot first."""
        for (device, stream, boot), snapshot in kept:
            self._streams.setdefault((device, stream), {})[boot] = Book.of(snapshot)
            self._touched((device, stream, boot))
        self.dirty.clear()

    def book(self, book_id: BookId) -> Book | None:
        """The book of this name, None where there is none (any more)."""
        device, stream, boot = book_id
        return self._streams.get((device, stream), {}).get(boot)

    def _touched(self, book_id: BookId) -> None:
        self.dirty.add(book_id)
        book = self.book(book_id)
        if book is not None and book.wanting:
            self.wanting.add(book_id)
        else:
            self.wanting.discard(book_id)

    # ── what comes ───────────────────────────────────────────────────────────────────────────────────────────────────

    def receive(self, device: str, stream: str, arrived: Arrived, *, recalled: bool = False) -> Taken:
        """Enter a message.

        Args:
            device: whose.
            stream: of which stream.
            arrived: its envelope.
            recalled: whether it was asked for, and so says nothing about which boot is the newest.
        """
        begun = (device, stream) in self._streams or self._backfill
        book_id = (device, stream, arrived.boot)
        book = self._open(book_id, 1 if begun else arrived.seq)
        if book.has(arrived.seq):
            return Taken(fresh=False)
        gaps = self._disclosed(book_id, losses(arrived), begun=begun)
        overdue = book.is_passed(arrived.seq)
        book.receive(arrived.seq)
        gaps += _gaps(book_id, book.settle())
        if not recalled:
            self._make_current(book_id, book)
        self._touched(book_id)
        return Taken(True, overdue, tuple(gaps))

    def _open(self, book_id: BookId, begin: int) -> Book:
        device, stream, boot = book_id
        books = self._streams.setdefault((device, stream), {})
        if boot not in books:
            books[boot] = Book(begin)
            books[boot].transient = stream in self._transient.get(device, ())
            self._touched(book_id)
            self._forget_oldest(device, stream, books)
        return books[boot]

    def _forget_oldest(self, device: str, stream: str, books: dict[str, Book]) -> None:
        if len(books) <= BOOTS_KEPT:
            return
        *older, _ = books
        oldest = next((boot for boot in older if not books[boot].wanting and not books[boot].current), older[0])
        del books[oldest]
        self._touched((device, stream, oldest))

    def _disclosed(self, book_id: BookId, told: Iterable[Lost], *, begun: bool) -> list[Gap]:
        device, stream, boot = book_id
        gaps: list[Gap] = []
        for lost in told:
            whose = (device, stream, lost.boot or boot)
            # What an earlier boot lost before this consumer's time is no gap of its own.
            if begun or self.book(whose) is not None:
                found = self._open(whose, 1).lose(lost.from_, lost.to, lost.n, lost.reason)
                gaps += _gaps(whose, found)
                self._touched(whose)
        return gaps

    def _make_current(self, book_id: BookId, book: Book) -> None:
        """The stream's newest message is of this boot: what came last of the boot before, nobody may have told."""
        if book.current:
            return
        device, stream, _ = book_id
        for boot, other in self._streams[(device, stream)].items():
            if other.current:
                other.current = False
                other.tail = not other.final
                self._touched((device, stream, boot))
        book.current = True

    def stopped(self, device: str, state: State) -> None:
        """The device ended cleanly, and with its last word told the last number of each stream."""
        if state.status != "stopped" or not state.boot:
            return
        for stream, last in state.last.items():
            if (device, stream) in self._streams or self._backfill:
                book_id = (device, stream, state.boot)
                book = self._open(book_id, 1)
                book.exists(last)
                book.final, book.tail = True, False
                self._touched(book_id)

    def described(self, device: str, transient: Iterable[str]) -> None:
        """The device says which of its streams are sent once and kept nowhere: their gaps are nobody's to close."""
        names = frozenset(transient)
        if self._transient.get(device) == names:
            return
        self._transient[device] = names
        for (whose, stream), books in self._streams.items():
            for boot, book in books.items():
                if whose == device and book.transient != (stream in names):
                    book.transient = stream in names
                    self._touched((device, stream, boot))

    # ── what was asked for ───────────────────────────────────────────────────────────────────────────────────────────

    def gone(self, book_id: BookId, told: Iterable[Lost], first: int, last: int | None) -> list[Gap]:
        """The device was asked for `first` to `last` and answers that it does not have these (any more)."""
        book = self.book(book_id)
        if book is None:
            return []
        gaps: list[Gap] = []
        for lost in told:
            if lost.to is not None and lost.boot in ("", book_id[2]):
                end = lost.to if last is None else min(lost.to, last)
                gaps += _gaps(book_id, book.lose(max(lost.from_, first), end, lost.n, lost.reason))
        self._touched(book_id)
        return gaps

    def ended(self, book_id: BookId) -> None:
        """The device was asked what came at the end of this boot, and has told all of it."""
        book = self.book(book_id)
        if book is not None:
            book.tail = False
            self._touched(book_id)

    def give_up(self, book_id: BookId, last: int, reason: str = "unanswered") -> list[Gap]:
        """Nobody will send what is missing up to `last`, nor tell the end."""
        book = self.book(book_id)
        if book is None:
            return []
        gaps = _gaps(book_id, book.give_up(0, last, reason))
        book.tail = False
        self._touched(book_id)
        return gaps

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def first_hole(self, book_id: BookId) -> int | None:
        """The number that an ordered reader of this book waits for, None where nothing is missing."""
        book = self.book(book_id)
        return book.first_hole if book is not None else None

    def extent(self, book_id: BookId) -> tuple[int, int]:
        """How much is known of a book: messages that have come, and numbers that are settled in one way or the other."""
        book = self.book(book_id)
        return (book.received, book.settled) if book is not None else (0, 0)

    def is_transient(self, book_id: BookId) -> bool:
        """Whether the messages of this book are sent once and kept nowhere."""
        book = self.book(book_id)
        return book is not None and book.transient

    def counts(self) -> Mapping[BookId, tuple[int, int]]:
        """How many messages of each book have come, and how many are missing."""
        return {
            (device, stream, boot): (book.received, sum(last - first + 1 for first, last in book.holes()))
            for (device, stream), books in self._streams.items()
            for boot, book in books.items()
        }


def _gaps(book_id: BookId, losses_: Iterable[Loss]) -> list[Gap]:
    device, stream, boot = book_id
    return [
        Gap(device=device, stream=stream, boot=boot, first=first, last=last, reason=reason)
        for first, last, reason in losses_
    ]
