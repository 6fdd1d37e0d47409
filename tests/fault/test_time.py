"""Clocks that jump, and an outage of ten minutes, at manual time: `chappe.testing.Tower`.

There is no name space for the wall clock, and a shared machine's clock is nobody's to set; the engine only ever hears of a jump as an event.
"""

from __future__ import annotations

from typing import Any

import pytest

from chappe.core.events import ClockChanged
from chappe.core.units import WallNs
from chappe.testing import Tower

HOUR = 3600.0

JUMPING = """
[sensors.calm]
driver = "simulated"
wave = "counter"
every = "100ms"
[streams.calm]
class = "latest"
elide = { policy = "latest", every = "1s" }
[sensors.sure]
driver = "simulated"
wave = "counter"
every = "500ms"
[streams.sure]
durability = "first"
[sensors.brief]
driver = "simulated"
wave = "counter"
every = "250ms"
[streams.brief]
expiry = "3s"
[jobs.siren]
every = "2s"
alert = "still here"
"""


def jump(tower: Tower, by_s: float) -> None:
    """The wall clock is stepped, and the host notices."""
    tower.clock.step_wall(by_s)
    tower.feed(ClockChanged(at=tower.clock.now(), wall=WallNs(tower.clock.wall()), synced=True))


def life(*jumps: tuple[float, float]) -> Tower:
    """Online, an outage of ten seconds in which values expire, a drain; the clock jumps at some moments (at, by)."""
    tower = Tower(JUMPING)
    plan = [(0.3, "up"), (5.05, "down"), (15.05, "up")]
    for at, what in sorted([*plan, *jumps], key=lambda step: step[0]):
        tower.until(at)
        if what == "up":
            tower.link_up()
        elif what == "down":
            tower.link_down()
        else:
            jump(tower, float(what))
    tower.until(20.0)
    tower.stop()
    return tower


def seen(tower: Tower) -> list[tuple[float, str, Any]]:
    """What was sent of the streams, and when on the monotonic clock; the wall clock's words left out."""
    words = ("data", "seq", "elided", "lost", "late")
    return [
        (message.at, message.topic, [message.payload.get(word) for word in words])
        for message in tower.published
        if "/stream/" in message.topic and not message.topic.endswith("/clock")
    ]


PHASES = {"elision": 2.55, "expiry": 9.3, "drain": 15.05}


@pytest.mark.feature("SCH-02", breaks="chappe.core.clock:WallClock.set")
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_a_jump_of_the_wall_clock_changes_no_moment(phase: str, by: float) -> None:
    """±1 h during elision, expiry and drain: the same messages at the same monotonic moments, and the same books."""
    still, moved = life(), life((PHASES[phase], by))
    assert seen(moved) == seen(still)
    assert len(seen(still)) > 40
    assert {name: moved.book(name) for name in ("calm", "sure", "brief")} == {
        name: still.book(name) for name in ("calm", "sure", "brief")
    }
    assert still.book("brief")["expired"] > 10
    assert moved.audits


@pytest.mark.feature("SCH-02", breaks="chappe.core.clock:WallClock.stamp")
@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_after_a_jump_messages_tell_the_new_time(by: float) -> None:
    """The jump was one: what is first sent after it carries the new wall time."""
    still, moved = life(), life((2.55, by))
    before, after = still.stream("sure")[-1].payload["at"], moved.stream("sure")[-1].payload["at"]
    assert (before < after) is (by > 0)
    assert before[14:] == after[14:]


LONG = """
[outbox]
rows = 10000
""" + "".join(
    f'[sensors.{name}]\ndriver = "simulated"\nwave = "counter"\nevery = "{every}"\n[streams.{name}]\nclass = "{class_}"\n'
    for name, every, class_ in (
        ("a", "100ms", "latest"),
        ("b", "100ms", "latest"),
        ("c", "100ms", "latest"),
        ("log", "1s", "log"),
    )
)


def waiting(tower: Tower) -> int:
    """How many messages wait or are in flight, as the device itself says."""
    tower.ask("health", via="socket", reply_to="1")
    return int(tower.replies["1"]["data"]["queue"]["depth"])


@pytest.mark.feature("OUT-01", breaks="chappe.core.lane:Lane.head")
def test_of_ten_minutes_without_a_link_three_latest_and_six_hundred_log_rows_wait() -> None:
    """Cut with nothing in flight: 3 + 600 rows wait, and 603 messages go out, in order and once."""
    tower = Tower(LONG)
    tower.link_up()
    tower.until(10.05)
    assert waiting(tower) == 0
    tower.link_down()
    sent = len(tower.published)
    tower.until(610.05)
    assert waiting(tower) == 603
    assert tower.audits
    tower.link_up()
    tower.advance(10.0)
    late = [
        message for message in tower.published[sent:] if "/stream/" in message.topic and message.payload.get("late")
    ]
    assert len(late) == 603
    numbers = [message.payload["seq"] for message in late if message.topic.endswith("/log")]
    assert numbers == list(range(numbers[0], numbers[0] + 600))
    for name in "abc":
        (one,) = [message for message in late if message.topic.endswith(f"/{name}")]
        # It goes on conflating until its turn comes in the drain.
        more = one.payload["elided"]["n"] - 5999
        assert 0 <= more < 20
        assert one.data["value"] == 6100 + more
    assert tower.audits
