"""Cameras behind one interface. A source knows one library; it is imported when the camera is opened, and not before.

A new source is one module here with a class that fulfils `Source`, and one line in `_SOURCES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from chappe.core.settings import Camera
from chappe.core.units import Ns
from chappe.edge.host import Clock, SystemClock
from chappe.errors import CameraError

if TYPE_CHECKING:
    from chappe.edge.slot import Pixels


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something is wrong (or right again) that does not end the capture, for example one unreadable picture.

    Attributes:
        code: fault code.
        message: what is wrong, and where.
        healed: True when it is over.
    """

    code: str
    message: str = ""
    healed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What one `Source.read` brought.

    Attributes:
        due: when to read again; `now` or earlier means at once, because the next read itself waits for the device.
        pixels: (H, W, 3) uint8 RGB, C-contiguous and upright; None if there is nothing new.
        at: when the frame was captured, None for "just now".
        stamp: the sensor's own mark of the buffer; the same mark twice is the same frame twice, and counts once.
            Contents are not compared: a still picture, or a dark room, is no fault.
        over: the last frame has been shown; nothing will follow.
        troubles: what went wrong, or right again, on the way.
    """

    due: Ns
    pixels: Pixels | None = None
    at: Ns | None = None
    stamp: int | None = None
    over: bool = False
    troubles: tuple[Trouble, ...] = ()


class Source(Protocol):
    """A place that frames come from. Used by one thread; only the constructor and `probe` may be called elsewhere."""

    @property
    def live(self) -> bool:
        """Whether it sees the world: then a privacy lamp is needed, and every frame has the same size."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the (first) frame, upright; known once open."""

    def open(self) -> None:
        """Acquire the device.

        Raises:
            CameraError: if that fails; nothing is held then.
        """

    def read(self, now: Ns) -> Reading:
        """The next frame, or nothing new; a live source waits for it, but not much longer than a second.

        Raises:
            CameraError: if the device has failed or has gone; it is to be closed then.
        """

    def close(self) -> None:
        """Let the device go; idempotent.

        Raises:
            CameraError: if the device did not let itself be closed, so that it may be capturing still.
        """

    def probe(self) -> None:
        """Say whether it could be opened, without taking a frame.

        Raises:
            CameraError: if not; names the reason and the remedy.
        """


_SOURCES = {
    "files": "chappe.edge.sources.files:FilesSource",
    "v4l2": "chappe.edge.sources.v4l2:V4l2Source",
    "picamera2": "chappe.edge.sources.picamera2:Picamera2Source",
}


def make(settings: Camera, clock: Clock) -> Source:
    """The configured source, not yet open.

    Raises:
        CameraError: if there is none (``off``).
    """
    if settings.source not in _SOURCES:
        raise CameraError(
            "no camera is configured",
            code="camera_off",
            retriable=False,
            remedy='set camera.source, for example to "v4l2"',
        )
    module, _, name = _SOURCES[settings.source].partition(":")
    build = cast("Callable[[Camera, Clock], Source]", getattr(importlib.import_module(module), name))
    return build(settings, clock)


def probe(settings: Camera) -> None:
    """Whether the configured camera could be opened; ``off`` always can be.

    Raises:
        CameraError: if not; names the reason and the remedy.
    """
    if settings.source != "off":
        make(settings, SystemClock()).probe()
