"""What the demo shows, whatever shows it: the newest of everything that the daemon decides and says about itself."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chappe import __version__
from chappe.core.effects import Announce, Drive, Effect, Publish

MESSAGES = 5
LAMPS = ("status", "green", "red", "blue")


@dataclass(frozen=True)
class Scene:
    """Where the demo plays.

    Attributes:
        device: the device's id.
        root: first levels of its topics, for example ``chappe/tower-1``.
        prefix: the first of them.
        broker: the broker in words.
        port: its port on 127.0.0.1.
        pins: lamps and outputs by name, in the order shown.
    """

    device: str
    root: str
    prefix: str
    broker: str
    port: int
    pins: tuple[str, ...] = LAMPS

    @property
    def lines(self) -> tuple[str, ...]:
        """What to know before it begins: the broker, and how to listen to it from outside."""
        return (
            f"chappe {__version__}: pictures for a camera, pins in memory, a broker of its own",
            f"broker  {self.broker}",
            "watch   in another terminal, either of",
            f"          mosquitto_sub -h 127.0.0.1 -p {self.port} -t '{self.prefix}/#' -v",
            f"          chappe watch --port {self.port} --topic '{self.prefix}/#'",
            "end     Ctrl-C",
        )


@dataclass(frozen=True)
class Row:
    """The books of one stream: produced = delivered + elided + lost + waiting."""

    name: str
    class_: str
    produced: int = 0
    delivered: int = 0
    elided: int = 0
    lost: int = 0
    waiting: int = 0


@dataclass
class Board:
    """The newest of everything.

    Attributes:
        scene: where this is.
        fps: frames looked at per second.
        p50_ms: median time of one look, in milliseconds; p95_ms the 95th percentile.
        levels: level 0 to 1 of each lamp and output.
        lamp: what the status lamp says, in a word.
        messages: the last messages as (topic below the device's, what it says), oldest first.
    """

    scene: Scene
    fps: float = 0.0
    p50_ms: float | None = None
    p95_ms: float | None = None
    model: str = ""
    gesture: str = ""
    signal: str = "-"
    link: str = "connecting"
    lamp: str = "starting"
    levels: dict[str, float] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    messages: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=MESSAGES))

    def take(self, effects: Sequence[Effect]) -> None:
        """Note what a pass of the engine decided."""
        for effect in effects:
            if isinstance(effect, Publish):
                topic = effect.topic.removeprefix(f"{self.scene.root}/")
                self.messages.append((topic, message_words(effect.payload)))
            elif isinstance(effect, Drive):
                self.levels[effect.pin] = effect.level
            elif isinstance(effect, Announce):
                self._announced(effect.kind, effect.data)

    def _announced(self, kind: str, data: Mapping[str, Any]) -> None:
        if kind == "gesture":
            self.gesture = gesture_words(data)
        elif kind == "signal":
            self.signal = data["signal"]
        elif kind == "link":
            self.link = link_words(data)
        elif kind == "model":
            self.model = data["model"]

    def learn(self, document: Mapping[str, Any]) -> None:
        """Note what the daemon answered when it was asked for its ``status``."""
        health = document["health"]
        self.fps = health["camera"]["fps"]
        self.p50_ms, self.p95_ms = health["inference"]["p50_ms"], health["inference"]["p95_ms"]
        self.lamp = next(iter(document["indicators"]), "dark").replace("_", " ")
        self.faults = tuple(f"{fault['part']} {fault['code']}" for fault in health["faults"])
        classes = {stream["name"]: stream["class"] for stream in document["info"]["streams"]}
        self.rows = tuple(row(name, classes.get(name, ""), book) for name, book in sorted(health["streams"].items()))

    @property
    def pace(self) -> str:
        """Frame rate and inference time in words."""
        if self.p50_ms is None:
            return f"{self.fps:.1f} fps"
        return f"{self.fps:.1f} fps, inference {self.p50_ms:.0f} ms (95 % within {self.p95_ms or 0:.0f} ms)"


def row(name: str, class_: str, book: Mapping[str, int]) -> Row:
    """The books of a stream as ``health`` carries them."""
    return Row(
        name=name,
        class_=class_,
        produced=book["produced"],
        delivered=book["delivered"],
        elided=book["elided"],
        lost=book["expired"] + book["spilled"],
        waiting=book["queued"],
    )


def message_words(payload: bytes) -> str:
    """What a message says: of a stream's envelope its number, its data, and what it stands for besides; else the payload.

    >>> message_words(b'{"boot":"9f3c","seq":7,"at":"2026-11-21T21:32:22.123Z","data":{"value":3},"elided":{"n":9},"late":true}')
    '#7 {"value":3}, 9 elided, late'
    """
    text = payload.decode("utf-8", "replace")
    try:
        envelope = json.loads(text)
        said = [f"#{envelope['seq']} {json.dumps(envelope['data'], ensure_ascii=False, separators=(',', ':'))}"]
    except (ValueError, KeyError, TypeError):
        return text
    if "elided" in envelope:
        said.append(f"{envelope['elided']['n']} elided")
    if "late" in envelope:
        said.append("late")
    if "lost" in envelope:
        said.append(f"{envelope['lost'].get('n', 'some')} lost before it ({envelope['lost']['reason']})")
    return ", ".join(said)


def gesture_words(data: Mapping[str, Any]) -> str:
    """A gesture, how sure it is, and of which hand."""
    return f"{data['gesture']} {data['score']:.2f}, {data['handedness']} hand"


def link_words(data: Mapping[str, Any]) -> str:
    """The state of the link, and why."""
    if data["status"] == "online":
        return f"online, MQTT {data['protocol']}"
    return f"{data['status']}: {data['reason']}" if data.get("reason") else str(data["status"])


def words(effect: Effect) -> str | None:
    """A decision as a line of text; None for what makes no line of its own.

    >>> words(Announce(kind="signal", data={"signal": "BUY"}))
    'signal   BUY'
    """
    if isinstance(effect, Drive) and effect.pin != "status":
        return f"pin      {effect.pin} {'on' if effect.level else 'off'}"
    if not isinstance(effect, Announce):
        return None
    told = _TOLD.get(effect.kind)
    rest = told(effect.data) if told is not None else " ".join(f"{key}={value}" for key, value in effect.data.items())
    return f"{effect.kind:<8} {rest}"


def _fault_words(data: Mapping[str, Any]) -> str:
    told = f"{data['part']} {data['code']}"
    if data["healed"]:
        return f"{told} is over"
    return f"{told}: {data['message']}" if data.get("message") else told


def _camera_words(data: Mapping[str, Any]) -> str:
    return f"open, {data['source']} {data['width']}x{data['height']}" if data["open"] else "closed"


def _state_words(data: Mapping[str, Any]) -> str:
    return str(data["status"])


def _signal_words(data: Mapping[str, Any]) -> str:
    return str(data["signal"])


_TOLD: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "gesture": gesture_words,
    "link": link_words,
    "fault": _fault_words,
    "camera": _camera_words,
    "state": _state_words,
    "signal": _signal_words,
    "model": lambda data: str(data["model"]),
    "rule": lambda data: str(data["rule"]),
    "press": lambda data: f"{data['button']} {data['press']}",
}
