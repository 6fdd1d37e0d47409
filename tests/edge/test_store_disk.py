"""A disk without room: the ballast is given up first, deletes still come about, capture goes on, and it heals by itself."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chappe.core.effects import Chronicle, Consult, Remember
from chappe.core.events import CommitFailed, Committed, Consulted, DiskSampled, Event, Faulted, Healed
from chappe.core.stored import Entry, Query
from chappe.core.units import SECOND, Ns, WallNs
from chappe.edge.store import Store
from chappe.edge.store.disk import BALLAST_BYTES, Disk
from chappe.testing import EPOCH, ManualClock

from .ledger import BOOT, Ledger, burial, values, without_fsync

MIB = 1 << 20


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about durability."""
    without_fsync(monkeypatch)


# ── the file system ──────────────────────────────────────────────────────────────────────────────────────────────────


class Statvfs:
    """A file system of 1 GiB."""

    f_frsize = 4096
    f_blocks = (1 << 30) // 4096

    def __init__(self, free: int) -> None:
        self.f_bavail = free // 4096


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Says how many bytes are free."""

    def free(size: int) -> None:
        monkeypatch.setattr("chappe.edge.store.disk.os.statvfs", lambda _: Statvfs(size))

    free(900 * MIB)
    return free


def test_the_ballast_is_really_allocated(disk_tmp: Path) -> None:
    """4 MiB of blocks, not a hole; given up it is gone, and made again."""
    disk = Disk(disk_tmp, 0.0)
    assert not disk.ballasted
    assert disk.restore()
    assert (disk_tmp / "ballast").stat().st_blocks * 512 >= BALLAST_BYTES == 4 * MIB
    assert disk.give_up()
    assert not (disk_tmp / "ballast").exists()
    assert not disk.give_up()
    assert disk.restore()


def test_a_ballast_is_made_only_where_there_is_room_for_two(tmp_path: Path, room: Callable[[int], None]) -> None:
    """Beyond the share that is to stay free: it must not itself fill the disk."""
    disk = Disk(tmp_path, 0.05)
    limit = (1 << 30) // 20 // 4096 * 4096
    room(limit + 2 * BALLAST_BYTES - 4096)
    assert not disk.restore()
    room(limit + 2 * BALLAST_BYTES + 8192)
    assert disk.restore()


def test_a_ballast_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a quota says no."""

    def fail(*_: int) -> None:
        raise OSError(errno.EDQUOT, "quota")

    monkeypatch.setattr("chappe.edge.store.disk.os.posix_fallocate", fail)
    assert not Disk(tmp_path, 0.0).restore()
    assert list(tmp_path.iterdir()) == []


def test_the_room_of_a_ballast_that_was_given_up_is_not_written_on(tmp_path: Path, room: Callable[[int], None]) -> None:
    """Until there is room for another one."""
    disk = Disk(tmp_path, 0.05)
    disk.restore()
    room(4 * MIB)
    assert disk.may_grow()
    disk.give_up()
    assert not disk.may_grow()
    room(30 * MIB)
    assert not disk.may_grow()
    room(300 * MIB)
    assert disk.may_grow()


@pytest.mark.parametrize(
    ("code", "free", "full"),
    [
        (sqlite3.SQLITE_FULL, 900 * MIB, True),
        (sqlite3.SQLITE_IOERR_SHMSIZE, 100, True),
        (sqlite3.SQLITE_CANTOPEN, 100, True),
        (sqlite3.SQLITE_IOERR, 900 * MIB, False),
        (sqlite3.SQLITE_CORRUPT, 100, False),
    ],
)
def test_which_errors_mean_that_there_is_no_room(
    tmp_path: Path, room: Callable[[int], None], code: int, free: int, full: bool
) -> None:
    """SQLite has several words for it."""
    room(free)
    error = sqlite3.OperationalError("x")
    error.sqlite_errorcode = code
    assert Disk(tmp_path, 0.05).full(error) is full


def test_so_do_two_of_the_kernels(tmp_path: Path) -> None:
    disk = Disk(tmp_path, 0.05)
    found = [disk.full(OSError(number, "")) for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)]
    assert found == [True, True, False, False]


# ── a store that cannot grow ─────────────────────────────────────────────────────────────────────────────────────────


class Tight:
    """A store whose file cannot grow beyond a number of pages, as if the disk ended there.

    Args:
        folder: the state folder.
        room: says how many bytes the disk has.
    """

    def __init__(self, folder: Path, room: Callable[[int], None]) -> None:
        self.events: list[Event] = []
        self.clock = ManualClock(Ns(SECOND))
        self.ledger = Ledger()
        self.room = room
        self.store = Store(folder, self.clock, self.events.append, disk_free=0.05)
        self.store.open(threaded=False)

    def limit(self, pages: int | None) -> None:
        """The disk ends so many pages from here, or nowhere."""
        link = self.store._vault._base.link
        whole = int(link.execute("PRAGMA page_count").fetchone()[0])
        link.execute(f"PRAGMA max_page_count = {whole + pages if pages is not None else 1 << 30}").fetchall()
        self.room(pages * 4096 if pages is not None else 900 * MIB)

    def ask(self, *effects: object) -> list[Event]:
        before = len(self.events)
        self.store.handle(effects)  # type: ignore[arg-type]
        self.store.step(self.clock.now())
        return [event for event in self.events[before:] if not isinstance(event, DiskSampled)]

    def put(self, n: int, size: int = 200) -> list[Event]:
        """Try to write rows; books are kept only of what was."""
        rows = self.ledger.new("tick", *values(n, size))
        trial = msgspec_copy(self.ledger)
        posted = self.ask(trial.commit(rows))
        if any(isinstance(event, Committed) for event in posted):
            self.ledger = trial
        return posted


def msgspec_copy(ledger: Ledger) -> Ledger:
    from copy import deepcopy

    return deepcopy(ledger)


@pytest.fixture
def tight(tmp_path: Path, room: Callable[[int], None]) -> Iterator[Tight]:
    made = Tight(tmp_path / "state", room)
    yield made
    made.limit(None)
    made.store.close()


def kinds(events: list[Event]) -> list[str]:
    return [f"{type(event).__name__} {getattr(event, 'code', '')}".strip() for event in events]


def test_on_a_full_disk_the_ballast_goes_and_what_cannot_be_written_is_said(tight: Tight, tmp_path: Path) -> None:
    """Once more is tried after it; then the commit's contents belong to the core again."""
    assert (tmp_path / "state" / "ballast").exists()
    tight.limit(3)
    assert kinds(tight.put(500)) == ["Faulted store_full", "CommitFailed store_full"]
    assert not (tmp_path / "state" / "ballast").exists()
    assert kinds(tight.put(1)) == ["CommitFailed store_full"], (
        "one fault is enough, and the ballast's room is for deletes"
    )


def test_a_commit_that_fits_once_the_ballast_is_gone_is_written(tight: Tight, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that found the disk full is tried once more."""
    tight.limit(3)
    give_up = tight.store._disk.give_up

    def and_so_there_is_room() -> bool:
        tight.limit(1000)
        tight.room(0)
        return give_up()

    monkeypatch.setattr(tight.store._disk, "give_up", and_so_there_is_room)
    assert kinds(tight.put(500)) == ["Faulted store_full", "Committed"]


@pytest.mark.feature("OUT-07", breaks="chappe.edge.store.disk:Disk.restore")
def test_deletes_come_about_on_a_full_disk(tight: Tight) -> None:
    """And acknowledgements, books and states, but no rows and no letters, until there is room for a ballast again."""
    tight.put(300)
    kept = list(tight.ledger.rows)
    tight.limit(0)
    assert "CommitFailed store_full" in kinds(tight.put(300))
    assert kinds(tight.ask(tight.ledger.commit(gone=kept[:100]))) == ["Committed"]
    letter = msgspec_copy(tight.ledger).commit(burials=[burial(tight.ledger.rows[kept[200]])])
    assert kinds(tight.ask(letter)) == ["CommitFailed store_full"]
    tight.limit(None)
    assert kinds(tight.put(10)) == ["Healed store_full", "Committed"]
    assert tight.store._disk.ballasted


def test_a_disk_that_gets_room_heals_without_being_asked(tight: Tight) -> None:
    """At the next look, ten seconds later at most."""
    tight.limit(1)
    tight.put(300)
    tight.limit(None)
    tight.clock.advance(10)
    assert kinds(tight.ask()) == ["Healed store_full"]


def test_a_sample_comes_when_the_limit_is_crossed(tight: Tight) -> None:
    """In either direction, besides those of every ten seconds."""
    tight.ask()
    for free in (900, 30, 20, 100):
        tight.room(free * MIB)
        tight.ask()
    samples = [event for event in tight.events if isinstance(event, DiskSampled)]
    assert [round(sample.free * 1024) for sample in samples] == [900, 30, 100]
    assert all(sample.used > 0 for sample in samples)


def test_what_is_remembered_waits_on_a_full_disk(tight: Tight) -> None:
    """And is not forgotten."""
    tight.ask(Remember(key="a", value=1))
    tight.store._vault._base.link.execute("CREATE TABLE filler AS SELECT zeroblob(60000) AS x")
    tight.limit(0)
    tight.ask(Remember(key="b", value="x" * 50_000))
    assert kinds(tight.events) == ["DiskSampled", "Faulted store_full"] or tight.store.memory().keys() == {"a"}
    tight.limit(None)
    tight.clock.advance(10)
    tight.ask()
    assert tight.store.memory().keys() == {"a", "b"}


def test_history_does_not_take_the_room_that_deletes_need(tight: Tight) -> None:
    """What waits is kept within bounds; what is left out is logged, and the rest is there once there is room."""
    tight.limit(0)
    tight.put(300)
    entries = [Entry("s", BOOT, seq, WallNs(EPOCH), b'{"data":"%s"}' % (b"x" * 1000)) for seq in range(1, 2001)]
    tight.ask(Chronicle(entries=tuple(entries)))
    assert tight.store._history._waiting.bytes < 1_100_000
    tight.limit(None)
    tight.clock.advance(10)
    tight.ask(Consult(ticket=1, query=Query(stream="s", n=5000, newest=False)))
    (answer,) = (event for event in tight.events if isinstance(event, Consulted))
    assert [row.seq for row in answer.page.rows] == list(range(2001 - len(answer.page.rows), 2001))
    removed = tight.store._history._entries.link.execute("SELECT stream, n, reason FROM removed").fetchall()
    assert removed == [("s", 2000 - len(answer.page.rows), "unwritten")]


def test_while_the_disk_is_low_the_history_does_not_grow(tight: Tight) -> None:
    """Something old goes for everything new."""

    def tell(first: int) -> None:
        entries = [
            Entry("s", BOOT, seq, WallNs(EPOCH + seq), b'{"data":%06d}' % seq) for seq in range(first, first + 100)
        ]
        tight.ask(Chronicle(entries=tuple(entries)), Consult(ticket=1, query=Query(stream="s", n=1000, newest=False)))

    tell(1)
    tight.room(20 * MIB)
    tell(101)
    answer = [event for event in tight.events if isinstance(event, Consulted)][-1]
    assert [row.seq for row in answer.page.rows] == list(range(101, 201))


# ── a disk that is really full ───────────────────────────────────────────────────────────────────────────────────────

FILL = """
import json, sys
from pathlib import Path
from chappe.core.books import Book
from chappe.core.effects import Commit
from chappe.core.events import Committed, CommitFailed, Faulted, Healed
from chappe.core.stored import LaneEntry, StoredRow
from chappe.core.units import Ns, SECOND
from chappe.edge.store import Store
from chappe.testing import ManualClock

folder, events, clock = Path(sys.argv[1]), [], ManualClock(Ns(SECOND))
store = Store(folder, clock, events.append)
store.open(threaded=False)
given, kept = 1 << 40, []

def ask(rows, gone):
    after = kept[len(gone):] + [row.id for row in rows]
    n = len(after)
    book = Book(produced=given - (1 << 40) + len(rows), delivered=given - (1 << 40) + len(rows) - n, queued=n)
    entry = LaneEntry(no=1, next=given + 501 - (1 << 40), rows=n, bytes=0, book=book, boot="b" * 16, seq=0)
    store.handle([Commit(number=1, at=Ns(1), rows=tuple(rows), gone=tuple(gone), lanes={"tick": entry}, boot="b" * 16)])
    store.step(clock.now())
    if isinstance([event for event in events if isinstance(event, (Committed, CommitFailed))][-1], Committed):
        kept[:] = after
        return True
    return False

def put():
    global given
    rows = [StoredRow(given + n, "tick", "b" * 16, n, "", Ns(1), Ns(1), False, 0, b"x" * 1000) for n in range(1, 501)]
    given += 500
    return ask(rows, [])

report = {"ballast": (folder / "ballast").exists(), "written": 0, "deleted": 0}
while put():
    report["written"] += 500
report["ballast_after"] = (folder / "ballast").exists()
with (folder / "somebody_else").open("wb", buffering=0) as file:
    try:
        while True:
            file.write(b"x" * 4096)
    except OSError:
        # What the ballast held is for the store: give most of that back.
        file.truncate(max(0, file.tell() - (3 << 20)))
while kept and ask([], kept[:500]):
    report["deleted"] += 500
(folder / "somebody_else").unlink()
clock.advance(20)
store.step(clock.now())
report["again"] = put()
report["faults"] = [event.code for event in events if isinstance(event, Faulted)]
report["healed"] = [event.code for event in events if isinstance(event, Healed)]
store.close()
store = Store(folder, clock, events.append)
store.open(threaded=False)
report["rows"] = store.backlog().lanes["tick"].entry.rows
store.close()
print(json.dumps(report))
"""


@pytest.mark.feature("OUT-07", breaks="chappe.edge.store.disk:Disk.give_up")
def test_a_file_system_that_is_really_full(tmp_path: Path) -> None:
    """32 MiB, filled to the last byte by the store and somebody else: every row is deleted, and then there is room again."""
    unshare = shutil.which("unshare")
    script = tmp_path / "fill.py"
    script.write_text(FILL)
    where = tmp_path / "mount"
    where.mkdir()
    mount = f"mount -t tmpfs -o size=32m none {where} && exec {sys.executable} {script} {where}"
    options = ["-m"] if os.geteuid() == 0 else ["-U", "-r", "-m"]
    if unshare is None:
        pytest.skip("unshare is not there")
    ran = subprocess.run(
        [unshare, *options, "sh", "-c", mount], capture_output=True, text=True, check=False, timeout=120
    )
    if ran.returncode and not ran.stderr.startswith("Traceback"):
        pytest.skip(f"no file system can be mounted here: {ran.stderr.strip()}")
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["ballast"]
    assert not report["ballast_after"]
    assert report["written"] > 5000
    assert report["deleted"] == report["written"]
    assert (report["again"], report["rows"]) == (True, 500)
    assert (report["faults"], report["healed"]) == (["store_full"], ["store_full"])


def test_a_folder_on_a_full_disk_can_still_be_opened(tmp_path: Path, room: Callable[[int], None]) -> None:
    """The daemon starts, so that it can deliver what waits."""
    first = Tight(tmp_path / "state", room)
    first.put(300)
    first.store.close()
    room(0)
    again = Tight(tmp_path / "state", room)
    assert again.store.backlog().lanes["tick"].entry.rows == 300
    again.ledger = first.ledger
    assert kinds(again.ask(again.ledger.commit(gone=list(again.ledger.rows)))) == ["Committed"]
    again.store.close()


def test_names_of_events_are_what_is_compared() -> None:
    """A healed fault, a failed commit."""
    heal = Healed(at=Ns(0), part="store", code="x")
    failed = CommitFailed(at=Ns(0), number=1, code="store_full")
    assert kinds([heal, failed, Faulted(at=Ns(0), part="p", code="y")]) == [
        "Healed x",
        "CommitFailed store_full",
        "Faulted y",
    ]


# ── shrinking ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_gives_back_what_it_does_not_need(tight: Tight, tmp_path: Path) -> None:
    """More than half of it, 4 MiB or more, and then at leisure; what is left serves for what comes next."""
    file = tmp_path / "state" / "chappe.db"
    tight.put(30_000, 400)
    full = file.stat().st_size
    assert full > 12 * MIB
    tight.ask(tight.ledger.commit(gone=list(tight.ledger.rows)))
    for _ in range(8):
        tight.clock.advance(10)
        tight.ask()
    tight.store._vault._base.link.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert file.stat().st_size < 5 * MIB


def test_on_a_disk_that_fills_up_it_gives_back_everything(tight: Tight, tmp_path: Path) -> None:
    file = tmp_path / "state" / "chappe.db"
    tight.put(5000, 400)
    tight.ask(tight.ledger.commit(gone=list(tight.ledger.rows)))
    tight.room(20 * MIB)
    tight.clock.advance(10)
    tight.ask()
    assert file.stat().st_size < MIB // 4
