"""A state folder as a stopped daemon leaves it: what a device at manual time wanted to be stored, in a real store."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chappe.core import effects as ef
from chappe.core import events as ev
from chappe.core.units import WallNs
from chappe.edge.store import Store
from chappe.edge.store.store import EFFECTS
from chappe.testing import Tower
from chappe.testing.world import Published

NO_SUCH_TOPIC = 0x90


class Device(Tower):
    """A device that started two hours ago and whose store is real; values enter its streams as the test says.

    Args:
        folder: its state folder.
        config: TOML text.
    """

    def __init__(self, folder: Path, config: str = "", **more: Any) -> None:
        self.wanted: list[ef.Effect] = []
        self.folder = folder
        self.refused: set[str] = set()
        super().__init__(config, wall=WallNs(time.time_ns() - 7200 * 10**9), **more)
        self.ack = self.judge

    def judge(self, message: Published) -> int:
        return NO_SUCH_TOPIC if message.topic.rpartition("/")[2] in self.refused else 0

    def _carry_out(self, effects: Any) -> None:
        effects = list(effects)
        self.wanted += [effect for effect in effects if isinstance(effect, EFFECTS)]
        super()._carry_out(effects)

    def put(self, stream: str, *values: Any, every_s: float = 1.0) -> None:
        for value in values:
            self.engine.context.now = max(self.engine.context.now, self.clock.now())
            self.engine.context.produce(stream, value if isinstance(value, Mapping) else {"value": value})
            self.feed(ev.Tick(at=self.clock.now()))
            self.advance(every_s)

    def end(self) -> None:
        """Stop cleanly; what it wanted to be stored is stored."""
        self.stop()
        store = Store(self.folder, self.clock, lambda event: None, kernel="other")
        store.open(threaded=False)
        store.handle(self.wanted)
        while store.step(self.clock.now()) == self.clock.now():
            pass
        store.close()
