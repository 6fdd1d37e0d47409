"""In which order streams leave, how fast a backlog does, and what of it is in memory."""

from __future__ import annotations

import pytest

from chappe.core import events as ev
from chappe.core.drain import STRIDE, Pace, Turns
from chappe.core.units import MILLISECOND, SECOND, Ns
from chappe.testing.world import Published

from .rig import Rig, stream_of

FAST = '[mqtt]\ndrain_rate = "max"\n'
TWO = "[streams.old]\n[streams.new]\n"


def streams(it: Rig) -> list[str]:
    """The streams of all messages, in the order in which they left."""
    return [stream_of(message) for message in it.published if stream_of(message)]


# ── lanes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-10", breaks="chappe.core.drain:_foremost")
def test_an_alert_overtakes_a_thousand_rows_of_lower_priority() -> None:
    """1,000 rows of priority 5, then one alert: it is the first to be published on return."""
    it = Rig()
    it.put("tick", *range(1000))
    it.advance(1)
    it.put("alert", "fire")
    it.advance(1)
    it.link_up()
    it.advance(5)
    assert streams(it) == ["alert", *["tick"] * 1000]
    assert it.seqs("tick") == list(range(1, 1001))


def test_of_streams_of_one_priority_the_oldest_row_leaves_first() -> None:
    it = Rig(FAST + TWO)
    for value in range(6):
        it.put("new" if value % 2 else "old", value)
        it.advance(0.1)
    it.link_up()
    it.advance(0.1)
    assert [m.data["value"] for m in it.published if stream_of(m)] == [0, 1, 2, 3, 4, 5]


def test_nothing_overtakes_within_a_stream_even_when_its_head_is_refused() -> None:
    """A refused head stops its own stream and no other."""
    it = Rig(TWO)
    it.ack = lambda message: 0x97 if stream_of(message) == "old" else 0
    it.link_up()
    it.put("old", 1)
    it.advance(0.5)
    it.put("old", 2)
    it.put("new", 1, 2)
    it.advance(0.4)
    assert (it.seqs("old"), it.seqs("new")) == ([1], [1, 2])
    it.ack = lambda message: 0
    it.advance(1)
    assert it.seqs("old") == [1, 1, 2]


# ── live among the backlog ───────────────────────────────────────────────────────────────────────────────────────────


def drained(live_hz: int, rows: int, seconds: float, config: str) -> Rig:
    """A backlog of `old`, then both: it drains while `new` goes on."""
    it = Rig(config + TWO)
    it.put("old", *range(rows))
    it.advance(1)
    it.link_up()
    for count in range(round(seconds * live_hz)):
        it.until(1 + count / live_hz)
        it.put("new", it.now_s)
    it.until(1 + seconds)
    return it


@pytest.mark.feature("OUT-10", breaks="chappe.core.drain:Turns._backlog_first")
def test_of_five_publishes_one_is_live_while_any_waits() -> None:
    """A link that takes no more than ten at a time, and more live messages than it can take."""
    it = Rig(FAST + TWO)
    it.window = 10
    it.ack_after = 0.1
    it.put("old", *range(200))
    it.advance(1)
    it.link_up()
    it.put("new", *range(100))
    it.advance(4)
    order = streams(it)
    # The first window was full before the first live message came; state, info and signal have a part of it.
    assert order[:7] == ["old"] * 7
    turns = [order[place : place + 5] for place in range(7, 207, 5)]
    assert all(turn.count("new") == 1 for turn in turns)
    assert it.seqs("new") == sorted(it.seqs("new"))
    assert it.audits


@pytest.mark.feature("OUT-10", breaks="chappe.core.sender:Sender.is_late")
def test_live_messages_do_not_wait_for_a_backlog_to_drain() -> None:
    """2,000 rows at 500/s with 10/s of live: each live one leaves in the instant it comes, and is not late."""
    it = drained(10, 2000, 4, "")
    assert [m.at for m in it.stream("new")] == [m.data["value"] for m in it.stream("new")]
    assert [m.payload.get("late", False) for m in it.stream("new")] == [False] * 40
    assert [m.payload.get("late", False) for m in it.stream("old")] == [True] * 2000


def test_live_messages_of_higher_priority_never_wait() -> None:
    it = Rig(FAST + "[streams.old]\n[streams.new]\npriority = 7\n")
    it.window = 10
    it.ack_after = 0.1
    it.put("old", *range(200))
    it.advance(1)
    it.link_up()
    it.put("new", *range(30))
    it.advance(0.45)
    assert streams(it)[:47] == ["old"] * 7 + ["new"] * 30 + ["old"] * 10


# ── pace ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OUT-10", breaks="chappe.core.drain:Pace.spend")
@pytest.mark.parametrize(
    ("rate", "first", "times"),
    [
        (500, 25, [0.0, 0.05, 0.1, 0.15]),
        (100, 5, [0.0, 0.05, 0.1, 0.15]),
        (2, 1, [0.0, 0.5, 1.0, 1.5]),
    ],
)
def test_a_backlog_leaves_at_the_configured_rate_in_strides_of_50_ms(rate: int, first: int, times: list[float]) -> None:
    it = Rig(f"[mqtt]\ndrain_rate = {rate}\n[streams.tick]\n")
    it.put("tick", *range(first * 4))
    it.advance(1)
    it.link_up()
    it.advance(5)
    expected = [1 + at for at in times for _ in range(first)]
    assert [m.at for m in it.stream("tick")] == expected


def test_the_default_rate_is_five_hundred_a_second() -> None:
    """In no second more than 500 and one stride; all of it in as many seconds as it takes."""
    it = Rig()
    it.put("tick", *range(2000))
    it.advance(1)
    it.link_up()
    it.advance(10)
    at = [m.at for m in it.stream("tick")]
    assert len(at) == 2000
    assert at[-1] - at[0] == pytest.approx(3.95)
    assert max(sum(1 for other in at if one <= other < one + 1) for one in set(at)) <= 525


def test_max_sends_as_fast_as_the_window_allows() -> None:
    it = Rig(FAST + "[streams.tick]\n")
    it.put("tick", *range(2000))
    it.advance(1)
    it.link_up()
    it.advance(0)
    assert {m.at for m in it.stream("tick")} == {1.0}
    assert len(it.stream("tick")) == 2000


def test_a_new_connection_begins_with_one_stride_and_not_with_what_was_saved_up() -> None:
    it = Rig()
    it.put("tick", *range(100))
    it.advance(60)
    it.link_up()
    it.link_down()
    it.advance(60)
    it.published.clear()
    it.link_up()
    assert len(it.stream("tick")) == 25


def test_a_pace_tells_when_to_ask_again() -> None:
    pace = Pace(10)
    pace.restart(Ns(0))
    assert pace.allows(Ns(0))
    pace.spend()
    assert not pace.allows(Ns(0))
    assert pace.due == 100 * MILLISECOND
    assert not pace.allows(Ns(99 * MILLISECOND))
    assert pace.due == 100 * MILLISECOND
    assert pace.allows(Ns(100 * MILLISECOND))
    assert pace.due is None


def test_no_limit_never_waits() -> None:
    pace = Pace(None)
    for _ in range(10_000):
        assert pace.allows(Ns(0))
        pace.spend()


def test_whose_turn_it_is_when_nothing_is_ready() -> None:
    assert Turns(Pace(None)).next([], Ns(SECOND)) is None
    assert STRIDE == 50 * MILLISECOND


# ── late ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_late_is_what_waited_for_the_link_and_nothing_else() -> None:
    """Also what came while it was up and was cut before it left; and what an earlier boot left behind."""
    it = Rig()
    it.put("tick", 1)
    it.advance(0.1)
    it.link_up()
    it.put("tick", 2)
    it.window = 0
    it.link_down()
    it.link_up()
    it.put("tick", 3)
    it.advance(1)
    it.link_down()
    it.window = 100
    it.link_up()
    it.put("tick", 4)
    it.advance(1)
    assert [(m.data["value"], m.payload.get("late", False)) for m in it.stream("tick")] == [
        (1, True),
        (2, False),
        (3, True),
        (4, False),
    ]
    assert it.book("tick")["late"] == 2


def test_what_waits_for_the_window_alone_is_not_late() -> None:
    it = Rig()
    it.window = 5
    held: list[int] = []

    def keep(message: Published) -> int | None:
        if stream_of(message):
            held.append(message.token)
            return None
        return 0

    it.ack = keep
    it.link_up()
    it.put("tick", *range(10))
    it.advance(0.1)
    assert len(held) == 5
    it.ack = lambda message: 0
    it.feed(ev.Acked(at=it.clock.now(), items=tuple(ev.Ack(token) for token in held)))
    assert [m.payload.get("late", False) for m in it.stream("tick")] == [False] * 10
