"""What must hold of the messages that arrived, of the rows that a kill left. Pure: data in, complaints out.

Every function returns sentences about what is wrong; an empty list is the only good answer. `test_oracle.py` shows each of them fail.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

EXPOSURE_S = 0.25
"""How old the oldest unacknowledged message of a `behind` stream may be before it is committed (ARCHITECTURE section 10)."""


DELETED_WITHIN_S = 0.25
"""How long after its acknowledgement a row may still be on disk, besides the commit that deletes it (RULINGS 15)."""


@dataclass(frozen=True)
class Message:
    """A message of a stream as a consumer got it.

    Attributes:
        at: wall time of its value, in seconds.
        came: when it arrived here, in seconds of the same clock.
    """

    stream: str
    boot: str
    seq: int
    at: float
    data: Any
    elided: Any = None
    lost: Any = None
    late: bool = False
    came: float = 0.0

    @property
    def name(self) -> tuple[str, str, int]:
        """What a consumer tells repeats by; the device is always the same here."""
        return self.stream, self.boot, self.seq


@dataclass(frozen=True)
class Stored:
    """A row of the outbox on disk."""

    stream: str
    boot: str
    seq: int


@dataclass(frozen=True)
class Gap:
    """Numbers of a boot that a message says are lost; `to` None: from there on, nobody knows how many.

    Attributes:
        by: how many for which reason.
    """

    stream: str
    boot: str
    from_: int
    to: int | None
    by: tuple[tuple[str, int], ...]

    @property
    def n(self) -> int:
        return sum(n for _, n in self.by)

    @property
    def reasons(self) -> set[str]:
        return {reason for reason, _ in self.by}

    def covers(self, seq: int) -> bool:
        return self.from_ <= seq and (self.to is None or seq <= self.to)


@dataclass(frozen=True)
class End:
    """How a boot ended, and what there was of it at that moment.

    Attributes:
        boot: its id, empty where it left no trace.
        killed: wall time of the kill; None for a clean stop.
        ready: wall time at which it was ready, None where it was killed before.
        rows: every row in a copy of the store, of whatever boot.
        had: how many messages the recorder had by then.
        slack_s: slowest commit, and how long this machine let a thread wait.
        last: what the clean ``stopped`` said of each stream's last number.
    """

    boot: str
    killed: float | None = None
    ready: float | None = None
    rows: tuple[Stored, ...] = ()
    had: int = 0
    slack_s: float = 0.0
    last: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Account:
    """One device's life: what arrived, how each boot ended, and which stream keeps what.

    Attributes:
        durability: of each stream that is looked at: first, behind, memory; or latest for that class, which is written every 10 s.
        ends: every boot, oldest first.
    """

    durability: Mapping[str, str]
    messages: list[Message] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)

    def complaints(self) -> list[str]:
        """Everything that is wrong once all has been drained."""
        return [
            *contents(self.messages),
            *order(self.messages, [end.boot for end in self.ends]),
            *holes(self),
            *tails(self),
            *itertools.chain.from_iterable(cut(self, end) for end in self.ends if end.killed is not None),
            *counted(self),
        ]


# ── one message ──────────────────────────────────────────────────────────────────────────────────────────────────────


def distinct(messages: Iterable[Message]) -> dict[tuple[str, str, int], Message]:
    """The first copy of each message, in the order of arrival: what a consumer keeps."""
    kept: dict[tuple[str, str, int], Message] = {}
    for message in messages:
        kept.setdefault(message.name, message)
    return kept


def contents(messages: Sequence[Message]) -> list[str]:
    """One (device, stream, boot, seq) has one content: each repeat equals the first copy in data, elided and lost."""
    kept = distinct(messages)
    return [
        f"{message.name} came again with another {part}: {getattr(kept[message.name], part)!r}, {getattr(message, part)!r}"
        for message in messages
        for part in ("data", "elided", "lost")
        if getattr(kept[message.name], part) != getattr(message, part)
    ]


def repeats(messages: Sequence[Message]) -> int:
    """How many messages a consumer threw away."""
    return len(messages) - len(distinct(messages))


# ── order ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def order(messages: Sequence[Message], boots: Sequence[str]) -> list[str]:
    """First copies of a stream rise: boots in the order of their starts, numbers in a boot."""
    place = {boot: number for number, boot in enumerate(boots)}
    found: list[str] = []
    highest: dict[str, Message] = {}
    for message in distinct(messages).values():
        before = highest.get(message.stream)
        if message.boot not in place:
            found.append(f"{message.name} is of a boot that nobody started")
        elif before is not None and (place[message.boot], message.seq) < (place[before.boot], before.seq):
            found.append(f"{message.name} came behind {before.name}")
        else:
            highest[message.stream] = message
    return found


# ── gaps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def gaps(messages: Iterable[Message]) -> list[Gap]:
    """Every gap that was disclosed, each once, however often and in whichever form it was said."""
    found: dict[Gap, None] = {}
    for message in messages:
        told = message.lost if isinstance(message.lost, list) else [message.lost] if message.lost else []
        for each in told:
            by = each["by"] if each["reason"] == "mixed" else {each["reason"]: each.get("n") or 0}
            boot = each.get("boot") or message.boot
            found[Gap(message.stream, boot, each["from"], each.get("to"), tuple(sorted(by.items())))] = None
    return list(found)


def holes(account: Account) -> list[str]:
    """Every number below the highest that came of its boot either came or lies in a gap that was disclosed with both its ends.

    A gap without an end (a crash) says nothing about numbers before one that came: those were accepted.
    """
    told = gaps(account.messages)
    found: list[str] = []
    for (stream, boot), numbers in _numbers(account.messages).items():
        if stream not in account.durability:
            continue
        closed = [gap for gap in told if (gap.stream, gap.boot) == (stream, boot) and gap.to is not None]
        missing = sorted(set(range(1, max(numbers) + 1)) - numbers)
        hidden = [seq for seq in missing if not any(gap.covers(seq) for gap in closed)]
        found += (
            [f"{stream}: numbers {_spans(hidden)} of boot {boot} never came, and nothing said so"] if hidden else []
        )
        # What was counted as lost and came all the same was sent before it was lost: only too few is a lie.
        owned = sum(gap.n for gap in closed)
        unsaid = len([seq for seq in missing if any(gap.covers(seq) for gap in closed)]) - owned
        found += [f"{stream}: {unsaid} more of boot {boot} are missing than its gaps own up to"] if unsaid > 0 else []
    return found


def tails(account: Account) -> list[str]:
    """Behind the last number that came of a boot: a crash was disclosed, or the clean stop's last number is accounted for."""
    told = gaps(account.messages)
    found: list[str] = []
    last_boot = account.ends[-1].boot if account.ends else ""
    numbers = _numbers(account.messages)
    for end in account.ends:
        for stream, durability in account.durability.items():
            came = numbers.get((stream, end.boot), set())
            of_it = [gap for gap in told if (gap.stream, gap.boot) == (stream, end.boot)]
            if end.killed is None:
                top = end.last.get(stream, 0) if end.last else max(came, default=0)
                missing = [n for n in range(1, top + 1) if n not in came and not any(gap.covers(n) for gap in of_it)]
                found += [
                    f"{stream}: {_spans(missing)} of boot {end.boot} waited at its clean stop and are gone"
                ] * bool(missing)
                more = sorted(n for n in came if n > top)
                found += [f"{stream}: {end.boot} said that {top} was its last, and there is {_spans(more)}"] * bool(
                    more
                )
            elif durability != "first" and came and end.boot != last_boot:
                open_ = [gap for gap in of_it if gap.to is None and "crash" in gap.reasons]
                if not any(gap.from_ <= max(came) + 1 for gap in open_):
                    found.append(
                        f"{stream}: no crash of boot {end.boot} from {max(came) + 1} on or before was disclosed"
                    )
    return found


def _numbers(messages: Iterable[Message]) -> dict[tuple[str, str], set[int]]:
    found: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for message in messages:
        found[message.stream, message.boot].add(message.seq)
    return dict(found)


def _spans(numbers: Sequence[int]) -> str:
    """Numbers for people: ``1..3, 7``."""
    parts = []
    for _, group in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        parts.append(f"{run[0]}..{run[-1]}" if len(run) > 1 else str(run[0]))
    return ", ".join(parts)


# ── a kill ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def cut(account: Account, end: End) -> list[str]:
    """RULINGS 19 for one kill: rows in the copy and messages at the consumer are 1..m of that boot, and m was young enough.

    And nothing that was accepted then is missing now.
    """
    assert end.killed is not None
    return [
        *itertools.chain.from_iterable(_accepted(account, end, stream) for stream in account.durability),
        *_missing_since(account, end),
    ]


def accepted(account: Account, end: End, stream: str) -> set[int]:
    """Numbers of that boot which were on disk or at the broker when it was killed."""
    had = {m.seq for m in account.messages[: end.had] if (m.stream, m.boot) == (stream, end.boot)}
    return had | {row.seq for row in end.rows if (row.stream, row.boot) == (stream, end.boot)}


def _accepted(account: Account, end: End, stream: str) -> list[str]:
    numbers = accepted(account, end, stream)
    told = [
        gap for gap in gaps(account.messages) if (gap.stream, gap.boot) == (stream, end.boot) and gap.to is not None
    ]
    top = max(numbers, default=0)
    hidden = [n for n in range(1, top) if n not in numbers and not any(gap.covers(n) for gap in told)]
    found = (
        [f"{stream}: {_spans(hidden)} of {top} accepted in boot {end.boot} were nowhere at the kill"] if hidden else []
    )
    exposed = exposure(account, end, stream)
    if account.durability[stream] in ("first", "behind") and exposed is not None:
        allowed = EXPOSURE_S + end.slack_s
        if exposed > allowed:
            found.append(
                f"{stream}: at the kill of {end.boot} the newest accepted value was {exposed:.3f} s old, not {allowed:.3f}"
            )
    return found


def exposure(account: Account, end: End, stream: str) -> float | None:
    """Seconds between the newest accepted value of a stream and the kill; None where it was not yet ready."""
    if end.killed is None or end.ready is None:
        return None
    top = max(accepted(account, end, stream), default=0)
    moments = [m.at for m in account.messages if m.name == (stream, end.boot, top)]
    return end.killed - max(moments[:1], default=end.ready)


def _missing_since(account: Account, end: End) -> list[str]:
    came = distinct(account.messages)
    told = gaps(account.messages)
    gone = [
        row
        for row in end.rows
        if row.stream in account.durability
        and (row.stream, row.boot, row.seq) not in came
        and not any(
            (gap.stream, gap.boot) == (row.stream, row.boot) and gap.to is not None and gap.covers(row.seq)
            for gap in told
        )
    ]
    return [f"{row} was on disk when {end.boot} was killed and never came" for row in gone]


def repeated(account: Account, window: int, *, cuts: int = 0) -> list[str]:
    """Repeats of each kill: at most a window, and what was acknowledged since the last commit; of each cut: a window (RULINGS 15).

    A dark boot repeats nothing, so what earlier kills may have repeated counts until it was.
    """
    allowed, found = window * cuts, []
    for end, then in itertools.pairwise([*account.ends, End("", had=len(account.messages))]):
        if end.killed is not None:
            since = end.killed - DELETED_WITHIN_S - end.slack_s
            allowed += window + sum(message.came >= since for message in account.messages[: end.had])
        if (said := repeats(account.messages[: then.had])) > allowed:
            found.append(f"{said} repeats after the kill of {end.boot}, more than {allowed}")
    return found


# ── sums ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def counted(account: Account) -> list[str]:
    """A counter's values say what became of each reading: between two neighbours lie exactly those that were elided."""
    found = []
    for before, message in _neighbours(account):
        step = message.data["value"] - before.data["value"]
        elided = (message.elided or {}).get("n", 0)
        if step != 1 + elided:
            found.append(f"{message.name} is {step} readings after its neighbour, and {elided} were elided")
    return found


def _neighbours(account: Account) -> Iterator[tuple[Message, Message]]:
    """Messages of a counter with the one that has the number before; not across a gap."""
    kept = distinct(account.messages)
    for message in kept.values():
        before = kept.get((message.stream, message.boot, message.seq - 1))
        if before is not None and message.stream in account.durability and _is_number(message) and _is_number(before):
            yield before, message


def _is_number(message: Message) -> bool:
    return isinstance(message.data, dict) and isinstance(message.data.get("value"), int)
