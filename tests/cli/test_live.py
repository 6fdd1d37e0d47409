"""Commands that ask the running daemon."""

from __future__ import annotations

import doctest
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from chappe.cli import remedies
from chappe.cli.live import summary
from chappe.cli.remedies import LINK, REMEDIES, remedy
from chappe.core.events import LinkStatus

COMMANDS = (["status"], ["identify"], ["camera", "on"], ["camera", "off"])


@pytest.mark.feature("OPS-02", breaks="chappe.edge.control:call")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_a_daemon_it_is_69_with_a_remedy(chappe: Any, configure: Any, command: list[str]) -> None:
    """Each of them says where it looked, and how a daemon is started."""
    ran = chappe(*command, "--config", configure(""))
    assert ran.code == 69
    assert "state/control.sock" in ran.err
    assert "remedy: start it with `chappe run`" in ran.err
    assert ran.out == ""


def test_a_running_daemon_tells_its_status(chappe: Any, running: Any) -> None:
    """`status --json` is one document with info and health; plain, it is a line for each thing."""
    file = running('[sensors.tick]\ndriver = "simulated"\n')
    told = chappe("status", "--config", file, "--json")
    assert told.code == 0
    assert told.json["device"] == "tower-1"
    assert told.json["info"]["camera"]["source"] == "off"
    assert told.json["health"]["link"]["status"] in {"connecting", "refused"}
    plain = chappe("status", "--config", file)
    assert plain.code == 0
    names = [line.split()[0] for line in plain.out.splitlines() if not line.startswith(" ")]
    assert names == ["device", "state", "link", "signal", "camera", "model", "queue", "clock", "lamp", "faults"]
    assert "tower-1" in plain.out


def test_identify_flashes_the_lamp_of_a_running_daemon(chappe: Any, running: Any) -> None:
    """It says for how long, and the daemon says that it does."""
    file = running("")
    assert chappe("identify", "--config", file).out == "the status lamp flashes for 15 s\n"
    assert chappe("identify", "--config", file, "--json").json == {"seconds": 15}
    assert "identify" in chappe("status", "--config", file, "--json").json["indicators"]


def test_the_camera_is_switched_by_a_running_daemon(chappe: Any, running: Any) -> None:
    """As `req/camera` does: off, and not on where there is none."""
    file = running("")
    assert chappe("camera", "off", "--config", file).out == "the camera is switched off by a request\n"
    assert chappe("status", "--config", file, "--json").json["health"]["camera"]["off_by"] == "request"
    refused = chappe("camera", "on", "--config", file)
    assert refused.code == 1
    assert "no camera is configured" in refused.err


def test_what_the_daemon_refuses_is_1_with_its_reason(chappe: Any, running: Any, remember: Callable[..., None]) -> None:
    """A camera that the owner switched off by hand is not switched on by a command."""
    remember("camera.off_by", "owner")
    ran = chappe("camera", "on", "--config", running(""))
    assert ran.code == 1
    assert "by hand" in ran.err
    assert "owner_off" in ran.err


def test_a_daemon_that_is_too_busy_to_answer_is_69(chappe: Any, configure: Any, scripted: Any) -> None:
    """It is there, but it cannot be reached: trying again may help."""
    scripted({"status": {"status": "error", "error": {"code": "timeout", "message": "not in time"}}})
    ran = chappe("status", "--config", configure(""))
    assert ran.code == 69
    assert "not in time" in ran.err
    assert "remedy: try again" in ran.err


def test_the_body_of_a_request_arrives(chappe: Any, configure: Any, scripted: Any) -> None:
    """`camera on` asks the verb `camera` with ``on: true``, through the socket, and tells what came back."""
    asked = scripted({"camera": {"status": "ok", "data": {"off_by": None}}})
    assert chappe("camera", "on", "--config", configure("")).out == "the camera is on\n"
    assert chappe("camera", "on", "--config", configure(""), "--json").json == {"off_by": None}
    assert [(one.verb, one.body, one.via) for one in asked] == [("camera", b'{"on": true}', "socket")] * 2


def test_the_socket_lies_where_systemd_says(
    chappe: Any, configure: Any, scripted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RUNTIME_DIRECTORY, unless the configuration names a state folder of its own."""
    scripted({"identify": {"status": "ok", "data": {"seconds": 15}}})
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "state"))
    file = tmp_path / "without-state.toml"
    file.write_text("")
    assert chappe("identify", "--config", file).code == 0


# ── the summary for people ───────────────────────────────────────────────────────────────────────────────────────────

STATUS: dict[str, Any] = {
    "device": "tower-1",
    "state": "online",
    "signal": "BUY",
    "indicators": ["sensor", "healthy"],
    "info": {
        "version": "0.1.0",
        "boot": "0123456789abcdef",
        "mqtt": "5",
        "model": "hands-lite@5ea51c92",
        "camera": {"source": "picamera2"},
        "restart_required": ["mqtt.port"],
    },
    "health": {
        "uptime_s": 3661,
        "queue": {"depth": 3, "oldest_s": 1.5, "dead": 2},
        "streams": {"door": {"spilled": 3, "expired": 2}, "window": {"spilled": 2, "expired": 0}},
        "camera": {"fps": 9.97, "frames": 120, "off_by": None},
        "inference": {"p50_ms": 12.34},
        "clock": {"synced": True},
        "link": {"status": "online", "reconnects": 1, "offline_s": 2.5},
        "faults": [{"part": "sensors.door", "code": "sensor_timeout", "message": "no answer", "for_s": 65.2}],
    },
}


def test_everything_an_owner_asks_first_stands_in_the_summary() -> None:
    """One line each; a fault has its own, with its reason, its age and what to do."""
    *first, fault, remedy = summary(STATUS)
    assert fault == ("", "sensors.door: sensor_timeout, for 1 min 5 s: no answer")
    assert remedy == ("", "  remedy: look at its wiring, or raise its timeout")
    assert dict(first) == {
        "device": "tower-1, chappe 0.1.0, up 1 h 1 min, boot 0123456789abcdef",
        "state": "online",
        "link": "online, MQTT 5, 1 reconnects, 2.5 s offline",
        "signal": "BUY",
        "camera": "picamera2, 9.97 fps, 120 frames",
        "model": "hands-lite@5ea51c92, 12.3 ms a frame",
        "queue": "3 waiting, the oldest for 1.5 s, 2 dead letters: see `chappe queue show --dead`, 7 given up since it was made",
        "clock": "synchronised",
        "lamp": "sensor, healthy",
        "restart": "required for mqtt.port",
        "faults": "",
    }


@pytest.mark.parametrize(
    ("part", "change", "shown"),
    [
        ("camera", {"off_by": "owner", "frames": 7}, "picamera2, switched off by the owner, 7 frames"),
        ("camera", {"off_by": "request", "frames": 7}, "picamera2, switched off by a request, 7 frames"),
        ("clock", {"synced": False}, "not synchronised"),
        ("queue", {"depth": 0, "oldest_s": 0.0}, "empty, 7 given up since it was made"),
        (
            "link",
            {"status": "auth_failed", "reconnects": 0, "offline_s": 9.0},
            "auth_failed (the broker does not accept name, password or certificate), MQTT 5, 0 reconnects, 9.0 s offline",
        ),
    ],
)
def test_a_state_in_words(part: str, change: dict[str, Any], shown: str) -> None:
    """Who switched the camera off, whether the clock is right, whether anything waits, why there is no link."""
    status = {**STATUS, "health": {**STATUS["health"], part: change}}
    assert dict(summary(status))[part] == shown


def test_a_daemon_of_another_version_is_understood_as_far_as_it_goes() -> None:
    """Fields that it does not send are empty, and nothing breaks."""
    assert dict(summary({"device": "old"}))["device"].startswith("old, ")
    assert dict(summary({}))["faults"] == "none"


# ── what to do ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_status_of_the_link_has_its_word() -> None:
    """Only `online` says enough by itself."""
    assert {*LINK, "online"} == set(get_args(LinkStatus))


def test_every_fault_of_the_troubleshooting_page_has_a_remedy(checkout: Path) -> None:
    """The table of the page and the one of the program name the same codes."""
    page = (
        (checkout / "docs/troubleshooting.md")
        .read_text(encoding="utf-8")
        .partition("## Faults")[2]
        .partition("\n## ")[0]
    )
    codes = set(re.findall(r"^\| [^|]+\| `([a-z_]+)` \|", page, re.MULTILINE))
    assert len(codes) > 20
    assert codes - set(REMEDIES) == set()


def test_a_fault_that_nobody_knows_has_one_too() -> None:
    assert remedy("radio", "on_fire") == "see docs/troubleshooting.md"
    assert doctest.testmod(remedies).failed == 0
