"""`chappe run` as a process on a broker of the farm, and what the tests of it have in common."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from .farm import FORBIDDEN
from .ground import Ground

StartDaemon = Callable[..., Any]
"""(version of MQTT, further sections, further keys of ``[mqtt]``) -> the daemon, once every part of it is open."""

TICK = '[sensors.tick]\ndriver = "simulated"\nwave = "counter"\nevery = "20ms"\n'
FORBIDDEN_STREAM = f'[sensors.{FORBIDDEN}]\ndriver = "simulated"\nwave = "counter"\nevery = "1h"\n'


@cache
def process() -> Any:
    """The helper of the system tests that runs the command."""
    path = Path(__file__).parents[1] / "system" / "process.py"
    spec = importlib.util.spec_from_file_location("chappe_test_system_process", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def starter(ground: Ground, folder: Path) -> StartDaemon:
    """What starts the daemon of this ground, always on the same state folder; it is ended with the test."""

    def start(version: str = "auto", more: str = "", mqtt: str = "") -> Any:
        file = folder / "chappe.toml"
        file.write_text(
            f'[device]\nid = "{ground.device}"\nstate_dir = "{folder / "state"}"\n'
            f'[mqtt]\nport = {ground.broker.port}\nversion = "{version}"\n{mqtt}{TICK}{more}',
            encoding="utf-8",
        )
        daemon = process().Daemon(file)
        ground.stack.callback(daemon.kill)
        daemon.ready()
        return daemon

    return start


def body(message: Any) -> dict[str, Any]:
    """A message's payload."""
    parsed: dict[str, Any] = json.loads(message.payload)
    return parsed


def queue(ground: Ground, stream: str) -> dict[str, Any]:
    """What waits of a stream, and its dead letters."""
    asker = ground.peer(ground.topic("res/queue"))
    asker.publish(ground.topic("req/queue"), json.dumps({"id": "q", "stream": stream}).encode())
    (answer,) = asker.wait_for(lambda message: message.topic == ground.topic("res/queue"))
    data: dict[str, Any] = body(answer)["data"]
    return data
