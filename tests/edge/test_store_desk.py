"""The command line's hands on a stopped store, and the audit of its books."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chappe.core.effects import Chronicle, Consult, Effect, PlaceCursor
from chappe.core.envelope import Lost, to_json
from chappe.core.events import Consulted, Event, Fetched
from chappe.core.stored import Backlog, Entry, Query
from chappe.core.units import HOUR, SECOND, Ns, WallNs
from chappe.edge.store import FILE, Store
from chappe.edge.store.audit import CHUNK, audit, differences
from chappe.edge.store.desk import Desk
from chappe.errors import BusyError, Exit, StoreError
from chappe.testing import EPOCH, ManualClock

from .ledger import BOOT, Ledger, burial, values, without_fsync

NEXT = "fedcba9876543210"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about durability."""
    without_fsync(monkeypatch)


class Folder:
    """A state folder, filled by a core that keeps books; `desk` and `start` open it in turn."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock(Ns(100 * SECOND))
        self.ledger = Ledger()
        self.events: list[Event] = []
        self.kernel = "k1"

    def fill(self, *effects: Effect) -> Backlog:
        """Start, do it, stop; returns what was found at the start."""
        store = Store(self.path, self.clock, self.events.append, inline=500, kernel=self.kernel)
        store.open(threaded=False)
        store.handle(effects)
        store.close()
        return store.backlog()

    def desk(self) -> Desk:
        return Desk(self.path, self.clock, kernel=self.kernel)

    def audit(self) -> list[str]:
        return audit(self.path, self.clock)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "state")


@pytest.fixture
def filled(folder: Folder) -> Folder:
    """Six rows of `tick`, two of them in files, a row of `alert`, two dead letters."""
    ledger = folder.ledger
    ticks = ledger.new("tick", b"1", b"2", b"x" * 600, b"4", b"5", b"y" * 600, at=10 * SECOND, key="k")
    alerts = ledger.new("alert", b"1", b"2", b"z" * 600, at=30 * SECOND, attempts=5)
    letters = [burial(alerts[1], since=EPOCH), burial(alerts[2], "too_large", EPOCH)]
    folder.fill(ledger.commit(ticks), ledger.commit(alerts, burials=letters, offset=EPOCH))
    return folder


# ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_waits_is_listed_by_priority_and_age(filled: Folder) -> None:
    """In the shape of ``queue show --json``."""
    with filled.desk() as desk:
        told = desk.show(priorities={"alert": 9, "tick": 2})
    assert set(told) == {"depth", "bytes", "oldest_s", "streams", "rows", "dead"}
    assert (told["depth"], told["oldest_s"]) == (7, 90.0)
    assert told["bytes"] == sum(entry.bytes for entry in filled.ledger.entries.values())
    assert [(row["stream"], row["seq"], row["priority"]) for row in told["rows"][:3]] == [
        ("alert", 1, 9),
        ("tick", 1, 2),
        ("tick", 2, 2),
    ]
    assert told["rows"][1] == {
        "id": filled.ledger.of("tick")[0].id,
        "stream": "tick",
        "boot": BOOT,
        "seq": 1,
        "key": "k",
        "priority": 2,
        "state": "stored",
        "age_s": 90.0,
        "attempts": 0,
        "reason": "",
    }
    assert told["streams"]["alert"] == {
        "depth": 1,
        "on_disk_only": 1,
        "in_flight": 0,
        "unconfirmed": 0,
        "dead": 2,
        "held": False,
    }
    assert [(one["seq"], one["reason"], one["size"], one["attempts"], one["state"]) for one in told["dead"]] == [
        (2, "not_authorized", 1, 5, "rejected"),
        (3, "too_large", 600, 5, "rejected"),
    ]
    assert told["dead"][0]["since"] == "2026-11-21T21:00:00.000Z"


def test_the_listing_is_as_long_as_asked_and_of_the_stream_asked(filled: Folder) -> None:
    """Counts are of everything meant, whatever is shown of it."""
    with filled.desk() as desk:
        told = desk.show(limit=2, stream="tick")
    assert ([row["seq"] for row in told["rows"]], told["depth"], told["dead"]) == ([1, 2], 6, [])
    assert list(told["streams"]) == ["tick"]
    assert to_json(told)


def test_an_age_over_a_restart_of_the_machine_is_told_by_the_wall_clock(filled: Folder) -> None:
    """Rows of 10 s after a boot that began at the epoch; now it is an hour later, and another boot's monotonic clock says 3 s."""
    filled.kernel = "k2"
    filled.clock = ManualClock(Ns(3 * SECOND), WallNs(EPOCH + HOUR))
    with filled.desk() as desk:
        assert desk.show()["oldest_s"] == 3590.0


def test_nothing_waits_in_an_empty_store(folder: Folder) -> None:
    folder.fill()
    with folder.desk() as desk:
        assert desk.show() == {"depth": 0, "bytes": 0, "oldest_s": 0.0, "streams": {}, "rows": [], "dead": []}


# ── giving up ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_dropped_rows_are_counted_and_disclosed_by_the_next_start(filled: Folder) -> None:
    """By id: books, gaps and rows agree, and runs of numbers are one gap."""
    ticks = filled.ledger.of("tick")
    with filled.desk() as desk:
        assert desk.drop(ids=[ticks[1].id, ticks[2].id, ticks[4].id, 4711]) == 3
    found = filled.fill().lanes["tick"]
    assert found.entry.gaps == (
        Lost(from_=2, to=3, n=2, reason="operator", boot=BOOT),
        Lost(from_=5, to=5, n=1, reason="operator", boot=BOOT),
    )
    assert (found.entry.rows, found.entry.book.spilled, found.entry.book.queued) == (3, 3, 3)
    assert filled.audit() == []
    assert len(list((filled.path / "blobs").iterdir())) == 2


def test_a_whole_stream_can_be_dropped_and_the_files_go_with_it(filled: Folder) -> None:
    """Other streams, and its own dead letters, are not touched."""
    with filled.desk() as desk:
        assert desk.drop(stream="tick") == 6
    found = filled.fill()
    assert (found.lanes["tick"].entry.rows, found.lanes["tick"].entry.bytes, found.lanes["alert"].entry.rows) == (
        0,
        0,
        1,
    )
    assert len(found.dead) == 2
    assert len(list((filled.path / "blobs").iterdir())) == 1
    assert filled.audit() == []


@pytest.mark.feature("OUT-11", breaks="chappe.edge.store.desk:Desk.drop")
def test_dead_letters_can_be_dropped(filled: Folder) -> None:
    """One by its id, then all; ``spilled`` counts them, reason ``operator``."""
    first = min(filled.ledger.dead)
    with filled.desk() as desk:
        assert desk.drop(ids=[first]) == 1
        assert desk.drop(stream="tick", dead=True) == 0
        assert desk.drop(dead=True) == 1
    found = filled.fill()
    assert found.dead == ()
    entry = found.lanes["alert"].entry
    assert (entry.rows, entry.book.spilled, entry.book.queued) == (1, 2, 1)
    assert entry.gaps == (Lost(from_=2, to=3, n=2, reason="operator", boot=BOOT),)
    assert filled.audit() == []


def test_a_gap_that_rode_on_a_dropped_row_is_not_forgotten(folder: Folder) -> None:
    """It goes back to the stream's gaps."""
    lost = to_json(Lost(from_=1, to=9, n=9, reason="expired", boot=NEXT))
    rows = folder.ledger.new("tick", b"1", lost=lost)
    folder.fill(folder.ledger.commit(rows))
    with folder.desk() as desk:
        desk.drop(stream="tick")
    assert folder.fill().lanes["tick"].entry.gaps == (
        Lost(from_=1, to=9, n=9, reason="expired", boot=NEXT),
        Lost(from_=1, to=1, n=1, reason="operator", boot=BOOT),
    )


def test_a_drop_that_fails_changes_nothing(filled: Folder) -> None:
    """Rows, books and gaps are one transaction."""
    before = filled.fill()
    base = sqlite3.connect(filled.path / FILE)
    base.execute("CREATE TRIGGER stop BEFORE INSERT ON lanes BEGIN SELECT RAISE(ABORT, 'no'); END")
    base.close()
    with filled.desk() as desk, pytest.raises(StoreError, match="no"):
        desk.drop(stream="tick")
    base = sqlite3.connect(filled.path / FILE)
    base.execute("DROP TRIGGER stop")
    base.close()
    assert filled.fill() == before
    assert filled.audit() == []


# ── trying again ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-11", breaks="chappe.edge.store.desk:Desk.retry")
def test_dead_letters_become_rows_again(filled: Folder) -> None:
    """With their old numbers and ids, whole; one, or all of a stream."""
    ids = sorted(filled.ledger.dead)
    with filled.desk() as desk:
        assert desk.retry(ids=ids[:1]) == 1
        assert desk.retry(stream="tick") == 0
        assert desk.retry() == 1
    filled.ledger.exhumed(ids)
    found = filled.fill(filled.ledger.page("alert"))
    assert found.dead == ()
    assert found.lanes["alert"].entry == filled.ledger.entries["alert"]
    (page,) = (event for event in filled.events if isinstance(event, Fetched))
    assert list(page.rows) == filled.ledger.of("alert")
    assert filled.audit() == []


# ── the history ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_history_of_a_stopped_device_can_be_read(folder: Folder) -> None:
    """And a reader's place in it kept."""
    entries = tuple(Entry("s", BOOT, seq, WallNs(EPOCH + seq), b'{"data":%d}' % seq) for seq in range(1, 11))
    folder.fill(Chronicle(entries=entries), PlaceCursor(reader="ann", stream="s", offset=3))
    with folder.desk() as desk:
        assert [row.seq for row in desk.history(Query(stream="s", n=3)).rows] == [10, 9, 8]
        desk.place("ann", "s", 7)
        assert [row.seq for row in desk.history(Query(stream="s", reader="ann")).rows] == [9, 10]
        assert desk.history(Query(stream="other")).rows == ()
    folder.fill(Consult(ticket=1, query=Query(stream="s", reader="ann")))
    assert [row.seq for row in folder.events[-1].page.rows if isinstance(folder.events[-1], Consulted)] == [9, 10]  # type: ignore[attr-defined]


# ── who may ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_running_daemon_keeps_its_store_to_itself(folder: Folder) -> None:
    """Until it stops; the desk then keeps a daemon out in its turn."""
    store = Store(folder.path, folder.clock, folder.events.append)
    store.open(threaded=False)
    with pytest.raises(BusyError) as caught:
        folder.desk().open()
    assert caught.value.exit_code == Exit.TRY_AGAIN
    store.close()
    with folder.desk(), pytest.raises(BusyError):
        store.open(threaded=False)


def test_where_no_daemon_ever_ran_there_is_nothing_to_show(folder: Folder) -> None:
    with pytest.raises(StoreError, match="no store"):
        folder.desk().open()
    assert not folder.path.exists()


def test_a_corrupt_store_is_left_to_the_daemon(folder: Folder) -> None:
    """Which salvages it; the command line says so and gives the lock back."""
    folder.fill()
    (folder.path / FILE).write_bytes(b"no database" * 1000)
    for _ in range(2):
        with pytest.raises(StoreError, match="salvages"):
            folder.desk().open()


# ── the audit ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_books_that_agree_have_no_problems(filled: Folder, folder: Folder) -> None:
    assert filled.audit() == []


def test_without_a_store_there_is_nothing_to_audit(folder: Folder) -> None:
    assert folder.audit() == []
    assert not folder.path.exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE lanes SET delivered = delivered + 1 WHERE stream = 'tick'", ["tick: produced 6 is not delivered 1"]),
        ("UPDATE lanes SET rows = 7 WHERE stream = 'tick'", ["tick: 7 rows in the books, 6 in the table"]),
        (
            "UPDATE lanes SET queued = 5, spilled = 1 WHERE stream = 'tick'",
            ["tick: queued 5 is not 6 rows + 0 dead letters"],
        ),
        (
            "DELETE FROM rows WHERE id = (SELECT MIN(id) FROM rows)",
            ["tick: 6 rows in the books, 5 in the table", "tick: queued 6 is not 5 rows + 0 dead letters"],
        ),
        ("DELETE FROM dead", ["alert: queued 3 is not 1 rows + 0 dead letters"]),
    ],
)
@pytest.mark.feature("OUT-12", breaks="chappe.edge.store.audit:differences")
def test_whatever_does_not_agree_is_found(filled: Folder, change: str, told: list[str]) -> None:
    """A counter edited, a row gone, a letter gone."""
    base = sqlite3.connect(filled.path / FILE)
    base.execute(change)
    base.commit()
    base.close()
    problems = filled.audit()
    assert len(problems) == len(told)
    assert all(part in problem for part, problem in zip(told, problems, strict=True))


def test_each_counter_is_in_the_sum(filled: Folder) -> None:
    """One more of any is found, in either direction."""
    entry = filled.fill().lanes["tick"].entry
    for name in ("produced", "delivered", "elided", "expired", "spilled", "queued"):
        book = msgspec.structs.replace(entry.book, **{name: getattr(entry.book, name) + 1})
        assert differences("tick", msgspec.structs.replace(entry, book=book), entry.rows, 0)


@pytest.fixture
def running(folder: Folder) -> Iterator[Callable[..., None]]:
    """A store that is open meanwhile; does what it is given."""
    store = Store(folder.path, folder.clock, folder.events.append)
    store.open(threaded=False)

    def do(*effects: Effect) -> None:
        store.handle(effects)
        store.step(folder.clock.now())

    yield do
    store.close()


def test_the_audit_works_beside_a_running_daemon(folder: Folder, running: Callable[..., None]) -> None:
    """It sees what was committed, locks nobody out, and writes nothing."""
    running(folder.ledger.commit(folder.ledger.new("tick", *values(50))))
    assert folder.audit() == []
    running(folder.ledger.commit(gone=list(folder.ledger.rows)[:20]))
    assert folder.audit() == []
    base = sqlite3.connect(folder.path / FILE)
    base.execute("UPDATE lanes SET spilled = 1")
    base.commit()
    base.close()
    assert len(folder.audit()) == 1


class Slow(ManualClock):
    """A clock on which every look takes a second; now and then something happens meanwhile."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self._happens = happens
        self._looks = 0

    def now(self) -> Ns:
        self.advance(1.0)
        self._looks += 1
        if self._looks == 2:
            self._happens()
        return super().now()


def test_a_long_count_is_made_in_short_transactions(folder: Folder, running: Callable[..., None]) -> None:
    """Where a stream was written to in between, it is counted again: what is told was true at one moment."""
    ledger = folder.ledger
    running(ledger.commit(ledger.new("tick", *values(CHUNK + 100, 20))))
    meanwhile: list[int] = []

    def write() -> None:
        meanwhile.append(1)
        running(ledger.commit(gone=list(ledger.rows)[:50]))

    assert audit(folder.path, Slow(write)) == []
    assert meanwhile == [1]


def test_a_file_that_is_no_store_is_told(folder: Folder) -> None:
    folder.path.mkdir()
    (folder.path / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="cannot be read"):
        folder.audit()


# ── anything at all ──────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    deeds=st.lists(st.tuples(st.sampled_from(["drop", "bury", "retry", "forget"]), st.integers(0, 30)), max_size=6),
)
def test_whatever_the_owner_does_the_books_agree(
    tmp_path_factory: pytest.TempPathFactory, deeds: list[tuple[str, int]]
) -> None:
    """And produced stays what it was."""
    folder = Folder(tmp_path_factory.mktemp("desk") / "state")
    rows = folder.ledger.new("tick", *values(20))
    folder.fill(folder.ledger.commit(rows, burials=[burial(row) for row in rows[10:]]))
    base = rows[0].id
    for deed, n in deeds:
        with folder.desk() as desk:
            if deed == "drop":
                desk.drop(ids=[base + n, base + n + 1])
            elif deed == "forget":
                desk.drop(ids=[base + n], dead=True)
            else:
                desk.retry(ids=[base + n])
        assert folder.audit() == []
    entry = folder.fill().lanes["tick"].entry
    assert entry.book.produced == 20
    assert sum(gap.n or 0 for gap in entry.gaps) == entry.book.spilled
