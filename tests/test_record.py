"""Recording and replay: the same events give the same effects, byte for byte, anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chappe.core import events as ev
from chappe.core.settings import to_data
from chappe.record import Recorder, RecordingError, read, render, replay
from chappe.testing import Tower, parse

CONFIG = (
    '[camera]\nsource = "files"\npath = "frames"\n'
    '[signals]\nOpen_Palm = "SELL"\nVictory = "BUY"\n'
    '[sensors.a]\ndriver = "simulated"\nwave = "random_walk"\nseed = 4\nevery = "200ms"\n'
    '[streams.a]\nclass = "latest"\nelide = { policy = "latest", every = "1s" }\n'
    '[buttons]\nmain = 26\n[indicators]\nstatus = 17\nquiet = "22:00-07:00"\n'
    '[outputs.relay]\npin = 22\n[rules.wave]\ngesture = "Victory"\noutput = "relay"\n'
)


def eventful(tower: Tower) -> None:
    """A life with a backlog, a cut, a clock step, a reload, faults, requests and presses."""
    tower.advance(2)
    for label in ("Open_Palm", "Victory", "None"):
        for _ in range(4):
            tower.see(label)
            tower.advance(0.1)
    tower.link_up()
    tower.advance(3)
    tower.clock.step_wall(-3600)
    tower.feed(ev.ClockChanged(at=tower.clock.now(), wall=tower.clock.wall(), synced=False, zone_s=3600))
    tower.ask("status", {"id": 1})
    tower.link_down("no_network")
    tower.press(0.2)
    tower.advance(5)
    tower.feed(ev.CameraFailed(at=tower.clock.now(), code="camera_failed", message="why"))
    tower.feed(
        ev.Reloaded(at=tower.clock.now(), config=to_data(parse(CONFIG.replace("SELL", "HOLD"))), config_hash="1" * 12)
    )
    tower.link_up("3.1.1")
    tower.advance(70)
    tower.stop()


def differences(lines: list[bytes]) -> list[int]:
    return [difference.line for _, _, difference in replay(lines) if difference is not None]


def test_an_eventful_life_replays_to_the_same_effects() -> None:
    tower = Tower(CONFIG)
    eventful(tower)
    assert len(tower.lines) > 500
    assert differences(tower.lines) == []


@pytest.mark.feature("HIS-08", breaks="chappe.record:replay")
def test_it_replays_in_another_process_with_another_hash_seed_time_zone_and_folder(tmp_path: Path) -> None:
    first, second = Tower(CONFIG), Tower(CONFIG, boot_id="f" * 16, memory={"camera.off_by": "request"})
    for tower in (first, second):
        eventful(tower)
    file = tmp_path / "life.jsonl"
    file.write_bytes(b"".join([*first.lines, *second.lines]))
    for seed, zone in (("1", "UTC"), ("77", "America/St_Johns")):
        done = subprocess.run(
            [sys.executable, "-m", "chappe", "replay", "--json", str(file)],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["boots"] == 2


def test_one_changed_event_is_found_at_its_line() -> None:
    tower = Tower(CONFIG)
    tower.link_up()
    tower.advance(3)
    place = next(n for n, line in enumerate(tower.lines) if b'"LinkUp"' in line)
    step = json.loads(tower.lines[place])
    step["event"]["protocol"] = "3.1.1"
    lines = [*tower.lines[:place], json.dumps(step).encode(), *tower.lines[place + 1 :]]
    found = next(difference for _, _, difference in replay(lines) if difference is not None)
    assert found.line == place + 1
    assert found.expected != found.found
    assert '"LinkUp"' in found.event


events = st.lists(
    st.tuples(
        st.sampled_from(["see", "sensor", "up", "down", "press", "ask", "wait", "fault"]),
        st.integers(0, 9),
    ),
    max_size=60,
)


@settings(max_examples=20, deadline=None)
@given(events)
def test_any_life_replays_to_the_same_effects_and_keeps_its_books(script: list[tuple[str, int]]) -> None:
    tower = Tower(CONFIG)
    up = False
    for what, n in script:
        if what == "see":
            tower.see(("Open_Palm", "Victory", "None")[n % 3])
        elif what == "sensor":
            tower.sensor("a", n)
        elif what in {"up", "down"} and up != (what == "up"):
            up = not up
            tower.link_up() if up else tower.link_down()
        elif what == "press":
            tower.press(n / 2)
        elif what == "ask":
            tower.ask(("status", "camera", "identify", "bad")[n % 4], {"on": n % 2 == 0})
        elif what == "wait":
            tower.advance(n)
        elif what == "fault":
            tower.feed(ev.Faulted(at=tower.clock.now(), part="x", code=str(n)))
        assert tower.audits
    assert differences(tower.lines) == []


def test_a_line_that_a_kill_cut_off_is_passed_over_at_the_end_and_before_the_next_boot(tmp_path: Path) -> None:
    first, second = Tower(CONFIG), Tower(CONFIG, boot_id="f" * 16)
    file = tmp_path / "life.jsonl"
    file.write_bytes(b"".join(first.lines) + first.lines[-1][:40])
    recorder = Recorder(file)
    recorder.open()
    for line in second.lines:
        step = json.loads(line)
        assert step["event"]["type"]
    recorder.close()
    file.write_bytes(file.read_bytes() + b"".join(second.lines) + second.lines[-1][:40])
    with file.open("rb") as lines:
        assert len(list(read(lines))) == len(first.lines) + len(second.lines)


def test_what_is_no_recording_is_refused_with_its_line() -> None:
    tower = Tower(CONFIG)
    with pytest.raises(RecordingError, match="line 2"):
        list(read([tower.lines[0], b"nonsense\n", *tower.lines[1:]]))
    with pytest.raises(RecordingError, match="before any boot"):
        list(replay([render(ev.Tick(at=tower.clock.now()), [])]))


def test_a_recording_that_cannot_be_written_says_which(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "missing" / "file")
    with pytest.raises(RecordingError, match="missing/file"):
        recorder.open()
