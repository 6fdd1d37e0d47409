"""Whatever is given up is disclosed: once, on the first message after it, over cuts, kills and stops; and expiry to the nanosecond."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.core.books import Book
from chappe.core.clock import WallClock
from chappe.core.envelope import Lost
from chappe.core.gaps import MOST, Gaps
from chappe.core.outbox import Outbox
from chappe.core.settings import Outbox as Limits
from chappe.core.stored import Backlog, BootFound, LaneEntry, LaneFound
from chappe.core.streams import effective
from chappe.core.topics import Topics
from chappe.core.units import DAY, SECOND, Ns, WallNs

from .rig import Consumer, Rig, gap, no_acks, ns

OLD, NEXT = "0123456789abcdef", "00000000000000b2"
SHORT = '[streams.tick]\nexpiry = "5s"\n'
WEEK = 604_800 * SECOND


def spilled(more: str = "") -> Rig:
    """1 to 10 were delivered, 11 to 17 gave way, 18 to 20 wait."""
    it = Rig(f"[outbox]\nrows = 3\n[streams.tick]\n{more}")
    it.link_up()
    it.put("tick", *range(1, 4))
    it.put("tick", *range(4, 7))
    it.put("tick", *range(7, 10))
    it.put("tick", 10)
    it.link_down()
    it.put("tick", *range(11, 21))
    it.advance(0.1)
    return it


SEVEN = {"from": 11, "to": 17, "n": 7, "reason": "spilled"}


# ── once, on the first message after it ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-09", breaks="chappe.core.gaps:Gaps.add")
def test_seven_spilled_numbers_are_disclosed_once_on_the_next_message() -> None:
    it = spilled()
    it.link_up()
    it.put("tick", 21, 22)
    it.advance(1)
    assert it.values("tick") == [*range(1, 11), *range(18, 23)]
    assert it.losses("tick") == [(18, SEVEN)]
    assert it.audits


@pytest.mark.feature("OUT-09", breaks="chappe.core.sender:Sender._disclose")
def test_a_gap_is_told_again_with_the_message_that_told_it_and_by_no_other() -> None:
    """Cut before the PUBACK: the same bytes again."""
    it = spilled()
    it.ack = no_acks
    it.link_up()
    it.link_down()
    it.ack = lambda message: 0
    it.link_up()
    it.advance(1)
    assert it.losses("tick") == [(18, SEVEN)] * 2
    assert len(set(it.bytes_of("tick")[-3:])) == 3
    assert it.bytes_of("tick")[-6:-3] == it.bytes_of("tick")[-3:]


@pytest.mark.feature("OUT-09", breaks="chappe.core.gaps:Gaps.as_stored")
@pytest.mark.parametrize("told", [False, True])
def test_a_kill_hides_no_gap_whether_it_was_told_or_not(told: bool) -> None:
    it = spilled()
    if told:
        it.ack = no_acks
        it.link_up()
        it.advance(0.3)
    after = it.next_boot(NEXT)
    after.link_up()
    after.put("tick", 21, 22)  # the first says that there was a crash
    after.advance(1)
    known = Consumer()
    for message in (*it.stream("tick"), *after.stream("tick")):
        known.take("tick", message.payload)
    assert all(known.knows("tick", OLD, seq) for seq in range(1, 21))
    assert known.lost == {("tick", OLD, seq) for seq in range(11, 18)}


def test_a_gap_of_a_written_row_leaves_only_with_the_row_written_anew() -> None:
    """One number has one content, also over a kill: the row goes to disk with what it discloses before it leaves."""
    it = spilled()
    it.shelf.delay = ns(0.2)
    it.ack = no_acks
    it.link_up()
    assert it.losses("tick") == []
    it.advance(0.2)
    assert it.losses("tick") == [(18, SEVEN)]
    assert [row.lost != b"" for row in it.rows.values() if row.stream == "tick"] == [True, False, False]


def test_a_gap_on_a_message_that_gives_way_itself_merges_with_its_own() -> None:
    """Its number may be known already to whoever got it: nothing is hidden by that."""
    it = spilled()
    it.ack = no_acks
    it.link_up()
    it.link_down()
    assert it.losses("tick") == [(18, SEVEN)]
    it.asked("queue-drop", stream="tick")
    it.ack = lambda message: 0
    it.link_up()
    it.put("tick", 21)
    it.advance(1)
    lost = {"from": 11, "to": 20, "n": 10, "reason": "mixed", "by": {"spilled": 7, "operator": 3}}
    assert it.losses("tick")[-1] == (21, lost)
    assert it.audits


def test_gaps_with_a_message_between_them_ride_on_two_messages() -> None:
    it = Rig()
    it.put("tick", 1, 2, 3, 4, 5)
    it.advance(0.1)
    ids = {row.seq: row.id for row in it.rows.values()}
    it.asked("queue-drop", ids=[ids[2], ids[4]])
    it.link_up()
    it.advance(1)
    assert it.losses("tick") == [
        (3, {"from": 2, "to": 2, "n": 1, "reason": "operator"}),
        (5, {"from": 4, "to": 4, "n": 1, "reason": "operator"}),
    ]


def test_each_stream_tells_its_own() -> None:
    it = Rig('[outbox]\nrows = 4\n[streams.a]\nexpiry = "5s"\n[streams.b]\n')
    it.put("a", 1, 2)
    it.put("b", 1, 2, 3)
    it.advance(6)
    it.link_up()
    it.put("a", 3)
    it.advance(1)
    lost = {"from": 1, "to": 2, "n": 2, "reason": "mixed", "by": {"spilled": 1, "expired": 1}}
    assert (it.losses("a"), it.losses("b")) == ([(3, lost)], [])
    assert it.audits


# ── expiry ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-09", breaks="chappe.core.outbox:Outbox.expire")
def test_what_is_older_than_its_expiry_is_not_sent_but_told() -> None:
    """`expiry = "5s"`, the broker down for 10 s: state `expired`, reason `expired`; deleted, and no dead letter."""
    it = Rig(SHORT)
    it.spread(10, 1, "tick", first=1)
    it.link_up()
    it.advance(1)
    assert it.values("tick") == [7, 8, 9, 10]
    assert it.losses("tick") == [(7, {"from": 1, "to": 6, "n": 6, "reason": "expired"})]
    assert [it.asked("delivery", stream="tick", seq=seq)["state"] for seq in (1, 6, 7)] == ["expired"] * 2 + ["sent"]
    assert (it.book("tick")["expired"], it.rows, it.shelf.tables.dead) == (6, {}, {})
    assert it.audits


@pytest.mark.feature("OUT-09", breaks="chappe.core.outbox:Outbox.expire")
def test_a_row_expires_at_its_moment_and_not_before() -> None:
    it = Rig(SHORT)
    it.put("tick", 1)
    it.advance(4.999)
    assert it.book("tick")["queued"] == 1
    it.advance(0.001)
    assert it.book("tick")["expired"] == 1


@pytest.mark.feature("OUT-09", breaks="chappe.core.boots:Boots.here")
def test_by_default_a_log_row_expires_after_604800_seconds_also_over_restarts() -> None:
    it = Rig()
    it.put("tick", 1)
    it.advance(1)
    after = it.next_boot(NEXT, start=Ns(WEEK - SECOND))
    assert after.book("tick")["queued"] == 1
    after.advance(0.999)
    assert after.book("tick")["queued"] == 1
    after.advance(0.001)
    assert after.book("tick")["expired"] == 1
    after.link_up()
    after.put("tick", 2, 3)
    after.advance(1)
    assert after.losses("tick") == [
        (1, {"boot": OLD, "from": 2, "reason": "crash"}),
        (2, {"boot": OLD, "from": 1, "to": 1, "n": 1, "reason": "expired"}),
    ]


def test_latest_expires_after_a_day() -> None:
    it = Rig('[streams.room]\nclass = "latest"\n')
    it.put("room", 1)
    it.advance(11)
    after = it.next_boot(NEXT, start=Ns(DAY - SECOND))
    after.advance(1)
    assert (after.book("room")["expired"], after.book("room")["queued"]) == (1, 0)


@pytest.mark.feature("OUT-09", breaks="chappe.core.sender:Sender._hand_over")
@pytest.mark.parametrize(("waited", "left"), [(0.0, 60), (0.5, 60), (45.5, 15), (59.5, 1)])
def test_the_message_expiry_is_what_is_left_in_whole_seconds(waited: float, left: int) -> None:
    it = Rig('[streams.tick]\nexpiry = "60s"\n')
    it.put("tick", 1)
    it.advance(waited)
    it.link_up()
    it.advance(0.1)
    assert it.expiries("tick") == [left]


def test_the_message_expiry_counts_over_a_restart() -> None:
    it = Rig('[streams.tick]\nexpiry = "60s"\n')
    it.put("tick", 1)
    it.advance(20)
    after = it.next_boot(NEXT)
    after.advance(20)
    after.link_up()
    after.advance(0.1)
    assert after.expiries("tick") == [20]


def test_what_was_handed_over_does_not_expire_any_more() -> None:
    """The broker may have it: it is sent again however old it is, with the least expiry there is."""
    it = Rig(SHORT)
    it.ack = no_acks
    it.link_up()
    it.put("tick", 1)
    it.advance(1)
    it.link_down()
    it.advance(60)
    it.link_up()
    it.advance(0.1)
    assert it.expiries("tick") == [5, 1]


def test_a_row_paged_in_past_its_expiry_expires() -> None:
    """Rows that lie on disk alone are not looked at until they are needed."""
    it = Rig(SHORT)
    it.put("tick", *range(3000))
    it.advance(1)
    assert it.in_memory < 2000
    it.advance(60)
    assert it.book("tick")["expired"] == 3000
    assert (it.rows, it.engine.context.outbox.empty) == ({}, True)
    it.link_up()
    it.put("tick", 1)
    assert it.losses("tick") == [(3001, {"from": 1, "to": 3000, "n": 3000, "reason": "expired"})]


# ── the end of a boot ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_clean_stop_says_the_last_number_of_each_stream_so_that_a_gap_behind_it_is_seen() -> None:
    it = Rig("[streams.tick]\n[streams.mute]\n")
    it.link_up()
    it.put("tick", 1, 2, 3)
    it.advance(1)
    it.stop()
    assert it.last("T/state") == {"status": "stopped", "boot": OLD, "last": {"tick": 3}}
    after = it.next_boot(NEXT)
    after.link_up()
    after.put("tick", 1)
    after.put("mute", 1)
    assert (after.losses("tick"), after.losses("mute")) == ([], [])


def test_a_gap_that_nobody_told_survives_a_clean_stop() -> None:
    it = spilled()
    it.asked("queue-drop", stream="tick")
    it.stop()
    after = it.next_boot(NEXT)
    after.link_up()
    after.put("tick", 1)
    after.advance(1)
    lost = {"boot": OLD, "from": 11, "to": 20, "n": 10, "reason": "mixed", "by": {"spilled": 7, "operator": 3}}
    assert after.losses("tick") == [(1, lost)]


# ── corruption ───────────────────────────────────────────────────────────────────────────────────────────────────────


def found(corrupt: dict[str, Lost], rows: int = 0) -> Outbox:
    """What a boot makes of a salvaged store: `rows` of five are left."""
    book = Book(produced=5, queued=rows, spilled=5 - rows)
    entry = LaneEntry(no=3, next=6, rows=rows, bytes=rows * 130, book=book, boot=OLD, seq=5)
    backlog = Backlog(
        kernel="k",
        lanes={"tick": LaneFound(entry=entry)},
        boots=(BootFound(boot=OLD, kernel="k", offset=0, synced=True, last=Ns(0), clean=True),),
        corrupt=corrupt,
    )
    tokens = count(1)
    specs = {"tick": effective("tick")}
    clock = WallClock(Ns(0), WallNs(0), True)
    return Outbox(NEXT, Topics("chappe", "t"), specs, Limits(), clock, lambda: next(tokens), backlog=backlog)


@pytest.mark.feature("OUT-14", breaks="chappe.core.stock:_gaps")
def test_rows_that_could_not_be_salvaged_are_told_by_the_first_message() -> None:
    outbox = found({"tick": Lost(2, "corrupt", 5, 3, boot=OLD)})
    outbox.wishes(Ns(0))
    outbox.committed(Ns(0))
    outbox.link_up(Ns(0))
    outbox.produce("tick", {"value": 1}, Ns(0))
    [message] = outbox.take(Ns(0), 10)
    assert b'"lost":{"from":2,"reason":"corrupt","to":5,"n":3,"boot":"0123456789abcdef"}' in message.payload  # type: ignore[union-attr]


@pytest.mark.feature("OUT-14", breaks="chappe.core.shelves:Shelves._missing")
def test_rows_that_vanish_while_the_daemon_runs_are_counted_and_told() -> None:
    """They were on disk alone: `n` is exact, `from` and `to` are bounds."""
    it = Rig('[mqtt]\ndrain_rate = "max"\n[streams.tick]\n')
    it.put("tick", *range(3000))
    it.advance(1)
    for row_id in [row.id for row in it.rows.values() if 1500 <= row.seq < 1520]:
        del it.rows[row_id]
    it.link_up()
    it.advance(5)
    it.put("tick", "after")
    it.advance(1)
    [(told, lost)] = it.losses("tick")
    assert (lost["n"], lost["reason"]) == (20, "corrupt")
    assert lost["from"] <= 3000
    assert told > lost["to"]
    assert (it.book("tick")["delivered"], it.book("tick")["spilled"]) == (2981, 20)
    assert it.audits


# ── the list itself ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_neighbours_are_one_gap_and_others_stay_apart_in_their_order() -> None:
    gaps = Gaps()
    for one in (gap(4, 4), gap(5, 6), gap(9, 9), gap(1, 2)):
        gaps.add(one)
    assert gaps.pending == [gap(1, 2), gap(4, 6), gap(9, 9)]


def test_a_message_tells_the_gaps_before_it_and_no_later_one() -> None:
    gaps = Gaps([gap(1, 2), gap(4, 6), gap(9, 9)])
    assert gaps.for_message(3) == (gap(1, 2),)
    assert gaps.for_message(8) == (gap(1, 2), gap(4, 6))
    assert gaps.for_message(1) == ()


def test_gaps_of_other_boots_come_first_and_alone() -> None:
    gaps = Gaps([Lost(7, "crash", boot="a"), gap(1, 2, boot="b"), gap(5, 5, boot="b"), gap(1, 1)])
    assert gaps.for_message(9) == (Lost(7, "crash", boot="a"),)
    gaps.ride(1, gaps.for_message(9))
    assert gaps.for_message(9) == (gap(1, 2, boot="b"), gap(5, 5, boot="b"))
    gaps.ride(2, gaps.for_message(9))
    assert gaps.for_message(9) == (gap(1, 1),)


def test_a_gap_is_kept_until_the_message_that_tells_it_has_arrived() -> None:
    gaps = Gaps([gap(1, 2)])
    assert gaps.ride(77, gaps.for_message(3)) == gap(1, 2)
    assert (gaps.pending, gaps.as_stored("a")) == ([], (gap(1, 2, boot="a"),))
    gaps.arrived(78)
    assert gaps.as_stored("a") == (gap(1, 2, boot="a"),)
    gaps.arrived(77)
    assert gaps.as_stored("a") == ()


@pytest.mark.feature("OUT-09", breaks="chappe.core.gaps:Gaps._shorten")
def test_however_many_gaps_memory_is_bounded_and_the_count_right() -> None:
    gaps = Gaps()
    for seq in range(1, 1000, 2):
        gaps.add(gap(seq, seq))
    assert len(gaps.pending) == MOST
    assert sum(one.n or 0 for one in gaps.pending) == 500
    assert (gaps.pending[0].from_, gaps.pending[-1].to) == (1, 999)


@given(st.lists(st.tuples(st.integers(1, 40), st.sampled_from(["spilled", "expired"])), max_size=60))
def test_no_number_given_to_the_list_is_forgotten_by_it(numbers: list[tuple[int, str]]) -> None:
    """In whatever order they are lost."""
    gaps, lost = Gaps(), dict[int, str]()
    for seq, reason in numbers:
        if seq not in lost:
            lost[seq] = reason
            gaps.add(gap(seq, seq, reason))
    told: list[Any] = [seq for one in gaps.pending for seq in range(one.from_, (one.to or 0) + 1)]
    assert set(lost) <= set(told)
    assert sum(one.n or 0 for one in gaps.pending) == len(lost)
