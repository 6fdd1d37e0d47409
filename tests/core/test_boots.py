"""Clocks of earlier boots: what a row's time was, how old it is, and what a device without a clock of its own makes of it."""

from __future__ import annotations

import pytest

from chappe.core import events as ev
from chappe.core.boots import Boots
from chappe.core.clock import WallClock
from chappe.core.stored import BootFound
from chappe.core.units import HOUR, SECOND, Ns, WallNs
from chappe.testing.clock import EPOCH

from .rig import Rig

NEXT = "00000000000000b2"
ZERO = WallNs(0)
YEARS_56 = EPOCH


def told(it: Rig, stream: str = "tick") -> list[tuple[str, bool]]:
    """When and whether synchronised, as the envelopes say."""
    return [(m.payload["at"], m.payload["synced"]) for m in it.stream(stream)]


def sync(it: Rig, wall: int = EPOCH) -> None:
    """Time arrives."""
    it.clock.step_wall((wall - it.clock.wall()) / SECOND)
    it.feed(ev.ClockChanged(at=it.clock.now(), wall=it.clock.wall(), synced=True))


# ── one boot ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("SCH-03", breaks="chappe.core.clock:WallClock.set")
def test_a_device_that_starts_in_1970_stamps_what_waits_anew_when_time_arrives() -> None:
    """Sync by 56 years: not yet sent rows leave with the corrected `at` and `synced`; order by number is unchanged."""
    it = Rig(wall=ZERO, synced=False)
    it.link_up()
    it.put("tick", 0)
    it.link_down()
    it.spread(3, 1, "tick", first=1)
    sync(it, EPOCH)
    it.put("tick", 4)
    it.link_up()
    it.advance(1)
    assert told(it) == [
        ("1970-01-01T00:00:00.000Z", False),
        ("2026-11-21T20:59:57.000Z", True),
        ("2026-11-21T20:59:58.000Z", True),
        ("2026-11-21T20:59:59.000Z", True),
        ("2026-11-21T21:00:00.000Z", True),
    ]
    assert it.seqs("tick") == [1, 2, 3, 4, 5]


def test_what_was_sent_once_keeps_its_stamp_when_it_is_sent_again() -> None:
    it = Rig(wall=ZERO, synced=False)
    it.ack = lambda message: None
    it.link_up()
    it.put("tick", 1)
    it.advance(1)
    it.link_down()
    sync(it)
    it.link_up()
    it.advance(1)
    assert len(set(it.bytes_of("tick"))) == 1
    assert len(it.bytes_of("tick")) == 2


# ── the same kernel boot ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("SCH-03", breaks="chappe.core.boots:Boots.stamp")
def test_rows_of_an_earlier_daemon_on_the_same_kernel_are_stamped_anew_when_time_arrives() -> None:
    """Monotonic time goes on, so their moments are known."""
    it = Rig(wall=ZERO, synced=False)
    it.spread(2, 1, "tick", first=1)
    after = it.next_boot(NEXT, synced=False)
    after.advance(3)
    sync(after)
    after.link_up()
    after.advance(1)
    assert told(after) == [("2026-11-21T20:59:55.000Z", True), ("2026-11-21T20:59:56.000Z", True)]
    assert after.seqs("tick") == [1, 2]


def test_a_kill_costs_no_time_of_what_may_wait() -> None:
    it = Rig('[streams.tick]\nexpiry = "10s"\n')
    it.put("tick", 1)
    it.advance(4)
    after = it.next_boot(NEXT)
    after.advance(5.999)
    assert after.book("tick")["queued"] == 1
    after.advance(0.001)
    assert after.book("tick")["expired"] == 1


# ── another kernel boot ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("SCH-03", breaks="chappe.core.boots:Boots.stamp")
def test_rows_of_a_kernel_boot_that_never_had_time_leave_as_stamped() -> None:
    """`synced: false`, whatever is known now; nobody knows how long the power was off."""
    it = Rig(wall=ZERO, synced=False)
    it.spread(2, 1, "tick", first=1)
    after = it.reboot(NEXT, wall=EPOCH, synced=True)
    after.advance(5)
    after.link_up()
    after.put("tick", 3)
    after.advance(1)
    assert told(after) == [
        ("1970-01-01T00:00:00.000Z", False),
        ("1970-01-01T00:00:01.000Z", False),
        ("2026-11-21T21:00:05.000Z", True),
    ]


@pytest.mark.feature("SCH-03", breaks="chappe.core.batch:Scribe.commit")
def test_rows_of_a_kernel_boot_that_had_time_keep_their_wall_times() -> None:
    it = Rig()
    it.spread(2, 1, "tick", first=1)
    it.advance(1)
    after = it.reboot(NEXT, wall=WallNs(EPOCH + HOUR), synced=True)
    after.link_up()
    after.advance(1)
    assert told(after) == [("2026-11-21T21:00:00.000Z", True), ("2026-11-21T21:00:01.000Z", True)]


def test_time_that_arrived_after_the_rows_holds_for_them_also_after_a_restart_of_the_machine() -> None:
    """Each commit writes the clock as it is known then."""
    it = Rig(wall=ZERO, synced=False)
    it.put("tick", 1)
    it.advance(5)
    sync(it)
    it.put("tick", 2)
    it.advance(1)
    after = it.reboot(NEXT, wall=WallNs(EPOCH + HOUR), synced=True)
    after.link_up()
    after.advance(1)
    assert told(after) == [("2026-11-21T20:59:55.000Z", True), ("2026-11-21T21:00:00.000Z", True)]


@pytest.mark.feature("SCH-03", breaks="chappe.core.boots:_shift")
@pytest.mark.parametrize(("synced", "left"), [(True, 1.0), (False, 6.0)])
def test_without_time_expiry_counts_powered_time_and_with_it_all_time(synced: bool, left: float) -> None:
    """10 s to live, 4 s under power, 5 s without: 1 s is left if both boots knew the time, else 6."""
    it = Rig('[streams.tick]\nexpiry = "10s"\n', synced=synced)
    it.put("tick", 1)
    it.advance(4)
    it.put("tick", 2)  # the last that is known of the boot
    it.advance(0.01)
    after = it.reboot(NEXT, wall=WallNs(EPOCH + 9 * SECOND), synced=synced)
    after.advance(left - 0.001)
    assert after.book("tick")["expired"] == 0
    after.advance(0.001)
    assert after.book("tick")["expired"] == 1


@pytest.mark.parametrize("synced", [True, False])
def test_a_row_that_waits_through_three_restarts_is_as_old_as_it_is(synced: bool) -> None:
    """Its age does not begin anew, nor is any of it counted twice."""
    it = Rig('[streams.tick]\nexpiry = "10s"\n', synced=synced)
    it.put("tick", 1)
    wall = EPOCH
    for number in range(3):
        it.advance(3)
        it.put("tick", "more")
        it.advance(0.001)
        wall = WallNs(wall + 3 * SECOND)
        it = it.reboot(f"{number + 1:016x}", wall=wall, synced=synced)
    assert it.book("tick")["expired"] == 0
    it.advance(1)
    assert it.book("tick")["expired"] == 1


def test_powered_time_is_that_of_the_machine_and_not_of_one_daemon() -> None:
    """Killed and started again on either side of the restart: all of it counts."""
    it = Rig('[streams.tick]\nexpiry = "10s"\n', synced=False)
    it.put("tick", 1)
    it.advance(3)
    it = it.next_boot("000000000000000a", synced=False)
    it.advance(2)
    it.put("tick", 2)
    it.advance(0.001)
    it = it.reboot("000000000000000b", synced=False)
    it.advance(3)
    it = it.next_boot("000000000000000c", synced=False)
    it.advance(1.999)
    assert it.book("tick")["expired"] == 0
    it.advance(0.001)
    assert it.book("tick")["expired"] == 1


# ── the table by itself ──────────────────────────────────────────────────────────────────────────────────────────────


def found(boot: str, kernel: str, offset: int, *, synced: bool = True, last: int = 0) -> BootFound:
    return BootFound(boot=boot, kernel=kernel, offset=offset, synced=synced, last=Ns(last), clean=True)


def test_there_and_back_again_is_the_same_moment() -> None:
    clock = WallClock(Ns(50), WallNs(1050), True)
    boots = Boots((found("a", "k1", 700), found("b", "k2", 9, synced=False, last=30), found("c", "k3", 5)), "k3", clock)
    for boot in ("a", "b", "c", ""):
        for moment in (0, 17, 10**12):
            assert boots.there(boot, boots.here(boot, Ns(moment))) == moment
    # a: wall connects them; b: its kernel ran for 30, and then this one began; c: the same kernel.
    assert [boots.here(boot, Ns(0)) for boot in ("a", "b", "c", "")] == [-300, -30, 0, 0]


def test_a_boot_that_nobody_knows_is_taken_for_this_one() -> None:
    """Its entry may have been lost with a corrupt page."""
    clock = WallClock(Ns(0), WallNs(1000), True)
    boots = Boots((), "k", clock)
    assert boots.wall("nobody", Ns(5)) == 1005
    assert boots.stamp("nobody", Ns(5)) == clock.stamp(Ns(5))
