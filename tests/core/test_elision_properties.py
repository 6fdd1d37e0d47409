"""What holds of elision whatever arrives: the books, the order, the last value; and each policy against a plain reference."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chappe.core.elision import Elide, Elider, Emission, Outcome
from chappe.core.units import SECOND, Ns, Span

ELIDER = "chappe.core.elision.elider:Elider"
ONE = Span(SECOND)
THREE = Span(3 * SECOND)

CONFIGS = {
    "none": Elide(),
    "latest": Elide(policy="latest", every=ONE, max_keys=3),
    "latest, bypass": Elide(policy="latest", every=ONE, max_keys=3, bypass="state"),
    "sample": Elide(policy="sample", every=ONE, max_keys=3),
    "throttle_first": Elide(policy="throttle_first", every=ONE, max_keys=3),
    "debounce": Elide(policy="debounce", quiet=ONE, max_wait=THREE, max_keys=3),
    "debounce, bypass": Elide(policy="debounce", quiet=ONE, max_wait=THREE, bypass="state"),
    "change": Elide(policy="change", max_keys=3),
    "change, heartbeat": Elide(policy="change", heartbeat=THREE, fields=("value",), max_keys=3),
    "deadband": Elide(policy="deadband", abs=2.0, max_keys=3),
    "deadband, heartbeat": Elide(policy="deadband", pct=20.0, heartbeat=THREE, max_keys=3),
    "swinging_door": Elide(policy="swinging_door", tolerance=1.0, max_keys=3),
    "swinging_door, max_gap": Elide(policy="swinging_door", tolerance=1.0, max_gap=THREE, bypass="state"),
    "aggregate": Elide(policy="aggregate", every=ONE, max_keys=3),
}
LOSES_THE_LAST = {"throttle_first"}

few = settings(max_examples=40, deadline=None)

values = st.one_of(st.integers(-5, 5), st.floats(-5, 5), st.sampled_from(["?", None, True]))
arrivals = st.lists(
    st.tuples(
        st.integers(0, 12).map(lambda quarter: quarter * SECOND // 4),
        st.sampled_from("abcd"),
        st.fixed_dictionaries({"value": values, "state": st.integers(0, 1)}),
    ),
    max_size=60,
)


class Run:
    """One run of an elider, with everything it did."""

    def __init__(self, elide: Elide) -> None:
        self.elide = elide
        self.elider = Elider(elide)
        self.now = Ns(0)
        self.offered: list[tuple[int, str, Mapping[str, Any]]] = []
        self.sent: list[tuple[int, Emission]] = []
        self.elided = 0

    def note(self, outcome: Outcome) -> None:
        self.sent += [(self.now, emission) for emission in outcome.emit]
        self.elided += outcome.elided

    def pass_time(self, span: int) -> None:
        until = self.now + span
        while (due := self.elider.due()) is not None and due <= until:
            assert due >= self.now, "a timer was overslept"
            self.now = due
            self.note(self.elider.expire(due))
        self.now = Ns(until)

    def offer(self, key: str, data: Mapping[str, Any]) -> None:
        stamped = {**data, "id": len(self.offered)} if self.elide.policy != "change" else data
        self.offered.append((self.now, key, stamped))
        self.note(self.elider.offer(key, stamped, self.now))

    def stop(self) -> None:
        self.note(self.elider.flush(self.now))

    def balanced(self) -> bool:
        return len(self.offered) == len(self.sent) + self.elided + self.elider.held


def play(elide: Elide, steps: list[tuple[int, str, Mapping[str, Any]]]) -> Run:
    run = Run(elide)
    for span, key, data in steps:
        run.pass_time(span)
        run.offer(key, data)
        assert run.balanced()
    return run


every_policy = pytest.mark.parametrize("name", CONFIGS)


@pytest.mark.feature("ELI-02", breaks=f"{ELIDER}._hold")
@every_policy
@few
@given(steps=arrivals)
def test_the_books_balance_at_every_moment_and_nothing_is_held_after_a_stop(name, steps):
    run = play(CONFIGS[name], steps)
    run.pass_time(1)
    assert run.balanced()
    run.stop()

    assert run.elider.held == 0
    assert run.elider.due() is None
    assert len(run.offered) == len(run.sent) + run.elided


@every_policy
@few
@given(steps=arrivals)
def test_what_is_disclosed_on_the_messages_is_what_was_elided(name, steps):
    """Every dropped value is either on a message of its key, or newer than the key's last message."""
    elide = CONFIGS[name]
    unbounded = Elide(**{field: getattr(elide, field) for field in elide.__struct_fields__} | {"max_keys": 9})
    run = play(unbounded, steps)
    run.stop()

    for key in "abcd":
        sent = [emission for _, emission in run.sent if emission.key == key]
        offered = [at for at, owner, _ in run.offered if owner == key]
        disclosed = sum(emission.elided.n for emission in sent if emission.elided)
        newer = len(offered) - len(sent) - disclosed
        assert newer >= 0
        assert newer <= sum(at >= sent[-1].at for at in offered) if sent else not offered


@every_policy
@few
@given(steps=arrivals)
def test_the_order_of_a_key_never_goes_back(name, steps):
    run = play(CONFIGS[name], steps)
    run.stop()

    for key in "abcd":
        times = [emission.at for _, emission in run.sent if emission.key == key]
        ids = [emission.data["id"] for _, emission in run.sent if emission.key == key and "id" in emission.data]
        assert times == sorted(times)
        assert ids == sorted(set(ids))


@pytest.mark.feature("ELI-08", breaks=f"{ELIDER}.flush")
@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in LOSES_THE_LAST])
@few
@given(steps=arrivals)
def test_the_last_value_always_gets_out(name, steps):
    run = play(CONFIGS[name], steps)
    run.stop()

    for key in "abcd":
        offered = [data for _, owner, data in run.offered if owner == key]
        sent = [emission.data for _, emission in run.sent if emission.key == key]
        if offered and CONFIGS[name].policy == "aggregate":
            assert sent[-1]["last"] == offered[-1]["value"]
        elif offered:
            assert sent[-1] == offered[-1]


@pytest.mark.parametrize("name", ["latest", "latest, bypass", "sample", "debounce", "debounce, bypass", "aggregate"])
@few
@given(steps=arrivals)
def test_the_last_value_gets_out_by_itself_when_the_producer_stops(name, steps):
    run = play(CONFIGS[name], steps)
    run.pass_time(3 * SECOND)

    assert run.elider.held == 0
    assert run.elider.flush(run.now) == Outcome((), 0)


@pytest.mark.parametrize("name", ["latest", "throttle_first", "sample", "aggregate"])
@few
@given(steps=arrivals)
def test_at_most_one_message_per_interval_and_key(name, steps):
    steps = [(span, key, data) for span, key, data in steps if key != "d"]
    run = play(CONFIGS[name], steps)
    run.pass_time(5 * SECOND)

    for key in "abc":
        times = [at for at, emission in run.sent if emission.key == key]
        assert all(later - earlier >= SECOND for earlier, later in itertools.pairwise(times))


@pytest.mark.feature("ELI-01", breaks=f"{ELIDER}.expire")
@few
@given(steps=arrivals)
def test_no_value_waits_longer_than_its_interval(steps):
    steps = [(span, key, data) for span, key, data in steps if key != "d"]
    run = play(CONFIGS["latest"], steps)
    run.pass_time(5 * SECOND)

    assert all(at - emission.at <= SECOND for at, emission in run.sent)


@few
@given(
    steps=st.lists(st.tuples(st.integers(1, 9), st.one_of(st.integers(-20, 20), st.floats(-20, 20))), min_size=1),
    tolerance=st.floats(0.1, 10),
)
def test_swinging_door_leaves_out_only_what_lies_within_tolerance_of_the_line(steps, tolerance):
    run = Run(Elide(policy="swinging_door", tolerance=tolerance))
    for span, value in steps:
        run.pass_time(span * SECOND)
        run.offer("", {"value": value})
    run.stop()

    corners = [(emission.at, emission.data["value"]) for _, emission in run.sent]
    for at, _, data in run.offered:
        before = max(corner for corner in corners if corner[0] <= at)
        after = min((corner for corner in corners if corner[0] >= at), default=before)
        share = (at - before[0]) / (after[0] - before[0]) if after[0] > before[0] else 0
        line = before[1] + share * (after[1] - before[1])
        assert abs(data["value"] - line) <= tolerance * (1 + 1e-6)


@every_policy
@few
@given(steps=arrivals)
def test_an_engine_that_never_asks_loses_nothing(name, steps):
    """However late the timers fire, the books balance and the order of a key holds."""
    elider, sent, elided, now = Elider(CONFIGS[name]), [], 0, 0
    for offered, (span, key, data) in enumerate(steps, start=1):
        now += span
        outcome = elider.offer(key, data, Ns(now))
        sent += outcome.emit
        elided += outcome.elided
        assert len(sent) + elided + elider.held == offered
    for key in "abcd":
        times = [emission.at for emission in sent if emission.key == key]
        assert times == sorted(times)


# -- references: each policy once more, as plainly as it can be said, over a finished list of one key ----------------------------

Times = list[int]
Sends = list[tuple[int, int]]


def latest(times: Times) -> Sends:
    sends: Sends = []
    free = 0
    for place, at in enumerate(times):
        following = times[place + 1] if place + 1 < len(times) else None
        out = max(at, free)
        if following is None or following >= out:
            if not sends or out > sends[-1][0] or at == out:
                sends.append((out, place))
            free = out + SECOND
        elif at >= free:
            sends.append((at, place))
            free = at + SECOND
    return sends


def throttle_first(times: Times) -> Sends:
    sends: Sends = []
    for place, at in enumerate(times):
        if not sends or at - sends[-1][0] >= SECOND:
            sends.append((at, place))
    return sends


def sample(times: Times) -> Sends:
    newest = {(at - times[0]) // SECOND: place for place, at in enumerate(times)}
    return [(times[0] + (cell + 1) * SECOND, place) for cell, place in newest.items()]


def debounce(times: Times) -> Sends:
    sends: Sends = []
    first = None
    for place, at in enumerate(times):
        first = at if first is None else first
        out = min(at + SECOND, first + 3 * SECOND)
        if place + 1 == len(times) or times[place + 1] >= out:
            sends.append((out, place))
            first = None
    return sends


REFERENCES: dict[str, Callable[[Times], Sends]] = {
    "latest": latest,
    "throttle_first": throttle_first,
    "sample": sample,
    "debounce": debounce,
}


@pytest.mark.parametrize("name", REFERENCES)
@few
@given(spans=st.lists(st.integers(1, 12).map(lambda quarter: quarter * SECOND // 4), max_size=40))
def test_a_plain_reference_sends_the_same_values_at_the_same_times(name, spans):
    times = list(itertools.accumulate(spans))
    run = play(CONFIGS[name], [(span, "a", {"value": place}) for place, span in enumerate(spans)])
    run.pass_time(10 * SECOND)

    assert [(at, emission.data["value"]) for at, emission in run.sent] == (REFERENCES[name](times) if times else [])


# -- a stateful model ----------------------------------------------------------------------------------------------------


class Elisions(RuleBasedStateMachine):
    """Any policy, any order of offers, waits and stops, against what must be true of all of them."""

    @initialize(name=st.sampled_from(sorted(CONFIGS)))
    def begin(self, name: str) -> None:
        self.run = Run(CONFIGS[name])

    @rule(key=st.sampled_from("abcd"), value=values, state=st.integers(0, 1))
    def offer(self, key: str, value: Any, state: int) -> None:
        self.run.offer(key, {"value": value, "state": state})

    @rule(quarter=st.integers(0, 60))
    def wait(self, quarter: int) -> None:
        self.run.pass_time(quarter * SECOND // 4)
        due = self.run.elider.due()
        assert due is None or due > self.run.now

    @rule()
    def wait_for_the_timer(self) -> None:
        due = self.run.elider.due()
        if due is not None:
            before, sent = self.run.elider.held, len(self.run.sent)
            self.run.pass_time(due - self.run.now)
            assert len(self.run.sent) > sent
            assert self.run.elider.held < before

    @precondition(lambda self: self.run.elider.held)
    @rule()
    def stop(self) -> None:
        self.run.stop()
        assert self.run.elider.held == 0

    @rule()
    def ask_too_early(self) -> None:
        due = self.run.elider.due()
        if due is None or due > self.run.now:
            assert self.run.elider.expire(self.run.now) == Outcome((), 0)

    @invariant()
    def the_books_balance(self) -> None:
        assert self.run.balanced()
        assert self.run.elider.held >= 0

    @invariant()
    def a_timer_runs_only_for_what_is_held(self) -> None:
        assert self.run.elider.held > 0 or self.run.elider.due() is None

    @invariant()
    def the_table_is_bounded(self) -> None:
        limit = self.run.elide.max_keys
        assert len(self.run.elider._slots) <= limit
        assert len(self.run.elider._heap) <= 4 * limit


TestElisions = Elisions.TestCase
TestElisions.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
