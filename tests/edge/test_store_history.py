"""What the history does beyond answering: batches, pruning and its log, trouble of its own that leaves the outbox alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chappe.core.effects import Chronicle, Consult, Effect, PlaceCursor
from chappe.core.events import Consulted, DiskSampled, Event, Faulted, Healed
from chappe.core.stored import Entry, Page, Query
from chappe.core.units import DAY, SECOND, Ns, WallNs
from chappe.edge.store import Store
from chappe.edge.store.entries import CURSORS_KEPT, Entries
from chappe.edge.store.pruning import PLAUSIBLE
from chappe.edge.store.search import CHUNK, SLICE, Search
from chappe.testing import EPOCH, ManualClock

from .ledger import BOOT, Ledger, without_fsync

MIB = 1 << 20


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about durability."""
    without_fsync(monkeypatch)


def message(seq: int, data: str = "", stream: str = "s", wall: int | None = None, boot: str = BOOT) -> Entry:
    at = WallNs(EPOCH + seq * SECOND if wall is None else wall)
    return Entry(stream, boot, seq, at, b'{"boot":"%s","seq":%d,"data":"%s"}' % (boot.encode(), seq, data.encode()))


class Bench:
    """A store of which only the history matters."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.clock = ManualClock(Ns(SECOND))
        self.events: list[Event] = []
        self.options = options
        self.start()

    def start(self) -> None:
        self.store = Store(self.folder, self.clock, self.events.append, **self.options)
        self.store.open(threaded=False)

    def ask(self, *effects: Effect) -> Ns | None:
        self.store.handle(effects)
        return self.store.step(self.clock.now())

    def page(self, **query: Any) -> Page:
        self.ask(Consult(ticket=1, query=Query(**{"stream": "s", "newest": False, "n": 100_000, **query})))
        return [event for event in self.events if isinstance(event, Consulted)][-1].page

    def on_disk(self) -> int:
        """Entries that another connection sees."""
        with closing(sqlite3.connect(self.folder / "history.db")) as link:
            return int(link.execute("SELECT COUNT(*) FROM entries").fetchone()[0])

    def told(self) -> list[tuple[str, str]]:
        kinds = (Faulted, Healed)
        return [(type(event).__name__, event.code) for event in self.events if isinstance(event, kinds)]

    def sql(self, statement: str) -> list[Any]:
        return self.store._history._entries.link.execute(statement).fetchall()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def bench(**options: Any) -> Bench:
        made.append(Bench(tmp_path / f"state{len(made)}", **options))
        return made[-1]

    yield bench
    for one in made:
        one.store.close()


@pytest.fixture
def bench(make: Callable[..., Bench]) -> Bench:
    return make()


# ── batches ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_written_for_ten_seconds_after_the_first_of_a_batch(bench: Bench) -> None:
    """Not after the last: a steady trickle is written, too. The step says when it wants to be called."""
    bench.ask()
    for n in range(9):
        due = bench.ask(Chronicle(entries=(message(n + 1),)))
        assert due == 11 * SECOND
        bench.clock.advance(1)
    assert bench.on_disk() == 0
    bench.clock.set(Ns(11 * SECOND))
    bench.ask()
    assert bench.on_disk() == 9
    assert bench.ask() == 21 * SECOND


def test_a_batch_is_one_transaction(bench: Bench) -> None:
    bench.ask()
    begun: list[str] = []
    link = bench.store._history._entries.link
    link.set_trace_callback(lambda text: begun.append(text) if text.startswith("BEGIN") else None)
    for n in range(50):
        bench.ask(Chronicle(entries=(message(n + 1),)))
    bench.clock.advance(10)
    bench.ask()
    assert (len(begun), bench.on_disk()) == (1, 50)


def test_no_entries_make_no_batch(bench: Bench) -> None:
    bench.ask()
    assert bench.ask(Chronicle(entries=())) == 11 * SECOND
    bench.clock.advance(5)
    assert bench.ask() == 11 * SECOND


# ── pruning ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("HIS-01", breaks="chappe.edge.store.entries:Entries.remove")
def test_a_flood_stays_within_the_cap_and_is_logged(make: Callable[..., Bench]) -> None:
    """Cap 10 MB, flood of 30: file and log at most 14, alerts kept, and every offset is there or in the log of what was removed."""
    bench = make(history_bytes=10 * MIB)
    bench.ask(Chronicle(entries=tuple(message(n, "alert", "alert") for n in range(1, 11))))
    for start in range(1, 3001, 100):
        bench.ask(Chronicle(entries=tuple(message(n, "x" * 10_000) for n in range(start, start + 100))))
    size = sum(path.stat().st_size for path in bench.folder.glob("history.db*"))
    assert size <= 14 * MIB
    assert len(bench.page(stream="alert").rows) == 10
    page = bench.page()
    assert [row.seq for row in page.rows] == list(range(page.rows[0].seq, 3001))
    removed = bench.sql('SELECT stream, "first", "last", n, reason FROM removed')
    assert removed == [("s", 0, page.rows[0].offset - 1, page.rows[0].offset, "bytes")]


def test_only_when_nothing_else_is_left_alerts_go(make: Callable[..., Bench]) -> None:
    bench = make(history_bytes=20_000)
    bench.ask(Chronicle(entries=tuple(message(n, "x" * 1000) for n in range(1, 11))))
    bench.ask(Chronicle(entries=tuple(message(n, "x" * 1000, "alert") for n in range(1, 31))))
    assert bench.page().rows == ()
    alerts = bench.page(stream="alert").rows
    assert 10 < len(alerts) < 20
    assert alerts[-1].seq == 30


def test_age_is_pruned_a_little_at_a_time(bench: Bench) -> None:
    """So many that one look cannot take all: the next ones do."""
    bench.ask(Chronicle(entries=tuple(message(n) for n in range(1, 2001))), Consult(ticket=1, query=Query()))
    bench.clock.set(Ns(8 * DAY))
    bench.ask()
    left = [bench.on_disk()]
    while left[-1]:
        bench.clock.advance(10)
        bench.ask()
        left.append(bench.on_disk())
    assert left == [1488, 976, 464, 0]
    assert bench.sql('SELECT "first", "last", n, reason FROM removed') == [(0, 1999, 2000, "age")]


def test_entries_of_a_clock_that_was_never_set_are_not_old(bench: Bench) -> None:
    """They say 1970; they go when those around them do."""
    entries = [message(n, wall=n) for n in range(1, 4)]
    bench.ask(Chronicle(entries=tuple(entries)))
    bench.clock.set(Ns(DAY))
    bench.ask()
    assert len(bench.page().rows) == 3
    bench.ask(Chronicle(entries=(message(4), message(5, wall=EPOCH + 5 * DAY))), Consult(ticket=1, query=Query()))
    bench.clock.set(Ns(8 * DAY))
    bench.ask()
    assert [row.seq for row in bench.page().rows] == [5]
    assert PLAUSIBLE < EPOCH


def test_a_removal_for_another_reason_is_another_line(bench: Bench) -> None:
    """One line grows as long as it is the same story."""
    entries = bench.store._history._entries
    entries.append([message(n) for n in range(1, 11)])
    for n, reason in ((2, "age"), (3, "age"), (1, "bytes"), (1, "age")):
        entries.remove("s", entries.oldest("s", n), reason, EPOCH)
    assert bench.sql('SELECT "first", "last", n, reason FROM removed ORDER BY id') == [
        (0, 4, 5, "age"),
        (5, 5, 1, "bytes"),
        (6, 6, 1, "age"),
    ]


# ── cursors and offsets ──────────────────────────────────────────────────────────────────────────────────────────────


def test_strangers_cannot_fill_the_disk_with_cursors(tmp_path: Path) -> None:
    """The one placed longest ago makes room."""
    entries = Entries(tmp_path / "history.db")
    entries.open()
    entries.link.execute("PRAGMA synchronous=OFF")
    for n in range(CURSORS_KEPT + 5):
        entries.place(f"reader{n}", "s", n)
        entries.place("me", "s", n)
    assert entries.cursor("me", "s") == CURSORS_KEPT + 4
    assert entries.cursor("reader0", "s") is None
    assert entries.link.execute("SELECT COUNT(*) FROM cursors").fetchone()[0] <= CURSORS_KEPT
    entries.close()


def test_an_offset_is_never_given_twice(bench: Bench) -> None:
    """Not even when everything has been removed, and over a restart."""
    bench.ask(Chronicle(entries=tuple(message(n) for n in range(1, 6))), Consult(ticket=1, query=Query()))
    bench.clock.set(Ns(30 * DAY))
    bench.ask()
    bench.store.close()
    bench.start()
    bench.ask(Chronicle(entries=(message(6, wall=EPOCH + 30 * DAY),)))
    assert [(row.offset, row.seq) for row in bench.page().rows] == [(5, 6)]


def test_what_was_told_is_on_the_disk(bench: Bench) -> None:
    """An offset that somebody was told belongs to that message, whatever happens next."""
    bench.ask(Chronicle(entries=(message(1),)))
    assert bench.on_disk() == 0
    assert len(bench.page().rows) == 1
    assert bench.on_disk() == 1


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=st.integers(1, 700),
    newest=st.booleans(),
    page=st.sampled_from([1, 50, CHUNK, CHUNK + 1, 500]),
    most=st.integers(1, 999),
)
def test_pages_of_any_size_join_without_a_seam(
    tmp_path_factory: pytest.TempPathFactory, n: int, newest: bool, page: int, most: int
) -> None:
    """However the work is sliced, every entry comes once and in order."""
    entries = Entries(tmp_path_factory.mktemp("history") / "history.db")
    entries.open()
    entries.link.execute("PRAGMA synchronous=OFF")
    entries.append([message(seq) for seq in range(1, n + 1)])
    found: list[int] = []
    after = None
    while True:
        search = Search(entries, Query(stream="s", n=page, newest=newest, after=after))
        while (answer := search.advance(most)) is None:
            pass
        found += [row.seq for row in answer.rows]
        if not answer.more:
            break
        after = answer.rows[-1].offset
    entries.close()
    assert found == (list(range(n, 0, -1)) if newest else list(range(1, n + 1)))


def test_a_slice_looks_at_a_bounded_number(tmp_path: Path) -> None:
    """A search without a hit comes back empty-handed before it goes on."""
    entries = Entries(tmp_path / "history.db")
    entries.open()
    entries.append([message(seq) for seq in range(1, 2 * SLICE + 2)])
    search = Search(entries, Query(stream="s", text="nowhere"))
    assert [search.advance(), search.advance(), search.advance()] == [None, None, Page(first=0)]
    entries.close()


def test_text_is_found_as_it_reads_and_as_json_spells_it(bench: Bench) -> None:
    r"""Quotes, umlauts in either case, backslashes."""
    entries = [
        Entry("s", BOOT, 1, EPOCH, '{"data":{"note":"he said \\"Tür auf\\""}}'.encode()),
        Entry("s", BOOT, 2, EPOCH, b'{"data":{"note":"C:\\\\temp"}}'),
        Entry("s", BOOT, 3, EPOCH, b"no json"),
    ]
    bench.ask(Chronicle(entries=tuple(entries)))
    for text, expected in (
        ('"TÜR AUF"', [1]),
        ("c:\\temp", [2]),
        ("note", [1, 2]),
        ('"note":"he', [1]),
        ("no json", []),
    ):
        assert [row.seq for row in bench.page(text=text).rows] == expected


# ── trouble ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_entry_that_is_not_what_was_written_is_left_out(bench: Bench) -> None:
    """Removed, logged and told."""
    bench.ask(Chronicle(entries=tuple(message(n) for n in range(1, 4))), Consult(ticket=1, query=Query()))
    bench.sql("UPDATE entries SET seq = 9 WHERE seq = 2")
    assert [row.seq for row in bench.page().rows] == [1, 3]
    assert bench.told() == [("Faulted", "store_corrupt")]
    assert bench.sql('SELECT "first", "last", n, reason FROM removed') == [(1, 1, 1, "corrupt")]
    assert bench.on_disk() == 2


def test_a_history_that_cannot_be_opened_is_a_fault_and_no_more(tmp_path: Path) -> None:
    """The outbox works; questions are answered with the reason; it heals by itself."""
    folder = tmp_path / "state"
    (folder / "history.db").mkdir(parents=True)
    bench = Bench(folder)
    assert bench.told() == [("Faulted", "history_failed")]
    ledger = Ledger()
    bench.ask(ledger.commit(ledger.new("tick", b"1")), Chronicle(entries=(message(1),)))
    bench.ask(Consult(ticket=7, query=Query()), PlaceCursor(reader="r", stream="s", offset=0))
    (answer,) = (event for event in bench.events if isinstance(event, Consulted))
    assert (answer.ticket, answer.page) == (7, Page())
    assert "cannot be opened" in answer.error
    (folder / "history.db").rmdir()
    bench.clock.advance(10)
    bench.ask()
    assert bench.told() == [("Faulted", "history_failed"), ("Healed", "history_failed")]
    assert [row.seq for row in bench.page().rows] == [1]
    bench.store.close()
    assert bench.store.open(threaded=False) is None
    assert bench.store.backlog().lanes["tick"].entry.rows == 1
    bench.store.close()


def test_a_history_that_is_no_database_is_set_aside(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "history.db").write_bytes(b"garbage" * 1000)
    bench = Bench(folder)
    assert bench.told() == [("Faulted", "store_corrupt")]
    bench.ask(Chronicle(entries=(message(1),)))
    assert [row.seq for row in bench.page().rows] == [1]
    assert len(list(folder.glob("history.db.corrupt-*Z"))) == 1
    bench.store.close()


def test_a_history_that_breaks_while_it_is_read_answers_with_what_is_left(bench: Bench) -> None:
    """The question that met it is answered with the error, the next one with what could be salvaged."""
    bench.ask(Chronicle(entries=tuple(message(n, "x" * 300) for n in range(1, 1001))), Consult(ticket=1, query=Query()))
    link = bench.store._history._entries.link
    link.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    (page,) = link.execute(
        "SELECT pageno FROM dbstat WHERE name = 'entries' AND pagetype = 'leaf' LIMIT 1 OFFSET 9"
    ).fetchone()
    with (bench.folder / "history.db").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    link.execute("PRAGMA cache_size=1").fetchall()
    link.execute("PRAGMA shrink_memory").fetchall()
    bench.page()
    assert "malformed" in [event for event in bench.events if isinstance(event, Consulted)][-1].error
    seqs = [row.seq for row in bench.page().rows]
    assert 980 < len(seqs) < 1000
    assert bench.told() == [("Faulted", "store_corrupt")]


def test_samples_of_the_disk_are_the_only_other_thing_told(bench: Bench) -> None:
    bench.ask(Chronicle(entries=(message(1),)))
    assert {type(event) for event in bench.events} == {DiskSampled}
