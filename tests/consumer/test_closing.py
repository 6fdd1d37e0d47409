"""Ledger and closer against a model by brute force: whatever happens on the way, each message once, and every number accounted for."""

from __future__ import annotations

import os

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from chappe.consumer.book import Snapshot
from chappe.consumer.closer import Closer, Patience, Question
from chappe.consumer.ledger import Ledger
from chappe.consumer.words import Arrived, Gap, Pages, read_envelope, read_state
from chappe.core.units import MINUTE, SECOND, Ns, seconds

from .feed import DEVICE, STREAM, Feed, Story, boot_name, stories

A, B = boot_name(0), boot_name(1)
PATIENCE = Patience(pace=Ns(0))


class Reader:
    """A consumer without a disk: what it would hand over, in which order, and what it would tell of gaps."""

    def __init__(self, feed: Feed, *, ordered: bool, tells_gone: bool = True, deaf: int = 0) -> None:
        self.ledger = Ledger(backfill=True)
        self.closer = Closer(self.ledger, PATIENCE)
        self.now = Ns(0)
        self.taken: list[tuple[str, int, bool]] = []
        self.gaps: list[Gap] = []
        self.questions: list[Question] = []
        self._feed = feed
        self._ordered = ordered
        self._tells_gone = tells_gone
        self._deaf = deaf
        self._held: list[tuple[str, int, bool]] = []

    def hear(self, payload: bytes, *, recalled: bool = False) -> None:
        arrived = read_envelope(payload)
        assert arrived is not None
        taken = self.ledger.receive(DEVICE, STREAM, arrived, recalled=recalled)
        self.gaps += taken.gaps
        if taken.fresh:
            self._held.append((arrived.boot, arrived.seq, taken.overdue))
        self._release()

    def _release(self) -> None:
        ready = []
        for boot, seq, overdue in sorted(self._held) if self._ordered else self._held:
            hole = self.ledger.first_hole((DEVICE, STREAM, boot)) if self._ordered else None
            if hole is None or seq < hole:
                ready.append((boot, seq, overdue))
        self.taken += ready
        self._held = [each for each in self._held if each not in ready]

    def stopped(self, payload: bytes) -> None:
        state = read_state(payload)
        assert state is not None
        self.ledger.stopped(DEVICE, state)

    def pass_time(self, span_s: float) -> None:
        self.now = Ns(self.now + seconds(span_s))
        for question in self.closer.ask(self.now, lambda device: device == DEVICE):
            self.questions.append(question)
            self._answer(question)
        self.gaps += self.closer.give_up()
        self._release()

    def _answer(self, question: Question) -> None:
        if self._deaf > 0:
            self._deaf -= 1
            return
        document = self._feed.answer(question.book_id[2], question.first, question.last, tells_gone=self._tells_gone)
        pages = msgspec.json.decode(msgspec.json.encode(document), type=Pages)
        before = self.ledger.extent(question.book_id)
        last = None
        for raw in pages.messages:
            self.hear(bytes(raw), recalled=True)
            arrived = read_envelope(bytes(raw))
            assert arrived is not None
            last = arrived.seq
        self.gaps += self.ledger.gone(question.book_id, pages.lost, question.first, question.last)
        moved = self.ledger.extent(question.book_id) != before
        self.closer.answered(question, self.now, last=last, more=pages.more, moved=moved)

    def restart(self) -> None:
        """Killed and started again: the ledger is on the disk, what was asked is not."""
        kept = [
            (book_id, msgspec.json.decode(msgspec.json.encode(book.snapshot()), type=Snapshot))
            for book_id in self.ledger.counts()
            if (book := self.ledger.book(book_id)) is not None
        ]
        self.ledger = Ledger(backfill=True)
        self.ledger.load(kept)
        self.closer = Closer(self.ledger, PATIENCE)

    def settle(self) -> None:
        """Let time pass until nothing is in question."""
        for _ in range(400):
            if not self.ledger.wanting:
                return
            self.pass_time(6)
            self.pass_time(660)
        pytest.fail(f"still in question: {self.ledger.wanting}")


def gap_numbers(gaps: list[Gap], feed: Feed) -> list[tuple[str, int]]:
    """Every (boot, number) that was told to be lost; an open end means all that there are."""
    found = []
    for gap in gaps:
        last = max(seq for boot, seq in feed.fate if boot == gap.boot) if gap.last is None else gap.last
        found += [(gap.boot, seq) for seq in range(gap.first, last + 1)]
    return found


@settings(max_examples=1000 if os.environ.get("NIGHTLY") else 150)
@given(
    told=stories,
    ordered=st.booleans(),
    tells_gone=st.booleans(),
    deaf=st.integers(min_value=0, max_value=3),
    steps=st.lists(st.sampled_from(["", "", "wait", "restart"]), min_size=60, max_size=60),
)
def test_each_message_once_and_every_number_accounted_for(
    told: list[Story], ordered: bool, tells_gone: bool, deaf: int, steps: list[str]
) -> None:
    """Repeats, other orders, what the broker drops, gaps told exactly and by bounds, crashes, stops and restarts of the consumer."""
    feed = Feed.of(told)
    reader = Reader(feed, ordered=ordered, tells_gone=tells_gone, deaf=deaf)
    for (what, payload), step in zip(feed.wire, [*steps, *[""] * len(feed.wire)], strict=False):
        (reader.hear if what == "message" else reader.stopped)(payload)
        if step == "wait":
            reader.pass_time(6)
        elif step == "restart":
            reader.restart()
    reader.settle()
    _check_each_once(reader, feed)
    _check_accounts(reader, feed)
    if ordered:
        _check_order(reader)


def _check_each_once(reader: Reader, feed: Feed) -> None:
    names = [(boot, seq) for boot, seq, _ in reader.taken]
    assert len(names) == len(set(names)), "handed over twice"
    due = feed.came() | {name for name in feed.recoverable() if _is_known(reader, *name) or _is_followed(feed, name[0])}
    assert due <= set(names), f"missing {due - set(names)}"
    event(f"recovered {len(set(names) - feed.came()) > 0}")


def _is_known(reader: Reader, boot: str, seq: int) -> bool:
    """Whether anybody could have told that this number exists: the end of a boot that nothing came after is nobody's to know."""
    book = reader.ledger.book((DEVICE, STREAM, boot))
    return book is not None and seq <= book.top


def _is_followed(feed: Feed, boot: str) -> bool:
    """Whether something came of this boot and of a later one, so that the device is asked how it ended."""
    boots = {whose for whose, _ in feed.came()}
    return boot in boots and any(other > boot for other in boots)


def _check_accounts(reader: Reader, feed: Feed) -> None:
    taken = {(boot, seq): overdue for boot, seq, overdue in reader.taken}
    lost = gap_numbers(reader.gaps, feed)
    for name in lost:
        assert name not in taken or taken[name] or name[1] >= feed.lost_from.get(name[0], 99), (
            f"{name} is lost and here"
        )
    for boot, seq in feed.fate:
        if _is_known(reader, boot, seq):
            assert (boot, seq) in taken or (boot, seq) in set(lost), f"{(boot, seq)} is neither here nor told lost"
        assert not (feed.fate[boot, seq] in {"spilled", "expired"} and (boot, seq) in taken)


def _check_order(reader: Reader) -> None:
    for boot in {boot for boot, _, _ in reader.taken}:
        in_order = [seq for whose, seq, overdue in reader.taken if whose == boot and not overdue]
        assert in_order == sorted(in_order)


# ── when, and how often ──────────────────────────────────────────────────────────────────────────────────────────────


class Desk:
    """A ledger with one book, and its closer, at manual time."""

    def __init__(self, *seqs: int, patience: Patience = PATIENCE) -> None:
        self.ledger = Ledger()
        self.closer = Closer(self.ledger, patience)
        self.now = Ns(0)
        self.online = True
        self.asked: list[Question] = []
        self.hear(*seqs)

    def hear(self, *seqs: int, boot: str = A, device: str = DEVICE, recalled: bool = False) -> None:
        for seq in seqs:
            self.ledger.receive(device, STREAM, Arrived(boot=boot, seq=seq), recalled=recalled)

    def ask(self, after_s: float = 0.0) -> list[tuple[int, int | None]]:
        """What is asked when so much time has passed."""
        self.now = Ns(self.now + seconds(after_s))
        asked = self.closer.ask(self.now, lambda _: self.online)
        self.asked = asked or self.asked
        return [(question.first, question.last) for question in asked]

    def answer(self, *seqs: int, more: bool = False, promised: bool = False) -> None:
        (question,) = self.asked
        before = self.ledger.extent(question.book_id)
        self.hear(*seqs, recalled=True)
        moved = self.ledger.extent(question.book_id) != before
        last = max(seqs, default=None)
        self.closer.answered(question, self.now, last=last, more=more, moved=moved, promised=promised)

    def refuse(self) -> None:
        self.closer.failed(self.asked[0], self.now)


def test_a_hole_is_asked_for_when_it_is_as_old_as_the_patience() -> None:
    """A message that a reconnect has put behind others comes within it; asked at 5.0 s and not a nanosecond before."""
    desk = Desk(1, 3)
    assert desk.ask() == []
    assert desk.ask(4.999_999_999) == []
    assert desk.ask(0.000_000_001) == [(2, 2)]


def test_a_hole_that_closes_in_time_is_never_asked_for() -> None:
    """Order by re-offer is nobody's fault."""
    desk = Desk(1, 3)
    assert desk.ask() == []
    desk.hear(2)
    assert desk.ask(60) == []


def test_a_newer_hole_waits_for_its_own_patience() -> None:
    """Only what is old is asked for; the new one at the latest after twice the patience."""
    desk = Desk(1, 3)
    desk.ask()
    desk.ask(3)
    desk.hear(9)
    assert desk.ask(2) == [(2, 2)]
    desk.answer(2)
    assert desk.ask(1) == []
    assert desk.ask(4) == [(4, 8)]


def test_a_range_is_asked_for_page_by_page() -> None:
    """HIS-03: each question begins behind the last answer, at once where nothing holds it back."""
    desk = Desk(1, 120)
    desk.ask()
    assert desk.ask(5) == [(2, 119)]
    desk.answer(*range(2, 52), more=True)
    assert desk.ask() == [(52, 119)]
    desk.answer(*range(52, 102), more=True)
    assert desk.ask() == [(102, 119)]
    desk.answer(*range(102, 120))
    assert desk.ask(60) == []


def test_holes_that_lie_closely_are_asked_for_together() -> None:
    """A broker that drops every other message makes thousands of holes; a question spans them while a third of it is missing."""
    desk = Desk(1, 3, 5, 7, 1000, 1002)
    desk.ask()
    assert desk.ask(5) == [(2, 1001)]
    apart = Desk(1, 3, *range(4, 500), 501)
    apart.ask()
    assert apart.ask(5) == [(2, 2)]
    apart.answer(2)
    assert apart.ask() == [(500, 500)]


def test_questions_keep_their_pace_and_one_is_open_at_a_time() -> None:
    """A device takes ten requests a second from everybody; a consumer leaves half of that to others."""
    desk = Desk(1, 3, *range(4, 50), 51, patience=Patience())
    desk.ask()
    assert desk.ask(5) == [(2, 2)]
    assert desk.ask(1) == []
    desk.answer(2)
    assert desk.ask(0.199) == []
    assert desk.ask(0.001) == [(50, 50)]


def test_devices_are_asked_side_by_side() -> None:
    """One that is slow holds up no other."""
    desk = Desk(1, 3)
    desk.hear(1, 5, device="tower-2")
    desk.ask()
    assert sorted(desk.ask(5)) == [(2, 2), (2, 4)]


def test_a_device_that_is_not_there_is_not_asked_and_costs_no_try() -> None:
    """Its gaps wait for it, however long."""
    desk = Desk(1, 3, patience=Patience(tries=1))
    desk.online = False
    for _ in range(100):
        assert desk.ask(60) == []
    desk.online = True
    assert desk.ask() == [(2, 2)]
    desk.online = False
    assert desk.ask(60) == []
    desk.online = True
    assert desk.ask(1) == [(2, 2)]
    assert not desk.closer.hopeless


def test_without_an_answer_the_waits_double() -> None:
    """10, 20, 40 s … and never more than 10 minutes between two rounds."""
    desk = Desk(1, 3)
    desk.ask()
    waits = []
    for _ in range(9):
        waits.append(0.0)
        while not desk.ask(5):
            waits[-1] += 5
        desk.refuse()
        desk.ask()
    assert waits == [0, 5, 15, 35, 75, 155, 315, 595, 595]


def test_no_answer_within_ten_seconds_is_a_refusal() -> None:
    """The next question is not held up by a lost one."""
    desk = Desk(1, 3, *range(4, 50), 51)
    desk.ask()
    assert desk.ask(5) == [(2, 2)]
    assert desk.ask(9.999) == []
    assert desk.ask(0.001) == [(50, 50)]


def test_after_the_last_try_the_gap_is_given_up_and_told() -> None:
    """Nothing is dropped silently: reason `unanswered`."""
    desk = Desk(1, 4, patience=Patience(pace=Ns(0), tries=3))
    desk.ask()
    asked = 0
    while not desk.closer.hopeless:
        for _ in desk.ask(5):
            asked += 1
            desk.refuse()
    assert asked == 3
    assert [(gap.first, gap.last, gap.reason) for gap in desk.closer.give_up()] == [(2, 3, "unanswered")]
    assert not desk.ledger.wanting
    assert desk.closer.give_up() == []


@pytest.mark.parametrize("how", ["an answer", "zero tries"])
def test_a_gap_is_not_given_up_while_there_is_hope(how: str) -> None:
    """Each message that comes of asking starts the count anew; zero tries means for ever."""
    tries = 0 if how == "zero tries" else 2
    desk = Desk(1, 30, patience=Patience(pace=Ns(0), tries=tries))
    desk.ask()
    for seq in range(2, 12):
        while not desk.ask(30):
            pass
        desk.answer(*([seq] if tries else []))
        assert not desk.closer.hopeless


def test_what_the_device_is_still_about_to_send_is_never_given_up() -> None:
    """A stream that the broker forbids waits on the device for days; it is asked about ever less often."""
    desk = Desk(1, 3, patience=Patience(pace=Ns(0), tries=2))
    desk.ask()
    for _ in range(8):
        while not desk.ask(30):
            pass
        desk.answer(promised=True)
    assert not desk.closer.hopeless
    assert desk.ask(599) == []


def test_too_many_requests_means_the_same_again_a_second_later() -> None:
    """`rate_limited` is no answer about the gap."""
    desk = Desk(1, 3)
    desk.ask()
    desk.ask(5)
    desk.closer.too_fast(desk.asked[0], desk.now)
    assert desk.ask(0.999) == []
    assert desk.ask(0.001) == [(2, 2)]


def test_after_a_lost_connection_what_was_asked_is_asked_again() -> None:
    """The answer may have been for the connection before."""
    desk = Desk(1, 3)
    desk.ask()
    assert desk.ask(5) == [(2, 2)]
    desk.closer.link_down()
    assert desk.ask() == [(2, 2)]


def test_an_answer_that_promises_more_and_brings_nothing_ends_the_round() -> None:
    """A device that says `more` for ever keeps nobody busy."""
    desk = Desk(1, 9)
    desk.ask()
    assert desk.ask(5) == [(2, 8)]
    desk.answer(more=True)
    assert desk.ask() == []
    assert desk.ask(9.999) == []
    assert desk.ask(0.001) == [(2, 8)]


def test_the_end_of_a_boot_is_asked_for_without_an_end() -> None:
    """Once, after the patience, on from what came last, page by page."""
    desk = Desk(1, 2)
    desk.hear(1, boot=B)
    assert desk.ask() == []
    assert desk.ask(5) == [(3, None)]
    desk.answer(3, 4, more=True)
    assert desk.ask() == [(5, None)]
    desk.answer()
    assert not desk.ledger.wanting
    assert desk.ask(3600) == []


def test_a_device_that_cannot_tell_the_end_is_left_alone_after_the_last_try() -> None:
    """There is nothing to be told lost: nobody knows that there was anything."""
    desk = Desk(1, 2, patience=Patience(pace=Ns(0), tries=2))
    desk.hear(1, boot=B)
    while not desk.closer.hopeless:
        for _ in desk.ask(5):
            desk.refuse()
    assert desk.closer.give_up() == []
    assert not desk.ledger.wanting


def test_the_end_that_is_still_to_be_sent_is_asked_for_again() -> None:
    """A boot is not over while the device has some of it in its queue."""
    desk = Desk(1, 2)
    desk.hear(1, boot=B)
    desk.ask()
    desk.ask(5)
    desk.answer(promised=True)
    assert desk.ledger.wanting
    assert desk.ask() == []
    assert desk.ask(10) == [(3, None)]


def test_the_longest_wait_is_bounded() -> None:
    """However many tries."""
    assert Patience().after(0) == 5 * SECOND
    assert Patience().after(10_000) == 10 * MINUTE
