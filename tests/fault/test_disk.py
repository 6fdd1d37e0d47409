"""A disk that is full, and one that loses its power."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import NIGHTLY
from .machine import Disk
from .oracle import Stored
from .shelf import rows
from .tower import DURABILITY, Scene, Told, moment, scene

RATES = {"sure": "20ms", "fast": "10ms", "soft": "50ms", "last": "20ms"}
WATCHED = {**DURABILITY, "alert": "first", "fault": "first"}
SIREN = '[jobs.siren]\nevery = "200ms"\nalert = "still here"\n'
CUTS = 20 if NIGHTLY else 2


# ── full ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def full_disk(folder: Path) -> Told:
    """A disk of 32 MiB is filled by somebody else; in an outage the store has to grow and cannot; much later all is well again."""
    with Disk(folder, 32) as disk, scene(folder, state=disk.path / "state", rates=RATES, durability=WATCHED) as story:
        tower = story.start(more=SIREN)
        tower.online()
        story.recorder.count("alert", 2)
        filler = disk.fill()
        story.proxy.refuse()
        assert tower.said("code=store_full"), tower.err[-20:]
        disk.fill()
        read = produced(story)
        story.until(lambda: produced(story) > read + 50, "capture has stopped")
        story.proxy.accept()
        tower.online(2)
        story.recorder.wait(lambda: fault(story, healed=False), "the fault is not told")
        alerts, fast = len(story.recorder.of("alert")), len(story.recorder.of("fast"))
        story.recorder.count("alert", alerts + 5)
        story.recorder.count("fast", fast + 50)
        filler.unlink()
        story.recorder.wait(lambda: fault(story, healed=True), "it does not heal")
        story.stop()
        return Told(story, story.finish(killed=False), {})


def produced(story: Scene) -> int:
    """How many values the counter has counted: what cannot be kept is spilled, and still read."""
    return int(story.ask("health")["streams"]["fast"]["produced"])


def fault(story: Scene, *, healed: bool) -> bool:
    """Whether this is the last that was heard of the store's fault."""
    said = [message.data for message in story.recorder.of("fault") if message.data["part"] == "store"]
    return bool(said) and said[-1]["healed"] is healed and {each["code"] for each in said} == {"store_full"}


@pytest.mark.feature("OUT-07", breaks="chappe.edge.store.faults:Faults.report")
@pytest.mark.feature("SYS-04", breaks="chappe.edge.store.disk:Disk.restore")
@pytest.mark.parametrize("told", [full_disk], indirect=True)
def test_a_full_disk_stops_neither_the_sensors_nor_the_alarms(told: Told) -> None:
    """Alarms go on by PUBACK alone, the fault is told and healed, and the books are exact to the last message."""
    assert told.wrong == []
    healed = [message.data["healed"] for message in told.story.recorder.of("fault")]
    assert healed == [False, True] * (len(healed) // 2)


# ── without power ────────────────────────────────────────────────────────────────────────────────────────────────────


def committed(story: Scene) -> list[Stored]:
    """Rows that a reader beside the daemon sees: SQLite shows a commit only when it is synced."""
    with story.shelf.beside() as base:
        return rows(base)


def power_cuts(folder: Path) -> Told:
    """The power fails in an outage, again and again; each time the daemon has committed and not yet sent."""
    lost, kept = [], 0
    with Disk(folder, 64) as disk, scene(folder, state=disk.path / "state", rates=RATES) as story:
        story.proxy.refuse()
        for _ in range(CUTS):
            story.start().ready()
            story.until(lambda known=kept: len(committed(story)) > known + 20, "nothing is committed")
            moment(0.1)
            before = committed(story)
            disk.cut_power()
            end = story.kill(then=disk.come_back)
            lost += [row for row in before if row not in set(end.rows)]
            kept = len(end.rows)
            assert story.shelf.check() == "ok"
        story.proxy.accept()
        wrong = story.finish()
        return Told(story, [f"{row} was committed and is gone" for row in lost] + wrong, {"cuts": CUTS, "kept": kept})


@pytest.mark.feature("OUT-04", breaks="chappe.core.keeper:Keeper.commit")
@pytest.mark.parametrize("told", [power_cuts], indirect=True)
def test_a_power_cut_takes_nothing_that_was_committed(told: Told) -> None:
    assert told.wrong == []


CARELESS = """
import sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute("PRAGMA journal_mode=WAL")
base.execute(f"PRAGMA synchronous={sys.argv[2]}")
base.execute("PRAGMA wal_autocheckpoint=0")
base.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, data BLOB)")
for n in range(1, 100_000_000):
    base.execute("INSERT INTO t VALUES (?, zeroblob(400))", (n,))
    print(n, flush=True)
"""


def cut_under(disk: Disk, synchronous: str) -> tuple[int, int]:
    """Cut the power under a writer; returns the last number it was told is safe, and the last that is there."""
    file = disk.path / f"{synchronous}.db"
    writer = subprocess.Popen(
        [sys.executable, "-c", CARELESS, str(file), synchronous], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    safe = [0]
    enough = threading.Event()

    def listen() -> None:
        assert writer.stdout is not None
        for line in writer.stdout:
            safe.append(int(line))
            if len(safe) > 200:
                enough.set()

    # Unread, its pipe would be full soon, and the writer idle when the power fails.
    thread = threading.Thread(target=listen)
    thread.start()
    assert enough.wait(60)
    acknowledged = safe[-1]
    disk.cut_power()
    writer.kill()
    writer.wait()
    thread.join()
    assert writer.stdout is not None
    writer.stdout.close()
    disk.come_back()
    if not file.exists():
        return acknowledged, 0
    base = sqlite3.connect(file)
    made = base.execute("SELECT 1 FROM sqlite_master WHERE name = 't'").fetchone()
    there = base.execute("SELECT MAX(n) FROM t").fetchone()[0] if made else 0
    base.close()
    return acknowledged, there or 0


def test_this_power_cut_is_one(disk_tmp: Path, tell: Callable[[str], None]) -> None:
    """What SQLite calls safe is safe with synchronous=FULL, and lost with NORMAL: a cut that took nothing would prove nothing."""
    with Disk(disk_tmp, 64) as disk:
        for synchronous in ("FULL", "NORMAL"):
            safe, there = cut_under(disk, synchronous)
            tell(f"WAL/{synchronous}: {safe} acknowledged, {there} there after the cut")
            assert (there >= safe) is (synchronous == "FULL")
