"""However long the queue: it leaves in order and without a hole, and in memory there are a few pages of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from chappe.core import queue as paging
from chappe.core.queue import PAGE, Queue, Totals
from chappe.core.row import OVERHEAD, Row
from chappe.core.units import Ns
from chappe.testing.world import Published

from .rig import NIGHTLY, Rig, stream_of

NEXT = "00000000000000b2"
FAST = '[mqtt]\ndrain_rate = "max"\n[streams.tick]\n'
MANY = 100_000 if NIGHTLY else 12_000
MOST = 3 * PAGE
"""A head of at most two pages, and what has not been written yet."""


def queued(n: int, config: str = FAST, **more: Any) -> Rig:
    """`n` rows offline, a hundred at a time; between them the store writes."""
    it = Rig(config, **more)
    for first in range(0, n, 100):
        it.put("tick", *range(first, min(n, first + 100)))
        it.advance(0.02)
    it.advance(1)
    return it


# ── long queues ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-06", breaks="chappe.core.queue:Queue.shelve")
def test_days_offline_take_no_more_memory_than_a_minute_and_leave_in_order_and_late() -> None:
    """All in order, no gap, each `late`, live ones not; in memory three pages at most, at any time."""
    it = Rig(FAST)
    most = 0
    for first in range(0, MANY, 100):
        it.put("tick", *range(first, first + 100))
        it.advance(0.02)
        most = max(most, it.in_memory)
    assert most <= MOST
    assert it.engine.context.outbox.counter.depth(it.clock.now()).depth == MANY

    def watch(message: Published) -> int:
        nonlocal most
        if stream_of(message) and message.token % 50 == 0:
            most = max(most, it.in_memory)
        return 0

    it.ack = watch
    it.link_up()
    it.advance(1)
    it.put("tick", "live")
    it.advance(1)
    assert it.values("tick") == [*range(MANY), "live"]
    assert it.seqs("tick") == list(range(1, MANY + 2))
    assert [m.payload.get("late", False) for m in it.stream("tick")] == [True] * MANY + [False]
    assert most <= MOST
    assert (it.rows, it.book("tick")["delivered"]) == ({}, MANY + 1)
    assert it.audits


@pytest.mark.feature("OUT-06", breaks="chappe.core.shelves:Shelves.page_in")
def test_a_boot_on_a_long_queue_begins_with_one_page(tmp_path: Path) -> None:
    """It knows how much waits without having read it; real store."""
    state = tmp_path / "state"
    state.mkdir()
    it = queued(3000, folder=state)
    copied = tmp_path / "copy"
    shutil.copytree(state, copied, ignore=shutil.ignore_patterns("*-shm", "lock"))
    it.store.close()
    after = Rig(FAST, folder=copied, boot_id=NEXT, start=it.clock.now(), wall=it.clock.wall())
    assert after.in_memory == PAGE
    assert after.engine.context.outbox.counter.depth(after.clock.now()).depth == 3000
    after.link_up()
    after.advance(2)
    after.put("tick", "live")
    after.advance(1)
    assert after.values("tick") == [*range(3000), "live"]
    assert {m.payload["boot"] for m in after.stream("tick")[:-1]} == {it.boot}
    assert after.losses("tick") == [(1, {"boot": it.boot, "from": 3001, "reason": "crash"})]
    assert after.audits
    after.store.close()


def test_what_comes_while_a_long_queue_drains_leaves_behind_it() -> None:
    it = queued(2000)
    it.ack_after = 0.05
    it.link_up()
    it.spread(100, 100, "tick", first=2000)
    it.advance(3)
    assert it.values("tick") == list(range(2100))
    assert it.audits


def test_a_link_that_comes_and_goes_over_a_long_queue_changes_neither_order_nor_count() -> None:
    it = queued(2500)
    it.ack_after = 0.01
    for _ in range(40):
        it.link_up()
        it.advance(0.055)
        it.link_down()
        it.put("tick", "more")
        it.advance(0.05)
        assert it.audits
    it.link_up()
    it.advance(3)
    first: dict[int, Any] = {}
    for message in it.stream("tick"):
        first.setdefault(message.payload["seq"], message.data["value"])
    assert list(first) == list(range(1, 2541))
    assert list(first.values()) == [*range(2500), *["more"] * 40]
    assert it.losses("tick") == []


def test_each_page_is_asked_for_once() -> None:
    """1,488 of 2,000 rows lie on disk alone: three pages of 512."""
    it = queued(2000)
    asked = len(it.fetches)
    it.link_up()
    it.advance(10)
    assert it.seqs("tick") == list(range(1, 2001))
    assert len(it.fetches) - asked == 3


def test_large_rows_come_in_smaller_pages_and_fewer_of_them_stay() -> None:
    """A page ends with the row that brings it to 1 MiB: 700 rows of 10 kB are 7 MB, of which two pages are in memory."""
    it = Rig(FAST)
    for value in range(700):
        it.put("tick", f"{value:05}" + "x" * 9995)
        it.advance(0.02)
    it.advance(1)
    assert it.in_memory <= 2 * 106
    after = it.next_boot(NEXT)
    assert after.in_memory <= 106
    most = 0

    def watch(message: Published) -> int:
        nonlocal most
        most = max(most, after.in_memory)
        return 0

    after.ack = watch
    after.link_up()
    after.advance(1)
    assert after.seqs("tick") == list(range(1, 701))
    assert most <= 3 * 106


def test_one_stream_on_disk_alone_does_not_touch_another() -> None:
    it = Rig(FAST + "[streams.tock]\n")
    it.put("tick", *range(2000))
    it.put("tock", *range(10))
    it.advance(1)
    assert not it.engine.context.outbox.lanes["tock"].queue.shelved
    it.link_up()
    it.advance(2)
    assert (it.values("tick"), it.values("tock")) == (list(range(2000)), list(range(10)))


# ── the queue by itself ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "PAGE", 4)


def row(number: int, *, stored: bool = True, size: int = 10) -> Row:
    data = b"x" * size
    return Row(
        id=number,
        seq=number,
        key="",
        at=Ns(0),
        accepted=Ns(0),
        late=False,
        body=data,
        size=size + OVERHEAD,
        stored=stored,
    )


def filled(n: int, **more: Any) -> Queue:
    it = Queue(Totals())
    for number in range(1, n + 1):
        it.append(row(number, **more))
        if more.get("stored", True):
            it.stored += 1
            it.stored_bytes += it.rows[-1].size
    return it


def ids(it: Queue) -> tuple[list[int], int, list[int]]:
    return [one.id for one in it.rows], it.shelf, [one.id for one in it.tail]


@pytest.mark.usefixtures("small_pages")
def test_a_short_queue_is_left_alone() -> None:
    it = filled(8)
    it.shelve()
    assert ids(it) == ([1, 2, 3, 4, 5, 6, 7, 8], 0, [])
    assert not it.shelved


@pytest.mark.usefixtures("small_pages")
def test_a_long_one_keeps_a_page_and_leaves_what_is_written_on_disk() -> None:
    it = filled(9)
    it.shelve()
    assert ids(it) == ([1, 2, 3, 4], 5, [])
    assert (it.after, it.upto, it.depth) == (4, 9, 9)
    it.append(row(10, stored=False))
    assert ids(it) == ([1, 2, 3, 4], 5, [10])


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize(
    "change", [{"dirty": True}, {"writing": True}, {"payload": b"x"}, {"data": {}}, {"stored": False}]
)
def test_what_the_disk_does_not_hold_as_it_is_stays_in_memory(change: dict[str, Any]) -> None:
    """And all that comes behind it, for the sake of order."""
    it = filled(9)
    for name, value in change.items():
        setattr(it.rows[6], name, value)
    it.shelve()
    assert ids(it) == ([1, 2, 3, 4], 2, [7, 8, 9])


@pytest.mark.usefixtures("small_pages")
def test_pages_come_in_until_nothing_is_left_on_the_shelf_and_the_tail_joins() -> None:
    it = filled(9)
    it.shelve()
    it.append(row(10, stored=False))
    it.rows.clear()
    assert it.wants
    assert it.fetched([row(number) for number in (5, 6, 7, 8)], 8, 0) == 0
    assert ids(it) == ([5, 6, 7, 8], 1, [10])
    it.rows.clear()
    assert it.fetched([row(9)], 9, 0) == 0
    assert ids(it) == ([9, 10], 0, [])
    assert not it.shelved


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize(
    ("there", "bad", "missing"), [([5, 6], 0, 3), ([5, 6], 3, 3), ([], 0, 5), ([5, 6, 7, 8, 9], 0, 0)]
)
def test_rows_that_are_not_there_any_more_are_counted(there: list[int], bad: int, missing: int) -> None:
    it = filled(9)
    it.shelve()
    before = it._totals.rows
    assert it.fetched([row(number) for number in there], 9, bad) == missing
    assert (it.depth, it.shelf, it.stored) == (9 - missing, 0, 9 - missing)
    assert it._totals.rows == before - missing


@pytest.mark.usefixtures("small_pages")
def test_a_row_taken_down_from_the_shelf_does_not_come_back_with_its_page() -> None:
    it = filled(9)
    it.shelve()
    assert it.holds(6)
    it.take_down(6, row(6).size)
    assert not it.holds(6)
    assert (it.shelf, it.depth) == (4, 8)
    it.fetched([row(number) for number in (5, 6, 7, 8, 9)], 9, 0)
    assert ids(it) == ([1, 2, 3, 4, 5, 7, 8, 9], 0, [])


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize(("number", "on_shelf"), [(2, False), (7, True), (12, False)])
def test_a_dead_letter_revived_takes_its_old_place(number: int, on_shelf: bool) -> None:
    it = filled(9)
    it.shelve()
    gone = row(number)
    if not on_shelf and number < 5:
        it.remove(next(one for one in it.rows if one.id == number))
    elif on_shelf:
        it.shelf -= 1
    it.revive(gone)
    assert (number in [one.id for one in it.rows]) is not on_shelf
    assert [one.id for one in it.rows] == sorted(one.id for one in it.rows)


def test_rows_that_come_back_take_their_places() -> None:
    it = filled(5)
    taken = [it.rows.popleft() for _ in range(3)]
    for one in (taken[1], taken[0], taken[2]):
        it.put_back(one)
    assert [one.id for one in it.rows] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("order", [(1, 2, 3, 4, 5), (5, 4, 3, 2, 1), (3, 1, 5, 2, 4)])
def test_bytes_and_rows_are_told_right_in_whatever_order_rows_go(order: tuple[int, ...]) -> None:
    it = filled(5, stored=False)
    totals = it._totals
    assert (totals.rows, totals.bytes, totals.loose) == (5, 650, 650)
    for number in order:
        one = next(one for one in it.rows if one.id == number)
        it.remove(one)
        it.left(one)
    assert (totals.rows, totals.bytes, totals.loose) == (0, 0, 0)
