"""The status lamp, to the nanosecond."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chappe.core.buttons import Button
from chappe.core.indicators import SIGNAL_LAMPS, State, StatusLamp, signal_levels
from chappe.core.units import MILLISECOND, SECOND, Ns

LAMP = "chappe.core.indicators:StatusLamp"

# The appendix of the contract once more, by hand: for every state the edges of one period in milliseconds, on first, and the period.
CONTRACT: dict[State, tuple[list[int], int]] = {
    State.RESET_COUNTDOWN: ([0, 150], 200),
    State.IDENTIFY: ([0, 50], 100),
    State.STARTING: ([0, 100], 200),
    State.UPDATING: ([0, 1000], 2000),
    State.ALERT: ([0, 500], 1000),
    State.CONFIG_REJECTED: ([0, 200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800, 2000, 2200, 2400, 2600], 4000),
    State.THERMAL: ([*range(0, 3200, 200)], 4400),
    State.CAMERA_FAULT: ([0, 200, 400, 600, 800, 1000, 1200, 1400], 2800),
    State.OUTBOX_FULL: ([0, 200, 400, 600, 800, 1000], 2400),
    State.BROKER_REFUSES: ([*range(0, 3600, 200)], 4800),
    State.NO_NETWORK: ([0, 200], 1600),
    State.BROKER_UNREACHABLE: ([0, 200, 400, 600], 2000),
    State.SENSOR_FAULT: ([0, 200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800], 3200),
    State.CLOCK_UNSYNCED: ([*range(0, 2400, 200)], 3600),
    State.CAMERA_OFF: ([0, 800, 1000, 1200], 2000),
    State.HEALTHY: ([0, 60], 5000),
}

START = 7_777_777_777


def edges(lamp: StatusLamp, start: int, span: int) -> list[tuple[int, float]]:
    """Every change of level in [start, start + span), as an engine would drive it."""
    found = []
    now = Ns(start)
    while now < start + span:
        level = lamp.advance(now)
        if level is not None:
            found.append((now - start, level))
        due = lamp.due()
        if due is None:
            break
        assert due > now
        now = due
    return found


@pytest.mark.feature("IND-01", breaks=f"{LAMP}.advance")
@pytest.mark.parametrize("state", CONTRACT, ids=lambda state: state.label)
def test_each_state_has_the_edges_of_the_contract_for_three_periods(state):
    moments, period = CONTRACT[state]
    lamp = StatusLamp(pwm=False)
    lamp.set(state, True, Ns(START))

    expected = [
        ((turn * period + moment) * MILLISECOND, float(place % 2 == 0))
        for turn in range(3)
        for place, moment in enumerate(moments)
    ]
    assert edges(lamp, START, 3 * period * MILLISECOND) == expected


@pytest.mark.feature("IND-01", breaks=f"{LAMP}.advance")
def test_an_update_fades_where_the_lamp_can_be_dimmed():
    lamp = StatusLamp(pwm=True)
    lamp.set(State.UPDATING, True, Ns(START))
    found = dict(edges(lamp, START, 4 * SECOND))

    assert found[1 * SECOND] == 1.0
    assert found[2 * SECOND] == 0.0
    assert found[SECOND // 5] == pytest.approx(0.2)
    rising = [level for at, level in found.items() if 0 < at <= SECOND]
    falling = [level for at, level in found.items() if SECOND < at <= 2 * SECOND]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert len(rising) == len(falling) == 25


def test_stopped_is_dark_without_an_edge():
    lamp = StatusLamp()
    lamp.set(State.STOPPED, True, Ns(START))

    assert edges(lamp, START, 60 * SECOND) == []
    assert lamp.due() is None
    assert lamp.active == (State.STOPPED,)


def test_the_table_is_numbered_in_order_of_precedence():
    assert [state.number for state in State] == list(range(18))
    assert set(CONTRACT) == set(State) - {State.BUTTON_HELD, State.STOPPED}


@pytest.mark.feature("IND-02", breaks=f"{LAMP}._choose")
def test_precedence_is_fixed_and_all_states_are_listed():
    """Camera fault, then offline, then identify: 4 flashes, still 4, 10 Hz."""
    lamp = StatusLamp()
    lamp.set(State.CAMERA_FAULT, True, Ns(0))
    four = edges(lamp, 0, 2800 * MILLISECOND)
    assert len(four) == 8

    lamp.set(State.BROKER_UNREACHABLE, True, Ns(2800 * MILLISECOND))
    assert edges(lamp, 2800 * MILLISECOND, 2800 * MILLISECOND) == four

    lamp.set(State.IDENTIFY, True, Ns(5600 * MILLISECOND))
    ten_hertz = edges(lamp, 5600 * MILLISECOND, SECOND)
    assert [at for at, _ in ten_hertz] == [place * 50 * MILLISECOND for place in range(20)]
    assert [state.label for state in lamp.active] == ["identify", "camera_fault", "broker_unreachable"]
    assert [state.number for state in lamp.active] == [2, 8, 12]


@pytest.mark.feature("IND-03", breaks=f"{LAMP}.show_for")
def test_identify_lasts_15_seconds_and_then_the_former_pattern_begins_anew():
    lamp = StatusLamp()
    lamp.set(State.HEALTHY, True, Ns(0))
    assert edges(lamp, 0, 3 * SECOND) == [(0, 1.0), (60 * MILLISECOND, 0.0)]
    lamp.show_for(State.IDENTIFY, 15 * SECOND, Ns(3 * SECOND))

    found = edges(lamp, 3 * SECOND, 15 * SECOND + 3 * SECOND)
    identify = [(at, level) for at, level in found if at < 15 * SECOND]
    assert [at for at, _ in identify] == [place * 50 * MILLISECOND for place in range(300)]
    assert [(at, level) for at, level in found if at >= 15 * SECOND] == [
        (15 * SECOND, 1.0),
        (15 * SECOND + 60 * MILLISECOND, 0.0),
    ]
    assert lamp.active == (State.HEALTHY,)


def test_a_second_identify_lengthens_but_never_shortens():
    lamp = StatusLamp()
    lamp.show_for(State.IDENTIFY, 15 * SECOND, Ns(0))
    lamp.show_for(State.IDENTIFY, 2 * SECOND, Ns(5 * SECOND))
    lamp.advance(Ns(14_999 * MILLISECOND))
    assert lamp.shown is State.IDENTIFY
    lamp.show_for(State.IDENTIFY, 2 * SECOND, Ns(14_999 * MILLISECOND))
    lamp.advance(Ns(15 * SECOND))
    assert lamp.shown is State.IDENTIFY
    lamp.advance(Ns(16_999 * MILLISECOND))
    assert lamp.active == ()
    assert lamp.level == 0.0


def test_a_state_that_holds_anyway_is_not_ended_by_a_span():
    lamp = StatusLamp()
    lamp.set(State.ALERT, True, Ns(0))
    lamp.show_for(State.ALERT, SECOND, Ns(0))
    lamp.advance(Ns(5 * SECOND))
    assert lamp.active == (State.ALERT,)

    lamp.clear(State.ALERT, Ns(5 * SECOND))
    assert lamp.active == ()


def test_a_late_call_ends_a_span_at_its_own_time():
    lamp = StatusLamp()
    lamp.set(State.HEALTHY, True, Ns(0))
    lamp.show_for(State.IDENTIFY, SECOND, Ns(0))

    assert lamp.advance(Ns(1_030 * MILLISECOND)) == 1.0
    assert lamp.due() == 1_060 * MILLISECOND


def test_a_state_that_is_set_again_keeps_its_phase():
    lamp = StatusLamp()
    lamp.set(State.ALERT, True, Ns(0))
    lamp.advance(Ns(0))
    lamp.set(State.ALERT, True, Ns(400 * MILLISECOND))

    assert lamp.due() == 500 * MILLISECOND


def test_a_change_is_due_at_once():
    lamp = StatusLamp()
    assert lamp.due() is None
    lamp.set(State.ALERT, True, Ns(SECOND))
    assert lamp.due() == SECOND
    assert lamp.advance(Ns(SECOND)) == 1.0
    assert lamp.advance(Ns(SECOND)) is None
    lamp.clear(State.ALERT, Ns(1_100 * MILLISECOND))
    assert lamp.due() == 1_100 * MILLISECOND
    assert lamp.advance(Ns(1_100 * MILLISECOND)) == 0.0
    assert lamp.due() is None


# -- quiet hours and brightness --------------------------------------------------------------------------------------------


@pytest.mark.feature("IND-05", breaks=f"{LAMP}.dim")
@pytest.mark.parametrize("state", State, ids=lambda state: state.label)
def test_quiet_hours_are_dark_but_for_alert_identify_and_a_finger_on_the_button(state):
    lamp = StatusLamp()
    lamp.set(State.HEALTHY, True, Ns(0))
    lamp.dim(brightness=1.0, quiet=True, now=Ns(0))
    lamp.set(state, True, Ns(0))

    lit = any(level for _, level in edges(lamp, 0, 10 * SECOND))
    assert lit == (state in {State.ALERT, State.IDENTIFY, State.BUTTON_HELD, State.RESET_COUNTDOWN})
    assert state in lamp.active


def test_an_alert_is_seen_at_night_even_below_a_state_that_is_not():
    lamp = StatusLamp()
    lamp.dim(brightness=1.0, quiet=True, now=Ns(0))
    lamp.set(State.ALERT, True, Ns(0))
    lamp.set(State.STARTING, True, Ns(0))

    assert lamp.shown is State.ALERT
    lamp.dim(brightness=1.0, quiet=False, now=Ns(SECOND))
    assert lamp.shown is State.STARTING


def test_a_pattern_begins_anew_when_the_quiet_hours_end():
    lamp = StatusLamp()
    lamp.dim(brightness=1.0, quiet=True, now=Ns(0))
    lamp.set(State.HEALTHY, True, Ns(0))
    assert edges(lamp, 0, 12 * SECOND) == []

    lamp.dim(brightness=1.0, quiet=False, now=Ns(12 * SECOND))
    assert edges(lamp, 12 * SECOND, SECOND) == [(0, 1.0), (60 * MILLISECOND, 0.0)]


@pytest.mark.feature("IND-05", breaks=f"{LAMP}._target")
def test_brightness_scales_the_level_of_a_lamp_that_can_be_dimmed():
    lamp = StatusLamp(brightness=0.25)
    lamp.set(State.ALERT, True, Ns(0))
    assert lamp.advance(Ns(0)) == 0.25
    lamp.dim(brightness=0.5, quiet=False, now=Ns(0))
    assert lamp.due() == 0
    assert lamp.advance(Ns(0)) == 0.5

    plain = StatusLamp(pwm=False, brightness=0.25)
    plain.set(State.ALERT, True, Ns(0))
    assert plain.advance(Ns(0)) == 1.0


# -- a finger on the button, and the signal lamps ----------------------------------------------------------------------------


def test_the_lamp_follows_a_hold_through_its_stages():
    """Lit from 3 s, dark from 10 s, countdown from 15 s, above everything else; then the former pattern."""
    button, lamp = Button(), StatusLamp()
    lamp.set(State.IDENTIFY, True, Ns(0))
    button.edge(True, Ns(0))
    shown = []
    while (due := button.due()) is not None:
        button.expire(due)
        lamp.follow(button.stage(due), due)
        lamp.advance(due)
        span = (button.due() or due) - due
        shown.append((due // SECOND, lamp.shown, lamp.level, len(edges(lamp, due, span))))

    assert shown == [
        (3, State.BUTTON_HELD, 1.0, 0),
        (10, State.BUTTON_HELD, 0.0, 0),
        (15, State.RESET_COUNTDOWN, 1.0, 49),
        (20, State.IDENTIFY, 1.0, 0),
    ]
    assert lamp.active == (State.IDENTIFY,)


@pytest.mark.feature("IND-04", breaks="chappe.core.indicators:signal_levels")
@pytest.mark.parametrize(
    ("signal", "lit"), [("BUY", {"green"}), ("SELL", {"red"}), ("HOLD", {"blue"}), ("-", set()), ("MOON", set())]
)
def test_a_signal_lights_its_lamp_and_no_other(signal, lit):
    levels = signal_levels(signal)

    assert {lamp for lamp, level in levels.items() if level == 1.0} == lit
    assert set(levels) == set(SIGNAL_LAMPS.values())
    assert set(levels.values()) <= {0.0, 1.0}


# -- whatever happens --------------------------------------------------------------------------------------------------------

states = st.sampled_from(list(State))
changes = st.lists(st.tuples(st.integers(0, 7 * SECOND), states, st.sampled_from(["on", "off", "span"])), max_size=12)


@settings(max_examples=60, deadline=None)
@given(changes=changes)
def test_the_first_of_the_active_states_is_shown_and_due_misses_no_edge(changes):
    lamp = StatusLamp()
    now = 0
    for pause, state, what in changes:
        edges(lamp, lamp._now, now + pause - lamp._now)
        now += pause
        if what == "span":
            lamp.show_for(state, SECOND, Ns(now))
        else:
            lamp.set(state, what == "on", Ns(now))
        lamp.advance(Ns(now))
        assert lamp.shown is (lamp.active[0] if lamp.active else None)
        due = lamp.due()
        assert due is None or due > now
        if due is not None:
            before = lamp.level
            assert lamp.advance(Ns(due - 1)) is None
            assert lamp.level == before
            now = due


def test_edges_alternate_in_every_pattern_of_on_and_off():
    for state in set(CONTRACT):
        lamp = StatusLamp(pwm=False)
        lamp.set(state, True, Ns(0))
        levels = [level for _, level in edges(lamp, 0, 11 * SECOND)]
        assert all(first != second for first, second in itertools.pairwise(levels))
