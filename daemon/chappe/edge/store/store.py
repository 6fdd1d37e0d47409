"""`Store`: what the main thread calls, and the thread ``store`` behind it.

The main thread hands over lists of effects and never waits; the thread obeys them in order, each `Commit` as a transaction of its own, so that
an answer says exactly what is on the disk.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chappe.core import effects as ef
from chappe.core import events as ev
from chappe.core.stored import Backlog
from chappe.core.units import SECOND, Ns
from chappe.edge.host import Clock
from chappe.edge.store.base import Base
from chappe.edge.store.blobs import Blobs
from chappe.edge.store.codec import Troubles
from chappe.edge.store.disk import Disk
from chappe.edge.store.faults import Faults
from chappe.edge.store.folder import FILE, kernel_boot, lock
from chappe.edge.store.history import History
from chappe.edge.store.vault import Vault
from chappe.edge.worker import Post, Worker
from chappe.errors import BusyError, StoreError

SAMPLE_EVERY = 10 * SECOND
RETRY_AFTER = SECOND
LONGEST_STEP = SECOND
STOP_WITHIN_S = 30.0

EFFECTS = (ef.Commit, ef.Fetch, ef.Count, ef.Exhume, ef.Remember, ef.Chronicle, ef.Consult, ef.PlaceCursor)


class Samples:
    """How full the disk is, told every ten seconds and whenever it crosses the limit.

    Args:
        disk: room.
        used: bytes of the store's own files.
        post: takes samples.

    Attributes:
        due: when the next one is.
    """

    def __init__(self, disk: Disk, used: Callable[[], int], post: Post) -> None:
        self.due = Ns(0)
        self._disk = disk
        self._used = used
        self._post = post
        self._low: bool | None = None

    def take(self, now: Ns) -> None:
        """Tell, if there is something to tell."""
        low = self._disk.low
        if now < self.due and low == self._low:
            return
        self._low = low
        self.due = Ns(now + SAMPLE_EVERY) if now >= self.due else self.due
        self._post(ev.DiskSampled(at=now, free=self._disk.free(), used=self._used()))


class Store:
    """What the daemon keeps on disk.

    Args:
        folder: the state folder; made when it is missing.
        clock: stamps events.
        post: takes them.
        inline: data above this many bytes gets a file of its own.
        history_bytes: most bytes of the history.
        retention: how long each stream's messages stay in the history.
        disk_free: share of the file system that is to stay free.
        boot: this start of the daemon.
        kernel: kernel boot id, None for the machine's own.
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        post: Post,
        *,
        inline: int = 16 * 1024,
        history_bytes: int = 256 << 20,
        retention: Mapping[str, Ns] | None = None,
        disk_free: float = 0.05,
        boot: str = "",
        kernel: str | None = None,
    ) -> None:
        self._folder = folder
        self._kernel = kernel
        self._clock = clock
        self._post = post
        self._disk = Disk(folder, disk_free)
        self._faults = Faults(clock, post)
        self._base = Base(folder / FILE, Blobs(folder, inline))
        self._vault = Vault(self._base, boot, self._disk, self._faults, clock, post)
        self._history = History(folder, history_bytes, retention or {}, self._disk, self._faults, clock, post)
        self._worker = Worker("store", self.step, clock=clock, post=post, reset=self._abandon)
        self._lock = -1
        self._threaded = False
        self._opened = False
        self._found = Backlog()
        self._todo: deque[ef.Effect] = deque()
        self._memory: dict[str, str] = {}
        self._retry_at = Ns(0)
        self._again: list[ef.Effect] = []
        self._again_at = Ns(0)
        self._samples = Samples(self._disk, self._vault.used, post)
        self._current: ef.Effect | None = None

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def open(self, *, threaded: bool = True) -> None:
        """Take the lock, open the files, bring their tables up to date, salvage what is corrupt, start the writer.

        Args:
            threaded: whether there is a writer; without one nothing happens but in `step`.

        Raises:
            BusyError: if another daemon has the folder.
            StoreError: if the folder cannot be used.
        """
        try:
            self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._lock = lock(self._folder)
            self._disk.restore()
            self._base.kernel = kernel_boot() if self._kernel is None else self._kernel
            self._found = self._vault.open()
            self._history.open()
        except Troubles as error:
            self._history.close()
            self._vault.close()
            self.close()
            if isinstance(error, BusyError):
                raise
            raise StoreError(
                f"the state folder {self._folder} cannot be used: {error}",
                remedy="make it writable for this user, or set device.state_dir",
            ) from error
        self._opened = True
        self._threaded = threaded
        if threaded:
            self._worker.start()

    def backlog(self) -> Backlog:
        """What was there when the store was opened."""
        return self._found

    def memory(self) -> dict[str, Any]:
        """Everything that was remembered."""
        return {key: json.loads(value) for key, value in self._vault.memory()}

    def close(self) -> None:
        """Write what waits, close the files, give the lock back."""
        if not self._worker.stop(STOP_WITHIN_S):
            return  # it hangs in a write, and what it holds is its own
        if self._opened:
            self._opened = False
            self._retry_at = Ns(0)
            self._obey(self._clock.now(), patient=True)
            self._history.close()
            self._vault.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # ── work ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def handle(self, effects: Sequence[ef.Effect]) -> None:
        """Take in what is to be done; the writer does it in this order."""
        self._todo.extend(effect for effect in effects if isinstance(effect, EFFECTS))
        if self._threaded:
            self._worker.wake()

    def step(self, now: Ns) -> Ns | None:
        """Do all that waits.

        Returns:
            When to come back.
        """
        if self._obey(now, patient=not self._threaded):
            return now
        self._history.work(now)
        if now >= self._samples.due:
            self._vault.tend()
            self._history.tend(now)
        self._samples.take(now)
        retries = [self._retry_at if self._memory else None, self._again_at if self._again else None]
        waits = [self._samples.due, self._history.due(), *retries]
        return min(wait for wait in waits if wait is not None)

    def _obey(self, now: Ns, *, patient: bool) -> bool:
        """Do what was asked for; questions to the history only while nothing else waits.

        Args:
            now: when this began.
            patient: stay until all is done; otherwise come back after a second, as whoever stays in a step for too long counts as stuck.

        Returns:
            Whether more is to be done.
        """
        if self._again and now >= self._again_at:
            self._todo.extendleft(reversed(self._again))
            self._again.clear()
        while self._todo or self._history.searching:
            if self._todo:
                effect = self._current = self._todo.popleft()
                self._do(effect)
                self._current = None
            else:
                self._history.search()
            if not patient and self._clock.now() - now > LONGEST_STEP:
                return True
        if self._memory and now >= self._retry_at:
            if self._vault.remember([*self._memory.items()]):
                self._memory.clear()
            self._retry_at = Ns(now + RETRY_AFTER)
        return False

    def _do(self, effect: ef.Effect) -> None:
        if isinstance(effect, ef.Commit):
            self._commit(effect)
        elif isinstance(effect, ef.Fetch | ef.Count):
            self._look_up(effect)
        elif isinstance(effect, ef.Remember):
            self._memory[effect.key] = json.dumps(effect.value)
            self._retry_at = Ns(0)
        elif isinstance(effect, ef.Exhume):
            self._post(self._vault.exhume(effect))
        elif isinstance(effect, ef.Chronicle):
            self._history.add(effect.entries, self._clock.now())
        elif isinstance(effect, ef.Consult):
            self._history.consult(effect)
        elif isinstance(effect, ef.PlaceCursor):
            self._history.place(effect)

    def _commit(self, effect: ef.Commit) -> None:
        answer = self._vault.commit(effect, list(self._memory.items()))
        if isinstance(answer, ev.Committed):
            self._memory.clear()
        self._post(answer)

    def _look_up(self, effect: ef.Fetch | ef.Count) -> None:
        """An answer that says nothing would be taken for "nothing there": what cannot be read is tried again."""
        vault = self._vault
        answer = vault.fetch(effect) if isinstance(effect, ef.Fetch) else vault.count(effect)
        if answer is not None:
            self._post(answer)
        else:
            self._again.append(effect)
            self._again_at = Ns(self._clock.now() + RETRY_AFTER)

    def _abandon(self) -> None:
        """After a bug: whoever waits for an answer gets one."""
        if isinstance(self._current, ef.Commit):
            number, now = self._current.number, self._clock.now()
            self._post(ev.CommitFailed(at=now, number=number, code="store_failed", message="a bug in the store"))
        self._current = None
