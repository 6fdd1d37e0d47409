"""Structs of `chappe.core.stored` as tuples of the tables, and back, with their checksums."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from chappe.core.books import Book
from chappe.core.envelope import Lost
from chappe.core.stored import BootFound, Burial, DeadRow, LaneEntry, Standing, StoredRow
from chappe.core.units import Ns, WallNs
from chappe.edge.store.schema import BOOK, DEAD, LANE, ROW, STANDING

Tuple = tuple[Any, ...]

NO_CRC = -1

_encode = msgspec.msgpack.Encoder().encode
_gaps = msgspec.json.Decoder(tuple[Lost, ...])
_lost = msgspec.json.Decoder(Lost)
_times = msgspec.json.Decoder(dict[str, WallNs])
_by = msgspec.json.Decoder(dict[str, str])
_json = msgspec.json.encode

# What a record can be that was not written by us: a value of another kind, text or JSON that is none, a checksum that is wrong.
Unreadable = (ValueError, TypeError, KeyError, msgspec.MsgspecError)

# What a file can do. Where SQLite's message quotes noise, the sqlite3 module fails over the message.
Troubles = (sqlite3.Error, OSError, UnicodeDecodeError)


class File(NamedTuple):
    """Data that lies in a file of its own."""

    path: str
    sha256: bytes


def _names(columns: Sequence[str] | Any) -> str:
    return ", ".join(f'"{name}"' for name in columns)


def replace_into(table: str, columns: Any) -> str:
    """The statement that inserts a whole record, in place of what has its key."""
    marks = ", ".join("?" * len(columns))
    return f'INSERT OR REPLACE INTO "{table}" ({_names(columns)}) VALUES ({marks})'  # noqa: S608 - names of ours


PUT_ROW = replace_into("rows", ROW)
PUT_DEAD = replace_into("dead", DEAD)
PUT_LANE = replace_into("lanes", LANE)
ROW_COLUMNS = _names(ROW)
DEAD_COLUMNS = _names(DEAD)
LANE_COLUMNS = _names(LANE)
PUT_STANDING = (
    f"INSERT INTO standings ({_names(list(STANDING)[1:])}) VALUES (?, ?, ?, ?, ?, ?, ?) "  # noqa: S608 - names of ours
    'ON CONFLICT (stream, boot, seq) DO UPDATE SET state = excluded.state, times = excluded.times, "by" = excluded."by", '
    "crc = excluded.crc"
)


# ── rows and dead letters ────────────────────────────────────────────────────────────────────────────────────────────


def pack(row: StoredRow, boot: int, file: File | None = None) -> Tuple:
    """A row as its record.

    Args:
        row: the row.
        boot: number of its boot.
        file: where its data lies, None for in the record.
    """
    if file is not None:
        return _pack_outside(row, boot, file)
    data = row.data
    return (
        row.id,
        boot,
        row.seq,
        row.at,
        row.accepted,
        row.late,
        row.attempts,
        len(data),
        crc32(_encode(row)),
        row.key,
        row.model,
        row.elided,
        row.lost,
        "",
        b"",
        data,
    )


def _pack_outside(row: StoredRow, boot: int, file: File) -> Tuple:
    record = list(pack(msgspec.structs.replace(row, data=b""), boot))
    record[7] = len(row.data)
    record[8] = _outside_crc(record[8], record[7], file)
    record[13], record[14] = file
    return tuple(record)


def _outside_crc(crc: int, size: int, file: File) -> int:
    return crc32(_encode((size, *file)), crc)


def unpack(record: Tuple, stream: str, boot: str) -> StoredRow | None:
    """The row of a record; its data is empty where it lies in a file. None where the checksum says that it is not what was written."""
    row, crc = _read(record, stream, boot)
    return row if crc == record[8] else None


def _read(record: Tuple, stream: str, boot: str) -> tuple[StoredRow, int]:
    (id_, _, seq, at, accepted, late, attempts, size, _, key, model, elided, lost, path, sha, data) = record
    row = StoredRow(id_, stream, boot, seq, key, at, accepted, late != 0, attempts, data, elided, lost, model)
    try:
        crc = crc32(_encode(row))
        if path:
            return row, _outside_crc(crc, size, File(path, sha))
        return row, crc if size == len(data) else NO_CRC
    except Unreadable:
        return row, NO_CRC


def bury(burial: Burial, boot: int, file: File | None) -> Tuple:
    """A dead letter as its record."""
    record = list(pack(burial.row, boot, file))
    # The checksum of a dead letter is that of its row, carried on over the last two columns.
    record[8] = crc32(_encode((burial.since, burial.reason)), record[8])
    return (*record, burial.since, burial.reason)


def unbury(record: Tuple, stream: str, boot: str) -> Burial | None:
    """The dead letter of a record, as `unpack`."""
    *plain, since, reason = record
    row, crc = _read(tuple(plain), stream, boot)
    try:
        good = crc != NO_CRC and crc32(_encode((since, reason)), crc) == record[8]
    except Unreadable:
        return None
    return Burial(row, since, reason) if good else None


def dead_row(burial: Burial, size: int) -> DeadRow:
    """What is known in memory of a dead letter."""
    row = burial.row
    return DeadRow(row.id, row.stream, row.boot, row.seq, row.key, row.attempts, size, burial.since, burial.reason)


# ── lanes, boots, standings ──────────────────────────────────────────────────────────────────────────────────────────


def pack_lane(stream: str, entry: LaneEntry, corrupt: Lost | None = None) -> Tuple:
    """A lane's entry as its record; `corrupt` is a loss that the core does not know of yet."""
    gaps = _json(entry.gaps).decode()
    told = _json(corrupt).decode() if corrupt is not None else ""
    book = entry.book
    counters = (getattr(book, name) for name in BOOK)
    return (entry.no, stream, entry.next, entry.rows, entry.bytes, entry.boot, entry.seq, gaps, told, *counters)


def unpack_lane(record: Tuple) -> tuple[str, LaneEntry, Lost | None]:
    """The stream, its entry and its untold loss.

    Raises:
        Unreadable: if the record is none of ours.
    """
    no, stream, following, rows, size, boot, seq, gaps, corrupt, *counters = record
    entry = LaneEntry(
        no=no,
        next=following,
        rows=rows,
        bytes=size,
        book=Book(**dict(zip(BOOK, counters, strict=True))),
        boot=boot,
        seq=seq,
        gaps=_gaps.decode(gaps),
    )
    return stream, entry, _lost.decode(corrupt) if corrupt else None


def unpack_boot(record: Tuple) -> BootFound:
    """A boot of its record, without its number."""
    _, boot, kernel, offset, synced, last, clean = record
    return BootFound(boot=boot, kernel=kernel, offset=offset, synced=synced != 0, last=Ns(last), clean=clean != 0)


def pack_standing(standing: Standing) -> Tuple:
    """A delivery state as its record, without its number."""
    times, by = _json(standing.times).decode(), _json(standing.by).decode()
    plain = (standing.stream, standing.boot, standing.seq, standing.state, times, by)
    return (*plain, crc32(_encode(plain)))


def unpack_standing(record: Tuple) -> Standing | None:
    """The delivery state of a record without its number, None where the checksum is wrong."""
    *plain, crc = record
    try:
        if crc32(_encode(tuple(plain))) != crc:
            return None
        stream, boot, seq, state, times, by = plain
        return Standing(stream=stream, boot=boot, seq=seq, state=state, times=_times.decode(times), by=_by.decode(by))
    except Unreadable:
        return None


class CorruptError(sqlite3.DatabaseError):
    """The file can be read, but what is in it is not what was written."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


@contextlib.contextmanager
def legible() -> Iterator[None]:
    """Inside, a record that makes no sense is a corrupt file.

    Raises:
        CorruptError: if there is one.
    """
    try:
        yield
    except Unreadable as error:
        raise CorruptError(f"a record makes no sense: {error}") from error


@contextlib.contextmanager
def believable() -> Iterator[None]:
    """Inside, a value too large for SQLite is a corrupt file: what is read was written once, and fitted.

    Raises:
        CorruptError: if there is one.
    """
    try:
        yield
    except sqlite3.DataError as error:
        raise CorruptError(f"a record makes no sense: {error}") from error


def corrupt_code(error: BaseException) -> bool:
    """Whether an error says that the file is not what was written (https://www.sqlite.org/rescode.html)."""
    code = getattr(error, "sqlite_errorcode", 0)
    # A sector that cannot be read, or a file that ends too early, is a corrupt file; a write that fails is not.
    unreadable = (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ)
    # Text that is no UTF-8 was not written by us; the sqlite3 module says so without a code, or chokes on it.
    garbled = isinstance(error, UnicodeDecodeError) or (
        isinstance(error, sqlite3.OperationalError) and str(error).startswith("Could not decode")
    )
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or code in unreadable or garbled
