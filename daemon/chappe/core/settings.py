"""The configuration as frozen, typed structs: what every key means, its default and its limits.

This file is the reference: the JSON Schema, the commented sample and the checks are made from it. `chappe.config` reads, layers and
validates; a part is handed the section it needs, never the whole. Durations are `Span` (written ``"250ms"``), paths are plain text that
the loader has made absolute, relative to the file that set them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from chappe.core.elision import Elide
from chappe.core.gestures import Votes
from chappe.core.units import DAY, MILLISECOND, MINUTE, SECOND, Span

# The look-ahead: Python's "$" would let a line end pass.
IDENTIFIER = r"^[a-z0-9][a-z0-9_-]{0,63}$(?!\n)"

Identifier = Annotated[str, Meta(pattern=IDENTIFIER)]
Path = Annotated[str, Meta(extra_json_schema={"format": "path"})]
Pin = Annotated[int, Meta(ge=0, le=53, description="BCM pin number")]
Positive = Annotated[float, Meta(gt=0)]
Port = Annotated[int, Meta(ge=1, le=65535)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=False):
    """Root of all sections: unknown keys are errors."""


class Device(Section, frozen=True):
    """Who this device is. `state_dir` empty: systemd's STATE_DIRECTORY, else ~/.local/state/chappe."""

    id: Identifier = "chappe"
    groups: tuple[Identifier, ...] = ()
    state_dir: Path = ""


class Site(Section, frozen=True):
    """Where the device stands: for sun times and local time of jobs and quiet hours."""

    latitude: Annotated[float, Meta(ge=-90, le=90)] | None = None
    longitude: Annotated[float, Meta(ge=-180, le=180)] | None = None
    timezone: str = ""


class Mqtt(Section, frozen=True):
    """The broker. `version` auto: MQTT 5 first, 3.1.1 where the broker refuses it.

    `drain_rate`: messages of a backlog per second. `verify` echo: on each connection the first message of a stream counts as
    delivered only when it comes back on a subscription of our own, for brokers whose PUBACK means nothing (MQTT 3.1.1).
    """

    host: str = "127.0.0.1"
    port: Port = 1883
    prefix: Identifier = "chappe"
    version: Literal["auto", "5", "3.1.1"] = "auto"
    username: str = ""
    password_file: Path = ""
    keepalive: Span = Span(20 * SECOND)
    connect_timeout: Span = Span(5 * SECOND)
    ack_stall: Span = Span(14 * SECOND)
    window: Annotated[int, Meta(ge=1, le=1000)] = 100
    session_expiry: Span = Span(DAY)
    drain_rate: Annotated[int, Meta(ge=1)] | Literal["max"] = 500
    verify: Literal["off", "echo"] = "off"
    bytes_per_month: Annotated[int, Meta(ge=1000)] | None = None
    transport: Literal["tcp", "websockets"] = "tcp"
    tls: bool = False
    ca_file: Path = ""
    cert_file: Path = ""
    key_file: Path = ""


class Camera(Section, frozen=True):
    """Where frames come from. `hold` shows each picture of a files source that long (default: one frame)."""

    source: Literal["picamera2", "v4l2", "files", "off"] = "off"
    path: Path = ""
    loop: bool = True
    hold: Span | None = None
    device: str = "/dev/video0"
    rate_hz: Annotated[float, Meta(gt=0, le=120)] = 10.0
    width: Annotated[int, Meta(ge=32, le=4096)] = 640
    height: Annotated[int, Meta(ge=32, le=4096)] = 480
    rotate: Literal[0, 90, 180, 270] = 0
    stall: Span = Span(5 * SECOND)


class Vision(Section, frozen=True):
    """Which hand model looks at the frames, and how hard."""

    model: str = "hands-lite"
    backend: Literal["auto", "pillow", "opencv", "numpy"] = "auto"
    threads: Annotated[int, Meta(ge=1, le=8)] = 1
    hands: Annotated[int, Meta(ge=1, le=2)] = 1
    palm_score: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    presence: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    idle_hz: Annotated[float, Meta(gt=0, le=120)] = 2.0
    still_hz: Annotated[float, Meta(gt=0, le=120)] = 0.2


class Gestures(Section, frozen=True):
    """When a label counts: votes, hold and refractory time; and how long a signal stays latched (None: until the next)."""

    votes: Annotated[int, Meta(ge=1, le=100)] = 3
    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.5
    gone_after: Annotated[int, Meta(ge=1, le=1000)] = 5
    hold: Span = Span(0)
    refractory: Span = Span(0)
    latch: Span | None = None

    def as_votes(self) -> Votes:
        """The part of this section that the votes need."""
        return Votes(
            votes=self.votes,
            threshold=self.threshold,
            gone_after=self.gone_after,
            hold=self.hold,
            refractory=self.refractory,
        )


class Sensor(Section, frozen=True):
    """One sensor. Its readings, after calibration, feed the stream of its name.

    Calibration: `points` (raw, value) pairs interpolate linearly, else `polynomial` coefficients (constant first), else
    raw x `scale` + `offset`; then rounding to `precision` decimals.
    """

    driver: str
    every: Span = Span(SECOND)
    unit: str = ""
    path: str = ""
    channel: Annotated[int, Meta(ge=0, le=7)] = 0
    vref: Positive = 3.3
    wave: Literal["counter", "sine", "square", "random_walk", "noise"] = "sine"
    low: float = 0.0
    high: float = 1.0
    period: Span = Span(MINUTE)
    seed: int = 0
    scale: float | None = None
    offset: float = 0.0
    precision: Annotated[int, Meta(ge=0, le=12)] | None = None
    points: tuple[tuple[float, float], ...] = ()
    polynomial: tuple[float, ...] = ()
    timeout: Span = Span(5 * SECOND)
    options: dict[str, Any] = {}


StreamClass = Literal["log", "latest", "transient"]
Durability = Literal["first", "behind", "memory"]


class Stream(Section, frozen=True):
    """How a stream is published. Unset keys take the default of the stream's kind (FEATURES appendices B and F).

    `confirm` delivered: a message is kept until a consumer's receipt says that it has it. `history`: how long this device itself keeps
    the stream's messages, "0s" for not at all.
    """

    class_: StreamClass | None = msgspec.field(default=None, name="class")
    durability: Durability | None = None
    priority: Annotated[int, Meta(ge=0, le=9)] | None = None
    expiry: Span | None = None
    elide: Elide | Literal["none"] | None = None
    confirm: Literal["sent", "delivered"] | None = None
    history: Span | None = None
    owner: str = ""
    description: str = ""
    unit: str = ""


class Indicators(Section, frozen=True):
    """Lamps by BCM pin. `privacy = false` is the owner's word that the device has no privacy lamp."""

    status: Pin | None = None
    privacy: Pin | Literal[False] | None = None
    green: Pin | None = None
    red: Pin | None = None
    blue: Pin | None = None
    pwm: bool = True
    brightness: Annotated[float, Meta(gt=0, le=1)] = 1.0
    quiet: Annotated[str, Meta(pattern=r"^$|^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")] = ""

    @property
    def has_privacy(self) -> bool:
        """Whether a privacy lamp is configured (pin 0 is one, too)."""
        return self.privacy is not None and self.privacy is not False


class Output(Section, frozen=True):
    """A pin that rules drive; `safe` is its level while nothing drives it, and after every failure."""

    pin: Pin
    safe: Literal["low", "high"] = "low"


class Deed(Section, frozen=True):
    """Something the device does by itself: pulse an output, switch the camera, set a mark, raise an alert (``stream/alert``)."""

    output: str = ""
    pulse: Span = Span(500 * MILLISECOND)
    camera: Literal["", "on", "off"] = ""
    mark: str = ""
    alert: str = ""


class Rule(Deed, frozen=True):
    """When a gesture becomes stable, a signal is latched or a button pressed, do something here, broker or not."""

    gesture: str = ""
    signal: str = ""
    press: str = ""


class Job(Deed, frozen=True):
    """Do something at times: one of `every`, `cron` or `sun` (with `shift`)."""

    every: Span | None = None
    cron: str = ""
    sun: Literal["", "dawn", "sunrise", "noon", "sunset", "dusk"] = ""
    shift: str = ""


class Outbox(Section, frozen=True):
    """Bounds of what may wait for the broker, on disk; `memory_bytes` bounds what may wait in memory while nothing can be written.

    `disk_free`: share of the file system that stays free; below it the outbox does not grow. `inline`: data above this many bytes goes to a
    file of its own. `dead`: most dead letters.
    """

    rows: Annotated[int, Meta(ge=1)] = 500_000
    bytes: Annotated[int, Meta(ge=1024)] = 256 * 1024 * 1024
    memory_bytes: Annotated[int, Meta(ge=1024)] = 16 * 1024 * 1024
    disk_free: Annotated[float, Meta(ge=0, lt=1)] = 0.05
    inline: Annotated[int, Meta(ge=256)] = 16 * 1024
    dead: Annotated[int, Meta(ge=0)] = 1000
    spill: Literal["oldest", "newest"] = "oldest"
    spill_order: Literal["class", "age"] = "class"


class History(Section, frozen=True):
    """Bounds of the messages that this device keeps for itself."""

    bytes: Annotated[int, Meta(ge=1024)] = 256 * 1024 * 1024


class Metrics(Section, frozen=True):
    """`file`: where to write the figures of ``health`` as text for Prometheus' node exporter; empty for nowhere."""

    file: Path = ""


class Health(Section, frozen=True):
    """How often ``health`` is published."""

    every: Span = Span(MINUTE)


class Requests(Section, frozen=True):
    """Limits on requests."""

    rate: Annotated[int, Meta(ge=1)] = 10
    size: Annotated[int, Meta(ge=256)] = 256 * 1024
    life: Span = Span(MINUTE)


class Models(Section, frozen=True):
    """Where weights are looked for first."""

    dir: Path = ""


class Log(Section, frozen=True):
    """What goes to the journal."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section, frozen=True):
    """The whole configuration of one device."""

    device: Device = Device()
    site: Site = Site()
    mqtt: Mqtt = Mqtt()
    camera: Camera = Camera()
    vision: Vision = Vision()
    gestures: Gestures = Gestures()
    signals: dict[str, str] = {}
    sensors: dict[Identifier, Sensor] = {}
    streams: dict[Identifier, Stream] = {}
    indicators: Indicators = Indicators()
    outputs: dict[Identifier, Output] = {}
    buttons: dict[Identifier, Pin] = {}
    rules: dict[Identifier, Rule] = {}
    jobs: dict[Identifier, Job] = {}
    outbox: Outbox = Outbox()
    history: History = History()
    metrics: Metrics = Metrics()
    health: Health = Health()
    requests: Requests = Requests()
    models: Models = Models()
    log: Log = Log()


def decode_hook(kind: type, value: Any) -> Any:
    """Durations from text, as msgspec's ``dec_hook``.

    Raises:
        ValueError: if `value` is not a duration.
        NotImplementedError: if msgspec asks for a type that no section uses.
    """
    if kind is Span:
        if not isinstance(value, str):
            raise ValueError(f'{value!r} is not a duration; write it as text, like "250ms" or "1s"')
        return Span.parse(value)
    raise NotImplementedError(kind)


def encode_hook(value: Any) -> Any:
    """Durations to text, as msgspec's ``enc_hook``."""
    return str(value)


def to_data(config: Config) -> dict[str, Any]:
    """The configuration as JSON would carry it, so that it equals itself after a recording; `from_data` gives it back."""
    data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(config, enc_hook=encode_hook))
    return data


def from_data(data: dict[str, Any]) -> Config:
    """The configuration out of plain data that was valid once.

    Raises:
        msgspec.ValidationError: if it is not valid any more.
    """
    return msgspec.convert(data, Config, dec_hook=decode_hook)
