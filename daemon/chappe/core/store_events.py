"""What the store says: answers to the effects that it obeys."""

from __future__ import annotations

from chappe.core.event import Event
from chappe.core.stored import FaultCode, Page, StoredRow
from chappe.core.units import Ns


class Committed(Event, frozen=True):
    """A `Commit` is on the disk: a power cut does not undo it.

    Attributes:
        number: its number.
        took: how long the transaction took.
    """

    number: int
    took: Ns = Ns(0)


class CommitFailed(Event, frozen=True):
    """Nothing of a `Commit` is on the disk; its contents belong to the core again.

    Attributes:
        code: ``store_full`` where there is no room, else ``store_failed``.
    """

    number: int
    code: FaultCode
    message: str = ""


class Fetched(Event, frozen=True, gc=True):
    """The answer to a `Fetch`.

    Attributes:
        stream: whose rows.
        purpose: as asked.
        rows: in the order of their ids.
        after: ids up to here were looked at: the last row's, or the `upto` of the question where nothing more lies before it.
        bad: rows in that range that are there but cannot be read.
    """

    stream: str
    purpose: str
    rows: tuple[StoredRow, ...]
    after: int
    bad: int = 0


class Exhumed(Event, frozen=True, gc=True):
    """These dead letters are rows again."""

    rows: tuple[StoredRow, ...]


class StoreReset(Event, frozen=True, gc=True):
    """The file was corrupt and has been set aside; a new one holds what could be salvaged.

    Attributes:
        path: where the old file is.
        salvaged: rows in the new one.
    """

    path: str
    salvaged: int


class Counted(Event, frozen=True):
    """The answer to a `Count`.

    Attributes:
        rows: rows with ids in the range asked for.
        bytes: bytes of their data.
        first: number of the first of them, 0 where there is none.
        last: number of the last of them.
    """

    stream: str
    rows: int
    bytes: int
    first: int = 0
    last: int = 0


class Consulted(Event, frozen=True, gc=True):
    """The answer to a `Consult`.

    Attributes:
        error: why there is none; empty otherwise.
    """

    ticket: int
    page: Page
    error: str = ""


class DiskSampled(Event, frozen=True):
    """How full the file system of the state folder is; sent at start, every 10 s, and when it crosses the limit.

    Attributes:
        free: share of it that is free, 0 to 1.
        used: bytes of the store's own files.
    """

    free: float
    used: int
