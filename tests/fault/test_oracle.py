"""The oracle can fail: each forged lie is found, and a true story is not called one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .books import as_seen, balanced
from .oracle import (
    EXPOSURE_S,
    Account,
    End,
    Gap,
    Message,
    Stored,
    distinct,
    exposure,
    gaps,
    repeated,
    repeats,
)

A, B = "a" * 16, "b" * 16
KILLED = 1000.0
STREAMS = {"sure": "first", "fast": "behind", "soft": "memory"}


def message(stream: str, seq: int, boot: str = A, **more: Any) -> Message:
    """A counter's message; a hundred a second, the eighth at the kill."""
    return Message(stream, boot, seq, KILLED + (seq - 8) / 100, {"value": seq - 1}, came=KILLED, **more)


def crash(from_: int = 9) -> dict[str, Any]:
    return {"boot": A, "from": from_, "reason": "crash"}


def story() -> Account:
    """Eight messages of each stream, a kill with the last three on disk alone, one message each in the next boot."""
    before = [message(stream, seq) for stream in STREAMS for seq in range(1, 6)]
    rows = tuple(Stored(stream, A, seq) for stream in ("sure", "fast") for seq in (6, 7, 8))
    after = [message(row.stream, row.seq, late=True) for row in rows]
    after += [message("sure", 1, B), message("fast", 1, B, lost=crash()), message("soft", 1, B, lost=crash(6))]
    return Account(
        dict(STREAMS),
        [*before, *after],
        [
            End(A, killed=KILLED, ready=KILLED - 1, rows=rows, had=len(before), slack_s=0.0),
            End(B, had=len(before) + len(after), last=dict.fromkeys(STREAMS, 1)),
        ],
    )


def at(account: Account, stream: str, seq: int, boot: str = A) -> int:
    """Where that message stands."""
    return next(n for n, each in enumerate(account.messages) if each.name == (stream, boot, seq))


def change(account: Account, place: int, **changes: Any) -> None:
    account.messages[place] = replace(account.messages[place], **changes)


def test_a_true_story_passes() -> None:
    assert story().complaints() == []


def test_a_repeat_with_the_same_content_passes_and_is_counted() -> None:
    account = story()
    account.messages.append(replace(account.messages[0], at=0.0, late=True))
    assert account.complaints() == []
    assert repeats(account.messages) == 1


def hole(account: Account) -> None:
    """Number 3, which the broker had acknowledged, is nowhere."""
    del account.messages[at(account, "fast", 3)]
    account.ends[0] = replace(account.ends[0], had=account.ends[0].had - 1)


def swallowed_row(account: Account) -> None:
    """A row that was on disk never comes; it is the last, so no hole shows."""
    del account.messages[at(account, "sure", 8)]


def other_content(account: Account) -> None:
    account.messages.append(replace(account.messages[0], data={"value": 99}))


def other_gap(account: Account) -> None:
    account.messages.append(replace(account.messages[-1], lost=None))


def swapped(account: Account) -> None:
    place = at(account, "fast", 4)
    account.messages[place], account.messages[place - 1] = account.messages[place - 1], account.messages[place]


def old_boot_last(account: Account) -> None:
    account.messages.append(account.messages.pop(at(account, "sure", 8)))


def unknown_boot(account: Account) -> None:
    account.messages.append(message("sure", 1, "c" * 16))


def no_crash_told(account: Account) -> None:
    change(account, at(account, "soft", 1, B), lost=None)


def crash_told_too_late(account: Account) -> None:
    """It says that numbers from 12 on are lost; what of 9 to 11?"""
    change(account, at(account, "fast", 1, B), lost=crash(12))


def old_exposure(account: Account) -> None:
    """Nothing newer than a second before the kill had been accepted."""
    account.messages[:] = [replace(each, at=each.at - 1) if each.boot == A else each for each in account.messages]


def nothing_accepted(account: Account) -> None:
    """A whole second, and not one value on disk or at the broker."""
    account.messages[:] = [each for each in account.messages if each.name[:2] != ("sure", A)]
    account.ends[0] = replace(account.ends[0], had=10, rows=account.ends[0].rows[3:])


def miscounted_elision(account: Account) -> None:
    change(account, at(account, "fast", 4), elided={"n": 1, "min": 2, "max": 2, "mean": 2})


def lost_at_a_clean_stop(account: Account) -> None:
    account.ends[1] = replace(account.ends[1], last={"sure": 4})


def more_after_the_last(account: Account) -> None:
    account.messages.append(message("fast", 2, B))


def gap_that_owns_up_to_too_few(account: Account) -> None:
    for seq in (3, 4):
        hole_at = at(account, "soft", seq)
        del account.messages[hole_at]
    account.ends[0] = replace(account.ends[0], had=account.ends[0].had - 2)
    change(account, at(account, "soft", 5), lost={"from": 3, "to": 4, "n": 1, "reason": "spilled"})


@pytest.mark.parametrize(
    ("lie", "word"),
    [
        (hole, "numbers 3 of boot"),
        (hole, "3 of 8 accepted"),
        (swallowed_row, "was on disk"),
        (other_content, "another data"),
        (other_gap, "another lost"),
        (swapped, "came behind"),
        (old_boot_last, "came behind"),
        (unknown_boot, "nobody started"),
        (no_crash_told, "soft: no crash"),
        (crash_told_too_late, "fast: no crash"),
        (old_exposure, "s old, not"),
        (nothing_accepted, "sure: at the kill"),
        (miscounted_elision, "1 were elided"),
        (lost_at_a_clean_stop, "2..4 of boot"),
        (more_after_the_last, "said that 1 was its last"),
        (gap_that_owns_up_to_too_few, "1 more of boot"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_forged_story_is_found(lie: Callable[[Account], None], word: str) -> None:
    account = story()
    lie(account)
    assert any(word in complaint for complaint in account.complaints()), account.complaints()


def test_a_crash_excuses_nothing_before_a_number_that_came() -> None:
    """`crash` has no end: taken at its word from 1 on, it would excuse everything."""
    account = story()
    hole(account)
    change(account, at(account, "fast", 1, B), lost=crash(1))
    assert any("numbers 3" in complaint for complaint in account.complaints())


def test_a_gap_with_both_ends_excuses_what_lies_in_it() -> None:
    account = story()
    hole(account)
    change(account, at(account, "fast", 4), lost={"from": 3, "to": 3, "n": 1, "reason": "spilled"})
    assert account.complaints() == []


def test_the_newest_accepted_value_may_be_as_old_as_the_exposure_and_what_the_machine_took() -> None:
    account = story()
    old_exposure(account)
    account.ends[0] = replace(account.ends[0], slack_s=1 - EXPOSURE_S + 0.001)
    assert account.complaints() == []
    found = exposure(account, account.ends[0], "fast")
    assert found is not None
    assert abs(found - 1.0) < 1e-6


def test_a_boot_that_was_killed_before_it_was_ready_owes_nothing() -> None:
    account = story()
    account.ends.insert(1, End("", killed=KILLED + 1))
    assert account.complaints() == []
    assert exposure(account, account.ends[1], "fast") is None


@pytest.mark.parametrize(
    "said",
    [
        {"from": 3, "to": 4, "n": 2, "reason": "mixed", "by": {"spilled": 1, "expired": 1}},
        [{"from": 3, "to": 4, "n": 2, "reason": "mixed", "by": {"spilled": 1, "expired": 1}}],
    ],
)
def test_every_form_of_a_gap_is_read(said: Any) -> None:
    found = gaps([message("fast", 5, lost=said), message("fast", 5, lost=said), message("fast", 6, lost=crash(7))])
    assert found == [
        Gap("fast", A, 3, 4, (("expired", 1), ("spilled", 1))),
        Gap("fast", A, 7, None, (("crash", 0),)),
    ]
    assert found[0].n == 2


def test_more_repeats_than_a_kill_explains_are_found() -> None:
    """A window of two, and nobody had acknowledged anything in the last quarter of a second."""
    account = story()
    account.messages[:] = [replace(each, came=KILLED - 1) for each in account.messages]
    account.messages += account.messages[:2]
    assert repeated(account, window=2) == []
    assert repeated(account, window=1) == [f"2 repeats after the kill of {B}, more than 1"]
    assert repeated(account, window=1, cuts=1) == []
    account.messages[:2] = [replace(each, came=KILLED - 0.2) for each in account.messages[:2]]
    assert repeated(account, window=0) == []


BOOK = {"produced": 9, "delivered": 5, "elided": 1, "expired": 1, "spilled": 1, "queued": 1}


@pytest.mark.parametrize("column", BOOK)
def test_a_book_with_one_increment_missing_is_found(column: str) -> None:
    assert balanced({"fast": BOOK}) == []
    assert balanced({"fast": {**BOOK, column: BOOK[column] - 1}})


GONE = [{"from": n, "to": n, "n": 1, "reason": reason} for n, reason in ((4, "spilled"), (6, "expired"))]


@pytest.mark.parametrize(
    ("column", "more", "killed", "wrong"),
    [
        ("delivered", 0, False, False),
        ("delivered", 1, False, True),
        ("delivered", 1, True, True),
        ("delivered", -1, False, True),
        ("delivered", -1, True, False),
        ("spilled", 1, True, True),
        ("expired", -1, False, True),
        ("elided", -1, False, True),
        # What a dropped row had elided no message tells of.
        ("elided", 1, False, False),
    ],
)
def test_the_books_are_held_against_what_came(column: str, more: int, killed: bool, wrong: bool) -> None:
    """Without a kill they agree to the last one; after kills they may know less than the consumer, never more."""
    came = [message("fast", 3, elided={"n": 2}), message("fast", 5, lost=GONE[0]), message("fast", 7, lost=GONE[1])]
    books = {"delivered": 3, "elided": 2, "expired": 1, "spilled": 1, "queued": 0, "produced": 7}
    books[column] += more
    assert bool(as_seen({"fast": books, "alert": BOOK}, Account(STREAMS, came), killed=killed)) is wrong


@pytest.mark.parametrize("more", [1, -1])
def test_where_nothing_was_dropped_every_elided_value_is_told_of(more: int) -> None:
    books = {"delivered": 1, "elided": 2 + more, "expired": 0, "spilled": 0, "queued": 0, "produced": 3 + more}
    assert as_seen({"fast": books}, Account(STREAMS, [message("fast", 3, elided={"n": 2})]), killed=False)


@given(st.lists(st.integers(1, 30), min_size=1), st.data())
def test_any_number_that_is_taken_out_of_a_boot_is_missed(repeated: list[int], data: st.DataObject) -> None:
    """Whatever repeats there are: remove every copy of any number but the last, and the story is false."""
    top = 30
    kept = Account({"fast": "behind"}, [message("fast", n) for n in range(1, top + 1)], [End(A)])
    kept.messages += [message("fast", n) for n in repeated]
    assert kept.complaints() == []
    gone = data.draw(st.integers(1, top - 1))
    kept.messages = [each for each in kept.messages if each.seq != gone]
    assert len(distinct(kept.messages)) == top - 1
    assert kept.complaints() != []
