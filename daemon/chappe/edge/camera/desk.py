"""What the main thread and the camera's threads share: the order of the day, the privacy lamp, the count of frames."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from chappe.core.events import CameraClosed, Faulted, FramesCaptured, Healed
from chappe.core.units import Ns
from chappe.edge.host import Clock
from chappe.edge.slot import Frame, FrameSlot
from chappe.edge.worker import Post
from chappe.errors import CameraError, EdgeError

if TYPE_CHECKING:
    from chappe.edge.slot import Pixels

log = logging.getLogger(__name__)


class Lamp(Protocol):
    """The privacy lamp."""

    def on(self) -> None:
        """Light it.

        Raises:
            OSError: if its pin cannot be driven.
        """

    def off(self) -> None:
        """Darken it.

        Raises:
            OSError: if its pin cannot be driven.
        """


@dataclass(frozen=True, slots=True)
class Order:
    """What the engine wants, and the how-manieth wish it is."""

    generation: int = 0
    open: bool = False


class Light:
    """The lamp, shared by every source that may be capturing: lit before the first opens, dark after the last has closed."""

    def __init__(self, lamp: Lamp | None) -> None:
        self._lamp = lamp
        self._lock = threading.Lock()
        self._open = 0
        self._lit = False

    @property
    def dark(self) -> bool:
        return self._open == 0

    def enter(self, *, needed: bool) -> None:
        """Light the lamp for one more source.

        Raises:
            CameraError: if it cannot be driven and is needed.
        """
        with self._lock:
            if self._lamp is not None and not self._lit:
                try:
                    self._lamp.on()
                    self._lit = True
                except OSError as broken:
                    if needed:
                        raise _lamp_error(broken) from broken
                    log.warning("the privacy lamp cannot be lit; pictures from files need none: %s", broken)
            self._open += 1

    def leave(self) -> None:
        """One source has closed; the last one darkens the lamp.

        Raises:
            CameraError: if it cannot be driven.
        """
        with self._lock:
            self._open -= 1
            if self._lamp is not None and self._lit and self._open == 0:
                self._lit = False
                try:
                    self._lamp.off()
                except OSError as broken:
                    raise _lamp_error(broken) from broken


def _lamp_error(broken: OSError) -> CameraError:
    if isinstance(broken, EdgeError):
        return CameraError(broken.message, code="privacy_led", remedy=broken.remedy)
    return CameraError(f"the privacy lamp cannot be driven: {broken}", code="privacy_led")


class Desk:
    """What the main thread and the camera's threads share: the order, the count of frames, the lamp, the way out."""

    def __init__(self, clock: Clock, post: Post, slot: FrameSlot, light: Light, pulse_every: Ns) -> None:
        self.clock = clock
        self.post = post
        self.light = light
        self.order = Order()
        self._slot = slot
        self._pulse_every = pulse_every
        self._lock = threading.Lock()
        self._frames = 0
        self._last_at = Ns(0)
        self._stamp: int | None = None
        self._told = (0, 0)
        self._told_at: Ns | None = None
        self._lost = 0

    def give(self, *, opened: bool) -> None:
        """A new order. What an older one brings counts no more, and an order to close empties the slot."""
        with self._lock:
            self.order = Order(self.order.generation + 1, opened)
            self._told_at = None
            if not opened:
                self._slot.clear()

    def is_new(self, stamp: int | None) -> bool:
        """Whether a buffer is another one than the last; a device that has frozen may hand out its last one after a restart too."""
        same = stamp is not None and stamp == self._stamp
        self._stamp = stamp
        return not same

    def hand_over(self, order: Order, pixels: Pixels, at: Ns) -> None:
        """Put a frame into the slot, unless the order it was captured for is over."""
        with self._lock:
            if self.order == order:
                self._frames += 1
                self._last_at = at
                self._slot.put(Frame(pixels, at, self._frames))

    def pulse(self, *, last: bool = False) -> None:
        """Tell of frames not yet told of; unless it is the `last` time, not sooner than `pulse_every` after the last pulse."""
        now = self.clock.now()
        with self._lock:
            totals = (self._frames, self._slot.skipped)
            early = self._told_at is not None and now - self._told_at < self._pulse_every
            if totals == self._told or (early and not last):
                return
            self._told, self._told_at = totals, now
            pulse = FramesCaptured(at=now, frames=totals[0], skipped=totals[1], last_at=self._last_at)
        self.post(pulse)

    def closed(self) -> None:
        """A source has been closed: tell so, if that was the last one."""
        if self.light.dark:
            self.post(CameraClosed(at=self.clock.now()))

    def lose(self, doing: str) -> None:
        """A thread is left behind in a call that does not return."""
        with self._lock:
            self._lost += 1
        message = f"the call to {doing} the camera does not return; its thread is left behind"
        self.post(Faulted(at=self.clock.now(), part="camera", code="camera_hung", message=message))

    def find(self) -> None:
        """A thread left behind has come back."""
        with self._lock:
            self._lost -= 1
            all_back = self._lost == 0
        if all_back:
            self.post(Healed(at=self.clock.now(), part="camera", code="camera_hung"))
