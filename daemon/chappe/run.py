"""The composition root's loop: events in, one engine, effects out to the parts.

`chappe.assembly` knows which parts there are and how each is made; here stands who carries out what, in which order parts start and stop,
and what happens between. The main thread does nothing but this loop, so it alone touches the engine.
"""

from __future__ import annotations

import logging
import secrets
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from chappe.assembly import Assembly, plain
from chappe.config import Loaded
from chappe.core import effects as ef
from chappe.core.engine import Engine, boot
from chappe.core.events import Acked, Event, Fetched, Ready, Reloaded, ReloadRefused, StopRequested, Tick
from chappe.edge.host import Clock, SystemClock
from chappe.edge.inbox import Inbox
from chappe.errors import ConfigError
from chappe.record import Recorder, render

log = logging.getLogger(__name__)

# Which part carries out which effect.
ROUTES: Mapping[type[ef.Effect], str] = {
    ef.Publish: "mqtt",
    ef.Listen: "mqtt",
    ef.Unlisten: "mqtt",
    ef.Acknowledge: "mqtt",
    ef.Reconnect: "mqtt",
    ef.Disconnect: "mqtt",
    ef.OpenCamera: "camera",
    ef.CloseCamera: "camera",
    ef.LoadModel: "vision",
    ef.Drive: "gpio",
    ef.ReadSensors: "sensors",
    ef.Remember: "store",
    ef.Commit: "store",
    ef.Fetch: "store",
    ef.Count: "store",
    ef.Exhume: "store",
    ef.Chronicle: "store",
    ef.Consult: "store",
    ef.PlaceCursor: "store",
    ef.SampleHost: "host",
    ef.Reply: "control",
    ef.Announce: "metrics",
}

# A part that is opened later may rely on those before it; they are closed in the opposite order.
START_ORDER = ("store", "gpio", "control", "mqtt", "vision", "camera", "sensors", "scheduler", "host", "metrics")

SWITCH_S = 0.0005

SWITCH_S = 0.0005

CRASH_WEIGHT = 4000
"""Events, effects and what they carry that are kept for a crash record; by events alone, those of a draining backlog would be 40 MB."""

Observer = Callable[[Sequence[ef.Effect]], None]


class Daemon:
    """One boot of the daemon.

    Args:
        loaded: the configuration.
        clock: where time comes from; the machine's own unless a test brings one.
        record: write every event and its effects to this file.
        observe: is shown every batch of effects, in the main thread.
        reload: reads the configuration again, for SIGHUP.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        clock: Clock | None = None,
        record: Path | None = None,
        observe: Observer | None = None,
        reload: Callable[[], Loaded] | None = None,
    ) -> None:
        self.boot = secrets.token_hex(8)
        self.clock = clock or SystemClock()
        self.inbox = Inbox(self.clock)
        self._loaded = loaded
        self._recorder = Recorder(record) if record else None
        self._observe = observe
        self._reload = reload
        self._assembly = Assembly(loaded, self.boot, self.clock, self.inbox)
        self._recent: deque[tuple[Event, list[ef.Effect], int]] = deque()
        self._weight = 0
        self._started: Event | None = None
        self._code: int | None = None

    # ── asked for by signal handlers and other threads ───────────────────────────────────────────────────────────────

    def request_stop(self) -> None:
        """Begin a clean stop."""
        self.inbox.put(StopRequested(at=self.clock.now()))

    def request_reload(self) -> None:
        """Read the configuration again; a bad one is refused and the old one stays."""
        if self._reload is None:
            return
        try:
            data, digest = plain(self._reload().config)
        except ConfigError as error:
            problems = tuple(str(problem) for problem in error.problems)
            self.inbox.put(ReloadRefused(at=self.clock.now(), problems=problems))
        else:
            secrets_ = self._assembly.secrets_changed()
            self.inbox.put(Reloaded(at=self.clock.now(), config=data, config_hash=digest, secrets=secrets_))

    # ── the boot ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> int:
        """Run until asked to stop.

        Returns:
            The exit code.

        Raises:
            BusyError: if another daemon has the state folder.
            StoreError: if the state folder cannot be used.
        """
        # sqlite3 gives the interpreter away at every row and gets it back only when a busy thread's turn is over: with Python's 5 ms
        # a commit of 1,000 rows takes half a second beside an engine that computes.
        sys.setswitchinterval(SWITCH_S)
        # sqlite3 gives the interpreter away at every row and gets it back only when a busy thread's turn is over: with Python's 5 ms
        # a commit of 1,000 rows takes half a second beside an engine that computes.
        sys.setswitchinterval(SWITCH_S)
        with ExitStack() as stack:
            if self._recorder is not None:
                self._recorder.open()
                stack.callback(self._recorder.close)
            for name in START_ORDER:
                self._assembly.open(name)
                stack.callback(self._assembly.close, name)
            started = self._started = self._assembly.started()
            engine, effects = boot(started)
            self._note(started, effects)
            self._carry_out(effects)
            self.inbox.put(Ready(at=self.clock.now()))
            self._loop(engine)
        return 0 if self._code is None else self._code

    def _loop(self, engine: Engine) -> None:
        while self._code is None:
            due = engine.due()
            look_at = self._assembly.look_at
            events = self.inbox.drain(look_at if due is None else min(due, look_at))
            events += self._assembly.watch(self.clock.now())
            if not events and due is not None and due <= self.clock.now():
                events = [Tick(at=self.clock.now())]
            self._pass(engine, events)

    def _pass(self, engine: Engine, events: Sequence[Event]) -> None:
        """Step the engine through a batch; the parts get what they have to do in one list each."""
        wishes: list[ef.Effect] = []
        for event in events:
            try:
                effects = engine.step(event)
            except Exception:
                self._save_crash(event)
                raise
            self._note(event, effects)
            wishes += effects
        self._carry_out(wishes)

    def _note(self, event: Event, effects: list[ef.Effect]) -> None:
        weight = _weight(event, effects)
        self._recent.append((event, effects, weight))
        self._weight += weight
        while self._weight > CRASH_WEIGHT and len(self._recent) > 1:
            self._weight -= self._recent.popleft()[2]
        if self._recorder is not None:
            self._recorder.write(event, effects)

    def _carry_out(self, wishes: list[ef.Effect]) -> None:
        batches: dict[str, list[ef.Effect]] = {}
        for effect in wishes:
            if isinstance(effect, ef.Finished):
                self._code = effect.code
            elif (name := ROUTES.get(type(effect))) is not None:
                batches.setdefault(name, []).append(effect)
        for name, batch in batches.items():
            self._assembly.handle(name, batch)
        if wishes and self._observe is not None:
            self._observe(wishes)

    def _save_crash(self, event: Event) -> None:
        """A bug in the core: keep what led to it, so that it can be replayed."""
        path = self._assembly.folder / f"crash-{self.boot}.jsonl"
        steps = [(event, effects) for event, effects, _ in self._recent]
        if self._started is not None and steps[0][0] is not self._started:
            steps.insert(0, (self._started, []))
        lines = [render(*step) for step in steps]
        path.write_bytes(b"".join([*lines, render(event, [])]))
        log.critical(
            "the engine failed on %s; the last %d events are in %s", type(event).__name__, len(lines) + 1, path
        )


def _weight(event: Event, effects: Sequence[ef.Effect]) -> int:
    """How much of the memory for a crash record a step takes up, in round figures."""
    carried = event.items if isinstance(event, Acked) else event.rows if isinstance(event, Fetched) else ()
    weight = 1 + len(carried) + len(effects)
    for effect in effects:
        if type(effect) is ef.Commit:
            weight += len(effect.rows)
    return weight
