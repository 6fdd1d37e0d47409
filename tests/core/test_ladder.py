"""The delivery ladder: states only rise, in whatever order the news comes in, and nothing grows without bound."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.core.ladder import NEWEST, RANKS, Ladder
from chappe.core.stored import Standing
from chappe.core.units import SECOND, Ns, WallNs, seconds

BOOT = "0123456789abcdef"
OLD = "fedcba9876543210"
START = 1_795_294_800 * SECOND


def wall(at: Ns) -> WallNs:
    return WallNs(START + at)


def ladder(*found: Standing) -> Ladder:
    return Ladder(wall, {"door", "alert"}, found)


def says(
    who: Ladder, kind: Any, seq: int = 1, *, at: float = 2.0, by: str = "app", stream: str = "tick", **more: Any
) -> Any:
    return who.receipt(stream, BOOT, seq, kind, by, wall(seconds(at)), **more)


# ── up ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("HIS-04", breaks="chappe.core.ladder:Ladder.sent")
def test_a_message_climbs_to_sent_delivered_and_read_each_with_its_time_and_who_said_so() -> None:
    it = ladder()
    it.sent("tick", BOOT, 1, seconds(1.0))
    assert it.of("tick", BOOT, 1)["state"] == "sent"
    says(it, "delivered", at=2.0, by="store")
    assert it.of("tick", BOOT, 1)["state"] == "delivered"
    says(it, "read", at=3.5, by="anna")
    assert it.of("tick", BOOT, 1) == {
        "stream": "tick",
        "boot": BOOT,
        "seq": 1,
        "state": "read",
        "times": {
            "sent": "2026-11-21T21:00:01.000Z",
            "delivered": "2026-11-21T21:00:02.000Z",
            "read": "2026-11-21T21:00:03.500Z",
        },
        "by": {"delivered": "store", "read": "anna"},
    }


@pytest.mark.feature("HIS-04", breaks="chappe.core.ladder:Ladder.receipt")
def test_receipts_in_reverse_order_end_at_read_and_both_times_are_kept() -> None:
    it = ladder()
    it.sent("tick", BOOT, 1, seconds(1.0))
    says(it, "read", at=2.0)
    says(it, "delivered", at=3.0, by="late")
    found = it.of("tick", BOOT, 1)
    assert found["state"] == "read"
    assert found["by"] == {"read": "app", "delivered": "late"}
    assert list(found["times"]) == ["sent", "read", "delivered"]


def test_a_receipt_that_overtakes_the_acknowledgement_is_not_undone_by_it() -> None:
    """`exists` says that the message is in flight."""
    it = ladder()
    assert says(it, "delivered", exists=True).state == "delivered"
    it.sent("tick", BOOT, 1, seconds(5.0))
    assert it.of("tick", BOOT, 1)["state"] == "delivered"
    assert set(it.of("tick", BOOT, 1)["times"]) == {"delivered", "sent"}


def test_a_repeated_receipt_says_nothing_new_and_changes_nothing() -> None:
    """The first time and the first who hold; it is counted as what it is."""
    it = ladder()
    it.sent("tick", BOOT, 1, seconds(1.0))
    assert says(it, "delivered", at=2.0, by="first") is not None
    before = it.of("tick", BOOT, 1)
    assert says(it, "delivered", at=9.0, by="second") is None
    assert it.of("tick", BOOT, 1) == before
    assert (it.repeated, it.unknown) == (1, 0)


@pytest.mark.parametrize(("stream", "boot", "seq"), [("tick", BOOT, 2), ("tick", OLD, 1), ("other", BOOT, 1)])
def test_a_receipt_for_a_message_never_sent_is_counted_and_forgotten(stream: str, boot: str, seq: int) -> None:
    it = ladder()
    it.sent("tick", BOOT, 1, seconds(1.0))
    assert it.receipt(stream, boot, seq, "read", "app", wall(seconds(2.0))) is None
    assert it.unknown == 1
    assert it.of(stream, boot, seq) is None


def test_a_message_that_nobody_listened_for_says_so_and_is_sent_all_the_same() -> None:
    """PUBACK 0x10."""
    it = ladder()
    it.sent("tick", BOOT, 1, seconds(1.0), no_subscriber=True)
    found = it.of("tick", BOOT, 1)
    assert found["state"] == "sent"
    assert set(found["times"]) == {"sent", "no_subscriber"}


# ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("end", ["expired", "spilled", "rejected", "recalled"])
def test_a_message_that_was_given_up_says_how(end: Any) -> None:
    it = ladder()
    it.ended("tick", BOOT, 1, end, seconds(1.0))
    assert it.of("tick", BOOT, 1)["state"] == end


def test_a_dead_letter_that_is_retried_is_sent_after_all() -> None:
    it = ladder()
    it.ended("tick", BOOT, 1, "rejected", seconds(1.0))
    it.sent("tick", BOOT, 1, seconds(2.0))
    assert it.of("tick", BOOT, 1)["state"] == "sent"
    assert set(it.of("tick", BOOT, 1)["times"]) == {"rejected", "sent"}


def test_what_nobody_confirmed_until_it_expired_ends_as_expired() -> None:
    """The broker had it, and the stream waited for a consumer's word in vain."""
    it = ladder()
    it.sent("door", BOOT, 1, seconds(1.0))
    it.ended("door", BOOT, 1, "expired", seconds(2.0))
    assert it.of("door", BOOT, 1)["state"] == "expired"
    assert says(it, "delivered", stream="door").state == "delivered"


# ── kept on disk ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("HIS-04", breaks="chappe.core.ladder:Ladder.changed")
def test_streams_that_are_kept_tell_each_change_once_and_others_tell_none() -> None:
    it = ladder()
    it.sent("tick", BOOT, 1, seconds(1.0))
    it.sent("door", BOOT, 1, seconds(1.0))
    it.sent("door", BOOT, 2, seconds(1.0))
    says(it, "read", 2, stream="door", at=2.0)
    assert it.dirty
    changed = it.changed()
    assert [(each.seq, each.state, sorted(each.times)) for each in changed] == [
        (1, "sent", ["sent"]),
        (2, "read", ["read", "sent"]),
    ]
    assert not it.dirty
    assert it.changed() == ()


def test_what_an_earlier_boot_kept_goes_on_from_where_it_was() -> None:
    before = ladder()
    before.sent("door", OLD, 7, seconds(1.0))
    before.receipt("door", OLD, 7, "read", "anna", wall(seconds(2.0)))
    it = ladder(*before.changed())
    assert it.of("door", OLD, 7) == before.of("door", OLD, 7)
    it.sent("door", OLD, 7, seconds(9.0))
    assert it.of("door", OLD, 7)["state"] == "read"
    assert not Ladder(wall, {"door"}, it.changed()).dirty


# ── bounds ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", ["tick", "door"])
def test_only_the_newest_are_known_whatever_comes(stream: str) -> None:
    """Also while nobody asks; what is forgotten is not told to the store either."""
    it = ladder()
    for seq in range(1, NEWEST + 101):
        it.sent(stream, BOOT, seq, seconds(1.0))
    assert it.of(stream, BOOT, 100) is None
    assert it.of(stream, BOOT, 101) is not None
    for seq in range(NEWEST + 101, NEWEST + 201):
        it.sent(stream, BOOT, seq, seconds(1.0))
        says(it, "read", seq, stream=stream)
    assert it.of(stream, BOOT, 200) is None
    assert it.of(stream, BOOT, 201) is not None
    assert len(it._recent) + len(it._lasting) == NEWEST
    assert len(it.changed()) <= NEWEST


def test_a_busy_stream_does_not_push_out_what_is_kept() -> None:
    it = ladder()
    it.sent("alert", BOOT, 1, seconds(1.0))
    for seq in range(1, 2 * NEWEST):
        it.sent("tick", BOOT, seq, seconds(1.0))
    assert it.of("alert", BOOT, 1)["state"] == "sent"


# ── any order ────────────────────────────────────────────────────────────────────────────────────────────────────────

NEWS = st.tuples(
    st.sampled_from(["sent", "unheard", "expired", "spilled", "rejected", "recalled", "delivered", "read"]),
    st.integers(1, 3),
    st.booleans(),
)


@pytest.mark.feature("HIS-04", breaks="chappe.core.ladder:_risen")
@given(st.lists(NEWS, max_size=30), st.sampled_from(["tick", "door"]))
def test_no_news_in_any_order_lets_a_message_fall_back(news: list[tuple[str, int, bool]], stream: str) -> None:
    """And the first time of each state stays, whether somebody asks in between or not."""
    it = ladder()
    best: dict[int, int] = {}
    first: dict[tuple[int, str], int] = {}
    for moment, (word, seq, ask) in enumerate(news):
        now = Ns(moment * SECOND)
        what = "sent" if word == "unheard" else word
        if what == "sent":
            it.sent(stream, BOOT, seq, now, word == "unheard")
        elif what in ("delivered", "read"):
            says(it, what, seq, at=moment, stream=stream, exists=True)
        else:
            it.ended(stream, BOOT, seq, what, now)
        best[seq] = max(best.get(seq, 0), RANKS[what])
        first.setdefault((seq, what), moment)
        if ask:
            assert RANKS[it.of(stream, BOOT, seq)["state"]] == best[seq]
    for seq, rank in best.items():
        found = it.of(stream, BOOT, seq)
        assert RANKS[found["state"]] == rank
        times = {state: at for state, at in found["times"].items() if state != "no_subscriber"}
        assert {state: f"{at // 60:02}:{at % 60:02}" for (one, state), at in first.items() if one == seq} == {
            state: at[14:19] for state, at in times.items()
        }
