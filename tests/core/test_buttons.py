"""Buttons: scripted edges in, presses out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chappe.core.buttons import Button, Press, Stage
from chappe.core.units import MILLISECOND, SECOND, Ns

EDGE = "chappe.core.buttons:Button.edge"
EXPIRE = "chappe.core.buttons:Button.expire"

Said = list[tuple[float, str]]


class Bench:
    """A button under an engine's rules: every timer up to an edge fires before it. Times in milliseconds."""

    def __init__(self) -> None:
        self.button = Button()
        self.said: Said = []

    def until(self, ms: float) -> Bench:
        now = round(ms * MILLISECOND)
        while (due := self.button.due()) is not None and due <= now:
            self.note(due, self.button.expire(due))
        self.note(now, self.button.expire(Ns(now)))
        return self

    def edge(self, ms: float, *, down: bool) -> Bench:
        self.until(ms)
        now = round(ms * MILLISECOND)
        self.note(now, self.button.edge(down, Ns(now)))
        return self

    def note(self, now: int, presses: list[Press]) -> None:
        self.said += [(now // MILLISECOND, press.value) for press in presses]


def script(*edges: float, until: float = 60_000) -> Said:
    """Edges at these milliseconds, down first and then in turn."""
    bench = Bench()
    for place, at in enumerate(edges):
        bench.edge(at, down=place % 2 == 0)
    return bench.until(until).said


def bounced(at: float, *, count: int, every: float) -> list[float]:
    return [at + place * every for place in range(count)]


SCRIPTS = {
    "short": ([0, 200], [(600, "short")]),
    "double": ([0, 200, 500, 700], [(730, "double")]),
    "two shorts, too far apart": ([0, 200, 601, 700], [(600, "short"), (1100, "short")]),
    "cancelled": ([0, 1500], [(1530, "cancelled")]),
    "long": ([0, 3500], [(3530, "long")]),
    "very long": ([0, 12_000], [(12_030, "very_long")]),
    "let go during the countdown": ([0, 17_000], [(17_030, "cancelled")]),
    "reset": ([0, 30_000], [(20_000, "reset")]),
    "a second press that becomes long counts alone": ([0, 200, 500, 4500], [(4530, "long")]),
    "a third press starts anew": ([0, 100, 300, 400, 600, 700], [(430, "double"), (1100, "short")]),
    "ten edges in 25 ms are one press": (bounced(0, count=10, every=25 / 9), [(402, "short")]),
    "20 ms of noise inside a hold": ([0, *bounced(5000, count=6, every=4), 12_000], [(12_030, "very_long")]),
}


@pytest.mark.feature("BTN-01", breaks=EDGE)
@pytest.mark.parametrize("name", SCRIPTS)
def test_twelve_scripts_say_exactly_what_the_grammar_says(name):
    edges, said = SCRIPTS[name]

    assert len(SCRIPTS) == 12
    assert script(*edges) == said


@pytest.mark.feature("BTN-01", breaks=EXPIRE)
@pytest.mark.parametrize(
    ("held", "word"),
    [
        (1, "short"),
        (999, "short"),
        (1000, "cancelled"),
        (2999, "cancelled"),
        (3000, "long"),
        (9999, "long"),
        (10_000, "very_long"),
        (14_999, "very_long"),
        (15_000, "cancelled"),
        (19_999, "cancelled"),
        (20_000, "reset"),
    ],
)
def test_the_limits_between_the_words(held, word):
    assert [said for _, said in script(100, 100 + held)] == [word]
    assert [said for _, said in script(100, 300, 500, 500 + held)] == (["double"] if word == "short" else [word])


@pytest.mark.parametrize(("gap", "words"), [(400, ["double"]), (401, ["short", "short"])])
def test_a_second_press_counts_up_to_and_including_the_instant(gap, words):
    assert [said for _, said in script(0, 200, 200 + gap, 300 + gap)] == words


def test_a_reset_is_said_once_and_its_release_means_nothing():
    bench = Bench().edge(0, down=True).until(20_000)
    assert bench.said == [(20_000, "reset")]
    assert bench.button.due() is None
    assert bench.button.stage(Ns(21 * SECOND)) is Stage.NONE

    bench.edge(25_000, down=False).until(26_000)
    assert bench.said == [(20_000, "reset")]
    bench.edge(27_000, down=True).edge(27_100, down=False).until(28_000)
    assert bench.said[1:] == [(27_500, "short")]


def test_a_reset_waits_for_noise_to_settle():
    """It cannot be taken back, so the contact has to be closed for sure."""
    assert script(0, 19_990, 20_010) == [(20_040, "reset")]
    assert script(0, 19_990, 20_010, 20_030) == [(20_060, "cancelled")]


def test_a_bounced_release_counts_from_its_first_edge():
    assert script(0, 990, 1000, 1010) == [(1390, "short")]
    assert script(0, 2995, 3005, 3015) == [(3045, "cancelled")]


def test_edges_30_ms_apart_are_two():
    assert script(0, 100, 129, 200, until=5000) == [(600, "short")]
    assert script(0, 100, 130, 200, until=5000) == [(230, "double")]


def test_a_press_that_bounces_is_one_hold():
    assert script(0, 5, 12, 4000) == [(4030, "long")]


def test_an_edge_to_the_level_the_contact_has_is_ignored():
    bench = Bench()
    bench.edge(0, down=False).edge(5000, down=False)
    bench.edge(6000, down=True).edge(7000, down=True).edge(9500, down=False).until(20_000)

    assert bench.said == [(9530, "long")]


def test_a_button_held_while_the_daemon_starts_says_nothing_when_let_go():
    assert Bench().edge(4000, down=False).until(60_000).said == []


def test_an_engine_that_never_asks_hears_the_same_words():
    button = Button()
    presses = button.edge(True, Ns(0)) + button.edge(False, Ns(200 * MILLISECOND))
    presses += button.edge(True, Ns(5 * SECOND)) + button.edge(False, Ns(9 * SECOND))
    presses += button.edge(True, Ns(60 * SECOND)) + button.expire(Ns(90 * SECOND))

    assert presses == [Press.SHORT, Press.LONG, Press.RESET]


def test_the_stages_of_a_hold_are_shown_from_3_10_and_15_seconds():
    button = Button()
    button.edge(True, Ns(SECOND))
    shown = []
    while (due := button.due()) is not None:
        presses = button.expire(due)
        shown.append(((due - SECOND) / SECOND, button.stage(due).value, [press.value for press in presses]))

    assert shown == [(3, "lit", []), (10, "dark", []), (15, "countdown", []), (20, "none", ["reset"])]


def test_noise_does_not_move_the_stage():
    bench = Bench().edge(0, down=True).edge(2990, down=False)
    assert bench.button.stage(Ns(3005 * MILLISECOND)) is Stage.NONE
    bench.edge(3010, down=True).until(3040)
    assert bench.button.stage(Ns(3040 * MILLISECOND)) is Stage.LIT
    bench.edge(4000, down=False).until(4030)
    assert bench.button.stage(Ns(4030 * MILLISECOND)) is Stage.NONE


def test_letting_go_at_17_seconds_is_the_way_out():
    bench = Bench().edge(0, down=True).until(16_000)
    assert bench.button.stage(Ns(16 * SECOND)) is Stage.COUNTDOWN
    bench.edge(17_000, down=False).until(60_000)

    assert bench.said == [(17_030, "cancelled")]
    assert bench.button.stage(Ns(60 * SECOND)) is Stage.NONE


gaps = st.lists(st.integers(1, 25_000), max_size=30)


@settings(max_examples=200, deadline=None)
@given(gaps=gaps)
def test_any_edges_end_at_rest_and_every_word_costs_a_press(gaps):
    bench, at = Bench(), 0
    for place, gap in enumerate(gaps):
        at += gap
        bench.edge(at, down=place % 2 == 0)
    if len(gaps) % 2:
        at += 100
        bench.edge(at, down=False)
    bench.until(at + 1000)

    assert bench.button.due() is None
    assert bench.button.stage(Ns((at + 1000) * MILLISECOND)) is Stage.NONE
    assert len(bench.said) <= (len(gaps) + 1) // 2


@settings(max_examples=100, deadline=None)
@given(
    holds=st.lists(st.tuples(st.integers(500, 5000), st.sampled_from([200, 2000, 5000, 12_000, 16_000])), max_size=6),
    noise=st.lists(st.integers(1, 4), max_size=4).filter(lambda spans: len(spans) % 2 == 0),
)
def test_contact_noise_changes_no_word(holds, noise):
    """Each edge chatters for up to 16 ms; the words are those of clean contacts."""
    clean: list[tuple[int, bool]] = []
    noisy: list[tuple[int, bool]] = []
    at = 0
    for pause, hold in holds:
        for wait, down in ((pause, True), (hold, False)):
            at += wait
            clean.append((at, down))
            chatter = [sum(noise[:count]) for count in range(len(noise) + 1)]
            noisy += [(at + offset, down == (place % 2 == 0)) for place, offset in enumerate(chatter)]

    def words(edges: list[tuple[int, bool]]) -> list[str]:
        bench = Bench()
        for moment, down in edges:
            bench.edge(moment, down=down)
        return [word for _, word in bench.until(at + 2000).said]

    assert words(noisy) == words(clean)
