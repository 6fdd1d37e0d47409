"""The outbox: what may go to the broker, in which order, how much at a time, and what gives way when it is full.

Pure: it is told of time, of the link and of acknowledgements, and answers with messages to publish. In this form every row lives in
memory; the store that makes rows durable is a consequence of the same decisions, not another path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

import msgspec

from chappe.core.bounds import Bounds
from chappe.core.effects import Publish
from chappe.core.envelope import Envelope, to_json
from chappe.core.events import Ack
from chappe.core.lane import Lane, Row, Totals
from chappe.core.settings import Outbox as Limits
from chappe.core.streams import Spec
from chappe.core.topics import Topics
from chappe.core.units import SECOND, Ns
from chappe.core.verdicts import judge, pause

# Envelope, topic and MQTT header of a message, about; only bounds the outbox.
OVERHEAD = 120


class Stamp(msgspec.Struct, frozen=True):
    """How a moment is written into an envelope."""

    at: str
    synced: bool


class Depth(msgspec.Struct, frozen=True):
    """What waits: messages, bytes, age of the oldest in seconds, dead letters."""

    depth: int
    bytes: int
    oldest_s: float
    dead: int


class Outbox:
    """All streams' way out.

    Args:
        boot: this start of the daemon.
        topics: where streams are published.
        specs: every stream by name.
        limits: bounds.
        stamp: writes a monotonic moment as wall time.
        token: draws a number that no other message of this boot has.

    Attributes:
        online: whether the link is up.
        worth_a_look: whether anything happened since `take` last found nothing more to send.
    """

    def __init__(
        self,
        boot: str,
        topics: Topics,
        specs: Mapping[str, Spec],
        limits: Limits,
        stamp: Callable[[Ns], Stamp],
        token: Callable[[], int],
    ) -> None:
        self._totals = Totals()
        self.lanes = {name: Lane(spec, _size, self._totals) for name, spec in specs.items()}
        self.online = False
        self._boot = boot
        self._topics = topics
        self._stamp = stamp
        self._token = token
        self._tokens: dict[int, Lane] = {}
        self._order = sorted(self.lanes.values(), key=lambda lane: -lane.spec.priority)
        self._bounds = Bounds(limits, self._totals, self._order)
        # Most events touch no stream: what has not been touched is not looked through again.
        self._due: Ns | None = None
        self._due_known = True
        self.worth_a_look = False

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def produce(self, stream: str, data: Mapping[str, Any], now: Ns, *, key: str = "", model: str = "") -> None:
        """Take in one value of a stream; whatever the link does, this never fails."""
        self._due_known = False
        lane = self.lanes[stream]
        lane.produce(data, now, key=key, model=model, offline=not self.online)
        self._bounds.hold(lane, online=self.online)
        if lane.rows:
            self.worth_a_look = True

    def overload(self, stream: str, n: int) -> None:
        """`n` values of `stream` were turned away at the inbox: they count, take numbers, and are disclosed."""
        lane = self.lanes.get(stream)
        if lane is not None:
            lane.overload(n)

    def _touch(self) -> None:
        self._due_known = False
        self.worth_a_look = True

    # ── the link ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def link_up(self) -> None:
        """Connected: everything that was in flight is offered again."""
        self.online = True
        self._touch()

    def link_down(self) -> None:
        """Not connected any more: nothing is in flight, and what is only worth having now is given up."""
        self.online = False
        self._touch()
        self._tokens.clear()
        for lane in self._order:
            lane.take_all_back()
            while lane.spec.class_ == "transient" and lane.rows:
                lane.drop(0, "offline")

    def acked(self, items: Iterable[Ack], now: Ns) -> list[tuple[str, str]]:
        """Book PUBACKs.

        Returns:
            (stream, reason) of every refusal, for faults.
        """
        refused: list[tuple[str, str]] = []
        self._touch()
        for item in items:
            lane = self._tokens.pop(item.token, None)
            if lane is not None:
                reason = self._judge(lane, item, now)
                if reason:
                    refused.append((lane.spec.name, reason))
        return refused

    def _judge(self, lane: Lane, item: Ack, now: Ns) -> str:
        row = lane.flying[item.token]
        verdict, reason = judge(item.code, row.attempts + 1)
        if verdict == "done":
            lane.delivered(item.token)
            return ""
        row.attempts += 1
        if verdict == "dead":
            lane.bury(item.token, reason)
            return reason
        lane.take_back(item.token)
        lane.refusals += 1
        lane.blocked_until = Ns(now + pause(verdict, lane.refusals))
        return reason

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, now: Ns, credit: int) -> list[Publish]:
        """At most `credit` messages for the socket: by priority, then oldest first; in a stream by number."""
        out: list[Publish] = []
        while self.online and self.worth_a_look and len(out) < credit:
            lane = _foremost(self._order, now)
            if lane is None:
                self.worth_a_look = False
            else:
                out.append(self._hand_over(lane, now))
        return out

    def _hand_over(self, lane: Lane, now: Ns) -> Publish:
        token = self._token()
        self._due_known = False
        row = lane.hand_over(token)
        self._tokens[token] = lane
        if row.payload is None:
            lane.book.late += row.offline
            row.payload = _render(self._boot, row, self._stamp(row.at))
        left = max(1, -(-(row.accepted + lane.spec.expiry - now) // SECOND))
        return Publish(
            token=token,
            topic=self._topics.stream(lane.spec.name),
            payload=row.payload,
            qos=0 if lane.spec.class_ == "transient" else 1,
            expiry_s=left,
        )

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def due(self) -> Ns | None:
        """When time alone changes something: elision, expiry, or a stream that may be tried again."""
        if not self._due_known:
            self._due_known = True
            self._due = min((moment for lane in self._order if (moment := lane.due()) is not None), default=None)
        return self._due

    def expire(self, now: Ns) -> None:
        """Let time act."""
        due = self.due()
        if due is None or due > now:
            return
        self._touch()
        for lane in self._order:
            if lane.elider is not None and (due := lane.elider.due()) is not None and due <= now:
                lane.settle(lane.elider.expire(now), now, offline=not self.online)
                self._bounds.hold(lane, online=self.online)
            lane.expired(now)
            if lane.blocked_until is not None and lane.blocked_until <= now:
                lane.blocked_until = None

    def flush(self, now: Ns) -> None:
        """A clean stop: elision gives out what it holds."""
        self._touch()
        for lane in self._order:
            if lane.elider is not None:
                lane.settle(lane.elider.flush(now), now, offline=not self.online)

    def abandon(self) -> int:
        """The process ends, and with it every row: each counts as spilled. Returns how many there were."""
        count = self._totals.rows
        self.link_down()
        for lane in self._order:
            while lane.rows:
                lane.drop(0, "spilled")
        return count

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def flying(self) -> int:
        """How many messages are in flight."""
        return len(self._tokens)

    @property
    def empty(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not self._totals.rows

    def depth(self, now: Ns) -> Depth:
        """What waits."""
        waiting = (lane.rows[0] for lane in self._order if lane.rows)
        flying = (row for lane in self._order for row in lane.flying.values())
        oldest = min((row.accepted for row in chain(waiting, flying)), default=now)
        dead = sum(len(lane.dead) for lane in self._order)
        return Depth(self._totals.rows, self._totals.bytes, (now - oldest) / SECOND, dead)


def _foremost(lanes: Iterable[Lane], now: Ns) -> Lane | None:
    """Whose head leaves next, of lanes in order of priority: the highest priority, then the oldest row."""
    best: Lane | None = None
    oldest = 0
    for lane in lanes:
        if best is not None and lane.spec.priority < best.spec.priority:
            break
        row = lane.head(now)
        if row is not None and (best is None or row.accepted < oldest):
            best, oldest = lane, row.accepted
    return best


def _render(boot: str, row: Row, stamp: Stamp) -> bytes:
    """A row's message, made once and repeated byte for byte."""
    return to_json(
        Envelope(
            boot=boot,
            seq=row.seq,
            at=stamp.at,
            synced=stamp.synced,
            data=row.data,
            elided=row.elided,
            late=row.offline,
            lost=row.lost,
            model=row.model,
        )
    )


def _size(data: Mapping[str, Any]) -> int:
    return len(to_json(data)) + OVERHEAD
