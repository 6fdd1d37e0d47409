"""What a device says and hears, as a consumer reads and writes it (docs/consumers.md).

Reading is lenient where the sender may be a later version: fields that are not known are passed over.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from chappe.core.envelope import Lost

Kind = Literal["delivered", "read"]
"""Kind of a receipt."""

HIGHEST: Final = 2**53
"""Numbers beyond this are not a device's: JSON readers could not tell them apart (RFC 8259 section 6)."""

T = TypeVar("T")


class Arrived(msgspec.Struct, frozen=True):
    """The envelope of a stream's message."""

    boot: Annotated[str, msgspec.Meta(min_length=1)]
    seq: Annotated[int, msgspec.Meta(ge=1, le=HIGHEST)]
    at: str = ""
    synced: bool = False
    data: Any = None
    elided: Any = None
    late: bool = False
    lost: msgspec.Raw = msgspec.Raw(b"null")
    model: str = ""


class State(msgspec.Struct, frozen=True):
    """The retained ``state`` of a device; `last` comes with ``stopped`` alone."""

    status: str
    boot: str = ""
    last: dict[str, Annotated[int, msgspec.Meta(le=HIGHEST)]] = {}


class Described(msgspec.Struct, frozen=True):
    """One stream in a device's ``info``."""

    name: str
    class_: str = msgspec.field(default="", name="class")


class Info(msgspec.Struct, frozen=True):
    """The retained ``info`` of a device, as far as a consumer needs it."""

    streams: list[Described] = []


class Refusal(msgspec.Struct, frozen=True):
    """Why a request was refused."""

    code: str = ""
    message: str = ""


class Pages(msgspec.Struct, frozen=True):
    """What ``req/history`` found.

    Attributes:
        messages: original envelopes, ascending.
        more: whether more would follow.
        lost: what the device no longer has.
        queued: ranges that it is still about to send; only that there are some is of interest.
    """

    messages: list[msgspec.Raw] = []
    more: bool = False
    lost: list[Lost] = []
    queued: list[Any] = []


class Answer(msgspec.Struct, frozen=True):
    """The answer to a request."""

    status: str
    data: Pages | None = None
    error: Refusal | None = None
    id: str | int = ""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message as the application gets it: once.

    Attributes:
        device: id of the device.
        stream: name of the stream.
        boot: 16 hex digits of the device's start that numbered it.
        seq: its number in that boot and stream; with `device`, `stream` and `boot` it names the message for ever.
        at: when the value arose, RFC 3339 in UTC.
        synced: whether the device's clock was known to be right.
        data: the value.
        elided: summary of what the device left out on purpose before it, or None.
        late: whether it waited on the device for the link.
        model: model behind it, or empty.
        overdue: whether its number had been passed by before: declared lost, or before the beginning of what this consumer follows. With
            ``ordered`` only such a message comes out of its order.
        payload: the envelope's own bytes.
    """

    device: str
    stream: str
    boot: str
    seq: int
    at: str = ""
    synced: bool = False
    data: Any = None
    elided: Any = None
    late: bool = False
    model: str = ""
    overdue: bool = False
    payload: bytes = b""


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers that will not come, as the device said or because it does not answer.

    Attributes:
        device: id of the device.
        stream: name of the stream.
        boot: the boot whose numbers these are.
        first: first number.
        last: last number; None where nobody can know (everything from `first` of a boot that crashed).
        reason: the device's word (docs/topics.md), ``gone`` where its history does not reach back, ``unanswered`` where it was asked in vain.
    """

    device: str
    stream: str
    boot: str
    first: int
    last: int | None
    reason: str


_arrived = msgspec.json.Decoder(Arrived)
_state = msgspec.json.Decoder(State)
_info = msgspec.json.Decoder(Info)
_answer = msgspec.json.Decoder(Answer)
_lost = msgspec.json.Decoder(Lost | list[Lost] | None)


def read_envelope(payload: bytes) -> Arrived | None:
    """The envelope in `payload`, None where it is none."""
    return _read(_arrived, payload)


def read_state(payload: bytes) -> State | None:
    """The state in `payload`, None where it is none."""
    return _read(_state, payload)


def read_info(payload: bytes) -> Info | None:
    """The info in `payload`, None where it is none."""
    return _read(_info, payload)


def read_answer(payload: bytes) -> Answer | None:
    """The answer in `payload`, None where it is none."""
    return _read(_answer, payload)


def losses(arrived: Arrived) -> tuple[Lost, ...]:
    """What an envelope discloses as lost; nothing where that cannot be understood, so that its value still counts."""
    try:
        lost = _lost.decode(arrived.lost)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ()
    return tuple(lost) if isinstance(lost, list) else (lost,) if lost is not None else ()


def message(device: str, stream: str, payload: bytes, *, overdue: bool) -> Message:
    """The application's view of an envelope that was read before."""
    arrived = _arrived.decode(payload)
    return Message(
        device=device,
        stream=stream,
        boot=arrived.boot,
        seq=arrived.seq,
        at=arrived.at,
        synced=arrived.synced,
        data=arrived.data,
        elided=arrived.elided,
        late=arrived.late,
        model=arrived.model,
        overdue=overdue,
        payload=payload,
    )


def _read(decoder: msgspec.json.Decoder[T], payload: bytes) -> T | None:
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
