"""Named threads with a beat, and the one place where an edge's bug is caught.

A worker calls `step(now)` until it is stopped. `step` does one bounded piece of work and returns the monotonic time of the next
one (None: only when woken). Between steps the thread waits on an event, so stopping never waits for a sleep, and the same
`step` can be driven by a test with a clock of its own and no thread at all.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable

from chappe.core.events import Event, Faulted, Healed
from chappe.core.units import MINUTE, SECOND, Ns
from chappe.edge.host import Clock

log = logging.getLogger(__name__)

Step = Callable[[Ns], Ns | None]
Post = Callable[[Event], None]

BUGS_BEFORE_OFF = 3
BUG_WINDOW = MINUTE


class _Thread(threading.Thread):
    """A thread that knows its worker."""

    def __init__(self, worker: Worker, run: Callable[[], None]) -> None:
        super().__init__(target=run, name=worker.name, daemon=True)
        self.worker = worker


def stuck(now: Ns, limit: int) -> list[str]:
    """Names of the workers of this process that have been in one step for longer than `limit` nanoseconds.

    Workers that were asked to stop are left out: whoever left them behind knows.
    """
    workers = [thread.worker for thread in threading.enumerate() if isinstance(thread, _Thread)]
    return sorted(
        worker.name for worker in workers if worker.busy and not worker.stopping and now - worker.beat > limit
    )


class Worker:
    """A daemon thread around one `step` function.

    An exception that reaches this class is a bug in that edge: it becomes the fault ``<part>_bug``, `reset` is called so that the
    part can start afresh, and the thread goes on; a minute without another heals the fault. The third bug within 60 s leaves the part
    off until the daemon restarts (a part that fails faster than it works only burns the battery); the rest is not touched.

    Args:
        name: name of the thread and of the part in faults.
        step: one piece of work; gets now, returns when it wants to run next, or None.
        clock: where now comes from.
        post: takes the fault event.
        reset: called after a bug, before the next step.
    """

    def __init__(
        self, name: str, step: Step, *, clock: Clock, post: Post, reset: Callable[[], None] | None = None
    ) -> None:
        self.name = name
        self.beat: Ns = Ns(0)
        self.busy = False
        self._step = step
        self._clock = clock
        self._post = post
        self._reset = reset
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._bugs: list[Ns] = []
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def start(self) -> None:
        """Start the thread."""
        self.beat = self._clock.now()
        self._thread = _Thread(self, self._run)
        self._thread.start()

    def wake(self) -> None:
        """Run the next step now."""
        self._wake.set()

    def stop(self, timeout_s: float = 2.0) -> bool:
        """Ask the thread to end and wait for it; idempotent.

        Returns:
            False if the thread did not end in time (it hangs in a call to a device) and was left behind.
        """
        self._stopping.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.beat = self._clock.now()
            self.busy = True
            due = self._guarded(self.beat)
            self.busy = False
            timeout = None if due is None else max(0.0, (due - self._clock.now()) / SECOND)
            self._wake.wait(timeout)
            self._wake.clear()

    def _guarded(self, now: Ns) -> Ns | None:
        if self._bugs and now - self._bugs[-1] >= BUG_WINDOW:
            self._bugs.clear()
            self._post(Healed(at=now, part=self.name, code=f"{self.name}_bug"))
        try:
            return self._step(now)
        except Exception as bug:  # noqa: BLE001 - the one supervising place of every edge
            return self._survive(bug, now)

    def _note(self, bug: Exception, now: Ns) -> None:
        log.error("bug in %s:\n%s", self.name, "".join(traceback.format_exception(bug)))
        self._post(Faulted(at=now, part=self.name, code=f"{self.name}_bug", message=f"{type(bug).__name__}: {bug}"))
        self._bugs = [*(at for at in self._bugs if now - at < BUG_WINDOW), now]

    def _survive(self, bug: Exception, now: Ns) -> Ns | None:
        self._note(bug, now)
        if self._reset is not None:
            try:
                self._reset()
            except Exception as worse:  # noqa: BLE001 - starting afresh is the edge's own code, too
                self._note(worse, now)
        if len(self._bugs) >= BUGS_BEFORE_OFF:
            log.error("%s is left off until the daemon restarts: %d bugs in a minute", self.name, len(self._bugs))
            self._stopping.set()
            self._wake.set()
            return None
        return Ns(now + SECOND)
