"""The choice between MQTT 5 and 3.1.1, as a table of outcomes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.core.units import MILLISECOND, SECOND, Ns
from chappe.edge.mqtt.terms import Outcome
from chappe.edge.mqtt.versions import Versions

LONGEST = Ns(5 * SECOND)
OUTCOMES: tuple[Outcome, ...] = ("unsupported", "closed", "silent", "other")


def play(versions: Versions, outcomes: str) -> str:
    """The versions spoken (5 or 3) when attempts end as told: u, c, s, o; ``!`` follows one that is repeated at once."""
    names: dict[str, Outcome] = {outcome[0]: outcome for outcome in OUTCOMES}
    spoken = ""
    for letter in outcomes:
        version = versions.next
        spoken += version[0] + ("!" if versions.failed(version, names[letter]) else "")
    return spoken + versions.next[0]


@pytest.mark.parametrize(
    ("outcomes", "spoken"),
    [
        ("u", "5!3"),
        ("uo", "5!35"),
        ("uu", "5!35"),
        ("c", "55"),
        ("cc", "55!3"),
        ("ccc", "55!35"),
        ("cccc", "55!355"),
        ("ccccc", "55!355!3"),
        ("coc", "5555"),
        ("csc", "55!35"),
        ("s", "5!3"),
        ("ss", "5!35"),
        ("sss", "5!35!3"),
        ("o", "55"),
        ("ooo", "5555"),
    ],
)
def test_what_follows_what(outcomes: str, spoken: str) -> None:
    """Refused or silent: 3.1.1 at once; closed: the second time running; 3.1.1 gets one attempt; other failures say nothing."""
    assert play(Versions(), outcomes) == spoken


@given(st.text("ucso", max_size=20))
def test_where_5_has_worked_it_stays(outcomes: str) -> None:
    """No outcome makes 3.1.1 of a broker that has spoken MQTT 5."""
    versions = Versions()
    play(versions, outcomes)
    versions.worked("5")
    assert set(play(versions, outcomes)) == {"5"}


@given(st.text("ucso", max_size=20), st.sampled_from(["5", "3.1.1"]))
def test_a_forced_version_stays(outcomes: str, forced: str) -> None:
    """Nothing changes a version that the owner chose, and nothing is repeated at once."""
    versions = Versions(forced)  # type: ignore[arg-type]
    assert set(play(versions, outcomes)) == {forced[0]}


@given(st.text("ucso", max_size=30))
def test_nothing_is_repeated_at_once_twice_running(outcomes: str) -> None:
    """A fallback is one attempt: the one after it always waits."""
    assert "!3!" not in play(Versions(), outcomes)


def test_3_1_1_that_worked_is_not_kept() -> None:
    """The connection after one on 3.1.1 starts with 5 again: the broker may have been upgraded."""
    versions = Versions()
    versions.failed("5", "unsupported")
    versions.worked("3.1.1")
    assert play(versions, "u") == "5!3"


def test_patience_grows_when_both_versions_met_silence() -> None:
    """First a second for each; a broker that is silent to both gets the whole connect timeout from then on."""
    versions = Versions()
    assert versions.patience(LONGEST, Ns(0)) == SECOND
    versions.failed("5", "silent")
    assert versions.patience(LONGEST, Ns(0)) == SECOND
    versions.failed("3.1.1", "silent")
    assert versions.patience(LONGEST, Ns(0)) == LONGEST
    versions.worked("3.1.1")
    assert versions.patience(LONGEST, Ns(0)) == SECOND


@pytest.mark.parametrize(
    ("round_trip", "expected"), [(10 * MILLISECOND, SECOND), (400 * MILLISECOND, 3200 * MILLISECOND), (SECOND, LONGEST)]
)
def test_a_slow_link_is_not_taken_for_a_silent_broker(round_trip: int, expected: int) -> None:
    """Patience is eight round trips, at least a second, at most the connect timeout."""
    assert Versions().patience(LONGEST, Ns(round_trip)) == expected


def test_a_short_connect_timeout_wins() -> None:
    """Nobody waits longer than configured."""
    assert Versions().patience(Ns(SECOND // 2), Ns(0)) == SECOND // 2


@pytest.mark.parametrize("versions", [Versions("5"), Versions("3.1.1")])
def test_where_there_is_no_choice_there_is_no_hurry(versions: Versions) -> None:
    """A forced version, or one that has worked, gets the whole connect timeout."""
    assert versions.patience(LONGEST, Ns(0)) == LONGEST
    proven = Versions()
    proven.worked("5")
    assert proven.patience(LONGEST, Ns(0)) == LONGEST
