"""`chappe run` itself on every broker: presence, last values, requests, and a broker that has forgotten everything."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from .conftest import EVERY_BROKER
from .daemons import FORBIDDEN_STREAM, StartDaemon, body, queue
from .farm import FORBIDDEN
from .ground import Ground
from .people import Peer

LAST_VALUES = ("state", "info", "signal")
REQUESTS = 5

EVERY_DAY = {"presence": "amqtt", "requests": "mosquitto"}
"""Where a test is run every day; on the other brokers it is left to `make test-brokers`, as each start of a daemon takes a second."""


def every_day(ground: Ground, test: str) -> None:
    """Skip what is not for every day."""
    if not EVERY_BROKER and EVERY_DAY.get(test) != ground.broker.name:
        pytest.skip("the daemon on every broker takes a while (make test-brokers)")


def status(ground: Ground, peer: Peer, wanted: str, count: int = 1) -> dict[str, Any]:
    """The `count`-th state of this status."""
    topic = ground.topic("state")
    return body(peer.wait_for(lambda m: m.topic == topic and body(m)["status"] == wanted, count)[-1])


def last_values(ground: Ground) -> dict[str, dict[str, Any]]:
    """What one who subscribes now is told at once."""
    topics = {ground.topic(rest): rest for rest in LAST_VALUES}
    late = ground.peer(*topics)
    for topic in topics:
        late.wait_for(lambda message, topic=topic: message.topic == topic and message.retain)
    return {topics[message.topic]: body(message) for message in late.messages if message.topic in topics}


def ask(ground: Ground, peer: Peer, number: str) -> None:
    where = {"ResponseTopic": ground.topic("mine"), "CorrelationData": number.encode()} if ground.can.mqtt5 else {}
    peer.publish(ground.topic("req/status"), json.dumps({"id": number}).encode(), **where)


def answers_to(ground: Ground) -> str:
    """Where answers go: to the response topic where there is such a thing, else to ``res/<verb>``."""
    return ground.topic("mine" if ground.can.mqtt5 else "res/status")


@pytest.mark.feature("MQT-05", breaks="chappe.core.parts.farewell:state")
@pytest.mark.feature("MQT-06", breaks="chappe.core.lastvalues:LastValues.announce")
def test_presence_and_last_values_outlive_a_broker_that_forgets(ground: Ground, start_daemon: StartDaemon) -> None:
    """State, info and signal are there for who comes later, and there again after the broker has lost its data; `kill -9` is `offline`."""
    every_day(ground, "presence")
    watcher = ground.peer(ground.topic("state"), answers_to(ground))
    daemon = start_daemon()
    boot = status(ground, watcher, "online")["boot"]
    known = last_values(ground)
    assert (known["state"]["boot"], known["state"]["status"]) == (boot, "online")
    assert known["info"]["mqtt"] == ground.protocol
    assert known["signal"]["signal"] == "-"

    ground.broker.restart(keep=False)
    status(ground, watcher, "online", count=2)
    again = last_values(ground)
    assert {rest: sorted(value) for rest, value in again.items()} == {rest: sorted(v) for rest, v in known.items()}
    assert again["state"]["boot"] == boot
    ask(ground, watcher, "7")
    assert body(watcher.wait_for(lambda message: message.topic == answers_to(ground))[0])["id"] == "7"

    daemon.send(signal.SIGKILL)
    assert status(ground, watcher, "offline")["boot"] == boot
    assert last_values(ground)["state"]["status"] == "offline"


def test_requests_are_answered_also_those_sent_meanwhile(ground: Ground, start_daemon: StartDaemon) -> None:
    """A request is answered where its sender wants it; after a clean stop, those sent meanwhile are when the daemon returns.

    Where the broker keeps no session they are not, and the first after the return is answered all the same. The readings on the way
    have every number of both boots.
    """
    every_day(ground, "requests")
    tick, answers = ground.topic("stream/tick"), answers_to(ground)
    watcher = ground.peer(ground.topic("state"), tick, answers)
    daemon = start_daemon(ground.protocol)
    status(ground, watcher, "online")
    ask(ground, watcher, "now")
    (answer,) = watcher.wait_for(lambda message: message.topic == answers)
    assert (body(answer)["id"], body(answer)["status"], answer.retain) == ("now", "ok", False)
    if ground.can.mqtt5:
        assert answer.properties.CorrelationData == b"now"
    watcher.payloads(tick, 10)
    assert daemon.end() == 0
    last = [status(ground, watcher, "stopped")["last"]["tick"]]

    for number in range(REQUESTS):
        ask(ground, watcher, f"while away {number}")
    daemon = start_daemon(ground.protocol)
    status(ground, watcher, "online", count=2)
    ask(ground, watcher, "after")
    watcher.wait_for(lambda message: message.topic == answers and body(message)["id"] == "after")
    meanwhile = [f"while away {number}" for number in range(REQUESTS)] if ground.can.session else []
    assert [body(m)["id"] for m in watcher.messages if m.topic == answers] == ["now", *meanwhile, "after"]
    assert daemon.end() == 0
    last.append(status(ground, watcher, "stopped", count=2)["last"]["tick"])

    ground.settle(watcher)
    assert "offline" not in [body(m)["status"] for m in watcher.messages if m.topic == ground.topic("state")]
    boots: dict[str, list[int]] = {}
    for envelope in (body(message) for message in watcher.messages if message.topic == tick):
        boots.setdefault(envelope["boot"], []).append(envelope["seq"])
    assert [list(dict.fromkeys(numbers)) for numbers in boots.values()] == [list(range(1, end + 1)) for end in last]


def test_one_forbidden_stream_does_not_stop_the_others(ground: Ground, start_daemon: StartDaemon) -> None:
    """The broker forbids one message; the readings of another stream come on without a gap.

    What becomes of the message is what docs/brokers.md says: it is held where the broker tells, counts as delivered where it does not,
    and is a dead letter where the broker ends the connection over it.
    """
    every_day(ground, "forbidden")
    tick, faults = ground.topic("stream/tick"), ground.topic("stream/fault")
    watcher = ground.peer(tick, faults)
    start_daemon(ground.protocol, FORBIDDEN_STREAM)
    if ground.can.told_apart:
        code, waits, dead = "stream_held", ["not_authorized"], []
    elif ground.can.forbidden_on_3 == "ends the connection":
        code, waits, dead = "poison", [], ["poison"]
    else:
        code, waits, dead = "", [], []
    if code:
        watcher.wait_for(lambda m: m.topic == faults and body(m)["data"]["code"] == code)
    came = sum(message.topic == tick for message in watcher.messages)
    watcher.payloads(tick, came + 20)
    found = queue(ground, FORBIDDEN)
    assert [row["reason"] for row in found["rows"]] == waits
    assert [row["reason"] for row in found["dead"]] == dead
    numbers = [body(message)["seq"] for message in watcher.messages if message.topic == tick]
    assert list(dict.fromkeys(numbers)) == list(range(1, max(numbers) + 1))
