"""Links that are cut, half open, slow, doubled, or swallowed whole: nothing is lost, and the books are exact to the last message.

No process dies here, so nothing may be missing from the books either. The stories take their time in waiting; they are told side by side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .machine import Island
from .mischief import PUBACK, PUBLISH
from .oracle import repeated, repeats
from .tower import STREAMS, Scene, Told, scene

WINDOW = 100
CUTS = 20
RATES = {"sure": "50ms", "fast": "20ms", "soft": "50ms", "last": "20ms"}
HASTY = 'drain_rate = "max"\nkeepalive = "2s"\nack_stall = "1s"\nconnect_timeout = "2s"'
"""RULINGS 21: scaled, so that nobody waits for twenty seconds."""


def end(story: Scene, *, cuts: int | None = None, **figures: Any) -> Told:
    """Drain it, hold the books against what came.

    Args:
        story: that has been told.
        cuts: how often its link may have had to repeat a window; as often as it was lost.
        figures: for people.
    """
    reconnects = story.ask("health")["link"]["reconnects"]
    story.stop()
    # What is in flight at a clean stop may come again, too.
    cuts = reconnects + 1 if cuts is None else cuts
    wrong = [*story.finish(killed=False), *repeated(story.account, WINDOW, cuts=cuts)]
    return Told(story, wrong, {"reconnects": reconnects, **figures})


def storm(folder: Path) -> Told:
    """Twenty cuts, each as soon as the link is up again and something came through."""
    with scene(folder, rates=RATES, mqtt=HASTY) as story:
        tower = story.start()
        tower.online()
        story.recorder.count("fast", 5)
        before = tower.descriptors()
        for cut in range(CUTS):
            here = len(story.recorder.of("fast"))
            story.proxy.cut()
            tower.online(cut + 2)
            story.recorder.count("fast", here + 1)
        story.until(lambda: tower.descriptors() == before, f"{tower.descriptors()} open, {before} before the storm")
        return end(story)


def doubled(folder: Path) -> Told:
    """Every PUBLISH and every PUBACK goes twice."""
    with scene(folder, rates=RATES, mqtt=HASTY) as story:
        story.proxy.be(twice=[PUBLISH, PUBACK])
        tower = story.start()
        tower.online()
        story.recorder.count("fast", 100)
        # What the proxy repeats is no repeat of the daemon's.
        return end(story, cuts=100, doubled=story.proxy.doubled)


def slow(folder: Path) -> Told:
    """A byte at a time, then a fifth of a second late: an outage's backlog goes through all the same, and at once."""
    with scene(folder, rates=RATES) as story:
        story.proxy.refuse()
        tower = story.start()
        tower.ready()
        story.until(lambda: story.depth() > 50, "nothing waits")
        story.proxy.be(trickle=True)
        story.proxy.accept()
        tower.online()
        story.recorder.count("fast", 60)
        story.proxy.be(delay_s=0.2)
        story.recorder.count("fast", 120)
        story.proxy.be()
        return end(story)


def half_open(folder: Path) -> Told:
    """Nothing is forwarded and nothing closed; what was sent meanwhile lies in the proxy and comes through at last."""
    with scene(folder, rates=RATES, mqtt=HASTY) as story:
        tower = story.start()
        tower.online()
        story.recorder.count("fast", 10)
        story.proxy.hold()
        assert tower.said("link status=lost"), tower.err[-20:]
        story.proxy.resume()
        tower.online(2)
        story.recorder.count("fast", len(story.recorder.of("fast")) + 20)
        return end(story)


def swallowed(folder: Path) -> Told:
    """Both ends of the cable throw every packet away."""
    with (
        Island() as island,
        scene(folder, rates=RATES, mqtt=HASTY, prefix=island.prefix, host=island.here) as story,
    ):
        tower = story.start()
        tower.online()
        story.recorder.count("fast", 10)
        with island.black_hole():
            assert tower.said("link status=lost"), tower.err[-20:]
        tower.online(2)
        story.recorder.count("fast", len(story.recorder.of("fast")) + 20)
        return end(story)


def refused(folder: Path) -> Told:
    """An outage in the middle of a boot: its `latest` stream waits in two rows at most, the others in order."""
    with scene(folder, rates=RATES, mqtt=HASTY) as story:
        tower = story.start()
        tower.online()
        story.recorder.count("fast", 10)
        story.proxy.refuse()
        story.until(lambda: story.depth() > 80, "nothing waits")
        story.proxy.accept()
        tower.online(2)
        story.recorder.count("fast", len(story.recorder.of("fast")) + 20)
        return end(story)


@pytest.mark.feature("MQT-07", breaks="chappe.core.parts.wire:Wire.up")
@pytest.mark.parametrize("told", [storm], indirect=True)
def test_twenty_cuts_lose_and_repeat_nothing_and_leave_no_thread_behind(told: Told) -> None:
    assert told.wrong == []
    assert told.figures["reconnects"] >= CUTS


@pytest.mark.parametrize("told", [doubled], indirect=True)
def test_what_is_sent_or_acknowledged_twice_counts_once(told: Told) -> None:
    assert told.wrong == []
    assert told.figures["doubled"] > 200
    assert repeats(told.story.account.messages) > 100


@pytest.mark.parametrize("told", [slow], indirect=True)
def test_a_trickling_or_late_link_loses_nothing(told: Told) -> None:
    assert told.wrong == []


@pytest.mark.feature("MQT-04", breaks="chappe.core.parts.wire:Wire.down")
@pytest.mark.parametrize("told", [half_open, swallowed], indirect=True)
def test_a_silent_link_is_found_and_nothing_is_lost(told: Told) -> None:
    assert told.wrong == []


@pytest.mark.feature("OUT-01", breaks="chappe.core.row:Row.conflate")
@pytest.mark.parametrize("told", [refused], indirect=True)
def test_an_outage_in_the_middle_loses_nothing_and_conflates_latest_values(told: Told) -> None:
    assert told.wrong == []
    boot = told.story.account.ends[0].boot
    late = [message for message in told.story.recorder.of("last") if message.late and message.boot == boot]
    assert 1 <= len({message.name for message in late}) <= 2
    assert sum((message.elided or {}).get("n", 0) for message in late) > 10
    assert len({message.name for message in told.story.recorder.of("fast") if message.late}) > 20


def test_the_streams_of_these_stories_are_of_every_kind() -> None:
    assert all(word in STREAMS for word in ('"first"', '"behind"', '"memory"', '"latest"'))
