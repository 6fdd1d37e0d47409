"""`chappe run` as a process: real frames, real models, a real broker, real signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chappe.edge.broker import LocalBroker

from .process import Daemon

Make = Callable[..., Daemon]

SIGNALS = '[signals]\nPointing_Up = "BUY"\nOpen_Palm = "SELL"\nClosed_Fist = "HOLD"\n'
TICK = '[sensors.tick]\ndriver = "simulated"\nwave = "counter"\nevery = "100ms"\n'


def camera(frames: Path, weights: Path, hold: str = "400ms") -> str:
    return f'[camera]\nsource = "files"\npath = "{frames}"\nhold = "{hold}"\n[models]\ndir = "{weights}"\n'


def chappe(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chappe", *args],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def body(message: Any) -> dict[str, Any]:
    return json.loads(message.payload)


def test_a_hand_in_a_picture_becomes_a_message_and_a_retained_signal_on_the_broker(
    broker: LocalBroker, peer: Callable[..., Any], daemon: Make, frames: Path, weights: Path
) -> None:
    watcher = peer(broker)
    tower = daemon(SIGNALS + camera(frames, weights), broker.port)
    (first,) = watcher.wait_for(lambda message: message.topic.endswith("/stream/gesture"))
    envelope = body(first)
    assert envelope["data"]["gesture"] in {path.stem for path in frames.glob("*.png")} - {"None"}
    assert envelope["model"].startswith("hands-lite@")
    watcher.wait_for(lambda m: m.topic.endswith("/signal") and body(m)["signal"] == "BUY")
    assert tower.end() == 0
    late_comer = peer(broker, "chappe/tower-1/signal", "chappe/tower-1/state", client_id="late")
    (signal_now,) = late_comer.wait_for(lambda m: m.topic.endswith("/signal"))
    assert signal_now.retain
    assert body(signal_now)["signal"] in {"BUY", "SELL", "HOLD"}
    assert body(late_comer.wait_for(lambda m: m.topic.endswith("/state"))[0])["status"] == "stopped"


@pytest.mark.feature("MQT-05", breaks="chappe.core.parts.farewell:state")
def test_a_killed_daemon_is_offline_by_its_last_will_and_a_stopped_one_is_stopped(
    broker: LocalBroker, peer: Callable[..., Any], daemon: Make
) -> None:
    watcher = peer(broker, "chappe/tower-1/state")
    tower = daemon(TICK, broker.port)
    boot = body(watcher.wait_for(lambda m: body(m)["status"] == "online")[0])["boot"]
    tower.send(signal.SIGKILL)
    (offline,) = watcher.wait_for(lambda m: body(m)["status"] == "offline")
    assert body(offline)["boot"] == boot
    again = daemon(TICK, broker.port)
    again.published("stream/tick", 3)
    assert again.end() == 0
    (stopped,) = watcher.wait_for(lambda m: body(m)["status"] == "stopped")
    assert body(stopped)["last"]["tick"] >= 3
    assert sum(body(m)["status"] == "offline" for m in watcher.messages) == 1


@pytest.mark.feature("ELI-08", breaks="chappe.core.outbox:Outbox.flush")
def test_sigterm_sends_the_value_that_elision_holds_before_stopped(
    broker: LocalBroker, peer: Callable[..., Any], daemon: Make
) -> None:
    watcher = peer(broker)
    text = TICK + '[streams.tick]\nclass = "latest"\nelide = { policy = "latest", every = "1h" }\n'
    tower = daemon(text, broker.port)
    tower.published("stream/tick")
    tower.wait_for("published", topic="chappe/tower-1/state")
    # One value went out at once; the socket's answer shows that others have been produced and wait since.
    assert chappe("status", "--config", str(tower.file), "--json").returncode == 0
    assert tower.end() == 0
    (stopped,) = watcher.wait_for(lambda m: m.topic.endswith("/state") and body(m)["status"] == "stopped")
    ticks = [m for m in watcher.messages if m.topic.endswith("/stream/tick")]
    assert [body(m)["seq"] for m in ticks] == [1, 2]
    assert watcher.messages.index(ticks[-1]) < watcher.messages.index(stopped)


def test_it_starts_without_a_broker_and_delivers_in_order_and_late_when_one_comes(
    broker: LocalBroker, peer: Callable[..., Any], daemon: Make
) -> None:
    broker.stop()
    tower = daemon(TICK, broker.port)
    tower.ready()
    tower.wait_for("link", status="refused")
    broker.restart()
    watcher = peer(broker, "chappe/tower-1/stream/tick")
    tower.wait_for("link", status="online")
    messages = watcher.wait_for(lambda m: True, 5)
    numbers = [body(m)["seq"] for m in messages]
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    assert tower.published("stream/tick")["late"] is True
    assert tower.end() == 0


@pytest.mark.feature("MQT-06", breaks="chappe.core.lastvalues:LastValues.announce")
def test_a_broker_that_lost_everything_gets_state_info_and_signal_again_and_requests_work(
    broker: LocalBroker, peer: Callable[..., Any], daemon: Make
) -> None:
    tower = daemon(TICK, broker.port)
    tower.wait_for("link", status="online")
    broker.kill()
    tower.wait_for("link", where=lambda line: line["status"] != "online", count=1)
    broker.restart()
    tower.wait_for("link", 2, status="online")
    watcher = peer(broker, "chappe/tower-1/#")
    for topic in ("state", "info", "signal"):
        watcher.wait_for(lambda m, topic=topic: m.topic == f"chappe/tower-1/{topic}")
    watcher.publish("chappe/tower-1/req/identify", b'{"id":"1"}')
    (answer,) = watcher.wait_for(lambda m: m.topic.endswith("/res/identify"))
    assert body(answer) == {"status": "ok", "data": {"seconds": 15}, "id": "1"}
    assert tower.end() == 0


@pytest.mark.feature("CMD-01", breaks="chappe.core.parts.wire:Wire.asked")
def test_a_request_with_a_response_topic_is_answered_only_there_with_its_correlation(
    broker: LocalBroker, peer: Callable[..., Any], daemon: Make
) -> None:
    watcher = peer(broker, "chappe/tower-1/res/#", "inbox/#")
    tower = daemon("", broker.port)
    tower.wait_for("link", status="online")
    watcher.publish("chappe/tower-1/req/health", b'{"id":"9"}', ResponseTopic="inbox/me", CorrelationData=b"\x01\x02")
    (answer,) = watcher.wait_for(lambda m: m.topic == "inbox/me")
    assert body(answer)["id"] == "9"
    assert answer.properties.CorrelationData == b"\x01\x02"
    watcher.publish("chappe/tower-1/req/nonsense", b"{}")
    (error,) = watcher.wait_for(lambda m: m.topic == "chappe/tower-1/res/nonsense")
    assert body(error)["error"]["code"] == "unknown_verb"
    assert not [m for m in watcher.messages if m.topic.endswith("res/health")]
    assert tower.end() == 0


@pytest.mark.feature("MQT-01", breaks="chappe.edge.mqtt.versions:Versions.failed")
def test_a_broker_that_refuses_mqtt_5_is_spoken_to_in_3_1_1_and_info_says_so(amqtt: LocalBroker, daemon: Make) -> None:
    tower = daemon(TICK, amqtt.port)
    assert tower.wait_for("link", status="online")["protocol"] == "3.1.1"
    tower.wait_for(
        "published", where=lambda line: line["topic"].endswith("/info") and line["payload"]["mqtt"] == "3.1.1"
    )
    tower.published("stream/tick", 3)
    assert tower.end() == 0


@pytest.mark.feature("CAP-07", breaks="chappe.core.parts.eyes:Eyes.switch_by_request")
def test_camera_off_by_request_survives_a_kill(
    broker: LocalBroker, peer: Callable[..., Any], daemon: Make, frames: Path, weights: Path
) -> None:
    watcher = peer(broker, "chappe/tower-1/res/#")
    tower = daemon(camera(frames, weights), broker.port)
    tower.wait_for("camera", open=True)
    watcher.publish("chappe/tower-1/req/camera", b'{"on":false}')
    tower.wait_for("camera", open=False)
    watcher.wait_for(lambda m: m.topic.endswith("/res/camera") and body(m)["data"]["off_by"] == "request")
    tower.send(signal.SIGKILL)
    tower.wait()
    again = daemon(camera(frames, weights), broker.port)
    again.published("stream/fault") if again.lines else None
    again.ready()
    again.wait_for("link", status="online")
    watcher.publish("chappe/tower-1/req/camera", b'{"on":true}')
    again.wait_for("camera", open=True)
    assert [line["open"] for line in again.lines if line["event"] == "camera"] == [True]
    assert again.end() == 0


@pytest.mark.feature("MOD-02", breaks="chappe.edge.models:read")
def test_a_broken_model_is_refused_by_name_while_the_loaded_one_goes_on(
    broker: LocalBroker, daemon: Make, frames: Path, weights: Path, tmp_path: Path
) -> None:
    own = tmp_path / "weights"
    shutil.copytree(weights, own, ignore=lambda folder, names: [name for name in names if not name.endswith(".tflite")])
    text = camera(frames, own).replace("[models]", '[vision]\nmodel = "MODEL"\n[models]')
    tower = daemon(text.replace("MODEL", "hands-lite"), broker.port)
    tower.wait_for("gesture")
    damaged = own / "palm_detection_full.tflite"
    content = bytearray(damaged.read_bytes())
    content[1000] ^= 1
    damaged.write_bytes(content)
    # Nothing else on this machine may stand in for the damaged file.
    tower.file.write_text(tower.file.read_text(encoding="utf-8").replace("hands-lite", "hands-full"), encoding="utf-8")
    others = [path for path in (weights / damaged.name,) if path.exists()]
    hidden = [path.rename(path.with_suffix(".hidden")) for path in others]
    try:
        tower.send(signal.SIGHUP)
        fault = tower.wait_for("fault", part="vision")
    finally:
        for path in hidden:
            path.rename(path.with_suffix(".tflite"))
    assert fault["model"] == "hands-full"
    assert damaged.name in fault["message"]
    seen = len([line for line in tower.lines if line["event"] == "gesture"])
    tower.wait_for("gesture", seen + 3)
    assert tower.end() == 0


def test_a_bad_file_at_a_reload_changes_nothing_and_is_a_fault(broker: LocalBroker, daemon: Make) -> None:
    tower = daemon(TICK, broker.port)
    tower.published("stream/tick", 2)
    tower.file.write_text("[mqtt]\nhots = 1\n", encoding="utf-8")
    tower.send(signal.SIGHUP)
    assert "did you mean host" in tower.wait_for("fault", part="config")["message"]
    tower.published("stream/tick", len([line for line in tower.lines if line.get("topic", "").endswith("tick")]) + 2)
    assert tower.end() == 0


@pytest.mark.feature("OPS-05", breaks="chappe.assembly:secret")
def test_the_password_is_used_and_stands_in_no_line_no_topic_and_no_answer(
    tmp_path: Path, stack: Any, peer: Callable[..., Any], daemon: Make
) -> None:
    from chappe.edge.broker import find_mosquitto

    if not find_mosquitto() or shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto or mosquitto_passwd is not installed")
    password = "correct-horse-battery-5731"
    (tmp_path / "password").write_text(password + "\n", encoding="utf-8")
    users = tmp_path / "users"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(users), "tower", password], check=True, capture_output=True)
    users.chmod(0o644)
    (tmp_path / "broker").mkdir()
    extra = ["allow_anonymous false", f"password_file {users}"]
    guarded = stack.enter_context(LocalBroker(tmp_path / "broker", kind="mosquitto", extra=extra))
    text = f'username = "tower"\npassword_file = "{tmp_path}/password"\n[log]\nlevel = "debug"\n{TICK}'
    tower = daemon(text, guarded.port, "--record", str(tmp_path / "record.jsonl"))
    tower.wait_for("link", status="online")
    watcher = peer(guarded, login=("tower", password))
    watcher.publish("chappe/tower-1/req/config-get", b"{}")
    watcher.wait_for(lambda m: m.topic.endswith("/res/config-get"))
    shown = chappe("config", "show", "--config", str(tower.file), "--json").stdout
    assert tower.end() == 0
    everything = [
        shown,
        "".join(tower.errors),
        json.dumps(tower.lines),
        (tmp_path / "record.jsonl").read_text(encoding="utf-8"),
    ]
    everything += [message.payload.decode() for message in watcher.messages]
    assert not [text for text in everything if password in text]


@pytest.mark.feature("HIS-08", breaks="chappe.record:Recorder.write")
def test_a_recording_with_a_kill_a_reload_and_a_backlog_replays_to_the_same_effects_elsewhere(
    broker: LocalBroker, daemon: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "record.jsonl"
    broker.stop()
    text = TICK + SIGNALS + '[streams.tick]\nclass = "latest"\nelide = { policy = "latest", every = "500ms" }\n'
    tower = daemon(text, broker.port, "--record", str(file))
    tower.wait_for("link", status="refused")
    tower.file.write_text(tower.file.read_text(encoding="utf-8").replace("HOLD", "KEEP"), encoding="utf-8")
    tower.send(signal.SIGHUP)
    tower.wait_for("state", status="reloaded")
    broker.restart()
    tower.published("stream/tick", 3)
    tower.send(signal.SIGKILL)
    tower.wait()
    again = daemon(text, broker.port, "--record", str(file))
    again.published("stream/tick", 3)
    assert again.end() == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    same = chappe("replay", "--json", str(file), PYTHONHASHSEED="4242", TZ="Pacific/Chatham")
    assert (same.returncode, json.loads(same.stdout)["boots"]) == (0, 2), same.stderr
    lines = file.read_text(encoding="utf-8").splitlines()
    place = next(n for n, line in enumerate(lines) if '"SensorRead"' in line)
    step = json.loads(lines[place])
    step["event"]["value"] += 1
    lines[place] = json.dumps(step)
    changed = elsewhere / "changed.jsonl"
    changed.write_text("\n".join(lines) + "\n", encoding="utf-8")
    other = chappe("replay", "--json", str(changed))
    assert other.returncode == 1
    assert json.loads(other.stdout)["difference"]["line"] > place


def test_a_second_daemon_on_the_same_state_folder_is_told_to_try_again_later(broker: LocalBroker, daemon: Make) -> None:
    tower = daemon(TICK, broker.port)
    tower.ready()
    second = chappe("run", "--config", str(tower.file))
    assert second.returncode == 75
    assert "another chappe daemon" in second.stderr
    assert tower.end() == 0


@pytest.mark.feature("CAP-01", breaks="chappe.edge.sources:make")
def test_without_picamera2_the_device_is_online_with_a_fault_and_check_says_what_to_do(
    broker: LocalBroker, daemon: Make
) -> None:
    pytest.importorskip("chappe.checks")
    tower = daemon('[camera]\nsource = "picamera2"\n[indicators]\nprivacy = false\n' + TICK, broker.port)
    fault = tower.wait_for("fault", part="camera")
    assert fault["code"] == "camera_missing"
    tower.published("stream/tick", 3)
    checked = chappe("check", "--json", "--config", str(tower.file))
    assert checked.returncode == 1
    items = {item["id"]: item for item in json.loads(checked.stdout)["items"]}
    assert items["camera"]["status"] == "fail"
    assert items["camera"]["remedy"]
    assert tower.end() == 0


def test_sigint_ends_it_cleanly_too_and_no_thread_or_socket_stays(broker: LocalBroker, daemon: Make) -> None:
    tower = daemon(TICK, broker.port)
    tower.published("stream/tick", 2)
    assert tower.end(signal.SIGINT) == 0
    assert tower.wait_for("state", status="stopping")
    assert not (tower.file.parent / "state" / "control.sock").exists()


@pytest.mark.feature("MOD-03", breaks="chappe.assembly:model_listing")
def test_info_names_the_same_models_as_the_command_line(
    broker: LocalBroker, daemon: Make, frames: Path, weights: Path
) -> None:
    tower = daemon(camera(frames, weights), broker.port)
    model = tower.wait_for("model")["model"]
    info = tower.wait_for(
        "published", where=lambda line: line["topic"].endswith("/info") and line["payload"]["models"]
    )["payload"]
    listed = json.loads(chappe("models", "list", "--json", "--dir", str(weights)).stdout)
    shown = {entry["name"]: entry["hash8"] for entry in info["models"]}
    assert shown == {entry["name"]: entry["hash8"] for entry in listed}
    assert model == f"hands-lite@{shown['hands-lite']}" == info["model"]
    assert {entry["name"]: entry["role"] for entry in info["models"]}["hands-lite"] == "active"
    assert tower.end() == 0
