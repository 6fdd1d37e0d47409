"""Events: everything that enters the engine. A fact, in the past tense, with the monotonic time `at` it happened.

Events are frozen and self-contained (no handles, no pixels), so a recorded run is the list of its events as JSON lines and
replays to the same effects. Edges make them in any thread; they travel to the main thread in batches.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from chappe.core.event import Event as Event
from chappe.core.gestures import Sighting
from chappe.core.store_events import CommitFailed as CommitFailed
from chappe.core.store_events import Committed as Committed
from chappe.core.store_events import Consulted as Consulted
from chappe.core.store_events import Counted as Counted
from chappe.core.store_events import DiskSampled as DiskSampled
from chappe.core.store_events import Exhumed as Exhumed
from chappe.core.store_events import Fetched as Fetched
from chappe.core.store_events import StoreReset as StoreReset
from chappe.core.stored import Backlog
from chappe.core.units import Ns, WallNs

# ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Started(Event, frozen=True, gc=True):
    """The daemon starts; always the first event of a boot.

    Attributes:
        boot: 16 hex digits drawn at this start.
        wall: wall clock at `at`.
        synced: whether the wall clock is known to be right.
        zone_s: offset of local time from UTC, in seconds.
        config: the whole effective configuration, as plain data.
        config_hash: first 12 hex digits of the sha256 of that data.
        version: the daemon's version.
        memory: what an earlier boot asked to be remembered.
        backlog: what the store holds of earlier boots.
        facts: what the host is (Python, platform, pins, runtime), for ``info``.
    """

    boot: str
    wall: WallNs
    synced: bool
    config: dict[str, Any]
    config_hash: str
    version: str
    zone_s: int = 0
    memory: dict[str, Any] = {}
    backlog: Backlog = Backlog()
    facts: dict[str, Any] = {}


class Tick(Event, frozen=True):
    """Time has come to a deadline."""


class Ready(Event, frozen=True):
    """Every part has been opened, or has said why not."""


class ClockChanged(Event, frozen=True):
    """The wall clock was stepped, became (un)synchronised, or local time moved against UTC."""

    wall: WallNs
    synced: bool
    zone_s: int = 0


class Reloaded(Event, frozen=True, gc=True):
    """The owner asked for the configuration to be read again, and it is good.

    Attributes:
        secrets: whether a file with a secret holds another one than the connection was made with.
    """

    config: dict[str, Any]
    config_hash: str
    secrets: bool = False


class ReloadRefused(Event, frozen=True):
    """The owner asked for the configuration to be read again, and it is not good; the old one stays."""

    problems: tuple[str, ...]


class StopRequested(Event, frozen=True):
    """SIGTERM, SIGINT or a `--seconds` limit."""


class HostSampled(Event, frozen=True, gc=True):
    """The host's answer to `SampleHost`.

    Attributes:
        rss: resident memory in bytes.
        temp_c: SoC temperature in °C, or None where there is no sensor.
        bytes_written: bytes this process has caused to be written to storage.
        extra: further figures for ``health``.
    """

    rss: int = 0
    temp_c: float | None = None
    bytes_written: int = 0
    extra: dict[str, Any] = {}


class Faulted(Event, frozen=True):
    """A part failed. Parts that fail again with the same code are counted, not repeated."""

    part: str
    code: str
    message: str = ""


class Healed(Event, frozen=True):
    """The part that had failed with `code` works again."""

    part: str
    code: str


class Overloaded(Event, frozen=True):
    """The inbox was full and `n` values of `stream` were dropped at its door."""

    stream: str
    n: int


# ── camera and vision ────────────────────────────────────────────────────────────────────────────────────────────────


class Seen(Event, frozen=True):
    """Vision has looked at one frame.

    Attributes:
        frame: running number of the frame.
        frame_at: when the frame was captured.
        took: time from taking the frame to the result.
        hands: every hand found, each with its label in this frame.
        palm: whether a palm search ran.
        skipped: looks that came too late for their turn, since the start.
    """

    frame: int
    frame_at: Ns
    took: Ns
    hands: tuple[Sighting, ...] = ()
    palm: bool = False
    skipped: int = 0


class FramesCaptured(Event, frozen=True):
    """The camera's pulse: totals since the source was first opened in this boot.

    Attributes:
        frames: frames captured.
        skipped: frames replaced by a newer one before anybody looked.
    """

    frames: int
    skipped: int
    last_at: Ns


class CameraOpened(Event, frozen=True):
    """The camera is open; its privacy lamp is lit."""

    source: str
    width: int
    height: int


class CameraClosed(Event, frozen=True):
    """The camera is closed; its privacy lamp is dark."""


class CameraFailed(Event, frozen=True):
    """The camera could not be opened, or failed while open, and is closed now.

    Attributes:
        code: fault code: ``camera_missing``, ``camera_failed``, ``camera_format``, ``privacy_led`` …
        retriable: whether opening it again later can help.
    """

    code: str
    message: str
    retriable: bool = True


class CameraExhausted(Event, frozen=True):
    """A file source that does not loop has shown its last picture."""


class ModelLoaded(Event, frozen=True):
    """A model is in use from now on.

    Attributes:
        name: manifest name, for example ``hands-lite``.
        model: ``name@hash8``, as envelopes carry it.
        listing: the models on this device, as ``info`` shows them.
    """

    name: str
    model: str
    listing: tuple[dict[str, Any], ...] = ()


class ModelRejected(Event, frozen=True):
    """A model was refused; the one in use before, if any, goes on."""

    name: str
    message: str
    code: str = "model_rejected"


# ── sensors, buttons, jobs ───────────────────────────────────────────────────────────────────────────────────────────


class SensorRead(Event, frozen=True):
    """A sensor was read. `value` is raw: calibration happens in the core."""

    name: str
    value: float | int | str | bool


class SensorFailed(Event, frozen=True):
    """A sensor could not be read."""

    name: str
    code: str
    message: str


class ButtonEdge(Event, frozen=True):
    """A button's contact moved; raw, not debounced."""

    button: str
    down: bool


class JobFired(Event, frozen=True):
    """A cron or sun job's time has come.

    Attributes:
        job: its name in ``[jobs]``.
        missed: runs that were due before and did not happen.
    """

    job: str
    missed: int = 0


# ── the link and those who speak through it ──────────────────────────────────────────────────────────────────────────

LinkStatus = Literal[
    "online",
    "connecting",
    "refused",
    "no_network",
    "auth_failed",
    "tls_untrusted",
    "captive_portal_suspected",
    "lost",
    "off",
]


class LinkUp(Event, frozen=True, gc=True):
    """Connected, and subscribed to everything the device listens to.

    Attributes:
        protocol: ``"5"`` or ``"3.1.1"``.
        window: how many messages may be unacknowledged at a time.
        max_packet: the broker's maximum packet size in bytes, 0 where it named none.
        certificates: when the certificates in use end, in seconds since the epoch: ``broker``, ``client``, ``ca``.
    """

    protocol: str
    window: int
    max_packet: int = 0
    certificates: dict[str, int] = {}


class LinkDown(Event, frozen=True):
    """Not connected, and why; also sent when the reason changes while offline.

    Attributes:
        cut: whether the peer ended a connection that was up (closed or reset it, or sent DISCONNECT), rather than fell silent.
    """

    status: LinkStatus
    reason: str = ""
    cut: bool = False


class Carried(Event, frozen=True):
    """How much has gone over the link since the last event of this kind.

    Attributes:
        sent: bytes of MQTT packets sent.
        received: bytes of MQTT packets received.
    """

    sent: int
    received: int


class Ack(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A PUBACK, or for QoS 0 the hand-over to a connected socket.

    Attributes:
        token: the number under which the core handed the message over.
        code: MQTT 5 reason code; below 0x80 is success.
    """

    token: int
    code: int = 0


class Acked(Event, frozen=True, gc=True):
    """All PUBACKs of one pass over the socket."""

    items: tuple[Ack, ...]


class Asked(Event, frozen=True):
    """A request arrived, over MQTT or over the control socket.

    Attributes:
        verb: the last topic level.
        body: the payload as it came; at most 256 KiB + 1 byte of it.
        size: bytes of the whole payload.
        retained: whether the broker kept it (refused: a command must not outlive its sender).
        reply_to: MQTT 5 response topic, or the socket's connection number as text.
        correlation: MQTT 5 correlation data, base64.
        receipt: what `Acknowledge` names once the broker may forget the request; 0 where nothing waits for that.
    """

    verb: str
    body: bytes
    size: int = 0
    retained: bool = False
    via: Literal["mqtt", "socket"] = "mqtt"
    reply_to: str = ""
    correlation: str = ""
    receipt: int = 0


class Arrived(Event, frozen=True):
    """Any other message on a subscribed topic."""

    topic: str
    body: bytes
    retained: bool = False


AnyEvent = (
    Started
    | Tick
    | Ready
    | ClockChanged
    | Reloaded
    | ReloadRefused
    | StopRequested
    | HostSampled
    | Faulted
    | Healed
    | Overloaded
    | Seen
    | FramesCaptured
    | CameraOpened
    | CameraClosed
    | CameraFailed
    | CameraExhausted
    | ModelLoaded
    | ModelRejected
    | SensorRead
    | SensorFailed
    | ButtonEdge
    | JobFired
    | LinkUp
    | LinkDown
    | Acked
    | Asked
    | Arrived
    | Carried
    | Committed
    | CommitFailed
    | Fetched
    | Exhumed
    | StoreReset
    | Counted
    | Consulted
    | DiskSampled
)
