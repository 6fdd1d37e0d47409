"""A tower that is fed values by hand, that loses its link as it is told to, and that is killed and started again."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable
from typing import Any, Self

from chappe.core import effects as ef
from chappe.core import events as ev
from chappe.core.envelope import Lost
from chappe.core.stored import LaneEntry, lane_of
from chappe.core.units import Ns
from chappe.testing import Tower
from chappe.testing.shelf import Shelf
from chappe.testing.world import Published

NIGHTLY = bool(os.environ.get("NIGHTLY"))
FORBIDDEN, BUSY, TOO_LARGE, NO_SUBSCRIBER = 0x87, 0x97, 0x95, 0x10


class Rig(Tower):
    """A tower whose streams a test fills itself.

    Attributes:
        text: its configuration.
        sent: every message as it was handed to the link, with its bytes.
        wishes: what else the link was asked for: `Listen` and `Unlisten`, in order.
        fetches: every page that the store was asked for.
    """

    def __init__(self, config: str = "[streams.tick]\n", **more: Any) -> None:
        self.text = config
        self.more = more
        self.sent: list[ef.Publish] = []
        self.wishes: list[ef.Listen | ef.Unlisten] = []
        self.fetches: list[ef.Fetch] = []
        super().__init__(config, **more)

    def _carry_out(self, effects: Iterable[ef.Effect]) -> None:
        effects = list(effects)
        self.sent += [effect for effect in effects if isinstance(effect, ef.Publish)]
        self.wishes += [effect for effect in effects if isinstance(effect, ef.Listen | ef.Unlisten)]
        self.fetches += [effect for effect in effects if isinstance(effect, ef.Fetch)]
        super()._carry_out(effects)

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, stream: str, *values: Any, **data: Any) -> None:
        """Values enter a stream now, all of them in one step."""
        context = self.engine.context
        context.now = max(context.now, self.clock.now())
        for value in values:
            context.produce(stream, {"value": value, **data})
        self.feed(ev.Tick(at=self.clock.now()))

    def spread(self, n: int, hz: int, *streams: str, first: int = 0) -> None:
        """`n` values for each stream, `hz` a second; the last one is followed by its share of time."""
        start = self.now_s
        for count in range(n):
            self.until(start + count / hz)
            for stream in streams:
                self.put(stream, first + count)
        self.until(start + n / hz)

    def receipt(self, stream: str, seq: int, boot: str = "") -> None:
        """A consumer says that it has a message."""
        body = f'{{"boot":"{boot or self.boot}","seq":{seq},"kind":"delivered","by":"shop"}}'
        self.feed(ev.Arrived(at=self.clock.now(), topic=f"chappe/tower-1/receipt/{stream}", body=body.encode()))

    def cut(self) -> None:
        """The peer ends the connection."""
        self._up = False
        self._coming = [item for item in self._coming if not isinstance(item[2], ev.Acked)]
        self.feed(ev.LinkDown(at=self.clock.now(), status="lost", cut=True))

    def asked(self, verb: str, **body: Any) -> Any:
        """What is answered over the control socket: its data, or the code of its refusal."""
        self.ask(verb, body, via="socket", reply_to="test")
        self.advance(0.1)
        answer = self.replies["test"]
        return answer["data"] if answer["status"] == "ok" else answer["error"]["code"]

    # ── the end of a boot ────────────────────────────────────────────────────────────────────────────────────────────

    def next_boot(self, boot: str = "00000000000000b2", **more: Any) -> Self:
        """What starts on the same kernel, at the same moment, on what a kill at this moment leaves."""
        given: dict[str, Any] = {"store": self.store, "start": self.clock.now(), "wall": self.clock.wall()}
        return type(self)(self.text, **{**self.more, **given, "boot_id": boot, **more})

    def reboot(self, boot: str = "00000000000000b2", **more: Any) -> Self:
        """The same after the machine itself was restarted: another kernel, whose monotonic time begins anew."""
        store = self.shelf.crash(kernel=f"kernel of {boot}")
        return type(self)(self.text, **{"store": store, "boot_id": boot, "wall": self.clock.wall(), **more})

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def shelf(self) -> Shelf:
        assert isinstance(self.store, Shelf)
        return self.store

    def seqs(self, stream: str) -> list[int]:
        return [message.payload["seq"] for message in self.stream(stream)]

    def values(self, stream: str) -> list[Any]:
        return [message.data["value"] for message in self.stream(stream)]

    def losses(self, stream: str) -> list[tuple[int, dict[str, Any]]]:
        """(number of the message, what it discloses)."""
        return [(m.payload["seq"], m.payload["lost"]) for m in self.stream(stream) if "lost" in m.payload]

    def bytes_of(self, stream: str) -> list[bytes]:
        """The payloads of a stream as they were sent."""
        return [message.payload for message in self.sent if message.topic.endswith(f"/stream/{stream}")]

    def expiries(self, stream: str) -> list[int | None]:
        return [message.expiry_s for message in self.sent if message.topic.endswith(f"/stream/{stream}")]

    def faults(self, part: str) -> list[tuple[str, bool]]:
        """(code, healed) of what was told about a part."""
        return [
            (data["code"], data["healed"])
            for _, kind, data in self.announced
            if kind == "fault" and data["part"] == part
        ]

    def entry(self, stream: str) -> LaneEntry:
        """A stream's books as they are on disk."""
        return self.shelf.tables.lanes[stream]

    @property
    def written(self) -> list[int]:
        """Ids of rows in the order in which they were written."""
        return [row.id for commit in self.commits for row in commit.rows]

    def deleted(self, stream: str) -> list[int]:
        """Ids of a stream's rows in the order in which they were deleted."""
        no = self.engine.context.outbox.lanes[stream].no
        return [row_id for commit in self.commits for row_id in commit.gone if lane_of(row_id) == no]

    @property
    def in_memory(self) -> int:
        """How many rows are held in memory, wherever."""
        lanes = self.engine.context.outbox.lanes.values()
        held = {
            id(row)
            for lane in lanes
            for row in (*lane.queue.rows, *lane.queue.tail, *lane.flying.values(), *lane.pending)
        }
        return len(held)


def stream_of(message: Published) -> str:
    """The stream of a message, empty for what is none."""
    return message.topic.rpartition("/")[2] if "/stream/" in message.topic else ""


def contents(payloads: Iterable[bytes]) -> list[dict[str, Any]]:
    """What must be the same however often a message is sent; a kill may change `at`, `synced` and `late`."""
    fixed = ("boot", "seq", "data", "elided", "lost", "model")
    return [{name: value for name, value in json.loads(one).items() if name in fixed} for one in payloads]


def no_acks(message: Published) -> int | None:
    """A broker that says nothing about streams."""
    return None if stream_of(message) else 0


class Consumer:
    """Keeps the first copy of each (stream, boot, number), and what was disclosed as lost."""

    def __init__(self) -> None:
        self.got: dict[tuple[str, str, int], dict[str, Any]] = {}
        self.order: list[tuple[str, str, int]] = []
        self.lost: set[tuple[str, str, int]] = set()
        self.crashed: dict[tuple[str, str], int] = {}
        self.repeats = 0

    def take(self, stream: str, envelope: dict[str, Any]) -> None:
        key = (stream, envelope["boot"], envelope["seq"])
        content = {name: envelope.get(name) for name in ("data", "elided", "lost")}
        self.repeats += key in self.got
        if key not in self.got:
            self.order.append(key)
        assert self.got.setdefault(key, content) == content, f"{key} has two contents"
        lost = envelope.get("lost")
        if lost is not None and lost["reason"] == "crash":
            boot = lost["boot"]
            self.crashed[stream, boot] = min(self.crashed.get((stream, boot), lost["from"]), lost["from"])
        elif lost is not None:
            boot = lost.get("boot", envelope["boot"])
            self.lost |= {(stream, boot, seq) for seq in range(lost["from"], lost["to"] + 1)}

    def knows(self, stream: str, boot: str, seq: int) -> bool:
        key = (stream, boot, seq)
        return key in self.got or key in self.lost or seq >= self.crashed.get((stream, boot), seq + 1)


def gap(first: int, last: int, reason: str = "spilled", boot: str = "") -> Lost:
    """Numbers `first` to `last` were lost."""
    return Lost(first, reason, last, last - first + 1, boot=boot)


def dice(seed: int) -> random.Random:
    """Chance that is the same each time."""
    return random.Random(seed)


def ns(moment_s: float) -> Ns:
    return Ns(round(moment_s * 1_000_000_000))
