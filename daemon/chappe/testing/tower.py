"""`Tower`: a whole device at manual time."""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chappe import __version__
from chappe.config import loads
from chappe.core import events as ev
from chappe.core.engine import boot
from chappe.core.gestures import Sighting
from chappe.core.settings import Config, to_data
from chappe.core.stored import StoredRow
from chappe.core.streams import all_specs
from chappe.core.units import Ns, WallNs, seconds
from chappe.edge.store import Store
from chappe.record import render
from chappe.testing.clock import EPOCH, START, ManualClock
from chappe.testing.shelf import Shelf
from chappe.testing.world import Published, World

BOOT = "0123456789abcdef"
KERNEL = "kernel"


def parse(text: str) -> Config:
    """A configuration out of TOML text; the device is ``tower-1`` unless the text names it.

    Raises:
        ConfigError: if it is wrong.
    """
    named = text if "[device]" in text else f'[device]\nid = "tower-1"\n{text}'
    return loads(named).config


class Tower(World):
    """One device at manual time.

    Args:
        config: TOML text; device id ``tower-1`` unless it says otherwise.
        memory: what earlier boots remembered.
        boot_id: this boot's id.
        start: monotonic time of the start.
        store: what an earlier tower left behind (its `store`, or `kill` of it); a new `Shelf` by default.
        folder: keep things in a real store in this folder instead.
        synced: whether the wall clock is right.
    """

    def __init__(
        self,
        config: str = "",
        *,
        memory: Mapping[str, Any] | None = None,
        boot_id: str = BOOT,
        start: Ns = START,
        synced: bool = True,
        wall: WallNs = EPOCH,
        store: Shelf | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__(parse(config), ManualClock(start, wall), memory or {})
        self.boot = boot_id
        self.store = self._open_store(store, folder)
        self.lines: list[bytes] = []
        self.window = 100
        self._numbers = itertools.count(1)
        started = ev.Started(
            at=start,
            boot=boot_id,
            wall=self.clock.wall(),
            synced=synced,
            config=to_data(self.config),
            config_hash="0" * 12,
            version=__version__,
            memory={**self.store.memory(), **self.memory},
            backlog=self.store.backlog(),
        )
        self.engine, effects = boot(started)
        self.lines.append(render(started, effects))
        self._carry_out(effects)
        self._drain(self.clock.now())

    def _open_store(self, left: Shelf | None, folder: Path | None) -> Shelf | Store:
        kept = {name: spec.history for name, spec in all_specs(self.config).items() if spec.history is not None}
        store: Shelf | Store
        if folder is not None:
            store = Store(folder, self.clock, self._from_store, retention=kept, boot=self.boot, kernel=KERNEL)
        elif left is not None:
            store = left.crash(self.clock, self._from_store, boot=self.boot)
        else:
            store = Shelf(self.clock, self._from_store, retention=kept, boot=self.boot)
        store.open(threaded=False)
        return store

    @property
    def rows(self) -> dict[int, StoredRow]:
        """The rows of the outbox that are on disk (only without a `folder`)."""
        assert isinstance(self.store, Shelf)
        return self.store.tables.rows

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def advance(self, span_s: float) -> None:
        """Let time pass; every deadline on the way is met exactly."""
        end = Ns(self.clock.now() + seconds(span_s))
        while True:
            moments = [
                moment
                for moment in (self.engine.due(), self._coming[0][0] if self._coming else None, self._store_due)
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
            else:
                self._store_due = self.store.step(self.clock.now())
        self.clock.set(end)

    def until(self, moment_s: float) -> None:
        """Let time pass until `moment_s` after the start."""
        self.advance(moment_s - self.now_s)

    # ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def feed(self, event: ev.Event) -> None:
        """Something happens now; what follows from it at once follows."""
        heapq.heappush(self._coming, (event.at, next(self._order), event))
        self._drain(self.clock.now())

    def link_up(self, protocol: str = "5", max_packet: int = 0) -> None:
        """The broker is connected."""
        self._up = True
        self.feed(ev.LinkUp(at=self.clock.now(), protocol=protocol, window=self.window, max_packet=max_packet))

    def link_down(self, status: ev.LinkStatus = "lost", *, cut: bool = False) -> None:
        """The broker is gone (`cut`: it ended the connection itself); what was in flight is never acknowledged."""
        self._up = False
        self._coming = [item for item in self._coming if not isinstance(item[2], ev.Acked)]
        heapq.heapify(self._coming)
        self.feed(ev.LinkDown(at=self.clock.now(), status=status, cut=cut))

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

    def _drain(self, now: Ns) -> None:
        while self._coming and self._coming[0][0] <= now and self.finished is None:
            self._step(heapq.heappop(self._coming)[2])

    def _step(self, event: ev.Event) -> None:
        effects = self.engine.step(event)
        self.lines.append(render(event, effects))
        self._carry_out(effects)

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
