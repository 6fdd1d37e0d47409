"""The outbox against a broker that loses connections, a disk that is slow and full, and kills: nothing accepted is lost undisclosed.

The disk is a model of ten lines: commits are applied whole or not at all, in order. A kill applies some of what was asked for and answers
nothing. After every run all of it is drained, and the consumer's books are compared with what was accepted.
"""

from __future__ import annotations

import json
from collections import deque
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chappe.core import queue, shelves
from chappe.core.clock import WallClock
from chappe.core.effects import Commit, Effect, Exhume, Fetch, Publish
from chappe.core.elision import Elide
from chappe.core.events import Ack, Exhumed, Fetched
from chappe.core.outbox import Outbox
from chappe.core.settings import Outbox as Limits
from chappe.core.settings import Stream
from chappe.core.stored import Backlog, BootFound, Burial, DeadRow, LaneEntry, LaneFound, StoredRow, lane_of
from chappe.core.streams import effective
from chappe.core.topics import Topics
from chappe.core.units import Ns, Span, WallNs

SPECS = {
    "alarm": Stream(durability="first", priority=9),
    "tick": Stream(),
    "tock": Stream(priority=4, expiry=Span(60 * 10**9)),
    "scrap": Stream(durability="memory"),
    "room": Stream(class_="latest", elide=Elide(policy="change", key="{k}")),
    "safe": Stream(confirm="delivered"),
    "pose": Stream(class_="transient"),
}
FIRST = ("alarm",)
DURABLE = ("alarm", "tick", "tock", "room", "safe")


class Disk:
    """Rows and lanes as the last commit left them."""

    def __init__(self) -> None:
        self.rows: dict[int, StoredRow] = {}
        self.lanes: dict[str, LaneEntry] = {}
        self.dead: dict[int, Burial] = {}
        self.boots: dict[str, BootFound] = {}

    def apply(self, commit: Commit) -> None:
        self.rows.update({row.id: row for row in commit.rows})
        for burial in commit.burials:
            self.rows.pop(burial.row.id, None)
            self.dead[burial.row.id] = burial
        for row_id in commit.gone:
            self.rows.pop(row_id, None)
        for row_id in commit.forgotten:
            self.dead.pop(row_id, None)
        self.lanes.update(commit.lanes)
        for name, entry in self.lanes.items():
            rows = [row for row in self.rows.values() if row.stream == name]
            letters = [burial for burial in self.dead.values() if burial.row.stream == name]
            assert entry.rows == len(rows), f"{name}: the entry tells {entry.rows} rows, there are {len(rows)}"
            assert entry.book.queued == len(rows) + len(letters)
            assert entry.book.balanced
        self.boots[commit.boot] = BootFound(
            boot=commit.boot, kernel="k", offset=commit.offset, synced=commit.synced, last=commit.at, clean=commit.clean
        )

    def fetch(self, ask: Fetch, now: Ns) -> Fetched:
        ids = sorted(row_id for row_id in self.rows if ask.after < row_id <= ask.upto)[: ask.limit]
        rows = tuple(self.rows[row_id] for row_id in ids)
        if ask.purpose == "sweep":
            rows = tuple(msgspec.structs.replace(row, data=b"") for row in rows)
        after = ids[-1] if len(ids) == ask.limit else ask.upto
        return Fetched(at=now, stream=ask.stream, purpose=ask.purpose, rows=rows, after=after)

    def exhume(self, ask: Exhume, now: Ns) -> Exhumed:
        rows = tuple(self.dead.pop(row_id).row for row_id in ask.ids if row_id in self.dead)
        for row in rows:
            self.rows[row.id] = row
            entry = self.lanes[row.stream]
            self.lanes[row.stream] = msgspec.structs.replace(entry, rows=entry.rows + 1)
        return Exhumed(at=now, rows=rows)

    def backlog(self) -> Backlog:
        lanes = {}
        for name, entry in self.lanes.items():
            ids = sorted(row_id for row_id in self.rows if lane_of(row_id) == entry.no)
            lanes[name] = LaneFound(entry=entry, first=ids[0] if ids else 0, last=ids[-1] if ids else 0)
        dead = tuple(
            DeadRow(b.row.id, b.row.stream, b.row.boot, b.row.seq, b.row.key, 0, len(b.row.data), WallNs(0), b.reason)
            for b in self.dead.values()
        )
        return Backlog(kernel="k", lanes=lanes, boots=tuple(self.boots.values()), dead=dead)


class Consumer:
    """Keeps the first copy of each (stream, boot, number), and what was disclosed as lost."""

    def __init__(self) -> None:
        self.got: dict[tuple[str, str, int], Any] = {}
        self.lost: set[tuple[str, str, int]] = set()
        self.crashed: dict[tuple[str, str], int] = {}

    def take(self, message: Publish) -> None:
        stream = message.topic.rsplit("/", 1)[-1]
        envelope = json.loads(message.payload)
        key = (stream, envelope["boot"], envelope["seq"])
        content = {name: envelope.get(name) for name in ("data", "elided", "lost")}
        assert self.got.setdefault(key, content) == content, f"{key} has two contents"
        lost = envelope.get("lost")
        if lost is None:
            return
        boot = lost.get("boot", envelope["boot"])
        if lost["reason"] == "crash":
            known = self.crashed.get((stream, boot), lost["from"])
            self.crashed[stream, boot] = min(known, lost["from"])
        else:
            self.lost |= {(stream, boot, seq) for seq in range(lost["from"], lost["to"] + 1)}

    def knows(self, stream: str, boot: str, seq: int) -> bool:
        key = (stream, boot, seq)
        after_crash = seq >= self.crashed.get((stream, boot), seq + 1)
        return key in self.got or key in self.lost or after_crash


class Machine(RuleBasedStateMachine):
    """Produce, send, acknowledge, refuse, cut, write, fail to write, drop, retry, kill, stop, start."""

    page = 4

    def __init__(self) -> None:
        super().__init__()
        self._saved = queue.PAGE, shelves.PAGE
        queue.PAGE = shelves.PAGE = self.page
        self.now = 0
        self.tokens = count(1)
        self.boots = (f"{n:016x}" for n in count(1))
        self.disk = Disk()
        self.consumer = Consumer()
        self.accepted: set[tuple[str, str, int]] = set()
        self.start()

    def teardown(self) -> None:
        try:
            self.drain()
        finally:
            queue.PAGE, shelves.PAGE = self._saved

    def start(self) -> None:
        self.boot = next(self.boots)
        self.flying: list[Publish] = []
        self.todo: deque[Effect] = deque()
        self.outbox = Outbox(
            self.boot,
            Topics("chappe", "t"),
            {name: effective(name, stream) for name, stream in SPECS.items()},
            Limits(rows=60, dead=3),
            WallClock(Ns(self.now), WallNs(self.now), True),
            lambda: next(self.tokens),
            backlog=self.disk.backlog(),
            now=Ns(self.now),
        )
        self.settle()

    def settle(self) -> None:
        # The store obeys in order; an answer to what it was asked before comes before what it is asked now.
        self.todo.extend(wish for wish in self.outbox.wishes(Ns(self.now)) if isinstance(wish, Commit | Fetch | Exhume))

    # ── the device ───────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(stream=st.sampled_from(sorted(SPECS)), n=st.integers(1, 12), key=st.sampled_from("ab"))
    def produce(self, stream: str, n: int, key: str) -> None:
        for value in range(n):
            self.outbox.produce(stream, {"value": value, "k": key}, Ns(self.now))
        self.settle()

    @rule(span=st.integers(1, 20_000))
    def time_passes(self, span: int) -> None:
        end = self.now + span * 1_000_000
        for _ in range(10_000):
            due = self.outbox.due()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            self.outbox.expire(Ns(self.now))
            self.settle()
        else:
            raise AssertionError("time does not move on")
        self.now = end

    # ── the broker ───────────────────────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: not self.outbox.stock.online)
    @rule()
    def connect(self) -> None:
        self.outbox.link_up(Ns(self.now))
        self.settle()

    @precondition(lambda self: self.outbox.stock.online)
    @rule(arrived=st.integers(0, 5), cut=st.booleans())
    def disconnect(self, arrived: int, cut: bool) -> None:
        for message in self.flying[:arrived]:
            self.consumer.take(message)
        self.flying.clear()
        self.outbox.link_down(Ns(self.now), cut=cut)
        self.settle()

    @rule(credit=st.integers(1, 12))
    def send(self, credit: int) -> None:
        sent = [message for message in self.outbox.take(Ns(self.now), credit) if isinstance(message, Publish)]
        for message in sent:
            self.only_what_is_written_leaves(message)
        self.flying += sent
        self.settle()

    def only_what_is_written_leaves(self, message: Publish) -> None:
        stream = message.topic.rsplit("/", 1)[-1]
        envelope = json.loads(message.payload)
        if stream in FIRST and not self.outbox.stock.keeper.failing and envelope["boot"] == self.boot:
            stored = {(row.stream, row.boot, row.seq) for row in self.disk.rows.values()}
            assert (stream, envelope["boot"], envelope["seq"]) in stored

    @precondition(lambda self: self.flying)
    @rule(n=st.integers(1, 12), code=st.sampled_from([0, 0, 0, 0, 0x10, 0x87, 0x97, 0x99]))
    def acknowledge(self, n: int, code: int) -> None:
        batch, self.flying = self.flying[:n], self.flying[n:]
        for message in batch:
            if code < 0x80:
                self.consumer.take(message)
        self.outbox.returns.acked([Ack(message.token, code) for message in batch], Ns(self.now))
        self.settle()

    @rule()
    def confirm(self) -> None:
        for stream, boot, seq in [key for key in self.consumer.got if key[0] == "safe"]:
            self.outbox.returns.confirm(stream, boot, seq, Ns(self.now))
        self.settle()

    # ── the disk ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: self.todo)
    @rule(n=st.integers(1, 5))
    def disk_works(self, n: int) -> None:
        for _ in range(min(n, len(self.todo))):
            self.work(self.todo.popleft())

    def work(self, effect: Effect) -> None:
        now = Ns(self.now)
        if isinstance(effect, Commit):
            self.disk.apply(effect)
            self.accepted |= {(row.stream, row.boot, row.seq) for row in effect.rows}
            self.outbox.committed(now)
        elif isinstance(effect, Fetch):
            self.outbox.fetched(self.disk.fetch(effect, now), now)
        elif isinstance(effect, Exhume):
            self.outbox.shelves.exhumed(self.disk.exhume(effect, now), now)
        self.settle()

    @precondition(lambda self: self.todo and isinstance(self.todo[0], Commit))
    @rule(code=st.sampled_from(["store_full", "store_failed"]))
    def disk_fails(self, code: str) -> None:
        self.todo.popleft()
        self.outbox.commit_failed(code, Ns(self.now))
        self.settle()

    # ── the owner ────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(stream=st.sampled_from(["tick", "alarm", ""]), dead=st.booleans())
    def drop(self, stream: str, dead: bool) -> None:
        self.outbox.counter.drop_rows((), stream, dead, Ns(self.now))
        self.settle()

    @rule()
    def retry(self) -> None:
        self.outbox.counter.retry((), "", False, Ns(self.now))
        self.settle()

    # ── the end of a boot ────────────────────────────────────────────────────────────────────────────────────────────

    @rule(written=st.integers(0, 3), arrived=st.integers(0, 5))
    def kill(self, written: int, arrived: int) -> None:
        for effect in list(self.todo)[:written]:
            if isinstance(effect, Commit):
                self.disk.apply(effect)
                self.accepted |= {(row.stream, row.boot, row.seq) for row in effect.rows}
            elif isinstance(effect, Exhume):
                self.disk.exhume(effect, Ns(self.now))
        for message in self.flying[:arrived]:
            self.consumer.take(message)
        self.start()

    @rule()
    def stop(self) -> None:
        for effect in list(self.todo):
            self.work_without_answer(effect)
        self.outbox.flush(Ns(self.now))
        for effect in [*self.outbox.wishes(Ns(self.now)), self.outbox.last_commit(Ns(self.now))]:
            self.work_without_answer(effect)
        assert self.disk.boots[self.boot].clean
        self.start()

    def work_without_answer(self, effect: Effect) -> None:
        if isinstance(effect, Commit):
            self.disk.apply(effect)
            self.accepted |= {(row.stream, row.boot, row.seq) for row in effect.rows}
        elif isinstance(effect, Exhume):
            self.disk.exhume(effect, Ns(self.now))

    # ── what holds ───────────────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def the_books_balance(self) -> None:
        for name, lane in self.outbox.lanes.items():
            assert lane.book.balanced, name
            assert lane.audit, f"{name}: {lane.book}, depth {lane.depth}, dead {lane.dead}"
        totals = self.outbox.stock.totals
        assert totals.rows == sum(lane.depth for lane in self.outbox.lanes.values())
        assert totals.bytes >= 0
        assert totals.loose >= 0

    def drain(self) -> None:
        """A link and a disk that work: in the end everything that was accepted has arrived, or is known to be lost."""
        if not self.outbox.stock.online:
            self.connect()
        for _ in range(3000):
            while self.todo:
                self.work(self.todo.popleft())
            self.send(12)
            for message in self.flying:
                self.consumer.take(message)
            batch, self.flying = self.flying, []
            self.outbox.returns.acked([Ack(message.token) for message in batch], Ns(self.now))
            self.confirm()
            if not batch and not self.todo and self.outbox.empty:
                break
            self.time_passes(1000)
        assert self.outbox.empty, {name: lane.depth for name, lane in self.outbox.lanes.items() if lane.depth}
        # A last message of each stream carries what is still to be disclosed.
        for turn in range(200):
            self.retry()
            if any(lane.gaps.pending for lane in self.outbox.lanes.values()):
                for stream in SPECS:
                    self.outbox.produce(stream, {"value": -1 - turn, "k": "a"}, Ns(self.now))
            self.settle()
            self.time_passes(30)
            while self.todo:
                self.work(self.todo.popleft())
            self.send(12)
            for message in self.flying:
                self.consumer.take(message)
            batch, self.flying = self.flying, []
            self.outbox.returns.acked([Ack(message.token) for message in batch], Ns(self.now))
            self.confirm()
            if self.outbox.empty and not any(lane.gaps.pending for lane in self.outbox.lanes.values()):
                break
        letters = {(row.stream, row.boot, row.seq) for row in self.outbox.stock.dead.values()}
        for stream, boot, seq in self.accepted:
            known = self.consumer.knows(stream, boot, seq) or (stream, boot, seq) in letters
            assert known, f"{stream} {boot} {seq} was accepted, and nobody knows what became of it"
        self.no_hole_is_undisclosed(letters)

    def no_hole_is_undisclosed(self, letters: set[tuple[str, str, int]]) -> None:
        newest: dict[tuple[str, str], int] = {}
        for stream, boot, seq in self.consumer.got:
            newest[stream, boot] = max(newest.get((stream, boot), 0), seq)
        for (stream, boot), last in newest.items():
            for seq in range(1, last + 1):
                known = self.consumer.knows(stream, boot, seq) or (stream, boot, seq) in letters
                assert known, f"{stream} {boot} {seq} is a hole that nobody disclosed"


@pytest.mark.feature("OUT-12", breaks="chappe.core.gaps:Gaps.add")
class TestMachine(Machine.TestCase):
    settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
