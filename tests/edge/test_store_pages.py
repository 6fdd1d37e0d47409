"""SQLite's file format read without SQLite: the same records as SQLite gives, from any leaf, in the file or only in its log."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chappe.edge.store.database import PAGE, connect
from chappe.edge.store.pages import Pages, checksum, committed_frames, log_broken, values, varint

VALUE = (
    st.none()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.integers(3900, 13_000).map(lambda size: b"\xab" * size)
)


def made(file: Path, records: list[tuple[int, Any, Any]]) -> sqlite3.Connection:
    """An open file with a table of records."""
    link = connect(file)
    link.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)")
    link.execute("BEGIN")
    link.executemany("INSERT OR REPLACE INTO t VALUES (?, ?, ?)", records)
    link.execute("COMMIT")
    return link


def read(file: Path) -> dict[int, tuple[Any, ...]]:
    """Records of three columns."""
    pages = Pages(file)
    pages.open()
    try:
        every = [record for page in pages.leaves() for record in pages.records(page)]
        return {id_: record[1:] for id_, record in every if len(record) == 3}
    finally:
        pages.close()


def kinds(records: dict[int, tuple[Any, ...]]) -> dict[int, list[tuple[type, Any]]]:
    return {id_: [(type(value), value) for value in record] for id_, record in records.items()}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=st.lists(st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), VALUE, VALUE), max_size=30),
    gone=st.sets(st.integers(0, 29)),
    in_log=st.booleans(),
)
def test_every_record_is_read_as_sqlite_reads_it(
    tmp_path_factory: pytest.TempPathFactory, records: list[tuple[int, Any, Any]], gone: set[int], in_log: bool
) -> None:
    """Any value, of any size, with deleted ones between; whether it was carried into the file yet or not."""
    file = tmp_path_factory.mktemp("pages") / "some.db"
    with closing(made(file, records)) as link:
        link.executemany("DELETE FROM t WHERE id = ?", [(records[n][0],) for n in gone if n < len(records)])
        if not in_log:
            link.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        expected = {id_: (a, b) for id_, a, b in link.execute("SELECT id, a, b FROM t")}
        assert kinds(read(file)) == kinds(expected)


@pytest.fixture
def many(tmp_path: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """5,000 records over some hundred pages, all in the file."""
    file = tmp_path / "some.db"
    with closing(made(file, [(n, f"{n:08d}" * 8, n) for n in range(5000)])) as link:
        link.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        yield file, link


def overwrite(file: Path, page: int, content: bytes = b"\xaa" * PAGE) -> None:
    with file.open("r+b") as opened:
        opened.seek((page - 1) * PAGE)
        opened.write(content)


def numbers(link: sqlite3.Connection, kind: str) -> list[int]:
    found = link.execute("SELECT pageno FROM dbstat WHERE name = 't' AND pagetype = ?", (kind,))
    return [number for (number,) in found]


def test_a_page_that_only_leads_to_others_is_not_needed(many: tuple[Path, sqlite3.Connection]) -> None:
    """Neither the root of a table nor the first page of the file."""
    file, link = many
    inner = numbers(link, "internal")
    assert inner
    for page in (*inner, 1):
        overwrite(file, page)
    assert len(read(file)) == 5000


def test_free_pages_are_left_out_by_the_pointer_map_and_without_it_by_their_list(
    many: tuple[Path, sqlite3.Connection],
) -> None:
    """What was deleted is still in them."""
    file, link = many
    link.execute("DELETE FROM t WHERE id >= 1000")
    link.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert int(link.execute("PRAGMA freelist_count").fetchone()[0]) > 50
    assert len(read(file)) == 1000
    content = file.read_bytes()
    overwrite(file, 1)
    assert len(read(file)) == 1000
    file.write_bytes(content)
    overwrite(file, 2)
    assert len(read(file)) == 1000


def test_a_page_of_noise_gives_nothing_it_should_not(many: tuple[Path, sqlite3.Connection]) -> None:
    """It may look like a leaf: what is no record is left out."""
    file, link = many
    leaf = numbers(link, "leaf")[3]
    lost = {id_ for (id_,) in link.execute("SELECT id FROM t")}
    overwrite(file, leaf, b"\x0d\x00\x00\x7f\xff\x00\x00\x00" + b"\xff" * (PAGE - 8))
    found = read(file)
    assert found.items() < {n: (f"{n:08d}" * 8, n) for n in range(5000)}.items()
    assert 0 < len(lost - found.keys()) < 100


def test_a_file_that_ends_in_a_page_is_read_up_to_there(many: tuple[Path, sqlite3.Connection]) -> None:
    file, _ = many
    with file.open("r+b") as opened:
        opened.truncate(20 * PAGE + 17)
    assert 0 < len(read(file)) < 5000


# ── the log ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def logged(tmp_path: Path) -> tuple[Path, bytes, bytes]:
    """A copy of a file and its log while it was open: three transactions, only in the log."""
    link = made(tmp_path / "live.db", [])
    for n in range(3):
        link.execute("BEGIN")
        link.executemany("INSERT INTO t VALUES (?, ?, ?)", [(10 * n + m, "x" * 500, n) for m in range(10)])
        link.execute("COMMIT")
    content, log = (tmp_path / "live.db").read_bytes(), (tmp_path / "live.db-wal").read_bytes()
    link.close()
    return tmp_path / "copy.db", content, log


def by_transaction(file: Path, content: bytes, log: bytes) -> dict[int, int]:
    """How many records of each transaction are read."""
    file.write_bytes(content)
    Path(f"{file}-wal").write_bytes(log)
    counts = {0: 0, 1: 0, 2: 0}
    for _, n in read(file).values():
        counts[n] += 1
    return counts


def test_committed_transactions_are_read_from_the_log(logged: tuple[Path, bytes, bytes]) -> None:
    assert by_transaction(*logged) == {0: 10, 1: 10, 2: 10}


def test_a_torn_transaction_is_not_there_at_all(logged: tuple[Path, bytes, bytes]) -> None:
    """Neither without its end nor with a wrong byte in it; those before it are."""
    file, content, log = logged
    assert by_transaction(file, content, log[:-PAGE]) == {0: 10, 1: 10, 2: 0}
    assert by_transaction(file, content, log[:-5] + b"noise") == {0: 10, 1: 10, 2: 0}


def test_frames_of_an_older_log_do_not_count(logged: tuple[Path, bytes, bytes]) -> None:
    """They lie behind the end of the newer one, under other salts."""
    file, content, log = logged
    frame = 24 + PAGE
    at = 32 + (len(log) - 32) // frame // 2 * frame
    assert by_transaction(file, content, log[: at + 8] + b"\0" * 8 + log[at + 16 :])[2] == 0


def test_a_log_that_sqlite_never_wrote_is_known(tmp_path: Path, logged: tuple[Path, bytes, bytes]) -> None:
    """An empty one, none, or one of zeros (preallocated, never used) is no trouble."""
    path = tmp_path / "x-wal"
    assert not log_broken(path)
    for content, broken in ((b"", False), (b"\0" * 100, False), (logged[2], False), (b"?" * 100, True)):
        path.write_bytes(content)
        assert log_broken(path) is broken
    flipped = bytearray(logged[2])
    flipped[17] ^= 1
    path.write_bytes(flipped)
    assert log_broken(path)


def test_pages_beyond_the_end_of_the_last_transaction_are_gone(tmp_path: Path) -> None:
    """After a file has shrunk."""
    link = made(tmp_path / "live.db", [(n, "x" * 3000, n) for n in range(50)])
    link.execute("DELETE FROM t WHERE id > 3")
    link.executescript("PRAGMA incremental_vacuum")
    size = int(link.execute("PRAGMA page_count").fetchone()[0])
    with (tmp_path / "live.db-wal").open("rb") as log:
        frames = committed_frames(log.fileno())
    link.close()
    assert max(frames) == size < 20


# ── parts of the format ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        ("00", 0),
        ("7f", 127),
        ("8100", 128),
        ("ffff7f", 2_097_151),
        ("ff" * 9, (1 << 64) - 1),
        ("808080808080808000", 0),
    ],
)
def test_variable_length_integers(encoded: str, value: int) -> None:
    """Seven bits a byte, and all eight of the ninth."""
    assert varint(bytes.fromhex(encoded), 0) == (value, len(encoded) // 2)


@pytest.mark.parametrize("payload", ["", "05", "0201", "020a", "03010203", "0213ff61"])
def test_what_is_no_record_is_refused(payload: str) -> None:
    """Too short, too long, of a kind that does not exist, no UTF-8."""
    with pytest.raises((ValueError, IndexError)):
        values(bytes.fromhex(payload))


def test_the_checksum_depends_on_every_word() -> None:
    """And on their order, and on what came before."""
    plain = checksum(bytes(range(16)), "<", (0, 0))
    assert plain != checksum(bytes(range(16)), ">", (0, 0))
    assert plain != checksum(bytes(range(16)), "<", (0, 1))
    assert plain != checksum(bytes([*range(8, 16), *range(8)]), "<", (0, 0))
