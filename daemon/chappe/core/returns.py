"""What comes back for a message in flight: PUBACKs, refusals, a connection that ends, the message itself, a consumer's word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from chappe.core.echo import Echo
from chappe.core.effects import Unlisten
from chappe.core.events import Ack
from chappe.core.lane import Lane
from chappe.core.sender import Sender
from chappe.core.stock import Stock
from chappe.core.units import SECOND, Ns
from chappe.core.verdicts import FAILURE, NOT_AUTHORIZED, judge, pause

POISONS = 2
"""Messages of one stream in a row that are given up as poison; with the next the stream is held."""

CONFIRM_WITHIN = 60 * SECOND
"""How long a consumer has to confirm a message before it is sent again."""


class Refusal(msgspec.Struct, frozen=True):
    """The broker refuses messages of `stream`, or takes them again."""

    stream: str
    code: str
    healed: bool = False


class Returns:
    """Books what becomes of messages in flight.

    Args:
        stock: the outbox's state.
        sender: knows which message was sent alone.
        names: topic of each stream.
        echo: proof by echo.
    """

    def __init__(self, stock: Stock, sender: Sender, names: Mapping[str, str], echo: Echo) -> None:
        self._stock = stock
        self._sender = sender
        self._names = names
        self._streams = {topic: stream for stream, topic in names.items()}
        self._echo = echo
        self._told: list[Refusal] = []
        self._refused: set[str] = set()

    def acked(self, items: Iterable[Ack], now: Ns) -> list[Refusal]:
        """Book PUBACKs.

        Returns:
            What is refused, and what is taken again.
        """
        stock, freed = self._stock, 0
        stock.worth_a_look = True
        for item in items:
            lane = stock.tokens.pop(item.token, None)
            if lane is None:
                continue
            if item.code < FAILURE and self._echo.token(lane.spec.name) == item.token:
                stock.tokens[item.token] = lane  # only its return counts
            else:
                freed += self._judge(lane, item, now) if item.code else self._delivered(lane, item.token, now)
        if freed:
            stock.keeper.freed(freed, now)
        told, self._told = self._told, []
        return told

    def _delivered(self, lane: Lane, token: int, now: Ns, *, heard: bool = True) -> bool:
        """Returns whether a written row is done with."""
        if lane.troubled:
            lane.troubled = False
            self._told.append(Refusal(lane.spec.name, "", healed=True))
        row = lane.flying[token]
        row.flights = 0
        if lane.spec.class_ != "transient":
            self._stock.ladder.sent(lane.spec.name, self._stock.boot_of(row), row.seq, now, not heard)
        gone = lane.delivered(token, now)
        if gone is None:
            self._stock.wake_by(now + CONFIRM_WITHIN)
        return gone is not None and gone.stored

    def _judge(self, lane: Lane, item: Ack, now: Ns) -> bool:
        row = lane.flying[item.token]
        verdict, reason = judge(item.code, row.attempts + 1)
        if verdict == "done":
            return self._delivered(lane, item.token, now, heard=reason != "no_subscriber")
        self._echo.forget(lane.spec.name)
        self._refused.add(lane.spec.name)
        row.attempts += 1
        if verdict == "dead":
            del lane.flying[item.token]
            self._stock.bury(lane, row, reason, now)
        else:
            lane.take_back(item.token)
            lane.refusals += 1
            lane.held = verdict == "held"
            lane.blocked_until = Ns(now + pause(verdict, lane.refusals))
            self._stock.wake_by(lane.blocked_until)
        self._tell(lane, "stream_held" if verdict == "held" else reason)
        return False

    def _tell(self, lane: Lane, code: str) -> None:
        lane.troubled = True
        self._told.append(Refusal(lane.spec.name, code))

    def link_down(self, now: Ns, *, cut: bool) -> None:
        """Nothing is in flight any more.

        Args:
            now: when.
            cut: whether the peer ended the connection, as it would over a message that it cannot bear.
        """
        stock = self._stock
        if cut:
            self._blame(now)
        self._refused.clear()
        stock.tokens.clear()
        for lane in stock.order:
            lane.take_all_back()
            # A broker that dies takes what nobody has confirmed with it; in front of everything newer it comes again in order.
            lane.resend(now)
            if lane.spec.class_ == "transient":
                stock.drop_all(lane, "offline", now)

    def _blame(self, now: Ns) -> None:
        """The peer has ended the connection. Some brokers do that after each refusal; else anything that was in flight may be why."""
        if not self._refused:
            self._suspect(now)
        for stream in self._refused:
            lane = self._stock.lanes[stream]
            lane.shunned = lane.held

    def _suspect(self, now: Ns) -> None:
        for lane in self._stock.order:
            for row in lane.flying.values():
                row.flights += 1
        alone = self._sender.alone
        lane_alone = self._stock.tokens.get(alone) if alone is not None else None
        if alone is None or lane_alone is None:
            return
        self._convict(lane_alone, alone, now)
        # The culprit is found: the others only flew with it.
        for lane in self._stock.order:
            for row in (*lane.queue.rows, *lane.flying.values()):
                row.flights = 0

    def _convict(self, lane: Lane, alone: int, now: Ns) -> None:
        """One message is poison; the third in a row of one stream means that the broker bears none of them, and says so in its own way."""
        lane.poisons += 1
        if lane.poisons <= POISONS:
            self._stock.bury(lane, lane.flying.pop(alone), "poison", now)
            self._tell(lane, "poison")
            return
        lane.take_back(alone)
        lane.held = lane.shunned = True
        lane.blocked_until = Ns(now + pause("held", 1))
        self._stock.wake_by(lane.blocked_until)
        self._tell(lane, "stream_held")

    def echoed(self, topic: str, payload: bytes, now: Ns) -> None:
        """A message of our own has come back to us."""
        token = self._echo.returned(self._streams.get(topic, ""), payload)
        lane = self._stock.tokens.pop(token, None) if token is not None else None
        if lane is not None and token is not None:
            self._stock.worth_a_look = True
            self._stock.wishes.append(Unlisten(filter=topic))
            self._stock.keeper.freed(self._delivered(lane, token, now), now)

    def confirm(self, stream: str, boot: str, seq: int, now: Ns) -> None:
        """A consumer has this message."""
        lane = self._stock.lanes.get(stream)
        row = lane.confirmed(self._stock.own(boot), seq) if lane is not None else None
        if row is not None:
            self._stock.worth_a_look = True
            self._stock.keeper.freed(row.stored, now)

    def expire(self, now: Ns) -> list[Refusal]:
        """What has not come back in time counts as forbidden; what nobody has confirmed is sent again."""
        for stream, token in self._echo.overdue(now):
            lane = self._stock.tokens.pop(token, None)
            if lane is not None:
                self._stock.wishes.append(Unlisten(filter=self._names[stream]))
                self._judge(lane, Ack(token, NOT_AUTHORIZED), now)
        self._stock.wake_by(self._echo.due())
        for lane in self._stock.order:
            if lane.confirming:
                lane.resend(Ns(now - CONFIRM_WITHIN))
                self._stock.wake_by(min((since for _, since in lane.confirming.values()), default=now) + CONFIRM_WITHIN)
        told, self._told = self._told, []
        return told
