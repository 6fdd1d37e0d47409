"""SIGKILL at random moments: online, in an outage, in the middle of a drain. RULINGS 19 holds after every one.

And at one moment that chance would hardly find.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .conftest import NIGHTLY
from .mischief import PUBACK
from .oracle import exposure, repeated, repeats
from .tower import Scene, Told, moment, scene

KILLS = 400 if NIGHTLY else 40
LINES = 2
"""State folders, each with its own broker, side by side: as many as the smallest machine has cores."""

WINDOW = 100
WHEN_S = 0.45
"""A boot lives this long at most after it is ready, or online."""

RATES = {"sure": "20ms", "fast": "10ms", "soft": "50ms", "last": "20ms"}


def online(story: Scene, chance: random.Random) -> None:
    """Connected from the start; what waited drains first."""
    story.proxy.accept_again()
    tower = story.start()
    tower.online()
    moment(chance.uniform(0, WHEN_S))


def drain(story: Scene, chance: random.Random) -> None:
    """Killed within the first moments of a connection, in the middle of what waited."""
    story.proxy.accept_again()
    story.start().online()
    moment(chance.uniform(0, 0.1))


def dark(story: Scene, chance: random.Random) -> None:
    """Never connected."""
    story.proxy.refuse()
    story.start().ready()
    moment(chance.uniform(0, WHEN_S))


def outage(story: Scene, chance: random.Random) -> None:
    """Connected, then cut: messages in flight are neither here nor there."""
    story.proxy.accept_again()
    story.start().online()
    moment(chance.uniform(0, WHEN_S / 2))
    story.proxy.refuse()
    moment(chance.uniform(0, WHEN_S / 2))


PHASES = (online, dark, drain, outage)


def live(folder: Path, chance: random.Random, kills: int) -> tuple[Scene, list[str]]:
    """One device's life: so many kills, then a last boot that drains everything."""
    with scene(folder, rates=RATES) as story:
        for number in range(kills):
            # Each phase comes as often as any other, in an order of its own.
            if number % len(PHASES) == 0:
                order = chance.sample(PHASES, len(PHASES))
            order[number % len(PHASES)](story, chance)
            story.kill()
        story.proxy.accept_again()
        return story, [*story.finish(), *repeated(story.account, WINDOW, cuts=kills)]


@pytest.mark.usefixtures("tales")
@pytest.mark.feature("OUT-02", breaks="chappe.core.keeper:Keeper.entered")
@pytest.mark.feature("OUT-03", breaks="chappe.core.keeper:Keeper.commit")
def test_nothing_accepted_is_lost_whenever_it_is_killed(disk_tmp: Path, seed: int, tell: Callable[[str], None]) -> None:
    """Forty kills (four hundred nightly): every accepted number arrives, in order, with one content, or its loss is told."""
    with ThreadPoolExecutor(LINES) as pool:
        lives = list(pool.map(lambda n: live(disk_tmp / str(n), random.Random(seed + n), KILLS // LINES), range(LINES)))
    stories = [story for story, _ in lives]
    ends = [(story.account, end) for story in stories for end in story.account.ends if end.killed is not None]
    assert len(ends) == KILLS
    for stream in ("sure", "fast"):
        exposed = [e for account, end in ends if (e := exposure(account, end, stream)) is not None]
        tell(f"{stream}: newest accepted value at a kill was {1000 * max(exposed):.0f} ms old at worst")
    came = sum(len(story.account.messages) for story in stories)
    tell(f"{KILLS} kills, {came} messages, {sum(repeats(s.account.messages) for s in stories)} repeats")
    tell(f"clean stops took {max(took for story in stories for took in story.stops):.2f} s at most")
    assert [complaint for _, complaints in lives for complaint in complaints] == []


def rewritten(folder: Path) -> Told:
    """A `latest` row is on disk; newer values take its place; it is sent, and killed before the acknowledgement comes."""
    with scene(folder, rates={"last": "20ms"}, durability={"last": "latest"}) as story:
        story.proxy.refuse()
        tower = story.start()
        tower.ready()
        story.until(lambda: len(story.shelf.rows()) == 1, "nothing is written")
        moment(0.2)
        story.proxy.be(unheard=[PUBACK])
        story.proxy.accept()
        story.recorder.count("last", 1)
        story.kill()
        return Told(story, [*story.finish(), *repeated(story.account, WINDOW)], {})


@pytest.mark.parametrize("told", [rewritten], indirect=True)
def test_a_latest_value_that_was_written_and_then_replaced_has_one_content(told: Told) -> None:
    """One (device, stream, boot, seq) has one content, also where the disk still has an older one."""
    assert told.wrong == []
    assert repeats(told.story.account.messages) == 1


def deaf_to_itself(folder: Path) -> Told:
    """It is killed before it has acknowledged its own `state`, which the broker therefore gives to the next boot."""
    with scene(folder, rates=RATES) as story:
        story.proxy.be(unsaid=[PUBACK])
        story.start().online()
        story.recorder.count("fast", 5)
        story.kill()
        return Told(story, [*story.finish(), *repeated(story.account, WINDOW)], {})


@pytest.mark.parametrize("told", [deaf_to_itself], indirect=True)
def test_the_last_word_of_a_killed_boot_is_not_taken_for_another_device(told: Told) -> None:
    """RULINGS 11 is about a foreign boot: with one of its own, nobody has to wait for a minute."""
    assert told.wrong == []
    assert [message.data["code"] for message in told.story.recorder.of("fault")] == []
