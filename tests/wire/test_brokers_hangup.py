"""A broker that says no to a publish and then hangs up over it: the stream is held, and the others are not made to pay for it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from .conftest import MakeDevice
from .daemons import FORBIDDEN_STREAM, body, queue, starter
from .farm import FORBIDDEN, Mosquitto
from .ground import Ground


def test_a_forbidden_stream_does_not_take_the_link_down_again_and_again(
    stack: ExitStack, make_device: MakeDevice, tmp_path: Path
) -> None:
    """mosquitto 2.0.11 with `max_queued_messages 0` ends the connection after each refusal: the others flow, none of theirs is a dead letter."""
    if not Mosquitto.program():
        pytest.skip("mosquitto is not installed")
    ground = Ground(stack.enter_context(Mosquitto("max_queued_messages 0")), stack, make_device)
    tick, faults = ground.topic("stream/tick"), ground.topic("stream/fault")
    watcher = ground.peer(tick, faults)
    starter(ground, tmp_path)("auto", FORBIDDEN_STREAM)
    watcher.wait_for(lambda m: m.topic == faults and body(m)["data"]["code"] == "stream_held")
    watcher.payloads(tick, 200)
    numbers = [body(message)["seq"] for message in watcher.messages if message.topic == tick]
    assert list(dict.fromkeys(numbers)) == list(range(1, max(numbers) + 1))
    found = queue(ground, FORBIDDEN)
    assert ([row["reason"] for row in found["rows"]], found["dead"]) == (["not_authorized"], [])
    assert queue(ground, "tick")["dead"] == []
