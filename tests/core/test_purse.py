"""The monthly budget of bytes on a whole device: what falls silent at 80 and at 100 %, and what comes back on the first of the month."""

from __future__ import annotations

import pytest

from chappe.core import events as ev
from chappe.core.units import DAY, SECOND, WallNs
from chappe.testing.clock import EPOCH

from .rig import Rig

LIMIT = 1_000_000
MONEY = f"""
[mqtt]
bytes_per_month = {LIMIT}
[streams.tick]
[streams.loud]
priority = 8
[streams.pose]
class = "transient"
[streams.room]
class = "latest"
elide = {{ policy = "latest", every = "1s" }}
"""


def carry(it: Rig, sent: int, received: int = 0) -> None:
    it.feed(ev.Carried(at=it.clock.now(), sent=sent, received=received))


def rich(used: int = 0) -> Rig:
    it = Rig(MONEY)
    it.feed(ev.Ready(at=it.clock.now()))
    it.link_up()
    it.advance(1)
    if used:
        carry(it, used)
    it.published.clear()
    return it


def test_below_eighty_per_cent_nothing_changes() -> None:
    it = rich(799_999)
    it.spread(40, 10, "tick", "pose", "room")
    assert (len(it.stream("tick")), len(it.stream("pose"))) == (40, 40)
    assert [m.at for m in it.stream("room")] == [1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.feature("ELI-10", breaks="chappe.core.stock:Stock.ration")
def test_from_eighty_per_cent_on_latest_speaks_a_quarter_as_often_and_transient_not_at_all() -> None:
    """What is not said by `pose` is counted and disclosed; `log` goes on."""
    it = rich(800_000)
    it.spread(120, 10, "tick", "pose", "room")
    assert [m.at for m in it.stream("room")] == [1.0, 5.0, 9.0, 13.0]
    assert (len(it.stream("tick")), it.stream("pose")) == (120, [])
    assert (it.book("pose")["spilled"], it.book("room")["produced"]) == (120, 120)
    assert it.audits


@pytest.mark.feature("ELI-10", breaks="chappe.core.parts.purse:Purse.carried")
def test_at_a_hundred_per_cent_only_what_matters_most_is_left() -> None:
    """Priority 8 and up, `state`, `res`; `health` once an hour; the rest waits, and is late when it comes."""
    it = rich(LIMIT)
    it.put("tick", 1)
    it.put("room", 1)
    it.put("pose", 1)
    it.put("loud", 1)
    it.put("alert", "fire")
    it.ask("health")
    it.advance(2 * 3600)
    topics = {m.topic.split("/", 2)[2] for m in it.published}
    assert topics == {"stream/loud", "stream/alert", "res/health", "health"}
    # One was due already.
    assert [m.at for m in it.on("T/health")] == [60.0, 3660.0]
    assert it.engine.context.outbox.lanes["tick"].depth == 1
    assert it.audits


@pytest.mark.feature("ELI-10", breaks="chappe.core.budget:Budget._turn_to")
def test_on_the_first_of_the_month_everything_is_back() -> None:
    it = rich(LIMIT)
    it.put("tick", 1)
    it.advance(1)
    assert it.stream("tick") == []
    it.clock.step_wall(9 * DAY / SECOND + 3 * 3600)  # 1 December, 00:00:02
    it.feed(ev.ClockChanged(at=it.clock.now(), wall=it.clock.wall(), synced=True))
    carry(it, 100)
    it.put("pose", 2)
    it.advance(1)
    assert it.values("tick") == [1]
    assert it.values("pose") == [2]
    assert it.engine.context.budget.used == 100


@pytest.mark.feature("ELI-10", breaks="chappe.core.parts.purse:Purse.note")
def test_the_next_boot_knows_what_has_been_used() -> None:
    """Both directions count; a clean stop notes it to the byte, a kill to 64 KiB or to the last step."""
    it = rich()
    carry(it, 600_000, 150_000)
    carry(it, 60_000)
    it.advance(1)
    killed = it.next_boot()
    assert 750_000 <= killed.engine.context.budget.used <= 810_000
    it.stop()
    it.store.close()
    after = it.next_boot("00000000000000c3")
    assert after.engine.context.budget.used == 810_000
    after.link_up()
    after.advance(1)
    after.put("pose", 1)
    assert after.stream("pose") == []


def test_a_device_that_does_not_know_the_time_spends_this_months_money() -> None:
    """A clock of 1970 is no new month; the first true one inherits what was used."""
    it = rich(900_000)
    it.stop()
    it.store.close()
    after = it.next_boot("00000000000000c3", wall=WallNs(0), synced=False)
    carry(after, 1_000)
    assert after.engine.context.budget.used == 901_000
    after.clock.step_wall(EPOCH / SECOND)
    after.feed(ev.ClockChanged(at=after.clock.now(), wall=after.clock.wall(), synced=True))
    carry(after, 1_000)
    assert after.engine.context.budget.used == 902_000


def test_without_a_budget_bytes_are_only_counted() -> None:
    it = Rig("[streams.pose]\nclass = 'transient'\n")
    it.link_up()
    carry(it, 10**12)
    it.put("pose", 1)
    assert it.values("pose") == [1]
    assert "budget" not in it.memory


def test_each_step_is_announced_once() -> None:
    it = rich()
    for _ in range(11):
        carry(it, 100_000)
    steps = [data["step"] for _, kind, data in it.announced if kind == "budget"]
    assert steps == [1, 2]
