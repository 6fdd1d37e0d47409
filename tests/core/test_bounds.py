"""An outbox that is full, a disk that is full, memory that is full: what gives way, in which order, and that nothing else stops."""

from __future__ import annotations

from typing import Any

import pytest

from chappe.core import events as ev
from chappe.core.indicators import State
from chappe.core.row import OVERHEAD

from .rig import Rig, no_acks

NEXT = "00000000000000b2"
SENSOR = '[sensors.beat]\ndriver = "simulated"\nwave = "counter"\nevery = "1s"\n'


def kept(it: Rig, stream: str = "tick") -> list[Any]:
    """What of a stream still waits, in order."""
    it.link_up()
    it.advance(5)
    return it.values(stream)


# ── rows and bytes ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-08", breaks="chappe.core.bounds:Bounds.victim")
@pytest.mark.parametrize(("policy", "first", "last"), [("oldest", 51, 150), ("newest", 1, 100)])
@pytest.mark.parametrize("at_once", [True, False])
def test_of_150_rows_with_room_for_100_the_policy_says_which_stay(
    policy: str, first: int, last: int, at_once: bool
) -> None:
    """`oldest`: 51 to 150 stay, `newest`: 1 to 100; whether they came in a burst or one by one, written in between."""
    it = Rig(f'[outbox]\nrows = 100\nspill = "{policy}"\n[streams.tick]\n')
    if at_once:
        it.put("tick", *range(1, 151))
    else:
        it.spread(150, 10, "tick", first=1)
    it.advance(1)
    assert it.book("tick")["spilled"] == 50
    assert it.audits
    assert kept(it) == list(range(first, last + 1))


@pytest.mark.feature("OUT-08", breaks="chappe.core.bounds:Bounds._worth")
@pytest.mark.parametrize(
    ("order", "left"),
    [
        # `class`: both values of `room`, then the oldest of `tick`.
        ("class", {"alert": 2, "room": 0, "tick": 4}),
        # `age`: the oldest of both, one after the other.
        ("age", {"alert": 2, "room": 2, "tick": 2}),
    ],
)
def test_latest_gives_way_before_log_or_the_oldest_of_both_and_alerts_last_in_all(
    order: str, left: dict[str, int]
) -> None:
    it = Rig(
        f'[outbox]\nrows = 6\nspill_order = "{order}"\n[streams.tick]\n[streams.room]\nclass = "latest"\n'
        'elide = { policy = "change", key = "{k}" }\n'
    )
    it.put("alert", 1, 2)
    for count in range(4):
        it.put("tick", count)
        it.advance(0.1)
        it.put("room", count, k=str(count))
        it.advance(0.1)
    lanes = it.engine.context.outbox.lanes
    assert {name: lanes[name].depth for name in left} == left
    assert it.audits


def test_lower_priority_gives_way_before_higher_of_the_same_class() -> None:
    it = Rig("[outbox]\nrows = 3\n[streams.low]\npriority = 2\n[streams.high]\npriority = 6\n")
    it.put("low", 1)
    it.put("high", 1)
    it.put("low", 2)
    it.put("high", 2)
    it.put("high", 3)
    lanes = it.engine.context.outbox.lanes
    assert (lanes["low"].depth, lanes["high"].depth) == (0, 3)


def test_alarms_give_way_only_to_alarms() -> None:
    """Room for five, and seven of them: the oldest go, nothing else is left to."""
    it = Rig("[outbox]\nrows = 5\n[streams.tick]\n")
    it.put("tick", *range(5))
    it.put("alert", *range(7))
    lanes = it.engine.context.outbox.lanes
    assert (lanes["tick"].depth, lanes["alert"].depth) == (0, 5)
    assert kept(it, "alert") == [2, 3, 4, 5, 6]


def test_a_row_in_flight_never_gives_way() -> None:
    it = Rig("[outbox]\nrows = 5\n[streams.tick]\n")
    it.ack = no_acks
    it.link_up()
    it.put("tick", 1, 2, 3, 4, 5)
    it.advance(1)
    it.put("tick", 6, 7)
    assert it.values("tick") == [1, 2, 3, 4, 5]
    it.link_down()
    it.put("tick", 8, 9)
    it.ack = lambda message: 0
    it.link_up()
    it.advance(1)
    assert it.values("tick") == [1, 2, 3, 4, 5] * 2
    it.put("tick", 10)
    assert it.losses("tick") == [(10, {"from": 6, "to": 9, "n": 4, "reason": "spilled"})]
    assert it.audits


@pytest.mark.feature("OUT-07", breaks="chappe.core.outbox:Outbox._entered")
def test_a_flood_of_ten_times_the_cap_fills_no_more_than_the_cap_and_the_alerts_arrive() -> None:
    """Capture goes on: the sensor's count is unbroken, and what is on disk never exceeds the cap by more than a commit's worth."""
    cap = 200_000
    it = Rig(f"[outbox]\nbytes = {cap}\n[streams.flood]\n" + SENSOR)
    most = 0
    for count in range(200):
        it.put("flood", *["x" * 1000] * 10)
        if count % 20 == 0:
            it.put("alert", count)
        it.advance(0.05)
        most = max(most, sum(len(row.data) + OVERHEAD for row in it.rows.values()))
        assert it.engine.context.outbox.stock.totals.bytes <= cap
    assert cap * 0.9 < most <= cap * 1.4
    assert it.book("beat")["produced"] == 10 + 1
    it.link_up()
    it.advance(5)
    assert it.values("alert") == list(range(0, 200, 20))
    assert it.book("flood")["spilled"] > 1500
    assert it.audits


def test_the_lamp_tells_from_four_fifths_on() -> None:
    it = Rig("[outbox]\nrows = 10\n[streams.tick]\n")
    it.put("tick", *range(7))
    assert State.OUTBOX_FULL not in it.engine.context.lamp.active
    it.put("tick", 8)
    assert State.OUTBOX_FULL in it.engine.context.lamp.active
    it.link_up()
    it.advance(1)
    assert State.OUTBOX_FULL not in it.engine.context.lamp.active


# ── the disk ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-07", breaks="chappe.core.bounds:Bounds.disk")
def test_below_the_free_share_the_outbox_does_not_grow_any_more() -> None:
    """`disk_free`: what comes takes the place of what was there; with room again, it grows."""
    it = Rig("[outbox]\ndisk_free = 0.05\n[streams.tick]\n")
    it.put("tick", *range(10, 20))
    it.shelf.free = 0.049
    it.advance(10)
    assert State.OUTBOX_FULL in it.engine.context.lamp.active
    it.put("tick", *range(20, 25))
    assert (it.book("tick")["queued"], it.book("tick")["spilled"]) == (10, 5)
    it.shelf.free = 0.05
    it.advance(10)
    assert State.OUTBOX_FULL not in it.engine.context.lamp.active
    it.put("tick", *range(25, 30))
    assert (it.book("tick")["queued"], it.book("tick")["spilled"]) == (15, 5)
    assert kept(it) == list(range(15, 30))


@pytest.mark.feature("OUT-07", breaks="chappe.core.keeper:Keeper.failed")
def test_with_the_disk_full_an_alert_leaves_within_a_second_and_the_fault_is_told() -> None:
    """`first` is published at once, as it cannot be written: accepted by its PUBACK. It is written once there is room, or never had to be."""
    it = Rig("[indicators]\nstatus = 17\n" + SENSOR)
    it.link_up()
    it.advance(1)
    it.shelf.fail = "store_full"
    it.put("alert", "fire")
    it.advance(1)
    assert [m.at for m in it.stream("alert")] == [1.0]
    assert it.faults("store") == [("store_full", False)]
    it.advance(5)
    assert it.book("beat")["produced"] == 8
    it.shelf.fail = None
    it.put("alert", "out")
    it.advance(2)
    assert it.values("alert") == ["fire", "out"]
    assert it.faults("store") == [("store_full", False), ("store_full", True)]
    assert it.rows == {}
    assert it.audits


def test_deletions_go_on_while_the_disk_is_full_and_make_the_room() -> None:
    it = Rig()
    it.put("tick", *range(20))
    it.advance(1)
    it.shelf.fail = "store_full"
    it.link_up()
    it.put("tick", 20)
    it.advance(3)
    assert it.values("tick") == list(range(21))
    assert it.rows == {}


def test_a_disk_that_writes_again_has_everything_that_still_waits() -> None:
    """A kill after that loses nothing; one before would have, and nothing was claimed."""
    it = Rig()
    it.shelf.fail = "store_failed"
    it.put("tick", *range(5))
    it.advance(3)
    assert it.rows == {}
    it.shelf.fail = None
    it.advance(2)
    assert [row.seq for row in it.rows.values() if row.stream == "tick"] == [1, 2, 3, 4, 5]
    after = it.next_boot(NEXT)
    after.link_up()
    assert after.values("tick") == [0, 1, 2, 3, 4]


@pytest.mark.feature("OUT-07", breaks="chappe.core.bounds:_first")
def test_what_cannot_be_written_is_bounded_in_memory_and_the_written_stays() -> None:
    """`memory_bytes`: of what lies in memory alone the oldest of the lowest class goes."""
    it = Rig("[outbox]\nmemory_bytes = 2048\n[streams.tick]\n")
    it.put("tick", *range(10))
    it.advance(1)
    it.shelf.fail = "store_failed"
    it.put("tick", *range(10, 40))
    assert it.engine.context.outbox.stock.totals.loose <= 2048
    spilled = it.book("tick")["spilled"]
    assert 10 < spilled < 20
    it.shelf.fail = None
    it.advance(3)
    it.link_up()
    it.advance(1)
    assert it.values("tick") == [*range(10), *range(10 + spilled, 40)]
    [(number, lost)] = it.losses("tick")
    assert (number, lost["from"], lost["to"]) == (11 + spilled, 11, 10 + spilled)
    assert it.audits


def test_memory_streams_are_bounded_by_memory_too() -> None:
    it = Rig('[outbox]\nmemory_bytes = 2048\n[streams.soft]\ndurability = "memory"\n')
    it.put("soft", *range(100))
    assert it.engine.context.outbox.stock.totals.loose <= 2048
    it.advance(1)
    assert kept(it, "soft")[-1] == 99


# ── a long queue gives way, too ──────────────────────────────────────────────────────────────────────────────────────


def test_the_oldest_gives_way_in_order_where_most_lies_on_disk_alone() -> None:
    it = Rig('[outbox]\nrows = 3000\n[mqtt]\ndrain_rate = "max"\n[streams.tick]\n')
    for first in range(0, 5000, 100):
        it.put("tick", *range(first, first + 100))
        it.advance(0.05)
    it.advance(1)
    assert it.book("tick")["spilled"] == 2000
    it.link_up()
    it.advance(5)
    assert it.values("tick") == list(range(2000, 5000))
    assert it.losses("tick") == [(2001, {"from": 1, "to": 2000, "n": 2000, "reason": "spilled"})]
    assert it.audits


def test_a_backlog_larger_than_new_bounds_is_cut_down_as_it_comes_in() -> None:
    """The owner has made the bounds smaller between two boots."""
    it = Rig()
    it.put("tick", *range(2000))
    it.advance(1)
    after = Rig('[outbox]\nrows = 500\n[mqtt]\ndrain_rate = "max"\n[streams.tick]\n', store=it.store, boot_id=NEXT)
    after.put("tick", "new")
    after.advance(2)
    assert after.engine.context.outbox.stock.totals.rows <= 500
    after.link_up()
    after.advance(2)
    assert after.values("tick") == [*range(1501, 2000), "new"]
    assert after.audits


def test_overload_at_the_inbox_is_counted_and_told() -> None:
    it = Rig()
    it.link_up()
    it.put("tick", 1)
    it.feed(ev.Overloaded(at=it.clock.now(), stream="tick", n=7))
    it.put("tick", 2)
    assert it.losses("tick") == [(9, {"from": 2, "to": 8, "n": 7, "reason": "overload"})]
    assert it.book("tick")["spilled"] == 7
    assert it.audits
