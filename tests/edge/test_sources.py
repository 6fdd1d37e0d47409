"""Sources: the registry, and pictures from files."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from chappe.core.settings import Camera
from chappe.core.units import MILLISECOND, SECOND, Ns, Span
from chappe.edge.sources import Reading, Trouble, make, probe
from chappe.edge.sources import files as files_module
from chappe.edge.sources.files import FilesSource, decode
from chappe.edge.sources.pixels import turned, upright
from chappe.errors import CameraError
from chappe.testing import ManualClock

PERIOD = 100 * MILLISECOND


def picture(path: Path, level: int, size: tuple[int, int] = (32, 24)) -> Path:
    """A grey picture; its level tells it from the others."""
    Image.new("RGB", size, (level, level, level)).save(path)
    return path


def album(folder: Path, count: int) -> Path:
    """Pictures 0.png … whose level is ten times their number; written in the wrong order."""
    for number in reversed(range(count)):
        picture(folder / f"{number}.png", 10 * number)
    return folder


def camera(path: Path | str, **keys: object) -> Camera:
    return Camera(source="files", path=str(path), **keys)  # type: ignore[arg-type]


class Player:
    """Reads a source whenever it is due."""

    def __init__(self, settings: Camera) -> None:
        self.source = make(settings, ManualClock())
        self.now = Ns(0)
        self.readings: list[tuple[Ns, Reading]] = []
        self.source.open()

    def read(self, times: int = 1) -> Reading:
        for _ in range(times):
            reading = self.source.read(self.now)
            self.readings.append((self.now, reading))
            self.now = reading.due
        return reading

    @property
    def shown(self) -> list[tuple[float, int]]:
        """When which picture was shown: seconds, number."""
        return [(at / SECOND, int(one.pixels[0, 0, 0]) // 10) for at, one in self.readings if one.pixels is not None]

    @property
    def troubles(self) -> list[Trouble]:
        return [trouble for _, reading in self.readings for trouble in reading.troubles]


# ── registry ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("CAP-01", breaks="chappe.edge.sources:make")
@pytest.mark.parametrize("source", ["files", "v4l2", "picamera2"])
def test_every_camera_is_behind_the_one_interface(source: str) -> None:
    """Made without touching a device or a library: nothing is open, and closing it is no error."""
    made = make(Camera(source=source), ManualClock())  # type: ignore[arg-type]
    assert {"open", "read", "close", "probe", "size", "live"} <= set(dir(made))
    made.close()
    made.close()


@pytest.mark.feature("CAP-01", breaks="chappe.edge.sources:make")
def test_no_camera_library_is_imported_before_a_camera_is_opened() -> None:
    """Edge, registry and all three sources: neither numpy nor a library of pictures or cameras."""
    program = (
        "import sys; from chappe.core.settings import Camera; from chappe.edge.camera import CameraEdge\n"
        "from chappe.edge.sources import make; from chappe.edge.host import SystemClock; import chappe.edge.sight\n"
        "[make(Camera(source=name), SystemClock()).live for name in ('files', 'v4l2', 'picamera2')]\n"
        "print(sorted({'numpy', 'PIL', 'cv2', 'av', 'picamera2', 'libcamera'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (found.stdout.strip(), found.stderr) == ("[]", "")


def test_off_is_no_source() -> None:
    """Nothing to make, nothing to complain about."""
    probe(Camera(source="off"))
    with pytest.raises(CameraError, match="no camera is configured") as failure:
        make(Camera(source="off"), ManualClock())
    assert not failure.value.retriable


# ── order and pace ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("CAP-01", breaks="chappe.edge.sources.files:FilesSource._advance")
def test_eight_pictures_at_ten_hertz_are_eight_frames_in_order_of_name(tmp_path: Path) -> None:
    """The last 0.7 s after the first; then it is over, and stays over."""
    player = Player(camera(album(tmp_path, 8), rate_hz=10.0, loop=False))
    player.read(10)
    assert player.shown == [(n / 10, n) for n in range(8)]
    assert [reading.over for _, reading in player.readings] == [False] * 8 + [True, True]


@pytest.mark.feature("CAP-01", breaks="chappe.edge.sources.files:FilesSource._listed")
def test_after_the_last_picture_the_first_comes_again(tmp_path: Path) -> None:
    """Frame 9 of a loop is file 1."""
    player = Player(camera(album(tmp_path, 8), rate_hz=10.0))
    player.read(9)
    assert player.shown[8] == (0.8, 0)


def test_a_picture_can_be_held(tmp_path: Path) -> None:
    """For one second at 10 Hz: ten frames of each, the same array each time."""
    player = Player(camera(album(tmp_path, 3), rate_hz=10.0, hold=Span(SECOND), loop=False))
    player.read(31)
    assert [number for _, number in player.shown] == [0] * 10 + [1] * 10 + [2] * 10
    assert player.readings[0][1].pixels is player.readings[9][1].pixels
    assert player.readings[30][1].over


def test_a_hold_that_is_no_whole_number_of_frames_is_right_on_the_average(tmp_path: Path) -> None:
    """250 ms at 10 Hz: three frames and two in turn."""
    player = Player(camera(album(tmp_path, 4), rate_hz=10.0, hold=Span(250 * MILLISECOND), loop=False))
    player.read(10)
    assert [number for _, number in player.shown] == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]


def test_a_hold_shorter_than_a_frame_shows_every_picture_once(tmp_path: Path) -> None:
    """No picture is left out."""
    player = Player(camera(album(tmp_path, 5), rate_hz=10.0, hold=Span(MILLISECOND), loop=False))
    player.read(5)
    assert [number for _, number in player.shown] == [0, 1, 2, 3, 4]


@given(rate_hz=st.floats(0.1, 120.0), hold_ms=st.none() | st.integers(0, 2000), frames=st.integers(1, 60))
def test_the_same_times_show_the_same_pictures(
    tmp_path_factory: pytest.TempPathFactory, rate_hz: float, hold_ms: int | None, frames: int
) -> None:
    """What is shown follows from the times of reading alone, and every picture comes before the next."""
    folder = tmp_path_factory.getbasetemp() / "album"
    if not folder.exists():
        folder.mkdir()
        album(folder, 5)
    hold = None if hold_ms is None else Span(hold_ms * MILLISECOND)
    once, again = (Player(camera(folder, rate_hz=rate_hz, hold=hold)) for _ in range(2))
    once.read(frames)
    again.read(frames)
    assert once.shown == again.shown
    numbers = [number for _, number in once.shown]
    assert all(after in (before, (before + 1) % 5) for before, after in pairwise(numbers))


def test_a_delay_rushes_past_no_picture(tmp_path: Path) -> None:
    """Read half a second late: the next picture is shown then, and the beat goes on from there."""
    player = Player(camera(album(tmp_path, 8), rate_hz=10.0, loop=False))
    player.read(2)
    player.now = Ns(player.now + 5 * PERIOD)
    player.read(6)
    assert player.shown == [(0.0, 0), (0.1, 1), *(((7 + n) / 10, 2 + n) for n in range(6))]


# ── where pictures come from ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_pattern_a_folder_and_a_single_picture(tmp_path: Path) -> None:
    """In a folder only what looks like a picture counts."""
    album(tmp_path, 4)
    (tmp_path / "README.md").write_text("not a picture", encoding="utf-8")
    (tmp_path / "more.png").mkdir()
    for path, numbers in [(tmp_path, [0, 1, 2, 3]), (tmp_path / "[13].png", [1, 3]), (tmp_path / "2.png", [2])]:
        player = Player(camera(path, loop=False))
        player.read(len(numbers) + 1)
        assert [number for _, number in player.shown] == numbers
        assert player.troubles == []


@pytest.mark.feature("CAP-01", breaks="chappe.edge.sources.files:FilesSource._listed")
@pytest.mark.parametrize("name", ["", "nowhere", "*.png"])
def test_no_pictures_is_a_missing_camera_and_the_place_is_named(tmp_path: Path, name: str) -> None:
    """An empty folder, one that is not there, and a pattern that fits nothing; the probe says the same."""
    settings = camera(tmp_path / name)
    for attempt in (lambda: Player(settings), lambda: probe(settings)):
        with pytest.raises(CameraError) as failure:
            attempt()
        assert failure.value.code == "camera_missing"
        assert str(tmp_path / name) in failure.value.message
        assert failure.value.remedy


def test_no_path_is_said_as_such() -> None:
    """Trying again would not help."""
    with pytest.raises(CameraError, match=r"camera\.path names no pictures") as failure:
        Player(camera(""))
    assert not failure.value.retriable


def test_a_folder_that_becomes_empty_is_a_missing_camera(tmp_path: Path) -> None:
    """Found at the next round, as is a new picture."""
    player = Player(camera(album(tmp_path, 2)))
    player.read(2)
    picture(tmp_path / "5.png", 50)
    player.read(3)
    assert [number for _, number in player.shown] == [0, 1, 0, 1, 5]
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(CameraError) as failure:
        player.read()
    assert failure.value.code == "camera_missing"


def test_a_folder_that_may_not_be_read_is_a_missing_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said with the system's reason."""

    def denied(self: Path) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(CameraError, match="Permission denied") as failure:
        Player(camera(tmp_path))
    assert failure.value.code == "camera_missing"


def test_a_probe_leaves_nothing_open(tmp_path: Path) -> None:
    """It decodes one picture to see that it can, and forgets it."""
    source = FilesSource(camera(album(tmp_path, 2)), ManualClock())
    source.probe()
    assert source.size == (32, 24)
    assert source._shelf._pictures == {}


# ── pictures that cannot be read ─────────────────────────────────────────────────────────────────────────────────────


def test_an_unreadable_picture_is_skipped_and_named_once(tmp_path: Path) -> None:
    """Its place in time is taken by the next one; in the second round it is not named again."""
    album(tmp_path, 3)
    (tmp_path / "1.png").write_bytes(b"this is no picture")
    player = Player(camera(tmp_path, rate_hz=10.0))
    player.read(6)
    assert player.shown == [(0.0, 0), (0.1, 2), (0.2, 0), (0.3, 2), (0.4, 0), (0.5, 2)]
    (trouble,) = player.troubles
    assert trouble.code == "camera_picture"
    assert str(tmp_path / "1.png") in trouble.message
    assert not trouble.healed


@pytest.mark.parametrize("repair", [lambda path: picture(path, 10), Path.unlink], ids=["corrected", "removed"])
def test_a_picture_that_is_right_again_or_gone_is_healed(tmp_path: Path, repair: object) -> None:
    """Noticed in the next round."""
    bad = album(tmp_path, 3) / "1.png"
    bad.write_bytes(b"")
    player = Player(camera(tmp_path))
    player.read(2)
    repair(bad)  # type: ignore[operator]
    player.read(3)
    assert [(trouble.code, trouble.healed) for trouble in player.troubles] == [
        ("camera_picture", False),
        ("camera_picture", True),
    ]


def test_when_no_picture_can_be_read_the_camera_has_failed(tmp_path: Path) -> None:
    """At opening, and in a later round; the first reason is given."""
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(b"broken")
    with pytest.raises(CameraError, match=r"0\.png") as failure:
        Player(camera(tmp_path))
    assert failure.value.code == "camera_format"
    album(tmp_path, 2)
    player = Player(camera(tmp_path))
    player.read(2)
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(b"broken")
    with pytest.raises(CameraError) as failure:
        player.read()
    assert failure.value.code == "camera_format"


def test_the_last_pictures_may_be_the_unreadable_ones(tmp_path: Path) -> None:
    """Without a loop it is over then; with one, the first comes again at once."""
    album(tmp_path, 3)
    (tmp_path / "2.png").write_bytes(b"broken")
    once, again = (Player(camera(tmp_path, loop=loop)) for loop in (False, True))
    assert once.read(3).over
    again.read(3)
    assert [number for _, number in again.shown] == [0, 1, 0]
    assert len(once.troubles) == len(again.troubles) == 1


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("keep", [0, 1, 8, 60, 200])
def test_a_truncated_picture_is_unreadable_and_nothing_worse(tmp_path: Path, keep: int) -> None:
    """Wherever the file ends."""
    noise = np.random.default_rng(1).integers(0, 256, (24, 32, 3), np.uint8)
    for suffix in ("png", "jpg", "gif", "bmp", "webp", "tif"):
        path = tmp_path / f"whole.{suffix}"
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(CameraError) as failure:
            decode(path)
        assert failure.value.code == "camera_picture"
        assert str(path) in failure.value.message


# ── decoding ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    """White stays white and black black: three channels of eight bits, contiguous, not to be written into."""
    path = tmp_path / f"picture.{'tif' if mode in ('CMYK', 'PA', 'I') else 'png'}"
    image = Image.new("L", (4, 2), 0)
    image.paste(255, (2, 0, 4, 2))
    if mode.startswith("I"):
        levels = np.where(np.asarray(image) > 0, 65535, 0)
        image = Image.fromarray(levels.astype(np.uint16 if mode == "I;16" else np.int32))
    else:
        image = image.convert("RGB").convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    if mode == "PA":
        image = image.convert("LA")
    image.save(path)
    pixels = decode(path)
    assert pixels.shape == (2, 4, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert not pixels.flags.writeable
    assert pixels[:, :2].max() == 0
    assert pixels[:, 2:].min() == 255


def test_sixteen_bits_of_grey_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    """A quarter of the light is a quarter of the light."""
    Image.fromarray(np.full((2, 2), 0x4000, np.uint16)).save(tmp_path / "dim.png")
    assert decode(tmp_path / "dim.png").flatten().tolist() == [0x40] * 12


def corner(path: Path, **save: object) -> None:
    """A black picture, 3 wide and 2 high, its top left pixel red."""
    image = Image.new("RGB", (3, 2))
    image.putpixel((0, 0), (255, 0, 0))
    image.save(path, **save)  # type: ignore[arg-type]


def red_at(pixels: np.ndarray) -> tuple[int, int]:
    row, column = np.argwhere((pixels == (255, 0, 0)).all(axis=2))[0]
    return int(row), int(column)


@pytest.mark.parametrize(
    ("rotate", "shape", "red"),
    [(0, (2, 3), (0, 0)), (90, (3, 2), (0, 1)), (180, (2, 3), (1, 2)), (270, (3, 2), (2, 0))],
)
def test_rotation_is_clockwise(tmp_path: Path, rotate: int, shape: tuple[int, int], red: tuple[int, int]) -> None:
    """By the configuration; the frame's size turns with it, and is known from the opening on."""
    corner(tmp_path / "a.png")
    player = Player(camera(tmp_path, rotate=rotate))
    pixels = player.read().pixels
    assert pixels is not None
    assert pixels.shape[:2] == shape
    assert pixels.flags.c_contiguous
    assert red_at(pixels) == red
    assert player.source.size == shape[::-1] == turned((3, 2), rotate)


def test_a_photograph_stands_upright_by_its_exif_orientation(tmp_path: Path) -> None:
    """Orientation 6: the camera was turned, so the picture is turned a quarter clockwise; then the configuration's turn."""
    exif = Image.Exif()
    exif[0x0112] = 6
    corner(tmp_path / "a.png", exif=exif)
    assert red_at(decode(tmp_path / "a.png")) == (0, 1)
    assert red_at(decode(tmp_path / "a.png", rotate=270)) == (0, 0)


def test_an_upright_copy_is_contiguous() -> None:
    """Also of a picture that is only turned by nothing."""
    strided = np.zeros((4, 6, 3), np.uint8)[:, ::2]
    assert upright(strided, 0).flags.c_contiguous


# ── not decoding again ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures that were really decoded."""
    names: list[str] = []

    def watched(path: Path, rotate: int = 0) -> object:
        names.append(path.stem)
        return decode(path, rotate)

    monkeypatch.setattr(files_module, "decode", watched)
    return names


def test_a_loop_decodes_each_picture_once(tmp_path: Path, decoded: list[str]) -> None:
    """Opening included."""
    Player(camera(album(tmp_path, 4))).read(40)
    assert decoded == ["0", "1", "2", "3"]


def test_a_picture_that_was_replaced_is_decoded_again(tmp_path: Path, decoded: list[str]) -> None:
    """Another size or another time of change is another picture."""
    player = Player(camera(album(tmp_path, 2)))
    player.read(2)
    picture(tmp_path / "0.png", 70, size=(64, 48))
    player.read(2)
    assert decoded == ["0", "1", "0"]
    assert player.shown[2][1] == 7


def test_decoded_pictures_are_kept_within_a_limit(
    tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for two of three: the least recently shown goes first; one that is larger than the limit is not kept at all."""
    monkeypatch.setattr(files_module, "CACHE_BYTES", 2 * 32 * 24 * 3)
    player = Player(camera(album(tmp_path, 3)))
    player.read(6)
    assert decoded == ["0", "1", "2", "0", "1", "2"]
    shelf = player.source._shelf  # type: ignore[attr-defined]
    assert shelf._bytes == 2 * 32 * 24 * 3 == sum(one.nbytes for one in shelf._pictures.values())
    picture(tmp_path / "9.png", 90, size=(320, 240))
    player.read(4)
    assert player.shown[-1][1] == 9
    assert len(shelf._pictures) == 2


def test_a_picture_that_vanishes_between_listing_and_reading_is_skipped(tmp_path: Path) -> None:
    """It is named with the system's reason, and healed as it is no longer listed."""
    player = Player(camera(album(tmp_path, 3)))
    (tmp_path / "1.png").unlink()
    player.read(4)
    assert [number for _, number in player.shown] == [0, 2, 0, 2]
    assert [(trouble.healed, "No such file" in trouble.message) for trouble in player.troubles] == [
        (False, True),
        (True, False),
    ]
