"""Effects: everything the engine wishes for. The composition root hands each to the edge that can do it, in one list a pass.

An effect is data. Whatever comes of it comes back as an event.
"""

from __future__ import annotations

from typing import Any

import msgspec

from chappe.core.stored import Burial, Entry, LaneEntry, Query, Standing, StoredRow
from chappe.core.units import Ns


class Effect(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag=True, omit_defaults=True):
    """Root of all effects."""


# ── mqtt ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Publish(Effect, frozen=True):
    """Hand a message to the connected socket.

    Attributes:
        token: comes back in `Ack`; unique in a boot.
        payload: the bytes to send.
        expiry_s: MQTT 5 message expiry in seconds, None for none.
        correlation: MQTT 5 correlation data, base64.
    """

    token: int
    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    expiry_s: int | None = None
    correlation: str = ""


class Listen(Effect, frozen=True):
    """Subscribe to one more topic filter (QoS 1) for the rest of this connection; before everything published after it."""

    filter: str


class Unlisten(Effect, frozen=True):
    """Unsubscribe from what `Listen` asked for."""

    filter: str


class Acknowledge(Effect, frozen=True, gc=True):
    """Tell the broker that it may forget these requests; receipts of an earlier connection are passed over."""

    receipts: tuple[int, ...]


class Reconnect(Effect, frozen=True):
    """Leave the broker cleanly and connect again.

    Attributes:
        after: pause before that, in nanoseconds.
    """

    after: Ns = Ns(0)


class Disconnect(Effect, frozen=True):
    """Say goodbye to the broker cleanly, so that it does not send the last will."""


# ── camera and vision ────────────────────────────────────────────────────────────────────────────────────────────────


class OpenCamera(Effect, frozen=True):
    """Open the configured source; a source that is open, or hangs, is given up first and opened anew."""


class CloseCamera(Effect, frozen=True):
    """Close the camera: no frame is taken after this, and the privacy lamp goes dark."""


class LoadModel(Effect, frozen=True):
    """Check the named model and use it from the next frame on; the one in use stays if the check fails."""

    name: str


# ── pins ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Drive(Effect, frozen=True):
    """Drive an output or lamp.

    Attributes:
        pin: its name in ``[indicators]`` or ``[outputs]``.
        level: 0.0 (off) to 1.0 (fully on).
    """

    pin: str
    level: float


# ── sensors, jobs, store, host ───────────────────────────────────────────────────────────────────────────────────────


class ReadSensors(Effect, frozen=True, gc=True):
    """Read these sensors now, each in the worker of its driver."""

    names: tuple[str, ...]


class Remember(Effect, frozen=True, gc=True):
    """Keep `value` under `key` on disk, so that the next boot's `Started.memory` has it."""

    key: str
    value: Any


# ── the store: obeyed in the order given ─────────────────────────────────────────────────────────────────────────────


class Commit(Effect, frozen=True, gc=True):
    """One transaction over the outbox; the answer is `Committed` or `CommitFailed`.

    Attributes:
        number: rises by one with each.
        rows: inserted, or replaced where the id is there already.
        gone: ids of rows to delete; ids that are not there are passed over.
        burials: rows that become dead letters.
        forgotten: ids of dead letters to delete.
        lanes: streams whose entry changes.
        standings: delivery states to keep.
        boot: this boot, written with each commit: wall minus monotonic time, and whether that is known to be right.
        clean: the boot ends here, as it should.
    """

    number: int
    at: Ns
    rows: tuple[StoredRow, ...] = ()
    gone: tuple[int, ...] = ()
    burials: tuple[Burial, ...] = ()
    forgotten: tuple[int, ...] = ()
    lanes: dict[str, LaneEntry] = {}
    standings: tuple[Standing, ...] = ()
    boot: str = ""
    offset: int = 0
    synced: bool = False
    clean: bool = False


class Fetch(Effect, frozen=True):
    """Read rows with ``after < id <= upto``, in the order of their ids; the answer is `Fetched`.

    Attributes:
        limit: most rows.
        most_bytes: stop behind the row that brings the data read to this.
        purpose: comes back in the answer; ``page`` with the data, ``sweep`` without (`StoredRow.data` is empty).
    """

    stream: str
    after: int
    upto: int
    limit: int = 256
    most_bytes: int = 1 << 20
    purpose: str = "page"


class Count(Effect, frozen=True):
    """Count rows with ``after < id <= upto``; the answer is `Counted`."""

    stream: str
    after: int
    upto: int


class Exhume(Effect, frozen=True):
    """Make these dead letters rows again, in one transaction with the counts of their lanes; the answer is `Exhumed`."""

    ids: tuple[int, ...]


class Chronicle(Effect, frozen=True, gc=True):
    """Add to the history, in batches of 10 s or 64 KiB."""

    entries: tuple[Entry, ...]


class Consult(Effect, frozen=True):
    """Ask the history, what waits to be written included; the answer is `Consulted`."""

    ticket: int
    query: Query


class PlaceCursor(Effect, frozen=True):
    """Remember how far the named reader of a stream has come: everything up to and including `offset`."""

    reader: str
    stream: str
    offset: int


class SampleHost(Effect, frozen=True):
    """Ask for memory, temperature and bytes written; the answer is `HostSampled`."""


class Reply(Effect, frozen=True):
    """Answer a request that came over the control socket."""

    to: str
    payload: bytes


class Announce(Effect, frozen=True, gc=True):
    """Something was decided that is of interest to whoever watches the daemon here (``run --json``, ``demo``).

    Attributes:
        kind: ``gesture``, ``signal``, ``fault``, ``link``, ``press``, ``message``, ``rule``, ``state``.
    """

    kind: str
    data: dict[str, Any]


class Finished(Effect, frozen=True):
    """The engine has nothing more to do: stop every part and exit with `code`."""

    code: int = 0


AnyEffect = (
    Publish
    | Listen
    | Unlisten
    | Acknowledge
    | Reconnect
    | Disconnect
    | OpenCamera
    | CloseCamera
    | LoadModel
    | Drive
    | ReadSensors
    | Remember
    | Commit
    | Fetch
    | Count
    | Exhume
    | Chronicle
    | Consult
    | PlaceCursor
    | SampleHost
    | Reply
    | Announce
    | Finished
)
