"""Ranges are a set of numbers, whatever they are added in."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from chappe.consumer.ranges import Ranges

numbers = st.integers(min_value=0, max_value=40)
spans = st.lists(st.tuples(numbers, numbers), max_size=12)


def members(added: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in added for number in range(first, last + 1)}


@given(spans)
def test_they_hold_what_was_added_and_nothing_else(added: list[tuple[int, int]]) -> None:
    """Membership, size and the ranges themselves are those of a plain set; an empty span adds nothing."""
    ranges = Ranges(added)
    expected = members(added)
    assert {number for number in range(-1, 43) if number in ranges} == expected
    assert len(ranges) == len(expected)
    assert members(ranges.spans) == expected


@given(spans)
def test_they_are_ascending_apart_and_never_touch(added: list[tuple[int, int]]) -> None:
    """What arrives without a gap is one range, so that its size does not grow."""
    found = Ranges(added).spans
    assert all(first <= last for first, last in found)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(found))


@given(spans, numbers, numbers)
def test_what_is_missing_is_the_rest(added: list[tuple[int, int]], first: int, last: int) -> None:
    """`missing` gives the complement within its bounds, in whole ranges."""
    missing = list(Ranges(added).missing(first, last))
    assert members(missing) == set(range(first, last + 1)) - members(added)
    assert Ranges(missing).spans == missing


def test_a_hundred_thousand_in_order_are_one_range() -> None:
    """The room that a healthy stream takes does not depend on its length."""
    ranges = Ranges()
    for number in range(1, 100_001):
        ranges.add(number, number)
    assert ranges.spans == [(1, 100_000)]


def test_a_number_between_two_ranges_joins_them() -> None:
    """The late message closes the hole."""
    ranges = Ranges([(1, 3), (5, 6)])
    ranges.add(4, 4)
    assert ranges.spans == [(1, 6)]
