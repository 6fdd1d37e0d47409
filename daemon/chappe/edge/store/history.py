"""The messages that this device keeps for itself: written in batches, pruned by age and size, consulted.

Nothing of it is needed to deliver a message. Trouble with it is told and stays here.
"""

from __future__ import annotations

import errno
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from chappe.core.effects import Consult, PlaceCursor
from chappe.core.events import Consulted, Event
from chappe.core.stored import LANE_BITS, Entry, Page
from chappe.core.units import DAY, MINUTE, SECOND, Ns
from chappe.edge.host import Clock
from chappe.edge.store.carry import carry_history
from chappe.edge.store.codec import Troubles
from chappe.edge.store.disk import Disk
from chappe.edge.store.entries import BESIDE, Entries, Place
from chappe.edge.store.faults import Faults
from chappe.edge.store.folder import HISTORY
from chappe.edge.store.pruning import prune_age, prune_bytes
from chappe.edge.store.salvage import prepare, rescue, unreadable
from chappe.edge.store.search import Search

BATCH_EVERY = 10 * SECOND
BATCH_BYTES = 64 * 1024
MOST_WAITING = 1 << 20
RETRY_AFTER = 10 * SECOND
PRUNE_EVERY = MINUTE
DEFAULT_AGE = Ns(7 * DAY)

FAILED = "history_failed"


class Batch:
    """Messages that wait to be written.

    Attributes:
        entries: oldest first.
        bytes: what they will take up.
        forgone: messages that had to be left out, by stream.
    """

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.bytes = 0
        self.forgone: Counter[str] = Counter()

    def add(self, entries: Iterable[Entry]) -> None:
        """Take messages in."""
        for entry in entries:
            self.entries.append(entry)
            self.bytes += len(entry.envelope) + BESIDE

    def shorten(self) -> None:
        """What waits must not fill the memory while nothing can be written: the oldest is left out, and that is logged later."""
        while self.bytes > MOST_WAITING:
            entry = self.entries.popleft()
            self.bytes -= len(entry.envelope) + BESIDE
            self.forgone[entry.stream] += 1


class History:
    """The history.

    Args:
        folder: the state folder.
        limit: most bytes.
        retention: how long each stream's messages are kept.
        disk: room: while it is low, the history does not grow.
        faults: told of trouble.
        clock: stamps answers.
        post: takes them.
    """

    def __init__(
        self,
        folder: Path,
        limit: int,
        retention: Mapping[str, Ns],
        disk: Disk,
        faults: Faults,
        clock: Clock,
        post: Callable[[Event], None],
    ) -> None:
        self._entries = Entries(folder / HISTORY)
        self._limit = limit
        self._retention = retention
        self._disk = disk
        self._faults = faults
        self._clock = clock
        self._post = post
        self._waiting = Batch()
        self._flush_at: Ns | None = None
        self._retry_at = Ns(0)
        self._prune_at = Ns(0)
        self._searches: deque[tuple[Consult, Search]] = deque()

    @property
    def searching(self) -> bool:
        """Whether a question is not answered yet."""
        return bool(self._searches)

    def open(self) -> None:
        """Open the file; what goes wrong is a fault, and is tried again when there is something to write."""
        self._guarded(self._open)

    def _open(self) -> None:
        if self._entries.is_open:
            return
        try:
            prepare(self._entries.path, self._clock.wall())
            self._entries.open()
        except Troubles as error:
            self._entries.close()
            if not unreadable(error):
                raise
            self._replace(error)

    def close(self) -> None:
        """Write what waits and close the file."""
        self.flush()
        self._entries.close()

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def add(self, entries: tuple[Entry, ...], now: Ns) -> None:
        """Take entries in; they are written with others."""
        self._waiting.add(entries)
        if self._waiting.bytes >= BATCH_BYTES:
            self._flush_at = max(now, self._retry_at)
        elif self._waiting.entries and self._flush_at is None:
            self._flush_at = Ns(now + BATCH_EVERY)

    def due(self) -> Ns | None:
        """When `work` wants to be called."""
        return self._flush_at

    def work(self, now: Ns) -> None:
        """Write a batch that is due."""
        if self._flush_at is not None and now >= self._flush_at and not self.flush():
            self._flush_at = self._retry_at = Ns(now + RETRY_AFTER)
            self._waiting.shorten()

    def flush(self) -> bool:
        """Write everything that waits; False if that cannot be done now."""
        if self._waiting.entries and not self._guarded(self._flush):
            return False
        self._waiting = Batch()
        self._flush_at = None
        return True

    def _flush(self) -> None:
        if not self._disk.may_grow():
            raise OSError(errno.ENOSPC, "the disk is full")
        self._open()
        before, wall = self._entries.bytes, self._clock.wall()
        self._entries.append(self._waiting.entries)
        self._entries.note_forgone(self._waiting.forgone, wall)
        # On a disk that is filling up, something old goes for everything new.
        prune_bytes(self._entries, wall, min(self._limit, before) if self._disk.low else self._limit)
        self._faults.heal(FAILED)

    def place(self, effect: PlaceCursor) -> None:
        """Put a cursor."""

        def put() -> None:
            self._open()
            self._entries.place(effect.reader, effect.stream, effect.offset)

        self._guarded(put)

    def tend(self, now: Ns) -> None:
        """Remove what is too old, a little at a time; give pages back."""
        if self._entries.is_open:
            self._guarded(lambda: self._tend(now))

    def _tend(self, now: Ns) -> None:
        if now >= self._prune_at:
            removed = prune_age(self._entries, self._clock.wall(), self._retention, DEFAULT_AGE)
            self._prune_at = now if removed else Ns(now + PRUNE_EVERY)
        self._entries.shrink(hard=self._disk.low)

    # ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────

    def consult(self, effect: Consult) -> None:
        """Take a question in; what waits is written first, so that an offset once told is on the disk."""
        self.flush()
        if self._entries.is_open:
            self._searches.append((effect, Search(self._entries, effect.query)))
        else:
            self._answer(effect, Page(), "the history cannot be opened")

    def search(self) -> None:
        """Go on with the oldest question for a while."""
        effect, search = self._searches[0]
        try:
            page = search.advance()
        except Troubles as error:
            self._searches.popleft()
            self._trouble(error)
            self._answer(effect, Page(), str(error))
            return
        if page is not None:
            self._searches.popleft()
            self._answer(effect, page)
            self._guarded(lambda: self._leave_out(search.bad))

    def _answer(self, effect: Consult, page: Page, error: str = "") -> None:
        self._post(Consulted(at=self._clock.now(), ticket=effect.ticket, page=page, error=error))

    def _leave_out(self, bad: list[tuple[str, int]]) -> None:
        for stream, id_ in bad:
            self._entries.remove(stream, [Place(id_, 0, 0)], "corrupt", self._clock.wall())
            offset = id_ & ((1 << LANE_BITS) - 1)
            self._faults.report(
                "store_corrupt", f"{self._entries.path}: entry {offset} of {stream} is unreadable, left out"
            )

    # ── trouble ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _guarded(self, do: Callable[[], None]) -> bool:
        """Do something; False, and a fault, if it cannot be done even with a new file."""
        try:
            do()
        except Troubles as error:
            if not self._trouble(error):
                return False
            try:
                do()
            except Troubles as again:
                self._faults.report(self._disk.code(again, FAILED), str(again))
                return False
        return True

    def _trouble(self, error: BaseException) -> bool:
        """Tell of trouble; returns whether trying again makes sense."""
        if not unreadable(error):
            self._faults.report(self._disk.code(error, FAILED), str(error))
            return False
        try:
            self._entries.close()
            self._replace(error)
        except Troubles as worse:
            self._faults.report(FAILED, str(worse))
            return False
        return True

    def _replace(self, error: BaseException) -> None:
        """A new file with what could be salvaged. Searches go on in it: they ask anew for each chunk."""
        found = rescue(self._entries.path, self._clock.wall(), Entries, carry_history)
        self._faults.report("store_corrupt", f"{error}: set aside as {found.path}, {found.rows} messages salvaged")
        self._entries.open()
