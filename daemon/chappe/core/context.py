"""What the parts of the engine share while they decide about one event: the time, the effects so far, and the common desks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from chappe.core.budget import Budget
from chappe.core.clock import WallClock
from chappe.core.effects import Announce, Effect, Remember
from chappe.core.events import Started
from chappe.core.faults import Faults
from chappe.core.indicators import State, StatusLamp
from chappe.core.ladder import Ladder
from chappe.core.lastvalues import Answers, LastValues
from chappe.core.outbox import Outbox
from chappe.core.settings import Config, from_data
from chappe.core.streams import Spec, all_specs
from chappe.core.topics import Topics
from chappe.core.units import Ns

# Which state of the status lamp stands for the faults of a part: exact name, or beginning with a dot at its end.
FAULT_LAMPS: Mapping[str, State] = {
    "camera": State.CAMERA_FAULT,
    "vision": State.CAMERA_FAULT,
    "config": State.CONFIG_REJECTED,
    "sensors.": State.SENSOR_FAULT,
    "streams.": State.BROKER_REFUSES,
}


def _budget(limit: int | None, known: Any) -> Budget:
    """This month's budget, with what an earlier boot used of it."""
    used, month = (known.get("used"), known.get("month")) if isinstance(known, dict) else (0, "")
    return Budget(limit, used if isinstance(used, int) else 0, month if isinstance(month, str) else "")


def _kept(specs: Mapping[str, Spec]) -> list[str]:
    """Streams whose delivery states are kept on disk."""
    return [name for name, spec in specs.items() if spec.confirm or name == "alert"]


class Context:
    """One boot's shared state.

    Args:
        started: the first event of the boot.
    """

    def __init__(self, started: Started) -> None:
        self.started = started
        self.now: Ns = started.at
        self.config: Config = from_data(started.config)
        self.config_hash = started.config_hash
        self.memory = dict(started.memory)
        self.restart_required: tuple[str, ...] = ()
        self.effects: list[Effect] = []
        self.stopping = False
        self.said_goodbye = False
        self.clock = WallClock(started.at, started.wall, started.synced, started.zone_s)
        self.topics = Topics(self.config.mqtt.prefix, self.config.device.id)
        self.specs = all_specs(self.config)
        self.faults = Faults()
        self.lamp = StatusLamp(pwm=self.config.indicators.pwm, brightness=self.config.indicators.brightness)
        tokens = count(1)
        self.budget = _budget(self.config.mqtt.bytes_per_month, self.memory.get("budget"))
        self.last = LastValues(lambda: next(tokens))
        self.answers = Answers(lambda: next(tokens), Ns(self.config.requests.life))
        rate = self.config.mqtt.drain_rate
        self.ladder = Ladder(self.clock.wall, _kept(self.specs), started.backlog.receipts)
        self.outbox = Outbox(
            started.boot,
            self.topics,
            self.specs,
            self.config.outbox,
            self.clock,
            lambda: next(tokens),
            verify=self.config.mqtt.verify == "echo",
            drain_rate=rate if isinstance(rate, int) else None,
            backlog=started.backlog,
            ladder=self.ladder,
            now=started.at,
        )

    def emit(self, effect: Effect) -> None:
        """Wish for something."""
        self.effects.append(effect)

    def produce(self, stream: str, data: Mapping[str, Any], *, model: str = "") -> None:
        """Put a value into a stream; after ``stopped`` has named the last numbers there are no more."""
        if self.said_goodbye:
            return
        self.outbox.produce(stream, data, self.now, model=model)

    def announce(self, kind: str, **data: Any) -> None:
        """Tell whoever watches the daemon on this machine."""
        self.emit(Announce(kind=kind, data=data))

    def remember(self, key: str, value: Any) -> None:
        """Keep something beyond this boot."""
        self.memory[key] = value
        self.emit(Remember(key=key, value=value))

    def fault(self, part: str, code: str, message: str = "", **more: Any) -> None:
        """A fault begins: published once, until it is healed."""
        if self.faults.begin(part, code, message, self.now):
            data = {"part": part, "code": code, "healed": False, **({"message": message} if message else {}), **more}
            self._tell(data)

    def heal(self, part: str, code: str, **more: Any) -> None:
        """A fault is over."""
        if self.faults.end(part, code):
            self._tell({"part": part, "code": code, "healed": True, **more})

    def _tell(self, data: Mapping[str, Any]) -> None:
        self.produce("fault", data)
        self.announce("fault", **data)
        for owner, state in FAULT_LAMPS.items():
            if data["part"] == owner or (owner.endswith(".") and data["part"].startswith(owner)):
                self.lamp.set(state, self.faults.any_of(owner), self.now)

    def heal_all(self, part: str) -> None:
        """Every fault of a part is over."""
        for code in self.faults.of(part):
            self.heal(part, code)
