"""The broker is killed, and comes back with what it knew or without: what it took and lost is its own, and `confirm` is proof against it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .oracle import distinct
from .tower import DURABILITY, STREAMS, Scene, Told, scene

KILLS = 4
RATES = {"sure": "20ms", "fast": "20ms", "soft": "50ms", "last": "20ms"}
CONFIRMED = STREAMS.replace("[streams.sure]", '[streams.sure]\nconfirm = "delivered"')
MQTT = 'drain_rate = "max"\nkeepalive = "2s"\nack_stall = "1s"\nconnect_timeout = "1s"'


def with_its_session(folder: Path) -> Told:
    """It saves itself every second, so that sessions come back; what came since is gone."""
    return killed(folder, keep=True)


def without_its_session(folder: Path) -> Told:
    """Its file is removed: sessions, subscriptions and retained messages are gone."""
    return killed(folder, keep=False)


def killed(folder: Path, *, keep: bool) -> Told:
    extra = ["autosave_interval 1"]
    with scene(folder, rates=RATES, more=CONFIRMED, mqtt=MQTT, broker={"extra": extra}) as story:
        story.recorder.confirms = frozenset({"sure"})
        tower = story.start()
        for number in range(KILLS):
            tower.online(number + 1)
            story.recorder.connected(number + 1)
            story.recorder.count("sure", len(story.recorder.of("sure")) + 20)
            story.broker.kill()
            if not keep:
                (folder / "mosquitto.db").unlink(missing_ok=True)
            story.until(lambda: story.depth() > 20, "nothing waits")
            story.broker.restart()
        tower.online(KILLS + 1)
        story.recorder.connected(KILLS + 1)
        story.stop()
        wrong = story.finish(judged=("sure",))
        if not keep:
            # Between the daemon's return and the consumer's, the broker has nobody to give messages to: those come again, later.
            wrong = [complaint for complaint in wrong if "came behind" not in complaint]
        return Told(story, wrong, {"lost by the broker": lost(story)})


def lost(story: Scene) -> dict[str, int]:
    """How many numbers that it had acknowledged never came; none is the daemon's."""
    kept = distinct(story.account.messages)
    books = story.shelf.books()
    return {
        name: books[name]["delivered"] - sum(key[0] == name for key in kept) for name in DURABILITY if name != "sure"
    }


@pytest.mark.feature("OUT-03", breaks="chappe.core.lane:Lane.confirmed")
@pytest.mark.parametrize("told", [with_its_session, without_its_session], indirect=True)
def test_a_confirmed_stream_loses_nothing_to_a_dying_broker(told: Told) -> None:
    """RULINGS 20: for the other streams, what the broker lost behind its PUBACK is counted, and is its own."""
    assert told.wrong == []
    assert told.story.shelf.books()["sure"]["delivered"] > 20 * KILLS
