"""The bytes of a month: when a step begins, what it means, and when it is over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.core.budget import Budget
from chappe.core.units import HOUR, MINUTE, Span

CARRIED = "chappe.core.budget:Budget.carried"
NOVEMBER, DECEMBER = "2026-11", "2026-12"
MILLION = 1_000_000


# ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("ELI-10", breaks=CARRIED)
def test_the_steps_begin_at_80_and_100_percent() -> None:
    """Of 1,000,000 bytes 799,999 are free of care, 800,000 are not, and 1,000,000 are all; each change is said once."""
    budget = Budget(MILLION, 0, NOVEMBER)
    told = [(amount, budget.carried(amount, NOVEMBER), budget.step) for amount in (799_999, 1, 199_999, 1, 1)]
    assert told == [(799_999, False, 0), (1, True, 1), (199_999, False, 1), (1, True, 2), (1, False, 2)]


@pytest.mark.feature("ELI-10", breaks="chappe.core.budget:Budget._turn_to")
def test_the_first_of_the_month_brings_it_all_back() -> None:
    """Spent in November; the first byte of December is the first of its month, and the step is 0 again."""
    budget = Budget(MILLION, 2 * MILLION, NOVEMBER)
    assert budget.step == 2
    assert budget.carried(5, DECEMBER)
    assert (budget.step, budget.used, budget.month) == (0, 5, DECEMBER)


def test_a_year_is_no_older_than_its_december() -> None:
    """January of the next year is a later month."""
    budget = Budget(MILLION, 100, "2026-12")
    budget.carried(1, "2027-01")
    assert budget.used == 1


def test_without_a_limit_there_are_no_steps() -> None:
    """Bytes are counted all the same."""
    budget = Budget(None)
    assert not budget.carried(10**15, NOVEMBER)
    assert budget.document() == {"used": 10**15, "limit": None, "step": 0}


def test_a_month_nobody_knows_is_the_present_one() -> None:
    """A Pi without a clock chip wakes up without a date: what it sends then counts, and nothing is forgiven for it."""
    budget = Budget(MILLION, 900_000, NOVEMBER)
    assert not budget.carried(50_000, "")
    assert (budget.used, budget.month) == (950_000, NOVEMBER)
    budget.carried(50_000, NOVEMBER)
    assert budget.step == 2


def test_the_first_known_month_inherits() -> None:
    """What was sent before anybody knew the date belongs to the month that turns out to be."""
    budget = Budget(MILLION)
    budget.carried(700_000, "")
    assert budget.carried(100_000, NOVEMBER)
    assert (budget.used, budget.month) == (800_000, NOVEMBER)


def test_a_clock_that_was_ahead_does_not_keep_the_budget_spent_for_ever() -> None:
    """A month in 2099 was wrong: back in November what was used stays used, and December starts anew."""
    budget = Budget(MILLION, MILLION, "2099-01")
    budget.carried(1, NOVEMBER)
    assert (budget.used, budget.month) == (MILLION + 1, NOVEMBER)
    budget.carried(1, DECEMBER)
    assert budget.used == 1


def test_another_limit_moves_the_steps() -> None:
    """The owner raises it: what was spent is a part of it now."""
    budget = Budget(MILLION, MILLION, NOVEMBER)
    budget.limit = 2 * MILLION
    assert budget.step == 0
    budget.limit = None
    assert budget.step == 0


# ── what they mean ───────────────────────────────────────────────────────────────────────────────────────────────────

FREE, SHORT, SPENT = (Budget(100, used, NOVEMBER) for used in (79, 80, 100))


@pytest.mark.feature("ELI-10", breaks="chappe.core.budget:Budget.allows")
def test_at_80_percent_there_is_no_transient_and_latest_is_slow() -> None:
    """Log and latest streams of any priority still send; the intervals of latest are four times as long."""
    assert [budget.stretch for budget in (FREE, SHORT, SPENT)] == [1, 4, 4]
    assert [budget.allows("transient", 9) for budget in (FREE, SHORT, SPENT)] == [True, False, False]
    assert SHORT.allows("log", 0)
    assert SHORT.allows("latest", 0)


@pytest.mark.feature("ELI-10", breaks="chappe.core.budget:Budget.allows")
def test_at_100_percent_only_what_is_urgent_goes_out() -> None:
    """Priorities 8 and 9, of log and latest streams."""
    assert [SPENT.allows("log", priority) for priority in range(10)] == [False] * 8 + [True] * 2
    assert [SPENT.allows("latest", priority) for priority in (7, 8)] == [False, True]


@pytest.mark.feature("ELI-10", breaks="chappe.core.budget:Budget.allows_topic")
def test_at_100_percent_the_device_still_answers_and_says_that_it_is_there() -> None:
    """``state``, ``res``, ``reported`` and ``health`` go out, other last values do not; health once an hour."""
    kinds = ("state", "res", "reported", "health", "info", "signal", "model")
    assert [kind for kind in kinds if SPENT.allows_topic(kind)] == ["state", "res", "reported", "health"]
    assert all(budget.allows_topic(kind) for kind in kinds for budget in (FREE, SHORT))
    minute = Span(MINUTE)
    assert [budget.health_every(minute) for budget in (FREE, SHORT, SPENT)] == [minute, minute, Span(HOUR)]
    assert SPENT.health_every(Span(3 * HOUR)) == 3 * HOUR


# ── whatever happens ─────────────────────────────────────────────────────────────────────────────────────────────────

bookings = st.lists(st.tuples(st.integers(0, 400), st.sampled_from(["", "2026-10", NOVEMBER, DECEMBER])), max_size=30)


@given(st.integers(1, 1000), bookings)
def test_the_step_follows_the_share_that_is_used(limit: int, steps: list[tuple[int, str]]) -> None:
    """`step` is 0, 1 or 2 as the document's own figures say, and `carried` tells exactly when it changes."""
    budget = Budget(limit)
    for amount, month in steps:
        before = budget.step
        changed = budget.carried(amount, month)
        assert changed == (budget.step != before)
        used = budget.document()["used"]
        assert isinstance(used, int)
        assert budget.step == (5 * used >= 4 * limit) + (used >= limit)


@given(bookings)
def test_bytes_are_forgotten_at_a_later_month_only(steps: list[tuple[int, str]]) -> None:
    """Between two resets `used` is the sum of what was carried."""
    budget, total = Budget(100), 0
    for amount, month in steps:
        total = amount if budget.month and month > budget.month else total + amount
        budget.carried(amount, month)
        assert budget.used == total


@given(st.integers(0, 300), st.sampled_from(["log", "latest", "transient"]), st.integers(0, 9))
def test_a_higher_step_never_allows_more(used: int, class_: str, priority: int) -> None:
    """What is not sent at some point is not sent when still less is left."""
    now, later = Budget(100, used), Budget(100, used + 50)
    assert now.allows(class_, priority) >= later.allows(class_, priority)  # type: ignore[arg-type]
