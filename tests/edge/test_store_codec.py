"""Structs as records and back: nothing is changed on the way, and whatever is changed afterwards is noticed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chappe.core.books import Book
from chappe.core.envelope import Lost
from chappe.core.stored import Burial, LaneEntry, Standing, StoredRow
from chappe.core.units import Ns, WallNs
from chappe.edge.store import codec
from chappe.edge.store.carry import is_of
from chappe.edge.store.codec import File
from chappe.edge.store.schema import ANNALS, BOOK, BOOT, DEAD, LANE, MEMORY, NAME, OUTBOX, ROW, STANDING

BOOT_ID = "0123456789abcdef"
TEXT = st.text(st.characters(codec="utf-8"), max_size=10)
INT = st.integers(0, (1 << 62) - 1)

ROWS = st.builds(
    StoredRow,
    id=INT,
    stream=st.just("tick"),
    boot=st.just(BOOT_ID),
    seq=INT,
    key=TEXT,
    at=INT.map(Ns),
    accepted=INT.map(Ns),
    late=st.booleans(),
    attempts=st.integers(0, 9),
    data=st.binary(max_size=30),
    elided=st.binary(max_size=10),
    lost=st.binary(max_size=10),
    model=TEXT,
)
FILES = st.none() | st.builds(File, TEXT.filter(bool), st.binary(min_size=32, max_size=32))
LOST = st.builds(
    Lost,
    from_=INT,
    reason=st.sampled_from(["spilled", "mixed"]),
    to=st.none() | INT,
    n=st.none() | INT,
    by=st.none() | st.dictionaries(TEXT, INT, max_size=2),
    boot=TEXT,
)


def sqlite(record: tuple[Any, ...]) -> tuple[Any, ...]:
    """A record as SQLite gives it back: it knows no truth values."""
    return tuple(int(value) if isinstance(value, bool) else value for value in record)


@given(ROWS, FILES)
def test_a_row_comes_back_as_it_was(row: StoredRow, file: File | None) -> None:
    """Its data only where it is in the record."""
    found = codec.unpack(sqlite(codec.pack(row, 7, file)), "tick", BOOT_ID)
    assert found == (row if file is None else msgspec.structs.replace(row, data=b""))


@settings(max_examples=60)
@given(ROWS, FILES, st.sampled_from([name for name in ROW if name not in ("boot", "late")]), st.data())
def test_whatever_is_changed_in_a_row_is_noticed(
    row: StoredRow, file: File | None, column: str, data: st.DataObject
) -> None:
    """Any column, to any other value of its kind, or of another kind."""
    record = list(sqlite(codec.pack(row, 7, file)))
    at = list(ROW).index(column)
    other = {int: INT, str: TEXT, bytes: st.binary(max_size=40)}[ROW[column]] | st.none()
    record[at] = data.draw(other.filter(lambda value: value != record[at]))
    if file is None and column == "sha256" and not record[13]:
        return  # without a path nobody looks at it
    assert codec.unpack(tuple(record), "tick", BOOT_ID) is None


@pytest.mark.parametrize("late", [0, 1])
def test_a_late_row_that_is_not_and_the_other_way_round_is_noticed(late: int) -> None:
    row = StoredRow(1, "tick", BOOT_ID, 1, "", Ns(1), Ns(1), bool(late), 0, b"1")
    record = list(sqlite(codec.pack(row, 7)))
    record[5] = 1 - late
    assert codec.unpack(tuple(record), "tick", BOOT_ID) is None


@given(ROWS)
def test_a_row_belongs_to_its_stream_and_its_boot(row: StoredRow) -> None:
    """Which it names by number only: names that were mixed up are noticed."""
    record = sqlite(codec.pack(row, 7))
    assert codec.unpack(record, "tock", BOOT_ID) is None
    assert codec.unpack(record, "tick", "f" * 16) is None


@given(ROWS, FILES, INT.map(WallNs), TEXT)
def test_a_dead_letter_comes_back_as_it_was(row: StoredRow, file: File | None, since: WallNs, reason: str) -> None:
    """And what is changed in its last columns, or in its row, is noticed."""
    burial = Burial(row=row, since=since, reason=reason)
    record = sqlite(codec.bury(burial, 7, file))
    found = codec.unbury(record, "tick", BOOT_ID)
    expected = row if file is None else msgspec.structs.replace(row, data=b"")
    assert found == msgspec.structs.replace(burial, row=expected)
    assert codec.unbury((*record[:-2], since + 1, reason), "tick", BOOT_ID) is None
    assert codec.unbury((*record[:-1], reason + "x"), "tick", BOOT_ID) is None
    assert codec.unbury((*record[:2], row.seq + 1, *record[3:]), "tick", BOOT_ID) is None


def test_a_row_is_no_dead_letter() -> None:
    """Their checksums differ although they say the same."""
    row = StoredRow(1, "tick", BOOT_ID, 1, "", Ns(1), Ns(1), False, 0, b"1")
    letter = codec.bury(Burial(row=row, since=WallNs(1), reason="x"), 7, None)
    assert codec.unpack(letter[:-2], "tick", BOOT_ID) is None


@given(
    st.builds(
        LaneEntry,
        no=INT,
        next=INT,
        rows=INT,
        bytes=INT,
        book=st.builds(Book, **dict.fromkeys(BOOK, INT)),
        boot=TEXT,
        seq=INT,
        gaps=st.lists(LOST, max_size=3).map(tuple),
    ),
    st.none() | LOST,
)
def test_an_entry_comes_back_as_it_was(entry: LaneEntry, lost: Lost | None) -> None:
    assert codec.unpack_lane(codec.pack_lane("tick", entry, lost)) == ("tick", entry, lost)


def test_every_counter_of_the_books_has_its_column() -> None:
    """A counter that is added to the books must not be forgotten here."""
    assert set(BOOK) == set(Book.__struct_fields__)
    assert set(BOOK) < set(LANE)


def test_every_field_of_a_row_has_its_column() -> None:
    """But for the stream, which follows from the id."""
    assert set(StoredRow.__struct_fields__) - {"stream"} < set(ROW)


@given(
    st.builds(
        Standing,
        stream=TEXT,
        boot=TEXT,
        seq=INT,
        state=TEXT,
        times=st.dictionaries(TEXT, INT, max_size=3),
        by=st.dictionaries(TEXT, TEXT, max_size=3),
    ),
    st.integers(0, 5),
)
def test_a_delivery_state_comes_back_as_it_was_or_not_at_all(standing: Standing, column: int) -> None:
    record = codec.pack_standing(standing)
    assert codec.unpack_standing(record) == standing
    spoilt = [*record]
    spoilt[column] = 1 if isinstance(spoilt[column], str) else spoilt[column] + 1
    assert codec.unpack_standing(tuple(spoilt)) is None


# ── telling records apart ────────────────────────────────────────────────────────────────────────────────────────────


def example(columns: dict[str, type]) -> tuple[Any, ...]:
    values = {int: 1, str: "x", bytes: b"x"}
    record = [values[kind] for kind in columns.values()]
    return tuple([None, *record[1:]] if next(iter(columns.values())) is int else record)


@pytest.mark.parametrize("tables", [OUTBOX, ANNALS], ids=["outbox", "history"])
def test_a_record_is_of_one_table_only(tables: dict[str, dict[str, type]]) -> None:
    """By the number and the kinds of its columns: salvage has nothing else to go by."""
    for name, columns in tables.items():
        assert [other for other, others in tables.items() if is_of(others, example(columns))] == [name]


@pytest.mark.parametrize("columns", [ROW, DEAD, LANE, BOOT, NAME, STANDING, MEMORY])
def test_a_record_with_a_value_of_another_kind_is_of_none(columns: dict[str, type]) -> None:
    """Each column in turn; only a key that SQLite keeps beside the record may be missing in it."""
    for place in range(1, len(columns)):
        record = list(example(columns))
        record[place] = None
        assert not is_of(columns, tuple(record))
        record[place] = 1.5
        assert not is_of(columns, tuple(record))


def test_a_record_that_makes_no_sense_is_a_corrupt_file() -> None:
    """Whatever it is that decoding meets."""
    for spoilt in ((1,), ("x",) * len(LANE), (*example(dict(LANE))[:7], "no json", *example(dict(LANE))[8:])):
        with pytest.raises(codec.CorruptError) as caught, codec.legible():
            codec.unpack_lane(spoilt)
        assert codec.corrupt_code(caught.value)
