"""A store whose file is not what was written: what can be read is carried over, the rest is counted and told, and nothing is wiped."""

from __future__ import annotations

import random
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chappe.core.effects import Chronicle, Consult, Count, Effect, Fetch, Remember
from chappe.core.events import (
    CommitFailed,
    Committed,
    Consulted,
    Counted,
    DiskSampled,
    Event,
    Faulted,
    Fetched,
    Healed,
    StoreReset,
)
from chappe.core.stored import Entry, Query, Standing
from chappe.core.units import SECOND, Ns, WallNs
from chappe.edge.store import FILE, Store
from chappe.edge.store.audit import audit
from chappe.edge.store.base import Base
from chappe.edge.store.codec import CorruptError
from chappe.edge.store.database import PAGE
from chappe.edge.store.losses import lose
from chappe.testing import ManualClock

from .ledger import Ledger, burial, values, without_fsync

E = TypeVar("E", bound=Event)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about durability."""
    without_fsync(monkeypatch)


@dataclass
class Bench:
    """One state folder, its store, and the core's idea of what is in it."""

    folder: Path
    ledger: Ledger = field(default_factory=Ledger)
    clock: ManualClock = field(default_factory=lambda: ManualClock(Ns(SECOND)))
    events: list[Event] = field(default_factory=list)
    store: Store | None = None

    def open(self, **options: int) -> Store:
        self.store = Store(self.folder, self.clock, self.events.append, kernel="k", **options)  # type: ignore[arg-type]
        self.store.open(threaded=False)
        return self.store

    def ask(self, *effects: Effect) -> list[Event]:
        """Hand effects over; returns what was posted."""
        assert self.store is not None
        before = len(self.events)
        self.store.handle(effects)
        self.store.step(self.clock.now())
        return [event for event in self.events[before:] if not isinstance(event, DiskSampled)]

    def close(self) -> None:
        if self.store is not None:
            self.store.close()
            self.store = None

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def file(self) -> Path:
        return self.folder / FILE

    def fill(self, n: int = 600) -> None:
        """Two streams of rows, some delivered, a dead letter, something remembered, a delivery state; closed."""
        self.open()
        ledger = self.ledger
        ticks = ledger.new("tick", *values(n))
        alerts = ledger.new("alert", *values(n // 3, 900))
        self.ask(ledger.commit([*ticks, *alerts], standings=(Standing(stream="alert", boot="b", seq=1, state="sent"),)))
        self.ask(Remember(key="camera", value="off"))
        self.ask(ledger.commit(gone=[row.id for row in ticks[:20]], burials=[burial(alerts[0])]))
        self.close()

    def noise(self, page: int, seed: int = 1) -> None:
        """4 KiB of noise in the place of a page."""
        with self.file.open("r+b") as file:
            file.seek((page - 1) * PAGE)
            file.write(random.Random(seed).randbytes(PAGE))

    def fetched(self, stream: str) -> list[int]:
        """Ids of all rows of a stream that the store still gives, page by page."""
        found: list[int] = []
        question = self.ledger.page(stream)
        while question.after < question.upto:
            answers = [event for event in self.ask(question) if isinstance(event, Fetched)]
            found += [row.id for row in answers[-1].rows]
            for row in answers[-1].rows:
                assert row == self.ledger.rows[row.id], "a row that is not what was written"
            question = Fetch(stream=stream, after=answers[-1].after, upto=question.upto)
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "state")
    yield made
    made.close()


def pages_of(file: Path, table: str) -> list[int]:
    """Leaf pages of a table; the first is the root where that is a leaf itself."""
    link = sqlite3.connect(file)
    try:
        found = link.execute("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path", (table,))
        return [number for (number,) in found]
    finally:
        link.close()


def root_of(file: Path, table: str) -> int:
    link = sqlite3.connect(file)
    try:
        return int(link.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0])
    finally:
        link.close()


def leaf_ids(file: Path, page: int) -> set[int]:
    """Ids of the rows in a page, by the product's own reader of pages; `test_store_pages` checks that against SQLite."""
    from chappe.edge.store.pages import Pages

    pages = Pages(file)
    pages.open()
    try:
        return {id_ for id_, _ in pages.records(pages.page(page))}
    finally:
        pages.close()


def assert_accounted(bench: Bench, lost: set[int]) -> None:
    """Everything but `lost` is there, the books balance, and what is missing is told with bounds that hold."""
    assert bench.store is not None
    found = bench.store.backlog()
    assert found.salvaged == len(bench.ledger.rows) + len(bench.ledger.dead) - len(lost)
    for stream, lane in found.lanes.items():
        gone = [bench.ledger.rows[id_].seq for id_ in lost if bench.ledger.rows[id_].stream == stream]
        assert bench.fetched(stream) == [row.id for row in bench.ledger.of(stream) if row.id not in lost]
        assert lane.entry.book.balanced
        assert lane.entry.book.spilled == len(gone)
        if not gone:
            assert stream not in found.corrupt
            continue
        told = found.corrupt[stream]
        assert (told.n, told.reason, told.boot) == (len(gone), "corrupt", bench.ledger.boot)
        assert told.from_ <= min(gone)
        assert told.to is not None
        assert told.to >= max(gone)
    assert audit(bench.folder, bench.clock) == []


# ── at the start ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_page_of_noise_costs_the_rows_in_it_and_no_others(bench: Bench) -> None:
    """Found at the first look that meets the page; here at the start, as it holds a stream's last row."""
    bench.fill()
    page = pages_of(bench.file, "rows")[-1]
    lost = leaf_ids(bench.file, page) & bench.ledger.rows.keys()
    assert lost
    bench.noise(page)
    store = bench.open()
    assert_accounted(bench, lost)
    assert store.memory() == {"camera": "off"}
    assert [letter.id for letter in store.backlog().dead] == list(bench.ledger.dead)
    assert [one.state for one in store.backlog().receipts] == ["sent"]
    assert [one.boot for one in store.backlog().boots] == [bench.ledger.boot]


def test_the_old_file_is_kept_and_the_fault_names_it(bench: Bench) -> None:
    """Set aside under the time of the start, byte for byte; the message has its path and what was salvaged."""
    bench.fill()
    bench.noise(1)
    before = bench.file.read_bytes()
    bench.open()
    (aside,) = bench.folder.glob(f"{FILE}.corrupt-*Z")
    assert aside.name == f"{FILE}.corrupt-20261121T210000Z"
    assert aside.read_bytes() == before
    (fault,) = bench.of(Faulted)
    assert (fault.part, fault.code) == ("store", "store_corrupt")
    assert str(aside) in fault.message
    assert f"{len(bench.ledger.rows) + 1} rows salvaged" in fault.message


@pytest.mark.feature("OUT-14", breaks="chappe.edge.store.carry:carry_outbox")
@pytest.mark.parametrize("table", ["first page", "rows", "lanes", "boots", "names", "memory", "pointer map", "dead"])
def test_any_page_may_be_noise(bench: Bench, table: str) -> None:
    """The first page, the pointer map, or the root of any table: no other page loses a row."""
    bench.fill()
    place = {"first page": 1, "pointer map": 2}
    bench.noise(place.get(table) or root_of(bench.file, table))
    store = bench.open()
    ticks = bench.fetched("tick")
    alerts = bench.fetched("alert")
    assert ticks == [row.id for row in bench.ledger.of("tick")]
    assert alerts == [row.id for row in bench.ledger.of("alert")]
    if table == "dead":
        assert bench.of(Faulted)[0].code == "store_corrupt"
        assert store.backlog().corrupt["alert"].n == 1
    elif table != "pointer map":
        assert [letter.id for letter in store.backlog().dead] == list(bench.ledger.dead)
    assert audit(bench.folder, bench.clock) == []


def test_a_file_that_ends_too_early_gives_what_it_has(bench: Bench) -> None:
    """Cut in the middle of a page."""
    bench.fill()
    whole = bench.file.stat().st_size // PAGE
    lost = set[int]()
    for page in range(whole // 2 + 1, whole + 1):
        if page in pages_of(bench.file, "rows"):
            lost |= leaf_ids(bench.file, page) & bench.ledger.rows.keys()
    with bench.file.open("r+b") as file:
        file.truncate(whole // 2 * PAGE + 100)
    bench.open()
    if bench.store is not None and bench.store.backlog().salvaged is None:
        bench.fetched("tick")
    for stream in ("tick", "alert"):
        assert bench.fetched(stream) == [row.id for row in bench.ledger.of(stream) if row.id not in lost]
    assert bench.of(Faulted)[0].code == "store_corrupt"


def test_a_file_that_was_never_a_database_is_set_aside(bench: Bench) -> None:
    """The daemon starts with an empty one; nothing is wiped."""
    bench.folder.mkdir()
    bench.file.write_bytes(b"no database at all" * 100)
    store = bench.open()
    assert store.backlog().salvaged == 0
    assert store.backlog().lanes == {}
    (aside,) = bench.folder.glob("*.corrupt-*")
    assert aside.read_bytes() == b"no database at all" * 100


def test_rows_that_were_deleted_do_not_come_back(bench: Bench) -> None:
    """Their pages are free, and still hold them; the pointer map knows."""
    bench.open()
    rows = bench.ledger.new("tick", *values(2000))
    bench.ask(bench.ledger.commit(rows))
    bench.ask(bench.ledger.commit(gone=[row.id for row in rows[:1500]]))
    bench.close()
    bench.noise(1)
    bench.open()
    assert_accounted(bench, set())


def test_a_garbage_log_is_not_taken_for_an_empty_one(bench: Bench) -> None:
    """SQLite would write over it without a word; what was in it is missing by the books only if those were not in it, too."""
    bench.fill()
    log = Path(f"{bench.file}-wal")
    log.write_bytes(random.Random(3).randbytes(PAGE * 3))
    bench.open()
    assert bench.of(Faulted)[0].code == "store_corrupt"
    assert_accounted(bench, set())
    (aside,) = bench.folder.glob("*.corrupt-*-wal")
    assert aside.read_bytes() == random.Random(3).randbytes(PAGE * 3)


def test_what_only_the_log_has_is_salvaged(bench: Bench) -> None:
    """As after a kill, before anything was carried from the log into the file, which then breaks."""
    bench.open()
    bench.ask(bench.ledger.commit(bench.ledger.new("tick", *values(300))))
    assert bench.store is not None
    copy = {side: Path(f"{bench.file}{side}").read_bytes() for side in ("", "-wal")}
    bench.close()
    for side, content in copy.items():
        Path(f"{bench.file}{side}").write_bytes(content)
    with bench.file.open("r+b") as file:
        file.write(b"\0" * 100)
    # The newest version of the first page is in the log too: spoil that as well, where SQLite looks for it.
    header = bytearray(copy["-wal"])
    header[32 + 24 : 32 + 24 + 16] = b"not a database!!"
    bench.open()
    assert bench.fetched("tick") == [row.id for row in bench.ledger.of("tick")]


@pytest.mark.parametrize("seed", [49, 50, 51])
def test_noise_in_the_descriptions_of_tables_is_noise_like_any_other(bench: Bench, seed: int) -> None:
    """SQLite quotes it in its message, which may then be no text at all."""
    bench.fill()
    content = bench.file.read_bytes()
    for at in range(content.index(b"CREATE TABLE"), PAGE, 600):
        noise = random.Random(seed).randbytes(64)
        bench.file.write_bytes(content[:at] + noise + content[at + 64 :])
        bench.open()
        for stream in ("tick", "alert"):
            assert bench.fetched(stream) == [row.id for row in bench.ledger.of(stream)]
        bench.close()


# ── while running ────────────────────────────────────────────────────────────────────────────────────────────────────


def spoil_live(bench: Bench, page: int) -> None:
    """Noise under a running store: what it has in its log goes to the file first, and its cache is dropped."""
    assert bench.store is not None
    link = bench.store._vault._base.link
    link.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    bench.noise(page)
    link.execute("PRAGMA shrink_memory").fetchall()
    # The cache is as valid as the file's change counter says; a smaller cache lets the page go.
    link.execute("PRAGMA cache_size=1").fetchall()


def test_a_page_found_at_a_fetch_resets_the_store_and_answers_all_the_same(bench: Bench) -> None:
    """The page asked for comes out of the new file; the loss is kept with the stream until the core has written it in its books."""
    bench.fill()
    page = pages_of(bench.file, "rows")[3]
    lost = leaf_ids(bench.file, page)
    bench.open()
    spoil_live(bench, page)
    found = bench.fetched("tick")
    assert found == [row.id for row in bench.ledger.of("tick") if row.id not in lost]
    (reset,) = bench.of(StoreReset)
    assert reset.salvaged == len(bench.ledger.rows) + 1 - len(lost)
    assert Path(reset.path).exists()
    assert bench.of(Faulted)[0].code == "store_corrupt"
    bench.close()
    assert bench.open().backlog().corrupt["tick"].n == len(lost), "a kill before the core has told it must not hide it"
    assert audit(bench.folder, bench.clock) == []


def test_a_commit_that_meets_a_corrupt_page_is_done_once_more(bench: Bench) -> None:
    """In the new file; the core hears of the reset first."""
    bench.fill()
    page = pages_of(bench.file, "rows")[3]
    ids = leaf_ids(bench.file, page)
    bench.open()
    spoil_live(bench, page)
    fresh = bench.ledger.new("tick", b"1")
    posted = bench.ask(bench.ledger.commit(fresh, gone=sorted(ids)))
    assert [type(event) for event in posted] == [Faulted, StoreReset, Committed]
    assert fresh[0].id in bench.fetched("tick")


def test_a_loss_is_told_until_the_core_has_it_in_its_books(bench: Bench) -> None:
    """And only so long."""
    bench.fill()
    bench.noise(pages_of(bench.file, "rows")[-1])
    n = bench.open().backlog().corrupt["alert"].n
    bench.close()
    assert bench.open().backlog().corrupt["alert"].n == n
    bench.ask(bench.ledger.commit(bench.ledger.new("alert", b"1")))
    bench.close()
    assert bench.open().backlog().corrupt == {}


def test_a_commit_that_cannot_be_redone_is_answered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even a new file can be made."""
    bench.fill()
    page = pages_of(bench.file, "rows")[3]
    ids = leaf_ids(bench.file, page)
    bench.open()
    spoil_live(bench, page)

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("chappe.edge.store.vault.rescue", fail)
    posted = bench.ask(bench.ledger.commit(gone=sorted(ids)))
    assert [(event.code, "Input/output" in event.message) for event in posted if isinstance(event, CommitFailed)] == [
        ("store_failed", True)
    ]


@pytest.mark.parametrize("question", ["page", "count"])
def test_what_cannot_be_read_now_is_tried_again_and_never_answered_with_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    """The core would take "no rows" for rows that are lost. A second later it is asked again; other work goes on."""
    bench.fill()
    bench.open()
    fetch = bench.ledger.page("tick", limit=3)
    asked = fetch if question == "page" else Count(stream="tick", after=fetch.after, upto=fetch.upto)
    with monkeypatch.context() as broken:

        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        broken.setattr("chappe.edge.store.reading.fetch", fail)
        broken.setattr("chappe.edge.store.reading.count", fail)
        posted = bench.ask(asked, bench.ledger.commit(bench.ledger.new("tick", b"1")))
        assert [type(event) for event in posted] == [Faulted, Healed, Committed]
        assert bench.store is not None
        assert bench.store.step(bench.clock.now()) == 2 * SECOND
    bench.clock.advance(1)
    (answer,) = bench.ask()
    assert isinstance(answer, Fetched | Counted)
    assert answer.rows == (tuple(bench.ledger.of("tick")[:3]) if question == "page" else len(bench.ledger.of("tick")))


# ── single rows ──────────────────────────────────────────────────────────────────────────────────────────────────────

COLUMNS = ("boot", "seq", "at", "accepted", "late", "attempts", "size", "crc", "key", "model", "elided", "lost", "data")


@pytest.mark.parametrize("column", COLUMNS)
def test_a_row_that_is_not_what_was_written_is_left_out(bench: Bench, column: str) -> None:
    """Whichever column; it is counted as bad, deleted, off the books, and told with its number."""
    bench.fill()
    link = sqlite3.connect(bench.file)
    victim = bench.ledger.of("tick")[5]
    change = (
        "x'00'" if column in ("data", "elided", "lost") else "'x'" if column in ("key", "model") else f'"{column}" + 1'
    )
    link.execute(f'UPDATE rows SET "{column}" = {change} WHERE id = ?', (victim.id,))
    link.commit()
    link.close()
    bench.open()
    (answer,) = (event for event in bench.ask(bench.ledger.page("tick", limit=10)) if isinstance(event, Fetched))
    assert answer.bad == 1
    assert [row.id for row in answer.rows] == [row.id for row in bench.ledger.of("tick")[:10] if row is not victim]
    assert len(bench.fetched("tick")) == len(bench.ledger.of("tick")) - 1
    assert bench.of(Faulted)[0].code == "store_corrupt"
    bench.close()
    told = bench.open().backlog().corrupt["tick"]
    assert (told.from_, told.to, told.n) == (victim.seq, victim.seq, 1)
    assert audit(bench.folder, bench.clock) == []


def test_a_sweep_leaves_it_out_as_well(bench: Bench) -> None:
    """Although it gives no data."""
    bench.fill()
    link = sqlite3.connect(bench.file)
    link.execute("UPDATE rows SET data = x'00' WHERE id = ?", (bench.ledger.of("tick")[0].id,))
    link.commit()
    link.close()
    bench.open()
    (answer, *_) = (
        event for event in bench.ask(bench.ledger.page("tick", purpose="sweep")) if isinstance(event, Fetched)
    )
    assert answer.bad == 1
    assert {row.data for row in answer.rows} == {b""}


def test_a_row_that_calls_itself_gigabytes_is_noise(bench: Bench) -> None:
    """By the length in front of its record: no room is made for it, and the page is salvaged."""
    bench.fill()
    page = pages_of(bench.file, "rows")[4]
    with bench.file.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        content = file.read(PAGE)
        cell = struct.unpack(">H", content[8:10])[0]
        # A payload of 8 GiB, where one of two bytes' length was.
        file.seek((page - 1) * PAGE + cell)
        file.write(b"\xa0\x80\x80\x80\x00")
    bench.open()
    found = bench.fetched("tick")
    assert len(bench.ledger.of("tick")) - 3 < len(found) < len(bench.ledger.of("tick"))
    assert bench.of(Faulted)[0].code == "store_corrupt"


def test_a_file_that_breaks_while_a_row_is_left_out_counts_the_row_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new file has no such row any more."""
    bench.fill()
    victim = bench.ledger.of("tick")[5]
    with closing(sqlite3.connect(bench.file)) as link:
        link.execute("UPDATE rows SET data = x'00' WHERE id = ?", (victim.id,))
        link.commit()
    store = bench.open()
    hits: list[int] = []

    def breaks_once(base: Base, table: str, ids: list[int]) -> None:
        hits.append(1)
        if len(hits) == 1:
            raise CorruptError("malformed")
        lose(base, table, ids)

    monkeypatch.setattr("chappe.edge.store.vault.lose", breaks_once)
    bench.ask(bench.ledger.page("tick"))
    assert len(hits) == 2
    assert [event.salvaged for event in bench.of(StoreReset)] == [len(bench.ledger.rows)]
    found = store._base.entry("tick")
    assert found is not None
    assert found[0].book.spilled == 1
    assert found[1] is not None
    assert found[1].n == 1
    assert audit(bench.folder, bench.clock) == []


def test_a_dead_letter_that_is_not_what_was_written_is_off_the_books(bench: Bench) -> None:
    """Found at the start, where all are read."""
    bench.fill()
    link = sqlite3.connect(bench.file)
    link.execute("UPDATE dead SET reason = 'poison'")
    link.commit()
    link.close()
    found = bench.open().backlog()
    assert found.dead == ()
    assert found.corrupt["alert"].n == 1
    assert audit(bench.folder, bench.clock) == []


def test_a_blob_that_is_missing_or_wrong_counts_as_bad(bench: Bench) -> None:
    """By its sha256; the row goes with it."""
    bench.open(inline=256)
    rows = bench.ledger.new("tick", *values(3, 1000))
    bench.ask(bench.ledger.commit(rows))
    blobs = sorted((bench.folder / "blobs").iterdir())
    assert len(blobs) == 3
    blobs[0].unlink()
    blobs[1].write_bytes(b"x" * 1000)
    (answer,) = (event for event in bench.ask(bench.ledger.page("tick")) if isinstance(event, Fetched))
    assert (answer.bad, [row.id for row in answer.rows]) == (2, [rows[2].id])
    assert audit(bench.folder, bench.clock) == []


# ── kills in the middle of it ────────────────────────────────────────────────────────────────────────────────────────


def test_a_salvage_that_was_killed_begins_again(bench: Bench) -> None:
    """A half-made new file is forgotten while the old one is there."""
    bench.fill()
    bench.noise(1)
    half = bench.folder / f"{FILE}.salvage"
    half.write_bytes(b"half")
    bench.open()
    assert_accounted(bench, set())
    assert not half.exists()


def test_a_salvage_that_was_killed_at_its_very_end_counts(bench: Bench) -> None:
    """The old file is aside, the new one whole, but not yet in its place; the old one's log must not meet it."""
    bench.fill()
    bench.file.rename(bench.folder / f"{FILE}.salvage")
    Path(f"{bench.file}-wal").write_bytes(b"old log")
    bench.open()
    for stream in ("tick", "alert"):
        assert bench.fetched(stream) == [row.id for row in bench.ledger.of(stream)]
    assert [path.read_bytes() for path in bench.folder.glob("*.corrupt-*-wal")] == [b"old log"]


# ── the history ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_corrupt_history_is_salvaged_and_its_offsets_go_on(bench: Bench) -> None:
    """The outbox does not notice; an offset that was given is not given again."""
    bench.open()
    entries = [
        Entry("s", "b" * 16, seq, WallNs(bench.clock.wall() + seq), b'{"data":%d}' % seq) for seq in range(1, 2001)
    ]
    bench.ask(Chronicle(entries=tuple(entries)))
    bench.close()
    file = bench.folder / "history.db"
    page = pages_of(file, "entries")[-1]
    with file.open("r+b") as opened:
        opened.seek((page - 1) * PAGE)
        opened.write(random.Random(5).randbytes(PAGE))
    bench.open()
    bench.ask(Consult(ticket=1, query=Query(stream="s", n=5000, newest=False)))
    bench.ask(Chronicle(entries=(Entry("s", "c" * 16, 1, bench.clock.wall(), b'{"data":0}'),)))
    bench.ask(Consult(ticket=2, query=Query(stream="s", n=5000, newest=False)))
    page_ = bench.of(Consulted)[-1].page
    assert 1900 < len(page_.rows) < 2001
    assert all(row.envelope == b'{"data":%d}' % row.seq for row in page_.rows[:-1])
    assert all(row.offset == row.seq - 1 for row in page_.rows[:-1])
    assert page_.rows[-1].offset == 2000
    assert list(bench.folder.glob("history.db.corrupt-*Z"))
    assert bench.of(Faulted)[0].code == "store_corrupt"


# ── anywhere at all ──────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), length=st.sampled_from([1, 64, 4096, 10_000]), seed=st.integers(0, 99))
def test_noise_anywhere_never_invents_a_row(
    tmp_path_factory: pytest.TempPathFactory, where: float, length: int, seed: int
) -> None:
    """Whatever bytes are hit: it starts, and every row it gives is one that was written.

    The books never know of fewer rows than there are, unless they are hit themselves; of one more only where noise turned a row's id into
    another's, which the core then finds missing.
    """
    bench = Bench(tmp_path_factory.mktemp("noise") / "state")
    bench.fill(300)
    at = int(where * bench.file.stat().st_size)
    books_at = (root_of(bench.file, "lanes") - 1) * PAGE
    with bench.file.open("r+b") as file:
        file.seek(at)
        file.write(random.Random(seed).randbytes(length))
    try:
        bench.open()
        for stream in ("tick", "alert"):
            bench.fetched(stream)
        bench.close()
        bench.open()
        if at + length <= books_at or at >= books_at + PAGE:
            assert bench.store is not None
            for stream, lane in bench.store.backlog().lanes.items():
                assert len(bench.fetched(stream)) <= lane.entry.rows
                assert lane.entry.book.balanced
    finally:
        bench.close()
