"""`chappe bench outage`: the judge finds what was lost, disclosed, repeated, out of order and exposed, in runs made up for it."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from chappe.bench.outage.counter import Arrival
from chappe.bench.outage.judge import Course, Figures, Kill, Message, Row, disorder, judge, messages, total

MS = 1_000_000
BLANK = Figures("kill_outage", "Chappe, behind", "1")
OLD, NEW = "a" * 16, "b" * 16


def sent(seq: int, *, boot: str = OLD, value: int | None = None, at: int = 0, **more: object) -> Message:
    """A message as it arrived; value n is number n + 1 of the first boot."""
    return Message(at or seq * 10 * MS, "tick", boot, seq, seq - 1 if value is None else value, **more)  # type: ignore[arg-type]


def row(seq: int, boot: str = OLD) -> Row:
    return Row("tick", boot, seq, seq - 1)


def every_10_ms(count: int) -> list[int]:
    """Value n was offered at (n + 1) * 10 ms."""
    return [(n + 1) * 10 * MS for n in range(count)]


def test_a_run_in_which_all_arrives_has_nothing_to_say() -> None:
    figures = judge("tick", [sent(n) for n in range(1, 6)], Course(), every_10_ms(5), BLANK)
    assert (figures.offered, figures.accepted, figures.lost, figures.repeats, figures.disorder) == (5, 5, 0, 0, 0)
    assert (figures.exposure_ms, figures.first_s, figures.drain_s) == (None, None, None)


def test_a_hole_below_the_last_number_is_a_loss_although_nobody_has_a_row_of_it() -> None:
    figures = judge("tick", [sent(1), sent(2), sent(5)], Course(), every_10_ms(5), BLANK)
    assert figures.lost == 2


def test_what_was_in_the_store_and_never_arrived_is_lost() -> None:
    course = Course(kills=[Kill(60 * MS, rows=[row(3), row(4)])])
    figures = judge("tick", [sent(1), sent(2), sent(3)], course, every_10_ms(4), BLANK)
    assert (figures.accepted, figures.lost) == (4, 1)


def test_what_another_reader_saw_committed_counts_although_the_power_cut_took_it() -> None:
    """The copy after the cut alone would define loss away."""
    course = Course(kills=[Kill(60 * MS, rows=[row(1)], seen=[row(1), row(2)])])
    figures = judge("tick", [sent(1)], course, every_10_ms(2), BLANK)
    assert (figures.accepted, figures.lost) == (2, 1)


def test_what_still_waits_at_the_end_is_not_lost() -> None:
    figures = judge("tick", [sent(1)], Course(left=[row(2)], last={"tick": 2}), every_10_ms(2), BLANK)
    assert (figures.accepted, figures.lost) == (2, 0)


def test_the_goodbye_tells_of_a_lost_end() -> None:
    """Without it a run whose last messages are gone looks whole."""
    assert judge("tick", [sent(1)], Course(), every_10_ms(3), BLANK).lost == 0
    assert judge("tick", [sent(1)], Course(last={"tick": 3}), every_10_ms(3), BLANK).lost == 2


def test_a_disclosed_hole_is_counted_as_disclosed() -> None:
    gap = {"from": 2, "to": 3, "n": 2, "reason": "spilled"}
    figures = judge("tick", [sent(1), sent(4, lost=gap)], Course(), every_10_ms(4), BLANK)
    assert (figures.lost, figures.disclosed) == (0, 2)


def test_a_gap_of_another_boot_discloses_nothing_of_this_one() -> None:
    gap = {"boot": NEW, "from": 2, "to": 3, "n": 2, "reason": "spilled"}
    figures = judge("tick", [sent(1), sent(4, lost=gap)], Course(), every_10_ms(4), BLANK)
    assert (figures.lost, figures.disclosed) == (2, 0)


def test_a_crash_discloses_what_nobody_had_accepted() -> None:
    """Five offered, three accepted, killed: the next boot says that from number 4 on nothing is known."""
    gap = {"boot": OLD, "from": 4, "reason": "crash"}
    received = [*(sent(n) for n in (1, 2, 3)), sent(1, boot=NEW, value=5, at=90 * MS, lost=gap)]
    course = Course(recovered=80 * MS, kills=[Kill(51 * MS, rows=[row(3)])])
    figures = judge("tick", received, course, every_10_ms(6), BLANK)
    assert (figures.accepted, figures.lost, figures.disclosed) == (4, 0, 2)
    silent = [*received[:3], sent(1, boot=NEW, value=5, at=90 * MS)]
    assert judge("tick", silent, course, every_10_ms(6), BLANK).disclosed == 0


def test_exposure_is_the_age_of_the_newest_accepted_value_at_the_kill() -> None:
    course = Course(kills=[Kill(95 * MS, rows=[row(3)])])
    received = [sent(1), sent(2), sent(3), sent(1, boot=NEW, value=20)]
    assert judge("tick", received, course, every_10_ms(21), BLANK).exposure_ms == 65.0


def test_of_several_kills_the_worst_exposure_counts() -> None:
    course = Course(kills=[Kill(31 * MS, rows=[row(3)]), Kill(75 * MS, rows=[row(3)])])
    assert judge("tick", [sent(n) for n in (1, 2, 3)], course, every_10_ms(7), BLANK).exposure_ms == 45.0


def test_repeats_are_counted_before_and_after_deduplication() -> None:
    received = [sent(1), sent(1), sent(2), sent(3, value=1)]
    figures = judge("tick", received, Course(), every_10_ms(2), BLANK)
    assert (figures.repeats, figures.repeats_after) == (1, 1)


def test_other_streams_are_not_mixed_in() -> None:
    other = Message(5, "fault", OLD, 7, -1)
    figures = judge("tick", [sent(1), other, sent(2)], Course(left=[Row("fault", OLD, 9, -1)]), every_10_ms(2), BLANK)
    assert (figures.accepted, figures.lost) == (2, 0)


def test_recovery_is_timed_to_the_first_message_and_to_the_last_of_the_backlog() -> None:
    received = [
        sent(1, at=11 * MS),
        sent(2, at=130 * MS),
        sent(3, at=150 * MS),
        sent(13, value=12, at=160 * MS),
    ]
    course = Course(recovered=100 * MS, left=[row(n) for n in range(4, 13)])
    figures = judge("tick", received, course, every_10_ms(13), BLANK)
    assert (figures.first_s, figures.drain_s) == (0.03, 0.05)


@given(st.permutations(range(1, 8)))
def test_order_is_whole_only_where_numbers_rise(seqs: list[int]) -> None:
    """Exactly the messages that come behind a higher number are wrong."""
    wrong = sum(any(before > seq for before in seqs[:place]) for place, seq in enumerate(seqs))
    assert disorder([sent(seq) for seq in seqs]) == wrong


def test_an_earlier_boot_behind_a_later_one_is_out_of_order() -> None:
    assert disorder([sent(1), sent(1, boot=NEW), sent(2)]) == 1
    assert disorder([sent(1), sent(2), sent(1, boot=NEW)]) == 0


@given(
    st.sets(st.integers(1, 30)),
    st.sets(st.integers(1, 30)),
    st.integers(0, 30),
    st.lists(st.integers(1, 30), max_size=5),
)
def test_every_number_is_accounted_for_once(stored: set[int], got: set[int], last: int, again: list[int]) -> None:
    """Lost is what was known to exist (up to the last number) and did not arrive, whatever came twice."""
    received = [sent(n) for n in sorted(got)] + [sent(n) for n in again if n in got]
    course = Course(kills=[Kill(1, rows=[row(n) for n in stored])], last={"tick": last} if stored | got else {})
    figures = judge("tick", received, course, every_10_ms(30), BLANK)
    top = max(stored | got | {last}) if stored | got else 0
    assert figures.lost == len(set(range(1, top + 1)) - got)
    assert figures.repeats == sum(n in got for n in again)


def test_messages_are_read_from_topics_of_streams_alone() -> None:
    body = {"boot": OLD, "seq": 4, "data": {"value": 17}, "late": True, "lost": {"from": 3, "to": 3}}
    found = messages(
        [
            Arrival(1, "chappe/bench/state", b'{"status":"online"}'),
            Arrival(2, "chappe/bench/stream/tick", json.dumps(body).encode()),
            Arrival(
                3, "chappe/bench/stream/fault", json.dumps({**body, "data": {"part": "x"}, "late": False}).encode()
            ),
        ]
    )
    assert found == [
        Message(2, "tick", OLD, 4, 17, late=True, lost={"from": 3, "to": 3}),
        Message(3, "fault", OLD, 4, -1, late=False, lost={"from": 3, "to": 3}),
    ]


def test_rounds_add_up_and_keep_the_worst_time() -> None:
    rounds = [
        Figures("refused", "Chappe, first", "1", 100, 99, 1, 2, 3, 4, 5, exposure_ms=10.0, first_s=0.5, note="a"),
        Figures("refused", "Chappe, first", "1", 200, 200, 0, 0, 1, 0, 0, exposure_ms=20.0, first_s=0.2, drain_s=3.0),
    ]
    one = total(rounds)
    assert (one.offered, one.accepted, one.lost, one.disclosed) == (300, 299, 1, 2)
    assert (one.repeats, one.repeats_after, one.disorder) == (4, 4, 5)
    assert (one.exposure_ms, one.first_s, one.drain_s, one.note) == (20.0, 0.5, 3.0, "a")
