"""Reading the outbox's file: a page of rows, a count, dead letters by id."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from chappe.core.effects import Count, Fetch
from chappe.core.row import OVERHEAD
from chappe.core.stored import Backlog, Burial, StoredRow, lane_of
from chappe.edge.store import codec
from chappe.edge.store.base import Base, delete
from chappe.edge.store.codec import CorruptError, File, Tuple, believable


class Pageful(NamedTuple):
    """Rows that were looked at.

    Attributes:
        rows: those that are good.
        bad: ids of the others.
        after: ids up to here were looked at.
    """

    rows: list[StoredRow]
    bad: list[int]
    after: int


def fetch(base: Base, question: Fetch) -> Pageful:
    """Rows with ``after < id <= upto``.

    Raises:
        sqlite3.Error: if the file is corrupt or cannot be read.
    """
    with_data = question.purpose == "page"
    rows: list[StoredRow] = []
    bad: list[int] = []
    size, looked = 0, 0
    after = question.after
    names, stream, unpack = base.boot_names, question.stream, codec.unpack
    with believable(), contextlib.closing(_select(base, question)) as cursor:
        for record in cursor:
            if record[0] <= after:
                raise CorruptError("rows are out of order")
            after, looked = record[0], looked + 1
            row = unpack(record, stream, names.get(record[1], ""))
            if row is not None and with_data and record[13]:
                row = _with_data(base, row, record)
            if row is None:
                bad.append(after)
                continue
            size += len(row.data) if with_data else 0
            rows.append(row if with_data else msgspec.structs.replace(row, data=b""))
            if size >= question.most_bytes and with_data:
                return Pageful(rows, bad, after)
    return Pageful(rows, bad, after if looked == question.limit else question.upto)


def _select(base: Base, question: Fetch) -> sqlite3.Cursor:
    return base.link.execute(
        f"SELECT {codec.ROW_COLUMNS} FROM rows WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",  # noqa: S608 - names of ours
        (question.after, question.upto, question.limit),
    )


def _with_data(base: Base, row: StoredRow, record: Tuple) -> StoredRow | None:
    data = base.blobs.read(File(record[13], record[14]))
    if data is None or len(data) != record[7]:
        return None
    return msgspec.structs.replace(row, data=data)


class Tally(NamedTuple):
    """Rows in a range: how many, bytes of their data, numbers of the first and the last."""

    rows: int
    bytes: int
    first: int
    last: int


def count(base: Base, question: Count) -> Tally:
    """Rows with ``after < id <= upto``.

    Raises:
        sqlite3.Error: if the file is corrupt or cannot be read.
    """
    found = base.link.execute(
        "SELECT COUNT(*), TOTAL(size), MIN(id), MAX(id) FROM rows WHERE id > ? AND id <= ?",
        (question.after, question.upto),
    ).fetchone()
    ends = [base.link.execute("SELECT seq FROM rows WHERE id = ?", (id_,)).fetchone() for id_ in found[2:]]
    first, last = (0 if end is None else int(end[0]) for end in ends)
    return Tally(int(found[0]), int(found[1]), first, last)


def letters(base: Base, ids: Iterable[int]) -> tuple[list[tuple[Burial, Tuple]], list[int]]:
    """Dead letters with their records and data, and the ids of those that are there but cannot be read.

    Raises:
        sqlite3.Error: if the file is corrupt or cannot be read.
    """
    good: list[tuple[Burial, Tuple]] = []
    bad: list[int] = []
    select = f"SELECT {codec.DEAD_COLUMNS} FROM dead WHERE id = ?"  # noqa: S608 - names of ours
    for id_ in ids:
        with believable():
            record = base.link.execute(select, (id_,)).fetchone()
        if record is None:
            continue
        burial = read_letter(base, record)
        row = burial.row if burial is not None else None
        if row is not None and record[13]:
            row = _with_data(base, row, record)
        if burial is None or row is None:
            bad.append(id_)
        else:
            good.append((msgspec.structs.replace(burial, row=row), record))
    return good, bad


def read_letter(base: Base, record: Tuple) -> Burial | None:
    """The dead letter of a record; its data is empty where it lies in a file."""
    return codec.unbury(record, base.streams.get(lane_of(record[0]), ""), base.boot_names.get(record[1], ""))


def exhume(base: Base, ids: Sequence[int]) -> tuple[list[StoredRow], list[int]]:
    """Make dead letters rows again, and correct what their lanes say of them, in one transaction.

    Returns:
        The rows, and the ids of those that cannot be read.

    Raises:
        sqlite3.Error: if it did not come about.
    """
    good, bad = letters(base, ids)
    rows: list[StoredRow] = []
    with base.transaction() as link:
        for burial, record in good:
            # Whoever wants it tried again wants it tried as often as anything else.
            row = msgspec.structs.replace(burial.row, attempts=0)
            rows.append(row)
            file = File(record[13], record[14]) if record[13] else None
            link.execute(codec.PUT_ROW, codec.pack(row, record[1], file))
            link.execute(
                "UPDATE lanes SET rows = rows + 1, bytes = bytes + ? WHERE no = ?",
                (len(row.data) + OVERHEAD, lane_of(row.id)),
            )
        delete(link, "dead", (burial.row.id for burial, _ in good))
    return rows, bad


def path_of(base: Base, id_: int) -> str:
    """Where the data of a row or dead letter lies, empty for in the record or where there is none."""
    for table in ("rows", "dead"):
        found = base.link.execute(f"SELECT path FROM {table} WHERE id = ?", (id_,)).fetchone()  # noqa: S608 - names of ours
        if found is not None:
            return str(found[0])
    return ""


def unreadable_letters(base: Base, found: Backlog) -> list[int]:
    """Ids of dead letters that are there, but not among those that could be read."""
    good = {letter.id for letter in found.dead}
    return [id_ for (id_,) in base.link.execute("SELECT id FROM dead ORDER BY id") if id_ not in good]
