"""A whole device at manual time: what goes in at one end and comes out at the others."""

from __future__ import annotations

import json

import pytest

from chappe.core import events as ev
from chappe.core.gestures import Sighting
from chappe.core.units import MILLISECOND, SECOND
from chappe.testing import Tower

CAMERA = '[camera]\nsource = "files"\npath = "frames"\n'
SIGNALS = '[signals]\nPointing_Up = "BUY"\nOpen_Palm = "SELL"\nClosed_Fist = "HOLD"\n'
LAMPS = "[indicators]\nstatus = 17\ngreen = 5\nred = 6\nblue = 13\npwm = false\n"


def show(tower: Tower, *labels: str, frames: int = 3, hz: float = 10.0) -> None:
    """Frames with these hands, then the time of as many frames."""
    for _ in range(frames):
        tower.see(*labels)
        tower.advance(1 / hz)


# ── signals ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("SIG-01", breaks="chappe.core.gestures:Latch.see")
def test_three_gestures_give_three_retained_signals_after_the_first_dash() -> None:
    tower = Tower(SIGNALS + CAMERA)
    tower.link_up()
    for label in ("Pointing_Up", "Open_Palm", "Closed_Fist"):
        show(tower, label)
    messages = tower.on("T/signal")
    assert [message.payload["signal"] for message in messages] == ["-", "BUY", "SELL", "HOLD"]
    assert all(message.retain and message.qos == 1 for message in messages)


@pytest.mark.feature("SIG-02", breaks="chappe.core.gestures:Latch._best")
def test_of_two_hands_the_mapped_one_counts_even_if_the_other_scores_higher() -> None:
    tower = Tower(SIGNALS + CAMERA)
    tower.link_up()
    victory = Sighting("Victory", 0.99, "left", (0, 0, 9, 9), 1)
    palm = Sighting("Open_Palm", 0.95, "right", (50, 0, 9, 9), 2)
    for _ in range(3):
        tower.see(victory)
    assert [message.payload["signal"] for message in tower.on("T/signal")] == ["-"]
    for _ in range(3):
        tower.see(victory, palm)
    assert tower.last("T/signal")["signal"] == "SELL"


@pytest.mark.feature("SIG-03", breaks="chappe.core.gestures:Latch.due")
def test_a_latched_signal_ends_exactly_so_long_after_the_last_sighting() -> None:
    tower = Tower(SIGNALS + CAMERA + '[gestures]\nlatch = "2s"\n')
    tower.link_up()
    show(tower, "Pointing_Up", frames=5)  # last sighting at 0.4 s
    tower.advance(5)
    assert [(m.at, m.payload["signal"]) for m in tower.on("T/signal")] == [(0.0, "-"), (0.2, "BUY"), (2.4, "-")]


def test_without_a_latch_time_a_signal_outlives_thirty_empty_frames() -> None:
    tower = Tower(SIGNALS + CAMERA)
    show(tower, "Pointing_Up")
    show(tower, frames=30)
    assert tower.engine.eyes.signal == "BUY"


@pytest.mark.feature("MOD-08", breaks="chappe.core.parts.eyes:Eyes.model_loaded")
def test_a_gesture_carries_the_model_that_saw_it_and_the_retained_model_topic_named_it() -> None:
    tower = Tower(SIGNALS + CAMERA)
    tower.link_up()
    show(tower, "Open_Palm")
    tower.feed(ev.ModelLoaded(at=tower.clock.now(), name="hands-full", model="hands-full@12345678"))
    show(tower, "Closed_Fist")
    assert [m.payload["model"] for m in tower.stream("gesture")] == ["hands-lite@00000000", "hands-full@12345678"]
    assert tower.last("T/model/hands-lite")["model"] == "hands-lite@00000000"
    assert tower.last("T/model/hands-full")["model"] == "hands-full@12345678"


@pytest.mark.feature("SIG-05", breaks="chappe.core.parts.deeds:Deeds.react")
def test_a_rule_pulses_an_output_while_the_broker_is_down_and_the_gesture_is_queued() -> None:
    rule = '[outputs.relay]\npin = 22\n[rules.wave]\ngesture = "Thumb_Up"\noutput = "relay"\npulse = "500ms"\n'
    tower = Tower(CAMERA + rule)
    tower.advance(1)
    show(tower, "Thumb_Up")
    tower.advance(2)
    assert [(d.at, d.level) for d in tower.driven if d.pin == "relay"] == [(1.2, 1.0), (1.7, 0.0)]
    assert tower.engine.context.outbox.lanes["gesture"].depth == 1
    tower.link_up()
    (message,) = tower.stream("gesture")
    assert message.payload["late"] is True


def test_rules_follow_signals_and_presses_too() -> None:
    rules = '[rules.a]\nsignal = "BUY"\nmark = "bought"\n[rules.b]\npress = "double"\nmark = "twice"\n'
    tower = Tower(CAMERA + SIGNALS + rules + "[buttons]\nmain = 26\n")
    tower.link_up()
    show(tower, "Pointing_Up")
    tower.press(0.1)
    tower.advance(0.1)
    tower.press(0.1)
    tower.advance(1)
    assert [m.data["mark"] for m in tower.stream("mark")] == ["bought", "button", "twice"]


def test_a_safe_high_output_is_driven_low_by_a_pulse_and_goes_back() -> None:
    text = (
        '[outputs.valve]\npin = 22\nsafe = "high"\n[rules.a]\npress = "short"\noutput = "valve"\n[buttons]\nmain = 26\n'
    )
    tower = Tower(text)
    tower.press(0.1)
    tower.advance(2)
    assert [d.level for d in tower.driven if d.pin == "valve"] == [0.0, 1.0]


# ── elision on the way out ───────────────────────────────────────────────────────────────────────────────────────────

WAVE = '[sensors.wave]\ndriver = "simulated"\nwave = "counter"\nevery = "250ms"\nunit = "V"\n[streams.wave]\nclass = "latest"\nelide = {{ {} }}\n'


@pytest.mark.feature("ELI-01", breaks="chappe.core.elision.elider:Elider.expire")
@pytest.mark.feature("ELI-02", breaks="chappe.core.elision.values:Slot.summary")
def test_forty_messages_at_4_hz_give_eleven_and_say_what_they_left_out() -> None:
    tower = Tower(WAVE.format('policy = "latest", every = "1s"').replace("250ms", "1d"))
    tower.link_up()
    for n in range(40):
        tower.until(n / 4)
        if n:
            tower.sensor("wave", n)
    tower.until(12)
    messages = tower.stream("wave")
    assert [(m.at, m.data["value"]) for m in messages] == [(0, 0), *((float(s), 4 * s - 1) for s in range(1, 11))]
    elided = [m.payload.get("elided", {}).get("n", 0) for m in messages]
    assert elided == [0, 2, *[3] * 9]
    assert messages[1].payload["elided"] == {"n": 2, "min": 1, "max": 2, "mean": 1.5}
    assert (sum(elided), tower.book("wave")["elided"], tower.book("wave")["delivered"]) == (29, 29, 11)
    assert tower.audits


@pytest.mark.feature("ELI-08", breaks="chappe.core.outbox:Outbox.flush")
def test_a_held_value_is_sent_before_stopped() -> None:
    tower = Tower(WAVE.format('policy = "latest", every = "1m"').replace("250ms", "1d"))
    tower.link_up()
    tower.advance(1)
    tower.sensor("wave", 7)
    assert [m.data["value"] for m in tower.stream("wave")] == [0]
    tower.stop()
    topics = [m.topic.rsplit("/", 1)[-1] for m in tower.published]
    assert [m.data["value"] for m in tower.stream("wave")] == [0, 7]
    assert topics.index("wave") < len(topics) - 1 - topics[::-1].index("state")
    assert tower.last("T/state")["status"] == "stopped"
    assert tower.audits


def test_health_tells_the_elided_counts() -> None:
    tower = Tower(WAVE.format('policy = "latest", every = "1s"'))
    tower.link_up()
    tower.advance(60)
    book = tower.last("T/health")["streams"]["wave"]
    assert book["produced"] == book["delivered"] + book["elided"] + book["queued"]
    assert book["elided"] > 150


# ── sensors and jobs ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("SEN-01", breaks="chappe.core.parts.senses:Senses.expire")
def test_a_counter_every_10_ms_for_10_s_gives_a_thousand_values_in_order() -> None:
    tower = Tower('[sensors.tick]\ndriver = "simulated"\nwave = "counter"\nevery = "10ms"\n')
    tower.link_up()
    tower.advance(10 - 0.001)
    values = [m.data["value"] for m in tower.stream("tick")]
    assert values == list(range(1000))
    assert tower.stream("tick")[-1].at == 9.99


def test_each_sensor_has_its_own_period() -> None:
    tower = Tower('[sensors.a]\ndriver = "simulated"\nevery = "1s"\n[sensors.b]\ndriver = "simulated"\nevery = "3s"\n')
    tower.advance(9 - 0.001)
    assert (tower.book("a")["produced"], tower.book("b")["produced"]) == (9, 3)


def test_readings_missed_while_the_engine_was_busy_are_not_made_up_for() -> None:
    tower = Tower('[sensors.a]\ndriver = "simulated"\nevery = "1s"\n')
    tower.clock.advance(10.5)
    tower._step(ev.Tick(at=tower.clock.now()))
    tower.advance(0)
    assert tower.book("a")["produced"] == 2
    tower.advance(1)
    assert tower.book("a")["produced"] == 3


@pytest.mark.feature("SEN-02", breaks="chappe.core.calibration:calibrate")
def test_calibration_scale_offset_and_precision() -> None:
    tower = Tower(
        '[sensors.a]\ndriver = "simulated"\nevery = "1d"\nscale = 0.1\noffset = -2\nprecision = 1\nunit = "%"\n'
    )
    tower.link_up()
    tower.sensor("a", 1024)
    assert tower.stream("a")[-1].data == {"value": 100.4, "unit": "%"}


def test_a_value_that_is_no_number_is_refused_counted_and_a_fault() -> None:
    tower = Tower('[sensors.a]\ndriver = "simulated"\nevery = "1d"\n')
    tower.sensor("a", float("nan"))
    assert (tower.book("a")["invalid"], tower.book("a")["produced"]) == (1, 1)
    assert tower.book("fault")["produced"] == 1


def test_a_silent_sensor_is_stale_after_thirty_seconds_shown_and_healed() -> None:
    tower = Tower('[sensors.a]\ndriver = "simulated"\nevery = "1s"\n')
    tower.link_up()
    tower.reading["a"] = lambda: None
    tower.advance(60)
    faults = tower.stream("fault")
    assert [(m.at, m.data["part"], m.data["code"], m.data["healed"]) for m in faults] == [
        (30.0, "sensors.a", "sensor_stale", False)
    ]
    assert "sensor_fault" in [state.label for state in tower.engine.context.lamp.active]
    tower.reading["a"] = lambda: 1.0
    tower.advance(1)
    assert tower.stream("fault")[-1].data["healed"] is True
    assert "sensor_fault" not in [state.label for state in tower.engine.context.lamp.active]


def test_a_failing_sensor_is_one_fault_however_often_it_fails() -> None:
    tower = Tower('[sensors.a]\ndriver = "simulated"\nevery = "1d"\n')
    tower.link_up()
    for _ in range(5):
        tower.feed(ev.SensorFailed(at=tower.clock.now(), name="a", code="sensor_timeout", message="hangs"))
    tower.advance(0.02)
    assert len(tower.stream("fault")) == 1


@pytest.mark.feature("SCH-01", breaks="chappe.core.parts.deeds:Deeds.do")
def test_a_job_every_10_s_for_60_s_runs_at_0_10_50() -> None:
    tower = Tower('[jobs.beat]\nevery = "10s"\nmark = "beat"\n')
    tower.link_up()
    tower.advance(60 - 0.001)
    assert [m.at for m in tower.stream("mark")] == [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]


def test_a_job_of_the_scheduler_tells_how_many_runs_it_missed() -> None:
    tower = Tower('[jobs.hourly]\ncron = "0 * * * *"\nmark = "hour"\n')
    tower.link_up()
    tower.feed(ev.JobFired(at=tower.clock.now(), job="hourly", missed=2))
    assert tower.stream("mark")[0].data == {"mark": "hour", "by": "job:hourly", "missed": 2}


# ── buttons and lamps ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("BTN-01", breaks="chappe.core.parts.pins:Pins._presses")
def test_short_and_double_presses_become_messages() -> None:
    tower = Tower("[buttons]\nmain = 26\n")
    tower.link_up()
    tower.press(0.2)
    tower.advance(1)
    tower.press(0.2)
    tower.advance(0.2)
    tower.press(0.2)
    tower.advance(1)
    assert [m.data for m in tower.stream("button")] == [
        {"button": "main", "press": "short"},
        {"button": "main", "press": "double"},
    ]


def test_a_short_press_identifies_for_two_seconds() -> None:
    tower = Tower("[buttons]\nmain = 26\n" + LAMPS)
    tower.press(0.1)
    tower.advance(0.5)
    assert tower.engine.context.lamp.shown is not None
    assert tower.engine.context.lamp.shown.label == "identify"
    tower.advance(2)
    assert tower.engine.context.lamp.shown.label != "identify"


@pytest.mark.feature("IND-03", breaks="chappe.core.parts.pins:Pins.identify")
def test_identify_blinks_at_10_hz_for_15_s_then_the_former_pattern() -> None:
    tower = Tower(LAMPS)
    tower.feed(ev.Ready(at=tower.clock.now()))
    tower.link_up()
    tower.advance(10)
    tower.driven.clear()
    tower.ask("identify")
    tower.advance(15)
    edges = [d for d in tower.driven if d.pin == "status"]
    assert [d.at for d in edges[:5]] == [10.05, 10.1, 10.15, 10.2, 10.25]  # the blip of `healthy` was lit already
    assert len([d for d in edges if d.level == 1.0 and d.at < 25.0]) == 149  # and the blip that was lit
    tower.driven.clear()
    tower.advance(10)
    assert [round(d.at - 25, 3) for d in tower.driven if d.pin == "status"][:3] == [0.06, 5.0, 5.06]
    assert tower.last("T/res/identify") == {"status": "ok", "data": {"seconds": 15}}


@pytest.mark.feature("IND-04", breaks="chappe.core.parts.pins:Pins.signal")
def test_signal_lamps_follow_the_signal_and_a_stop_puts_them_out() -> None:
    tower = Tower(SIGNALS + CAMERA + LAMPS + "[outputs.relay]\npin = 22\n")
    tower.link_up()
    lit: dict[str, float] = {}
    seen = []
    for label in ("Pointing_Up", "Open_Palm", "Closed_Fist"):
        show(tower, label)
        lit.update({d.pin: d.level for d in tower.driven})
        seen.append([pin for pin in ("green", "red", "blue") if lit.get(pin)])
    assert seen == [["green"], ["red"], ["blue"]]
    tower.stop()
    lit.update({d.pin: d.level for d in tower.driven})
    assert set(lit) == {"status", "green", "red", "blue", "relay"}
    assert not any(lit.values())


@pytest.mark.feature("IND-01", breaks="chappe.core.parts.pins:Pins.refresh")
def test_the_status_lamp_tells_the_link_and_the_first_edge_comes_with_the_start() -> None:
    tower = Tower(LAMPS)
    assert [(d.pin, d.at, d.level) for d in tower.driven] == [("status", 0.0, 1.0)]
    tower.feed(ev.Ready(at=tower.clock.now()))
    shown = []
    for status in ("refused", "no_network", "auth_failed", "tls_untrusted"):
        tower.link_down(status)  # type: ignore[arg-type]
        assert tower.engine.context.lamp.shown is not None
        shown.append(tower.engine.context.lamp.shown.number)
    tower.link_up()
    shown.append(tower.engine.context.lamp.shown.number)
    assert shown == [12, 11, 10, 10, 16]


@pytest.mark.feature("IND-05", breaks="chappe.core.parts.pins:Pins._dim")
def test_in_quiet_hours_the_status_lamp_is_dark_but_for_identify() -> None:
    # The tower starts at 21:00 UTC.
    tower = Tower(LAMPS + 'quiet = "22:00-07:00"\n')
    tower.feed(ev.Ready(at=tower.clock.now()))
    tower.link_up()
    tower.advance(3600)
    tower.driven.clear()
    tower.advance(3600)
    assert tower.driven == []
    tower.ask("identify")
    tower.advance(1)
    assert tower.driven
    tower.until(10 * 3600)
    tower.driven.clear()
    tower.advance(10)
    assert len(tower.driven) == 4


# ── camera ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("CAP-07", breaks="chappe.core.parts.eyes:Eyes.switch_by_request")
def test_camera_off_by_request_is_obeyed_at_once_and_kept_over_restarts() -> None:
    tower = Tower(CAMERA)
    tower.link_up()
    tower.ask("camera", {"on": False})
    assert tower.closed == [0.0]
    assert tower.last("T/res/camera")["status"] == "ok"
    again = Tower(CAMERA, memory=tower.memory)
    again.link_up()
    again.advance(60)
    assert again.opened == []
    again.ask("camera", {"on": True})
    assert again.opened == [60.0]
    assert Tower(CAMERA, memory=again.memory).opened == [0.0]


def test_what_the_owner_switched_off_no_message_switches_on() -> None:
    tower = Tower(CAMERA + "[buttons]\nmain = 26\n")
    tower.link_up()
    tower.press(3.5)
    tower.advance(0.1)
    assert tower.closed == [pytest.approx(3.53)]
    tower.ask("camera", {"on": True})
    assert tower.last("T/res/camera")["error"]["code"] == "owner_off"
    again = Tower(CAMERA + "[buttons]\nmain = 26\n", memory=tower.memory)
    assert again.opened == []
    again.press(3.5)
    again.advance(0.1)
    assert again.opened == [pytest.approx(3.53)]


@pytest.mark.feature("CAP-04", breaks="chappe.core.camera:CameraWatch._stall")
def test_a_frozen_camera_is_a_fault_after_5_s_restarted_with_growing_pauses_and_healed() -> None:
    tower = Tower(CAMERA + '[sensors.a]\ndriver = "simulated"\nevery = "1s"\n')
    tower.link_up()
    for n in range(50):
        tower.until(n / 10)
        tower.see()
    tower.until(4.9 + 5 + 2 + 4 + 8 + 16 + 0.5)
    faults = [m for m in tower.stream("fault") if m.data["part"] == "camera"]
    assert [(m.at, m.data["code"], m.data["healed"]) for m in faults] == [(9.9, "camera_stalled", False)]
    assert tower.opened == [0.0, 9.9, 11.9, 15.9, 23.9, 39.9]
    tower.see()
    assert tower.stream("fault")[-1].data == {"part": "camera", "code": "camera_stalled", "healed": True}
    assert tower.engine.eyes.camera_document()["restarts"] == 5
    assert [m.at for m in tower.stream("a")] == [float(n) for n in range(41)]


def test_a_missing_camera_is_told_once_and_tried_again_and_the_device_stays_online() -> None:
    tower = Tower(CAMERA)
    tower.link_up()
    tower.feed(ev.CameraFailed(at=tower.clock.now(), code="camera_missing", message="no such folder"))
    tower.advance(3)
    tower.feed(ev.CameraFailed(at=tower.clock.now(), code="camera_missing", message="no such folder"))
    assert [m.data["code"] for m in tower.stream("fault")] == ["camera_missing"]
    assert len(tower.opened) >= 2
    assert tower.last("T/state")["status"] == "online"


def test_a_rejected_model_is_a_fault_that_names_it_and_a_good_one_heals_it() -> None:
    tower = Tower(CAMERA)
    tower.link_up()
    tower.feed(ev.ModelRejected(at=tower.clock.now(), name="hands-full", message="palm: sha256 differs"))
    tower.advance(0.02)
    fault = tower.stream("fault")[-1].data
    assert (fault["part"], fault["code"], fault["model"]) == ("vision", "model_rejected", "hands-full")
    assert "sha256" in fault["message"]
    tower.feed(ev.ModelLoaded(at=tower.clock.now(), name="hands-full", model="hands-full@1"))
    tower.advance(0.02)
    assert tower.stream("fault")[-1].data["healed"] is True


# ── the link ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("MQT-05", breaks="chappe.core.parts.farewell:state")
def test_a_connect_announces_state_info_signal_retained_and_a_clean_stop_says_stopped_with_last_numbers() -> None:
    tower = Tower(CAMERA + '[sensors.a]\ndriver = "simulated"\nevery = "1s"\n')
    tower.link_up()
    assert tower.published[0].topic == "chappe/tower-1/state"
    assert tower.published[0].payload == {"status": "online", "boot": "0123456789abcdef"}
    assert {m.topic.rsplit("/", 1)[-1] for m in tower.published if m.retain} >= {"state", "info", "signal"}
    tower.advance(3)
    tower.stop()
    assert tower.last("T/state") == {"status": "stopped", "boot": "0123456789abcdef", "last": {"a": 4}}
    assert tower.finished == 3.0


@pytest.mark.feature("MQT-06", breaks="chappe.core.lastvalues:LastValues.announce")
def test_after_every_reconnect_everything_retained_is_announced_anew() -> None:
    tower = Tower(CAMERA + SIGNALS)
    tower.link_up()
    show(tower, "Open_Palm")
    before = {m.topic: m.payload for m in tower.published if m.retain}
    tower.link_down()
    tower.published.clear()
    tower.link_up()
    after = {m.topic: m.payload for m in tower.published if m.retain}
    assert after.keys() == before.keys()
    assert after["chappe/tower-1/signal"]["signal"] == "SELL"


def test_a_last_will_of_an_earlier_connection_is_overruled() -> None:
    tower = Tower()
    tower.link_up()
    will = b'{"status":"offline","boot":"0123456789abcdef"}'
    tower.feed(ev.Arrived(at=tower.clock.now(), topic="chappe/tower-1/state", body=will, retained=True))
    assert [m.payload["status"] for m in tower.on("T/state")] == ["online", "online"]


def test_a_clean_stop_waits_at_most_a_second_for_acknowledgements_and_one_more_for_the_goodbye() -> None:
    tower = Tower('[sensors.a]\ndriver = "simulated"\nevery = "1s"\n')
    tower.ack = lambda message: None
    tower.link_up()
    tower.advance(0.5)
    tower.stop()
    assert tower.finished == 2.5


def test_a_stop_while_offline_ends_at_once_and_tells_what_was_never_delivered() -> None:
    tower = Tower('[sensors.a]\ndriver = "simulated"\nevery = "1s"\n')
    tower.advance(5)
    tower.stop()
    assert tower.finished == 5.0
    assert tower.announced[-1] == (5.0, "state", {"status": "stopped", "undelivered": 6})
    assert (tower.book("a")["spilled"], tower.book("a")["queued"]) == (0, 6)
    assert tower.commits[-1].clean
    assert [row.seq for row in tower.rows.values()] == [1, 2, 3, 4, 5, 6]
    assert tower.audits


def test_what_is_unacknowledged_never_exceeds_the_window() -> None:
    tower = Tower('[sensors.a]\ndriver = "simulated"\nevery = "10ms"\n')
    tower.window = 20
    tower.ack = lambda message: None
    tower.link_up()
    tower.advance(5)
    assert len(tower.published) == 20


def test_info_names_streams_models_and_the_protocol() -> None:
    tower = Tower(
        CAMERA + '[sensors.a]\ndriver = "simulated"\nunit = "V"\n[streams.a]\nowner = "lab"\nclass = "latest"\n'
    )
    tower.link_up(protocol="3.1.1")
    info = tower.last("T/info")
    assert info["mqtt"] == "3.1.1"
    assert info["model"] == "hands-lite@00000000"
    stream = next(stream for stream in info["streams"] if stream["name"] == "a")
    assert (stream["class"], stream["unit"], stream["owner"]) == ("latest", "V", "lab")


def test_health_comes_every_minute_the_first_at_sixty_seconds() -> None:
    tower = Tower()
    tower.link_up()
    tower.advance(300)
    health = tower.on("T/health")
    assert [m.at for m in health] == [60.0, 120.0, 180.0, 240.0, 300.0]
    assert health[0].payload["rss"] == 50_000_000
    assert health[0].payload["link"] == {"status": "online", "reconnects": 0, "offline_s": 0.0}


def test_reconnects_and_offline_time_are_counted() -> None:
    tower = Tower()
    tower.link_up()
    tower.advance(10)
    tower.link_down()
    tower.advance(5)
    tower.link_up()
    tower.advance(45)
    assert tower.last("T/health")["link"] == {"status": "online", "reconnects": 1, "offline_s": 5.0}


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("CMD-01", breaks="chappe.core.parts.wire:Wire.asked")
def test_an_answer_goes_to_res_or_only_to_the_response_topic_with_its_correlation() -> None:
    tower = Tower()
    tower.link_up()
    tower.ask("status", {"id": "7"})
    assert tower.last("T/res/status")["id"] == "7"
    assert tower.last("T/res/status")["data"]["device"] == "tower-1"
    tower.ask("status", {"id": "8"}, reply_to="me/inbox", correlation="AQI=")
    assert len(tower.on("T/res/status")) == 1
    (answer,) = tower.on("me/inbox")
    assert (answer.payload["id"], answer.correlation) == ("8", "AQI=")


def test_a_request_over_the_socket_is_answered_there() -> None:
    tower = Tower()
    tower.ask("health", via="socket", reply_to="3")
    assert tower.replies["3"]["status"] == "ok"
    assert tower.published == []


def test_a_response_topic_with_wildcards_is_not_used() -> None:
    tower = Tower()
    tower.link_up()
    tower.ask("health", reply_to="a/#")
    assert len(tower.on("T/res/health")) == 1


def test_status_is_honest_about_lamps_faults_and_queue() -> None:
    tower = Tower(CAMERA)
    tower.feed(ev.Faulted(at=tower.clock.now(), part="camera", code="camera_failed", message="why"))
    tower.ask("status", via="socket", reply_to="1")
    status = tower.replies["1"]["data"]
    assert status["state"] == "offline"
    assert status["health"]["faults"][0]["code"] == "camera_failed"
    assert status["health"]["queue"]["depth"] == 1
    assert {"camera_fault", "broker_unreachable", "starting"} <= set(status["indicators"])


# ── reload and clock ─────────────────────────────────────────────────────────────────────────────────────────────────


def reloaded(tower: Tower, text: str) -> None:
    from chappe.core.settings import to_data
    from chappe.testing import parse

    tower.feed(ev.Reloaded(at=tower.clock.now(), config=to_data(parse(text)), config_hash="1" * 12))


def test_new_signals_take_effect_at_once_and_what_cannot_says_restart_required() -> None:
    tower = Tower(CAMERA + SIGNALS)
    tower.link_up()
    show(tower, "Pointing_Up")
    reloaded(tower, CAMERA + '[signals]\nPointing_Up = "UP"\nVictory = "WIN"\n[mqtt]\nport = 1999\n')
    show(tower, "Victory")
    assert [m.payload["signal"] for m in tower.on("T/signal")] == ["-", "BUY", "-", "WIN"]
    assert tower.last("T/info")["restart_required"] == ["mqtt.port"]
    assert tower.last("T/info")["config_hash"] == "1" * 12


def test_rules_come_live_by_a_reload_but_wait_for_outputs_that_are_not_open_yet() -> None:
    rule = '[rules.a]\npress = "short"\nmark = "pressed"\n'
    tower = Tower("[buttons]\nmain = 26\n")
    tower.link_up()
    reloaded(tower, "[buttons]\nmain = 26\n" + rule)
    tower.press(0.1)
    tower.advance(1)
    assert [m.data["mark"] for m in tower.stream("mark")] == ["pressed"]
    wired = '[outputs.bell]\npin = 22\n[rules.a]\npress = "short"\noutput = "bell"\n'
    reloaded(tower, "[buttons]\nmain = 26\n" + wired)
    tower.press(0.1)
    tower.advance(1)
    assert tower.last("T/info")["restart_required"] == ["outputs.bell", "rules"]
    assert len(tower.stream("mark")) == 2


def test_another_model_is_loaded_by_a_reload() -> None:
    tower = Tower(CAMERA)
    tower.link_up()
    reloaded(tower, CAMERA + '[vision]\nmodel = "hands-full"\n')
    assert tower.last("T/info")["model"] == "hands-full@00000000"
    assert tower.last("T/info")["restart_required"] == []


def test_a_refused_reload_is_a_fault_and_changes_nothing() -> None:
    tower = Tower(CAMERA + SIGNALS)
    tower.link_up()
    tower.feed(ev.ReloadRefused(at=tower.clock.now(), problems=("x.toml:3: mqtt.hots: unknown key",)))
    tower.advance(0.02)
    assert tower.stream("fault")[-1].data["code"] == "config_rejected"
    show(tower, "Pointing_Up")
    assert tower.last("T/signal")["signal"] == "BUY"


def test_a_step_of_the_wall_clock_changes_stamps_and_no_interval() -> None:
    tower = Tower('[sensors.a]\ndriver = "simulated"\nevery = "1s"\n', synced=False)
    tower.link_up()
    tower.advance(1.5)
    tower.clock.step_wall(3600)
    tower.feed(ev.ClockChanged(at=tower.clock.now(), wall=tower.clock.wall(), synced=True))
    tower.advance(1)
    stamps = [(m.at, m.payload["at"][11:19], m.payload["synced"]) for m in tower.stream("a")]
    assert stamps == [(0.0, "21:00:00", False), (1.0, "21:00:01", False), (2.0, "22:00:02", True)]


# ── time, order, determinism ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_timer_due_at_the_instant_of_an_event_fires_before_it() -> None:
    tower = Tower(WAVE.format('policy = "latest", every = "1s"').replace("250ms", "1d"))
    tower.link_up()
    tower.advance(0.5)
    tower.sensor("wave", 1)
    tower.clock.advance(0.5)
    tower.sensor("wave", 2)
    assert [(m.at, m.data["value"]) for m in tower.stream("wave")] == [(0.0, 0), (1.0, 1)]


def test_an_event_that_comes_out_of_order_is_taken_to_happen_now() -> None:
    tower = Tower('[sensors.a]\ndriver = "simulated"\nevery = "1d"\n')
    tower.link_up()
    tower.advance(1)
    tower._step(ev.SensorRead(at=tower.clock.now() - 5 * MILLISECOND, name="a", value=3))  # type: ignore[arg-type]
    assert tower.stream("a")[-1].data["value"] == 3
    assert tower.engine.context.now == SECOND


def test_every_published_payload_is_one_line_of_json() -> None:
    tower = Tower(CAMERA + SIGNALS + '[sensors.a]\ndriver = "simulated"\nevery = "1s"\n')
    tower.link_up()
    show(tower, "Open_Palm")
    tower.advance(61)
    for line in tower.lines:
        for effect in json.loads(line)["effects"]:
            if effect["type"] == "Publish":
                assert "\n" not in effect["payload"]
    assert len(tower.published) > 60
