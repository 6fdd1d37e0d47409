"""The engine: ``step(event) -> effects``. It decides, and does nothing else: no I/O, no clock, no chance, no waiting.

The first event of a boot is `Started`; it carries everything that the boot depends on. From then on each step first lets time act up to
the event's own time (a timer that is due at the instant of an event fires before it), then handles the event, then hands the link
what it has room for. The same events give the same effects, byte for byte, in any process: that is what `chappe replay` proves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from chappe.core import events as ev
from chappe.core.context import Context
from chappe.core.effects import Effect, Reconnect, SampleHost
from chappe.core.indicators import State
from chappe.core.parts.archive import Archive
from chappe.core.parts.deeds import Deeds
from chappe.core.parts.eyes import Eyes
from chappe.core.parts.farewell import Farewell, state
from chappe.core.parts.keep import Keep
from chappe.core.parts.news import News
from chappe.core.parts.pins import Pins
from chappe.core.parts.purse import Purse
from chappe.core.parts.senses import Senses
from chappe.core.parts.verbs import verbs
from chappe.core.parts.wire import Wire
from chappe.core.requests import Requests
from chappe.core.units import Ns

# More timers than this between two events are not busy, they are a part whose deadline does not move on.
TIMERS_AT_ONE_STEP = 1_000_000


class Engine:
    """The decisions of one boot.

    Args:
        started: the first event.
    """

    def __init__(self, started: ev.Started) -> None:
        self.context = context = Context(started)
        self.eyes = Eyes(context)
        self.deeds = Deeds(context, self.eyes.switch_by_request)
        self.pins = Pins(context, self.deeds, self.eyes.toggle_by_owner)
        self.senses = Senses(context, self.deeds)
        self.news = News(context, self.eyes)
        self.keep = Keep(context)
        self.purse = Purse(context)
        tickets = count(1)
        self.archive = Archive(context, self.deeds.alerts, lambda: next(tickets))
        requests = Requests(context.config.requests, verbs(context, self.pins, self.eyes, self.news, self.archive))
        self.wire = Wire(context, requests)
        self.wire.on_receipt = self.archive.heard
        self.news.wire = self.wire
        self.farewell = Farewell(context, self.wire)
        self.news.keep = self.keep
        self.news.archive = self.archive
        self._handlers: Mapping[type[ev.Event], Callable[[Any], None]] = self._table()
        self._dues = (
            self.eyes.due,
            self.deeds.due,
            self.pins.due,
            self.senses.due,
            self.news.due,
            self.wire.due,
            self.farewell.due,
            context.outbox.due,
        )
        self._due: Ns | None = None

    def begin(self) -> list[Effect]:
        """The effects of `Started`."""
        context = self.context
        context.last.set(context.topics.state, state(context, "online"))
        self.news.info()
        self.eyes.start(self.deeds, self.pins.signal)
        self.pins.refresh()
        self._settle()
        self._let_time_act(context.now)
        return self._take()

    def _table(self) -> dict[type[ev.Event], Callable[[Any], None]]:
        return {
            ev.Ready: self._ready,
            ev.Tick: _nothing,
            ev.ClockChanged: self._clock,
            ev.Reloaded: self._reloaded,
            ev.ReloadRefused: self._reload_refused,
            ev.StopRequested: self._stop,
            ev.HostSampled: self.news.health,
            ev.Faulted: lambda event: self.context.fault(event.part, event.code, event.message),
            ev.Healed: lambda event: self.context.heal(event.part, event.code),
            ev.Overloaded: lambda event: self.context.outbox.stock.overload(event.stream, event.n),
            ev.Seen: self.eyes.seen,
            ev.FramesCaptured: self.eyes.frames_captured,
            ev.CameraOpened: self.eyes.camera_opened,
            ev.CameraClosed: self.eyes.camera_closed,
            ev.CameraFailed: self.eyes.camera_failed,
            ev.CameraExhausted: self.eyes.camera_exhausted,
            ev.ModelLoaded: self._model_loaded,
            ev.ModelRejected: self.eyes.model_rejected,
            ev.SensorRead: self.senses.read,
            ev.SensorFailed: self.senses.failed,
            ev.ButtonEdge: self.pins.edge,
            ev.JobFired: self.senses.fired,
            ev.LinkUp: self._link_up,
            ev.LinkDown: self.wire.down,
            ev.Acked: self.wire.acked,
            ev.Asked: self.wire.asked,
            ev.Arrived: self.wire.arrived,
            ev.Carried: self.purse.carried,
            ev.Committed: self.keep.committed,
            ev.CommitFailed: self.keep.failed,
            ev.Fetched: self.keep.fetched,
            ev.Exhumed: self.keep.exhumed,
            ev.StoreReset: self.keep.reset,
            ev.Counted: self.keep.counted,
            ev.Consulted: lambda event: self.wire.fulfil(event.ticket, event),
            ev.DiskSampled: self.keep.disk,
        }

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def due(self) -> Ns | None:
        """When the engine wants a `Tick`, should nothing else happen before."""
        return self._due

    def _earliest(self) -> Ns | None:
        due: Ns | None = None
        for ask in self._dues:
            moment = ask()
            if moment is not None and (due is None or moment < due):
                due = moment
        return due

    def step(self, event: ev.Event) -> list[Effect]:
        """Decide about one event.

        Args:
            event: what happened. Edges' clocks agree but their batches may cross: an event from before the newest one is taken to
                happen now.

        Returns:
            What is wished for, in order.
        """
        horizon = max(event.at, self.context.now)
        self._let_time_act(horizon)
        self.context.now = horizon
        self._handlers[type(event)](event)
        if type(event) is ev.Seen and self._nothing_came_of_it():
            return []
        self._settle()
        return self._take()

    def _nothing_came_of_it(self) -> bool:
        """Whether a frame changed nothing but the camera's own deadline, as nearly every frame does.

        A deadline that only moved away may be asked for too early: that finds nothing due, and is corrected.
        """
        due = self.eyes.due()
        return not self.context.effects and self._due is not None and (due is None or due >= self._due)

    def _settle(self) -> None:
        self.keep.show()
        self.pins.refresh()
        self.farewell.progress()
        self.wire.pump()
        self.context.effects += self.context.outbox.wishes(self.context.now)
        self._due = self._earliest()

    def _let_time_act(self, horizon: Ns) -> None:
        context = self.context
        for _ in range(TIMERS_AT_ONE_STEP):
            due = self._due
            if due is None or due > horizon:
                return
            context.now = max(context.now, due)
            self.eyes.expire()
            self.deeds.expire()
            self.pins.expire()
            self.senses.expire(horizon)
            self.news.expire()
            self.wire.expire()
            self._settle()
        raise RuntimeError(f"time does not move on: a timer for {self._due} is still due at {context.now}")

    def _take(self) -> list[Effect]:
        effects, self.context.effects = self.context.effects, []
        return effects

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _ready(self, event: ev.Ready) -> None:
        del event
        self.context.lamp.set(State.STARTING, False, self.context.now)
        self.context.announce("state", status="ready", device=self.context.config.device.id)
        self.context.emit(SampleHost())

    def _clock(self, event: ev.ClockChanged) -> None:
        self.context.clock.set(event.at, event.wall, event.synced, event.zone_s)
        self.pins.clock(event)

    def _model_loaded(self, event: ev.ModelLoaded) -> None:
        self.eyes.model_loaded(event)
        self.news.info()

    def _link_up(self, event: ev.LinkUp) -> None:
        self.wire.up(event)
        self.news.info()

    def _reloaded(self, event: ev.Reloaded) -> None:
        self.context.heal_all("config")
        self.news.reload(event)
        if event.secrets:
            self.context.emit(Reconnect())

    def _reload_refused(self, event: ev.ReloadRefused) -> None:
        self.context.fault("config", "config_rejected", "; ".join(event.problems))

    def _stop(self, event: ev.StopRequested) -> None:
        del event
        if not self.context.stopping:
            self.context.stopping = True
            self.context.announce("state", status="stopping")
            self.eyes.stop()
            self.deeds.stop()
            self.pins.dark()
            self.senses.stop()
            self.purse.note()
            self.farewell.begin()


def _nothing(event: ev.Event) -> None:
    del event


def boot(started: ev.Started) -> tuple[Engine, list[Effect]]:
    """A boot's engine and the effects of its first event."""
    engine = Engine(started)
    return engine, engine.begin()
