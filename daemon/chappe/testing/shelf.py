"""`Shelf`: the store as a fake in plain Python, for devices at manual time.

It obeys the same effects with the same answers as ``chappe.edge.store.Store`` (one suite runs over both), keeps everything in dictionaries, and can
be told to fail, to take its time, and to be killed.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from chappe.core import effects as ef
from chappe.core import events as ev
from chappe.core.stored import Backlog, FaultCode
from chappe.core.units import SECOND, Ns
from chappe.edge.store.faults import Faults
from chappe.testing.annals import Bounds
from chappe.testing.clock import ManualClock
from chappe.testing.tables import Tables

SAMPLE_EVERY = 10 * SECOND
BATCH_EVERY = 10 * SECOND
BATCH_BYTES = 64 * 1024


class Shelf:
    """A store that is not there.

    Args:
        clock: the time.
        post: takes events.
        history_bytes: most bytes of the history.
        retention: how long each stream's messages stay in the history.
        disk_free: share of the disk that is to stay free.
        boot: this start of the daemon.
        kernel: kernel boot id.
        tables: what an earlier one left behind.

    Attributes:
        fail: code with which commits fail; None for not at all.
        delay: how long each commit takes.
        free: share of the disk that is free.
        tables: what a kill leaves.
    """

    def __init__(
        self,
        clock: ManualClock,
        post: Callable[[ev.Event], None],
        *,
        history_bytes: int = 256 << 20,
        retention: Mapping[str, Ns] | None = None,
        disk_free: float = 0.05,
        boot: str = "",
        kernel: str = "kernel",
        tables: Tables | None = None,
    ) -> None:
        self.fail: FaultCode | None = None
        self.delay = Ns(0)
        self.free = 1.0
        self.tables = tables or Tables()
        self._clock = clock
        self._post = post
        self._bounds = Bounds(history_bytes, retention or {})
        self._disk_free = disk_free
        self._boot = boot
        self._kernel = kernel
        self._found = Backlog()
        self._todo: deque[ef.Effect] = deque()
        self._begun: Ns | None = None
        self._memory: dict[str, str] = {}
        self._flush_at: Ns | None = None
        self._sample_at = Ns(0)
        self._low: bool | None = None
        self._faults = Faults(clock, post)

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def open(self, *, threaded: bool = False) -> None:
        """Look at what is there; `threaded` is for the likeness."""
        del threaded
        self._found = self.tables.backlog(self._kernel, self._boot)

    def backlog(self) -> Backlog:
        """What was there when the store was opened."""
        return self._found

    def memory(self) -> dict[str, Any]:
        """Everything that was remembered."""
        return {key: json.loads(value) for key, value in self.tables.memory.items()}

    def close(self) -> None:
        """Do what waits, at once."""
        self.delay = Ns(0)
        self._work(self._clock.now())
        self._remember()
        self._flush()

    def crash(
        self,
        clock: ManualClock | None = None,
        post: Callable[[ev.Event], None] | None = None,
        *,
        boot: str = "",
        kernel: str = "",
    ) -> Shelf:
        """The store as the next boot finds it after a kill at this moment: what was not committed is gone.

        The next boot has a clock, and takes events, of its own; under the same kernel boot, if nothing is said, as only the daemon was killed.
        """
        self._todo.clear()
        return Shelf(
            clock or self._clock,
            post or self._post,
            history_bytes=self._bounds.bytes,
            retention=self._bounds.retention,
            disk_free=self._disk_free,
            boot=boot or self._boot,
            kernel=kernel or self._kernel,
            tables=self.tables.after_kill(),
        )

    # ── work ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def handle(self, effects: Sequence[ef.Effect]) -> None:
        """Take in what is to be done."""
        self._todo.extend(effect for effect in effects if type(effect) in self._deeds)

    def step(self, now: Ns) -> Ns | None:
        """Do all that waits; returns when to come back."""
        delayed = self._work(now)
        self._remember()
        if self._flush_at is not None and now >= self._flush_at:
            self._flush()
        self._sample(now)
        return min(moment for moment in (delayed, self._sample_at, self._flush_at) if moment is not None)

    def _work(self, now: Ns) -> Ns | None:
        """Do what can be done by now; returns when the next commit will be done, if one takes its time."""
        while self._todo:
            effect = self._todo[0]
            if isinstance(effect, ef.Commit) and self.delay:
                self._begun = now if self._begun is None else self._begun
                if now < self._begun + self.delay:
                    return Ns(self._begun + self.delay)
            self._begun = None
            self._todo.popleft()
            self._deeds[type(effect)](self, effect)
        return None

    def _commit(self, effect: ef.Commit) -> None:
        now = self._clock.now()
        growth = bool(effect.rows or effect.burials)
        if self.fail is not None and (growth or self.fail != "store_full"):
            self._faults.report(self.fail, "as told")
            self._post(ev.CommitFailed(at=now, number=effect.number, code=self.fail, message="as told"))
            return
        self._faults.heal("store_failed")
        if self.fail is None:
            self._faults.heal("store_full")
        self._remember()
        self.tables.commit(effect, self._kernel)
        self._post(ev.Committed(at=now, number=effect.number, took=self.delay))

    def _fetch(self, effect: ef.Fetch) -> None:
        rows, after = self.tables.fetch(effect)
        now = self._clock.now()
        self._post(ev.Fetched(at=now, stream=effect.stream, purpose=effect.purpose, rows=tuple(rows), after=after))

    def _count(self, effect: ef.Count) -> None:
        self._post(ev.Counted(at=self._clock.now(), stream=effect.stream, **self.tables.count(effect)))

    def _exhume(self, effect: ef.Exhume) -> None:
        self._post(ev.Exhumed(at=self._clock.now(), rows=tuple(self.tables.exhume(effect.ids))))

    def _take_note(self, effect: ef.Remember) -> None:
        self._memory[effect.key] = json.dumps(effect.value)

    def _remember(self) -> None:
        self.tables.memory.update(self._memory)
        self._memory.clear()

    def _chronicle(self, effect: ef.Chronicle) -> None:
        now = self._clock.now()
        if self.tables.annals.add(effect.entries) >= BATCH_BYTES:
            self._flush_at = now
        elif self._flush_at is None:
            self._flush_at = Ns(now + BATCH_EVERY)

    def _flush(self) -> None:
        self._flush_at = None
        self.tables.annals.flush()
        self.tables.annals.prune(self._clock.wall(), self._bounds)

    def _consult(self, effect: ef.Consult) -> None:
        self._flush()
        page = self.tables.annals.answer(effect.query)
        self._post(ev.Consulted(at=self._clock.now(), ticket=effect.ticket, page=page))

    def _place_cursor(self, effect: ef.PlaceCursor) -> None:
        self.tables.annals.cursors[effect.reader, effect.stream] = effect.offset

    # ── disk and faults ──────────────────────────────────────────────────────────────────────────────────────────────

    def _sample(self, now: Ns) -> None:
        low = self.free < self._disk_free
        if now >= self._sample_at or low != self._low:
            if now >= self._sample_at:
                self._sample_at = Ns(now + SAMPLE_EVERY)
                self.tables.annals.prune(self._clock.wall(), self._bounds)
            self._low = low
            self._post(ev.DiskSampled(at=now, free=self.free, used=self.tables.used))

    _deeds: ClassVar[Mapping[type[ef.Effect], Callable[[Shelf, Any], None]]] = {
        ef.Commit: _commit,
        ef.Fetch: _fetch,
        ef.Count: _count,
        ef.Exhume: _exhume,
        ef.Remember: _take_note,
        ef.Chronicle: _chronicle,
        ef.Consult: _consult,
        ef.PlaceCursor: _place_cursor,
    }
