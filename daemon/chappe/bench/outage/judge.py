"""What was accepted, what arrived, and what is to be said about the difference. Pure: numbers in, figures out.

A value is *offered* when the sensor has read it. It is *accepted* when its message is in a copy of the store taken after the kill, was in
the store before it, or reached the subscriber. What was offered and not accepted at a kill is the exposure; what was accepted and never
arrived is loss, and so is a hole below the last accepted number that no message discloses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from chappe.bench.outage.counter import Arrival
from chappe.bench.outage.plan import SECOND_NS

Id = tuple[str, int]
"""(boot, seq)"""


@dataclass(frozen=True)
class Message:
    """One message of a stream, as the consumer sees it."""

    at: int
    stream: str
    boot: str
    seq: int
    value: int
    late: bool = False
    lost: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Row:
    """One message in the store."""

    stream: str
    boot: str
    seq: int
    value: int


@dataclass(frozen=True)
class Kill:
    """A kill or a power cut.

    Attributes:
        at: monotonic nanoseconds.
        rows: of a copy of the store after it.
        seen: rows that another reader saw committed before it.
    """

    at: int
    rows: Sequence[Row] = ()
    seen: Sequence[Row] = ()


@dataclass
class Course:
    """What happened in one run.

    Attributes:
        recovered: when the path was whole again: link restored, and the daemon ready if it had been killed.
        kills: in order.
        left: rows in the store at the end: they wait, and are not lost.
        last: last number of each stream in the last boot, from its clean goodbye.
    """

    recovered: int = 0
    kills: list[Kill] = field(default_factory=list)
    left: Sequence[Row] = ()
    last: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Figures:
    """One line of the table.

    Attributes:
        lost: of the accepted.
        disclosed: numbers that a message said were lost.
        repeats: copies beyond the first.
        repeats_after: the same after de-duplication by (stream, boot, seq).
        disorder: first copies that came behind a higher number of their stream.
        exposure_ms: how old the newest accepted value was at the kill, None without one.
        first_s: recovery to the first message.
        drain_s: recovery to the last message of the backlog.
    """

    scenario: str
    subject: str
    qos: str
    offered: int = 0
    accepted: int = 0
    lost: int = 0
    disclosed: int = 0
    repeats: int = 0
    repeats_after: int = 0
    disorder: int = 0
    exposure_ms: float | None = None
    first_s: float | None = None
    drain_s: float | None = None
    note: str = ""

    def to_data(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def messages(arrivals: Iterable[Arrival]) -> list[Message]:
    """Messages of streams among what arrived; their topic ends in ``stream/<name>``."""
    found = []
    for arrival in arrivals:
        kind, _, stream = arrival.topic.rpartition("/")
        if not kind.endswith("/stream"):
            continue
        body = json.loads(arrival.payload)
        value = body["data"].get("value", -1) if isinstance(body["data"], dict) else -1
        found.append(
            Message(arrival.at, stream, body["boot"], body["seq"], value, body.get("late", False), body.get("lost"))
        )
    return found


def judge(stream: str, received: Sequence[Message], course: Course, offered: Sequence[int], blank: Figures) -> Figures:
    """The figures of one stream.

    Args:
        stream: its name.
        received: every message, of every stream, in order of arrival.
        course: what happened.
        offered: when each value was offered; value n is the n-th.
        blank: names of the line.
    """
    mine = [message for message in received if message.stream == stream]
    first: dict[Id, Message] = {}
    for message in mine:
        first.setdefault((message.boot, message.seq), message)
    stored = [row for kill in course.kills for row in (*kill.rows, *kill.seen) if row.stream == stream]
    left = {(row.boot, row.seq): row.value for row in course.left if row.stream == stream}
    accepted = {(row.boot, row.seq): row.value for row in stored} | left
    accepted |= {key: message.value for key, message in first.items()}
    gone = _gone(stream, accepted, course)
    disclosed = {key for key in gone if _covers(mine, key)}
    figures = Figures(**{**asdict(blank), "offered": len(offered), "accepted": len(accepted)})
    figures.lost = len(set(accepted) - set(first) - set(left)) + len(gone - disclosed)
    figures.disclosed = len(disclosed) + _open_ends(mine, course.kills, accepted, offered)
    figures.repeats = len(mine) - len(first)
    figures.repeats_after = len(first) - len({message.value for message in first.values()})
    figures.disorder = disorder(list(first.values()))
    figures.exposure_ms = _exposure(course.kills, accepted.values(), offered)
    _recovery(figures, list(first.values()), course.recovered, offered)
    return figures


def _gone(stream: str, accepted: Mapping[Id, int], course: Course) -> set[Id]:
    """Numbers up to the last accepted one of each boot that are nowhere."""
    top: dict[str, int] = {}
    for boot, seq in accepted:
        top[boot] = max(top.get(boot, 0), seq)
    if top and stream in course.last:
        final = list(top)[-1]
        top[final] = max(top[final], course.last[stream])
    return {(boot, seq) for boot, last in top.items() for seq in range(1, last + 1)} - set(accepted)


def _covers(received: Sequence[Message], key: Id) -> bool:
    """Whether some message says that this number is lost."""
    boot, seq = key
    for message in received:
        lost = message.lost
        if lost is None or lost.get("boot", message.boot) != boot:
            continue
        if lost["from"] <= seq <= lost.get("to", seq):
            return True
    return False


def _open_ends(
    received: Sequence[Message], kills: Sequence[Kill], accepted: Mapping[Id, int], offered: Sequence[int]
) -> int:
    """Values that were offered before a kill, accepted by nobody, and are covered by a gap without an end (``crash``)."""
    crashed = {
        str(lost["boot"]) for m in received if (lost := m.lost) is not None and "to" not in lost and "boot" in lost
    }
    values = {value: boot for (boot, _), value in accepted.items()}
    covered = 0
    for kill in kills:
        last = max((value for value in values if 0 <= value < len(offered) and offered[value] <= kill.at), default=-1)
        if last >= 0 and values[last] in crashed:
            following = min((value for value in values if value > last), default=len(offered))
            covered += following - 1 - last
    return covered


def disorder(received: Sequence[Message]) -> int:
    """How many messages of one stream came behind a higher number of their boot, or behind a later boot."""
    boots: dict[str, int] = {}
    highest = (-1, 0)
    wrong = 0
    for message in received:
        place = (boots.setdefault(message.boot, len(boots)), message.seq)
        wrong += place < highest
        highest = max(highest, place)
    return wrong


def _exposure(kills: Sequence[Kill], accepted: Iterable[int], offered: Sequence[int]) -> float | None:
    """The worst age, at a kill, of the newest accepted value."""
    values = sorted(accepted)
    ages = []
    for kill in kills:
        before = [value for value in values if 0 <= value < len(offered) and offered[value] <= kill.at]
        if before:
            ages.append((kill.at - offered[before[-1]]) / 1e6)
    return round(max(ages), 1) if ages else None


def _recovery(figures: Figures, received: Sequence[Message], recovered: int, offered: Sequence[int]) -> None:
    after = [message.at for message in received if message.at > recovered]
    backlog = [
        message.at for message in received if 0 <= message.value < len(offered) and offered[message.value] <= recovered
    ]
    if recovered and after:
        figures.first_s = round((min(after) - recovered) / SECOND_NS, 2)
    if recovered and backlog:
        figures.drain_s = round(max(0, max(backlog) - recovered) / SECOND_NS, 2)


def total(rounds: Sequence[Figures]) -> Figures:
    """Several rounds of one scenario as one line: counts are added, times are the worst."""
    one = Figures(**asdict(rounds[0]))
    for name in ("offered", "accepted", "lost", "disclosed", "repeats", "repeats_after", "disorder"):
        setattr(one, name, sum(getattr(figures, name) for figures in rounds))
    for name in ("exposure_ms", "first_s", "drain_s"):
        known = [value for figures in rounds if (value := getattr(figures, name)) is not None]
        setattr(one, name, max(known) if known else None)
    one.note = "; ".join(dict.fromkeys(figures.note for figures in rounds if figures.note))
    return one
