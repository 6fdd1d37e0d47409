"""A device by brute force: what it produced, what it disclosed, what the broker made of it, and what it still has when asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import strategies as st

DEVICE, STREAM = "tower-1", "tick"

# What becomes of a number on its way to the consumer.
FATES = ("comes", "comes", "comes", "twice", "late", "dropped", "dropped and forgotten", "spilled", "expired")
LOST = {"spilled", "expired"}
COMES = {"comes", "twice", "late"}
ENDS = ("stopped", "crash", "silent")


def boot_name(number: int) -> str:
    return f"{number:016x}"


@dataclass(frozen=True)
class Story:
    """One boot.

    Attributes:
        fates: of number 1, 2, …
        end: how it ends.
        books: with a crash: how many of the last numbers were not in the books.
    """

    fates: tuple[str, ...]
    end: str
    books: int


stories = st.lists(
    st.builds(
        Story,
        fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=14).map(tuple),
        end=st.sampled_from(ENDS),
        books=st.integers(min_value=0, max_value=3),
    ),
    min_size=1,
    max_size=4,
)


@dataclass
class Feed:
    """Everything that happened on the device's side.

    Attributes:
        wire: what reaches the consumer, in order: ("message", payload) or ("state", payload).
        has: payload of each number that the device can still give out.
        fate: of each (boot, number).
        lost_from: with a crash: the number from which everything that has not come is called lost.
    """

    wire: list[tuple[str, bytes]] = field(default_factory=list)
    has: dict[tuple[str, int], bytes] = field(default_factory=dict)
    fate: dict[tuple[str, int], str] = field(default_factory=dict)
    lost_from: dict[str, int] = field(default_factory=dict)
    _gaps: list[dict[str, Any]] = field(default_factory=list)
    _late: list[tuple[str, bytes]] = field(default_factory=list)

    @classmethod
    def of(cls, told: list[Story]) -> Feed:
        feed = cls()
        for number, story in enumerate(told):
            feed._boot(boot_name(number), story)
        return feed

    def _boot(self, boot: str, story: Story) -> None:
        for seq, fate in enumerate(story.fates, 1):
            self.fate[boot, seq] = fate
            if fate in LOST:
                self._lose(boot, seq, fate)
            else:
                self._send(boot, seq, fate)
        self.wire += self._late
        self._late.clear()
        last = len(story.fates)
        if story.end == "stopped":
            self.wire.append(("state", _json({"status": "stopped", "boot": boot, "last": {STREAM: last}})))
        elif story.end == "crash":
            self.lost_from[boot] = max(1, last + 1 - story.books)
            self._gaps.append({"boot": boot, "from": self.lost_from[boot], "reason": "crash"})

    def _lose(self, boot: str, seq: int, reason: str) -> None:
        """As the device does it: gaps of one boot that no message has told of yet are told as one, with bounds."""
        last = self._gaps[-1] if self._gaps else None
        if last is None or last["boot"] != boot or "to" not in last:
            self._gaps.append({"boot": boot, "from": seq, "to": seq, "n": 1, "reason": reason})
        else:
            same = last["reason"] == reason
            last.update({"to": seq, "n": last["n"] + 1, "reason": reason if same else "mixed"})

    def _send(self, boot: str, seq: int, fate: str) -> None:
        envelope: dict[str, Any] = {"boot": boot, "seq": seq, "data": {"value": seq}}
        if self._gaps:
            lost = self._gaps.pop(0)
            envelope["lost"] = {key: value for key, value in lost.items() if key != "boot" or value != boot}
        payload = _json(envelope)
        if fate != "dropped and forgotten":
            self.has[boot, seq] = payload
        if fate == "late":
            self._late.append(("message", payload))
            return
        if fate in COMES:
            self.wire += [("message", payload)] * (2 if fate == "twice" else 1)
        if fate in COMES and len(self._late) > 1:
            self.wire.append(self._late.pop(0))

    # ── the answer to req/history ────────────────────────────────────────────────────────────────────────────────────

    def answer(
        self, boot: str, first: int, last: int | None, n: int = 50, *, tells_gone: bool = True
    ) -> dict[str, Any]:
        """The data of an answer, page by page as the daemon gives it out."""
        highest = max((seq for whose, seq in self.fate if whose == boot), default=0)
        end = highest if last is None else min(last, highest)
        found = [seq for seq in range(first, end + 1) if (boot, seq) in self.has]
        page, more = found[:n], len(found) > n
        seen = page[-1] if more else end
        missing = [seq for seq in range(first, seen + 1) if seq not in page]
        lost = [{"from": seq, "to": seq, "n": 1, "reason": "gone"} for seq in missing]
        return {
            "messages": [msgspec.Raw(self.has[boot, seq]) for seq in page],
            "more": more,
            "lost": lost if tells_gone and last is not None else [],
        }

    # ── what must come of it ─────────────────────────────────────────────────────────────────────────────────────────

    def came(self) -> set[tuple[str, int]]:
        """Messages that reached the consumer by themselves."""
        return {name for name, fate in self.fate.items() if fate in COMES}

    def recoverable(self) -> Iterator[tuple[str, int]]:
        """Messages that did not, that the device has, and that it has not called lost by a crash."""
        for (boot, seq), fate in self.fate.items():
            if fate == "dropped" and seq < self.lost_from.get(boot, seq + 1):
                yield boot, seq


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)
