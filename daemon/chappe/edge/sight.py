"""The vision thread: looks at the newest frame, one at a time, on a grid of its own, and says what it saw.

Nothing waits for it. While it looks at one frame the next ones replace each other in the slot; the ticks of its grid that pass
meanwhile are skipped and counted, so that a slow model sees fewer frames and never older ones. When its tick has come and no frame is
there, it takes the next one as it arrives.

Models are loaded in a thread beside it (``model``) and swapped in between two frames, so that loading, and above all refusing a
model, costs no frame.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from chappe.core.effects import Effect, LoadModel
from chappe.core.events import Healed, ModelLoaded, ModelRejected, Seen
from chappe.core.gestures import Sighting
from chappe.core.settings import Vision
from chappe.core.units import Ns
from chappe.edge.host import Clock
from chappe.edge.slot import Frame, FrameSlot, Grid
from chappe.edge.worker import Post, Worker
from chappe.errors import ModelError

if TYPE_CHECKING:
    from chappe.edge.slot import Pixels


class FoundHand(Protocol):
    """A hand as a detector gives it; box is (x, y, w, h) in pixels of the frame."""

    @property
    def id(self) -> int: ...

    @property
    def gesture(self) -> str: ...

    @property
    def score(self) -> float: ...

    @property
    def handedness(self) -> str: ...

    @property
    def box(self) -> tuple[int, int, int, int]: ...


class Detector(Protocol):
    """Finds hands in frames. Made in one thread, used in another, never in two at a time."""

    @property
    def model_id(self) -> str:
        """``name@hash8``, as envelopes carry it."""

    @property
    def palm_runs(self) -> int:
        """How often the palm search has run."""

    def process(self, rgb: Pixels, now_ns: int) -> Sequence[FoundHand]:
        """Hands in `rgb`, (H, W, 3) uint8 RGB, captured at `now_ns`."""


log = logging.getLogger(__name__)

CLOSE_S = 2.0

Load = Callable[[str], Detector]
Listing = Callable[[], tuple[dict[str, Any], ...]]


class SightEdge:
    """Vision. Drive it with `open` and `handle`, or without threads with `handle`, `fetch` and `step`.

    Args:
        settings: the section ``[vision]``: its model is loaded again after a bug, if none was asked for since.
        rate_hz: most looks per second.
        slot: where frames come from.
        clock: where now comes from.
        post: takes the events.
        load: makes the detector of a model; raises ModelError if it is not to be had or not to be trusted.
        listing: the models on this device, for `ModelLoaded`.
    """

    def __init__(
        self,
        settings: Vision,
        rate_hz: float,
        slot: FrameSlot,
        *,
        clock: Clock,
        post: Post,
        load: Load,
        listing: Listing = tuple,
    ) -> None:
        self._settings = settings
        self._rate_hz = rate_hz
        self._slot = slot
        self._clock = clock
        self._post = post
        self._load = load
        self._listing = listing
        self._lock = threading.Lock()
        self._wishes: deque[str] = deque()
        self._fresh: deque[tuple[str, Detector]] = deque()
        self._detector: Detector | None = None
        self._name = ""
        self._grid: Grid | None = None
        self._due = Ns(0)
        self._buggy = False
        self._vision = Worker("vision", self.step, clock=clock, post=post, reset=self._reset)
        self._loader = Worker("model", self.fetch, clock=clock, post=post)
        self.skipped = 0
        """Ticks that passed while a frame was looked at."""

    @property
    def beat(self) -> Ns:
        """When the vision thread last began a step."""
        return self._vision.beat

    def open(self) -> None:
        """Start both threads; nothing is loaded yet."""
        self._slot.listen(self._vision.wake)
        self._vision.start()
        self._loader.start()

    def close(self) -> None:
        """End both threads; idempotent. One that hangs is left behind."""
        for worker in (self._vision, self._loader):
            if not worker.stop(CLOSE_S):
                log.warning("the thread %s hangs and is left behind", worker.name)

    def handle(self, effects: Iterable[Effect]) -> None:
        """Carry out `LoadModel`; returns at once, the answer is `ModelLoaded` or `ModelRejected`."""
        for effect in effects:
            if isinstance(effect, LoadModel):
                self._wish(effect.name)

    def _wish(self, name: str) -> None:
        with self._lock:
            self._wishes.append(name)
        self._loader.wake()

    def fetch(self, now: Ns) -> Ns | None:
        """One step of the loading thread: make the detector of the model asked for, or say why not."""
        with self._lock:
            if not self._wishes:
                return None
            name = self._wishes.popleft()
        try:
            detector = self._load(name)
        except ModelError as refused:
            self._reject(name, str(refused), refused.code)
        except ImportError as missing:  # a runtime that is there but lacks a library of its own
            self._reject(name, f"vision cannot be loaded: {missing}", "model_runtime")
        else:
            with self._lock:
                self._fresh.append((name, detector))
            self._vision.wake()
        return now

    def _reject(self, name: str, message: str, code: str) -> None:
        self._post(ModelRejected(at=self._clock.now(), name=name, message=message, code=code))

    def step(self, now: Ns) -> Ns | None:
        """One step of the vision thread: swap models if one has come, then look at the newest frame if it is time."""
        self._swap(now)
        if self._detector is None:
            return None
        if now < self._due:
            return self._due
        frame = self._slot.take()
        return None if frame is None else self._look(self._detector, frame)

    def _swap(self, now: Ns) -> None:
        with self._lock:
            fresh = [*self._fresh]
            self._fresh.clear()
        for self._name, self._detector in fresh:
            model = self._detector.model_id
            self._post(ModelLoaded(at=now, name=self._name, model=model, listing=self._listing()))

    def _look(self, detector: Detector, frame: Frame) -> Ns:
        began, palm_runs = self._clock.now(), detector.palm_runs
        found = detector.process(frame.pixels, frame.at)
        ended = self._clock.now()
        self._post(
            Seen(
                at=ended,
                frame=frame.number,
                frame_at=frame.at,
                took=Ns(ended - began),
                hands=tuple(_as_sighting(hand) for hand in found),
                palm=detector.palm_runs > palm_runs,
                skipped=self.skipped,
            )
        )
        self._recover(ended)
        return self._next(began, ended)

    def _next(self, began: Ns, ended: Ns) -> Ns:
        """The first tick that is not before the end of this look; the ticks that passed during it are skipped."""
        if self._grid is None:
            self._grid = Grid(self._rate_hz, began)
        used = self._grid.last(began)
        coming = max(used, self._grid.last(Ns(ended - 1))) + 1
        self.skipped += coming - used - 1
        self._due = self._grid.at(coming)
        return self._due

    def _recover(self, now: Ns) -> None:
        if self._buggy:
            self._buggy = False
            self._post(Healed(at=now, part="vision", code="vision_bug"))

    def _reset(self) -> None:
        """After a bug: a detector in an unknown state is thrown away and made anew."""
        self._buggy = True
        self._detector = None
        self._wish(self._name or self._settings.model)


def _as_sighting(hand: FoundHand) -> Sighting:
    x, y, width, height = hand.box
    return Sighting(
        gesture=str(hand.gesture),
        score=float(hand.score),
        handedness=str(hand.handedness),
        box=(int(x), int(y), int(width), int(height)),
        hand=int(hand.id),
    )
