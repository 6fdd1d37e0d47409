"""The scripted world around a `Tower`: what each effect leads to, and what is kept of it for the test to look at."""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chappe.core import effects as ef
from chappe.core import events as ev
from chappe.core.settings import Config, Sensor
from chappe.core.units import SECOND, Ns, seconds
from chappe.edge.sensors import find_driver
from chappe.edge.store import Store
from chappe.testing.clock import ManualClock
from chappe.testing.shelf import Shelf


@dataclass(frozen=True)
class Published:
    """A message that the tower handed to its link.

    Attributes:
        at: seconds since the tower's start.
        payload: the JSON payload, None where it is empty.
    """

    at: float
    topic: str
    payload: Any
    qos: int
    retain: bool
    token: int
    correlation: str = ""

    @property
    def data(self) -> dict[str, Any]:
        """The envelope's data."""
        data: dict[str, Any] = self.payload["data"]
        return data


@dataclass(frozen=True)
class Driven:
    """A level that the tower drove."""

    at: float
    pin: str
    level: float


class World:
    """Answers effects with events: a link that acknowledges, sensors that are functions, a camera that opens at once.

    Args:
        config: the device's configuration.
        clock: the time.
        memory: what earlier boots remembered.

    Attributes:
        published: every message handed to the link.
        driven: every level driven.
        announced: (seconds, kind, data) of every announcement.
        replies: answers over the control socket by connection.
        opened: when the camera was opened; `closed` likewise.
        finished: when the engine had nothing more to do; None before.
        reading: what a sensor reads next, by name; None for silence. Default: its real driver.
        commits: every commit that was asked for.
        store: a `Shelf`, or a real store.
        ack: reason code with which a message is acknowledged; None for not at all.
        ack_after: seconds until the acknowledgement.
    """

    def __init__(self, config: Config, clock: ManualClock, memory: Mapping[str, Any]) -> None:
        self.config = config
        self.clock = clock
        self.memory: dict[str, Any] = dict(memory)
        self.published: list[Published] = []
        self.driven: list[Driven] = []
        self.announced: list[tuple[float, str, dict[str, Any]]] = []
        self.replies: dict[str, Any] = {}
        self.opened: list[float] = []
        self.closed: list[float] = []
        self.finished: float | None = None
        self.reading: dict[str, Callable[[], Any]] = {}
        self.ack: Callable[[Published], int | None] = _success
        self.ack_after = 0.0
        self.commits: list[ef.Commit] = []
        self.store: Shelf | Store
        self._store_due: Ns | None = None
        self._start = clock.now()
        self._up = False
        self._order = itertools.count()
        self._coming: list[tuple[Ns, int, ev.Event]] = []

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return (self.clock.now() - self._start) / SECOND

    def later(self, after_s: float, event: Callable[[Ns], ev.Event]) -> None:
        """Something will happen."""
        at = Ns(self.clock.now() + seconds(after_s))
        heapq.heappush(self._coming, (at, next(self._order), event(at)))

    def _carry_out(self, effects: Iterable[ef.Effect]) -> None:
        effects = list(effects)
        self.commits += [effect for effect in effects if isinstance(effect, ef.Commit)]
        for effect in effects:
            act = self._ACTS.get(type(effect))
            if act is not None:
                act(self, effect)
        self.store.handle(effects)
        self._store_due = self.store.step(self.clock.now())

    def _from_store(self, event: ev.Event) -> None:
        heapq.heappush(self._coming, (event.at, next(self._order), event))

    def _publish(self, effect: ef.Publish) -> None:
        payload = json.loads(effect.payload) if effect.payload else None
        message = Published(
            self.now_s, effect.topic, payload, effect.qos, effect.retain, effect.token, effect.correlation
        )
        self.published.append(message)
        code = self.ack(message) if self._up else None
        if code is not None:
            token, answer = effect.token, code
            self.later(self.ack_after, lambda at: ev.Acked(at=at, items=(ev.Ack(token, answer),)))

    def _read(self, effect: ef.ReadSensors) -> None:
        for name in effect.names:
            if name not in self.reading:
                self.reading[name] = _reader(self.config.sensors[name])
            value = self.reading[name]()
            if value is not None:
                self.later(0, lambda at, name=name, value=value: ev.SensorRead(at=at, name=name, value=value))  # type: ignore[misc]

    def _open(self, effect: ef.OpenCamera) -> None:
        del effect
        self.opened.append(self.now_s)
        self.later(0, lambda at: ev.CameraOpened(at=at, source="files", width=640, height=480))

    def _close(self, effect: ef.CloseCamera) -> None:
        del effect
        self.closed.append(self.now_s)
        self.later(0, lambda at: ev.CameraClosed(at=at))

    def _load(self, effect: ef.LoadModel) -> None:
        name = effect.name
        self.later(0, lambda at: ev.ModelLoaded(at=at, name=name, model=f"{name}@00000000"))

    def _drive(self, effect: ef.Drive) -> None:
        self.driven.append(Driven(self.now_s, effect.pin, effect.level))

    def _announce(self, effect: ef.Announce) -> None:
        self.announced.append((self.now_s, effect.kind, effect.data))

    def _remember(self, effect: ef.Remember) -> None:
        self.memory[effect.key] = effect.value

    def _sample(self, effect: ef.SampleHost) -> None:
        del effect
        self.later(0, lambda at: ev.HostSampled(at=at, rss=50_000_000, temp_c=48.3, bytes_written=0))

    def _reply(self, effect: ef.Reply) -> None:
        self.replies[effect.to] = json.loads(effect.payload)

    def _finish(self, effect: ef.Finished) -> None:
        del effect
        self.finished = self.now_s

    _ACTS: Mapping[type[ef.Effect], Callable[[World, Any], None]] = {
        ef.Publish: _publish,
        ef.ReadSensors: _read,
        ef.OpenCamera: _open,
        ef.CloseCamera: _close,
        ef.LoadModel: _load,
        ef.Drive: _drive,
        ef.Announce: _announce,
        ef.Remember: _remember,
        ef.SampleHost: _sample,
        ef.Reply: _reply,
        ef.Finished: _finish,
    }


def _success(message: Published) -> int:
    del message
    return 0


def _reader(sensor: Sensor) -> Callable[[], Any]:
    driver = find_driver(sensor.driver)()
    driver.open(sensor)
    return driver.read
