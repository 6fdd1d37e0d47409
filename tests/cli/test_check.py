"""`chappe check`: one thing is broken at a time, and that one item changes."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sqlite3
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chappe.checks import ITEMS, Finding, devices, machine, run_checks
from chappe.checks.terms import Subject
from chappe.config import loads
from chappe.errors import EdgeError, StoreError
from chappe.testing import Tower

IDS = [item.id for item in ITEMS]


def look(text: str, id_: str, base: Path | None = None) -> Finding:
    """What one item says about a configuration."""
    others = [name for name in IDS if name != id_]
    (finding,) = run_checks(lambda: loads(text, base=base), skip=others)
    return finding


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────

QUICK = ("--skip", "tflite", "--skip", "broker")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "clock_synced", lambda: True)


def test_nothing_fails_is_0(chappe: Any, configure: Any, synced: None) -> None:
    """A line for each item and the sum; warnings and skipped items do not count."""
    ran = chappe("check", *QUICK, "--config", configure(""))
    assert (ran.code, ran.err) == (0, "")
    marks = [line.split()[0] for line in ran.out.splitlines() if not line.startswith(" ")]
    assert "FAIL" not in marks
    assert re.fullmatch(r"\d+ passed, \d+ to look at, 0 failed, \d+ skipped", ran.out.splitlines()[-1])


@pytest.mark.feature("OPS-02", breaks="chappe.checks:run_checks")
def test_something_fails_is_1_with_what_to_do(chappe: Any, configure: Any) -> None:
    """The item, in capitals, why, and the remedy below it."""
    ran = chappe("check", *QUICK, "--config", configure('[camera]\nsource = "files"\npath = "nowhere"\n'))
    assert ran.code == 1
    assert re.search(r"^FAIL  camera .*nowhere", ran.out, re.MULTILINE)
    assert re.search(r"^ +-> put pictures there", ran.out, re.MULTILINE)


def test_json_says_the_same(chappe: Any, configure: Any) -> None:
    """Ids, states, texts and remedies of the plain output, and whether all is well."""
    words = ("check", *QUICK, "--config", configure('[camera]\nsource = "files"\npath = "nowhere"\n'))
    plain, told = chappe(*words), chappe(*words, "--json")
    assert told.code == plain.code == 1
    assert told.json["ok"] is False
    items = told.json["items"]
    assert [item["id"] for item in items] == [name for name in IDS if name not in QUICK]
    # Other programs write to this disk, too.
    flat = re.sub(r"[0-9,]+ MB free", "… MB free", " ".join(plain.out.split()))
    for item in items:
        assert set(item) == {"id", "status", "text", "remedy"}
        assert item["status"] in {"pass", "warn", "fail", "skip"}
        assert re.sub(r"[0-9,]+ MB free", "… MB free", " ".join(item["text"].split())) in flat
        assert " ".join(item["remedy"].split()) in flat


def test_list_names_every_item_and_looks_at_none(chappe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a configuration read."""
    monkeypatch.setattr("chappe.cli.check.load_config", lambda _: pytest.fail("the configuration was read"))
    assert [line.split()[0] for line in chappe("check", "--list").out.splitlines()[1:]] == IDS
    told = chappe("check", "--list", "--json", "--skip", "clock").json["items"]
    assert [item["id"] for item in told] == [name for name in IDS if name != "clock"]
    assert all(item["about"] for item in told)


def test_an_item_that_does_not_exist_cannot_be_skipped(chappe: Any) -> None:
    """A typing error does not pass for a wish."""
    ran = chappe("check", "--skip", "cameras")
    assert ran.code == 2
    assert "remedy: there are python, config" in ran.err


@pytest.mark.feature("OPS-03", breaks="chappe.checks.machine:config")
def test_a_broken_configuration_fails_its_item_and_skips_what_needs_it(chappe: Any, configure: Any) -> None:
    """Every problem is told; what needs no configuration is looked at all the same."""
    file = configure('[mqtt]\nhots = "a"\nport = 0\n[camera]\nsource = "x"\n')
    ran = chappe("check", "--json", "--skip", "tflite", "--config", file)
    assert ran.code == 1
    items = {item["id"]: item for item in ran.json["items"]}
    assert items["config"]["status"] == "fail"
    assert items["config"]["text"].count("\n") == 2
    assert f"{file}:2: mqtt.hots" in items["config"]["text"]
    assert "correct all 3" in items["config"]["remedy"]
    assert items["python"]["status"] == "pass"
    assert {items[name]["status"] for name in set(items) - {"python", "config", "clock"}} == {"skip"}
    assert "needs a correct configuration" in items["broker"]["text"]


def test_an_item_is_shown_as_soon_as_it_is_known() -> None:
    """Some take seconds; nobody should stare at nothing."""
    shown: list[str] = []
    findings = run_checks(lambda: loads(""), skip=[*IDS[2:]], seen=lambda finding: shown.append(finding.id))
    assert shown == [finding.id for finding in findings] == IDS[:2]


@pytest.mark.parametrize(
    ("error", "text", "remedy"),
    [
        (StoreError("it is broken", remedy="mend it"), "it is broken", "mend it"),
        (OSError(5, "Input/output error"), "[Errno 5] Input/output error", ""),
    ],
    ids=["ours", "the system's"],
)
def test_an_error_out_of_an_item_is_its_failure(
    monkeypatch: pytest.MonkeyPatch, error: Exception, text: str, remedy: str
) -> None:
    """With the error's own words."""

    def fail() -> bool:
        raise error

    monkeypatch.setattr(machine, "clock_synced", fail)
    assert look("", "clock") == Finding("clock", "fail", text, remedy)


def test_a_bug_in_an_item_is_a_bug(chappe: Any, configure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not passed over in silence: 70."""
    monkeypatch.setattr(machine, "clock_synced", lambda: 1 / 0)
    assert chappe("check", "--config", configure("")).code == 70


# ── the machine ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_python_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Version and word size; 32 bit is refused, and so is a Python that is too old."""
    assert machine.python(Subject())[0] == "pass"
    with monkeypatch.context() as patched:
        patched.setattr(sys, "maxsize", 2**31 - 1)
        narrow = machine.python(Subject())
    assert (narrow[0], "32 bit" in narrow[1]) == ("fail", True)
    monkeypatch.setattr(machine, "OLDEST_PYTHON", (99, 0))
    assert machine.python(Subject())[0] == "fail"


def test_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is not synchronised is a warning: the daemon works, and says so in each message."""
    monkeypatch.setattr(machine, "clock_synced", lambda: True)
    assert look("", "clock").status == "pass"
    monkeypatch.setattr(machine, "clock_synced", lambda: False)
    found = look("", "clock")
    assert found.status == "warn"
    assert "timedatectl" in found.remedy


STATE = '[device]\nstate_dir = "state"\n'


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder on a disk with half of its 100 GB free, wherever the test really runs."""
    free(monkeypatch, 50e9)
    monkeypatch.setattr(machine, "file_system", lambda _: "ext4")
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def free(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    usage = machine.shutil.disk_usage(Path("/"))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: type(usage)(int(100e9), 0, int(size)))


def test_a_good_state_folder_passes_and_nothing_stays_in_it(tmp_path: Path, state: Path) -> None:
    """It is written to and left as it was; one that is missing is not made."""
    assert look(STATE, "state_dir", tmp_path).status == "pass"
    assert list(state.iterdir()) == []
    state.rmdir()
    assert look(STATE, "state_dir", tmp_path).status == "pass"
    assert not state.exists()


def test_a_file_in_place_of_the_state_folder_fails(tmp_path: Path, state: Path) -> None:
    """And so does one above it."""
    state.rmdir()
    state.write_text("")
    assert look(STATE, "state_dir", tmp_path).status == "fail"
    found = look('[device]\nstate_dir = "state/deeper/still"\n', "state_dir", tmp_path)
    assert found.status == "fail"
    assert "is no folder" in found.text
    assert "device.state_dir" in found.remedy


def test_a_state_folder_that_may_not_be_written_fails(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its permissions, or because the disk itself refuses (read-only, full)."""
    with monkeypatch.context() as patched:
        patched.setattr(machine.os, "access", lambda *_: False)
        assert "cannot be written by this user" in look(STATE, "state_dir", tmp_path).text

    def read_only(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", read_only)
    found = look(STATE, "state_dir", tmp_path)
    assert found.status == "fail"
    assert "Read-only" in found.text


@pytest.mark.parametrize(("size", "status"), [(1e6, "fail"), (16 * 2**20, "warn"), (4.9e9, "warn"), (5.1e9, "pass")])
def test_room_on_the_disk(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch, size: float, status: str
) -> None:
    """Below 5 % a warning, below 16 MiB a failure."""
    free(monkeypatch, size)
    assert look(STATE, "state_dir", tmp_path).status == status


@pytest.mark.parametrize("kind", ["tmpfs", "overlay"])
def test_a_state_folder_that_no_power_cut_survives(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """In memory, or on the overlay of a read-only system."""
    monkeypatch.setattr(machine, "file_system", lambda _: kind)
    found = look(STATE, "state_dir", tmp_path)
    assert found.status == "warn"
    assert kind in found.text


def test_the_kind_of_a_file_system_is_known() -> None:
    """Of the mount that holds the place, not of one above it."""
    assert machine.file_system(Path("/proc/self")) == "proc"
    assert machine.file_system(Path("/sys/class")) == "sysfs"


def test_a_daemon_that_does_not_run_is_no_failure(tmp_path: Path) -> None:
    """Nor is a socket that a killed one left behind."""
    assert look(STATE, "daemon", tmp_path).status == "skip"


def test_a_running_daemon_passes(chappe: Any, running: Any) -> None:
    """It is asked through its socket."""
    ran = chappe("check", "--json", *QUICK, "--config", running(""))
    (item,) = (item for item in ran.json["items"] if item["id"] == "daemon")
    assert (item["status"], item["text"]) == ("pass", "it runs, offline")


def test_faults_of_a_running_daemon_are_a_warning(chappe: Any, configure: Any, scripted: Any) -> None:
    """Each with part, code and message."""
    faults = [{"part": "sensors.door", "code": "sensor_timeout", "message": "no answer", "for_s": 1.0}]
    scripted({"status": {"status": "ok", "data": {"health": {"faults": faults}}}})
    ran = chappe("check", "--json", *QUICK, "--config", configure(""))
    (item,) = (item for item in ran.json["items"] if item["id"] == "daemon")
    assert item["status"] == "warn"
    assert "sensors.door: sensor_timeout: no answer" in item["text"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (FileNotFoundError(2, "No such file"), "skip"),
        (ConnectionRefusedError(111, "Connection refused"), "skip"),
        (PermissionError(13, "Permission denied"), "warn"),
        (TimeoutError("timed out"), "fail"),
    ],
)
def test_why_a_daemon_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, status: str
) -> None:
    """Not there; left over from a kill; of another group; hangs."""
    from chappe.edge import control

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(control, "_reachable", fail)
    assert look(STATE, "daemon", tmp_path).status == status


# ── vision ───────────────────────────────────────────────────────────────────────────────────────────────────────────

SEES = '[camera]\nsource = "files"\npath = "frames"\n'


def test_a_runtime_that_computes_passes() -> None:
    """Its name and version; the probe is a real model."""
    pytest.importorskip("ai_edge_litert")
    found = look(SEES, "tflite")
    assert found.status == "pass"
    assert re.match(r"(ai-edge-litert|tflite-runtime) \d", found.text)


def test_a_runtime_that_was_built_for_another_numpy_fails_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """tflite-runtime beside numpy 2: it imports, then dies; the item names `numpy<2`."""
    runtime = pytest.importorskip("chappe.vision.runtime")

    def dies() -> None:
        raise ImportError("numpy.core.multiarray failed to import: _ARRAY_API not found")

    candidates = [runtime.Candidate("tflite-runtime", dies)]
    monkeypatch.setattr(runtime, "find_runtime", partial(runtime.find_runtime, candidates))
    found = look(SEES, "tflite")
    assert found.status == "fail"
    assert "numpy<2" in found.text + found.remedy


def test_a_runtime_that_was_passed_over_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A working one behind a broken one is fine, but the owner hears of it."""
    runtime = pytest.importorskip("chappe.vision.runtime")
    answer = runtime.Runtime("tflite-runtime", "2.14.0", None, (("ai-edge-litert", "not installed"),))
    monkeypatch.setattr(runtime, "find_runtime", lambda: answer)
    assert look(SEES, "tflite").text == "tflite-runtime 2.14.0\nai-edge-litert is not used: not installed"


def test_without_numpy_vision_fails_but_a_device_without_a_camera_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sensors need neither."""
    monkeypatch.setitem(sys.modules, "chappe.vision.runtime", None)
    found = look(SEES, "tflite")
    assert found.status == "fail"
    assert "numpy" in found.text
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert look("", "tflite").status == "skip"


def test_the_files_of_the_model_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, then cut short: failed, each file by name, and how to get them."""
    monkeypatch.setattr(devices, "search_dirs", lambda *_, **__: [tmp_path])
    missing = look(SEES, "models")
    assert missing.status == "fail"
    assert missing.text.count(": missing") == len(missing.text.splitlines()) > 1
    assert "chappe models pull" in missing.remedy
    name = missing.text.partition(":")[0]
    (tmp_path / name).write_bytes(b"TFL3")
    assert f"{tmp_path / name}: expected" in look(SEES, "models").text
    assert look("", "models").status == "skip"


def test_an_unknown_model_fails() -> None:
    """The ones that exist are named."""
    found = look(SEES + '[vision]\nmodel = "feet"\n', "models")
    assert found.status == "fail"
    assert "hands-lite" in found.remedy


def test_right_files_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the model's name and hash."""
    monkeypatch.setattr(devices, "verify", lambda *_: [])
    assert re.match(r"hands-lite@[0-9a-f]{8}: ", look(SEES, "models").text)


def test_pictures_that_are_there_and_pictures_that_are_not(tmp_path: Path) -> None:
    """A folder without pictures is a camera that cannot be opened."""
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "frames").mkdir()
    assert look(SEES, "camera", tmp_path).status == "fail"
    image.new("RGB", (8, 8)).save(tmp_path / "frames/a.png")
    assert look(SEES, "camera", tmp_path).status == "pass"
    assert look("", "camera").status == "skip"


@pytest.mark.skipif(importlib.util.find_spec("picamera2") is not None, reason="picamera2 is installed here")
def test_a_pi_camera_without_picamera2_fails_with_a_fix() -> None:
    """`apt` has it."""
    found = look('[camera]\nsource = "picamera2"\n', "camera")
    assert found.status == "fail"
    assert "apt install" in found.remedy


def test_a_usb_camera_that_is_not_plugged_in_fails() -> None:
    """By its device path."""
    found = look('[camera]\nsource = "v4l2"\ndevice = "/dev/video-none"\n', "camera")
    assert found.status == "fail"
    assert "/dev/video-none" in found.text


@pytest.mark.parametrize(
    ("source", "privacy", "status"),
    [
        ("v4l2", "", "warn"),
        ("picamera2", "privacy = false", "warn"),
        ("v4l2", "privacy = 27", "pass"),
        ("off", "", "skip"),
        ("files", "privacy = false", "skip"),
    ],
)
def test_a_live_camera_wants_a_privacy_lamp(tmp_path: Path, source: str, privacy: str, status: str) -> None:
    """None, or the owner's word that there is none, is a warning; pictures from files need none."""
    text = f'[camera]\nsource = "{source}"\npath = "x"\n[indicators]\n{privacy}\n'
    assert look(text, "privacy", tmp_path).status == status


# ── pins, sensors, elision ───────────────────────────────────────────────────────────────────────────────────────────


def test_pins_that_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lamps, buttons and outputs are counted; privacy = false is no pin."""
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    text = "[indicators]\nstatus = 17\nprivacy = false\n[buttons]\nmain = 26\n[outputs.relay]\npin = 22\n"
    found = look(text, "gpio")
    assert found.status == "pass"
    assert found.text.startswith("3 pins, by Mock")
    assert look("", "gpio").status == "skip"


def test_pins_without_a_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning, as they are simulated then; a failure where the camera would stay closed for want of its lamp."""

    def none() -> None:
        raise EdgeError("this machine has no GPIO chip", remedy="move", code="gpio_missing")

    monkeypatch.setattr(devices, "pin_factory", none)
    lamps = "[indicators]\nstatus = 17\nprivacy = 27\n"
    found = look(lamps, "gpio")
    assert (found.status, found.remedy) == ("warn", "move")
    assert "2 pins simulated" in found.text
    found = look(lamps + '[camera]\nsource = "v4l2"\n', "gpio")
    assert found.status == "fail"
    assert "the camera stays closed" in found.text


def test_each_sensor_is_read_once(tmp_path: Path) -> None:
    """Values of the good ones, or the reasons of the bad ones."""
    good = '[sensors.tick]\ndriver = "simulated"\nwave = "counter"\nunit = "turns"\n'
    bad = f'[sensors.warm]\ndriver = "sysfs"\npath = "a/b"\noptions = {{ root = "{tmp_path}" }}\n'
    assert look(good, "sensors").text == "tick 0 turns"
    found = look(good + bad, "sensors")
    assert found.status == "fail"
    assert found.text.startswith("warm: there is no 'a/b'")
    assert found.remedy
    assert look("", "sensors").status == "skip"


def test_a_policy_that_may_lose_the_final_value_is_a_warning() -> None:
    """throttle_first; the others pass by name."""
    stream = '[streams.tick]\nclass = "latest"\nelide = {{ policy = "{}", every = "1s" }}\n'
    found = look(stream.format("throttle_first"), "elision")
    assert (found.status, found.text) == ("warn", "streams.tick: throttle_first may lose the final value")
    assert look(stream.format("latest"), "elision").text == "tick latest"
    assert look("", "elision").status == "skip"


@pytest.mark.feature("OUT-12", breaks="chappe.edge.store.audit:audit")
def test_a_counter_that_was_edited_in_the_store_is_found(tmp_path: Path) -> None:
    """The books pass as the daemon leaves them, and fail once somebody has touched a column, or deleted a row."""
    tower = Tower('[sensors.a]\ndriver = "simulated"\nevery = "1s"\n', folder=tmp_path / "state")
    tower.advance(5)
    tower.stop()
    tower.store.close()
    assert look(STATE, "conservation", tmp_path).status == "pass"
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "chappe.db")) as base:
        base.execute("UPDATE lanes SET produced = produced + 1 WHERE stream = 'a'")
        base.commit()
        found = look(STATE, "conservation", tmp_path)
        assert (found.status, "a" in found.text) == ("fail", True)
        base.execute("UPDATE lanes SET produced = produced - 1 WHERE stream = 'a'")
        base.execute("DELETE FROM rows WHERE id = (SELECT MIN(id) FROM rows)")
        base.commit()
    assert look(STATE, "conservation", tmp_path).status == "fail"
