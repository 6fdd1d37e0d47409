"""What becomes of a commit, or of a read, when the disk is full or the file is not what was written.

A full disk: the ballast is given up and the commit tried once more; from then on only what needs no room is let through, until there is
room for a ballast again. A corrupt file: what can be read of it goes into a new one, and the question is put to that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from chappe.core import effects as ef
from chappe.core import events as ev
from chappe.core.stored import Backlog, FaultCode, StoredRow, lane_of
from chappe.core.units import MINUTE, Ns
from chappe.edge.host import Clock
from chappe.edge.store import reading
from chappe.edge.store.base import Base
from chappe.edge.store.carry import carry_outbox
from chappe.edge.store.codec import Troubles
from chappe.edge.store.disk import Disk
from chappe.edge.store.faults import Faults
from chappe.edge.store.found import backlog
from chappe.edge.store.losses import lose
from chappe.edge.store.salvage import Rescue, prepare, rescue, unreadable

T = TypeVar("T")
N = TypeVar("N")
SALVAGE_EVERY = MINUTE
SHRINK_AT_ONCE = 8


class Vault:
    """The outbox's file, its blobs, and the disk below them.

    Args:
        base: the file.
        boot: this start of the daemon.
        disk: room.
        faults: told of trouble.
        clock: stamps answers.
        post: takes `StoreReset`.
    """

    def __init__(
        self, base: Base, boot: str, disk: Disk, faults: Faults, clock: Clock, post: Callable[[ev.Event], None]
    ) -> None:
        self._base = base
        self._blobs = base.blobs
        self._boot = boot
        self._disk = disk
        self._faults = faults
        self._clock = clock
        self._post = post
        self._swept = False
        self._salvage_at = Ns(0)

    def open(self) -> Backlog:
        """Open the file; a corrupt one is salvaged first.

        Raises:
            sqlite3.Error, OSError: if the folder cannot be used.
        """
        self._blobs.open()
        try:
            prepare(self._base.path, self._clock.wall())
            return self._found(None)
        except Troubles as error:
            self._base.close()
            if unreadable(error):
                return self._found(self._rescue(error).rows)
            if self._disk.full(error) and self._disk.give_up():
                return self._found(None)
            raise

    def _found(self, salvaged: int | None) -> Backlog:
        if not self._base.is_open:
            self._base.open()
        found = backlog(self._base, self._boot, salvaged)
        bad = reading.unreadable_letters(self._base, found)
        if bad:
            self._lose("dead", bad)
            found = backlog(self._base, self._boot, salvaged)
        return found

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def memory(self) -> list[tuple[str, str]]:
        """Everything that was remembered, as JSON."""
        return self._base.link.execute("SELECT key, value FROM memory").fetchall()

    def used(self) -> int:
        """Bytes of everything on the disk but the ballast."""
        return self._disk.used() + self._blobs.used()

    # ── the effects ──────────────────────────────────────────────────────────────────────────────────────────────────

    def commit(self, effect: ef.Commit, remembered: Sequence[tuple[str, str]]) -> ev.Committed | ev.CommitFailed:
        """One transaction of the outbox."""
        if (effect.rows or effect.burials) and not self._may_grow():
            return self._failed(effect, "store_full", "the disk is full")
        begun = self._clock.now()
        try:
            self._insist(lambda: self._base.apply(effect, remembered))
        except Troubles as error:
            code: FaultCode = "store_full" if self._disk.full(error) else "store_failed"
            return self._failed(effect, code, str(error))
        self._faults.heal("store_failed")
        now = self._clock.now()
        return ev.Committed(at=now, number=effect.number, took=Ns(now - begun))

    def remember(self, remembered: Sequence[tuple[str, str]]) -> bool:
        """Write what is to be remembered; False if it has to be tried again."""
        try:
            self._insist(lambda: self._base.remember(remembered))
        except Troubles as error:
            self._faults.report(self._disk.code(error, "store_failed"), str(error))
            return False
        self._faults.heal("store_failed")
        return True

    def fetch(self, effect: ef.Fetch) -> ev.Fetched | None:
        """A page of rows. What cannot be read is left out, counted, and deleted. None if it has to be asked again."""
        found = self._read(lambda: reading.fetch(self._base, effect), None)
        if found is None:
            return None
        if found.bad:
            self._lose("rows", found.bad)
        return ev.Fetched(
            at=self._clock.now(),
            stream=effect.stream,
            purpose=effect.purpose,
            rows=tuple(found.rows),
            after=found.after,
            bad=len(found.bad),
        )

    def count(self, effect: ef.Count) -> ev.Counted | None:
        """How many rows are in a range. None if it has to be asked again."""
        tally = self._read(lambda: reading.count(self._base, effect), None)
        if tally is None:
            return None
        return ev.Counted(at=self._clock.now(), stream=effect.stream, **tally._asdict())

    def exhume(self, effect: ef.Exhume) -> ev.Exhumed:
        """Dead letters become rows again."""
        nothing: tuple[list[StoredRow], list[int]] = ([], [])
        rows, bad = self._read(lambda: reading.exhume(self._base, effect.ids), nothing)
        if bad:
            self._lose("dead", bad)
        return ev.Exhumed(at=self._clock.now(), rows=tuple(rows))

    def tend(self) -> None:
        """What can wait: blobs that nobody names, pages that are free, a ballast that is missing."""
        self._read(self._tidy, None)
        if self._disk.restore():
            self._faults.heal("store_full")

    def _tidy(self) -> None:
        if not self._swept:
            self._blobs.clean(lambda id_: reading.path_of(self._base, id_))
            self._swept = True
        for _ in range(SHRINK_AT_ONCE):
            if not self._base.shrink(hard=self._disk.low or self._disk.spent):
                break

    # ── trouble ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _may_grow(self) -> bool:
        if self._disk.restore():
            self._faults.heal("store_full")
            return True
        return self._disk.may_grow()

    def _insist(self, do: Callable[[], T]) -> T:
        """Do something; once more after room was made, or the file salvaged."""
        try:
            if not self._base.is_open:
                self._base.open()
            return do()
        except Troubles as error:
            if unreadable(error):
                self._reset(error)
            elif self._disk.full(error):
                self._faults.report("store_full", str(error))
                if not self._disk.give_up():
                    raise
            else:
                raise
        return do()

    def _read(self, do: Callable[[], T], nothing: N) -> T | N:
        try:
            return self._insist(do)
        except Troubles as error:
            self._faults.report(self._disk.code(error, "store_failed"), str(error))
            return nothing

    def _failed(self, effect: ef.Commit, code: FaultCode, message: str) -> ev.CommitFailed:
        self._faults.report(code, message)
        return ev.CommitFailed(at=self._clock.now(), number=effect.number, code=code, message=message)

    def _lose(self, table: str, ids: Sequence[int]) -> None:
        stream = self._base.streams.get(lane_of(ids[0]), "?")
        self._faults.report(
            "store_corrupt", f"{self._base.path}: {len(ids)} unreadable in {table} of {stream}, left out"
        )
        self._read(lambda: lose(self._base, table, ids), None)

    def _rescue(self, error: BaseException) -> Rescue:
        found = rescue(self._base.path, self._clock.wall(), lambda path: Base(path, self._blobs), carry_outbox)
        told = f"{error}: set aside as {found.path}, {found.rows} rows salvaged, {found.missing} not"
        self._faults.report("store_corrupt", told)
        return found

    def _reset(self, error: BaseException) -> None:
        """Go on with a new file; where none can be made, that is not tried again for a while, as it means reading all of the old one."""
        now = self._clock.now()
        if now < self._salvage_at:
            raise error
        self._salvage_at = Ns(now + SALVAGE_EVERY)
        self._base.close()
        found = self._rescue(error)
        self._salvage_at = Ns(0)
        self._base.open()
        self._post(ev.StoreReset(at=self._clock.now(), path=str(found.path), salvaged=found.rows))
