"""Shipped fakes: a clock that tests own, and `Tower`, a whole device at manual time.

A `Tower` is the real engine with a scripted world around it: a link that acknowledges when told to, sensors that are functions, pins that
remember their levels, a camera that opens at once. Time only moves when the test moves it, so "at 10.0 s" means exactly that.

>>> tower = Tower('[sensors.tick]\\ndriver = "simulated"\\nwave = "counter"\\nevery = "1s"')
>>> tower.link_up()
>>> tower.advance(2.5)
>>> [message.data["value"] for message in tower.stream("tick")]
[0, 1, 2]
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chappe import __version__
from chappe.config import loads
from chappe.core import effects as ef
from chappe.core import events as ev
from chappe.core.engine import boot
from chappe.core.gestures import Sighting
from chappe.core.settings import Config, Sensor, to_data
from chappe.core.units import SECOND, Ns, WallNs, seconds
from chappe.edge.sensors import find_driver
from chappe.record import render

EPOCH = WallNs(1_795_294_800 * SECOND)
"""The wall clock at the start of a `Tower`: 2026-11-21T21:00:00Z."""

BOOT = "0123456789abcdef"


class ManualClock:
    """A clock that stands still until it is moved.

    Args:
        now: monotonic start.
        wall: wall time at that moment.
    """

    def __init__(self, now: Ns = Ns(0), wall: WallNs = EPOCH) -> None:
        self._now = now
        self._offset = wall - now

    def now(self) -> Ns:
        return self._now

    def wall(self) -> WallNs:
        return WallNs(self._now + self._offset)

    def advance(self, span_s: float) -> None:
        """Let time pass."""
        self._now = Ns(self._now + seconds(span_s))

    def set(self, now: Ns) -> None:
        """Make it `now`."""
        self._now = now

    def step_wall(self, span_s: float) -> None:
        """Step the wall clock; monotonic time does not move."""
        self._offset += seconds(span_s)


def parse(text: str) -> Config:
    """A configuration out of TOML text; the device is ``tower-1`` unless the text names it.

    Raises:
        ConfigError: if it is wrong.
    """
    named = text if "[device]" in text else f'[device]\nid = "tower-1"\n{text}'
    return loads(named).config


def _reader(sensor: Sensor) -> Callable[[], Any]:
    driver = find_driver(sensor.driver)()
    driver.open(sensor)
    return driver.read


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


class Tower:
    """One device at manual time.

    Args:
        config: TOML text; device id ``tower-1`` unless it says otherwise.
        memory: what earlier boots remembered.
        boot_id: this boot's id.
        start: monotonic time of the start.
        synced: whether the wall clock is right.
    """

    def __init__(
        self,
        config: str = "",
        *,
        memory: Mapping[str, Any] | None = None,
        boot_id: str = BOOT,
        start: Ns = Ns(0),
        synced: bool = True,
        wall: WallNs = EPOCH,
    ) -> None:
        self.clock = ManualClock(start, wall)
        self.published: list[Published] = []
        self.driven: list[Driven] = []
        self.announced: list[tuple[float, str, dict[str, Any]]] = []
        self.replies: dict[str, Any] = {}
        self.memory: dict[str, Any] = dict(memory or {})
        self.opened: list[float] = []
        self.closed: list[float] = []
        self.finished: float | None = None
        self.lines: list[bytes] = []
        self.reading: dict[str, Callable[[], Any]] = {}
        self.ack: Callable[[Published], int | None] = lambda message: 0
        self.ack_after = 0.0
        self.window = 100
        self._start = start
        self._up = False
        self._order = itertools.count()
        self._coming: list[tuple[Ns, int, ev.Event]] = []
        self._numbers = itertools.count(1)
        self.config = parse(config)
        started = ev.Started(
            at=start,
            boot=boot_id,
            wall=self.clock.wall(),
            synced=synced,
            config=to_data(self.config),
            config_hash="0" * 12,
            version=__version__,
            memory=self.memory,
        )
        self.engine, effects = boot(started)
        self.lines.append(render(started, effects))
        self._carry_out(effects)
        self._drain(self.clock.now())

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def now_s(self) -> float:
        """Seconds since the tower's start."""
        return (self.clock.now() - self._start) / SECOND

    def advance(self, span_s: float) -> None:
        """Let time pass; every deadline on the way is met exactly."""
        end = Ns(self.clock.now() + seconds(span_s))
        while True:
            moments = [
                moment
                for moment in (self.engine.due(), self._coming[0][0] if self._coming else None)
                if moment is not None
            ]
            if self.finished is not None or not moments or min(moments) > end:
                break
            self.clock.set(max(self.clock.now(), min(moments)))
            due = self.engine.due()
            if self._coming and self._coming[0][0] <= self.clock.now():
                self._drain(self.clock.now())
            elif due is not None and due <= self.clock.now():
                self._step(ev.Tick(at=self.clock.now()))
        self.clock.set(end)

    def until(self, moment_s: float) -> None:
        """Let time pass until `moment_s` after the start."""
        self.advance(moment_s - self.now_s)

    # ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def feed(self, event: ev.Event) -> None:
        """Something happens now; what follows from it at once follows."""
        heapq.heappush(self._coming, (event.at, next(self._order), event))
        self._drain(self.clock.now())

    def later(self, after_s: float, event: Callable[[Ns], ev.Event]) -> None:
        """Something will happen."""
        at = Ns(self.clock.now() + seconds(after_s))
        heapq.heappush(self._coming, (at, next(self._order), event(at)))

    def link_up(self, protocol: str = "5", max_packet: int = 0) -> None:
        """The broker is connected."""
        self._up = True
        self.feed(ev.LinkUp(at=self.clock.now(), protocol=protocol, window=self.window, max_packet=max_packet))

    def link_down(self, status: ev.LinkStatus = "lost") -> None:
        """The broker is gone; what was in flight is never acknowledged."""
        self._up = False
        self._coming = [item for item in self._coming if not isinstance(item[2], ev.Acked)]
        heapq.heapify(self._coming)
        self.feed(ev.LinkDown(at=self.clock.now(), status=status))

    def sensor(self, name: str, value: Any) -> None:
        """A sensor was read."""
        self.feed(ev.SensorRead(at=self.clock.now(), name=name, value=value))

    def see(self, *hands: Sighting | str, score: float = 0.9) -> None:
        """A frame was looked at; a label stands for a right hand in the middle of the picture."""
        number = next(self._numbers)
        sightings = tuple(
            hand if isinstance(hand, Sighting) else Sighting(hand, score, "right", (270, 190, 100, 100), place)
            for place, hand in enumerate(hands)
        )
        now = self.clock.now()
        self.feed(ev.Seen(at=now, frame=number, frame_at=now, took=seconds(0.01), hands=sightings))

    def edge(self, down: bool, button: str = "main") -> None:
        """A button's contact moved."""
        self.feed(ev.ButtonEdge(at=self.clock.now(), button=button, down=down))

    def press(self, held_s: float = 0.1, button: str = "main") -> None:
        """A button is pressed, held and released; time passes."""
        self.edge(True, button)
        self.advance(held_s)
        self.edge(False, button)

    def ask(self, verb: str, body: Any = None, **more: Any) -> None:
        """A request arrives over MQTT."""
        payload = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        self.feed(ev.Asked(at=self.clock.now(), verb=verb, body=payload, **{"size": len(payload), **more}))

    def stop(self, within_s: float = 5.0) -> None:
        """SIGTERM; time passes until the tower has finished."""
        self.feed(ev.StopRequested(at=self.clock.now()))
        self.advance(within_s)

    # ── what came of it ──────────────────────────────────────────────────────────────────────────────────────────────

    def stream(self, name: str) -> list[Published]:
        """Messages of a stream, in the order in which they were handed over."""
        return self.on(self.engine.context.topics.stream(name))

    def on(self, topic: str) -> list[Published]:
        """Messages on a topic; ``T/x`` stands for this device's ``x``."""
        topic = topic.replace("T/", self.engine.context.topics.root + "/", 1) if topic.startswith("T/") else topic
        return [message for message in self.published if message.topic == topic]

    def last(self, topic: str) -> Any:
        """Payload of the newest message on a topic, None where there is none."""
        found = self.on(topic)
        return found[-1].payload if found else None

    def book(self, stream: str) -> dict[str, int]:
        """A stream's counters."""
        book = self.engine.context.outbox.lanes[stream].book
        return {name: getattr(book, name) for name in book.__struct_fields__}

    @property
    def audits(self) -> bool:
        """Whether every stream's books balance and agree with what waits."""
        return all(lane.audit for lane in self.engine.context.outbox.lanes.values())

    # ── the world ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _drain(self, now: Ns) -> None:
        while self._coming and self._coming[0][0] <= now and self.finished is None:
            self._step(heapq.heappop(self._coming)[2])

    def _step(self, event: ev.Event) -> None:
        effects = self.engine.step(event)
        self.lines.append(render(event, effects))
        self._carry_out(effects)

    def _carry_out(self, effects: Iterable[ef.Effect]) -> None:
        for effect in effects:
            act = self._ACTS.get(type(effect))
            if act is not None:
                act(self, effect)

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

    _ACTS: Mapping[type[ef.Effect], Callable[[Tower, Any], None]] = {
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
