"""The worked examples of elision, to the message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pytest

from chappe.core.elision import Elide, Elider, Emission, Outcome, Summary
from chappe.core.units import MILLISECOND, SECOND, Ns, Span

ELIDER = "chappe.core.elision.elider:Elider"
POLICIES = "chappe.core.elision.policies"

Arrival = tuple[float, str, Mapping[str, Any]]


class Play:
    """An elider under an engine's rules: a timer that is due at the instant of an arrival fires first."""

    def __init__(self, **elide: Any) -> None:
        self.elider = Elider(Elide(**elide))
        self.sent: list[tuple[float, Emission]] = []
        self.offered = self.elided = 0

    def note(self, at: int, outcome: Outcome) -> None:
        self.sent += [(at / SECOND, emission) for emission in outcome.emit]
        self.elided += outcome.elided

    def until(self, seconds: float) -> Play:
        now = round(seconds * SECOND)
        while (due := self.elider.due()) is not None and due <= now:
            self.note(due, self.elider.expire(due))
        return self

    def offer(self, seconds: float, data: Mapping[str, Any], key: str = "") -> Outcome:
        self.until(seconds)
        now = round(seconds * SECOND)
        outcome = self.elider.offer(key, data, Ns(now))
        self.note(now, outcome)
        self.offered += 1
        return outcome

    def values(self, values: Iterable[float], *, hz: float) -> Play:
        for place, value in enumerate(values):
            self.offer(place / hz, {"value": value})
        return self

    def stop(self, seconds: float) -> Play:
        self.until(seconds)
        now = round(seconds * SECOND)
        self.note(now, self.elider.flush(Ns(now)))
        return self

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.sent]

    @property
    def numbers(self) -> list[Any]:
        return [emission.data.get("value") for _, emission in self.sent]

    @property
    def counts(self) -> list[int | None]:
        return [emission.elided and emission.elided.n for _, emission in self.sent]


def span(text: str) -> Span:
    return Span.parse(text)


def four_hertz(**elide: Any) -> Play:
    return Play(every=span("1s"), **elide).values(range(40), hz=4).until(60)


# -- the worked examples -------------------------------------------------------------------------------------------------


@pytest.mark.feature("ELI-01", breaks=f"{ELIDER}.offer")
def test_latest_sends_the_first_at_once_then_the_newest_once_per_interval():
    play = four_hertz(policy="latest")

    assert play.times == list(range(11))
    assert play.numbers == [0, 3, 7, 11, 15, 19, 23, 27, 31, 35, 39]
    assert play.elided == 29
    assert play.elider.held == 0


@pytest.mark.feature("ELI-02", breaks="chappe.core.elision.values:Slot.summary")
def test_every_message_says_what_was_elided_since_the_last():
    play = four_hertz(policy="latest")

    assert play.counts == [None, 2, *[3] * 9]
    assert play.sent[1][1].elided == Summary(n=2, min=1, max=2, mean=1.5)
    assert play.sent[2][1].elided == Summary(n=3, min=4, max=6, mean=5)
    assert len(play.sent) + sum(count or 0 for count in play.counts) == 40


@pytest.mark.feature("ELI-02", breaks="chappe.core.elision.values:Slot.drop")
def test_the_summary_renders_as_the_envelope_wants_it():
    """Only `n` where nothing elided was a number; a bool and a value that is not finite are no numbers."""
    play = Play(policy="latest", every=span("1s"))
    for place, value in enumerate(["on", True, float("nan"), float("inf"), None, "off"]):
        play.offer(place / 10, {"value": value})
    play.until(2)

    rendered = [msgspec.json.encode(emission.elided) for _, emission in play.sent]
    assert rendered == [b"null", b'{"n":4}']
    assert msgspec.json.encode(Summary(3, 1, 2.5, 1.75)) == b'{"n":3,"min":1,"max":2.5,"mean":1.75}'


def test_the_summary_is_over_the_numbers_alone_where_values_are_mixed():
    play = Play(policy="latest", every=span("1s"))
    for place, value in enumerate([0, 7, "?", -3, 5]):
        play.offer(place / 10, {"value": value})
    play.until(1)

    assert play.sent[-1][1].elided == Summary(n=3, min=-3, max=7, mean=2)


def test_a_released_value_keeps_the_time_of_its_arrival():
    play = four_hertz(policy="latest")

    assert [emission.at / SECOND for _, emission in play.sent] == [0, *(place + 0.75 for place in range(10))]


@pytest.mark.feature("ELI-03", breaks=f"{POLICIES}:Sample.judge")
def test_sample_sends_the_newest_at_each_tick():
    play = four_hertz(policy="sample")

    assert play.times == list(range(1, 11))
    assert play.numbers == [3, 7, 11, 15, 19, 23, 27, 31, 35, 39]
    assert play.elided == 30


def test_sample_sends_nothing_at_a_tick_without_a_new_value():
    play = Play(policy="sample", every=span("1s"))
    play.offer(0.2, {"value": 1})
    play.offer(3.5, {"value": 2})
    play.until(9)

    assert play.times == [1.2, 4.2]


@pytest.mark.feature("ELI-03", breaks=f"{POLICIES}:ThrottleFirst.judge")
def test_throttle_first_sends_the_leading_edge_only():
    play = four_hertz(policy="throttle_first")

    assert play.times == list(range(10))
    assert play.numbers == list(range(0, 40, 4))
    assert play.elided == 30
    assert play.counts == [None, *[3] * 9]


@pytest.mark.feature("ELI-03", breaks=f"{POLICIES}:Debounce.judge")
def test_debounce_sends_after_max_wait_while_the_source_never_falls_silent():
    play = Play(policy="debounce", quiet=span("2s"), max_wait=span("10s")).values(range(30), hz=1).until(60)

    assert play.times == [10, 20, 30]
    assert play.numbers == [9, 19, 29]
    assert play.elided == 27


def test_debounce_sends_the_newest_after_silence():
    play = Play(policy="debounce", quiet=span("2s"), max_wait=span("10s"))
    for at in (0, 1, 2.5, 7):
        play.offer(at, {"value": at})
    play.until(60)

    assert list(zip(play.times, play.numbers, strict=True)) == [(4.5, 2.5), (9, 7)]


@pytest.mark.feature("ELI-03", breaks=f"{POLICIES}:Aggregate.render")
def test_aggregate_sends_one_summary_per_window():
    play = Play(policy="aggregate", every=span("10s")).values(range(100), hz=10)
    assert play.elider.held == 100
    assert play.elided == 0
    play.until(60)

    assert play.times == [10]
    assert play.sent[0][1].data == {"count": 100, "min": 0, "max": 99, "mean": 49.5, "first": 0, "last": 99}
    assert play.elided == 99
    assert play.elider.held == 0
    assert play.sent[0][1].elided == Summary(n=99, min=0, max=98, mean=49)


def test_aggregate_keeps_the_other_fields_of_the_newest_value():
    """Without unit and entity a reader could not tell what was summed up."""
    play = Play(policy="aggregate", every=span("1s"), key="{entity}")
    play.offer(0.0, {"value": 1.0, "unit": "°C", "entity": "hall"}, key="hall")
    play.offer(0.5, {"value": 4.0, "unit": "°C", "entity": "hall"}, key="hall")
    play.until(5)

    window = {"count": 2, "min": 1.0, "max": 4.0, "mean": 2.5, "first": 1.0, "last": 4.0}
    assert play.sent[0][1].data == {**window, "unit": "°C", "entity": "hall"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", "b"], {"count": 2, "first": "a", "last": "b"}),
        (["a", 3], {"count": 2, "min": 3, "max": 3, "mean": 3, "first": "a", "last": 3}),
        ([3, "b"], {"count": 2, "min": 3, "max": 3, "mean": 3, "first": 3, "last": "b"}),
        ([5, 2, 9, 4], {"count": 4, "min": 2, "max": 9, "mean": 5, "first": 5, "last": 4}),
    ],
)
def test_aggregate_sums_up_what_is_a_number(values, expected):
    play = Play(policy="aggregate", every=span("10s")).values(values, hz=1).until(60)

    assert [emission.data for _, emission in play.sent] == [expected]


def test_aggregate_counts_values_that_have_no_value_field():
    play = Play(policy="aggregate", every=span("1s"))
    play.offer(0.0, {"word": "a"})
    play.offer(0.5, {"word": "b"})
    play.until(1)

    assert [emission.data for _, emission in play.sent] == [{"count": 2, "word": "b"}]


@pytest.mark.feature("ELI-04", breaks=f"{POLICIES}:_AgainstSent.judge")
def test_change_releases_a_held_repeat_at_each_heartbeat():
    """600 equal values at 1 Hz, stopped at 599.5 s: sent at 0, 60 … 540 s, the held repeat is not sent at the stop."""
    play = Play(policy="change", heartbeat=span("60s")).values([7] * 600, hz=1).until(599.5)
    assert (len(play.sent), play.elided, play.elider.held) == (10, 589, 1)
    play.stop(599.5)

    assert play.times == list(range(0, 600, 60))
    assert play.elided == 590
    assert play.elider.held == 0


def test_change_without_heartbeat_elides_repeats_at_once():
    play = Play(policy="change").values([1, 1, 1, 2, 2, 1, 1], hz=1)

    assert play.numbers == [1, 2, 1]
    assert play.elided == 4
    assert play.elider.held == 0
    assert play.elider.due() is None


@pytest.mark.feature("ELI-04", breaks=f"{POLICIES}:Change.differs")
@pytest.mark.parametrize(
    ("elide", "sent"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"fields": ("a",)}, [0, 2, 4]),
        ({"fields": ("a", "b")}, [0, 1, 2, 4]),
        ({"ignore": ("c",)}, [0, 1, 2, 4]),
        ({"ignore": ("b", "c")}, [0, 2, 4]),
    ],
)
def test_change_compares_the_chosen_fields(elide, sent):
    rows = [
        {"a": 1, "b": 1, "c": 1},
        {"a": 1, "b": 2, "c": 1},
        {"a": 2, "b": 2, "c": 1},
        {"a": 2, "b": 2, "c": 9},
        {"b": 2, "c": 9},
    ]
    play = Play(policy="change", **elide)
    for at, row in enumerate(rows):
        play.offer(at, row)

    assert play.times == sent


@pytest.mark.feature("ELI-04", breaks=f"{POLICIES}:Deadband.differs")
def test_deadband_sends_what_lies_a_band_from_the_last_sent_value():
    play = Play(policy="deadband", abs=5.0).values(range(51), hz=1).stop(60)

    assert play.numbers == list(range(0, 51, 5))
    assert play.elided == 40
    assert play.counts == [None, *[4] * 10]


@pytest.mark.parametrize(
    ("elide", "values", "sent"),
    [
        ({"abs": 0.5}, [0.2, 0.7, 0.9, 0.2], [0.2, 0.7, 0.2]),
        ({"pct": 10.0}, [100, 109, 110, 120, 121, 100], [100, 110, 121, 100]),
        ({"pct": 10.0}, [-100, -105, -110], [-100, -110]),
        ({"pct": 10.0}, [0, 0, 1e-9], [0, 1e-9]),
        ({"pct_range": 10.0, "range": (0.0, 50.0)}, [20, 24, 25, 29, 30], [20, 25, 30]),
        ({"abs": 5.0}, [1, "fault", "fault", 2, 3], [1, "fault", 2]),
        ({"abs": 5.0}, [False, True, True], [False, True]),
    ],
)
@pytest.mark.feature("ELI-04", breaks=f"{POLICIES}:Deadband.differs")
def test_deadband_in_units_percent_and_percent_of_range(elide, values, sent):
    assert Play(policy="deadband", **elide).values(values, hz=1).numbers == sent


def test_deadband_lets_the_last_value_out_at_the_heartbeat_and_at_the_stop():
    play = Play(policy="deadband", abs=5.0, heartbeat=span("10s")).values([0, 1, 2], hz=1).until(10)
    assert list(zip(play.times, play.numbers, strict=True)) == [(0, 0), (10, 2)]

    play.offer(11, {"value": 3})
    play.stop(12)
    assert list(zip(play.times, play.numbers, strict=True)) == [(0, 0), (10, 2), (12, 3)]


def test_a_heartbeat_never_repeats_a_value():
    """A silent source is stale, not alive: with nothing held, nothing is sent."""
    play = Play(policy="change", heartbeat=span("10s"))
    play.offer(0, {"value": 1})
    assert play.elider.due() is None
    play.until(1000)
    assert play.times == [0]

    play.offer(1000, {"value": 1})
    assert play.times == [0, 1000]


@pytest.mark.feature("ELI-03", breaks=f"{POLICIES}:SwingingDoor.judge")
def test_swinging_door_sends_the_corners_of_the_trend():
    rising = Play(policy="swinging_door", tolerance=0.5).values(range(101), hz=1).stop(200)
    assert rising.numbers == [0, 100]
    assert rising.elided == 99

    hill = Play(policy="swinging_door", tolerance=0.5).values([*range(51), *range(49, -1, -1)], hz=1).stop(200)
    assert hill.numbers == [0, 50, 0]
    assert hill.elided == 98


def test_swinging_door_sends_the_newest_when_nothing_was_sent_for_max_gap():
    play = Play(policy="swinging_door", tolerance=0.5, max_gap=span("10s")).values(range(26), hz=1).stop(25.5)

    assert list(zip(play.times, play.numbers, strict=True)) == [(0, 0), (10, 9), (20, 19), (25.5, 25)]


def test_swinging_door_breaks_the_trend_where_a_value_is_no_number():
    play = Play(policy="swinging_door", tolerance=0.5).values([0, 1, 2, None, None, 5, 6, 7], hz=1).stop(20)

    assert play.numbers == [0, 2, None, 5, 7]
    assert play.elided == 3


def test_swinging_door_keeps_a_step_within_one_instant():
    play = Play(policy="swinging_door", tolerance=0.5)
    for at, value in [(0, 0), (1, 0), (1, 10), (2, 10), (3, 10.2)]:
        play.offer(at, {"value": value})
    play.stop(4)

    assert play.numbers == [0, 0, 10, 10.2]


def test_none_sends_everything():
    play = Play(policy="none").values(range(5), hz=100)

    assert play.numbers == [0, 1, 2, 3, 4]
    assert play.elider.due() is None
    assert play.stop(9).elided == 0


# -- the key table -------------------------------------------------------------------------------------------------------


@pytest.mark.feature("ELI-05", breaks=f"{ELIDER}._admit")
def test_keys_beyond_the_table_pass_unelided_and_are_counted():
    play = Play(policy="latest", every=span("1s"))
    for quarter in range(4):
        for key in range(300):
            play.offer(quarter / 4, {"value": quarter}, key=f"k{key}")
    play.until(10)

    assert len(play.sent) == 688
    assert play.elided == 512
    assert play.elider.overflow == 176
    assert {emission.key for at, emission in play.sent if at == 0.25} == {f"k{key}" for key in range(256, 300)}
    assert all(emission.elided is None for at, emission in play.sent if at < 1)


def test_keys_do_not_share_their_intervals():
    play = Play(policy="latest", every=span("1s"))
    for at, key in [(0, "a"), (0.5, "b"), (0.6, "a"), (0.7, "b")]:
        play.offer(at, {"value": at}, key=key)
    play.until(9)

    assert [(at, emission.key, emission.data["value"]) for at, emission in play.sent] == [
        (0, "a", 0),
        (0.5, "b", 0.5),
        (1, "a", 0.6),
        (1.5, "b", 0.7),
    ]


@pytest.mark.feature("ELI-05", breaks=f"{ELIDER}._evict")
def test_a_key_idle_for_ten_intervals_makes_room():
    play = Play(policy="latest", every=span("1s"), max_keys=2)
    play.offer(0, {"value": 0}, key="a")
    play.offer(5, {"value": 0}, key="b")
    play.offer(9.999, {"value": 0}, key="c")
    assert play.elider.overflow == 1

    play.offer(10, {"value": 1}, key="c")
    play.offer(10.1, {"value": 2}, key="c")
    assert play.elider.overflow == 1
    assert play.elider.held == 1

    play.offer(10.2, {"value": 1}, key="a")
    assert play.elider.overflow == 2


def test_the_table_is_searched_again_once_another_key_may_be_idle():
    play = Play(policy="latest", every=span("1s"), max_keys=2)
    play.offer(0, {"value": 0}, key="a")
    play.offer(1, {"value": 0}, key="b")
    play.offer(10, {"value": 0}, key="c")
    play.offer(10.5, {"value": 0}, key="d")
    assert play.elider.overflow == 1
    play.offer(11, {"value": 0}, key="d")
    play.offer(11.5, {"value": 0}, key="d")

    assert play.elider.overflow == 1
    assert play.elider.held == 1


def test_keys_of_a_policy_without_an_interval_stay():
    play = Play(policy="deadband", abs=5.0, max_keys=1)
    play.offer(0, {"value": 0}, key="a")
    play.offer(1e6, {"value": 0}, key="b")

    assert play.elider.overflow == 1


def test_an_aggregate_of_a_key_beyond_the_table_is_a_summary_of_one():
    play = Play(policy="aggregate", every=span("1s"), max_keys=1)
    play.offer(0, {"value": 0}, key="a")
    play.offer(0.5, {"value": 4, "unit": "V"}, key="b")

    expected = {"count": 1, "min": 4, "max": 4, "mean": 4, "first": 4, "last": 4, "unit": "V"}
    assert [(emission.key, emission.data) for _, emission in play.sent] == [("b", expected)]


# -- changes of state ----------------------------------------------------------------------------------------------------


@pytest.mark.feature("ELI-07", breaks=f"{ELIDER}._bypasses")
def test_a_change_of_state_goes_out_at_once_and_drops_what_was_held():
    play = Play(policy="latest", every=span("1s"), bypass="gesture")
    play.offer(0, {"gesture": "None", "value": 1})
    play.offer(0.2, {"gesture": "None", "value": 2})
    outcome = play.offer(0.3, {"gesture": "Victory", "value": 3})
    assert outcome.elided == 1
    assert outcome.emit[0].elided == Summary(1, 2, 2, 2)
    play.offer(0.4, {"gesture": "Victory", "value": 4})
    play.until(9)

    assert list(zip(play.times, play.numbers, strict=True)) == [(0, 1), (0.3, 3), (1.3, 4)]


@pytest.mark.parametrize(
    "elide",
    [
        {"policy": "latest", "every": span("10s")},
        {"policy": "sample", "every": span("10s")},
        {"policy": "throttle_first", "every": span("10s")},
        {"policy": "debounce", "quiet": span("10s"), "max_wait": span("20s")},
        {"policy": "change", "fields": ("value",), "heartbeat": span("10s")},
        {"policy": "deadband", "abs": 100.0},
        {"policy": "swinging_door", "tolerance": 100.0},
    ],
    ids=lambda elide: elide["policy"],
)
@pytest.mark.feature("ELI-07", breaks=f"{ELIDER}._bypasses")
def test_every_policy_lets_a_change_of_state_through_and_nothing_older_after_it(elide):
    play = Play(bypass="gesture", **elide)
    for at, gesture in [(0, "None"), (1, "None"), (2, "None"), (3, "Victory")]:
        play.offer(at, {"gesture": gesture, "value": 1})
    assert play.sent[-1][0] == 3
    assert play.sent[-1][1].data["gesture"] == "Victory"
    play.offer(4, {"gesture": "Victory", "value": 1})
    play.stop(100)

    after = [emission for at, emission in play.sent if at > 3]
    assert all(emission.at == 4 * SECOND for emission in after)
    assert play.offered == len(play.sent) + play.elided


# -- the last value, and time --------------------------------------------------------------------------------------------


@pytest.mark.feature("ELI-08", breaks=f"{ELIDER}.expire")
def test_the_newest_value_goes_out_at_the_end_of_the_interval_when_the_producer_stops():
    play = Play(policy="latest", every=span("1s"))
    play.offer(0, {"value": 0})
    play.offer(0.1, {"value": 1})
    play.offer(0.2, {"value": 2})
    assert play.elider.due() == SECOND
    play.until(1)

    assert list(zip(play.times, play.numbers, strict=True)) == [(0, 0), (1, 2)]
    assert play.elider.due() is None


@pytest.mark.feature("ELI-08", breaks=f"{ELIDER}.flush")
def test_a_clean_stop_sends_what_is_held_oldest_first():
    play = Play(policy="latest", every=span("1s"))
    for at, key in [(0, "a"), (0, "b"), (0, "c"), (0.1, "b"), (0.2, "a")]:
        play.offer(at, {"value": at}, key=key)
    play.offer(0.3, {"value": 0}, key="c")
    play.stop(0.5)

    assert [(at, emission.key) for at, emission in play.sent[3:]] == [(0.5, "b"), (0.5, "a")]
    assert play.elided == 1
    assert play.elider.held == 0
    assert play.elider.due() is None


def test_a_clean_stop_sends_the_part_of_a_window():
    play = Play(policy="aggregate", every=span("10s")).values(range(4), hz=1).stop(3.5)

    assert [emission.data["count"] for _, emission in play.sent] == [4]
    assert play.elided == 3


def test_a_timer_fires_before_an_arrival_of_the_same_instant_without_being_asked():
    """An engine that forgets to ask `expire` first gets the same messages in the same order."""
    elider = Elider(Elide(policy="latest", every=span("1s")))
    elider.offer("", {"value": 0}, Ns(0))
    elider.offer("", {"value": 1}, Ns(SECOND // 2))
    outcome = elider.offer("", {"value": 2}, Ns(SECOND))

    assert [emission.data["value"] for emission in outcome.emit] == [1]
    assert outcome.elided == 0
    assert elider.held == 1


def test_a_late_call_does_not_shift_the_phase():
    elider = Elider(Elide(policy="latest", every=span("1s")))
    elider.offer("", {"value": 0}, Ns(0))
    elider.offer("", {"value": 1}, Ns(SECOND // 2))
    elider.expire(Ns(3_200 * MILLISECOND))
    elider.offer("", {"value": 2}, Ns(3_300 * MILLISECOND))

    assert elider.due() == 4 * SECOND


def test_due_is_the_true_deadline_after_it_has_moved():
    elider = Elider(Elide(policy="debounce", quiet=span("2s"), max_wait=span("10s")))
    for second in range(3):
        elider.offer("", {"value": second}, Ns(second * SECOND))
    assert elider.due() == 4 * SECOND
    assert elider.expire(Ns(3 * SECOND)).emit == ()
    assert elider.due() == 4 * SECOND

    elider.flush(Ns(3 * SECOND))
    assert elider.due() is None


def test_a_stale_timer_lets_nothing_out():
    """A bypass empties the key; its old timer must not release the value that is held next."""
    elider = Elider(Elide(policy="latest", every=span("1s"), bypass="state"))
    elider.offer("", {"state": 0}, Ns(0))
    elider.offer("", {"state": 0}, Ns(100 * MILLISECOND))
    elider.offer("", {"state": 1}, Ns(600 * MILLISECOND))
    elider.offer("", {"state": 1}, Ns(700 * MILLISECOND))
    assert elider.expire(Ns(SECOND)) == Outcome((), 0)

    assert elider.due() == 1_600 * MILLISECOND
    assert len(elider.expire(Ns(1_600 * MILLISECOND)).emit) == 1


def test_an_elider_refuses_a_configuration_without_what_its_policy_needs():
    with pytest.raises(ValueError, match="required parameter"):
        Elider(Elide(policy="latest"))
