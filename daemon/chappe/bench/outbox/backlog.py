"""A backlog as an earlier boot would have left it: written by the real store, in large commits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from chappe.bench.outbox.setting import FIRST_VALUE, STREAM, UNIT
from chappe.core.books import Book
from chappe.core.effects import Commit
from chappe.core.envelope import to_json
from chappe.core.events import CommitFailed, Event
from chappe.core.row import OVERHEAD
from chappe.core.stored import LANE_BITS, LaneEntry, StoredRow
from chappe.core.units import Ns
from chappe.edge.host import Clock, SystemClock
from chappe.edge.store import Store
from chappe.errors import EdgeError

BOOT = "0123456789abcdef"
LANE = 1
ROWS_PER_COMMIT = 20_000


def fill(folder: Path, n: int, *, clock: Clock | None = None) -> None:
    """Leave `n` messages in a state folder, accepted just now by a boot that ended cleanly.

    Args:
        folder: the state folder; made if it is missing, must not hold a store yet.
        n: messages of 200 bytes.
        clock: when they were accepted; the machine's own unless a test brings one.

    Raises:
        EdgeError: if a commit fails.
    """
    clock = clock or SystemClock()
    failed: list[Event] = []
    store = Store(folder, clock, lambda event: failed.append(event) if isinstance(event, CommitFailed) else None)
    store.open(threaded=False)
    try:
        for commit in commits(n, clock):
            store.handle([commit])
            store.step(clock.now())
    finally:
        store.close()
    if failed:
        raise EdgeError(f"the backlog could not be written: {failed[0]}")


def commits(n: int, clock: Clock) -> Iterable[Commit]:
    """The transactions that make up the backlog."""
    now = clock.now()
    for number, first in enumerate(range(0, n, ROWS_PER_COMMIT), start=1):
        end = min(n, first + ROWS_PER_COMMIT)
        rows = tuple(row(seq, Ns(now - n + seq)) for seq in range(first + 1, end + 1))
        entry = LaneEntry(
            no=LANE,
            next=end + 1,
            rows=end,
            bytes=end * (len(rows[0].data) + OVERHEAD),
            book=Book(produced=end, queued=end),
            boot=BOOT,
            seq=end,
        )
        yield Commit(
            number=number,
            at=now,
            rows=rows,
            lanes={STREAM: entry},
            boot=BOOT,
            offset=clock.wall() - now,
            synced=True,
            clean=end == n,
        )


def row(seq: int, at: Ns) -> StoredRow:
    """A message of the backlog."""
    return StoredRow(
        id=(LANE << LANE_BITS) | seq,
        stream=STREAM,
        boot=BOOT,
        seq=seq,
        key="",
        at=at,
        accepted=at,
        late=True,
        attempts=0,
        data=to_json({"value": FIRST_VALUE + seq % FIRST_VALUE, "unit": UNIT}),
    )
