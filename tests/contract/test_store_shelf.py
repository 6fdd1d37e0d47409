"""What the fake can do that the store cannot: fail, take its time, be killed and be full when told to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from chappe.core.effects import Chronicle, CloseCamera, Consult, Effect, Remember
from chappe.core.events import (
    CommitFailed,
    Committed,
    Consulted,
    DiskSampled,
    Event,
    Faulted,
    Fetched,
    Healed,
)
from chappe.core.stored import Entry, Query
from chappe.core.units import MILLISECOND, SECOND, Ns, WallNs
from chappe.testing import EPOCH, ManualClock
from chappe.testing.shelf import Shelf

from ..edge.ledger import BOOT, Ledger, burial, values  # noqa: TID252 - tests share helpers by place


class Desk:
    """A shelf, its clock and what it posted but for samples."""

    def __init__(self) -> None:
        self.clock = ManualClock(Ns(SECOND))
        self.events: list[Event] = []
        self.shelf = Shelf(self.clock, self.post)
        self.shelf.open()
        self.ledger = Ledger()

    def post(self, event: Event) -> None:
        if not isinstance(event, DiskSampled):
            self.events.append(event)

    def ask(self, *effects: Effect) -> Ns | None:
        self.shelf.handle(effects)
        return self.shelf.step(self.clock.now())

    def told(self) -> list[str]:
        """Kinds of everything told since the last call."""
        found = [type(event).__name__ for event in self.events]
        self.events.clear()
        return found


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_commit_takes_as_long_as_it_is_told(desk: Desk) -> None:
    """From when its turn comes; it is not in the tables before, and the answer says how long it took."""
    desk.shelf.delay = Ns(50 * MILLISECOND)
    first = desk.ledger.commit(desk.ledger.new("tick", b"1"))
    second = desk.ledger.commit(desk.ledger.new("tick", b"2"))
    due = desk.ask(first, second)
    assert due == SECOND + 50 * MILLISECOND
    assert desk.shelf.tables.rows == {}
    desk.clock.set(Ns(due))
    due = desk.ask()
    assert due == SECOND + 100 * MILLISECOND
    assert desk.events == [Committed(at=Ns(SECOND + 50 * MILLISECOND), number=1, took=Ns(50 * MILLISECOND))]
    assert len(desk.shelf.tables.rows) == 1
    desk.clock.set(Ns(due))
    desk.ask()
    assert len(desk.shelf.tables.rows) == 2


def test_what_is_asked_behind_a_slow_commit_waits_for_it(desk: Desk) -> None:
    """The order of effects is the order of what they see."""
    desk.shelf.delay = Ns(SECOND)
    desk.ask(desk.ledger.commit(desk.ledger.new("tick", b"1")), desk.ledger.page("tick"))
    assert desk.told() == []
    desk.clock.advance(1)
    desk.ask()
    (_, page) = desk.events
    assert isinstance(page, Fetched)
    assert len(page.rows) == 1


def test_other_work_goes_on_behind_a_slow_commit(desk: Desk) -> None:
    """Samples and batches have their own times."""
    samples: list[DiskSampled] = []
    shelf = Shelf(desk.clock, lambda event: samples.append(event) if isinstance(event, DiskSampled) else None)
    shelf.handle([Chronicle(entries=(Entry("s", BOOT, 1, EPOCH, b"{}"),))])
    shelf.step(desk.clock.now())
    shelf.delay = Ns(60 * SECOND)
    shelf.handle([desk.ledger.commit()])
    assert shelf.step(desk.clock.now()) == 11 * SECOND
    desk.clock.set(Ns(11 * SECOND))
    assert shelf.step(desk.clock.now()) == 21 * SECOND
    assert len(samples) == 2
    assert len(shelf.tables.annals.kept["s"]) == 1


def test_closing_does_not_wait_for_a_slow_commit(desk: Desk) -> None:
    desk.shelf.delay = Ns(60 * SECOND)
    desk.ask(desk.ledger.commit(desk.ledger.new("tick", b"1")))
    desk.shelf.close()
    assert len(desk.shelf.tables.rows) == 1


@pytest.mark.parametrize(("code", "deletes"), [("store_full", "Committed"), ("store_failed", "CommitFailed")])
def test_a_full_shelf_still_deletes_and_a_broken_one_does_not(desk: Desk, code: str, deletes: str) -> None:
    """As the store with its ballast."""
    rows = desk.ledger.new("tick", *values(2))
    desk.ask(desk.ledger.commit(rows))
    desk.told()
    desk.shelf.fail = code  # type: ignore[assignment]
    desk.ask(Ledger().commit(burials=[burial(rows[0])]))
    assert desk.told() == ["Faulted", "CommitFailed"]
    desk.ask(desk.ledger.commit(gone=[rows[1].id]))
    assert desk.told() == [deletes]
    desk.shelf.fail = None
    desk.ask(desk.ledger.commit())
    assert desk.told() == ["Healed", "Committed"]


def test_faults_carry_the_code_they_are_told(desk: Desk) -> None:
    desk.shelf.fail = "store_failed"
    desk.ask(desk.ledger.commit(desk.ledger.new("tick", b"1")))
    fault, failed = desk.events
    assert isinstance(fault, Faulted)
    assert isinstance(failed, CommitFailed)
    assert (fault.part, fault.code, failed.code) == ("store", "store_failed", "store_failed")
    desk.shelf.fail = None
    desk.ask(desk.ledger.commit())
    assert [event.code for event in desk.events if isinstance(event, Healed)] == ["store_failed"]


def test_a_kill_takes_what_was_not_committed_and_leaves_a_shelf_of_its_own(desk: Desk) -> None:
    """What the old one did afterwards is not seen by the new one."""
    desk.ask(desk.ledger.commit(desk.ledger.new("tick", b"1")))
    desk.shelf.delay = Ns(SECOND)
    desk.ask(desk.ledger.commit(desk.ledger.new("tick", b"2")), Remember(key="a", value=1))
    clock, events = ManualClock(Ns(5)), list[Event]()
    after = desk.shelf.crash(clock, events.append, boot="next", kernel="other")
    after.open()
    desk.shelf.tables.rows.clear()
    desk.shelf.tables.annals.cursors["r", "s"] = 1
    assert after.backlog().lanes["tick"].first == (1 << 40) + 1
    assert after.backlog().kernel == "other"
    assert after.memory() == {}
    assert after.tables.annals.cursors == {}
    after.step(clock.now())
    assert [event.at for event in events] == [5]
    assert (after.delay, after.fail) == (0, None)


def test_how_full_the_disk_is_can_be_said(desk: Desk) -> None:
    """A sample comes when the limit is crossed."""
    samples: list[float] = []

    def post(event: Event) -> None:
        assert isinstance(event, DiskSampled)
        samples.append(event.free)

    shelf = Shelf(desk.clock, post, disk_free=0.1)
    for free in (1.0, 0.5, 0.09, 0.05, 0.2):
        shelf.free = free
        shelf.step(desk.clock.now())
    assert samples == [1.0, 0.09, 0.2]


def test_effects_for_other_parts_are_none_of_its_business(desk: Desk) -> None:
    assert desk.ask(CloseCamera()) == 11 * SECOND
    assert desk.told() == []


def asked(desk: Desk, **query: object) -> Sequence[int]:
    desk.ask(Consult(ticket=1, query=Query(**query)))  # type: ignore[arg-type]
    answer = desk.events[-1]
    assert isinstance(answer, Consulted)
    return [row.seq for row in answer.page.rows]


def test_its_history_is_bounded_too(desk: Desk) -> None:
    """So that a device at manual time sees what a real one would."""
    desk.shelf = Shelf(desk.clock, desk.post, history_bytes=1000)
    for seq in range(1, 21):
        entry = Entry("s", BOOT, seq, WallNs(EPOCH + seq), b'{"data":"%s"}' % (b"x" * 30))
        desk.ask(Chronicle(entries=(entry,)))
    seqs = asked(desk, stream="s", newest=False)
    assert list(seqs) == list(range(21 - len(seqs), 21))
    assert 5 < len(seqs) < 15
