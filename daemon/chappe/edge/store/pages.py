"""SQLite's file format, read page by page without SQLite: what is left of a file that SQLite refuses.

A table's records lie in leaf pages. Each leaf can be read by itself, so one page of noise, be it the first one or the root of a table,
costs no other page its rows. Which pages are in use is told by the pointer map that ``auto_vacuum`` keeps, so that rows deleted long
ago do not come back. Sources: https://www.sqlite.org/fileformat2.html (sections 1.3 to 1.8, 2.1, 4).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chappe.edge.store.database import PAGE

LEAF = 0x0D
ROOT, FREE, OVERFLOW_HEAD, OVERFLOW_TAIL, INNER = 1, 2, 3, 4, 5
POINTERS = PAGE // 5 + 1
LOCK_PAGE = (1 << 30) // PAGE + 1

LOG_HEADER = 32
FRAME_HEADER = 24
MAGIC = 0x377F0682

_u32x2 = struct.Struct(">II")
_integers = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}

Record = tuple[int, tuple[Any, ...]]


class Pages:
    """A file of the store and its log, read only.

    Args:
        path: the file; its log is the one of that name with ``-wal``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._log = -1
        self._frames: dict[int, int] = {}
        self._count = 0
        self._free: set[int] = set()

    def open(self) -> None:
        """Open the files, find the newest version of each page.

        Raises:
            OSError: if the file cannot be opened.
        """
        self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        self._count = os.fstat(self._file).st_size // PAGE
        try:
            self._log = os.open(f"{self._path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            pass
        else:
            self._frames = committed_frames(self._log)
        self._count = max([self._count, *self._frames])
        self._free = self._free_pages()

    def close(self) -> None:
        """Close the files."""
        for descriptor in (self._file, self._log):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._log = -1

    def page(self, number: int) -> bytes:
        """A page, empty where it is missing or cannot be read."""
        offset = self._frames.get(number)
        where, offset = (self._file, (number - 1) * PAGE) if offset is None else (self._log, offset)
        try:
            found = os.pread(where, PAGE, offset)
        except OSError:
            return b""
        return found if len(found) == PAGE else b""

    def leaves(self) -> Iterator[bytes]:
        """Every leaf of a table that is in use."""
        for number in range(2, self._count + 1):
            page = self.page(number)
            if page and page[0] == LEAF and self._used(number):
                yield page

    def records(self, page: bytes) -> Iterator[Record]:
        """Row ids and values of a leaf; a record that is none is left out."""
        n = int.from_bytes(page[3:5], "big")
        for at in range(8, min(8 + 2 * n, PAGE - 1), 2):
            start = int.from_bytes(page[at : at + 2], "big")
            try:
                yield self._cell(page, start)
            except (ValueError, IndexError, struct.error):
                continue

    def _cell(self, page: bytes, start: int) -> Record:
        size, start = varint(page, start)
        row_id, start = varint(page, start)
        usable = PAGE - 35
        if size <= usable:
            payload = page[start : start + size]
        else:
            least = (PAGE - 12) * 32 // 255 - 23
            local = least + (size - least) % (PAGE - 4)
            local = local if local <= usable else least
            payload = page[start : start + local]
            payload += self._overflow(int.from_bytes(page[start + local : start + local + 4], "big"), size - local)
        if len(payload) != size:
            raise ValueError(size)
        return row_id - (1 << 64) if row_id >> 63 else row_id, values(payload)

    def _overflow(self, number: int, size: int) -> bytes:
        parts = []
        while size > 0:
            page = self.page(number)
            if not page or number == 0:
                raise ValueError(number)
            parts.append(page[4 : 4 + min(size, PAGE - 4)])
            size -= PAGE - 4
            number = int.from_bytes(page[:4], "big")
        return b"".join(parts)

    def _used(self, number: int) -> bool:
        """What the pointer map says of a page; where the map itself is noise, whether it is in the list of free pages."""
        map_page = (number - 2) // POINTERS * POINTERS + 2
        map_page += map_page == LOCK_PAGE
        at = 5 * (number - map_page - 1)
        entry = self.page(map_page)[at : at + 5] if at >= 0 else b""
        kind, parent = (entry[0], int.from_bytes(entry[1:], "big")) if len(entry) == 5 else (0, 0)
        if kind in (ROOT, INNER) and parent <= self._count:
            return True
        if (kind == FREE and parent == 0) or (kind in (OVERFLOW_HEAD, OVERFLOW_TAIL) and 0 < parent <= self._count):
            return False
        return number not in self._free

    def _free_pages(self) -> set[int]:
        free: set[int] = set()
        trunk = int.from_bytes(self.page(1)[32:36], "big")
        while 0 < trunk <= self._count and trunk not in free:
            page = self.page(trunk)
            following, n = _u32x2.unpack(page[:8]) if page else (0, 0)
            leaves = struct.unpack(f">{n}I", page[8 : 8 + 4 * n]) if 8 + 4 * n <= len(page) else ()
            free.update((trunk, *leaves))
            trunk = following
        return free


def varint(page: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer and where it ends.

    >>> varint(bytes([0x81, 0x00]), 0)
    (128, 2)
    """
    value = 0
    for step in range(8):
        byte = page[at + step]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + step + 1
    return value << 8 | page[at + 8], at + 9


def values(payload: bytes) -> tuple[Any, ...]:
    """The columns of a record.

    Raises:
        ValueError, IndexError: if it is none.
    """
    end, at = varint(payload, 0)
    kinds = []
    while at < end:
        kind, at = varint(payload, at)
        kinds.append(kind)
    found: list[Any] = []
    for kind in kinds:
        value, at = _value(payload, at, kind)
        found.append(value)
    if at != len(payload):
        raise ValueError(at)
    return tuple(found)


def _value(payload: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind >= 12:
        end = at + (kind - 12) // 2
        if end > len(payload):
            raise ValueError(kind)
        part = payload[at:end]
        return (part.decode() if kind % 2 else part), end
    if kind in _integers:
        end = at + _integers[kind]
        return int.from_bytes(payload[at:end], "big", signed=True), end
    if kind == 7:
        return struct.unpack_from(">d", payload, at)[0], at + 8
    if kind in (8, 9):
        return kind - 8, at
    if kind == 0:
        return None, at
    raise ValueError(kind)


# ── the log ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def log_broken(path: Path) -> bool:
    """Whether a log is there whose first bytes were never written by SQLite: it would be taken for empty, and overwritten."""
    try:
        with path.open("rb") as file:
            header = file.read(LOG_HEADER)
    except OSError:
        return False
    return len(header) == LOG_HEADER and any(header) and _opening(header) is None


def _opening(header: bytes) -> tuple[str, bytes, tuple[int, int]] | None:
    """Byte order of checksums, salts and first checksum of a log."""
    words = struct.unpack(">8I", header)
    if words[0] & ~1 != MAGIC or words[2] != PAGE:
        return None
    order = ">" if words[0] & 1 else "<"
    found = checksum(header[:24], order, (0, 0))
    return (order, header[16:24], found) if found == words[6:] else None


def committed_frames(log: int) -> dict[int, int]:
    """Offset of the newest committed version of each page in a log."""
    frames: dict[int, int] = {}
    header = os.pread(log, LOG_HEADER, 0)
    opening = _opening(header) if len(header) == LOG_HEADER else None
    if opening is None:
        return frames
    order, salts, running = opening
    at = LOG_HEADER
    pending: dict[int, int] = {}
    while len(frame := os.pread(log, FRAME_HEADER + PAGE, at)) == FRAME_HEADER + PAGE:
        number, size = _u32x2.unpack(frame[:8])
        running = checksum(frame[FRAME_HEADER:], order, checksum(frame[:8], order, running))
        if frame[8:16] != salts or _u32x2.unpack(frame[16:24]) != running:
            break
        pending[number] = at + FRAME_HEADER
        if size:
            frames.update(pending)
            frames = {page: offset for page, offset in frames.items() if page <= size}
            pending.clear()
        at += FRAME_HEADER + PAGE
    return frames


def checksum(data: bytes, order: str, start: tuple[int, int]) -> tuple[int, int]:
    """SQLite's running checksum over 32-bit words (section 4.2)."""
    one, two = start
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
