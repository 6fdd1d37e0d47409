"""A set of whole numbers, kept as the ranges it consists of: what arrives in order takes no room, however much it is."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Span = tuple[int, int]
"""First and last number, both included."""


class Ranges:
    """Numbers as disjoint ranges in ascending order; neighbours are one range.

    Args:
        spans: ranges to begin with, in any order.

    >>> numbers = Ranges([(1, 4), (9, 9)])
    >>> numbers.add(5, 7)
    >>> numbers.spans, 8 in numbers, list(numbers.missing(1, 12))
    ([(1, 7), (9, 9)], False, [(8, 8), (10, 12)])
    """

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in spans:
            self.add(first, last)

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._firsts, number) - 1
        return place >= 0 and number <= self._lasts[place]

    def __len__(self) -> int:
        """How many numbers, not how many ranges."""
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    @property
    def spans(self) -> list[Span]:
        """The ranges, ascending."""
        return list(zip(self._firsts, self._lasts, strict=True))

    def add(self, first: int, last: int) -> None:
        """Take in the numbers `first` to `last`; none where `last` lies below `first`."""
        if last < first:
            return
        begin = bisect_left(self._lasts, first - 1)
        end = bisect_right(self._firsts, last + 1)
        if begin < end:
            first = min(first, self._firsts[begin])
            last = max(last, self._lasts[end - 1])
        self._firsts[begin:end] = [first]
        self._lasts[begin:end] = [last]

    def missing(self, first: int, last: int) -> Iterator[Span]:
        """The ranges of `first` to `last` that are not in the set, ascending."""
        place = bisect_left(self._lasts, first)
        while first <= last and place < len(self._firsts) and self._firsts[place] <= last:
            if self._firsts[place] > first:
                yield first, self._firsts[place] - 1
            first = self._lasts[place] + 1
            place += 1
        if first <= last:
            yield first, last
