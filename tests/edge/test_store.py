"""The state folder: one daemon at a time, and what was committed stays, however the process ends."""

from __future__ import annotations

import queue
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chappe.core.effects import CloseCamera, Remember
from chappe.core.events import Event, Faulted, Healed
from chappe.core.units import SECOND, Ns
from chappe.edge.store import FILE, LOCK, Store
from chappe.errors import BusyError, Exit, StoreError
from chappe.testing import ManualClock

WITHIN_S = 20.0


def unexpected(event: Event) -> None:
    pytest.fail(f"the store posted {event}")


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


@settings(max_examples=25)
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
store = Store(folder, SystemClock(), print)
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
    assert store._base is not None
    assert store._base.execute("PRAGMA synchronous").fetchone() == (2,)
    other = sqlite3.connect(tmp_path / "state" / FILE)
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert other.execute("PRAGMA auto_vacuum").fetchone() == (2,)
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
        (folder / {"no database": FILE, "a folder in place of the file": "x", "a folder as lock": "x"}[how]).touch()
    if how == "no database":
        (folder / FILE).write_bytes(b"no database at all" * 100)
    elif how == "a folder in place of the file":
        (folder / FILE).mkdir()
    elif how == "a folder as lock":
        (folder / LOCK).mkdir()


@pytest.mark.parametrize(
    "how",
    ["a file in its place", "a file above it", "no database", "a folder in place of the file", "a folder as lock"],
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

    monkeypatch.setattr("chappe.edge.store.os.open", read_only)
    with pytest.raises(StoreError, match="Read-only"):
        make().open()


def test_after_a_failed_open_nothing_is_held(make: Callable[..., Store], tmp_path: Path) -> None:
    """Once the folder is mended the next attempt works, in the same process."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError):
        make().open()
    (tmp_path / "state" / FILE).unlink()
    make().open()


# ── a disk that fails ────────────────────────────────────────────────────────────────────────────────────────────────


class Failing(Store):
    """A store whose disk is full for a while."""

    full = True

    def _commit(self, items: Sequence[Remember]) -> None:
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")
        super()._commit(items)


def test_nothing_is_forgotten_while_the_disk_is_full(make: Callable[..., Store], tmp_path: Path) -> None:
    """A fault, and every value waits in its order; when there is room again they are written and the fault heals."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    store = make(post=events.put, kind=Failing)
    store.open()
    store.handle([Remember(key="a", value=1), Remember(key="b", value=1)])
    fault = events.get(timeout=WITHIN_S)
    assert isinstance(fault, Faulted)
    assert (fault.part, fault.code, fault.message) == ("store", "store_failed", "database or disk is full")
    store.handle([Remember(key="a", value=2)])
    assert isinstance(events.get(timeout=WITHIN_S), Faulted)
    store.full = False
    store.handle([])
    assert events.get(timeout=WITHIN_S) == Healed(at=Ns(SECOND), part="store", code="store_failed")
    store.close()
    assert remembered(make, tmp_path / "state") == {"a": 2, "b": 1}


def test_a_commit_that_fails_half_way_changes_nothing(make: Callable[..., Store], tmp_path: Path) -> None:
    """One batch is one transaction: it is there as a whole, later, or not at all."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    store = make(post=events.put)
    store.open()
    assert store._base is not None
    store._base.execute(
        "CREATE TRIGGER stop BEFORE INSERT ON memory WHEN new.key = 'b' BEGIN SELECT RAISE(FAIL, 'torn'); END"
    )
    store.handle([Remember(key="a", value=1), Remember(key="b", value=1)])
    fault = events.get(timeout=WITHIN_S)
    assert isinstance(fault, Faulted)
    assert fault.message == "torn"
    other = sqlite3.connect(tmp_path / "state" / FILE)
    assert other.execute("SELECT key FROM memory").fetchall() == []
    other.execute("DROP TRIGGER stop")
    other.close()
    store.handle([])
    assert isinstance(events.get(timeout=WITHIN_S), Healed)
    assert store.memory() == {"a": 1, "b": 1}
