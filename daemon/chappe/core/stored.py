"""What the outbox keeps on disk, as data: the contract between the policy in the core and the one writer in ``edge/store``.

The core decides what is written, deleted and read, and in which order; the store carries it out and reports. Everything that belongs together
goes in one `effects.Commit`, which is one transaction.

Row ids: the core gives each row an id ``(lane << LANE_BITS) | n`` with `n` rising over all boots, so that the rows of one stream lie side by
side in the table and in the order in which they have to leave, without a second index.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from chappe.core.books import Book
from chappe.core.envelope import Lost
from chappe.core.units import Ns, WallNs

LANE_BITS = 40
"""Bits of a row id below the number of its lane: 10^12 rows per stream, 8,191 streams, and every id below 2^53."""


class StoredRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A row of the outbox as the store keeps it; the store adds a CRC-32 over all other columns.

    Attributes:
        id: see the module.
        stream: name of the stream.
        boot: the boot that numbered it.
        seq: its number in that boot.
        key: conflation key, empty for none.
        at: when its value arrived, on the monotonic clock of the kernel boot of `boot`.
        accepted: when it entered the outbox, likewise; expiry counts from here.
        late: whether the link was down when it was accepted.
        attempts: how often the broker refused it.
        data: the value, JSON. Above `settings.Outbox.inline` bytes the store keeps it in a file of its own; nobody else sees that.
        elided: summary of what was elided, JSON; empty for none.
        lost: the gap it discloses, JSON; empty for none.
        model: ``name@hash8``, or empty.
    """

    id: int
    stream: str
    boot: str
    seq: int
    key: str
    at: Ns
    accepted: Ns
    late: bool
    attempts: int
    data: bytes
    elided: bytes = b""
    lost: bytes = b""
    model: str = ""


class DeadRow(msgspec.Struct, frozen=True, gc=False):
    """A dead letter without its data: what is known of it in memory.

    Attributes:
        size: bytes of its data.
        since: wall time at which it was given up.
        reason: one word.
    """

    id: int
    stream: str
    boot: str
    seq: int
    key: str
    attempts: int
    size: int
    since: WallNs
    reason: str


class Burial(msgspec.Struct, frozen=True):
    """A row that becomes a dead letter: out of the rows (if it was there), into the dead letters."""

    row: StoredRow
    since: WallNs
    reason: str


class LaneEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One stream in the store's table of lanes: its books and what lies in the rows; written whole in each commit that touches it.

    Attributes:
        no: number of the lane, the high bits of its row ids.
        next: the `n` of the next row id; ids are never given twice.
        rows: rows of this stream in the table after this commit (dead letters not counted).
        bytes: their size as the core counts it.
        book: the books; balanced by themselves, with ``queued`` = rows + dead letters in the store.
        boot: the boot that wrote this.
        seq: last number of that boot below which every number is in these books.
        gaps: gaps that no message has disclosed yet, oldest first.
    """

    no: int
    next: int
    rows: int
    bytes: int
    book: Book
    boot: str
    seq: int
    gaps: tuple[Lost, ...] = ()


class LaneFound(msgspec.Struct, frozen=True, kw_only=True):
    """What the store finds of one stream at start, without counting its rows.

    Attributes:
        entry: as last written.
        first: id of its first row, 0 where it has none.
        last: id of its last row.
        boot: boot of its first row.
        accepted: when its first row was accepted, on the clock of that boot.
    """

    entry: LaneEntry
    first: int = 0
    last: int = 0
    boot: str = ""
    accepted: Ns = Ns(0)


class BootFound(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier boot of the daemon.

    Attributes:
        kernel: the kernel's boot id; equal to this boot's where the machine was not restarted in between.
        offset: wall minus monotonic time of that kernel boot, as last known.
        synced: whether that wall clock was known to be right.
        last: the latest monotonic moment known of that boot.
        clean: whether it ended by a clean stop.
    """

    boot: str
    kernel: str
    offset: int
    synced: bool
    last: Ns
    clean: bool


class Standing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The delivery state of one message that is kept on disk (streams with ``confirm``, and alerts).

    Attributes:
        state: word of FEATURES appendix B.
        times: wall time of each state reached.
        by: who said ``delivered`` and ``read``.
    """

    stream: str
    boot: str
    seq: int
    state: str
    times: dict[str, WallNs] = {}
    by: dict[str, str] = {}


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What a boot finds in the store; its size does not depend on the number of rows.

    Attributes:
        kernel: the kernel boot id of this boot.
        lanes: by stream, configured now or not.
        boots: every earlier boot of which rows, gaps or dead letters may remain, and the previous one last.
        dead: all dead letters.
        receipts: what is known of messages of streams that keep their delivery states on disk.
        corrupt: rows that could not be salvaged, by stream: a gap whose ``n`` is the number in the books minus what was salvaged.
        salvaged: how many rows were salvaged, None where nothing was corrupt.
    """

    kernel: str = ""
    lanes: dict[str, LaneFound] = {}
    boots: tuple[BootFound, ...] = ()
    dead: tuple[DeadRow, ...] = ()
    receipts: tuple[Standing, ...] = ()
    corrupt: dict[str, Lost] = {}
    salvaged: int | None = None


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message in the history. Written again under the same (stream, boot, seq), it replaces what was there and keeps its offset.

    Attributes:
        wall: when its value arrived, as known when this was written.
        envelope: the message as sent, or as it would be sent now.
    """

    stream: str
    boot: str
    seq: int
    wall: WallNs
    envelope: bytes


class Query(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question to the history; every given condition has to hold.

    Attributes:
        stream: empty for all.
        boot: with `from_` and `to`, numbers of that boot.
        text: text that the envelope's data must contain, without regard to case.
        since: earliest wall time.
        after: offset to start behind (oldest first), or in front of (newest first); None for the beginning.
        reader: name of a cursor that gives `after`; oldest first.
        n: most entries to return.
        newest: newest first.
        summary: only the newest entry of each stream.
    """

    stream: str = ""
    boot: str = ""
    from_: int | None = None
    to: int | None = None
    text: str = ""
    since: WallNs | None = None
    after: int | None = None
    reader: str = ""
    n: int = 50
    newest: bool = True
    summary: bool = False


class Found(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An entry that answers a `Query`.

    Attributes:
        offset: its place in its stream; starts at 0, dense, survives restarts.
    """

    offset: int
    stream: str
    boot: str
    seq: int
    wall: WallNs
    envelope: bytes


class Page(msgspec.Struct, frozen=True):
    """The answer to a `Query`.

    Attributes:
        rows: at most as many as asked for, in the order asked for.
        more: whether more would follow.
        first: offset of the oldest entry that the stream still has, None where it has none (or no stream was named).
    """

    rows: tuple[Found, ...] = ()
    more: bool = False
    first: int | None = None


FaultCode = Literal["store_full", "store_failed"]


def lane_of(row_id: int) -> int:
    """Number of the lane of a row id."""
    return row_id >> LANE_BITS
