"""What a consumer knows of the numbers of one stream in one boot of its device: come, lost, or missing."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from chappe.consumer.ranges import Ranges, Span
from chappe.consumer.words import HIGHEST

Loss = tuple[int, int | None, str]
"""First and last number lost (None: all from the first on), and why."""

MOST_DOUBTS = 100
"""Disclosures that cannot be placed yet; a device has one or two of them at a time."""


class Doubt(msgspec.Struct, frozen=True, array_like=True):
    """A disclosed gap of which only the bounds and the number are known: `n` of the numbers `first` to `last` are lost."""

    first: int
    last: int
    n: int
    reason: str


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """A `Book` as it is kept on disk."""

    begin: int
    top: int
    received: list[Span] = []
    known: list[Span] = []
    open_from: int | None = None
    doubts: list[Doubt] = []
    tail: bool = False
    final: bool = False
    current: bool = False
    transient: bool = False


class Book:
    """The numbers of one (device, stream, boot).

    A number is *known* once it has come or is lost. Known numbers and those that came are kept as ranges, so that a stream without
    gaps takes two of them however long it runs.

    Args:
        begin: number with which the account begins; lower ones may come but are not missed.

    Attributes:
        top: highest number that is known to exist.
        open_from: after a crash: every number from here on that has not come is lost.
        tail: whether the device is to be asked what came after `top`, as nobody said where the boot ended.
        final: whether its end is known.
        current: whether the newest message of the stream is of this boot.
        transient: whether its messages are sent once and kept nowhere, so that nothing can be asked for.
    """

    __slots__ = ("_doubts", "_known", "_received", "begin", "current", "final", "open_from", "tail", "top", "transient")

    def __init__(self, begin: int) -> None:
        self.begin = begin
        self.top = begin - 1
        self.open_from: int | None = None
        self.tail = False
        self.final = False
        self.current = False
        self.transient = False
        self._received = Ranges()
        self._known = Ranges()
        self._doubts: list[Doubt] = []

    @classmethod
    def of(cls, snapshot: Snapshot) -> Book:
        """The book that was kept."""
        book = cls(snapshot.begin)
        book.top, book.open_from = snapshot.top, snapshot.open_from
        book.tail, book.final = snapshot.tail, snapshot.final
        book.current, book.transient = snapshot.current, snapshot.transient
        book._received, book._known = Ranges(snapshot.received), Ranges(snapshot.known)
        book._doubts = list(snapshot.doubts)
        return book

    def snapshot(self) -> Snapshot:
        """What has to be kept."""
        return Snapshot(
            begin=self.begin,
            top=self.top,
            received=self._received.spans,
            known=self._known.spans,
            open_from=self.open_from,
            doubts=self._doubts,
            tail=self.tail,
            final=self.final,
            current=self.current,
            transient=self.transient,
        )

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def has(self, number: int) -> bool:
        """Whether this message has come."""
        return number in self._received

    def is_passed(self, number: int) -> bool:
        """Whether nobody waits for this number any more: it has come, is lost, or lies before the beginning."""
        return number < self.begin or number in self._known or (self.open_from is not None and number >= self.open_from)

    def holes(self, first: int = 0, last: int | None = None) -> Iterator[Span]:
        """The numbers between `first` and `last` that should have come and have not, as ranges."""
        if self.transient:
            return iter(())
        return self._known.missing(max(first, self.begin), self._end if last is None else min(self._end, last))

    @property
    def _end(self) -> int:
        """The highest number that can be missing."""
        return self.top if self.open_from is None else min(self.top, self.open_from - 1)

    @property
    def first_hole(self) -> int | None:
        """The lowest number that is missing; everything below it is in order."""
        return next((first for first, _ in self.holes()), None)

    @property
    def wanting(self) -> bool:
        """Whether the device has to be asked for something."""
        return self.first_hole is not None or (self.tail and not self.transient)

    @property
    def received(self) -> int:
        """How many messages have come."""
        return len(self._received)

    @property
    def settled(self) -> int:
        """How many numbers have come or are lost."""
        return len(self._known)

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def receive(self, number: int) -> None:
        """This message has come."""
        self.top = max(self.top, number)
        self._received.add(number, number)
        self._known.add(number, number)

    def exists(self, number: int) -> None:
        """The device has given out numbers up to this one."""
        self.top = max(self.top, min(number, HIGHEST))

    def lose(self, first: int, last: int | None, n: int | None, reason: str) -> list[Loss]:
        """The device says that messages are lost.

        Args:
            first: lowest of them.
            last: highest of them; None for "everything from `first` on".
            n: how many there are, where `first` and `last` are but bounds.
            reason: why.

        Returns:
            Ranges that are now known to be lost, each with its reason: those just told, and earlier doubts that this settles.
        """
        first = max(first, 1)
        if last is None:
            return [*self._crashed(first, reason), *self.settle()]
        last = min(last, HIGHEST)
        self.exists(last)
        doubt = Doubt(max(first, self.begin), last, HIGHEST if n is None or n < 0 else n, reason)
        if doubt not in self._doubts:
            self._doubts = [*self._doubts[1 - MOST_DOUBTS :], doubt]
        return self.settle()

    def _crashed(self, first: int, reason: str) -> list[Loss]:
        self.final = True
        self.tail = False
        self.exists(first - 1)
        first = max(first, self.begin)
        told = self.open_from
        if told is not None and told <= first:
            return []
        self.open_from = first
        end = self.top if told is None else told - 1
        lost: list[Loss] = [(*span, reason) for span in self._known.missing(first, end)]
        return lost if told is not None else [*lost, (max(self.top + 1, first), None, reason)]

    def settle(self) -> list[Loss]:
        """Place the doubts that can be placed: where no more numbers are missing than are lost, those are the lost ones.

        Until then some of the missing numbers may be messages that the device did send; it is asked for all of them.
        """
        lost: list[Loss] = []
        left: list[Doubt] = []
        for doubt in self._doubts:
            missing = list(self._known.missing(doubt.first, min(doubt.last, self._end)))
            if sum(last - first + 1 for first, last in missing) > doubt.n:
                left.append(doubt)
            else:
                lost += [(first, last, doubt.reason) for first, last in missing]
                self._give_up(missing)
        self._doubts = left
        return lost

    def give_up(self, first: int, last: int, reason: str) -> list[Loss]:
        """Nobody will send what is missing between `first` and `last`."""
        missing = list(self.holes(first, last))
        self._give_up(missing)
        return [*((begin, end, reason) for begin, end in missing), *self.settle()]

    def _give_up(self, spans: list[Span]) -> None:
        for first, last in spans:
            self._known.add(first, last)
