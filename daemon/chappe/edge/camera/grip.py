"""One thread's hold on one camera: obeys the order of the day, opens, reads, closes, and tells what happened."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chappe.core.events import CameraExhausted, CameraFailed, CameraOpened, Faulted, Healed
from chappe.core.settings import Camera
from chappe.core.units import SECOND, Ns
from chappe.edge.camera.desk import Desk, Order
from chappe.edge.host import Clock
from chappe.edge.sources import Reading, Source, Trouble
from chappe.edge.worker import Worker
from chappe.errors import CameraError

if TYPE_CHECKING:
    from chappe.edge.slot import Pixels

log = logging.getLogger(__name__)

HUNG_OPEN = 10 * SECOND
"""A call to open may take this long: importing picamera2 alone takes seconds on a small board."""

HUNG_CALL = 3 * SECOND
"""Any other call; sources wait a second for a frame at most."""

Make = Callable[[Camera, Clock], Source]


class Grip:
    """One thread's hold on one source at a time. All of it runs in that thread.

    Attributes:
        retired: set when the thread has been left behind: it closes what it holds as soon as it can, and ends.
        calling: the call into the source that is under way: what, since when, for which order.
        empty: set while no source is held.
    """

    def __init__(self, settings: Camera, desk: Desk, make_source: Make) -> None:
        self._settings = settings
        self._desk = desk
        self._make = make_source
        self._source: Source | None = None
        self._order = Order()
        self._settled = 0
        self._due = Ns(0)
        self._buggy = False
        self._fate = threading.Lock()
        self.retired = False
        self.calling: tuple[str, Ns, Order] | None = None
        self.empty = threading.Event()
        self.empty.set()
        self.worker = Worker("camera", self.step, clock=desk.clock, post=desk.post, reset=self.reset)

    def step(self, now: Ns) -> Ns | None:
        """Bring what is held in line with the order, or take one frame."""
        order = self._desk.order
        try:
            self._obey(order)
            if self.retired or not order.open or order.generation == self._settled:
                return None
            return self._take(order, now)
        except CameraError as failure:
            self._fail(order, failure)
            return None if self._desk.order == order else now

    def _obey(self, order: Order) -> None:
        """Close what belongs to an older order, and answer an order to close."""
        outdated = self._source is not None and self._order != order
        closing = not order.open and order.generation != self._settled
        if outdated:
            self._let_go()
        if closing and not self.retired:
            self._settled = order.generation
            if not outdated:
                self._desk.closed()

    def _take(self, order: Order, now: Ns) -> Ns | None:
        if self._source is None:
            self._open(order)
        elif now >= self._due:  # who was woken for something else does not read before it is time
            with self._call("read"):
                reading = self._source.read(now)
            if self._desk.order == order:
                self._use(self._source, reading)
        if self._desk.order != order:
            self._obey(self._desk.order)  # at once: a thread that was left behind gets no other step
            return now
        return self._due if self._source is not None else None

    def _open(self, order: Order) -> None:
        source = self._make(self._settings, self._desk.clock)
        self._desk.light.enter(needed=source.live)
        self.empty.clear()
        self._source, self._order, self._due = source, order, self._desk.clock.now()
        with self._call("open"):
            source.open()
        if self._desk.order == order:
            (width, height), now = source.size, self._desk.clock.now()
            self._desk.post(CameraOpened(at=now, source=self._settings.source, width=width, height=height))

    def _use(self, source: Source, reading: Reading) -> None:
        now, self._due = self._desk.clock.now(), reading.due
        for trouble in reading.troubles:
            self._tell(trouble, now)
        if reading.pixels is not None and self._desk.is_new(reading.stamp):
            _check(reading.pixels, source)
            self._desk.hand_over(self._order, reading.pixels, now if reading.at is None else reading.at)
            self._recover(now)
        self._desk.pulse(last=reading.over)
        if reading.over:
            self._finish()

    def _tell(self, trouble: Trouble, now: Ns) -> None:
        if trouble.healed:
            self._desk.post(Healed(at=now, part="camera", code=trouble.code))
        else:
            self._desk.post(Faulted(at=now, part="camera", code=trouble.code, message=trouble.message))

    def _recover(self, now: Ns) -> None:
        if self._buggy:
            self._buggy = False
            self._desk.post(Healed(at=now, part="camera", code="camera_bug"))

    def _finish(self) -> None:
        self._settled = self._order.generation
        self._desk.post(CameraExhausted(at=self._desk.clock.now()))
        self._let_go()

    def _fail(self, order: Order, failure: CameraError) -> None:
        """Close and tell, once; the next order decides. A failure under an order that is over interests nobody."""
        try:
            self._drop()
        except CameraError as worse:
            failure = worse
        if self._desk.order != order:
            log.warning("camera: %s", failure)
            if self.retired:
                self._desk.closed()
            return
        self._settled = order.generation
        now = self._desk.clock.now()
        self._desk.post(CameraFailed(at=now, code=failure.code, message=str(failure), retriable=failure.retriable))

    def _drop(self) -> None:
        """Close the source, then darken the lamp; the lamp stays lit if the source does not say that it has closed.

        Raises:
            CameraError: if either fails.
        """
        source, self._source = self._source, None
        if source is None:
            return
        try:
            with self._call("close"):
                source.close()
        except CameraError as stuck:
            message = f"the camera may still be capturing: {stuck.message}"
            raise CameraError(message, code="camera_not_closed", remedy="restart the daemon") from stuck
        finally:
            with self._fate:
                self.empty.set()
            if self.retired:
                self._desk.find()
        self._desk.pulse(last=True)
        self._desk.light.leave()

    def _let_go(self) -> None:
        if self._source is not None:
            self._drop()
            self._desk.closed()

    def retire(self, now: Ns) -> bool:
        """Leave this thread behind in the call it hangs in; False if that has just returned. Called by the main thread."""
        with self._fate:
            calling = self.calling
            if self.empty.is_set() or calling is None or not self.hangs(now):
                return False
            self.retired = True
            self._desk.lose(calling[0])
        self.worker.stop(0.0)
        return True

    def reset(self) -> None:
        """After a bug: let everything go, so that the next step opens afresh."""
        self._buggy = True
        try:
            self._let_go()
        except CameraError as failure:
            log.error("camera: %s", failure)  # noqa: TRY400 - the bug's own traceback has just been logged

    @contextmanager
    def _call(self, doing: str) -> Iterator[None]:
        self.calling = (doing, self._desk.clock.now(), self._order)
        try:
            yield
        finally:
            self.calling = None

    def called_for(self, now: Ns) -> Ns:
        """How long the present call into the source has been under way."""
        calling = self.calling
        return Ns(0) if calling is None else Ns(now - calling[1])

    def hangs(self, now: Ns) -> bool:
        calling = self.calling
        limit = HUNG_OPEN if calling is not None and calling[0] == "open" else HUNG_CALL
        return self.called_for(now) >= limit

    def opens(self, order: Order, now: Ns) -> bool:
        """Whether `order` is just being carried out."""
        calling = self.calling
        return calling is not None and calling[0] == "open" and calling[2] == order and not self.hangs(now)


def _check(pixels: Pixels, source: Source) -> None:
    rgb = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype.name == "uint8" and pixels.flags.c_contiguous
    if not rgb or (source.live and pixels.shape[1::-1] != source.size):
        shape = "x".join(map(str, pixels.shape))
        raise CameraError(
            f"a frame of {shape} {pixels.dtype.name} where {source.size[0]}x{source.size[1]} RGB was agreed",
            code="camera_format",
            remedy="set camera.width and camera.height to a mode the camera has",
        )
