"""`mqtt.verify = "echo"`: what a broker of 3.1.1 throws away after acknowledging it is held, not lost.

A message that does not come back is given ten seconds, so this is left to ``make test-brokers``; the policy by itself is tested on a
manual clock in tests/core.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from .conftest import EVERY_BROKER, MakeDevice
from .daemons import FORBIDDEN_STREAM, StartDaemon, body, queue, starter
from .farm import FORBIDDEN, Mosquitto
from .ground import Ground
from .people import Peer

ECHO = 'verify = "echo"\n'

pytestmark = pytest.mark.skipif(not EVERY_BROKER, reason="takes ten seconds on each broker (make test-brokers)")


def held(ground: Ground, watcher: Peer) -> dict[str, Any]:
    """What waits of the forbidden stream, once its fault has been published; the other stream flows."""
    faults, tick = ground.topic("stream/fault"), ground.topic("stream/tick")
    watcher.wait_for(lambda m: m.topic == faults and body(m)["data"]["code"] == "stream_held")
    came = sum(message.topic == tick for message in watcher.messages)
    watcher.payloads(tick, came + 20)
    numbers = [body(message)["seq"] for message in watcher.messages if message.topic == tick]
    assert list(dict.fromkeys(numbers)) == list(range(1, max(numbers) + 1))
    return queue(ground, FORBIDDEN)


def test_a_forbidden_stream_is_held_although_it_was_acknowledged(ground: Ground, start_daemon: StartDaemon) -> None:
    """One stream is forbidden and acknowledged all the same: it is held with `not_authorized`, the other flows without a gap."""
    if ground.can.forbidden_on_3 != "counts as delivered":
        pytest.skip(
            f"{ground.broker.title} ends the connection: nothing is acknowledged that an echo would have to prove"
        )
    watcher = ground.peer(ground.topic("stream/tick"), ground.topic("stream/fault"))
    start_daemon("3.1.1", FORBIDDEN_STREAM, ECHO)
    found = held(ground, watcher)
    assert [(row["seq"], row["reason"]) for row in found["rows"]] == [(1, "not_authorized")]
    assert found["dead"] == []


def test_what_was_held_is_delivered_once_it_is_allowed(
    stack: ExitStack, make_device: MakeDevice, tmp_path: Path
) -> None:
    """The access list is put right and the broker started again: the message that was held arrives, with its number."""
    if not Mosquitto.program():
        pytest.skip("mosquitto is not installed")
    ground = Ground(stack.enter_context(Mosquitto()), stack, make_device)
    topic, tick = ground.topic(f"stream/{FORBIDDEN}"), ground.topic("stream/tick")
    watcher = ground.peer(topic, tick, ground.topic("stream/fault"))
    starter(ground, tmp_path)("3.1.1", FORBIDDEN_STREAM, ECHO)
    held(ground, watcher)
    (ground.broker.folder / "acl").write_text("topic readwrite #\n", encoding="ascii")
    ground.broker.restart(keep=True)
    (message,) = watcher.wait_for(lambda message: message.topic == topic)
    assert body(message)["seq"] == 1
    watcher.payloads(tick, 20 + sum(each.topic == tick for each in watcher.messages))
    assert queue(ground, FORBIDDEN)["rows"] == []
