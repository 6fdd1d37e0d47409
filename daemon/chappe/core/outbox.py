"""The outbox: what may go to the broker, in which order, how much at a time, what is written to disk, and what gives way when it is full.

Pure: it is told of time, of the link, of acknowledgements and of what the store has done, and answers with messages to publish and with
wishes to the store. `lane` is one stream, `keeper` decides what is written when, `drain` whose turn it is, `sender` makes messages,
`returns` books what comes back, `shelves` pages in what lies on disk alone, `bounds` says what gives way, `counter` serves the owner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chappe.core.clock import WallClock
from chappe.core.counter import Counter
from chappe.core.drain import Pace
from chappe.core.echo import Echo
from chappe.core.effects import Commit, Effect, Listen, Publish
from chappe.core.events import Fetched
from chappe.core.ladder import Ladder
from chappe.core.lane import Lane
from chappe.core.returns import Refusal, Returns
from chappe.core.sender import Sender
from chappe.core.settings import Outbox as Limits
from chappe.core.shelves import SWEEP, Shelves
from chappe.core.stock import Stock
from chappe.core.stored import Backlog
from chappe.core.streams import Spec
from chappe.core.topics import Topics
from chappe.core.units import Ns

NO_TIME = Ns(0)


class Outbox:
    """All streams' way out.

    Args:
        boot: this start of the daemon.
        topics: where streams are published.
        specs: every stream by name.
        limits: bounds.
        clock: this boot's clock.
        token: draws a number that no other message of this boot has.
        drain_rate: messages of a backlog per second, None for no limit.
        verify: whether a stream is believed only after one of its messages came back, see `chappe.core.echo`.
        backlog: what earlier boots left in the store.
        ladder: takes note of what becomes of each message.
        now: when the boot began.

    Attributes:
        counter: the owner's desk.
        returns: what comes back for a message in flight.
        shelves: what lies on disk alone.
    """

    def __init__(
        self,
        boot: str,
        topics: Topics,
        specs: Mapping[str, Spec],
        limits: Limits,
        clock: WallClock,
        token: Callable[[], int],
        *,
        drain_rate: int | None = None,
        verify: bool = False,
        backlog: Backlog | None = None,
        ladder: Ladder | None = None,
        now: Ns = NO_TIME,
    ) -> None:
        self.stock = stock = Stock(boot, specs, limits, clock, backlog or Backlog(), ladder or Ladder(clock.wall), now)
        names = {name: topics.stream(name) for name in stock.lanes}
        echo = Echo(wanted=verify)
        self.sender = Sender(stock, names, token, Pace(drain_rate), echo)
        self.returns = Returns(stock, self.sender, names, echo)
        self.shelves = Shelves(stock)
        self.counter = Counter(stock)
        self.shelves.page_in()

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def produce(self, stream: str, data: Mapping[str, Any], now: Ns, *, key: str = "", model: str = "") -> None:
        """Take in one value of a stream; whatever the link or the disk do, this never fails."""
        lane = self.stock.lanes[stream]
        lane.produce(data, now, key=key, model=model, late=not self.stock.online)
        self._entered(lane, now)
        if lane.elider is not None:
            self.stock.wake_by(lane.elider.due())

    def _entered(self, lane: Lane, now: Ns) -> None:
        stock = self.stock
        if lane.spec.class_ == "transient" and (lane.rationed or not stock.online):
            stock.drop_all(lane, "offline", now)
        elif stock.bounds.over:
            stock.spill(now)
        stock.keeper.entered(lane, now, online=stock.online)
        if stock.wake is None:
            stock.wake_by(now + lane.spec.expiry)
        stock.worth_a_look = True

    # ── the link ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def link_up(self, now: Ns) -> None:
        """Connected: everything that was in flight is offered again, and a stream that was held is tried again."""
        self.stock.online = True
        self.stock.since = now
        self.sender.restart(now)
        for lane in self.stock.order:
            lane.try_again()
        self.stock.worth_a_look = True

    def link_down(self, now: Ns, *, cut: bool = False) -> None:
        """Not connected any more: nothing is in flight, and what is only worth having now is given up.

        Args:
            now: when.
            cut: whether the peer ended the connection.
        """
        self.stock.online = False
        self.stock.worth_a_look = True
        self.returns.link_down(now, cut=cut)
        self.stock.keeper.all_at_once(now)

    def take(self, now: Ns, credit: int) -> list[Publish | Listen]:
        """At most `credit` messages for the socket."""
        out = self.sender.take(now, credit)
        if self.shelves.used:
            self.shelves.page_in()
        return out

    # ── the store ────────────────────────────────────────────────────────────────────────────────────────────────────

    def wishes(self, now: Ns) -> list[Effect]:
        """What the store is to do, and what the link is to listen to."""
        stock = self.stock
        due = stock.keeper.next_due
        commit = stock.keeper.commit(now, online=stock.online) if due is not None and due <= now else None
        if commit is not None:
            self.sender.keep_written()
            stock.wishes.append(commit)
        chronicle = self.sender.chronicle()
        if chronicle is not None:
            stock.wishes.append(chronicle)
        if not stock.wishes:
            return stock.wishes
        wishes, stock.wishes = stock.wishes, []
        return wishes

    def last_commit(self, now: Ns) -> Commit:
        """The commit of a clean stop. What cannot outlive the process is given up first."""
        stock = self.stock
        self.returns.link_down(now, cut=False)
        stock.drop_loose(now)
        self.shelves.expect()
        # What is under way is written once more: the store obeys in order, and the same rows under the same ids change nothing.
        stock.keeper.failed("", now, online=False)
        commit = stock.keeper.commit(now, online=False, last=True)
        assert commit is not None
        return commit

    def committed(self, now: Ns) -> None:
        """The commit under way is on the disk."""
        self.stock.keeper.committed(now, online=self.stock.online)
        self.shelves.page_in()
        self.stock.worth_a_look = True

    def commit_failed(self, code: str, now: Ns) -> None:
        """The commit under way is not on the disk."""
        self.stock.keeper.failed(code, now, online=self.stock.online)
        self.stock.worth_a_look = True

    def fetched(self, event: Fetched, now: Ns) -> None:
        """Rows that lay on disk alone have come."""
        if event.purpose == SWEEP:
            self.counter.swept(event, now)
            self.shelves.page_in()
        else:
            self.shelves.fetched(event, now)

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def due(self) -> Ns | None:
        """When time alone changes something; asked for too early at worst."""
        wake, write = self.stock.wake, self.stock.keeper.next_due
        if wake is None or (write is not None and write < wake):
            return write
        return wake

    def expire(self, now: Ns) -> list[Refusal]:
        """Let time act. Returns what counts as refused because it did not come back."""
        stock = self.stock
        if stock.wake is None or stock.wake > now:
            return []
        stock.wake = None
        stock.worth_a_look = True
        for lane in stock.order:
            if lane.elider is not None and (due := lane.elider.due()) is not None and due <= now:
                lane.settle(lane.elider.expire(now), now, late=not stock.online)
                self._entered(lane, now)
            stock.expire(lane, now)
            stock.wake_by(_due(lane))
        pace = self.sender.due
        stock.wake_by(pace if pace is not None and pace > now else None)
        if self.shelves.used:
            self.shelves.page_in()
        return self.returns.expire(now)

    def flush(self, now: Ns) -> None:
        """A clean stop: elision gives out what it holds."""
        for lane in self.stock.order:
            if lane.elider is not None:
                lane.settle(lane.elider.flush(now), now, late=not self.stock.online)
                self._entered(lane, now)

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """Every stream."""
        return self.stock.lanes

    @property
    def ladder(self) -> Ladder:
        """How far each message has come."""
        return self.stock.ladder

    @property
    def empty(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not self.stock.totals.rows


def _due(lane: Lane) -> Ns | None:
    """When time alone changes something in a lane: elision, the expiry of the oldest row, the end of a pause."""
    moments = [lane.blocked_until]
    if lane.elider is not None:
        moments.append(lane.elider.due())
    rows = lane.queue.rows
    if rows and rows[0].payload is None:
        moments.append(Ns(rows[0].accepted + lane.spec.expiry))
    return min((moment for moment in moments if moment is not None), default=None)
