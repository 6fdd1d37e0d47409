"""The consumer before the real daemon: `chappe run`, mosquitto, and the history of the device itself."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chappe.edge.broker import LocalBroker

from .people import Application, Running

TICK = """
[sensors.tick]
driver = "simulated"
wave = "counter"
every = "10ms"
[streams.tick]
class = "log"
history = "7d"
"""


def _helper(path: str) -> ModuleType:
    """A module of helpers of another folder of tests."""
    file = Path(__file__).parents[1] / path
    spec = importlib.util.spec_from_file_location(f"chappe_test_consumer_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


Daemon = _helper("system/process.py").Daemon
Peer = _helper("wire/people.py").Peer


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Makes `chappe run` processes on one state folder; they are ended with the test."""
    made: list[Any] = []

    def make(port: int) -> Any:
        file = tmp_path / "chappe.toml"
        head = f'[device]\nid = "tower-1"\nstate_dir = "{tmp_path / "device"}"\n[mqtt]\nport = {port}\n'
        file.write_text(head + TICK, encoding="utf-8")
        made.append(Daemon(file))
        return made[-1]

    yield make
    for each in made:
        each.kill()


def ask(peer: Any, verb: str, **body: Any) -> dict[str, Any]:
    """The answer to a request."""
    peer.publish(f"chappe/tower-1/req/{verb}", json.dumps({"id": "asked", **body}).encode())
    (found,) = peer.wait_for(
        lambda message: message.topic.endswith(f"res/{verb}") and json.loads(message.payload)["id"] == "asked"
    )
    answer: dict[str, Any] = json.loads(found.payload)
    return answer


def is_whole(app: Application, boots: int) -> bool:
    """Whether of so many boots everything is there from the first message seen to the last, without a hole."""
    found: dict[str, set[int]] = {}
    for message in app.seen:
        found.setdefault(message.boot, set()).add(message.seq)
    return len(found) >= boots and all(len(seqs) == max(seqs) - min(seqs) + 1 for seqs in found.values())


@pytest.mark.feature("FLT-01", breaks="chappe.consumer.intake:Intake._pages")
@pytest.mark.feature("HIS-03", breaks="chappe.core.parts.archive:Archive.history")
def test_what_the_broker_dropped_comes_out_of_the_devices_history(
    make_broker: Callable[..., LocalBroker], daemon: Callable[..., Any], app: Application, tmp_path: Path
) -> None:
    """The broker keeps 20 messages of the 200 that the daemon sends while the consumer is away, and the daemon is stopped and started
    once in between: in the end each message of both boots is there once."""
    broker = make_broker(extra=["max_queued_messages 20", "max_inflight_messages 20"])
    state = tmp_path / "state.db"
    with Peer(broker.port, "chappe/tower-1/res/#") as peer:
        tower = daemon(broker.port)
        with Running(broker.port, app, state):
            tower.published("stream/tick")
            if ask(peer, "history").get("error", {}).get("code") == "unknown_verb":
                pytest.skip("this daemon has no history")
            app.wait(20)
        tower.published("stream/tick", len(app.seen) + 100)
        assert tower.end() == 0
        tower = daemon(broker.port)
        tower.published("stream/tick", 100)
        with Running(broker.port, app, state) as running:
            app.wait(250)
            app.wait_for(lambda app: is_whole(app, boots=2))
            told = running.consumer.counts
        last = app.seen[-1]
        delivery = ask(peer, "delivery", stream="tick", boot=last.boot, seq=last.seq)["data"]
    assert told.recovered >= 100
    assert told.lost == 0
    assert not app.gaps
    with sqlite3.connect(state) as db:
        (stored, different) = db.execute("SELECT count(*), count(DISTINCT boot || seq) FROM got").fetchone()
    db.close()
    assert stored == different == len({(message.boot, message.seq) for message in app.seen})
    assert delivery["state"] == "delivered"
    assert delivery["by"]["delivered"] == "ours"
