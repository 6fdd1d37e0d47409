"""The state folder: one daemon at a time, and what was committed stays, however the process ends."""

from __future__ import annotations

import hashlib
import os
import queue
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chappe.core.effects import Chronicle, CloseCamera, Commit, Consult, Effect, Exhume, Remember
from chappe.core.events import (
    CommitFailed,
    Committed,
    Consulted,
    DiskSampled,
    Event,
    Exhumed,
    Faulted,
    Fetched,
    Healed,
)
from chappe.core.stored import Entry, Query
from chappe.core.units import SECOND, Ns, WallNs
from chappe.edge.store import FILE, LOCK, SCHEMA, Store
from chappe.edge.store.base import Base
from chappe.edge.store.blobs import Blobs
from chappe.edge.store.found import backlog
from chappe.errors import BusyError, Exit, StoreError
from chappe.testing import EPOCH, ManualClock

from .ledger import BOOT, Ledger, burial, values

WITHIN_S = 20.0


class UnexpectedError(Exception):
    """The store posted what it should not have."""


def unexpected(event: Event) -> None:
    if not isinstance(event, DiskSampled):
        raise UnexpectedError(event)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Makes stores on one folder; all are closed at the end."""
    made: list[Store] = []

    def store(
        folder: Path = tmp_path / "state", post: Callable[[Event], None] = unexpected, kind: type = Store
    ) -> Store:
        made.append(kind(folder, ManualClock(Ns(SECOND)), post))
        return made[-1]

    yield store
    for one in made:
        one.close()


def remembered(make: Callable[..., Store], folder: Path) -> dict[str, Any]:
    """What a later boot finds."""
    store = make(folder)
    store.open()
    memory = store.memory()
    store.close()
    return memory


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_folder_is_made_and_remembers_nothing(make: Callable[..., Store], tmp_path: Path) -> None:
    """With the folders above it; closed to strangers."""
    folder = tmp_path / "deep" / "state"
    assert remembered(make, folder) == {}
    assert stat.S_IMODE(folder.stat().st_mode) & 0o027 == 0


def test_what_one_boot_remembers_the_next_one_knows(make: Callable[..., Store], tmp_path: Path) -> None:
    """The newest value of each key; closing waits for what is still to be written."""
    store = make()
    store.open()
    store.handle([Remember(key="camera.off_by", value="owner"), Remember(key="a", value=1)])
    store.handle([Remember(key="a", value=2), CloseCamera(), Remember(key="a", value=3)])
    store.close()
    assert remembered(make, tmp_path / "state") == {"camera.off_by": "owner", "a": 3}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=8)
@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=20), VALUES, max_size=5))
def test_any_json_value_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, memory: dict[str, Any]) -> None:
    """Text in any script, nested values, nothing at all."""
    folder = tmp_path_factory.mktemp("state")
    for expected in ({}, memory):
        store = Store(folder, ManualClock(), unexpected)
        store.open()
        assert store.memory() == expected
        store.handle([Remember(key=key, value=value) for key, value in memory.items()])
        store.close()


WRITER = """
import sqlite3, sys, threading
from pathlib import Path
from chappe.core.effects import Remember
from chappe.edge.host import SystemClock
from chappe.edge.store import FILE, Store

folder = Path(sys.argv[1])
store = Store(folder, SystemClock(), lambda _: None)
store.open()
reader = sqlite3.connect(folder / FILE)
pause = threading.Event()
for number in range(1, 1_000):
    store.handle([Remember(key="number", value=number)])
    # Another connection sees only what has been committed.
    while reader.execute("SELECT value FROM memory WHERE key = 'number'").fetchone() != (str(number),):
        pause.wait(0.001)
    print(number, flush=True)
"""


def test_what_was_committed_survives_a_kill(make: Callable[..., Store], tmp_path: Path) -> None:
    """SIGKILL of a real process while it writes: nothing that it reported is gone, and the folder is free again."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        reported = [int(process.stdout.readline()) for _ in range(20)][-1]
        process.send_signal(signal.SIGKILL)
        last = max([reported, *map(int, process.stdout.read().split())])
    assert process.wait(WITHIN_S) == -signal.SIGKILL
    # One more may have been committed than could be reported.
    assert remembered(make, tmp_path)["number"] in (last, last + 1)


def test_a_commit_that_returned_survives_a_power_cut(make: Callable[..., Store], tmp_path: Path) -> None:
    """By SQLite's own word: a write-ahead log, and an fsync before each commit returns (synchronous FULL = 2)."""
    store = make()
    store.open()
    assert store._vault._base.link.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._history._entries.link.execute("PRAGMA synchronous").fetchone() == (2,)
    other = sqlite3.connect(tmp_path / "state" / FILE)
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert other.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert other.execute("PRAGMA page_size").fetchone() == (4096,)
    other.close()


def test_a_file_of_a_newer_version_can_be_used(make: Callable[..., Store], tmp_path: Path) -> None:
    """Migrations only add, so the way back to an older version stays open."""
    store = make()
    store.open()
    store.handle([Remember(key="a", value=1)])
    store.close()
    newer = sqlite3.connect(tmp_path / "state" / FILE)
    newer.executescript("CREATE TABLE later (x); ALTER TABLE memory ADD COLUMN since; PRAGMA user_version = 99")
    newer.close()
    store = make()
    store.open()
    assert store.memory() == {"a": 1}
    store.handle([Remember(key="b", value=2)])
    store.close()
    assert remembered(make, tmp_path / "state") == {"a": 1, "b": 2}


# ── one daemon at a time ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OPS-02", breaks="chappe.edge.store:lock")
def test_a_second_daemon_is_told_to_try_again(make: Callable[..., Store], tmp_path: Path) -> None:
    """75, with the folder's name and what to do; the first is not disturbed."""
    first, second = make(), make()
    first.open()
    with pytest.raises(BusyError, match=str(tmp_path / "state")) as caught:
        second.open()
    assert caught.value.exit_code == Exit.TRY_AGAIN
    assert caught.value.remedy
    second.close()
    first.handle([Remember(key="a", value=1)])
    first.close()
    assert remembered(make, tmp_path / "state") == {"a": 1}


def test_the_lock_ends_with_the_store(make: Callable[..., Store]) -> None:
    """Closing is enough, and may be done twice; a store can be opened again."""
    first, second = make(), make()
    first.open()
    first.close()
    first.close()
    second.open()
    assert second.memory() == {}


def test_two_folders_are_two_devices(make: Callable[..., Store], tmp_path: Path) -> None:
    """Each has its own lock."""
    one, two = make(tmp_path / "one"), make(tmp_path / "two")
    one.open()
    two.open()
    assert one.memory() == two.memory() == {}


# ── folders that cannot be used ──────────────────────────────────────────────────────────────────────────────────────


def spoil(folder: Path, how: str) -> None:
    if how == "a file in its place":
        folder.write_text("")
    elif how == "a file above it":
        folder.parent.rmdir()
        folder.parent.write_text("")
    else:
        folder.mkdir()
    if how == "a folder in place of the file":
        (folder / FILE).mkdir()
    elif how == "a folder as lock":
        (folder / LOCK).mkdir()


@pytest.mark.parametrize(
    "how",
    ["a file in its place", "a file above it", "a folder in place of the file", "a folder as lock"],
)
def test_a_folder_that_cannot_be_used_is_told(make: Callable[..., Store], tmp_path: Path, how: str) -> None:
    """A `StoreError` with the folder's name and a remedy, whatever is wrong with it."""
    folder = tmp_path / "above" / "state"
    folder.parent.mkdir()
    spoil(folder, how)
    store = make(folder)
    with pytest.raises(StoreError, match="state") as caught:
        store.open()
    assert caught.value.exit_code == Exit.IO
    assert "device.state_dir" in caught.value.remedy


def test_a_folder_that_may_not_be_written_is_told(
    make: Callable[..., Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a read-only disk, where not even the lock can be made."""

    def read_only(*_: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("chappe.edge.store.folder.os.open", read_only)
    with pytest.raises(StoreError, match="Read-only"):
        make().open()


def test_after_a_failed_open_nothing_is_held(make: Callable[..., Store], tmp_path: Path) -> None:
    """Once the folder is mended the next attempt works, in the same process."""
    (tmp_path / "state" / FILE).mkdir(parents=True)
    with pytest.raises(StoreError):
        make().open()
    (tmp_path / "state" / FILE).rmdir()
    make().open()


# ── a disk that fails ────────────────────────────────────────────────────────────────────────────────────────────────


def told(events: queue.SimpleQueue[Event]) -> Event:
    """The next event that is no sample of the disk."""
    while isinstance(event := events.get(timeout=WITHIN_S), DiskSampled):
        pass
    return event


def test_nothing_is_forgotten_while_nothing_can_be_written(make: Callable[..., Store], tmp_path: Path) -> None:
    """One batch is one transaction; it waits with everything behind it, in order, and one fault stands until it is written."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    store = make(post=events.put)
    store.open()
    other = sqlite3.connect(tmp_path / "state" / FILE)
    other.execute(
        "CREATE TRIGGER stop BEFORE INSERT ON memory WHEN new.key = 'b' BEGIN SELECT RAISE(FAIL, 'torn'); END"
    )
    store.handle([Remember(key="a", value=1), Remember(key="b", value=1)])
    fault = told(events)
    assert isinstance(fault, Faulted)
    assert (fault.part, fault.code, fault.message) == ("store", "store_failed", "torn")
    store.handle([Remember(key="a", value=2)])
    assert other.execute("SELECT key FROM memory").fetchall() == []
    other.execute("DROP TRIGGER stop")
    other.close()
    store.handle([Remember(key="c", value=3)])
    assert told(events) == Healed(at=Ns(SECOND), part="store", code="store_failed")
    store.close()
    assert remembered(make, tmp_path / "state") == {"a": 2, "b": 1, "c": 3}


def test_what_waits_is_tried_again_without_being_asked(make: Callable[..., Store], tmp_path: Path) -> None:
    """A second later."""
    events: list[Event] = []
    store = make(post=events.append)
    store.open(threaded=False)
    other = sqlite3.connect(tmp_path / "state" / FILE)
    other.execute("CREATE TRIGGER stop BEFORE INSERT ON memory BEGIN SELECT RAISE(FAIL, 'torn'); END")
    store.handle([Remember(key="a", value=1)])
    assert store.step(Ns(SECOND)) == 2 * SECOND
    assert store.step(Ns(3 * SECOND // 2)) == 2 * SECOND
    assert store.memory() == {}
    other.execute("DROP TRIGGER stop")
    other.close()
    assert store.step(Ns(2 * SECOND)) == 11 * SECOND
    assert store.memory() == {"a": 1}
    assert [type(event) for event in events if not isinstance(event, DiskSampled)] == [Faulted, Healed]


# ── the thread ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_commits_are_answered_from_the_writers_thread(make: Callable[..., Store]) -> None:
    """Handing over does not wait; the answers come in order."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    store = make(post=events.put)
    store.open()
    ledger = Ledger()
    store.handle([ledger.commit(ledger.new("tick", *values(100, start=n))) for n in range(20)])
    answers = [told(events) for _ in range(20)]
    assert [event.number for event in answers if isinstance(event, Committed)] == list(range(1, 21))


def test_a_bug_answers_the_commit_it_hit(make: Callable[..., Store], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for an answer gets one; the store goes on."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    store = make(post=events.put)
    store.open()
    ledger = Ledger()
    first = ledger.commit(ledger.new("tick", b"1"))

    def bug(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(store._vault, "commit", bug)
        store.handle([first])
        found = [told(events), told(events)]
    assert [event.code for event in found if isinstance(event, Faulted)] == ["store_bug"]
    assert [(event.number, event.code) for event in found if isinstance(event, CommitFailed)] == [(1, "store_failed")]
    store.handle([first])
    assert isinstance(told(events), Committed)


def test_a_long_search_does_not_keep_a_commit_waiting(make: Callable[..., Store]) -> None:
    """Questions are answered in slices, between commits; all of it in one step where nobody else drives."""
    events: list[Event] = []
    store = make(post=events.append)
    store.open(threaded=False)
    ledger = Ledger()
    entries = tuple(Entry("s", BOOT, seq, WallNs(2 * EPOCH + seq), b'{"data":1}') for seq in range(1, 5001))
    store.handle([Chronicle(entries=entries)])
    search = store._history.search

    def meanwhile() -> None:
        if not ledger.rows:
            store.handle([ledger.commit(ledger.new("tick", b"1"))])
        search()

    store._history.search = meanwhile  # type: ignore[method-assign]
    store.handle([Consult(ticket=1, query=Query(stream="s", text="nowhere"))])
    store.step(Ns(SECOND))
    assert [type(event) for event in events if not isinstance(event, DiskSampled)] == [Committed, Consulted]


def test_a_writer_that_has_much_to_do_shows_that_it_is_alive(make: Callable[..., Store]) -> None:
    """It comes back from a step after a second, and goes on at once."""
    events: list[Event] = []
    clock = ManualClock(Ns(SECOND))

    def post(event: Event) -> None:
        events.append(event)
        clock.advance(0.6)

    store = make(post=post)
    store._clock = clock
    store.open(threaded=False)
    store._threaded = True
    ledger = Ledger()
    store.handle([])
    store._todo.extend(ledger.commit(ledger.new("tick", b"1")) for _ in range(5))
    assert store.step(clock.now()) == SECOND
    assert len([event for event in events if isinstance(event, Committed)]) == 2
    store._threaded = False


# ── versions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def version_one(folder: Path) -> None:
    """A state folder as version 1 made it."""
    folder.mkdir()
    base = sqlite3.connect(folder / FILE, isolation_level=None)
    base.execute("PRAGMA auto_vacuum=INCREMENTAL")
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("CREATE TABLE [memory] (\n   [key] TEXT PRIMARY KEY,\n   [value] TEXT\n)")
    base.execute("INSERT INTO memory VALUES ('camera', '\"off\"')")
    base.execute("PRAGMA user_version = 1")
    base.close()


def schema(file: Path) -> dict[str, str]:
    link = sqlite3.connect(file)
    try:
        return dict(link.execute("SELECT name, sql FROM sqlite_schema"))
    finally:
        link.close()


def test_a_file_of_version_one_gets_what_it_lacks(make: Callable[..., Store], tmp_path: Path) -> None:
    """Only added to: what was there stays as it was, so that version 1 can still use it."""
    folder = tmp_path / "state"
    version_one(folder)
    before = schema(folder / FILE)
    store = make(post=lambda _: None)
    store.open(threaded=False)
    assert store.memory() == {"camera": "off"}
    ledger = Ledger()
    store.handle([ledger.commit(ledger.new("tick", b"1")), Remember(key="camera", value="on")])
    store.close()
    after = schema(folder / FILE)
    assert before.items() <= after.items()
    assert {"rows", "lanes", "boots", "dead", "standings", "names"} <= after.keys()
    old = sqlite3.connect(folder / FILE)
    assert old.execute("SELECT value FROM memory").fetchall() == [('"on"',)]
    assert old.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
    assert old.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    old.close()


def test_a_file_that_is_up_to_date_is_opened_without_sqlite_utils(tmp_path: Path) -> None:
    """It costs start-up time that only a migration is worth."""
    script = """
import sys
from pathlib import Path
from chappe.edge.store import Store
from chappe.testing import ManualClock
store = Store(Path(sys.argv[1]), ManualClock(), lambda _: None)
store.open(threaded=False)
store.close()
print("sqlite_utils" in sys.modules)
"""
    runs = [
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert [run.strip() for run in runs] == ["True", "False"]


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_boot_and_a_stream_take_no_room_in_a_row(make: Callable[..., Store], tmp_path: Path) -> None:
    """200 bytes of data take up less than 280 on the disk."""
    store = make(post=lambda _: None)
    store.open(threaded=False)
    ledger = Ledger()
    store.handle([ledger.commit(ledger.new("a_stream_with_a_long_name_" * 2, *values(5000)))])
    store.close()
    assert (tmp_path / "state" / FILE).stat().st_size < 5000 * 280


@pytest.mark.feature("OUT-06", breaks="chappe.edge.store.found:backlog")
def test_the_start_looks_at_no_more_rows_for_a_longer_backlog(tmp_path: Path) -> None:
    """By the steps that SQLite's machine takes, which do not depend on how fast this one is."""
    steps = []
    for n in (100, 20_000):
        base = Base(tmp_path / f"{n}.db", Blobs(tmp_path, 10**6))
        base.open()
        ledger = Ledger()
        base.apply(ledger.commit(ledger.new("tick", *values(n, 20))))
        taken = [0]

        def count(taken: list[int] = taken) -> None:
            taken[0] += 1

        base.link.set_progress_handler(count, 1)
        found = backlog(base)
        base.link.set_progress_handler(None, 0)
        assert found.lanes["tick"].entry.rows == n
        steps.append(taken[0])
        base.close()
    assert steps[0] > 0
    assert steps[1] == steps[0]


# ── blobs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def big(make: Callable[..., Store]) -> tuple[Store, Ledger, list[Event]]:
    """A store of which everything above 1000 bytes goes to files."""
    events: list[Event] = []
    store = make(post=events.append)
    store._vault._blobs._inline = 1000
    store.open(threaded=False)
    return store, Ledger(), events


def ask(store: Store, *effects: Effect) -> None:
    store.handle(effects)
    store.step(Ns(SECOND))


def blobs(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "state" / "blobs").iterdir())


@pytest.mark.feature("OUT-13", breaks="chappe.edge.store.blobs:Blobs.settle")
def test_large_data_is_in_a_file_until_its_row_is_gone(big: tuple[Store, Ledger, list[Event]], tmp_path: Path) -> None:
    """The row holds path and sha256; the file goes with the commit that deletes the row."""
    store, ledger, events = big
    rows = ledger.new("snap", b"x" * 60_000, b"x" * 1000)
    ask(store, ledger.commit(rows))
    (name,) = blobs(tmp_path)
    assert (tmp_path / "state" / "blobs" / name).read_bytes() == rows[0].data
    link = sqlite3.connect(tmp_path / "state" / FILE)
    found = link.execute("SELECT path, sha256, LENGTH(data), size FROM rows ORDER BY id").fetchall()
    link.close()
    assert found == [(name, hashlib.sha256(rows[0].data).digest(), 0, 60_000), ("", b"", 1000, 1000)]
    ask(store, ledger.page("snap"))
    assert [list(event.rows) for event in events if isinstance(event, Fetched)] == [rows]
    ask(store, ledger.commit(gone=[rows[0].id]))
    assert blobs(tmp_path) == []


def test_large_data_is_written_once(big: tuple[Store, Ledger, list[Event]], tmp_path: Path) -> None:
    """By the bytes given to files: 1.0 of the data; SQLite's log gets the row without it."""
    store, ledger, _ = big
    data = b"x" * 60_000
    log = tmp_path / "state" / f"{FILE}-wal"
    before = log.stat().st_size
    ask(store, ledger.commit(ledger.new("snap", data)))
    assert log.stat().st_size - before < 30_000
    assert sum(path.stat().st_size for path in (tmp_path / "state" / "blobs").iterdir()) == len(data)


def test_a_file_is_on_the_disk_before_the_row_that_names_it(
    big: tuple[Store, Ledger, list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """File, name, folder, and only then the row."""
    store, ledger, _ = big
    steps: list[str] = []
    sync, rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        steps.append("name")
        return rename(self, target)

    monkeypatch.setattr("chappe.edge.store.blobs.os.fsync", fsync)
    monkeypatch.setattr("chappe.edge.store.blobs.Path.rename", renamed)
    store._vault._base.link.set_trace_callback(lambda text: steps.append(text[:12]) if "BEGIN" in text else None)
    ask(store, ledger.commit(ledger.new("snap", b"x" * 5000, b"y" * 5000)))
    assert steps[:6] == ["file", "name", "file", "name", "folder", "BEGIN IMMEDI"]


def test_a_replaced_row_leaves_no_file_behind(big: tuple[Store, Ledger, list[Event]], tmp_path: Path) -> None:
    """Large by larger, large by small; the newest content is what is read."""
    store, ledger, events = big
    rows = ledger.new("snap", b"x" * 5000, b"y" * 5000)
    ask(store, ledger.commit(rows))
    newer = [msgspec.structs.replace(rows[0], data=b"z" * 6000), msgspec.structs.replace(rows[1], data=b"small")]
    ask(store, ledger.commit(newer), ledger.page("snap"))
    assert [list(event.rows) for event in events if isinstance(event, Fetched)] == [newer]
    assert len(blobs(tmp_path)) == 1


def test_a_replacement_that_fails_leaves_the_old_file(big: tuple[Store, Ledger, list[Event]], tmp_path: Path) -> None:
    """The row that is there still finds its own data."""
    store, ledger, events = big
    rows = ledger.new("snap", b"x" * 5000)
    ask(store, ledger.commit(rows))
    store._vault._base.link.execute("CREATE TRIGGER stop BEFORE INSERT ON rows BEGIN SELECT RAISE(ABORT, 'no'); END")
    before = blobs(tmp_path)
    ask(store, Commit(number=2, at=Ns(1), rows=(msgspec.structs.replace(rows[0], data=b"z" * 6000),)))
    assert blobs(tmp_path) == before
    ask(store, ledger.page("snap"))
    assert [event.rows[0].data for event in events if isinstance(event, Fetched)] == [b"x" * 5000]


def test_a_dead_letter_keeps_its_file(big: tuple[Store, Ledger, list[Event]], tmp_path: Path) -> None:
    """From row to letter and back, and into the next boot; forgotten, it takes the file with it."""
    store, ledger, events = big
    rows = ledger.new("snap", b"x" * 5000)
    ask(store, ledger.commit(rows))
    ask(store, ledger.commit(burials=[burial(rows[0])]))
    assert len(blobs(tmp_path)) == 1
    ask(store, Exhume(ids=(rows[0].id,)))
    assert [event.rows[0].data for event in events if isinstance(event, Exhumed)] == [b"x" * 5000]
    ledger.exhumed([rows[0].id])
    ask(store, ledger.commit(burials=[burial(rows[0])]))
    assert store._vault.open().dead[0].size == 5000
    ask(store, ledger.commit(forgotten=[rows[0].id]))
    assert blobs(tmp_path) == []


def test_files_that_no_row_names_are_removed_at_the_start(
    big: tuple[Store, Ledger, list[Event]], make: Callable[..., Store], tmp_path: Path
) -> None:
    """What a kill left between a file and its row."""
    store, ledger, _ = big
    rows = ledger.new("snap", b"x" * 5000, b"y" * 5000)
    ask(store, ledger.commit(rows, burials=[burial(rows[1])]))
    store.close()
    kept = blobs(tmp_path)
    for name in ("77.00ff", f"{rows[0].id}.00ff", "78.00ff.part", "strange"):
        (tmp_path / "state" / "blobs" / name).write_bytes(b"left")
    again = make()
    again.open(threaded=False)
    again.step(Ns(SECOND))
    assert blobs(tmp_path) == kept
