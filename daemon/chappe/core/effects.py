"""Effects: everything the engine wishes for. The composition root hands each to the edge that can do it, in one list a pass.

An effect is data. Whatever comes of it comes back as an event.
"""

from __future__ import annotations

from typing import Any

import msgspec


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
    | Disconnect
    | OpenCamera
    | CloseCamera
    | LoadModel
    | Drive
    | ReadSensors
    | Remember
    | SampleHost
    | Reply
    | Announce
    | Finished
)
