"""Alerts: raised here, shown here, acknowledged here or from afar; whether there is a broker or not, and across restarts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.core import events as ev
from chappe.core.indicators import State
from chappe.core.parts.alerts import MEMORY, MOST, Shown
from chappe.testing import BOOT, Tower

SECOND_BOOT = "fedcba9876543210"

CONFIG = """
[indicators]
status = 17
[buttons]
main = 26
side = 20
[rules.help]
press = "double"
alert = "somebody needs help"
[rules.sell]
signal = "SELL"
alert = "sold"
output = "bell"
[signals]
Open_Palm = "SELL"
[outputs.bell]
pin = 5
[jobs.round]
cron = "0 3 * * *"
alert = "nobody has made the round"
"""


def tower(**more: Any) -> Tower:
    it = Tower(CONFIG, **more)
    it.feed(ev.Ready(at=it.clock.now()))
    return it


def twice(it: Tower) -> None:
    """A double press: the rule `help`."""
    it.press()
    it.advance(0.1)
    it.press()
    it.advance(0.5)


def shown(it: Tower) -> bool:
    return State.ALERT in it.engine.context.lamp.active


def state(it: Tower, seq: int, boot: str = BOOT) -> dict[str, Any]:
    it.ask("delivery", {"stream": "alert", "seq": seq, "boot": boot}, via="socket", reply_to="d")
    it.advance(0.01)
    return it.replies["d"]["data"]


def receipt(it: Tower, seq: int, kind: str = "read", boot: str = BOOT) -> None:
    body = json.dumps({"boot": boot, "seq": seq, "kind": kind, "by": "anna"}).encode()
    it.feed(ev.Arrived(at=it.clock.now(), topic="chappe/tower-1/receipt/alert", body=body))


# ── raised ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("SIG-05", breaks="chappe.core.parts.alerts:Alerts.begin")
def test_a_rule_raises_an_alert_that_leaves_before_all_else() -> None:
    """Its name, its text and its cause on the stream `alert`; what else the rule does it does as well."""
    it = tower()
    it.link_up()
    for _ in range(3):
        it.see("Open_Palm")
        it.advance(0.1)
    it.advance(1)
    [alert] = it.stream("alert")
    assert alert.data == {"alert": "sell", "text": "sold", "by": "rule:sell"}
    assert "bell" in {driven.pin for driven in it.driven}
    assert it.engine.context.specs["alert"].priority == 9


def test_a_job_raises_one_too_and_says_what_it_missed() -> None:
    it = tower()
    it.link_up()
    it.feed(ev.JobFired(at=it.clock.now(), job="round", missed=2))
    it.advance(1)
    assert it.stream("alert")[0].data == {
        "alert": "round",
        "text": "nobody has made the round",
        "by": "job:round",
        "missed": 2,
    }
    assert ("alert", it.stream("alert")[0].data) in [(kind, data) for _, kind, data in it.announced]


# ── shown ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("HIS-05", breaks="chappe.core.parts.alerts:Alerts.acknowledge")
def test_a_short_press_reads_every_alert_that_is_shown_and_puts_out_the_lamp() -> None:
    """Read by `button:main`, once each; the lamp does not identify the device then."""
    it = tower()
    it.link_up()
    twice(it)
    twice(it)
    assert shown(it)
    it.advance(1)
    it.press()
    it.advance(0.5)
    assert not shown(it)
    assert State.IDENTIFY not in it.engine.context.lamp.active
    for seq in (1, 2):
        assert (state(it, seq)["state"], state(it, seq)["by"]) == ("read", {"read": "button:main"})
    assert ("alert", {"acknowledged": 2, "by": "button:main"}) in [(kind, data) for _, kind, data in it.announced]


def test_with_nothing_to_acknowledge_a_short_press_identifies_for_two_seconds() -> None:
    it = tower()
    twice(it)
    it.press(button="side")
    it.advance(0.5)
    it.press()
    it.advance(0.45)
    assert State.IDENTIFY in it.engine.context.lamp.active
    it.advance(2)
    assert State.IDENTIFY not in it.engine.context.lamp.active


@pytest.mark.feature("IND-01", breaks="chappe.core.parts.alerts:Alerts._tell")
def test_the_lamp_blinks_half_a_second_on_and_off_until_somebody_has_seen_it() -> None:
    """FEATURES appendix C row 5, to the millisecond, below a camera fault or a lost link."""
    it = tower()
    it.advance(1)
    it.engine.context.fault("camera", "camera_missing")
    twice(it)
    raised = next(driven.at for driven in it.driven if driven.at > 1 and driven.level == 1.0 and shown(it))
    it.advance(3)
    edges = [
        (round(driven.at - raised, 3), driven.level)
        for driven in it.driven
        if driven.at >= raised and driven.pin == "status"
    ]
    assert edges[:6] == [(0.0, 1.0), (0.5, 0.0), (1.0, 1.0), (1.5, 0.0), (2.0, 1.0), (2.5, 0.0)]


@pytest.mark.feature("BTN-02", breaks="chappe.core.parts.pins:Pins._act")
def test_without_a_network_an_alert_is_acknowledged_at_once_and_told_later() -> None:
    """The lamp goes out with the press; alert and press both arrive with the link, late, and the alert is read already."""
    it = tower()
    twice(it)
    assert shown(it)
    it.press()
    it.advance(0.45)
    assert not shown(it)
    assert state(it, 1)["state"] == "read"
    it.link_up()
    it.advance(1)
    assert [message.payload["late"] for message in it.stream("alert")] == [True]
    assert [message.data["press"] for message in it.stream("button") if message.payload["late"]] == ["double", "short"]
    assert state(it, 1)["state"] == "read"


@pytest.mark.feature("HIS-05", breaks="chappe.core.parts.alerts:Alerts.read")
def test_a_receipt_from_afar_clears_that_alert_and_no_other() -> None:
    """`read` by whoever saw it; `delivered` only says that a machine has it."""
    it = tower()
    it.link_up()
    twice(it)
    twice(it)
    receipt(it, 1, "delivered")
    receipt(it, 2)
    assert shown(it)
    assert it.engine.deeds.alerts.count == 1
    receipt(it, 1)
    assert not shown(it)
    assert state(it, 1)["by"] == {"delivered": "anna", "read": "anna"}


def test_a_receipt_for_an_alert_that_nobody_can_have_seen_leaves_it_lit() -> None:
    """It still waits here."""
    it = tower()
    twice(it)
    receipt(it, 1)
    assert shown(it)


# ── across restarts ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("HIS-05", breaks="chappe.core.parts.alerts:Shown.data")
def test_what_nobody_has_acknowledged_is_shown_again_after_a_restart() -> None:
    """And acknowledged there; a third start shows nothing."""
    first = tower()
    twice(first)
    twice(first)
    second = tower(memory=json.loads(json.dumps(first.memory)), boot_id=SECOND_BOOT)
    assert shown(second)
    assert second.engine.deeds.alerts.count == 2
    twice(second)
    assert second.memory[MEMORY] == [[BOOT, 1, 2], [SECOND_BOOT, 1, 1]]
    second.press()
    second.advance(0.45)
    assert not shown(second)
    assert state(second, 2)["by"] == {"read": "button:main"}
    third = tower(memory=json.loads(json.dumps(second.memory)), boot_id="0" * 16)
    assert not shown(third)


@pytest.mark.parametrize(
    "kept", [None, 5, "x", {}, [5], [["a"]], [[1, 2, 3]], [["a", "1", 2]], [["a", 2, 1]], [["a", 1, 1, 1]]]
)
def test_a_memory_that_is_none_is_passed_over(kept: Any) -> None:
    assert not shown(tower(memory={MEMORY: kept}))


def test_a_memory_of_a_million_alerts_is_acknowledged_all_the_same() -> None:
    """The newest are marked; nothing takes for ever, whatever lies in the file."""
    it = tower(memory={MEMORY: [[SECOND_BOOT, 1, 10**15]]})
    it.press()
    it.advance(0.45)
    assert not shown(it)
    assert state(it, 10**15, SECOND_BOOT)["state"] == "read"


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=60))
def test_runs_hold_exactly_what_was_added_and_not_taken_away(steps: list[tuple[bool, int]]) -> None:
    """Against a plain list; and what goes to disk comes back."""
    it, model, seq = Shown(), [], 0
    for add, number in steps:
        if add:
            seq += 1 + number // 25
            it.add("a" if seq < 20 else "b", seq)
            model.append(("a" if seq < 20 else "b", seq))
        else:
            there = [item for item in model if item[1] == number]
            assert it.discard(*(there[0] if there else ("a", number))) == bool(there)
            model = [item for item in model if item not in there]
        assert list(reversed(it)) == model[::-1]
        assert (it.count, bool(it)) == (len(model), bool(model))
        assert list(reversed(Shown(json.loads(json.dumps(it.data))))) == model[::-1]


def test_a_flood_is_one_run_and_holes_are_bounded() -> None:
    it = Shown()
    for seq in range(1, 10_001):
        it.add(BOOT, seq)
    assert it.data == [[BOOT, 1, 10_000]]
    for seq in range(2, 1000, 2):
        it.discard(BOOT, seq)
    assert len(it.data) == MOST
    assert it.data[-1] == [BOOT, 999, 10_000]
