"""Messages that a broker cannot bear or will not have: a stream that is held, dead letters, and the message that ends connections."""

from __future__ import annotations

from itertools import pairwise

import pytest

from chappe.core import events as ev
from chappe.core.sender import POISON_AFTER
from chappe.core.stored import DeadRow
from chappe.testing.world import Published

from .rig import BUSY, FORBIDDEN, TOO_LARGE, Rig, no_acks, ns, stream_of

NEXT = "00000000000000b2"
TWO = "[streams.tick]\n[streams.tock]\n"


def refusing(stream: str, code: int, *seqs: int) -> Rig:
    """A broker that refuses messages of a stream: all, or those with these numbers."""
    it = Rig(TWO)

    def judge(message: Published) -> int:
        meant = stream_of(message) == stream and (not seqs or message.payload["seq"] in seqs)
        return code if meant else 0

    it.ack = judge
    it.link_up()
    return it


def letters(it: Rig) -> list[DeadRow]:
    return list(it.engine.context.outbox.stock.dead.values())


# ── held ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-11", breaks="chappe.core.lane:Lane.take_back")
@pytest.mark.parametrize("killed", [False, True])
def test_a_forbidden_stream_is_held_whole_and_leaves_in_order_once_it_may(killed: bool) -> None:
    """100 rows held; the access list put right: 100 in order, no dead letter. Others flow; a kill in between changes nothing."""
    it = refusing("tick", FORBIDDEN)
    it.put("tick", *range(100))
    it.put("tock", 1)
    it.advance(1)
    assert (it.book("tick")["delivered"], it.book("tick")["queued"]) == (0, 100)
    assert it.book("tock")["delivered"] == 1
    assert it.faults("streams.tick") == [("stream_held", False)]
    if killed:
        it = it.next_boot(NEXT)
        it.link_up()
        it.advance(61)
    else:
        it.published.clear()
        it.ack = lambda message: 0
        it.advance(60)
        assert it.faults("streams.tick") == [("stream_held", False), ("stream_held", True)]
    assert it.values("tick") == list(range(100))
    assert (it.book("tick")["delivered"], it.book("tick")["queued"], letters(it)) == (100, 0, [])
    assert it.audits


@pytest.mark.feature("OUT-11", breaks="chappe.core.verdicts:pause")
def test_the_head_of_a_held_stream_is_tried_every_minute_at_each_connect_and_when_the_owner_says_so() -> None:
    it = Rig(TWO)
    it.ack = lambda message: FORBIDDEN if stream_of(message) == "tick" else 0
    it.link_up()
    it.put("tick", 1)
    it.until(130)
    assert [m.at for m in it.stream("tick")] == [0.0, 60.0, 120.0]
    it.link_down()
    it.until(131)
    it.link_up()
    it.until(135)
    it.asked("queue-retry", stream="tick")
    it.until(136)
    assert [m.at for m in it.stream("tick")][3:] == [131.0, 135.0]
    assert letters(it) == []


def test_five_refusals_of_that_kind_destroy_nothing() -> None:
    it = refusing("tick", FORBIDDEN)
    it.put("tick", 1)
    it.advance(600)
    assert len(it.stream("tick")) == 11
    assert it.asked("queue")["streams"]["tick"]["held"] is True
    assert letters(it) == []


def test_a_broker_that_has_no_room_is_asked_again_for_ever() -> None:
    """0x97: after 1, 2, 4 … 60 s."""
    it = refusing("tick", BUSY)
    it.put("tick", 1)
    it.advance(400)
    assert [m.at for m in it.stream("tick")][:9] == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 123.0, 183.0]
    it.ack = lambda message: 0
    it.advance(60)
    assert it.book("tick")["delivered"] == 1
    assert it.faults("streams.tick")[-1] == ("quota_exceeded", True)


# ── dead letters ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-11", breaks="chappe.core.stock:Stock.bury")
def test_what_is_too_large_becomes_a_dead_letter_and_arrives_when_it_may_with_its_old_number() -> None:
    """Others flow; after a kill it still is one; `retry` delivers it, out of turn."""
    it = refusing("tick", TOO_LARGE, 2)
    it.put("tick", 1, 2, 3)
    it.advance(1)
    assert it.values("tick") == [1, 2, 3]
    [letter] = letters(it)
    assert (letter.seq, letter.reason) == (2, "too_large")
    assert (it.book("tick")["delivered"], it.book("tick")["queued"]) == (2, 1)
    it.advance(10)
    after = it.next_boot(NEXT)
    after.link_up()
    after.advance(1)
    assert [row["reason"] for row in after.asked("queue")["dead"]] == ["too_large"]
    assert after.seqs("tick") == []
    assert after.asked("queue-retry", dead=True) == {"retried": 1}
    after.advance(1)
    assert [(m.payload["boot"], m.payload["seq"], m.data["value"]) for m in after.stream("tick")] == [(it.boot, 2, 2)]
    assert (letters(after), after.shelf.tables.dead, after.rows) == ([], {}, {})
    assert after.book("tick")["delivered"] == 3
    assert after.audits


@pytest.mark.feature("OUT-11", breaks="chappe.core.stock:Stock.forget_dead")
def test_three_letters_dropped_by_the_owner_are_spilled_and_told() -> None:
    it = refusing("tick", TOO_LARGE)
    it.put("tick", 1, 2, 3)
    it.advance(1)
    assert it.asked("queue-drop", dead=True)["dropped"] == 3
    assert it.book("tick")["spilled"] == 3
    it.ack = lambda message: 0
    it.put("tick", 4)
    it.advance(1)
    assert it.losses("tick")[-1] == (4, {"from": 1, "to": 3, "n": 3, "reason": "operator"})
    assert it.shelf.tables.dead == {}
    assert it.audits


def test_a_stop_between_asking_for_letters_and_getting_them_loses_none() -> None:
    it = refusing("tick", TOO_LARGE)
    it.put("tick", 1, 2)
    it.advance(1)
    it.link_down()
    it.ask("queue-retry", {"dead": True})  # no time passes
    it.feed(ev.StopRequested(at=it.clock.now()))
    it.store.close()
    after = it.next_boot(NEXT)
    assert after.audits
    after.link_up()
    after.asked("queue-retry", dead=True)
    after.advance(1)
    assert after.values("tick") == [1, 2]
    assert after.audits


def test_more_dead_letters_than_there_may_be_push_out_the_oldest() -> None:
    it = Rig("[outbox]\ndead = 3\n" + TWO)
    it.ack = lambda message: TOO_LARGE if stream_of(message) == "tick" else 0
    it.link_up()
    it.put("tick", *range(1, 6))
    it.advance(1)
    assert [letter.seq for letter in letters(it)] == [3, 4, 5]
    assert len(it.shelf.tables.dead) == 3
    it.ack = lambda message: 0
    it.put("tick", 6)
    assert it.losses("tick")[-1] == (6, {"from": 1, "to": 2, "n": 2, "reason": "spilled"})
    assert it.audits


def test_a_disk_that_fails_while_letters_are_buried_buries_them_later() -> None:
    it = refusing("tick", TOO_LARGE)
    it.shelf.fail = "store_failed"
    it.put("tick", 1)
    it.advance(3)
    assert it.shelf.tables.dead == {}
    it.shelf.fail = None
    it.advance(3)
    assert len(it.shelf.tables.dead) == 1
    assert it.audits


@pytest.mark.parametrize("fails", [False, True])
def test_a_message_refused_while_it_is_being_written_is_one_letter_and_no_row(fails: bool) -> None:
    """Whether that write succeeds or not: books, rows and letters agree, also for the next boot."""
    it = refusing("tick", TOO_LARGE)
    it.advance(1)
    it.shelf.delay = ns(0.1)
    it.ack_after = 0.3
    it.put("tick", 1)
    it.advance(0.32)  # writing began at 0.25 s
    assert [letter.seq for letter in letters(it)] == [1]
    it.shelf.fail = "store_failed" if fails else None
    it.advance(0.1)
    it.shelf.fail = None
    it.advance(5)
    after = it.next_boot(NEXT)
    assert (after.rows, [letter.seq for letter in letters(after)]) == ({}, [1])
    assert after.book("tick")["queued"] == 1
    assert (it.audits, after.audits) == (True, True)


def test_letters_dropped_while_nothing_can_be_written_are_dropped_in_the_books_as_well() -> None:
    """Letter and books go in one commit, also when the first attempt at it fails."""
    it = refusing("tick", TOO_LARGE)
    it.put("tick", 1, 2)
    it.advance(1)
    it.shelf.fail = "store_failed"
    it.asked("queue-drop", dead=True)
    it.advance(1)
    it.shelf.fail = None
    it.advance(1.1)
    assert it.shelf.tables.dead == {}
    assert (it.entry("tick").book.queued, it.entry("tick").book.spilled) == (0, 2)
    assert it.next_boot(NEXT).audits


def test_a_row_delivered_while_it_is_written_anew_in_vain_is_deleted_and_counted_so() -> None:
    """It had been written before, without the gap that it was to disclose."""
    it = Rig()
    it.put("tick", 1, 2)
    it.advance(0.1)
    first = min(it.rows)
    it.shelf.fail = "store_failed"
    it.asked("queue-drop", ids=[first])
    it.shelf.delay = ns(0.2)
    it.ack_after = 0.5
    it.link_up()
    it.advance(6)
    assert it.book("tick")["delivered"] == 1
    it.shelf.fail = None
    it.advance(3)
    assert (it.rows, it.entry("tick").rows, it.entry("tick").book.queued) == ({}, 0, 0)
    assert it.next_boot(NEXT).audits


# ── poison ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Allergic(Rig):
    """A rig whose broker ends the connection as soon as it sees message 2 of `tick`, without a PUBACK for any that came with it."""

    poison = 2
    cuts = 0

    def connect(self) -> None:
        """Up, and down again if the message was among those that were sent."""
        before = len(self.published)
        self.ack = no_acks
        self.link_up()
        sent = self.published[before:]
        if any(stream_of(m) == "tick" and m.payload["seq"] == self.poison for m in sent):
            self.cuts += 1
            self.cut()
        else:
            self.ack = lambda message: 0
            tokens = tuple(ev.Ack(m.token) for m in sent if stream_of(m))
            self.feed(ev.Acked(at=self.clock.now(), items=tokens))
        self.advance(1)


@pytest.mark.feature("OUT-11", breaks="chappe.core.returns:Returns._suspect")
def test_a_message_that_ends_three_connections_is_sent_alone_and_then_becomes_a_dead_letter() -> None:
    """The others, in flight with it each time, are cleared of suspicion and all arrive."""
    it = Allergic(TWO)
    it.put("tick", 1, 2, 3)
    it.put("tock", 1, 2)
    it.advance(0.1)
    for _ in range(POISON_AFTER):
        it.connect()
    assert it.cuts == 3
    # Message 1 was in flight as often: it goes first, alone, and is innocent.
    it.published.clear()
    it.ack = no_acks
    it.link_up()
    [alone] = [m for m in it.published if stream_of(m)]
    assert alone.payload["seq"] == 1
    it.advance(1)
    assert len([m for m in it.published if stream_of(m)]) == 1
    it.feed(ev.Acked(at=it.clock.now(), items=(ev.Ack(alone.token),)))
    it.advance(0.1)
    culprit = [m for m in it.published if stream_of(m)][1]
    assert culprit.payload["seq"] in (1, 2)
    while stream_of(culprit) != "tick" or culprit.payload["seq"] != 2:
        it.feed(ev.Acked(at=it.clock.now(), items=(ev.Ack(culprit.token),)))
        it.advance(0.1)
        culprit = it.published[-1]
    it.cut()
    [letter] = letters(it)
    assert (letter.stream, letter.seq, letter.reason) == ("tick", 2, "poison")
    it.published.clear()
    it.ack = lambda message: 0
    it.link_up()
    it.advance(1)
    assert it.values("tick") == [3]
    assert it.engine.context.outbox.empty
    assert (it.book("tick")["delivered"], it.book("tock")["delivered"]) == (2, 2)
    assert it.audits


def test_a_link_that_falls_silent_makes_nobody_suspect() -> None:
    """Only a peer that ends the connection may have choked on a message."""
    it = Rig()
    it.ack = no_acks
    it.put("tick", 1, 2)
    it.advance(0.1)
    for _ in range(10):
        it.link_up()
        it.advance(1)
        it.link_down()
    it.published.clear()
    it.link_up()
    assert it.seqs("tick") == [1, 2]


def test_an_acknowledgement_in_between_clears_a_message() -> None:
    """Three connections running: one that brought the PUBACK of another stream's message changes nothing, its own does."""
    it = Rig(TWO)
    it.put("tick", 1)
    it.advance(0.1)
    it.ack = no_acks
    for _ in range(2):
        it.link_up()
        it.cut()
        it.advance(1)
    it.ack = lambda message: 0x97 if stream_of(message) else 0
    it.link_up()
    it.advance(0.5)
    assert it.seqs("tick") == [1, 1, 1]
    it.cut()
    it.published.clear()
    it.ack = no_acks
    it.link_up()
    it.put("tock", 1)
    it.advance(0.1)
    assert [stream_of(m) for m in it.published if stream_of(m).startswith("t")] == ["tick", "tock"]


def test_a_suspect_that_behaves_when_it_is_alone_is_delivered() -> None:
    it = Rig()
    it.ack = no_acks
    it.put("tick", *range(5))
    it.advance(0.1)
    for _ in range(3):
        it.link_up()
        it.cut()
        it.advance(1)
    it.published.clear()
    it.ack_after = 0.1
    it.ack = lambda message: 0
    it.link_up()
    it.advance(1)
    assert it.values("tick") == [0, 1, 2, 3, 4]
    at = [m.at for m in it.stream("tick")]
    assert all(later - earlier >= 0.0999 for earlier, later in pairwise(at))
    assert letters(it) == []
