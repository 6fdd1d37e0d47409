"""USB cameras through OpenCV's V4L2 back-end.

Why OpenCV and not PyAV: it is the cheaper of the two to import (34 against 87 CPU-ms, 16 against 18 MiB) and to decode with
(0.7 against 1.1 CPU-ms for 640x480 MJPEG), vision may already have it in memory, and its wait for a frame can be bounded,
where libavdevice blocks in ``VIDIOC_DQBUF`` until the kernel has a frame, or for ever.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from chappe.core.settings import Camera
from chappe.core.units import MILLISECOND, Ns, seconds
from chappe.edge.host import Clock
from chappe.edge.sources import Reading
from chappe.edge.sources.pixels import Size, turned, upright
from chappe.errors import CameraError

BUFFERS = 2
"""Kernel buffers: one being filled, one being read. OpenCV's own four would hand out a picture up to four frames old."""

WAIT_S = "1"
"""Longest wait for a frame, whole seconds as OpenCV wants it (ten by default: longer than a stall)."""

BREATH = 100 * MILLISECOND
"""Pause after a read that brought nothing, as a broken device may say so at once each time."""


class V4l2Source:
    """A camera at a device path: MJPEG, its size and rate asked for and read back, only the newest frame decoded.

    Every frame of the device is taken out of the kernel, so that none grows old there; only those that are due are decoded.

    Args:
        settings: the section ``[camera]``: device, width, height, rate_hz and rotate count.
        clock: stamps the frames.
    """

    live = True

    def __init__(self, settings: Camera, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._period = seconds(1 / settings.rate_hz)
        self._capture: Any = None
        self._due: Ns | None = None
        self.size: Size = (settings.width, settings.height)

    def open(self) -> None:
        """Open the device and ask for the configured mode.

        Raises:
            CameraError: if it is not there, in use, or OpenCV is not installed.
        """
        self.probe()
        cv2 = _library()
        self._capture = cv2.VideoCapture(self._settings.device, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            self.close()
            raise CameraError(
                f"{self._settings.device} cannot be opened as a camera",
                remedy="close the program that uses it, or set camera.device to another one of `v4l2-ctl --list-devices`",
            )
        self._ask(cv2)
        self._due = None

    def _ask(self, cv2: Any) -> None:
        """Ask for the mode, then believe what the driver says: it may have chosen another size."""
        wishes = (
            (cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*"MJPG")),
            (cv2.CAP_PROP_FRAME_WIDTH, self._settings.width),
            (cv2.CAP_PROP_FRAME_HEIGHT, self._settings.height),
            (cv2.CAP_PROP_FPS, self._settings.rate_hz),
            (cv2.CAP_PROP_BUFFERSIZE, BUFFERS),
        )
        for key, value in wishes:
            self._capture.set(key, value)
        width, height = (int(self._capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        self.size = turned((width, height), self._settings.rotate)

    def read(self, now: Ns) -> Reading:
        """The next frame of the device, decoded if it is due.

        Raises:
            CameraError: if the device has gone, or OpenCV gives up on it.
        """
        cv2 = _library()
        try:
            if self._capture.grab():
                return self._grabbed(cv2)
        except cv2.error as failure:
            raise CameraError(f"{self._settings.device} failed: {failure}") from failure
        self._require_device()
        return Reading(due=Ns(now + BREATH))

    def _grabbed(self, cv2: Any) -> Reading:
        at = self._clock.now()
        return self._decoded(cv2, at) if self._is_due(at) else Reading(due=at)

    def _is_due(self, at: Ns) -> bool:
        """Keeps to `rate_hz` on the average, and takes a frame that is up to a quarter of a period early for punctual."""
        if self._due is None or at - self._due >= self._period:
            self._due = at
        if at + self._period // 4 < self._due:
            return False
        self._due = Ns(self._due + self._period)
        return True

    def _decoded(self, cv2: Any, at: Ns) -> Reading:
        stamp = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1000)
        taken, bgr = self._capture.retrieve()
        if not taken:
            return Reading(due=at)
        pixels = upright(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), self._settings.rotate)
        return Reading(due=at, pixels=pixels, at=at, stamp=stamp or None)

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
        self._capture = None

    def probe(self) -> None:
        self._require_device()
        if not os.access(self._settings.device, os.R_OK | os.W_OK):
            raise CameraError(
                f"{self._settings.device} may not be used by this user",
                remedy="add the user to the group of the device: `sudo usermod -aG video $USER`",
            )
        _library()

    def _require_device(self) -> None:
        if not Path(self._settings.device).exists():
            raise CameraError(
                f"there is no camera at {self._settings.device}",
                code="camera_missing",
                remedy="plug it in, or set camera.device to one of `v4l2-ctl --list-devices`",
            )


def _library() -> Any:
    # Read by OpenCV once, at its first wait; without it a silent device holds the thread for ten seconds.
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", WAIT_S)
    try:
        import cv2
    except ImportError as missing:
        raise CameraError(
            f"USB cameras need OpenCV: {missing}",
            code="camera_missing",
            retriable=False,
            remedy="pip install 'chappe[cv]', or sudo apt install python3-opencv",
        ) from missing
    return cv2
