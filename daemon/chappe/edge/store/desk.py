"""The command line's hands on a store whose daemon is stopped: what waits, giving it up, trying it again, the history.

It holds the same lock as a daemon, so that nobody else writes meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from chappe.core.envelope import Lost
from chappe.core.gaps import Gaps
from chappe.core.row import OVERHEAD
from chappe.core.stored import LaneEntry, Page, Query, lane_of
from chappe.edge.host import Clock
from chappe.edge.store import codec, reading
from chappe.edge.store.base import Base, delete, span
from chappe.edge.store.blobs import Blobs
from chappe.edge.store.entries import Entries
from chappe.edge.store.folder import FILE, HISTORY, kernel_boot, lock
from chappe.edge.store.listing import Listing
from chappe.edge.store.search import Search
from chappe.errors import StoreError

_lost = msgspec.json.Decoder(Lost)


class Desk:
    """A stopped store.

    Args:
        folder: the state folder.
        clock: for ages.
        kernel: kernel boot id, None for the machine's own.
    """

    def __init__(self, folder: Path, clock: Clock, kernel: str | None = None) -> None:
        self._folder = folder
        self._clock = clock
        self._kernel = kernel
        # Blobs are only ever removed here, so no bound on what is inline matters.
        self._base = Base(folder / FILE, Blobs(folder, 0))
        self._lock = -1

    def open(self) -> None:
        """Take the lock and open the file.

        Raises:
            BusyError: if a daemon is running.
            StoreError: if there is no store, or it cannot be used.
        """
        if not self._base.path.exists():
            raise StoreError(f"there is no store in {self._folder}", remedy="start the daemon once: chappe run")
        self._lock = lock(self._folder)
        self._base.kernel = kernel_boot() if self._kernel is None else self._kernel
        try:
            with self._told():
                self._base.blobs.open()
                self._base.open()
        except StoreError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file, give the lock back."""
        self._base.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except codec.Troubles as error:
            raise StoreError(
                f"{self._base.path} cannot be used: {error}", remedy="start the daemon: it salvages what can be read"
            ) from error

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def show(self, limit: int = 100, stream: str = "", priorities: Mapping[str, int] | None = None) -> dict[str, Any]:
        """What waits, oldest first in each stream, as ``queue show --json`` prints it; of rows and dead letters at most `limit` each.

        Raises:
            StoreError: if the file cannot be read.
        """
        with self._told():
            return Listing(self._base, self._clock).told(limit, stream, priorities or {})

    # ── the history ──────────────────────────────────────────────────────────────────────────────────────────────────

    def history(self, query: Query) -> Page:
        """Messages of the past.

        Raises:
            StoreError: if the file cannot be read.
        """
        with self._entries() as entries:
            search = Search(entries, query)
            while (page := search.advance()) is None:
                pass
            return page

    def place(self, reader: str, stream: str, offset: int) -> None:
        """A reader has everything of a stream up to and including `offset`.

        Raises:
            StoreError: if the file cannot be written.
        """
        with self._entries() as entries:
            entries.place(reader, stream, offset)

    @contextmanager
    def _entries(self) -> Iterator[Entries]:
        entries = Entries(self._folder / HISTORY)
        with self._told():
            entries.open()
            try:
                yield entries
            finally:
                entries.close()

    # ── giving up, and trying again ──────────────────────────────────────────────────────────────────────────────────

    def drop(self, ids: Collection[int] = (), stream: str = "", *, dead: bool = False) -> int:
        """Give up rows by id, or of a stream, or all; with `dead`, dead letters likewise.

        Rows, books and the gaps that later messages disclose are one transaction for each stream.

        Returns:
            How many were given up.

        Raises:
            StoreError: if the file cannot be written.
        """
        tables = ("dead",) if dead else ("rows", "dead") if ids else ("rows",)
        with self._told():
            return sum(
                self._drop(name, table, ids)
                for name in sorted(self._base.lanes)
                for table in tables
                if stream in ("", name)
            )

    def _drop(self, stream: str, table: str, ids: Collection[int]) -> int:
        base, found = self._base, self._base.entry(stream)
        if found is None:
            return 0
        entry, untold = found
        gaps, gone, size = Gaps(entry.gaps), [], 0
        with base.transaction() as link:
            for id_, boot, seq, length, lost in self._chosen(table, entry.no, ids):
                name = base.boot_names.get(boot, "")
                if lost:
                    carried = _lost.decode(lost)
                    gaps.add(msgspec.structs.replace(carried, boot=carried.boot or name))
                gaps.add(Lost(from_=seq, to=seq, n=1, reason="operator", boot=name))
                gone.append(id_)
                size += length + OVERHEAD
            delete(link, table, gone)
            corrected = _without(entry, len(gone), size, tuple(gaps.pending), rows=table == "rows")
            link.execute(codec.PUT_LANE, codec.pack_lane(stream, corrected, untold))
        base.blobs.settle({}, gone)
        return len(gone)

    def _chosen(self, table: str, lane: int, ids: Collection[int]) -> Iterator[tuple[int, int, int, int, bytes]]:
        select = f'SELECT id, boot, seq, size, lost FROM "{table}" WHERE '  # noqa: S608 - names of ours
        if not ids:
            yield from self._base.link.execute(select + "id BETWEEN ? AND ? ORDER BY id", span(lane)).fetchall()
            return
        for id_ in sorted(one for one in set(ids) if lane_of(one) == lane):
            yield from self._base.link.execute(select + "id = ?", (id_,)).fetchall()

    def retry(self, ids: Collection[int] = (), stream: str = "") -> int:
        """Make dead letters rows again, by id, of a stream, or all; the next start sends them.

        Returns:
            How many.

        Raises:
            StoreError: if the file cannot be written.
        """
        with self._told():
            letters = [id_ for (id_,) in self._base.link.execute("SELECT id FROM dead ORDER BY id")]
            owners = self._base.streams
            chosen = [
                id_ for id_ in letters if id_ in ids or (not ids and stream in ("", owners.get(lane_of(id_), "")))
            ]
            rows, _ = reading.exhume(self._base, chosen)
        return len(rows)


def _without(entry: LaneEntry, n: int, size: int, gaps: tuple[Lost, ...], *, rows: bool) -> LaneEntry:
    book = msgspec.structs.replace(entry.book, queued=entry.book.queued - n, spilled=entry.book.spilled + n)
    return msgspec.structs.replace(
        entry,
        rows=entry.rows - n * rows,
        bytes=max(0, entry.bytes - size * rows),
        book=book,
        gaps=gaps,
    )
