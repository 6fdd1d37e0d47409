"""The camera's thread: opens what the engine wants open, puts the newest frame into the slot, and tells what happened.

It decides nothing. When to open, to give up and to try again is `chappe.core.camera`'s; a failure here closes the source, is
posted, and ends there until the next `OpenCamera`.

**A call that does not return** cannot be killed, so its thread is left behind: the order it works for has a *generation*, the next
order has another, and whatever an old generation brings is thrown away. A new thread of the same name takes over. When the old call
returns after all, its thread closes its source and ends.

**The privacy lamp** is lit before a source is opened and goes dark only after the last one has closed. A thread left behind keeps it
lit, for as long as its source is not closed: the lamp may not say "dark" while frames could be taken. For the same reason
`CameraClosed` is posted only when the lamp is dark.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from chappe.core.effects import CloseCamera, Effect, OpenCamera
from chappe.core.events import CameraFailed
from chappe.core.settings import Camera
from chappe.core.units import Ns
from chappe.edge.camera.desk import Desk, Lamp, Light
from chappe.edge.camera.grip import Grip, Make
from chappe.edge.host import Clock
from chappe.edge.slot import FrameSlot
from chappe.edge.sources import make
from chappe.edge.worker import Post

__all__ = ["CameraEdge", "Lamp"]

log = logging.getLogger(__name__)

EVERY_FRAME = Ns(0)
CLOSE_S = 2.0


class CameraEdge:
    """The camera. Drive it with `open` and `handle`, or without a thread with `handle` and `step`.

    Args:
        settings: the section ``[camera]``.
        clock: where now comes from.
        post: takes the events.
        slot: takes the frames.
        lamp: the privacy lamp; None where the owner says there is none. A live source opens only if it can be lit.
        pulse_every: least time between two `FramesCaptured`; 0 tells of every frame.
        make_source: builds the source.
    """

    def __init__(
        self,
        settings: Camera,
        *,
        clock: Clock,
        post: Post,
        slot: FrameSlot,
        lamp: Lamp | None = None,
        pulse_every: Ns = EVERY_FRAME,
        make_source: Make = make,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._post = post
        self._make = make_source
        self._desk = Desk(clock, post, slot, Light(lamp), pulse_every)
        self._grip = Grip(settings, self._desk, make_source)
        self._left: list[Grip] = []
        self._started = False

    @property
    def beat(self) -> Ns:
        """When the camera's thread last began a step."""
        return self._grip.worker.beat

    def open(self) -> None:
        """Start the thread; no source is open yet."""
        self._started = True
        self._grip.worker.start()

    def handle(self, effects: Iterable[Effect]) -> None:
        """Carry out `OpenCamera` and `CloseCamera`; returns at once. After a `CloseCamera` no frame reaches the slot."""
        for effect in effects:
            if isinstance(effect, CloseCamera):
                self._desk.give(opened=False)
            elif isinstance(effect, OpenCamera):
                self._reopen()
        self._grip.worker.wake()

    def _reopen(self) -> None:
        now = self._clock.now()
        if self._off:
            message = "too many bugs in a minute; the camera is left off until the daemon restarts"
            self._post(CameraFailed(at=now, code="camera_bug", message=message, retriable=False))
        elif not self._grip.opens(self._desk.order, now):
            # An opening under way is let finish: given up each time, a slow camera would never open.
            self._desk.give(opened=True)
            if self._grip.hangs(now):
                self._leave_behind()

    @property
    def _off(self) -> bool:
        worker = self._grip.worker
        return worker.stopping or (self._started and not worker.alive)

    def _leave_behind(self) -> None:
        old = self._grip
        if not old.retire(self._clock.now()):
            return
        self._left = [*(one for one in self._left if not one.empty.is_set()), old]
        self._grip = Grip(self._settings, self._desk, self._make)
        if self._started:
            self._grip.worker.start()

    def step(self, now: Ns) -> Ns | None:
        """One step of the thread's work, for whoever owns time: returns when the next is due, None when there is nothing to do."""
        return self._grip.step(now)

    def hung_for(self, now: Ns) -> Ns:
        """How long the longest call into a camera that is still under way has been running, threads left behind included."""
        return max(grip.called_for(now) for grip in (self._grip, *self._left))

    def close(self) -> None:
        """Close the source and end the thread; idempotent. One that hangs is left behind, and the lamp lit."""
        grip, worker = self._grip, self._grip.worker
        self._desk.give(opened=False)
        worker.wake()
        if not worker.alive or grip.empty.wait(CLOSE_S):
            if worker.stop(CLOSE_S):
                grip.reset()
        elif not worker.stop(0.0):
            log.warning("the camera hangs; its thread is left behind")
