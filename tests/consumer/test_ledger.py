"""The account of one consumer: each message once, each number that does not come known to be missing, then closed or lost."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from chappe.consumer import ledger as module
from chappe.consumer.book import MOST_DOUBTS, Book, Snapshot
from chappe.consumer.ledger import Ledger, Taken
from chappe.consumer.words import HIGHEST, Arrived, Gap, State, losses
from chappe.core.envelope import Lost

DEVICE, STREAM = "tower-1", "tick"
A, B, C = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "cccccccccccccccc"


def envelope(seq: int, boot: str = A, lost: Any = None) -> Arrived:
    return Arrived(boot=boot, seq=seq, lost=msgspec.Raw(msgspec.json.encode(lost)))


class Books:
    """A ledger of one stream, fed by number."""

    def __init__(self, **options: Any) -> None:
        self.ledger = Ledger(**options)
        self.gaps: list[tuple[str, int, int | None, str]] = []

    def hear(self, seq: int, boot: str = A, lost: Any = None, stream: str = STREAM) -> Taken:
        taken = self.ledger.receive(DEVICE, stream, envelope(seq, boot, lost))
        self._told(taken.gaps)
        return taken

    def hear_all(self, *seqs: int, boot: str = A) -> list[bool]:
        return [self.hear(seq, boot).fresh for seq in seqs]

    def gone(self, first: int, last: int, *told: Lost, boot: str = A) -> None:
        self._told(self.ledger.gone((DEVICE, STREAM, boot), told, first, last))

    def _told(self, gaps: Any) -> None:
        self.gaps += [(gap.boot, gap.first, gap.last, gap.reason) for gap in gaps]

    def book(self, boot: str = A, stream: str = STREAM) -> Book:
        book = self.ledger.book((DEVICE, stream, boot))
        assert book is not None
        return book

    def holes(self, boot: str = A) -> list[tuple[int, int]]:
        return list(self.book(boot).holes())

    def restart(self) -> None:
        """What was saved is all that is left."""
        kept = [
            (book_id, msgspec.json.decode(msgspec.json.encode(book.snapshot()), type=Snapshot))
            for book_id in self.ledger.counts()
            if (book := self.ledger.book(book_id)) is not None
        ]
        self.ledger = Ledger()
        self.ledger.load(kept)


# ── repeats and holes ────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_the_first_copy_is_fresh() -> None:
    """Repeats are known by device, stream, boot and number."""
    books = Books()
    assert books.hear_all(1, 2, 2, 1, 3) == [True, True, False, False, True]
    assert books.hear(1, boot=B).fresh
    assert books.hear(1, stream="other").fresh
    assert books.ledger.receive("tower-2", STREAM, envelope(1)).fresh


def test_a_number_jumped_over_is_a_hole_until_it_comes() -> None:
    """A late arrival fills it, in whatever order."""
    books = Books()
    books.hear_all(1, 2, 6, 4)
    assert books.holes() == [(3, 3), (5, 5)]
    books.hear_all(5, 3)
    assert books.holes() == []
    assert not books.ledger.wanting
    assert not books.gaps


def test_a_stream_begins_with_the_first_message_seen() -> None:
    """What was sent before this consumer's time is not missed, but taken if it comes after all, once."""
    books = Books()
    books.hear_all(500, 502)
    assert books.holes() == [(501, 501)]
    early = books.hear(499)
    assert early.fresh
    assert early.overdue
    assert not books.hear(499).fresh
    assert books.holes() == [(501, 501)]


def test_a_later_boot_begins_with_one() -> None:
    """Whoever knows the stream misses what comes before the first message that is seen of a new boot."""
    books = Books()
    books.hear(500)
    books.hear(3, boot=B)
    assert books.holes(B) == [(1, 2)]


def test_with_backfill_the_first_boot_begins_with_one_too() -> None:
    """The owner wants everything that the device still has."""
    books = Books(backfill=True)
    books.hear(5)
    assert books.holes() == [(1, 4)]


# ── lost, as a device says it ────────────────────────────────────────────────────────────────────────────────────────


def test_a_disclosed_gap_is_no_hole() -> None:
    """OUT-09: 11 to 17 were spilled and the next message says so: told once, before that message."""
    books = Books()
    books.hear_all(*range(1, 11))
    told = {"from": 11, "to": 17, "n": 7, "reason": "spilled"}
    assert books.hear(18, lost=told).gaps == (
        Gap(device=DEVICE, stream=STREAM, boot=A, first=11, last=17, reason="spilled"),
    )
    assert books.hear(18, lost=told).gaps == ()
    assert books.holes() == []


def test_bounds_with_fewer_lost_than_missing_leave_all_of_them_in_question() -> None:
    """Two of 3 to 7 are lost, but three are missing: one of them the broker dropped. It is asked for before any is called lost."""
    books = Books()
    books.hear_all(1, 2, 4, 6)
    books.hear(8, lost={"from": 3, "to": 7, "n": 2, "reason": "mixed", "by": {"spilled": 1, "expired": 1}})
    assert books.holes() == [(3, 3), (5, 5), (7, 7)]
    assert not books.gaps
    books.hear(5)
    assert books.gaps == [(A, 3, 3, "mixed"), (A, 7, 7, "mixed")]
    assert not books.ledger.wanting


def test_a_doubt_survives_a_restart() -> None:
    """What was told once is not told again."""
    books = Books()
    books.hear_all(1, 4)
    books.hear(6, lost={"from": 2, "to": 5, "n": 2, "reason": "expired"})
    books.restart()
    books.hear(3)
    assert books.gaps == [(A, 2, 2, "expired"), (A, 5, 5, "expired")]


def test_after_a_crash_everything_from_there_on_that_has_not_come_is_lost() -> None:
    """`crash` names no end: numbers from 5 on that came are there, 6 is lost, and so is whatever came after 7."""
    books = Books()
    books.hear_all(1, 2, 4, 5, 7)
    books.hear(1, boot=B, lost={"boot": A, "from": 5, "reason": "crash"})
    assert books.gaps == [(A, 6, 6, "crash"), (A, 8, None, "crash")]
    assert books.holes() == [(3, 3)]
    assert books.holes(B) == []


def test_what_the_device_had_in_its_books_before_a_crash_is_missed() -> None:
    """The message that tells of the crash also says how far the numbers went: 3 and 4 were sent, and this consumer has not got them."""
    books = Books()
    books.hear_all(1, 2)
    books.hear(1, boot=B, lost={"boot": A, "from": 5, "reason": "crash"})
    assert books.holes() == [(3, 4)]


def test_a_whole_boot_that_was_missed_is_known_by_its_crash() -> None:
    """Nothing of boot B came, but the first message of C says that it was there."""
    books = Books()
    books.hear(1)
    books.hear(1, boot=C, lost={"boot": B, "from": 40, "reason": "crash"})
    assert books.holes(B) == [(1, 39)]
    assert books.gaps == [(B, 40, None, "crash")]


def test_a_crash_before_this_consumers_time_is_nothing_to_it() -> None:
    """Who sees a device for the first time after its crash has lost nothing by it."""
    books = Books()
    assert books.hear(1, boot=B, lost={"boot": A, "from": 5, "reason": "crash"}).gaps == ()
    assert books.ledger.book((DEVICE, STREAM, A)) is None


def test_a_crash_below_the_beginning_counts_from_the_beginning() -> None:
    """A consumer that joined at 100 does not miss 50."""
    books = Books()
    books.hear_all(100, 102)
    books.hear(1, boot=B, lost={"boot": A, "from": 50, "reason": "crash"})
    assert books.gaps == [(A, 101, 101, "crash"), (A, 103, None, "crash")]


def test_a_second_word_on_the_same_crash_adds_only_what_is_new() -> None:
    """Repeated, nothing; with an earlier number, what lies between."""
    book = Book(1)
    for number in (1, 6, 9):
        book.receive(number)
    assert book.lose(8, None, None, "crash") == [(8, 8, "crash"), (10, None, "crash")]
    assert book.lose(8, None, None, "crash") == []
    assert book.lose(5, None, None, "crash") == [(5, 5, "crash"), (7, 7, "crash")]


def test_what_was_called_lost_and_comes_after_all_is_taken_and_marked() -> None:
    """A value counts more than the order: it is handed over once, as overdue."""
    books = Books()
    books.hear(1)
    books.hear(4, lost={"from": 2, "to": 3, "n": 2, "reason": "rejected"})
    taken = books.hear(2)
    assert (taken.fresh, taken.overdue) == (True, True)
    assert not books.hear(2).fresh
    assert not books.hear(5).overdue


def test_several_gaps_on_one_message_and_one_that_makes_no_sense() -> None:
    """A list is read as well; what cannot be read is no reason to lose the value."""
    books = Books()
    books.hear(1)
    taken = books.hear(
        6, lost=[{"from": 2, "to": 2, "n": 1, "reason": "x"}, {"from": 4, "to": 5, "n": 2, "reason": "y"}]
    )
    assert [(gap.first, gap.last) for gap in taken.gaps] == [(2, 2), (4, 5)]
    assert books.hear(7, lost={"reason": 3}).fresh
    assert losses(envelope(7, lost={"reason": 3})) == ()
    assert books.holes() == [(3, 3)]


@pytest.mark.parametrize(
    "lost", [{"from": -5, "to": 2**70, "n": -1, "reason": "x"}, {"from": 9, "to": 3, "reason": "x"}]
)
def test_bounds_out_of_bounds_do_no_harm(lost: Any) -> None:
    """A device that writes nonsense spoils nothing but its own account."""
    books = Books()
    books.hear(1)
    assert books.hear(2, lost=lost).fresh
    assert books.book().top <= HIGHEST


def test_doubts_are_bounded() -> None:
    """A device that discloses the same gap over and over takes no more room."""
    books = Books()
    books.hear(1)
    for seq in range(1000, 1000 + 3 * MOST_DOUBTS):
        books.hear(seq, lost={"from": 2, "to": 900 - seq % 7, "n": 1 + seq % 300, "reason": "spilled"})
    assert len(books.book().snapshot().doubts) <= MOST_DOUBTS


# ── the end of a boot ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_clean_stop_makes_holes_at_the_end_visible() -> None:
    """`stopped` tells the last number of each stream; what came of the boot ends there."""
    books = Books()
    books.hear_all(1, 2)
    books.ledger.stopped(DEVICE, State("stopped", A, {STREAM: 5, "unknown": 9}))
    assert books.holes() == [(3, 5)]
    assert books.ledger.book((DEVICE, "unknown", A)) is None


def test_a_clean_stop_tells_of_a_boot_that_was_missed() -> None:
    """The stream is known, the boot is not: all of it is missing."""
    books = Books()
    books.hear(1)
    books.ledger.stopped(DEVICE, State("stopped", B, {STREAM: 3}))
    assert books.holes(B) == [(1, 3)]


@pytest.mark.parametrize("state", [State("online", A, {STREAM: 5}), State("stopped", "", {STREAM: 5})])
def test_other_states_say_nothing_of_numbers(state: State) -> None:
    """Only the clean stop knows."""
    books = Books()
    books.hear(1)
    books.ledger.stopped(DEVICE, state)
    assert books.holes() == []
    assert not books.ledger.wanting


def test_a_boot_that_ended_without_a_word_is_asked_for_its_end() -> None:
    """After the first message of the next boot nobody knows whether more came of the last; after `stopped` or `crash` one does."""
    books = Books()
    books.hear_all(1, 2)
    books.hear(1, boot=B)
    assert books.ledger.wanting == {(DEVICE, STREAM, A)}
    books.ledger.ended((DEVICE, STREAM, A))
    assert not books.ledger.wanting
    books.ledger.stopped(DEVICE, State("stopped", B, {STREAM: 1}))
    assert not books.ledger.wanting
    books.hear(1, boot=C)
    assert not books.ledger.wanting


def test_which_boot_is_the_newest_survives_a_restart() -> None:
    """The question about the end of the last boot is not forgotten."""
    books = Books()
    books.hear(1)
    books.restart()
    books.hear(1, boot=B)
    assert books.ledger.wanting == {(DEVICE, STREAM, A)}


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_the_device_no_longer_has_is_lost_within_what_was_asked() -> None:
    """An answer closes the range of its question and nothing beside it."""
    books = Books()
    books.hear_all(1, 10, 20)
    books.gone(2, 9, Lost(from_=1, to=15, n=15, reason="gone"))
    assert books.gaps == [(A, 2, 9, "gone")]
    assert books.holes() == [(11, 19)]


def test_what_is_gone_of_another_boot_or_without_an_end_is_passed_over() -> None:
    """An answer is about its question."""
    books = Books()
    books.hear_all(1, 5)
    books.gone(2, 4, Lost(from_=2, to=4, n=3, reason="gone", boot=B), Lost(from_=2, reason="gone"))
    assert books.holes() == [(2, 4)]


def test_the_end_of_a_boot_that_is_gone_is_told() -> None:
    """Asked for everything from 3 on, the device says how far the numbers went."""
    books = Books()
    books.hear_all(1, 2)
    books.hear(1, boot=B)
    books._told(books.ledger.gone((DEVICE, STREAM, A), [Lost(from_=3, to=6, n=4, reason="gone")], 3, None))
    assert books.gaps == [(A, 3, 6, "gone")]


def test_giving_up_closes_what_is_old_and_leaves_what_is_new() -> None:
    """Numbers above the bound may still come."""
    books = Books()
    books.hear_all(1, 5, 9)
    books._told(books.ledger.give_up((DEVICE, STREAM, A), 5))
    assert books.gaps == [(A, 2, 4, "unanswered")]
    assert books.holes() == [(6, 8)]


def test_a_book_that_is_gone_is_nobodys() -> None:
    """Answers about it change nothing."""
    books = Books()
    books.gone(1, 2, Lost(from_=1, to=2, reason="gone"))
    books.ledger.ended((DEVICE, STREAM, A))
    assert books.ledger.give_up((DEVICE, STREAM, A), 5) == []
    assert books.ledger.first_hole((DEVICE, STREAM, A)) is None
    assert books.ledger.extent((DEVICE, STREAM, A)) == (0, 0)
    assert not books.gaps


# ── streams that keep nothing ────────────────────────────────────────────────────────────────────────────────────────


def test_a_transient_streams_gaps_are_not_asked_for() -> None:
    """Its messages are sent once; whether that is known before or after makes no difference."""
    books = Books()
    books.hear_all(1, 5)
    assert books.ledger.wanting
    books.ledger.described(DEVICE, ["other", STREAM])
    assert not books.ledger.wanting
    books.hear(9)
    books.hear(3, boot=B)
    assert not books.ledger.wanting
    assert books.ledger.is_transient((DEVICE, STREAM, B))
    assert books.book().first_hole is None
    books.ledger.described(DEVICE, [])
    assert books.ledger.wanting


# ── room ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_old_boots_are_forgotten_the_complete_ones_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that starts over and over does not fill the disk; what is still missing something is kept as long as that goes."""
    monkeypatch.setattr(module, "BOOTS_KEPT", 4)
    books = Books()
    books.hear_all(1, 3)
    for number in range(8):
        books.hear(1, boot=f"{number:016x}")
        books.ledger.ended((DEVICE, STREAM, f"{number - 1:016x}" if number else A))
    kept = [boot for _, _, boot in books.ledger.counts()]
    assert len(kept) == 4
    assert kept[0] == A
    assert kept[-1] == f"{7:016x}"


def test_the_room_that_a_healthy_stream_takes_does_not_grow() -> None:
    """Ten thousand messages in order are two ranges."""
    books = Books()
    books.hear_all(*range(1, 10_001))
    assert len(msgspec.json.encode(books.book().snapshot())) < 120


def test_what_has_changed_is_known() -> None:
    """Only that has to be written again."""
    books = Books()
    books.hear(1)
    books.hear(1, stream="other")
    assert len(books.ledger.dirty) == 2
    books.ledger.dirty.clear()
    books.hear(1)
    assert not books.ledger.dirty
    books.hear(2)
    assert books.ledger.dirty == {(DEVICE, STREAM, A)}


def test_counts_tell_what_came_and_what_is_missing() -> None:
    """For whoever watches a consumer."""
    books = Books()
    books.hear_all(1, 2, 7)
    assert books.ledger.counts() == {(DEVICE, STREAM, A): (3, 4)}
