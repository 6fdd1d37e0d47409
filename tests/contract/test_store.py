"""One suite over the store and its fake: whatever is asked of one is answered by the other in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from chappe.core.effects import Chronicle, Commit, Consult, Count, Effect, Exhume, PlaceCursor, Remember
from chappe.core.envelope import Lost
from chappe.core.events import (
    CommitFailed,
    Committed,
    Consulted,
    Counted,
    DiskSampled,
    Event,
    Exhumed,
    Faulted,
    Fetched,
    Healed,
)
from chappe.core.stored import Backlog, Entry, FaultCode, Page, Query, Standing
from chappe.core.units import DAY, SECOND, Ns, WallNs
from chappe.edge.store import Store
from chappe.edge.store.history import Batch
from chappe.testing import ManualClock
from chappe.testing.shelf import Shelf

from ..edge.ledger import BOOT, TOP, Ledger, burial, values, without_fsync  # noqa: TID252 - tests share helpers by place

E = TypeVar("E", bound=Event)
NEXT = "fedcba9876543210"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about durability."""
    without_fsync(monkeypatch)


class Part(Protocol):
    def open(self, *, threaded: bool = ...) -> None: ...
    def handle(self, effects: Sequence[Effect], /) -> None: ...
    def step(self, now: Ns) -> Ns | None: ...
    def backlog(self) -> Backlog: ...
    def memory(self) -> dict[str, Any]: ...
    def close(self) -> None: ...


class Stand:
    """One of the two, with a clock and what it posted.

    Attributes:
        events: everything posted but samples of the disk.
    """

    def __init__(self, kind: str, folder: Path, **options: Any) -> None:
        self.kind = kind
        self.clock = ManualClock(Ns(SECOND))
        self.events: list[Event] = []
        self.samples: list[DiskSampled] = []
        self.kernel = "kernel-1"
        self._folder = folder
        self._options = options
        self.part = self._make(None)

    def _make(self, before: Shelf | None) -> Part:
        if self.kind == "store":
            part: Part = Store(self._folder, self.clock, self._post, kernel=self.kernel, **self._options)
        elif before is None:
            part = Shelf(self.clock, self._post, kernel=self.kernel, **self._options)
        else:
            part = before.crash(kernel=self.kernel)
        part.open(threaded=False)
        return part

    def _post(self, event: Event) -> None:
        assert event.at == self.clock.now()
        (self.samples if isinstance(event, DiskSampled) else self.events).append(event)

    def ask(self, *effects: Effect) -> list[Event]:
        """Hand over, let it do all of it; returns what was posted."""
        before = len(self.events)
        self.part.handle(effects)
        self.due = self.part.step(self.clock.now())
        return self.events[before:]

    def one(self, effect: Effect, kind: type[E]) -> E:
        """The one answer to an effect."""
        (answer,) = self.ask(effect)
        assert isinstance(answer, kind)
        return answer

    def reopen(self) -> Backlog:
        """A clean end and a new start."""
        self.part.close()
        self.part = self._make(self.part if isinstance(self.part, Shelf) else None)
        return self.part.backlog()

    def kill(self) -> Backlog:
        """A kill and a new start: what was not written is gone."""
        if isinstance(self.part, Store):
            self.part._todo.clear()
            self.part._memory.clear()
            self.part._history._waiting = Batch()
            self.part.close()
        self.part = self._make(self.part if isinstance(self.part, Shelf) else None)
        return self.part.backlog()

    def pages(self, ledger: Ledger, stream: str, **more: Any) -> list[Fetched]:
        """All rows of a stream, page by page."""
        found = []
        question = ledger.page(stream, **more)
        while question.after < question.upto:
            found.append(self.one(question, Fetched))
            question = ledger.page(stream, after=found[-1].after, **more)
        return found


@pytest.fixture(params=["store", "shelf"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Stand]]:
    """Makes stands; all are closed at the end."""
    made: list[Stand] = []

    def stand(**options: Any) -> Stand:
        made.append(Stand(request.param, tmp_path / f"state{len(made)}", **options))
        return made[-1]

    yield stand
    for one in made:
        one.part.close()


@pytest.fixture
def stand(make: Callable[..., Stand]) -> Stand:
    return make()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


# ── commits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_store_knows_nothing(stand: Stand) -> None:
    """But this kernel boot."""
    assert stand.part.backlog() == Backlog(kernel="kernel-1")
    assert stand.part.memory() == {}


def test_each_commit_is_answered_with_its_number(stand: Stand, ledger: Ledger) -> None:
    """In the order given, each for itself."""
    commits = [ledger.commit(ledger.new("tick", *values(3, start=n))) for n in range(3)]
    assert stand.ask(*commits) == [Committed(at=Ns(SECOND), number=n) for n in (1, 2, 3)]


def test_what_was_committed_is_what_the_next_boot_finds(stand: Stand, ledger: Ledger) -> None:
    """Per stream: the entry as last written, and the ends of its rows with the first one's boot and age."""
    rows = [*ledger.new("tick", *values(5), at=3), *ledger.new("alert", b"1", at=4, late=True, key="k")]
    stand.ask(ledger.commit(rows))
    stand.ask(ledger.commit(gone=[rows[0].id]))
    found = stand.kill()
    assert {stream: lane.entry for stream, lane in found.lanes.items()} == ledger.entries
    tick = found.lanes["tick"]
    assert (tick.first, tick.last, tick.boot, tick.accepted) == (rows[1].id, rows[4].id, BOOT, 3)
    assert [lane.entry.book.balanced for lane in found.lanes.values()] == [True, True]
    assert (found.corrupt, found.salvaged) == ({}, None)


def test_a_stream_without_rows_has_no_first_one(stand: Stand, ledger: Ledger) -> None:
    rows = ledger.new("tick", b"1")
    stand.ask(ledger.commit(rows), ledger.commit(gone=[rows[0].id]))
    lane = stand.kill().lanes["tick"]
    assert (lane.first, lane.last, lane.boot, lane.entry.next) == (0, 0, "", 2)


@pytest.mark.feature("OUT-04", breaks="chappe.edge.store.base:Base.apply")
def test_what_was_not_committed_is_gone_after_a_kill_and_nothing_else(stand: Stand, ledger: Ledger) -> None:
    """Neither half of a commit is ever there alone."""
    stand.ask(ledger.commit(ledger.new("tick", *values(3))))
    known = list(ledger.rows)
    stand.part.handle([ledger.commit(ledger.new("tick", *values(2)), gone=known[:1]), Remember(key="a", value=1)])
    assert stand.kill().lanes["tick"].entry.rows == 3
    assert [row.id for page in stand.pages(ledger, "tick") for row in page.rows] == known
    assert stand.part.memory() == {}


def test_closing_writes_what_waits(stand: Stand, ledger: Ledger) -> None:
    """A commit handed over just before is on the disk."""
    stand.part.handle([ledger.commit(ledger.new("tick", *values(3))), Remember(key="a", value=[1])])
    stand.part.handle([Chronicle(entries=entries("s", 2))])
    found = stand.reopen()
    assert found.lanes["tick"].entry.rows == 3
    assert stand.part.memory() == {"a": [1]}
    assert len(stand.one(Consult(ticket=1, query=Query(stream="s")), Consulted).page.rows) == 2


def test_a_row_written_again_takes_the_place_of_the_old_one(stand: Stand, ledger: Ledger) -> None:
    """As when a waiting value is superseded."""
    (row,) = ledger.new("door", b'"open"', key="front")
    stand.ask(ledger.commit([row]))
    import msgspec

    newer = msgspec.structs.replace(row, data=b'"shut"', elided=b'{"n":1}', lost=b'{"from":1,"reason":"expired"}')
    stand.ask(ledger.commit([newer]))
    assert [list(page.rows) for page in stand.pages(ledger, "door")] == [[newer]]


def test_ids_that_are_not_there_are_passed_over(stand: Stand, ledger: Ledger) -> None:
    """A delete may come twice."""
    rows = ledger.new("tick", *values(3))
    stand.ask(ledger.commit(rows))
    commit = ledger.commit(gone=[rows[0].id])
    again = Commit(number=9, at=Ns(1), gone=(rows[0].id, 12345), forgotten=(777,), lanes=commit.lanes)
    assert [event.number for event in stand.ask(commit, again) if isinstance(event, Committed)] == [2, 9]
    assert [row.id for page in stand.pages(ledger, "tick") for row in page.rows] == [row.id for row in rows[1:]]


def test_a_row_written_and_deleted_in_one_commit_is_not_there(stand: Stand, ledger: Ledger) -> None:
    rows = ledger.new("tick", b"1", b"2")
    stand.ask(ledger.commit(rows, gone=[rows[0].id]))
    assert [row.seq for page in stand.pages(ledger, "tick") for row in page.rows] == [2]


def test_gaps_are_kept_with_the_entry(stand: Stand, ledger: Ledger) -> None:
    ledger.gaps["tick"] = (Lost(from_=3, to=9, n=7, reason="mixed", by={"expired": 3, "spilled": 4}, boot=NEXT),)
    stand.ask(ledger.commit(ledger.new("tick", b"1")))
    assert stand.kill().lanes["tick"].entry.gaps == ledger.gaps["tick"]


def test_delivery_states_are_kept_newest_word_only(stand: Stand, ledger: Ledger) -> None:
    sent = Standing(stream="alert", boot=BOOT, seq=1, state="sent", times={"sent": WallNs(5)})
    read = Standing(stream="alert", boot=BOOT, seq=1, state="read", times={"read": WallNs(9)}, by={"read": "ann"})
    stand.ask(ledger.commit(standings=(sent,)), ledger.commit(standings=(read,)))
    assert stand.kill().receipts == (read,)


# ── boots ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_boots_are_known_by_their_clocks_and_their_ends(stand: Stand, ledger: Ledger) -> None:
    """Kernel boot, wall time, the latest moment, and whether it ended as it should."""
    stand.ask(ledger.commit(ledger.new("tick", b"1"), at=50), ledger.commit(at=40, offset=2000, synced=False))
    (boot,) = stand.kill().boots
    assert (boot.boot, boot.kernel, boot.offset, boot.synced, boot.last, boot.clean) == (
        BOOT,
        "kernel-1",
        2000,
        False,
        50,
        False,
    )
    stand.kernel = "kernel-2"
    stand.kill()
    ledger.again(NEXT)
    stand.ask(ledger.commit(clean=True))
    assert [(one.boot, one.kernel, one.clean) for one in stand.kill().boots] == [
        (BOOT, "kernel-1", False),
        (NEXT, "kernel-2", True),
    ]


def test_boots_of_which_nothing_remains_are_forgotten_but_for_the_last(stand: Stand, ledger: Ledger) -> None:
    """Rows, dead letters and gaps keep theirs."""
    rows = ledger.new("tick", b"1", b"2")
    stand.ask(ledger.commit(rows, burials=[burial(rows[1])]))
    for boot in ("1" * 16, "2" * 16, "3" * 16):
        stand.kill()
        ledger.again(boot)
        if boot[0] == "2":
            ledger.gaps["tick"] = (Lost(from_=1, reason="crash", boot=boot),)
        stand.ask(ledger.commit(ledger.new("tick", b"3")))
    assert [one.boot[0] for one in stand.kill().boots] == ["0", "1", "2", "3"]
    stand.ask(ledger.commit(gone=list(ledger.rows)))
    assert [one.boot[0] for one in stand.kill().boots] == ["0", "2", "3"]
    ledger.gaps.clear()
    stand.ask(ledger.commit(ledger.new("tick", b"4"), forgotten=list(ledger.dead)))
    assert [one.boot[0] for one in stand.kill().boots] == ["3"]


def test_a_boot_is_not_among_the_earlier_ones(make: Callable[..., Stand], ledger: Ledger) -> None:
    """Also where its store is opened a second time."""
    stand = make(boot=BOOT)
    stand.ask(ledger.commit(ledger.new("tick", b"1")))
    assert stand.reopen().boots == ()


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_come_back_as_they_were_written_and_in_order(stand: Stand, ledger: Ledger) -> None:
    """Every column, through pages of any size."""
    rows = ledger.new(
        "tick", *values(10), at=1 << 62, late=True, attempts=4, key="schlüssel", model="m@01234567", elided=b'{"n":2}'
    )
    stand.ask(ledger.commit(rows), ledger.commit(ledger.new("other", b"1")))
    for limit in (1, 3, 10, 256):
        assert [row for page in stand.pages(ledger, "tick", limit=limit) for row in page.rows] == rows


def test_a_page_says_how_far_was_looked(stand: Stand, ledger: Ledger) -> None:
    """To its last row, or to the end of the question where nothing more lies before it."""
    rows = ledger.new("tick", *values(5))
    stand.ask(ledger.commit(rows))
    first = stand.one(ledger.page("tick", limit=3), Fetched)
    assert (first.after, first.purpose, first.stream, first.bad) == (rows[2].id, "page", "tick", 0)
    rest = stand.one(ledger.page("tick", after=rows[2].id, upto=rows[4].id + 7), Fetched)
    assert ([row.id for row in rest.rows], rest.after) == ([rows[3].id, rows[4].id], rows[4].id + 7)
    empty = stand.one(ledger.page("tick", after=rows[4].id), Fetched)
    assert (empty.rows, empty.after) == ((), (1 << 40) + TOP)


def test_a_page_ends_behind_the_row_that_fills_it(stand: Stand, ledger: Ledger) -> None:
    """By bytes of data; one row always comes."""
    rows = ledger.new("tick", *values(5, 100))
    stand.ask(ledger.commit(rows))
    for most, expected in ((1, 1), (100, 1), (101, 2), (300, 3), (10_000, 5)):
        assert len(stand.one(ledger.page("tick", most_bytes=most), Fetched).rows) == expected


def test_a_sweep_has_everything_but_the_data(stand: Stand, ledger: Ledger) -> None:
    """And no bound on bytes."""
    rows = ledger.new("tick", *values(5, 100), key="k")
    stand.ask(ledger.commit(rows))
    answer = stand.one(ledger.page("tick", purpose="sweep", most_bytes=1), Fetched)
    assert [(row.id, row.seq, row.key, row.data) for row in answer.rows] == [
        (row.id, row.seq, "k", b"") for row in rows
    ]


def test_a_count_has_rows_bytes_and_numbers(stand: Stand, ledger: Ledger) -> None:
    rows = ledger.new("tick", b"1", b"22", b"333", b"4444")
    stand.ask(ledger.commit(rows))
    question = Count(stream="tick", after=rows[0].id, upto=rows[2].id)
    assert stand.one(question, Counted) == Counted(at=Ns(SECOND), stream="tick", rows=2, bytes=5, first=2, last=3)
    nothing = Count(stream="tick", after=rows[3].id, upto=rows[3].id + 9)
    assert stand.one(nothing, Counted) == Counted(at=Ns(SECOND), stream="tick", rows=0, bytes=0)


# ── dead letters ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_dead_letters_are_known_without_their_data(stand: Stand, ledger: Ledger) -> None:
    """Whether they were in the table or not; forgotten ones are gone."""
    rows = ledger.new("tick", b"1", b"22", b"333", attempts=5)
    stand.ask(ledger.commit(rows[:2]))
    stand.ask(ledger.commit(burials=[burial(rows[1], "too_large", 17), burial(rows[2])]))
    found = stand.kill()
    assert [(one.id, one.seq, one.size, one.since, one.reason, one.attempts) for one in found.dead] == [
        (rows[1].id, 2, 2, 17, "too_large", 5),
        (rows[2].id, 3, 3, 99, "not_authorized", 5),
    ]
    assert [row.seq for page in stand.pages(ledger, "tick") for row in page.rows] == [1]
    stand.ask(ledger.commit(forgotten=[rows[1].id]))
    assert [one.seq for one in stand.kill().dead] == [3]


@pytest.mark.feature("OUT-11", breaks="chappe.edge.store.reading:exhume")
def test_exhumed_letters_are_rows_again_and_counted(stand: Stand, ledger: Ledger) -> None:
    """With their old ids and numbers, and a clean slate; ids that are no letters are passed over."""
    rows = ledger.new("tick", b"1", b"22", attempts=5)
    stand.ask(ledger.commit(rows, burials=[burial(row) for row in rows]))
    answer = stand.one(Exhume(ids=(rows[1].id, 4711)), Exhumed)
    ledger.exhumed([rows[1].id])
    assert list(answer.rows) == ledger.of("tick")
    assert answer.rows[0].attempts == 0
    found = stand.kill()
    assert found.lanes["tick"].entry == ledger.entries["tick"]
    assert [one.seq for one in found.dead] == [1]
    assert [row for page in stand.pages(ledger, "tick") for row in page.rows] == ledger.of("tick")


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_remembered_is_there_at_once_and_after_a_kill(stand: Stand, ledger: Ledger) -> None:
    """The newest value of each key, with or without a commit beside it."""
    stand.ask(Remember(key="a", value=1), ledger.commit(), Remember(key="a", value={"b": None}))
    assert stand.part.memory() == {"a": {"b": None}}
    stand.kill()
    assert stand.part.memory() == {"a": {"b": None}}


# ── the disk ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_disk_is_sampled_at_the_start_and_every_ten_seconds(stand: Stand) -> None:
    assert stand.part.step(stand.clock.now()) == 11 * SECOND
    for moment in (1.0, 5.0, 10.9, 11.0, 20.9, 21.0):
        stand.clock.set(Ns(round(moment * SECOND)))
        stand.part.step(stand.clock.now())
    assert [sample.at for sample in stand.samples] == [SECOND, 11 * SECOND, 21 * SECOND]
    assert 0 < stand.samples[0].free <= 1


def failing(stand: Stand, code: FaultCode | None) -> None:
    """From now on commits that add rows fail; or no longer."""
    if isinstance(stand.part, Shelf):
        stand.part.fail = code
        return
    assert isinstance(stand.part, Store)
    vault = stand.part._vault
    vault._base.link.execute("DROP TRIGGER IF EXISTS fail")
    vault._disk.full = lambda error: code == "store_full" and "as told" in str(error)  # type: ignore[method-assign]
    vault._disk.restore = lambda: code is None  # type: ignore[method-assign]
    if code is not None:
        vault._base.link.execute("CREATE TRIGGER fail BEFORE INSERT ON rows BEGIN SELECT RAISE(ABORT, 'as told'); END")


@pytest.mark.parametrize("code", ["store_full", "store_failed"])
def test_a_commit_that_fails_says_why_and_leaves_nothing(stand: Stand, ledger: Ledger, code: FaultCode) -> None:
    """One fault for all of them, healed by the first that comes about again."""
    stand.ask(ledger.commit(ledger.new("tick", b"1")))
    kept = dict(ledger.entries)
    failing(stand, code)
    posted = stand.ask(*(ledger.commit(ledger.new("tick", b"2")) for _ in range(3)))
    assert [(event.part, event.code) for event in posted if isinstance(event, Faulted)] == [("store", code)]
    assert [(event.number, event.code) for event in posted if isinstance(event, CommitFailed)] == [
        (number, code) for number in (2, 3, 4)
    ]
    failing(stand, None)
    assert stand.part.backlog() == Backlog(kernel="kernel-1")
    healed = stand.ask(Commit(number=9, at=Ns(1), rows=tuple(ledger.new("tick", b"3")), lanes=kept))
    assert {type(event) for event in healed} == {Committed, Healed}
    assert [row.data for page in stand.pages(ledger, "tick") for row in page.rows] == [b"1", b"3"]


# ── the history ──────────────────────────────────────────────────────────────────────────────────────────────────────


def entries(stream: str, n: int, start: int = 1, boot: str = BOOT, wall: int = 0, text: str = "") -> tuple[Entry, ...]:
    """Messages of a stream, a second apart."""
    base = ManualClock().wall() + wall
    return tuple(
        Entry(stream, boot, seq, WallNs(base + seq * SECOND), envelope(boot, seq, text))
        for seq in range(start, start + n)
    )


def envelope(boot: str, seq: int, text: str = "") -> bytes:
    return b'{"boot":"%s","seq":%d,"data":{"value":%d,"note":"%s"}}' % (boot.encode(), seq, seq, text.encode())


def asked(stand: Stand, **query: Any) -> Page:
    answer = stand.one(Consult(ticket=5, query=Query(**query)), Consulted)
    assert (answer.ticket, answer.error) == (5, "")
    return answer.page


def seqs(page: Page) -> list[int]:
    return [row.seq for row in page.rows]


@pytest.fixture
def told(stand: Stand) -> Stand:
    """30 messages of `s`, of which 12 have to do with a door, and 5 of `t`."""
    for seq in range(1, 31):
        stand.ask(Chronicle(entries=entries("s", 1, seq, text="Door" if seq % 5 < 2 else "window")))
    stand.ask(Chronicle(entries=entries("t", 5, wall=int(0.5 * SECOND))), Consult(ticket=0, query=Query()))
    return stand


def test_newest_first_by_default_and_pages_go_on_in_front_of_the_last(told: Stand) -> None:
    page = asked(told, stream="s", n=20)
    assert (seqs(page), page.more, page.first) == (list(range(30, 10, -1)), True, 0)
    rest = asked(told, stream="s", n=20, after=page.rows[-1].offset)
    assert (seqs(rest), rest.more) == (list(range(10, 0, -1)), False)


def test_oldest_first_goes_on_behind(told: Stand) -> None:
    page = asked(told, stream="s", n=20, newest=False)
    assert (seqs(page), page.more) == (list(range(1, 21)), True)
    assert seqs(asked(told, stream="s", newest=False, after=page.rows[-1].offset)) == list(range(21, 31))


def test_a_page_that_is_just_full_says_whether_more_would_follow(told: Stand) -> None:
    assert not asked(told, stream="s", n=30).more
    assert asked(told, stream="s", n=29).more


@pytest.mark.feature("HIS-02", breaks="chappe.edge.store.search:_contains")
def test_text_is_looked_for_in_the_data_without_regard_to_case(told: Stand) -> None:
    """12 of 30 have it: 10, and 2 behind the cursor. The rest of the envelope does not count."""
    page = asked(told, stream="s", text="dOOr", n=10)
    assert (len(page.rows), page.more) == (10, True)
    assert len(asked(told, stream="s", text="dOOr", after=page.rows[-1].offset).rows) == 2
    assert asked(told, stream="s", text=BOOT).rows == ()
    assert seqs(asked(told, stream="s", text='"value":17')) == [17]


def test_the_newest_of_each_stream_makes_a_summary(told: Stand) -> None:
    assert [(row.stream, row.seq) for row in asked(told, summary=True).rows] == [("s", 30), ("t", 5)]
    assert [(row.stream, row.seq) for row in asked(told, summary=True, text="door").rows] == [("s", 30)]


def test_all_streams_come_in_the_order_of_time(told: Stand) -> None:
    page = asked(told, n=4, newest=False)
    assert [(row.stream, row.seq) for row in page.rows] == [("s", 1), ("t", 1), ("s", 2), ("t", 2)]
    assert page.first is None
    assert [(row.stream, row.seq) for row in asked(told, n=2).rows] == [("s", 30), ("s", 29)]


def test_since_is_a_wall_time(told: Stand) -> None:
    wall = WallNs(ManualClock().wall() + 28 * SECOND)
    assert seqs(asked(told, stream="s", since=wall)) == [30, 29, 28]


@pytest.mark.feature("HIS-03", breaks="chappe.edge.store.search:Search._numbered")
def test_numbers_of_a_boot_close_a_gap(told: Stand) -> None:
    """In the order of numbers, equal bytes, page by page; numbers of another boot are others."""
    told.ask(Chronicle(entries=entries("s", 30, boot=NEXT)))
    page = asked(told, stream="s", boot=BOOT, from_=10, to=19, newest=False, n=7)
    assert (seqs(page), page.more) == (list(range(10, 17)), True)
    rest = asked(told, stream="s", boot=BOOT, from_=17, to=19, newest=False, n=7)
    assert (seqs(rest), rest.more) == ([17, 18, 19], False)
    assert rest.rows[0].envelope == envelope(BOOT, 17, "window")
    assert asked(told, stream="s", boot="9" * 16, from_=1, to=9, newest=False).rows == ()
    assert len(asked(told, stream="s", boot=NEXT).rows) == 30


@pytest.mark.feature("HIS-07", breaks="chappe.edge.store.entries:Entries.place")
def test_named_cursors_are_kept_for_each_reader_and_stream(told: Stand) -> None:
    """Over a kill; what was read and not placed comes again."""
    told.ask(PlaceCursor(reader="ann", stream="s", offset=10), PlaceCursor(reader="bob", stream="s", offset=25))
    told.kill()
    assert seqs(asked(told, stream="s", reader="ann", n=3)) == [12, 13, 14]
    assert seqs(asked(told, stream="s", reader="bob")) == [27, 28, 29, 30]
    assert seqs(asked(told, stream="s", reader="new", n=2)) == [1, 2]
    told.ask(PlaceCursor(reader="ann", stream="s", offset=2))
    assert seqs(asked(told, stream="s", reader="ann", n=1)) == [4]


def test_offsets_are_dense_and_a_message_written_again_keeps_its_own(told: Stand) -> None:
    """Over kills; the newer content counts."""
    told.kill()
    told.ask(Chronicle(entries=entries("s", 3, 29, text="again")))
    page = asked(told, stream="s", n=3)
    assert [(row.seq, row.offset) for row in page.rows] == [(31, 30), (30, 29), (29, 28)]
    assert page.rows[1].envelope == envelope(BOOT, 30, "again")


def test_history_is_written_in_batches_of_ten_seconds(stand: Stand) -> None:
    """What waits dies with the process; what is asked for is written first."""
    stand.ask()
    stand.ask(Chronicle(entries=entries("s", 1)))
    assert stand.due == 11 * SECOND
    stand.clock.set(Ns(11 * SECOND))
    stand.ask()
    stand.ask(Chronicle(entries=entries("s", 1, 2)))
    stand.kill()
    assert seqs(asked(stand, stream="s")) == [1]
    stand.ask(Chronicle(entries=entries("s", 1, 3)))
    assert seqs(asked(stand, stream="s")) == [3, 1]
    stand.kill()
    assert seqs(asked(stand, stream="s")) == [3, 1]


def test_a_batch_of_64_kib_does_not_wait(stand: Stand) -> None:
    stand.ask(Chronicle(entries=entries("s", 64, text="x" * 1000)))
    stand.kill()
    assert len(asked(stand, stream="s", n=100).rows) == 64


def test_what_is_too_old_is_removed_each_stream_by_its_own_age(make: Callable[..., Stand]) -> None:
    """7 days where nothing is said; offsets go on behind what is gone."""
    stand = make(retention={"short": Ns(DAY), "long": Ns(90 * DAY)})
    stand.ask(*(Chronicle(entries=entries(stream, 3)) for stream in ("short", "long", "plain")))
    stand.ask(Consult(ticket=1, query=Query()))
    left = []
    for days in (0.9, 1.1, 6.9, 7.1):
        stand.clock.set(Ns(round(days * DAY)))
        stand.ask()
        left.append([len(asked(stand, stream=stream).rows) for stream in ("short", "long", "plain")])
    assert left == [[3, 3, 3], [0, 3, 3], [0, 3, 3], [0, 3, 0]]
    stand.ask(Chronicle(entries=entries("short", 1, 4, wall=7 * DAY)))
    page = asked(stand, stream="short")
    assert (page.rows[0].offset, page.first) == (3, 3)


@pytest.mark.feature("HIS-01", breaks="chappe.edge.store.pruning:prune_bytes")
def test_what_is_too_much_is_removed_oldest_first_and_alerts_last(make: Callable[..., Stand]) -> None:
    """The bound is on all streams together."""
    stand = make(history_bytes=50_000)
    stand.ask(Chronicle(entries=entries("alert", 10, text="a" * 500)))
    for start in range(1, 400, 20):
        stand.ask(Chronicle(entries=entries("s", 20, start, text="x" * 500)))
        stand.ask(Chronicle(entries=entries("t", 20, start, text="x" * 500)))
    page = asked(stand, stream="s", n=500, newest=False)
    other = asked(stand, stream="t", n=500, newest=False)
    assert len(asked(stand, stream="alert").rows) == 10
    assert 40_000 < sum(len(row.envelope) + 64 for row in (*page.rows, *other.rows)) < 50_000
    assert seqs(page) == list(range(page.rows[0].seq, 401))
    assert abs(page.rows[0].seq - other.rows[0].seq) <= 2
    assert page.first == page.rows[0].offset


# ── anything at all ──────────────────────────────────────────────────────────────────────────────────────────────────


class Both(RuleBasedStateMachine):
    """The store and its fake, side by side: any row of effects, kills and restarts leads both to the same answers and the same state."""

    folder: Path

    @initialize()
    def start(self) -> None:
        type(self).count += 1
        self.stands = [Stand("store", self.folder / str(self.count), inline=300), Stand("shelf", self.folder)]
        self.ledger = Ledger()
        self.boot = 0

    count = 0

    def both(self, *effects: Effect) -> None:
        first, second = (stand.ask(*effects) for stand in self.stands)
        assert first == second

    @rule(
        stream=st.sampled_from(["a", "b", "alert"]),
        sizes=st.lists(st.integers(20, 600), min_size=1, max_size=5),
        data=st.data(),
    )
    def commit(self, stream: str, sizes: list[int], data: st.DataObject) -> None:
        ledger = self.ledger
        fresh = ledger.new(stream, *(b"x" * size for size in sizes))
        rows, dead = sorted(ledger.rows), sorted(ledger.dead)
        gone = data.draw(st.lists(st.sampled_from(rows), unique=True)) if rows else []
        buried = [row for row in fresh[:1] if data.draw(st.booleans())]
        forgotten = data.draw(st.lists(st.sampled_from(dead), unique=True)) if dead else []
        kept = [row for row in fresh if row not in buried or data.draw(st.booleans())]
        self.both(ledger.commit(kept, gone, [burial(row) for row in buried], forgotten))

    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        import msgspec

        if self.ledger.rows:
            row = self.ledger.rows[data.draw(st.sampled_from(sorted(self.ledger.rows)))]
            size = data.draw(st.integers(0, 600))
            self.both(self.ledger.commit([msgspec.structs.replace(row, data=b"y" * size)]))

    @rule(data=st.data())
    def exhume(self, data: st.DataObject) -> None:
        if self.ledger.dead:
            ids = data.draw(st.lists(st.sampled_from(sorted(self.ledger.dead)), unique=True))
            self.both(Exhume(ids=tuple(ids)))
            self.ledger.exhumed(ids)

    @rule(stream=st.sampled_from(["a", "b"]), first=st.integers(1, 9), n=st.integers(1, 4), text=st.sampled_from("xy"))
    def chronicle(self, stream: str, first: int, n: int, text: str) -> None:
        self.both(Chronicle(entries=entries(stream, n, first, self.ledger.boot, text=text)))

    @rule(
        query=st.builds(
            Query,
            stream=st.sampled_from(["", "a", "b", "c"]),
            boot=st.sampled_from(["", BOOT]),
            from_=st.none() | st.integers(1, 9),
            to=st.none() | st.integers(1, 9),
            text=st.sampled_from(["", "X", "value"]),
            after=st.none() | st.integers(0, 9),
            reader=st.sampled_from(["", "r"]),
            n=st.integers(1, 9),
            newest=st.booleans(),
            summary=st.booleans(),
        )
    )
    def consult(self, query: Query) -> None:
        self.both(Consult(ticket=1, query=query))

    @rule(offset=st.integers(0, 9), stream=st.sampled_from(["a", "b"]))
    def place(self, offset: int, stream: str) -> None:
        self.both(PlaceCursor(reader="r", stream=stream, offset=offset))

    @rule(key=st.sampled_from("kl"), value=st.integers())
    def remember(self, key: str, value: int) -> None:
        self.both(Remember(key=key, value=value))

    @rule(span=st.sampled_from([1, 4, 11]))
    def wait(self, span: int) -> None:
        for stand in self.stands:
            stand.clock.advance(span)
        self.both()

    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        first, second = (stand.reopen() if clean else stand.kill() for stand in self.stands)
        assert first == second
        assert {stream: lane.entry for stream, lane in first.lanes.items()} == self.ledger.entries
        self.boot += 1
        self.ledger.again(f"{self.boot:016x}")

    @invariant()
    def the_same_rows_are_in_both(self) -> None:
        for stream in getattr(self, "ledger", Ledger()).entries:
            for stand in self.stands:
                assert [
                    row for page in stand.pages(self.ledger, stream, limit=7) for row in page.rows
                ] == self.ledger.of(stream)
        stands = getattr(self, "stands", [])
        assert all(stand.part.memory() == stands[0].part.memory() for stand in stands)

    def teardown(self) -> None:
        for stand in getattr(self, "stands", []):
            stand.part.close()


def test_the_fake_is_like_the_store(tmp_path: Path) -> None:
    """Side by side, whatever is asked of them."""
    Both.folder = tmp_path
    few = settings(max_examples=12, stateful_step_count=15, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Both, settings=few)  # type: ignore[no-untyped-call]
