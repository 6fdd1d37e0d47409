"""What the parts of the outbox share: the streams, what is in flight, the dead letters, and what the store is to do next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from chappe.core.books import Book
from chappe.core.boots import Boots
from chappe.core.bounds import Bounds
from chappe.core.clock import WallClock
from chappe.core.effects import Effect
from chappe.core.envelope import Lost
from chappe.core.keeper import Keeper
from chappe.core.ladder import End, Ladder
from chappe.core.lane import Lane
from chappe.core.queue import Totals
from chappe.core.row import Row
from chappe.core.settings import Outbox as Limits
from chappe.core.settings import StreamClass
from chappe.core.stored import Backlog, DeadRow, LaneEntry
from chappe.core.streams import Spec, effective
from chappe.core.units import Ns

ENDS: Mapping[str, End] = {"expired": "expired", "recalled": "recalled"}
"""States of the delivery ladder for the reasons of a gap; all others are `spilled`."""


class Stock:
    """The state of the outbox.

    Args:
        boot: this start of the daemon.
        specs: every stream by name.
        limits: bounds.
        clock: this boot's clock.
        backlog: what earlier boots left in the store.
        ladder: takes note of what becomes of each message.
        now: when the boot began.

    Attributes:
        lanes: every stream by name, configured or with something in the store; `order` by priority.
        tokens: whose message is in flight under which number.
        dead: every dead letter by id.
        exhuming: dead letters that the store has been asked to make rows again.
        wishes: what the store, or the link, is to do.
        wake: when time alone changes something; asked for too early at worst.
        online: whether the link is up.
        since: since when.
        worth_a_look: whether anything happened since nothing more could be sent.
    """

    def __init__(
        self,
        boot: str,
        specs: Mapping[str, Spec],
        limits: Limits,
        clock: WallClock,
        backlog: Backlog,
        ladder: Ladder,
        now: Ns,
    ) -> None:
        self.boot = boot
        self.limits = limits
        self.totals = Totals()
        self.boots = Boots(backlog.boots, backlog.kernel, clock)
        self.lanes = _lanes(specs, backlog, self.totals)
        self.order = sorted(self.lanes.values(), key=lambda lane: -lane.spec.priority)
        self.ladder = ladder
        self.keeper = Keeper(boot, self.lanes, clock, self.boots, ladder.changed, now)
        self.bounds = Bounds(limits, self.totals, self.order)
        self.tokens: dict[int, Lane] = {}
        self.dead: dict[int, DeadRow] = {row.id: row for row in backlog.dead}
        self.exhuming: tuple[int, ...] = ()
        self.wishes: list[Effect] = []
        self.wake: Ns | None = None
        self.online = False
        self.since = now
        self.worth_a_look = False
        for row in backlog.dead:
            self.lanes[row.stream].dead += 1

    def wake_by(self, moment: int | None) -> None:
        """Time will change something at `moment`."""
        if moment is not None and (self.wake is None or moment < self.wake):
            self.wake = Ns(moment)

    @property
    def flying(self) -> int:
        """How many messages are in flight."""
        return len(self.tokens)

    def boot_of(self, row: Row) -> str:
        """The boot that numbered a row."""
        return row.boot or self.boot

    def own(self, boot: str) -> str:
        """A boot as rows and gaps name it: empty for this one."""
        return "" if boot == self.boot else boot

    def ration(self, stretch: int, allows: Callable[[StreamClass, int], bool]) -> None:
        """The bytes of this month run out: let elision wait longer, and hold back what they are not for.

        Args:
            stretch: what the intervals of `latest` streams are multiplied by.
            allows: whether streams of a class and priority may send.
        """
        for lane in self.order:
            lane.rationed = not allows(lane.spec.class_, lane.spec.priority)
            if lane.elider is not None and lane.spec.class_ == "latest":
                lane.elider.stretch(stretch)
        self.worth_a_look = True

    def overload(self, stream: str, n: int) -> None:
        """`n` values of `stream` were turned away at the inbox: they count, take numbers, and are disclosed."""
        lane = self.lanes.get(stream)
        if lane is not None:
            lane.overload(n)

    # ── giving up ────────────────────────────────────────────────────────────────────────────────────────────────────

    def drop(self, lane: Lane, row: Row, reason: str, now: Ns) -> None:
        """Give up a waiting row."""
        stored = row.stored
        lane.drop(row, reason)
        if lane.spec.class_ != "transient":
            self.ladder.ended(lane.spec.name, self.boot_of(row), row.seq, ENDS.get(reason, "spilled"), now)
        self.keeper.freed(stored, now)

    def drop_all(self, lane: Lane, reason: str, now: Ns) -> None:
        """Give up every waiting row of a stream that is in memory."""
        while lane.queue.rows:
            self.drop(lane, lane.queue.rows[0], reason, now)

    def drop_loose(self, now: Ns) -> None:
        """Give up what cannot outlive the process."""
        for lane in self.order:
            if not lane.durable:
                self.drop_all(lane, "spilled", now)

    def spill(self, now: Ns) -> None:
        """Make room where bounds are passed."""
        while (victim := self.bounds.victim()) is not None:
            self.drop(*victim, "spilled", now)

    def expire(self, lane: Lane, now: Ns) -> None:
        """Time acts on a lane: rows that are too old go, and a pause ends."""
        rows = lane.queue.rows
        while rows and rows[0].payload is None and now >= rows[0].accepted + lane.spec.expiry:
            self.drop(lane, rows[0], "expired", now)
        if lane.blocked_until is not None and lane.blocked_until <= now:
            lane.blocked_until = None

    def bury(self, lane: Lane, row: Row, reason: str, now: Ns) -> None:
        """A row that is in flight no more, and can never be delivered, becomes a dead letter."""
        lane.bury(row, reason)
        boot = self.boot_of(row)
        self.ladder.ended(lane.spec.name, boot, row.seq, "rejected", now)
        since = self.boots.wall("", now)
        self.dead[row.id] = DeadRow(
            row.id, lane.spec.name, boot, row.seq, row.key, row.attempts, len(row.body), since, reason
        )
        self.keeper.wants(now)
        while len(self.dead) > self.limits.dead:
            self.forget_dead([next(iter(self.dead))], "spilled", now)

    def forget_dead(self, ids: Iterable[int], reason: str, now: Ns) -> int:
        """Give dead letters up: counted and disclosed. Returns how many."""
        gone = [self.dead.pop(row_id) for row_id in list(ids) if row_id in self.dead]
        for row in gone:
            lane = self.lanes[row.stream]
            lane.dead -= 1
            lane.discount(1, reason)
            lane.gaps.add(Lost(from_=row.seq, to=row.seq, n=1, reason=reason, boot=self.own(row.boot)))
        self.keeper.forget([row.id for row in gone], now)
        return len(gone)


def _lanes(specs: Mapping[str, Spec], backlog: Backlog, totals: Totals) -> dict[str, Lane]:
    """A lane for each stream that is configured, and for each of which something waits."""
    lanes: dict[str, Lane] = {}
    highest = max((found.entry.no for found in backlog.lanes.values()), default=0)
    for name in dict.fromkeys([*specs, *backlog.lanes]):
        spec = specs.get(name) or effective(name)
        found = backlog.lanes.get(name)
        if found is None:
            highest += 1
        entry = found.entry if found else LaneEntry(no=highest, next=1, rows=0, bytes=0, book=Book(), boot="", seq=0)
        lane = lanes[name] = Lane(spec, totals, entry, _gaps(spec, entry, backlog))
        if found is not None and found.first:
            lane.queue.found(entry.rows, entry.bytes, found.first, found.last)
    return lanes


def _gaps(spec: Spec, entry: LaneEntry, backlog: Backlog) -> list[Lost]:
    """What the first messages of a stream have to disclose: after an unclean end that something may be missing at its end."""
    gaps = list(entry.gaps)
    if spec.name in backlog.corrupt:
        gaps.append(backlog.corrupt[spec.name])
    previous = backlog.boots[-1] if backlog.boots else None
    if previous is not None and not previous.clean and spec.durability != "first":
        known = entry.seq if entry.boot == previous.boot else 0
        gaps.insert(0, Lost(from_=known + 1, reason="crash", boot=previous.boot))
    return gaps
