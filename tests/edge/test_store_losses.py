"""Rows that cannot be read any more: what the books say afterwards, and the bounds of the gap that is told."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chappe.core.books import Book
from chappe.core.envelope import Lost
from chappe.core.events import DiskSampled, Event, Faulted, Fetched
from chappe.core.row import OVERHEAD
from chappe.core.stored import LANE_BITS, LaneEntry
from chappe.core.units import SECOND, Ns
from chappe.edge.store import FILE, Store
from chappe.edge.store.audit import audit
from chappe.edge.store.base import Base, runs
from chappe.edge.store.blobs import Blobs
from chappe.edge.store.losses import Kept, corrected, gap, lose
from chappe.testing import ManualClock

from .ledger import BOOT, Ledger, burial, values, without_fsync

OLD, NEW = "1" * 16, "2" * 16
BOOTS = {1: OLD, 2: NEW}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about durability."""
    without_fsync(monkeypatch)


def entry(queued: int, seq: int, boot: str = OLD, **more: int) -> LaneEntry:
    """An entry of a stream of which `queued` rows wait."""
    book = Book(produced=queued + 5, delivered=5, queued=queued)
    return msgspec.structs.replace(
        LaneEntry(no=1, next=1000, rows=queued, bytes=queued * (10 + OVERHEAD), book=book, boot=boot, seq=seq), **more
    )


def kept(*rows: tuple[int, int], dead: int = 0) -> Kept:
    """Salvaged rows, given by the number of their boot and their own."""
    found = Kept()
    for place, (boot, seq) in enumerate(rows):
        found.add((1 << LANE_BITS) + 10 + place, boot, seq, 10)
    for place in range(dead):
        found.bury((1 << LANE_BITS) + 500 + place)
    return found


# ── the books ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_missing_leaves_queued_and_enters_spilled() -> None:
    """Rows and bytes become those that are there."""
    right, missing = corrected(entry(10, 20), kept((1, 11), (1, 12), (1, 20), dead=1))
    assert missing == 6
    assert (right.rows, right.bytes) == (3, 3 * (10 + OVERHEAD))
    assert (right.book.queued, right.book.spilled, right.book.produced) == (4, 6, 15)
    assert right.book.balanced


def test_rows_that_the_books_do_not_know_were_produced() -> None:
    """As when the entry on the disk is older than the rows."""
    right, missing = corrected(entry(1, 11), kept((1, 11), (1, 12), (1, 13)))
    assert missing == 0
    assert (right.book.queued, right.book.produced, right.book.spilled) == (3, 8, 0)
    assert right.book.balanced


def test_where_nothing_is_missing_nothing_changes() -> None:
    """Not even the bytes: the core may have counted them in its own way."""
    before = entry(2, 12, bytes=7)
    assert corrected(before, kept((1, 11), (1, 12))) == (before, 0)


def test_an_id_that_was_given_is_not_given_again() -> None:
    """Neither a row's nor a dead letter's, whatever the entry says."""
    right, _ = corrected(entry(2, 12, next=3), kept((1, 11), (1, 12)))
    assert right.next == 12
    right, _ = corrected(entry(2, 12, next=3), kept((1, 11), dead=1))
    assert right.next == 501


# ── the gap ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_missing_between_others_are_bounded_by_these() -> None:
    assert gap(entry(10, 20), kept((1, 11), (1, 14), (1, 17), (1, 20)), 4, BOOTS) == Lost(
        from_=12, to=19, n=4, reason="corrupt", boot=OLD
    )


def test_rows_missing_at_the_end_are_bounded_by_the_books() -> None:
    assert gap(entry(10, 20), kept((1, 11), (1, 12)), 8, BOOTS) == Lost(
        from_=13, to=20, n=8, reason="corrupt", boot=OLD
    )


def test_rows_missing_at_the_beginning_are_counted_back() -> None:
    assert gap(entry(10, 20), kept((1, 19), (1, 20)), 8, BOOTS) == Lost(
        from_=11, to=18, n=8, reason="corrupt", boot=OLD
    )


def test_where_nothing_is_left_the_last_numbers_are_missing() -> None:
    assert gap(entry(10, 20), kept(), 10, BOOTS) == Lost(from_=11, to=20, n=10, reason="corrupt", boot=OLD)


def test_over_several_boots_nobody_can_say_where_it_ends() -> None:
    """Numbers start anew with each; the beginning is in the older one."""
    told = gap(entry(10, 6, NEW), kept((1, 11), (1, 15), (2, 1), (2, 3)), 6, BOOTS)
    assert told == Lost(from_=12, n=6, reason="corrupt", boot=OLD)


@settings(max_examples=200)
@given(
    first=st.integers(1, 50),
    waiting=st.sets(st.integers(0, 60), min_size=1),
    lost=st.sets(st.integers(0, 60), min_size=1),
)
def test_the_bounds_hold_whatever_is_missing(first: int, waiting: set[int], lost: set[int]) -> None:
    """Of one boot: every missing number lies within, and there is room for all of them."""
    seqs = sorted(first + each for each in waiting | lost)
    gone = sorted(first + each for each in lost)
    left = kept(*((1, seq) for seq in seqs if seq not in gone))
    right, missing = corrected(entry(len(seqs), seqs[-1]), left)
    told = gap(right, left, missing, BOOTS)
    assert missing == len(gone) == told.n
    assert told.to is not None
    assert told.to - told.from_ + 1 >= missing
    # What was delivered before leaves holes like what is missing: only a loss larger than all holes is known to lie at an end.
    holes = [seq for seq in range(seqs[0], seqs[-1]) if seq not in seqs]
    if not holes:
        assert told.from_ <= gone[0]
        assert told.to >= gone[-1]


# ── in the table ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def base(tmp_path: Path) -> Base:
    made = Base(tmp_path / FILE, Blobs(tmp_path, 10**6))
    made.blobs.open()
    made.open()
    return made


def untold(base: Base) -> Lost | None:
    found = base.entry("tick")
    assert found is not None
    return found[1]


def test_lost_rows_are_off_the_books_in_the_same_transaction(base: Base) -> None:
    """With their bytes, as far as the row can still say; a second loss joins the first."""
    ledger = Ledger()
    rows = ledger.new("tick", *values(10, 50))
    base.apply(ledger.commit(rows, burials=[burial(rows[9])]))
    lose(base, "rows", [rows[3].id, rows[4].id])
    found = base.entry("tick")
    assert found is not None
    assert (found[0].rows, found[0].book.queued, found[0].book.spilled) == (7, 8, 2)
    assert found[0].bytes == sum(len(row.data) + OVERHEAD for row in rows[:3] + rows[5:9])
    assert found[1] == Lost(from_=4, to=5, n=2, reason="corrupt", boot=BOOT)
    lose(base, "dead", [rows[9].id])
    assert untold(base) == Lost(from_=4, to=10, n=3, reason="corrupt", boot=BOOT)
    found = base.entry("tick")
    assert found is not None
    assert (found[0].rows, found[0].book.queued) == (7, 7)
    base.close()


@pytest.mark.parametrize(("place", "bounds"), [(0, (1, 1)), (4, (5, 5)), (9, (10, 10))])
def test_neighbours_know_the_number_of_a_row_that_lies(base: Base, place: int, bounds: tuple[int, int]) -> None:
    """Its own says 7777; what lies before and behind it says otherwise."""
    ledger = Ledger()
    rows = ledger.new("tick", *values(10))
    base.apply(ledger.commit(rows))
    base.link.execute("UPDATE rows SET seq = 7777 WHERE id = ?", (rows[place].id,))
    lose(base, "rows", [rows[place].id])
    told = untold(base)
    assert told is not None
    assert (told.from_, told.to) == bounds
    base.close()


def test_a_loss_that_cannot_be_written_changes_nothing(base: Base) -> None:
    """Neither the row nor the books."""
    ledger = Ledger()
    rows = ledger.new("tick", *values(3))
    base.apply(ledger.commit(rows))
    base.link.execute("CREATE TRIGGER stop BEFORE INSERT ON lanes BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(sqlite3.Error, match="no"):
        lose(base, "rows", [rows[0].id])
    assert base.link.execute("SELECT COUNT(*) FROM rows").fetchone() == (3,)
    assert untold(base) is None
    base.close()


# ── lanes and boots that are lost themselves ─────────────────────────────────────────────────────────────────────────


def salvaged(folder: Path, *spoil: str) -> tuple[Store, list[Event]]:
    """A store opened again after statements on its tables, and noise in the first page."""
    with closing(sqlite3.connect(folder / FILE)) as link:
        for statement in spoil:
            link.execute(statement)
        link.commit()
        link.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with (folder / FILE).open("r+b") as file:
        file.write(b"\xff" * 4096)
    events: list[Event] = []
    store = Store(folder, ManualClock(Ns(SECOND)), events.append)
    store.open(threaded=False)
    return store, events


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two boots' rows of one stream."""
    ledger = Ledger(OLD)
    store = Store(tmp_path, ManualClock(Ns(SECOND)), lambda _: None)
    store.open(threaded=False)
    store.handle([ledger.commit(ledger.new("tick", *values(20)))])
    store.handle([ledger.again(NEW).commit(ledger.new("tick", *values(20)))])
    store.close()
    return tmp_path


def rows_of(store: Store, events: list[Event]) -> list[tuple[str, int]]:
    ledger = Ledger()
    ledger.new("tick")
    store.handle([ledger.page("tick")])
    store.step(Ns(SECOND))
    return [(row.boot, row.seq) for event in events if isinstance(event, Fetched) for row in event.rows]


EVERY = [(boot, seq) for boot in (OLD, NEW) for seq in range(1, 21)]


def test_a_stream_whose_entry_is_lost_goes_on_with_what_is_there(folder: Path) -> None:
    """Its name stands on another page; ids leave room for those that nobody knows of; the books balance."""
    store, events = salvaged(folder, "DELETE FROM lanes")
    found = store.backlog().lanes["tick"].entry
    assert (found.rows, found.book.queued, found.book.produced, found.seq, found.boot) == (40, 40, 40, 20, NEW)
    assert found.next > 1 << 20
    assert rows_of(store, events) == EVERY
    store.close()
    assert audit(folder, ManualClock()) == []


def test_a_boot_whose_record_is_lost_still_has_its_name(folder: Path) -> None:
    """Its clock is not known any more; its rows are."""
    store, events = salvaged(folder, "DELETE FROM boots")
    assert [(boot.boot, boot.kernel, boot.synced) for boot in store.backlog().boots] == [
        (OLD, "", False),
        (NEW, "", False),
    ]
    assert rows_of(store, events) == EVERY
    store.close()


def test_names_that_are_lost_stand_in_the_other_tables(folder: Path) -> None:
    store, events = salvaged(folder, "DELETE FROM names")
    assert rows_of(store, events) == EVERY
    store.close()


def test_rows_that_nobody_can_name_are_missing_and_kept_aside(folder: Path) -> None:
    """Both pages with names gone: the rows cannot be told from noise. The old file still has them."""
    store, events = salvaged(folder, "DELETE FROM names WHERE name LIKE '1%'", "DELETE FROM boots WHERE boot LIKE '1%'")
    assert rows_of(store, events) == EVERY[20:]
    told = store.backlog().corrupt["tick"]
    assert (told.n, told.reason) == (20, "corrupt")
    fault = next(event for event in events if isinstance(event, Faulted))
    assert "20 rows salvaged, 20 not" in fault.message
    assert len(list(folder.glob(f"{FILE}.corrupt-*Z"))) == 1
    store.close()
    assert audit(folder, ManualClock()) == []
    assert {type(event) for event in events} == {Faulted, DiskSampled, Fetched}


def test_a_new_file_for_which_there_is_no_room_takes_what_fits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest counts as missing, is told, and stays in the file that is set aside."""
    from chappe.edge.store import carry

    real = carry.put

    def put(new: Base, statement: str, records: object) -> None:
        pages = int(new.link.execute("PRAGMA page_count").fetchone()[0])
        new.link.execute(f"PRAGMA max_page_count = {pages + 1}").fetchall()
        real(new, statement, records)  # type: ignore[arg-type]
        new.link.execute("PRAGMA max_page_count = 1000000").fetchall()

    monkeypatch.setattr(carry, "put", put)
    monkeypatch.setattr(carry, "BATCH", 7)
    store, events = salvaged(folder)
    found = rows_of(store, events)
    assert 0 < len(found) < 40
    assert found == EVERY[: len(found)]
    assert store.backlog().corrupt["tick"].n == 40 - len(found)
    store.close()
    assert audit(folder, ManualClock()) == []


# ── small parts ──────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.sets(st.integers(0, 40)))
def test_runs_are_exactly_the_numbers_given(numbers: set[int]) -> None:
    """In order, apart, and nothing between: deletes by range must take no other row with them."""
    found = runs(sorted(numbers))
    assert [each for first, last in found for each in range(first, last + 1)] == sorted(numbers)
    assert all(one[1] + 1 < two[0] for one, two in itertools.pairwise(found))
