"""The words that the parts of a consumer share: what comes in, what goes out, who works with it, what is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from chappe.consumer.closer import Patience
from chappe.consumer.words import Gap, Kind, Message
from chappe.core.units import Ns, WallNs

if TYPE_CHECKING:
    import sqlite3

Handler = Callable[[Message, "sqlite3.Connection"], object]
GapHandler = Callable[[Gap, "sqlite3.Connection"], object]


class Clock(Protocol):
    """Where "now" comes from."""

    def now(self) -> Ns:
        """Monotonic nanoseconds."""

    def wall(self) -> WallNs:
        """Nanoseconds since the Unix epoch."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a consumer is to do.

    Attributes:
        prefix: first level of all topics.
        name: this consumer's, as it stands in receipts.
        handler: gets each message.
        on_gap: gets each gap; None for nobody.
        receipts: which receipts to send.
        ordered: whether messages are held until those before them have come or are lost.
        backfill: whether to ask for what a device sent before this consumer knew it.
        patience: how gaps are treated.
    """

    prefix: str
    name: str
    handler: Handler
    on_gap: GapHandler | None
    receipts: tuple[Kind, ...]
    ordered: bool
    backfill: bool
    patience: Patience


class Incoming(msgspec.Struct, frozen=True):
    """A message from the broker.

    Attributes:
        correlation: MQTT 5 correlation data.
        handle: packet identifier by which it is acknowledged.
    """

    topic: str
    payload: bytes
    qos: int = 1
    correlation: bytes = b""
    handle: int = 0


class Outgoing(msgspec.Struct, frozen=True):
    """A message for the broker, QoS 1.

    Attributes:
        reply_to: MQTT 5 response topic, empty for none.
        correlation: MQTT 5 correlation data.
        receipt: number of the receipt that it is, 0 for none.
    """

    topic: str
    payload: bytes
    reply_to: str = ""
    correlation: bytes = b""
    receipt: int = 0


class Counts(msgspec.Struct):
    """What has happened since the start.

    Attributes:
        messages: first copies.
        repeats: further copies.
        recovered: of the first copies, those that had to be asked for.
        lost: disclosed gaps, and gaps given up.
        questions: requests sent.
        receipts: receipts that the broker has.
        invalid: messages that could not be understood; each is in the log.
    """

    messages: int = 0
    repeats: int = 0
    recovered: int = 0
    lost: int = 0
    questions: int = 0
    receipts: int = 0
    invalid: int = 0
