"""A camera that does what a test tells it to, and a lamp that knows when it is lit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chappe.core.settings import Camera
from chappe.core.units import Ns
from chappe.edge.host import Clock
from chappe.edge.slot import Grid
from chappe.edge.sources import Reading, Trouble
from chappe.errors import CameraError, EdgeError

SIZE = (8, 6)


class Lamp:
    """A privacy lamp; `log` is shared with the camera, so that the order of things can be told."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.lit = False
        self.broken = ""

    def on(self) -> None:
        self._drive("on", lit=True)

    def off(self) -> None:
        self._drive("off", lit=False)

    def _drive(self, word: str, *, lit: bool) -> None:
        if self.broken in (word, "both"):
            raise EdgeError(f"pin 27 cannot be driven {word}", code="privacy_led", remedy="look at the wiring")
        self.log.append(f"lamp {word}")
        self.lit = lit


class Puppet:
    """The device: one at a time may hold it. `source` makes what the edge opens.

    Attributes:
        fail: by name of the call (open, read, close), what it raises.
        during: by name of the call, what it does first (takes time, waits for an event, changes things).
        stamp: the mark of every buffer from now on; None counts them.
        held: sources that have it open.
    """

    def __init__(self, *, live: bool = True, rate_hz: float = 10.0) -> None:
        self.log: list[str] = []
        self.lamp = Lamp(self.log)
        self.live = live
        self.rate_hz = rate_hz
        self.size = self.frame_size = SIZE
        self.fail: dict[str, Exception] = {}
        self.during: dict[str, Callable[[], object]] = {}
        self.troubles: list[Trouble] = []
        self.stamp: int | None = None
        self.frames_left = -1
        self.shape: tuple[int, ...] | None = None
        self.dtype: Any = np.uint8
        self.taken = 0
        self.held: list[PuppetSource] = []

    def source(self, settings: Camera, clock: Clock) -> PuppetSource:
        """For `CameraEdge`'s `make_source`."""
        del settings
        if "make" in self.fail:
            raise self.fail["make"]
        return PuppetSource(self, clock)


class PuppetSource:
    """One opening of the puppet."""

    def __init__(self, puppet: Puppet, clock: Clock) -> None:
        self.puppet, self.clock = puppet, clock
        self.live, self.size = puppet.live, puppet.size
        self.grid: Grid | None = None

    def _call(self, name: str) -> None:
        self.puppet.log.append(name)
        if name in self.puppet.during:
            self.puppet.during[name]()
        if name in self.puppet.fail:
            raise self.puppet.fail[name]

    def open(self) -> None:
        if self.puppet.held:
            raise CameraError("it is in use")
        self._call("open")
        self.puppet.held.append(self)

    def read(self, now: Ns) -> Reading:
        puppet = self.puppet
        self._call("read")
        if self.grid is None:
            self.grid = Grid(puppet.rate_hz, now)
        due = self.grid.at(self.grid.last(self.clock.now()) + 1)
        if puppet.frames_left == 0:
            return Reading(due=due, over=True)
        puppet.frames_left -= 1
        puppet.taken += 1
        troubles, puppet.troubles = tuple(puppet.troubles), []
        pixels = np.full(puppet.shape or (*puppet.frame_size[::-1], 3), puppet.taken % 256, puppet.dtype)
        stamp = puppet.taken if puppet.stamp is None else puppet.stamp
        return Reading(due=due, pixels=pixels, stamp=stamp, troubles=troubles)

    def close(self) -> None:
        if self in self.puppet.held:
            self._call("close")
            self.puppet.held.remove(self)

    def probe(self) -> None:
        return
