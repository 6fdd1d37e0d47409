"""Votes, hold, refractory time, map and latch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chappe.core.gestures import NO_SIGNAL, Decision, Gestures, Latch, Sighting, Verdict, Voter, Votes
from chappe.core.units import MILLISECOND, SECOND, Ns, Span

VOTE = "chappe.core.gestures:Voter._vote"
SEE = "chappe.core.gestures:Latch.see"
TRADE = {"Pointing_Up": "BUY", "Open_Palm": "SELL", "Closed_Fist": "HOLD"}
BOX = (10, 20, 30, 40)

Frame = list[Sighting]


def hand(gesture: str, score: float = 0.9, number: int = 1) -> Sighting:
    return Sighting(gesture=gesture, score=score, handedness="right", box=BOX, hand=number)


class Camera:
    """Frames at a fixed rate into votes and latch, with the latch's timers fired in time."""

    def __init__(self, *, hz: int = 10, latch: Span | None = None, **votes: object) -> None:
        self.gestures = Gestures(Votes(**votes), TRADE, latch)  # type: ignore[arg-type]
        self.step = SECOND // hz
        self.count = 0
        self.heard: list[tuple[float, str]] = []
        self.signals: list[tuple[float, str]] = []

    @property
    def now(self) -> Ns:
        return Ns(self.count * self.step)

    def until(self, now: int) -> Camera:
        due = self.gestures.due()
        if due is not None and due <= now:
            signal = self.gestures.expire(due)
            assert signal is not None
            self.signals.append((due / SECOND, signal))
        return self

    def frame(self, *hands: Sighting) -> Decision:
        self.until(self.now)
        decision = self.gestures.frame(hands, self.now)
        at = self.now / SECOND
        self.heard += [(at, sighting.gesture) for sighting in decision.gestures]
        if decision.signal is not None:
            self.signals.append((at, decision.signal))
        self.count += 1
        return decision

    def show(self, labels: Iterable[str]) -> Camera:
        for label in labels:
            self.frame(*([hand(label)] if label else []))
        return self

    @property
    def words(self) -> list[str]:
        return [word for _, word in self.heard]


# -- votes -------------------------------------------------------------------------------------------------------------------


@pytest.mark.feature("SIG-04", breaks=VOTE)
def test_votes_in_a_row_make_one_gesture():
    camera = Camera(votes=3).show(["Open_Palm", "Closed_Fist"] * 30)
    assert camera.words == []

    camera.show(["Open_Palm"] * 3)
    assert camera.words == ["Open_Palm"]

    camera.show(["Open_Palm"] * 20)
    assert camera.words == ["Open_Palm"]


@pytest.mark.feature("SIG-04", breaks=VOTE)
def test_a_gesture_has_to_be_held_and_rests_for_its_refractory_time():
    """hold 1 s at 10 fps: nothing at 0.9 s, one at 1.0 s, and none again within the refractory second."""
    camera = Camera(hold=Span(SECOND), refractory=Span(SECOND)).show(["Open_Palm"] * 10)
    assert camera.words == []
    camera.show(["Open_Palm"])
    assert camera.heard == [(1.0, "Open_Palm")]

    camera.show(["Open_Palm"] * 5 + ["None"] * 3)
    assert camera.words == ["Open_Palm"]


@pytest.mark.feature("SIG-04", breaks="chappe.core.gestures:Voter._may_say")
def test_the_same_gesture_is_ignored_for_the_refractory_time_whichever_hand_shows_it():
    camera = Camera(votes=1, refractory=Span(SECOND)).show(["Open_Palm", "None"])
    camera.frame(hand("Open_Palm", number=2))
    camera.frame(hand("Victory", number=2))
    camera.show([""] * 5 + ["None"])
    assert camera.now == 1 * SECOND
    camera.show(["Open_Palm"])

    assert camera.heard == [(0.0, "Open_Palm"), (0.3, "Victory"), (1.0, "Open_Palm")]


def test_a_gesture_ignored_in_its_refractory_time_is_not_said_later():
    camera = Camera(votes=1, refractory=Span(SECOND)).show(["Open_Palm", "None", *["Open_Palm"] * 40])

    assert camera.heard == [(0.0, "Open_Palm")]


def test_a_gesture_is_said_again_only_after_the_hand_let_go_for_as_many_votes():
    camera = Camera(votes=3).show(["Victory"] * 3 + ["None"] * 2 + ["Victory"] * 5)
    assert camera.words == ["Victory"]

    camera.show(["None"] * 3 + ["Victory"] * 3)
    assert camera.words == ["Victory", "Victory"]


def test_letting_go_needs_votes_but_no_hold():
    camera = Camera(votes=2, hold=Span(SECOND)).show(["Victory"] * 11 + ["None"] * 2 + ["Victory"] * 11)

    assert camera.heard == [(1.0, "Victory"), (2.3, "Victory")]


def test_none_is_never_a_gesture():
    assert Camera(votes=1).show(["None"] * 10).words == []


def test_another_gesture_follows_without_letting_go():
    assert Camera(votes=3).show(["Victory"] * 3 + ["Thumb_Up"] * 3).words == ["Victory", "Thumb_Up"]


def test_a_label_below_the_threshold_counts_as_none():
    camera = Camera(votes=2, threshold=0.5)
    for score in (0.9, 0.49, 0.9, 0.49):
        camera.frame(hand("Victory", score))
    assert camera.words == []
    camera.frame(hand("Victory", 0.5))
    camera.frame(hand("Victory", 0.5))
    assert camera.words == ["Victory"]


def test_frames_that_miss_the_hand_neither_count_nor_break_the_row():
    camera = Camera(votes=3).show(["Victory", "", "", "Victory", ""])
    assert camera.words == []
    camera.show(["Victory"])
    assert camera.words == ["Victory"]


@pytest.mark.parametrize(("missed", "words"), [(4, ["Victory"]), (5, ["Victory", "Victory"])])
def test_a_hand_missed_for_long_enough_begins_anew(missed, words):
    camera = Camera(votes=3, gone_after=5).show(["Victory"] * 3 + [""] * missed + ["Victory"] * 3)

    assert camera.words == words


def test_a_hand_is_gone_even_while_another_stays():
    camera = Camera(votes=2, gone_after=3)
    for _ in range(2):
        camera.frame(hand("Victory", number=1), hand("Thumb_Up", number=2))
    for _ in range(3):
        camera.frame(hand("Thumb_Up", number=2))
    for _ in range(2):
        camera.frame(hand("Victory", number=1), hand("Thumb_Up", number=2))

    assert camera.words == ["Victory", "Thumb_Up", "Victory"]


def test_hands_vote_for_themselves():
    camera = Camera(votes=2)
    camera.frame(hand("Victory", number=1), hand("Thumb_Up", number=2))
    camera.frame(hand("Thumb_Up", number=1), hand("Thumb_Up", number=2))
    camera.frame(hand("Thumb_Up", number=1), hand("Victory", number=2))

    assert camera.heard == [(0.1, "Thumb_Up"), (0.2, "Thumb_Up")]


def test_a_sighting_renders_as_the_data_of_the_gesture_stream():
    rendered = msgspec.json.encode(hand("Victory", 0.83, 0))

    assert rendered == b'{"gesture":"Victory","score":0.83,"handedness":"right","box":[10,20,30,40],"hand":0}'


def test_the_sighting_that_decided_is_the_one_that_is_told():
    camera = Camera(votes=2)
    camera.frame(hand("Victory", 0.6))

    assert camera.frame(hand("Victory", 0.7)).gestures == (hand("Victory", 0.7),)


@pytest.mark.parametrize(
    "wrong", [{"votes": 0}, {"threshold": 1.5}, {"threshold": -0.1}, {"gone_after": 0}, {"vote": 3}]
)
def test_a_wrong_configuration_is_refused(wrong):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Votes)


# -- map and latch -----------------------------------------------------------------------------------------------------------


@pytest.mark.feature("SIG-01", breaks=SEE)
def test_gestures_become_signals():
    camera = Camera(votes=3)
    assert camera.gestures.signal == "-"
    camera.show(["Pointing_Up"] * 5 + ["Open_Palm"] * 5 + ["Closed_Fist"] * 5)

    assert camera.signals == [(0.2, "BUY"), (0.7, "SELL"), (1.2, "HOLD")]
    assert camera.gestures.signal == "HOLD"


@pytest.mark.feature("SIG-02", breaks="chappe.core.gestures:Latch._best")
def test_unmapped_gestures_change_nothing():
    camera = Camera(votes=3).show(["Victory"] * 10)
    assert camera.signals == []

    for _ in range(3):
        camera.frame(hand("Victory", 0.99, 2), hand("Open_Palm", 0.95, 3))
    assert camera.signals == [(1.2, "SELL")]


def test_of_several_mapped_hands_the_highest_score_wins_and_stays():
    camera = Camera(votes=2)
    for score in (0.9, 0.9, 0.5, 0.6):
        camera.frame(hand("Open_Palm", 0.7, 1), hand("Pointing_Up", score, 2))

    assert camera.signals == [(0.1, "BUY")]


def test_the_same_signal_again_is_no_change():
    camera = Camera(votes=1).show(["Open_Palm", "None", "Open_Palm", "Victory", "Open_Palm"])

    assert camera.signals == [(0.0, "SELL")]
    assert camera.words == ["Open_Palm", "Open_Palm", "Victory", "Open_Palm"]


@pytest.mark.feature("SIG-03", breaks=SEE)
def test_a_signal_is_latched_until_another_comes():
    camera = Camera(votes=3).show(["Pointing_Up"] * 3 + [""] * 30)

    assert camera.gestures.signal == "BUY"
    assert camera.gestures.due() is None


@pytest.mark.feature("SIG-03", breaks="chappe.core.gestures:Latch.expire")
def test_with_a_hold_time_the_signal_ends_exactly_that_long_after_the_last_sighting():
    camera = Camera(votes=3, latch=Span(2 * SECOND)).show(["Pointing_Up"] * 8 + [""] * 40)

    assert camera.signals == [(0.2, "BUY"), (2.7, "-")]
    assert camera.gestures.due() is None


def test_a_hand_that_shows_something_else_does_not_keep_the_signal():
    camera = Camera(votes=3, latch=Span(2 * SECOND)).show(["Pointing_Up"] * 3 + ["Victory"] * 40)

    assert camera.signals == [(0.2, "BUY"), (2.2, "-")]


def test_a_hand_seen_below_the_threshold_does_not_keep_the_signal():
    camera = Camera(votes=3, latch=Span(2 * SECOND)).show(["Pointing_Up"] * 3)
    for _ in range(30):
        camera.frame(hand("Pointing_Up", 0.3))

    assert camera.signals == [(0.2, "BUY"), (2.2, "-")]


def test_a_hand_that_is_there_all_the_time_is_latched_again():
    """Frames further apart than the hold time, or another hand's signal that ended, leave no shown gesture unheard."""
    slow = Camera(hz=1, votes=1, latch=Span(SECOND // 2)).show(["Open_Palm"] * 2)
    assert slow.signals == [(0.0, "SELL"), (0.5, "-"), (1.0, "SELL")]

    two = Camera(votes=1, latch=Span(SECOND))
    two.frame(hand("Pointing_Up", number=1))
    two.frame(hand("Pointing_Up", number=1), hand("Open_Palm", number=2))
    for _ in range(12):
        two.frame(hand("Pointing_Up", number=1))
    assert two.signals == [(0.0, "BUY"), (0.1, "SELL"), (1.1, "-"), (1.1, "BUY")]


def test_a_gesture_ignored_in_its_refractory_time_changes_no_signal():
    camera = Camera(votes=1, refractory=Span(SECOND)).show(["Pointing_Up", "Open_Palm", "Pointing_Up", "Pointing_Up"])

    assert camera.signals == [(0.0, "BUY"), (0.1, "SELL")]


def test_a_latch_asked_late_ends_first():
    latch = Latch(TRADE, Span(SECOND))
    latch.see(Verdict((hand("Open_Palm"),), (hand("Open_Palm"),)), Ns(0))
    assert latch.due() == SECOND

    assert latch.see(Verdict(), Ns(SECOND)) == NO_SIGNAL
    assert latch.expire(Ns(2 * SECOND)) is None


# -- whatever is seen --------------------------------------------------------------------------------------------------------

labels = st.sampled_from(["None", "Open_Palm", "Victory", "Pointing_Up"])
frames = st.lists(
    st.dictionaries(st.integers(1, 2), st.tuples(labels, st.sampled_from([0.3, 0.6, 0.9])), max_size=2).map(
        lambda seen: [hand(label, score, number) for number, (label, score) in seen.items()]
    ),
    max_size=60,
)


@pytest.mark.feature("SIG-04", breaks=VOTE)
@settings(max_examples=150, deadline=None)
@given(frames=frames, votes=st.integers(1, 4))
def test_every_gesture_has_its_votes_behind_it(frames, votes):
    """The last `votes` sightings of its hand have its label, and the gesture before it on that hand was another or was let go."""
    voter = Voter(Votes(votes=votes, gone_after=1000))
    history: dict[int, list[str]] = {1: [], 2: []}
    said: dict[int, list[tuple[int, str]]] = {1: [], 2: []}
    for place, frame in enumerate(frames):
        for sighting in frame:
            history[sighting.hand].append(sighting.gesture if sighting.score >= 0.5 else "None")
        for sighting in voter.frame(frame, Ns(place * 100 * MILLISECOND)).new:
            seen = history[sighting.hand]
            assert sighting.gesture != "None"
            assert seen[-votes:] == [sighting.gesture] * votes
            if said[sighting.hand] and said[sighting.hand][-1][1] == sighting.gesture:
                between = seen[said[sighting.hand][-1][0] :]
                runs = [between[start : start + votes] for start in range(len(between))]
                assert any(len(run) == votes and len(set(run)) == 1 and run[0] != sighting.gesture for run in runs)
            said[sighting.hand].append((len(seen), sighting.gesture))


@settings(max_examples=100, deadline=None)
@given(frames=frames, latch=st.sampled_from([None, Span(SECOND // 4), Span(SECOND)]))
def test_signals_alternate_and_come_from_the_map(frames, latch):
    camera = Camera(votes=2, latch=latch)
    for frame in frames:
        camera.frame(*frame)
    signals = [NO_SIGNAL, *(signal for _, signal in camera.signals)]

    assert set(signals) <= {NO_SIGNAL, *TRADE.values()}
    assert all(first != second for first, second in itertools.pairwise(signals))
    assert latch is not None or NO_SIGNAL not in signals[1:]


def test_empty_frames_are_not_remembered():
    voter = Voter(Votes())
    for place in range(1000):
        assert voter.frame((), Ns(place)) == Verdict()
    voter.frame([hand("Victory")], Ns(1000))
    for place in range(5):
        voter.frame((), Ns(1001 + place))

    assert voter._hands == {}
