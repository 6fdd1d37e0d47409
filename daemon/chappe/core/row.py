"""One message that waits, or is in flight; and what becomes of it when a newer value takes its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from chappe.core.elision import Summary
from chappe.core.elision.values import number
from chappe.core.envelope import Lost, to_json
from chappe.core.stored import StoredRow
from chappe.core.units import Ns

# Envelope, topic and MQTT header of a message, about; only bounds the outbox.
OVERHEAD = 120


class Row(msgspec.Struct, eq=False, gc=False):
    """A message on its way.

    Attributes:
        id: place in the store's table, see `chappe.core.stored`.
        seq: its number.
        key: conflation key.
        at: when its value arrived, on the clock of its own kernel boot.
        accepted: when it entered the outbox, on this boot's clock; expiry counts from here.
        late: whether it was accepted, took its value, or waited while the link was down.
        body: its data as JSON.
        size: what it counts for against the outbox's bounds.
        data: the value itself, while newer values may take its place; None otherwise.
        elided: summary of what was elided, as `Summary` or as raw JSON.
        boot: the boot that numbered it; empty for this one.
        lost: the gap it discloses.
        payload: the envelope, fixed when it is first handed to a socket; None before.
        attempts: refusals by the broker.
        flights: connections that the peer ended while it was in flight, in a row.
        stored: a version of it is in the store's table.
        dirty: what is in the table, if anything, is not what it is now, and it should be written.
        writing: it is part of the commit under way.
        done: it needs no place in the outbox any more.
        kept: it is in the history.
    """

    id: int
    seq: int
    key: str
    at: Ns
    accepted: Ns
    late: bool
    body: bytes
    size: int
    data: Mapping[str, Any] | None = None
    elided: Summary | msgspec.Raw | None = None
    model: str = ""
    boot: str = ""
    lost: Lost | None = None
    payload: bytes | None = None
    attempts: int = 0
    flights: int = 0
    stored: bool = False
    dirty: bool = False
    writing: bool = False
    done: bool = False
    kept: bool = False

    @property
    def fixed(self) -> bool:
        """Whether its content must not change any more: it was handed to a socket, or may have been in an earlier boot."""
        return self.payload is not None or bool(self.boot)

    def conflate(self, newer: Row) -> None:
        """Become the newer value of the same key; this row's own value counts as elided."""
        self.elided = absorb(self.elided, self.data or {}, newer.elided)
        self.at, self.data, self.body, self.model = newer.at, newer.data, newer.body, newer.model
        self.accepted, self.late, self.size = newer.accepted, self.late or newer.late, newer.size

    def as_stored(self, stream: str, boot: str, accepted: Ns) -> StoredRow:
        """What the store keeps of it."""
        return StoredRow(
            id=self.id,
            stream=stream,
            boot=self.boot or boot,
            seq=self.seq,
            key=self.key,
            at=self.at,
            accepted=accepted,
            late=self.late,
            attempts=self.attempts,
            data=self.body,
            elided=b"" if self.elided is None else to_json(self.elided),
            lost=b"" if self.lost is None else to_json(self.lost),
            model=self.model,
        )


def restored(found: StoredRow, boot: str, accepted: Ns) -> Row:
    """A row out of the store.

    Args:
        found: as the store keeps it.
        boot: this boot.
        accepted: when it was accepted, on this boot's clock.
    """
    return Row(
        id=found.id,
        seq=found.seq,
        key=found.key,
        at=found.at,
        accepted=accepted,
        late=found.late,
        body=found.data,
        size=len(found.data) + OVERHEAD,
        elided=msgspec.Raw(found.elided) if found.elided else None,
        model=found.model,
        boot="" if found.boot == boot else found.boot,
        lost=lost_of(found),
        attempts=found.attempts,
        stored=True,
        kept=True,
    )


def lost_of(found: StoredRow) -> Lost | None:
    """The gap that a row of the store discloses."""
    return msgspec.json.decode(found.lost, type=Lost) if found.lost else None


def absorb(older: Summary | msgspec.Raw | None, data: Mapping[str, Any], newer: Any) -> Summary:
    """The summary of a conflated row: what each of the two had elided, and the value that gave way."""
    value = number(data)
    gone = Summary(n=1) if value is None else Summary(n=1, min=value, max=value, mean=value)
    parts = [part for part in (older, gone, newer) if isinstance(part, Summary) and part.n]
    known = [part for part in parts if part.mean is not None and part.min is not None and part.max is not None]
    total = sum(part.n for part in parts)
    if not known:
        return Summary(n=total)
    weight = sum(part.n for part in known)
    return Summary(
        n=total,
        min=min(part.min for part in known if part.min is not None),
        max=max(part.max for part in known if part.max is not None),
        mean=sum(part.n * part.mean for part in known if part.mean is not None) / weight,
    )
