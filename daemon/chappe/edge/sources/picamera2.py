"""The Raspberry Pi camera through Picamera2, which comes from apt and is imported when the camera is opened.

What is asked for is only a wish: a pipeline may silently change format and size, and may ignore the frame rate. So what
``camera_configuration()`` says afterwards is what counts, and frames are paced here as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chappe.core.settings import Camera
from chappe.core.units import MICROSECOND, Ns, seconds
from chappe.edge.host import Clock
from chappe.edge.sources import Reading
from chappe.edge.sources.pixels import Size, to_rgb, turned, upright
from chappe.errors import CameraError

WAIT_S = 1.0
BUFFERS = 4
APT = "sudo apt install python3-picamera2, and a venv made with --system-site-packages"
CABLE = "check the ribbon cable and `rpicam-hello --list-cameras`"

# What picamera2 and libcamera raise when a device says no; TimeoutError is an OSError and is caught before.
_FAILURES = (RuntimeError, OSError, LookupError, ValueError, AttributeError)


class Picamera2Source:
    """A camera on the ribbon cable: main stream as RGB at the configured size, and the small copy its ISP makes for nothing.

    Args:
        settings: the section ``[camera]``: width, height, rate_hz and rotate count.
        clock: stamps the frames.
    """

    live = True

    def __init__(self, settings: Camera, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._period = seconds(1 / settings.rate_hz)
        self._camera: Any = None
        self._job: Any = None
        self._format = ""
        self._main: Size = (settings.width, settings.height)
        self._pause = self._period
        self._due: Ns | None = None

    @property
    def size(self) -> Size:
        return turned(self._main, self._settings.rotate)

    def open(self) -> None:
        """Open the first camera, configure and start it.

        Raises:
            CameraError: if picamera2 or the camera is missing, or it cannot be configured.
        """
        library = _library()
        _require_camera(library)
        try:
            self._camera = library.Picamera2()
            self._configure()
            self._camera.start()
        except _FAILURES as failure:
            self.close()
            raise CameraError(f"the camera cannot be opened: {reasons(failure)}", remedy=CABLE) from failure

    def _configure(self) -> None:
        limits = self._camera.camera_controls.get("FrameDurationLimits")
        wanted = self._period // MICROSECOND
        paced = limits is not None and limits[0] <= wanted <= limits[1]
        size = (self._settings.width, self._settings.height)
        wish = self._camera.create_preview_configuration(
            main={"size": size, "format": "BGR888"},
            lores={"size": (size[0] // 4 * 2, size[1] // 4 * 2), "format": "YUV420"},
            buffer_count=BUFFERS,
            display=None,
            encode=None,
            controls={"FrameDurationLimits": (wanted, wanted)} if paced else {},
        )
        self._camera.configure(wish)
        main = self._camera.camera_configuration()["main"]
        self._format, self._main = str(main["format"]), (int(main["size"][0]), int(main["size"][1]))
        # A camera that keeps the rate is asked a little early, so that the read waits for its frame; any other is asked
        # on the beat and answers with its newest.
        self._pause = Ns(self._period * 9 // 10) if paced else self._period
        self._due = None

    def read(self, now: Ns) -> Reading:
        """The newest frame the camera has, or its next one.

        Raises:
            CameraError: if the camera fails, or delivers a format that is none of the five.
        """
        try:
            request = self._request()
            if request is None:
                return Reading(due=now)
            at = self._clock.now()
            try:
                buffer = request.make_array("main")
                stamp = request.get_metadata().get("SensorTimestamp")
            finally:
                request.release()
        except _FAILURES as failure:
            raise CameraError(f"the camera failed: {reasons(failure)}", remedy=CABLE) from failure
        pixels = upright(to_rgb(buffer, self._format, self._main), self._settings.rotate)
        return Reading(due=self._next(at), pixels=pixels, at=at, stamp=stamp)

    def _request(self) -> Any:
        """A completed request, or None if none has come within a second; the same question stays open until it is answered."""
        if self._job is None:
            self._job = self._camera.capture_request(wait=False)
        try:
            request = self._job.get_result(timeout=WAIT_S)
        except TimeoutError:
            return None
        self._job = None
        return request

    def _next(self, at: Ns) -> Ns:
        """When to ask again: on a beat that neither drifts nor hurries to catch up."""
        if self._due is None or at - self._due >= self._period:
            self._due = at
        due = Ns(self._due + self._pause)
        self._due = Ns(self._due + self._period)
        return due

    def close(self) -> None:
        camera, self._camera, self._job = self._camera, None, None
        if camera is None:
            return
        try:
            camera.close()
        except _FAILURES as failure:
            raise CameraError(f"the camera did not close: {reasons(failure)}") from failure

    def probe(self) -> None:
        _require_camera(_library())


def _library() -> Any:
    try:
        import picamera2
    except (ImportError, ValueError) as missing:  # ValueError: numpy of pip beside libraries of apt built for another
        raise CameraError(
            f"picamera2 is not there: {reasons(missing)}", code="camera_missing", retriable=False, remedy=APT
        ) from missing
    return picamera2


def _require_camera(library: Any) -> None:
    if not library.Picamera2.global_camera_info():
        raise CameraError("libcamera finds no camera", code="camera_missing", remedy=CABLE)


def reasons(failure: BaseException) -> str:
    """An exception with everything that led to it, outermost first.

    Picamera2's constructor always fails with the same sentence; what happened is behind it.
    """
    return " <- ".join(f"{type(one).__name__}: {one}" for one in _chain(failure))


def _chain(failure: BaseException | None) -> Iterator[BaseException]:
    while failure is not None:
        yield failure
        failure = failure.__cause__ or failure.__context__
