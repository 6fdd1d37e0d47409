"""Pictures from a folder, played like a camera: for trying out, for demos and for tests. Decoded with Pillow."""

from __future__ import annotations

import glob
from collections import OrderedDict, deque
from pathlib import Path
from typing import TYPE_CHECKING

from chappe.core.settings import Camera
from chappe.core.units import Ns, seconds
from chappe.edge.host import Clock
from chappe.edge.slot import Grid
from chappe.edge.sources import Reading, Trouble
from chappe.edge.sources.pixels import Size, upright
from chappe.errors import CameraError

if TYPE_CHECKING:
    from chappe.edge.slot import Pixels

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))
CACHE_BYTES = 16 * 1024 * 1024
REMEDY = "put pictures there, or set camera.path to a folder, a picture or a pattern"


class FilesSource:
    """Plays the pictures of a folder or a pattern in order of name, each for one frame or for ``hold``.

    The folder is listed anew at each round, so pictures may come and go. A picture that cannot be read is skipped and named
    once; when it can be read again, or is gone, that is healed.

    Args:
        settings: the section ``[camera]``: path, loop, hold, rate_hz and rotate count.
        clock: not needed here, as pictures are older than the clock.
    """

    live = False

    def __init__(self, settings: Camera, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._shelf = _Shelf(settings.rotate, CACHE_BYTES)
        self._queue: deque[Path] = deque()
        self._bad: dict[Path, str] = {}
        self._grid: Grid | None = None
        self._held: Pixels | None = None
        self._frame = 0
        self._shown = 0
        self.size: Size = (0, 0)

    def open(self) -> None:
        """List the pictures and decode the first that can be read.

        Raises:
            CameraError: if there is none.
        """
        paths = self._listed()
        self._queue.extend(paths)
        reasons = []
        for path in paths:
            try:
                pixels = self._shelf.picture(path)
            except CameraError as bad:
                reasons.append(bad.message)
            else:
                self.size = (pixels.shape[1], pixels.shape[0])
                return
        raise _none_readable(self._settings.path, reasons[0])

    def read(self, now: Ns) -> Reading:
        """The picture whose turn it is.

        Raises:
            CameraError: if a new round finds no picture, or none that can be read.
        """
        if self._grid is None:
            self._grid = Grid(self._settings.rate_hz, now)
        troubles: list[Trouble] = []
        if self._shown <= self._turn():
            self._held = self._advance(troubles)
            self._shown += 1
        return Reading(due=self._next(now), pixels=self._held, over=self._held is None, troubles=tuple(troubles))

    def close(self) -> None:
        self._queue.clear()
        self._bad.clear()
        self._shelf.clear()
        self._grid, self._held, self._frame, self._shown = None, None, 0, 0

    def probe(self) -> None:
        try:
            self.open()
        finally:
            self.close()

    def _turn(self) -> int:
        """Number of the picture that belongs to the present frame, from 0. One frame each, unless they are held longer."""
        hold = self._settings.hold
        if hold is None or hold * self._settings.rate_hz <= seconds(1):
            return self._frame
        return Grid(self._settings.rate_hz, Ns(0)).at(self._frame) // hold

    def _next(self, now: Ns) -> Ns:
        """When the next frame is due; after a delay the beat starts anew, so that no picture is rushed past."""
        assert self._grid is not None
        self._frame += 1
        due = self._grid.at(self._frame)
        if due <= now:
            self._grid = Grid(self._settings.rate_hz, Ns(now - Grid(self._settings.rate_hz, Ns(0)).at(self._frame - 1)))
            due = self._grid.at(self._frame)
        return due

    def _advance(self, troubles: list[Trouble]) -> Pixels | None:
        """The next picture that can be read; None after the last one."""
        for _ in range(2):  # what is left of this round, then one whole new round: who fails twice has nothing to show
            while self._queue:
                pixels = self._try(self._queue.popleft(), troubles)
                if pixels is not None:
                    return pixels
            if not self._settings.loop:
                return None
            self._queue.extend(self._listed())
            self._forget(troubles, self._bad.keys() - set(self._queue))
        raise _none_readable(self._settings.path, next(iter(self._bad.values())))

    def _try(self, path: Path, troubles: list[Trouble]) -> Pixels | None:
        try:
            pixels = self._shelf.picture(path)
        except CameraError as bad:
            if path not in self._bad:
                troubles.append(Trouble("camera_picture", bad.message))
            self._bad[path] = bad.message
            return None
        self._forget(troubles, {path})
        return pixels

    def _forget(self, troubles: list[Trouble], paths: set[Path]) -> None:
        had = bool(self._bad)
        for path in paths:
            self._bad.pop(path, None)
        if had and not self._bad:
            troubles.append(Trouble("camera_picture", healed=True))

    def _listed(self) -> list[Path]:
        where = self._settings.path
        if not where:
            raise CameraError("camera.path names no pictures", code="camera_missing", retriable=False, remedy=REMEDY)
        try:
            paths = sorted(path for path in _found(where) if path.is_file())
        except OSError as denied:
            raise CameraError(f"{where}: {denied.strerror}", code="camera_missing", remedy=REMEDY) from denied
        if not paths:
            raise CameraError(f"no pictures in {where}", code="camera_missing", remedy=REMEDY)
        return paths


def _found(where: str) -> list[Path]:
    """In a folder what looks like a picture (a README beside them is no fault), by a pattern whatever it matches."""
    folder = Path(where)
    if folder.is_dir():
        return [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    return [Path(name) for name in glob.glob(where)]  # noqa: PTH207 - Path.glob wants the fixed part and the pattern apart


def _none_readable(where: str, reason: str) -> CameraError:
    return CameraError(f"no picture in {where} can be read: {reason}", code="camera_format", remedy=REMEDY)


def _unreadable(path: Path, reason: object) -> CameraError:
    return CameraError(f"{path}: {reason}", code="camera_picture")


class _Shelf:
    """Decoded pictures, the least recently used thrown out first, so that a looping demo does not decode for ever."""

    def __init__(self, rotate: int, limit: int) -> None:
        self._rotate = rotate
        self._limit = limit
        self._bytes = 0
        self._pictures: OrderedDict[tuple[Path, int, int], Pixels] = OrderedDict()

    def picture(self, path: Path) -> Pixels:
        """The picture at `path`, decoded anew only if the file has changed."""
        try:
            stat = path.stat()
        except OSError as gone:
            raise _unreadable(path, gone.strerror) from gone
        key = (path, stat.st_mtime_ns, stat.st_size)
        if key in self._pictures:
            self._pictures.move_to_end(key)
            return self._pictures[key]
        pixels = decode(path, self._rotate)
        if pixels.nbytes <= self._limit:
            self._keep(key, pixels)
        return pixels

    def _keep(self, key: tuple[Path, int, int], pixels: Pixels) -> None:
        self._pictures[key] = pixels
        self._bytes += pixels.nbytes
        while self._bytes > self._limit:
            self._bytes -= self._pictures.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        self._pictures.clear()
        self._bytes = 0


def decode(path: Path, rotate: int = 0) -> Pixels:
    """The picture at `path`, upright by its EXIF orientation, then turned clockwise by `rotate` degrees.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous, read-only, because it may be shown many times.

    Raises:
        CameraError: if it cannot be decoded.
    """
    from chappe.vision import picture

    try:
        pixels = upright(picture.decode(path.read_bytes(), name=path.name), rotate)
    except OSError as reason:  # EdgeError is one, too
        raise _unreadable(path, reason) from reason
    pixels.setflags(write=False)
    return pixels
