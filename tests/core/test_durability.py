"""What is written when, what a kill leaves, and what the next boot makes of it: streams of every kind on a device at manual time."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from chappe.core import effects as ef
from chappe.core import events as ev
from chappe.core.units import SECOND
from chappe.edge.store import Store
from chappe.testing.shelf import Shelf
from chappe.testing.world import Published

from .rig import NIGHTLY, NO_SUBSCRIBER, Consumer, Rig, contents, dice, no_acks, ns, stream_of

NEXT = "00000000000000b2"
KINDS = """
[streams.tick]
[streams.room]
class = "latest"
[streams.pose]
class = "transient"
"""
SOUND = """
[streams.sure]
durability = "first"
[streams.fast]
durability = "behind"
[streams.soft]
durability = "memory"
"""
CONFIRMED = '[streams.tick]\nconfirm = "delivered"\n'


def open_rig(folder: Path | None, text: str, **more: Any) -> Rig:
    return Rig(text, **({"folder": folder} if folder else {}), **more)


def killed(rig: Rig, folder: Path | None, boot: str = NEXT) -> Rig:
    """The boot after a kill at this moment; of a real store a copy of its files is opened, as its lock is still held."""
    if folder is None:
        return rig.next_boot(boot)
    after = folder.with_name(folder.name + boot[-2:])
    shutil.copytree(folder, after, ignore=shutil.ignore_patterns("*-shm", "lock"))
    return Rig(rig.text, folder=after, boot_id=boot, start=rig.clock.now(), wall=rig.clock.wall())


@pytest.fixture(params=["fake", "real"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where a real store is, or None for a fake one."""
    if request.param == "fake":
        return None
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


# ── classes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-01", breaks="chappe.core.intake:Intake._conflated")
def test_of_ten_seconds_offline_come_every_log_the_latest_and_no_transient(folder: Path | None) -> None:
    """Each at 10/s: 100 `log` in order, 1 `latest`, 0 `transient`."""
    it = open_rig(folder, KINDS)
    it.spread(100, 10, "tick", "room", "pose", first=1)
    it.link_up()
    it.advance(1)
    assert it.values("tick") == list(range(1, 101))
    assert it.values("room") == [100]
    assert it.stream("room")[0].payload["elided"] == {"n": 99, "min": 1, "max": 99, "mean": 50.0}
    assert it.values("pose") == []
    assert all(m.payload["late"] for m in (*it.stream("tick"), *it.stream("room")))
    assert (it.book("tick")["delivered"], it.book("room")["elided"], it.book("pose")["spilled"]) == (100, 99, 100)
    it.put("pose", 101)
    assert it.losses("pose") == [(101, {"from": 1, "to": 100, "n": 100, "reason": "offline"})]
    assert it.audits


@pytest.mark.feature("ELI-09", breaks="chappe.core.intake:Intake._conflated")
def test_of_three_keys_with_a_thousand_values_each_three_rows_wait(folder: Path | None) -> None:
    """Dense numbers, on return 3 messages that say how many they stand for, late; after a kill, too."""
    it = open_rig(folder, '[streams.room]\nclass = "latest"\nelide = { policy = "change", key = "{entity}" }\n')
    for value in range(1000):
        for entity in "abc":
            it.engine.context.produce("room", {"entity": entity, "value": value})
    it.feed(ev.Tick(at=it.clock.now()))
    assert it.engine.context.outbox.lanes["room"].depth == 3
    it.advance(10)
    for one in (it, killed(it, folder)):
        one.link_up()
        one.advance(0.5)
        assert [(m.payload["seq"], m.data["entity"]) for m in one.stream("room")] == [(1, "a"), (2, "b"), (3, "c")]
        assert [m.payload["elided"]["n"] for m in one.stream("room")] == [999] * 3
        assert [m.payload["late"] for m in one.stream("room")] == [True] * 3
        assert {m.payload["boot"] for m in one.stream("room")} == {it.boot}
        assert one.audits


def outage(streams: int = 3) -> Rig:
    """Ten minutes without a link: `latest` streams at 10 Hz, one `log` stream at 1 Hz."""
    latest = [f"room{n}" for n in range(streams)]
    it = Rig("[streams.tick]\n" + "".join(f'[streams.{name}]\nclass = "latest"\n' for name in latest))
    it.link_up()
    it.advance(1)
    it.link_down()
    it.published.clear()
    for count in range(6000):
        it.until(1 + count / 10)
        for name in latest:
            it.engine.context.produce(name, {"value": count})
        if count % 10 == 0:
            it.engine.context.produce("tick", {"value": count})
        it.feed(ev.Tick(at=it.clock.now()))
    it.until(601)
    return it


@pytest.mark.feature("OUT-01", breaks="chappe.core.row:absorb")
def test_after_ten_minutes_offline_603_messages_tell_all_there_is_to_tell() -> None:
    """Cut with nothing in flight: 3 rows and 600 rows wait, and 603 messages go out."""
    it = outage()
    depths = {name: lane.depth for name, lane in it.engine.context.outbox.lanes.items() if lane.depth}
    assert depths == {"room0": 1, "room1": 1, "room2": 1, "tick": 600}
    it.link_up()
    it.advance(5)
    assert len([m for m in it.published if stream_of(m)]) == 603
    assert it.seqs("tick") == list(range(1, 601))
    assert [it.stream(f"room{n}")[0].payload["elided"]["n"] for n in range(3)] == [5999] * 3
    assert it.audits


# ── durability ───────────────────────────────────────────────────────────────────────────────────────────────────────


def torn(commit_s: float = 0.0) -> tuple[Rig, Rig]:
    """A thousand a second into three streams, of which the broker takes 300 and then nothing; a kill after a second."""
    it = Rig(SOUND)
    it.shelf.delay = ns(commit_s)
    it.window = 3000
    it.ack = lambda message: 0 if not stream_of(message) or message.payload["seq"] <= 300 else None
    it.link_up()
    it.advance(0.1)
    it.spread(1000, 1000, "sure", "fast", "soft", first=1)
    after = it.next_boot(NEXT)
    after.link_up()
    after.advance(5)
    return it, after


def arrived(it: Rig, after: Rig, stream: str) -> set[int]:
    """Numbers of the first boot that the broker has: acknowledged before the kill, or sent after it."""
    acked = {m.payload["seq"] for m in it.stream(stream) if m.payload["seq"] <= 300}
    return acked | {m.payload["seq"] for m in after.stream(stream) if m.payload["boot"] == it.boot}


@pytest.mark.feature("OUT-02", breaks="chappe.core.keeper:Keeper.committed")
def test_of_first_nothing_that_ever_left_is_lost_by_a_kill() -> None:
    """A row leaves only after it was written, so whatever anybody saw arrives again or was acknowledged."""
    it, after = torn(commit_s=0.005)
    seen = {m.payload["seq"] for m in it.stream("sure")}
    assert len(seen) > 900
    assert seen <= arrived(it, after, "sure")
    assert all(row.id in it.written for row in it.rows.values())
    assert after.losses("sure") == []


@pytest.mark.feature("OUT-02", breaks="chappe.core.keeper:Keeper.commit")
@pytest.mark.parametrize("commit_s", [0.0, 0.04])
def test_of_behind_a_kill_costs_at_most_250_ms_and_the_slowest_commit(commit_s: float) -> None:
    """What was acknowledged or written is there; of a thousand a second at most 250 + what one commit takes are not."""
    it, after = torn(commit_s)
    accepted = set(range(1, 301)) | {row.seq for row in it.rows.values() if row.stream == "fast"}
    there = arrived(it, after, "fast")
    assert accepted <= there
    assert there == set(range(1, len(there) + 1))
    assert 0 < 1000 - len(there) <= 250 + 1000 * commit_s


@pytest.mark.feature("OUT-02", breaks="chappe.core.stock:_gaps")
def test_of_memory_what_waited_is_gone_and_the_next_boot_says_from_where_on() -> None:
    """Nobody knows how much it was: `from` alone, reason `crash`, on the first message; and in no column."""
    it, after = torn()
    assert arrived(it, after, "soft") == set(range(1, 301))
    known = it.entry("soft").seq
    after.put("soft", 0)
    assert after.losses("soft") == [(1, {"boot": it.boot, "from": known + 1, "reason": "crash"})]
    assert after.book("soft")["produced"] == it.entry("soft").book.produced + 1
    assert after.audits


@pytest.mark.feature("OUT-02", breaks="chappe.core.stock:_gaps")
def test_after_a_kill_each_stream_but_first_says_so_once(folder: Path | None) -> None:
    it = open_rig(folder, SOUND)
    it.link_up()
    for stream in ("sure", "fast", "soft"):
        it.put(stream, 1, 2)
    it.advance(11)
    after = killed(it, folder)
    after.link_up()
    for stream in ("sure", "fast", "soft"):
        after.put(stream, 3, 4)
    after.advance(1)
    told = [(1, {"boot": it.boot, "from": 3, "reason": "crash"})]
    assert (after.losses("sure"), after.losses("fast"), after.losses("soft")) == ([], told, told)


def test_a_stream_that_never_spoke_may_have_lost_its_first_number() -> None:
    """Its books know of none."""
    after = Rig().next_boot(NEXT)
    after.link_up()
    after.put("tick", 1)
    assert after.losses("tick") == [(1, {"boot": "0123456789abcdef", "from": 1, "reason": "crash"})]


def test_two_kills_are_two_gaps_on_two_messages() -> None:
    it = Rig()
    it.put("tick", 1, 2)
    it.advance(0.1)
    third = it.next_boot("00000000000000b2").next_boot("00000000000000c3")
    third.link_up()
    third.put("tick", 3, 4, 5)
    third.advance(1)
    assert third.losses("tick") == [
        (1, {"boot": "00000000000000b2", "from": 1, "reason": "crash"}),
        (2, {"boot": it.boot, "from": 3, "reason": "crash"}),
    ]


# ── what is written ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-13", breaks="chappe.core.keeper:Keeper.entered")
@pytest.mark.parametrize(("ack_after", "rows"), [(0.249, 0), (0.251, 1)])
def test_a_row_is_written_only_if_its_acknowledgement_takes_250_ms(ack_after: float, rows: int) -> None:
    """249 ms: never; 251 ms: once, and deleted again."""
    it = Rig()
    it.link_up()
    it.advance(1)
    it.ack_after = ack_after
    it.put("tick", 1)
    it.advance(5)
    assert len(it.written) == rows
    assert [len(commit.gone) for commit in it.commits if commit.gone] == [1] * rows
    assert it.rows == {}
    assert it.book("tick")["delivered"] == 1


@pytest.mark.feature("OUT-13", breaks="chappe.core.keeper:Keeper.entered")
@pytest.mark.parametrize(("ack_after", "written"), [(0.249, False), (0.251, True)])
def test_two_hundred_a_second_wear_no_card_while_the_broker_answers_in_time(ack_after: float, written: bool) -> None:
    """200/s of 200 B: not one row; with a slower broker each at most once, and none stays."""
    it = Rig("[history]\nbytes = 1024\n[streams.tick]\n")
    it.ack_after = ack_after
    it.link_up()
    it.advance(1)
    n = 12_000 if NIGHTLY else 400
    for count in range(n):
        it.until(1 + count / 200)
        it.put("tick", "x" * 180)
    it.advance(2)
    assert bool(it.written) is written
    assert len(set(it.written)) == len(it.written)
    assert (it.rows, it.book("tick")["delivered"]) == ({}, n)


def test_young_rows_are_left_for_their_acknowledgement() -> None:
    """When the oldest is 250 ms old, those older than 125 ms go to disk, and no others."""
    it = Rig()
    it.ack = no_acks
    it.link_up()
    it.advance(1)
    it.spread(24, 100, "tick")  # at 1.00, 1.01 … 1.23 s
    it.until(1.249)
    assert it.rows == {}
    it.until(1.25)
    assert [row.seq for row in it.rows.values()] == list(range(1, 14))  # accepted until 1.125 s


def test_first_is_written_at_once_and_then_in_groups_20_ms_apart() -> None:
    it = Rig(SOUND)
    it.link_up()
    it.advance(1)
    before = len(it.commits)
    it.spread(20, 200, "sure")  # at 1.000, 1.005 … 1.095 s
    it.advance(1)
    groups = [(commit.at / SECOND, len(commit.rows)) for commit in it.commits[before:] if commit.rows]
    assert groups == [(1.0, 1), (1.02, 3), (1.04, 4), (1.06, 4), (1.08, 4), (1.1, 4)]


def test_a_first_row_leaves_when_its_commit_is_done_and_not_before() -> None:
    it = Rig(SOUND)
    it.link_up()
    it.advance(1)
    it.shelf.delay = ns(0.03)
    it.put("sure", 1)
    it.advance(1)
    assert [m.at for m in it.stream("sure")] == [1.03]


def test_when_the_link_is_lost_all_that_is_not_acknowledged_goes_to_disk_at_once() -> None:
    it = Rig()
    it.ack = no_acks
    it.link_up()
    it.advance(1)
    it.put("tick", 1, 2)
    it.advance(0.01)
    assert it.rows == {}
    it.link_down()
    assert [row.seq for row in it.rows.values()] == [1, 2]
    it.put("tick", 3)
    it.advance(0.02)
    assert [row.seq for row in it.rows.values()] == [1, 2, 3]


def test_latest_is_written_every_ten_seconds_and_at_a_stop(folder: Path | None) -> None:
    it = open_rig(folder, KINDS)
    it.advance(1)
    it.spread(200, 10, "room")
    assert [commit.at / SECOND for commit in it.commits if commit.rows] == [11.0, 21.0]
    it.put("room", "last")
    it.stop()
    assert [row.data for row in it.commits[-1].rows] == [b'{"value":"last"}']


@pytest.mark.feature("OUT-03", breaks="chappe.core.sender:Sender._write_first")
def test_a_latest_row_that_has_changed_since_it_was_written_is_written_again_before_it_leaves(
    folder: Path | None,
) -> None:
    """Else a kill would bring the same number again with the older value."""
    it = open_rig(folder, KINDS)
    it.put("room", 1)
    it.advance(11)
    it.put("room", 2)
    it.ack = no_acks
    it.link_up()
    it.advance(0.1)
    assert it.values("room") == [2]
    after = killed(it, folder)
    after.link_up()
    after.advance(0.1)
    assert contents(after.bytes_of("room")) == contents(it.bytes_of("room"))


def test_values_that_come_faster_than_commits_do_not_keep_a_row_from_leaving() -> None:
    """While it is written for leaving, newer values wait behind it."""
    it = Rig(KINDS)
    it.put("room", 0)
    it.advance(11)
    it.put("room", 1)
    it.shelf.delay = ns(0.02)
    it.link_up()
    it.spread(50, 1000, "room", first=2)
    it.advance(1)
    assert it.stream("room")[0].at == pytest.approx(11.02, abs=0.001)
    assert it.stream("room")[0].data["value"] in (1, 2)
    assert it.values("room")[-1] == 51
    assert it.seqs("room") == list(range(1, len(it.seqs("room")) + 1))
    assert it.audits


def test_neither_memory_nor_transient_is_ever_written() -> None:
    it = Rig(SOUND + KINDS)
    it.put("soft", 1, 2)
    it.put("pose", 1, 2)
    it.advance(60)
    it.stop()
    assert it.written == []


def test_a_thousand_acknowledgements_or_250_ms_delete_what_was_written() -> None:
    it = Rig('[mqtt]\ndrain_rate = "max"\n[streams.tick]\n')
    it.window = 2000
    it.put("tick", *range(1010))
    it.advance(1)
    assert len(it.rows) == 1010
    before = len(it.commits)
    it.link_up()
    assert [len(commit.gone) for commit in it.commits[before:] if commit.gone] == [1000]
    it.advance(0.25)
    assert len(it.rows) == 0


def test_the_books_alone_are_written_at_most_every_ten_seconds() -> None:
    it = Rig()
    it.link_up()
    it.spread(350, 10, "tick")
    commits = [commit for commit in it.commits if "tick" in commit.lanes][1:]
    assert [commit.at / SECOND for commit in commits] == [10.0, 20.0, 30.0]
    assert it.written == []


# ── deleted only after a PUBACK with success ─────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-03", breaks="chappe.core.row:restored")
def test_a_row_stays_on_disk_until_its_success(folder: Path | None) -> None:
    """Not for having been sent, not for a refusal, not for a connection that ends; a kill in between brings it again."""
    it = open_rig(folder, "[streams.tick]\n")
    answers: list[int | None] = [None, 0x97, 0x87]
    it.ack = lambda message: answers[0] if stream_of(message) else 0
    it.put("tick", 1)
    it.advance(0.1)
    for wait in (1, 2, 61):
        it.link_up()
        it.advance(wait)
        it.link_down()
        answers.append(answers.pop(0))
        assert it.deleted("tick") == []
    after = killed(it, folder)
    after.link_up()
    after.advance(1)
    assert contents(after.bytes_of("tick")) == contents(it.bytes_of("tick")[:1])
    assert len(after.deleted("tick")) == 1
    assert killed(after, None if folder is None else folder.with_name("stateb2"), "00000000000000c3").seqs("tick") == []


class KilledError(Exception):
    """This was its last effect."""


class Mortal(Rig):
    """A rig that dies at its n-th effect: those before it were obeyed, the others never.

    Of each connection the broker hears the first `reach` messages, of which the first `acked` are acknowledged.
    """

    consumer = Consumer()
    life = reach = acked = unwritten = 0
    store_first = False

    def link_up(self, protocol: str = "5", max_packet: int = 0) -> None:
        self.ack = self.hear
        super().link_up(protocol, max_packet)

    def hear(self, message: Published) -> int | None:
        self.reach, self.acked = self.reach - 1, self.acked - 1
        if self.reach >= 0 and stream_of(message):
            self.consumer.take(stream_of(message), message.payload)
        return 0 if self.acked >= 0 else None

    def _step(self, event: ev.Event) -> None:
        self.unwritten += len(event.items) if isinstance(event, ev.Acked) else 0
        super()._step(event)

    def _carry_out(self, effects: Iterable[ef.Effect]) -> None:
        effects = list(effects)
        if not self.life or len(effects) < self.life:
            self.life -= len(effects) if self.life else 0
            self.unwritten = 0 if any(isinstance(effect, ef.Commit) for effect in effects) else self.unwritten
            super()._carry_out(effects)
            return
        if self.store_first:
            effects.sort(key=lambda effect: isinstance(effect, ef.Publish))
        super()._carry_out(effects[: self.life - 1])
        raise KilledError


def connect(it: Mortal, chance: random.Random) -> None:
    if it.engine.wire.status == "online":
        it.link_down()
        it.advance(0.01)
    it.reach = chance.randrange(100)
    it.acked = chance.randrange(it.reach + 1)
    it.ack_after = chance.choice([0.0, 0.002, 0.3])
    it.link_up()


def live(it: Mortal, values: int, chance: random.Random) -> None:
    """One boot: values every few ms, a link that comes and goes, and death when it comes."""
    try:
        connect(it, chance)
        for value in range(values):
            it.put(chance.choice(["tick", "sure"]), value)
            it.advance(chance.choice([0.001, 0.01, 0.1]))
            if chance.random() < 0.1:
                connect(it, chance)
    except KilledError:
        return


def again(it: Mortal) -> dict[str, int]:
    """How many messages of each stream the consumer has and the next boot will send again."""
    rows = [row.stream for row in it.rows.values() if (row.stream, row.boot, row.seq) in it.consumer.got]
    return {stream: rows.count(stream) for stream in ("tick", "sure")}


@pytest.mark.feature("OUT-03", breaks="chappe.core.lane:Lane.take_all_back")
def test_over_two_hundred_kills_whatever_was_accepted_arrives_in_order() -> None:
    """5,000 values; repeats: at most a window per kill, and what was acknowledged since the last commit; no hole is undisclosed."""
    chance, consumer, accepted, before = dice(3), Consumer(), set[tuple[str, str, int]](), {"tick": 0, "sure": 0}
    it = Mortal("[streams.tick]\n[streams.sure]\ndurability = 'first'\n")
    for number in range(1, 201):
        it.consumer, it.window = consumer, 20
        it.life, it.store_first = chance.randrange(1, 125), chance.random() < 0.5
        live(it, 25, chance)
        accepted |= {(row.stream, row.boot, row.seq) for row in it.rows.values()}
        found = again(it)
        assert all(n <= max(before[stream], it.window + it.unwritten) for stream, n in found.items())
        it.life, before = 0, found
        it = it.next_boot(f"{number:016x}")
    it.consumer, it.reach, it.acked = consumer, 1 << 30, 1 << 30
    it.link_up()
    for _ in range(200):
        it.put("tick", 0)
        it.put("sure", 0)
    it.advance(60)
    assert it.engine.context.outbox.empty
    assert it.audits
    assert len(accepted) > 1000
    assert consumer.repeats > 100
    assert accepted <= consumer.got.keys()
    orderly_and_without_holes(consumer)


def orderly_and_without_holes(consumer: Consumer) -> None:
    boots = ["0123456789abcdef", *(f"{number:016x}" for number in range(1, 201))]
    for stream in ("tick", "sure"):
        order = [(boots.index(boot), seq) for name, boot, seq in consumer.order if name == stream]
        assert order == sorted(order)
        newest = dict(order)
        holes = [
            (boots[boot], seq)
            for boot, last in newest.items()
            for seq in range(1, last + 1)
            if not consumer.knows(stream, boots[boot], seq)
        ]
        assert holes == []


# ── the books over a kill ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-12", breaks="chappe.core.batch:Scribe._entry")
def test_after_a_kill_the_books_are_those_of_the_last_commit(folder: Path | None) -> None:
    """What came later is in no column."""
    it = open_rig(folder, SOUND)
    it.link_up()
    it.put("fast", 1, 2, 3)
    it.advance(11)
    it.link_down()
    it.put("fast", 4, 5)
    it.advance(0.1)
    it.link_up()
    it.put("fast", 6, 7)  # delivered at once; the books have not been written since
    last = [commit.lanes["fast"].book for commit in it.commits if "fast" in commit.lanes][-1]
    assert (last.produced, last.delivered, last.queued) == (5, 3, 2)
    after = killed(it, folder)
    assert after.book("fast") == {name: getattr(last, name) for name in last.__struct_fields__}
    assert after.audits


@pytest.mark.parametrize("moment", range(0, 60, 3))
def test_whenever_it_is_killed_the_books_on_disk_balance_and_agree_with_the_rows(moment: int) -> None:
    it = Rig(SOUND + "[outbox]\nrows = 40\n")
    it.ack_after = 0.3
    for count in range(moment):
        it.put(("sure", "fast", "soft")[count % 3], count)
        it.advance(0.04)
        if count % 20 == 10:
            it.link_up()
        if count % 20 == 0:
            it.link_down()
    for name, entry in it.shelf.tables.lanes.items():
        there = [row for row in it.rows.values() if row.stream == name]
        assert entry.book.balanced
        assert entry.book.queued == entry.rows == len(there)
    assert it.next_boot(NEXT).audits


# ── a clean stop ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stop_waits_a_second_for_acknowledgements_then_writes_what_is_left(folder: Path | None) -> None:
    """Within 5 s in all; the next boot says nothing of a crash, and sends it again with the same content."""
    it = open_rig(folder, SOUND)
    it.ack = no_acks
    it.link_up()
    it.advance(0.1)
    it.put("fast", 1)
    it.put("soft", 1)
    it.stop()
    assert it.finished == 1.1
    assert it.commits[-1].clean
    assert it.last("T/state") == {"status": "stopped", "boot": it.boot, "last": {"fast": 1, "soft": 1}}
    assert (it.book("fast")["queued"], it.book("soft")["spilled"]) == (1, 1)
    it.store.close()
    after = killed(it, folder)
    after.link_up()
    after.put("fast", 2)
    after.put("soft", 2)
    after.advance(1)
    assert contents(after.bytes_of("fast"))[0] == contents(it.bytes_of("fast"))[0]
    assert after.losses("fast") == []
    assert after.losses("soft") == [(1, {"from": 1, "to": 1, "n": 1, "reason": "spilled", "boot": it.boot})]


def test_a_stop_while_a_commit_is_under_way_loses_nothing_of_it() -> None:
    it = Rig()
    it.shelf.delay = ns(0.5)
    it.advance(1)
    it.put("tick", 1)
    it.advance(0.01)
    it.put("tick", 2)
    it.feed(ev.StopRequested(at=it.clock.now()))
    assert it.finished is not None
    it.store.close()
    after = it.next_boot(NEXT)
    after.link_up()
    assert after.values("tick") == [1, 2]
    assert after.audits


# ── a consumer's word ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("HIS-06", breaks="chappe.core.returns:Returns.confirm")
def test_a_confirmed_stream_keeps_its_rows_until_a_consumer_has_them(folder: Path | None) -> None:
    """A PUBACK alone keeps the row, a receipt removes it; none for 60 s: sent again, same number and bytes."""
    it = open_rig(folder, CONFIRMED)
    it.link_up()
    it.put("tick", 1)
    it.advance(59.9)
    assert (it.seqs("tick"), it.engine.context.outbox.lanes["tick"].depth) == ([1], 1)
    it.advance(0.1)
    assert [(m.at, m.payload["seq"]) for m in it.stream("tick")] == [(0.0, 1), (60.0, 1)]
    assert len(set(it.bytes_of("tick"))) == 1
    after = killed(it, folder)
    after.link_up()
    after.advance(1)
    assert contents(after.bytes_of("tick")) == contents(it.bytes_of("tick")[:1])
    after.receipt("tick", 1, it.boot)
    after.advance(120)
    assert (after.seqs("tick"), after.engine.context.outbox.lanes["tick"].depth) == ([1], 0)
    assert len(after.deleted("tick")) == 1
    assert after.audits


@pytest.mark.feature("HIS-06", breaks="chappe.core.lane:Lane.confirmed")
def test_one_receipt_of_three_forgets_one_row_of_three() -> None:
    it = Rig(CONFIRMED)
    it.link_up()
    it.put("tick", 1, 2, 3)
    it.advance(1)
    assert (it.book("tick")["delivered"], len(it.rows)) == (0, 3)
    it.receipt("tick", 2)
    it.advance(1)
    assert [row.seq for row in it.rows.values()] == [1, 3]
    assert (it.book("tick")["delivered"], it.book("tick")["queued"]) == (1, 2)
    it.until(60.0)
    assert it.seqs("tick") == [1, 2, 3, 1, 3]


# ── the broker's word ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("MQT-02", breaks="chappe.core.verdicts:judge")
@pytest.mark.parametrize(
    ("code", "state", "delivered"),
    [(0, "sent", 1), (NO_SUBSCRIBER, "sent", 1), (0x87, "queued", 0), (0x97, "queued", 0), (0x90, "rejected", 0)],
)
def test_what_became_of_a_message_is_judged_by_the_reason_code(code: int, state: str, delivered: int) -> None:
    it = Rig()
    it.ack = lambda message: code if stream_of(message) else 0
    it.link_up()
    it.put("tick", 1)
    found = it.asked("delivery", stream="tick", seq=1)
    assert (found["state"], it.book("tick")["delivered"]) == (state, delivered)
    assert ("no_subscriber" in found["times"]) == (code == NO_SUBSCRIBER)


@pytest.mark.feature("MQT-03", breaks="chappe.core.parts.wire:Wire.acked")
@pytest.mark.parametrize("window", [20, 100])
def test_never_more_is_unacknowledged_than_the_window_allows(window: int) -> None:
    """Last values, answers and streams together; what is acknowledged makes room for as many."""
    it = Rig()
    open_: list[int] = []
    most = 0

    def ack(message: Published) -> int | None:
        nonlocal most
        open_.append(message.token)
        most = max(most, len(open_))
        return None

    it.ack, it.window = ack, window
    it.put("tick", *range(500))
    it.advance(1)
    it.link_up()
    for _ in range(20):
        it.ask("health")
    it.advance(2)
    assert (most, len(it.published)) == (window, window)
    done, open_[:] = open_[:7], open_[7:]
    it.feed(ev.Acked(at=it.clock.now(), items=tuple(ev.Ack(token) for token in done)))
    it.advance(2)
    assert (most, len(it.published)) == (window, window + 7)


class SlowStore(Rig):
    """Its first commit takes half a second."""

    def _open_store(self, left: Shelf | None, folder: Path | None) -> Shelf | Store:
        store = super()._open_store(left, folder)
        assert isinstance(store, Shelf)
        store.delay = ns(0.5)
        return store


def test_no_message_leaves_before_the_store_knows_of_the_boot() -> None:
    """Else a kill would pass unseen, and with it the gap of what was never written."""
    it = SlowStore()
    it.link_up()
    it.put("tick", 1)
    it.advance(2)
    assert [m.at for m in it.stream("tick")] == [0.5]


def test_no_message_is_held_up_by_a_store_that_cannot_write_at_all() -> None:
    it = SlowStore(SOUND)
    it.shelf.fail = "store_failed"
    it.link_up()
    it.put("sure", 1)
    it.advance(2)
    assert [m.at for m in it.stream("sure")] == [0.5]
    assert it.audits
