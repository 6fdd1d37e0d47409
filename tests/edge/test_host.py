"""What is known about the machine: clocks, time zone, memory, storage, temperature."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chappe.core.effects import SampleHost
from chappe.core.events import Event, HostSampled
from chappe.core.units import SECOND, Ns, WallNs
from chappe.edge.host import (
    Host,
    SystemClock,
    bytes_written,
    clock_synced,
    resident_bytes,
    soc_temperature,
    zone_offset,
)
from chappe.testing import ManualClock


def wall(year: int, month: int, day: int, hour: int = 12) -> WallNs:
    return WallNs(int(datetime(year, month, day, hour, tzinfo=UTC).timestamp()) * SECOND)


# ── clocks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_systems_clocks_are_those_of_the_kernel() -> None:
    """Monotonic time never runs back; wall time counts from 1970; both in nanoseconds."""
    clock = SystemClock()
    before = time.monotonic_ns(), time.time_ns()
    now, wall_now = clock.now(), clock.wall()
    after = time.monotonic_ns(), time.time_ns()
    assert before[0] <= now <= after[0]
    assert before[1] <= wall_now <= after[1]


def test_a_stamp_of_timesyncd_means_synchronised(tmp_path: Path) -> None:
    """Whatever the kernel's flag says."""
    stamp = tmp_path / "synchronized"
    stamp.touch()
    assert clock_synced(stamp) is True


@pytest.mark.parametrize(("state", "synced"), [(0, True), (4, True), (5, False), (-1, False)])
def test_without_a_stamp_the_kernels_flag_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: int, synced: bool
) -> None:
    """TIME_ERROR (5) is not synchronised; a call that a sandbox denies (-1) is not known to be."""

    class Library:
        def __init__(self, *_: object, **__: object) -> None:
            self.adjtimex: Callable[[object], int] = lambda _: state

    monkeypatch.setattr(ctypes, "CDLL", Library)
    assert clock_synced(tmp_path / "none") is synced


def test_a_system_without_that_call_is_not_known_to_be_synchronised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no error."""
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    assert clock_synced(tmp_path / "none") is False


def test_the_real_call_answers(tmp_path: Path) -> None:
    """On the machine of this test, whichever way."""
    assert clock_synced(tmp_path / "none") in (True, False)


# ── local time ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "moment", "offset"),
    [
        ("UTC", wall(2026, 11, 21), 0),
        ("Europe/Paris", wall(2026, 11, 21), 3600),
        ("Europe/Paris", wall(2026, 7, 1), 7200),
        ("Europe/Paris", wall(2026, 3, 29, 0), 3600),
        ("Europe/Paris", wall(2026, 3, 29, 1), 7200),
        ("America/New_York", wall(2026, 1, 1), -18_000),
        ("Asia/Kolkata", wall(2026, 1, 1), 19_800),
    ],
)
def test_the_offset_of_a_zone_follows_its_rules(name: str, moment: WallNs, offset: int) -> None:
    """Seconds east of UTC, winter and summer, to the second of the change."""
    assert zone_offset(name, moment) == offset


@pytest.mark.parametrize("name", ["Mars/Olympus", "../../etc/passwd", "/etc/localtime"])
def test_a_zone_that_does_not_exist_counts_as_utc(name: str) -> None:
    """A typing error costs local time, not the daemon; nothing outside the zones' folder is read."""
    assert zone_offset(name, wall(2026, 7, 1)) == 0


def test_without_a_name_it_is_the_systems_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As TZ or /etc/localtime say."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert zone_offset("", wall(2026, 7, 1)) == 19_800
    finally:
        monkeypatch.undo()
        time.tzset()


# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_memory_is_counted_in_bytes() -> None:
    """Touching 32 MiB is seen, to within 4 MiB."""
    before = resident_bytes()
    # Memory from the kernel: what the allocator has got back from an earlier test would not be new.
    with mmap.mmap(-1, 32 * 2**20) as block:
        for place in range(0, len(block), os.sysconf("SC_PAGE_SIZE")):
            block[place] = 1
        grown = resident_bytes() - before
    assert 28 * 2**20 < grown < 36 * 2**20


def test_writing_to_a_disk_is_counted(disk_tmp: Path) -> None:
    """A megabyte forced to storage is a megabyte written."""
    if not Path("/proc/self/io").exists():
        pytest.skip("this kernel does not count the bytes that a process writes")
    before = bytes_written()
    with (disk_tmp / "block").open("wb") as file:
        file.write(os.urandom(2**20))
        file.flush()
        os.fsync(file.fileno())
    assert bytes_written() - before >= 2**20


def test_what_proc_does_not_tell_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """No error where /proc is not mounted, or hides the file."""

    def hidden(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", hidden)
    assert (resident_bytes(), bytes_written()) == (0, 0)


@pytest.mark.parametrize(("text", "value"), [("48312\n", 48.312), ("-500", -0.5), ("warm", None), (None, None)])
def test_the_temperature_of_the_chip(tmp_path: Path, text: str | None, value: float | None) -> None:
    """Milli-degrees of the first thermal zone; nothing where there is none or it talks nonsense."""
    zone = tmp_path / "class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    if text is not None:
        (zone / "temp").write_text(text)
    assert soc_temperature(tmp_path) == value


def test_the_host_answers_once_for_all_who_asked(tmp_path: Path) -> None:
    """Two wishes in one batch are one look; an empty batch is none."""
    zone = tmp_path / "class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("50000")
    events: list[Event] = []
    host = Host(ManualClock(Ns(7)), events.append, tmp_path)
    host.open()
    host.handle([])
    assert events == []
    host.handle([SampleHost(), SampleHost()])
    host.close()
    (sample,) = events
    assert isinstance(sample, HostSampled)
    assert (sample.at, sample.temp_c) == (7, 50.0)
    assert sample.rss > 0
    assert sample.bytes_written >= 0
