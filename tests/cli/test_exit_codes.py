"""Every exit code provoked, and what goes to which stream meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chappe import __version__
from chappe.cli import COMMANDS
from chappe.errors import (
    BusyError,
    ChappeError,
    ConfigError,
    EdgeError,
    Exit,
    LinkError,
    Problem,
    SensorError,
    StoreError,
    UsageError,
)

WHOLE = {"version": ["version"], "schema": ["config", "schema"], "list": ["check", "--list"]}


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """`chappe version` ends with `error`."""

    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr("chappe.cli.version.run", fail)


# ── one by one ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OPS-02", breaks="chappe.cli.failure:_tell")
@pytest.mark.parametrize(
    ("code", "words", "text"),
    [
        (1, ["gpio", "test"], ""),
        (2, ["sensor", "read", "nothing"], ""),
        (69, ["status"], ""),
        (74, ["replay", "/nonexistent"], ""),
        (78, ["config", "validate"], "[camera]\nsorce = 'off'\n"),
    ],
)
def test_each_kind_of_failure_has_its_code_and_its_remedy(
    chappe: Any, configure: Any, code: int, words: list[str], text: str
) -> None:
    """By real commands: nothing on stdout, the message and what to do on stderr, no traceback."""
    file = [] if "replay" in words else ["--config", configure(text)]
    ran = chappe(*words, *file)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("chappe: ")
    assert "\n  remedy: " in ran.err
    assert "Traceback" not in ran.err


def test_success_is_0_and_silent_on_stderr(chappe: Any) -> None:
    """`version` prints the version."""
    ran = chappe("version")
    assert (ran.code, ran.out, ran.err) == (0, f"chappe {__version__}\n", "")
    assert chappe("version", "--json").json == {"version": __version__}


def run_daemon(file: Path) -> subprocess.CompletedProcess[str]:
    """`chappe run` as a process that would end by itself at once."""
    return subprocess.run(
        [sys.executable, "-m", "chappe", "run", "--seconds", "0", "--config", file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.feature("OPS-02", breaks="chappe.edge.store:lock")
def test_a_second_daemon_is_75(configure: Any, held_state: None) -> None:
    """`chappe run` beside a running one says so at once and changes nothing."""
    ran = run_daemon(configure(""))
    assert (ran.returncode, ran.stdout) == (75, "")
    assert "another chappe daemon uses" in ran.stderr
    assert "remedy: stop it" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_daemon_with_a_bad_configuration_is_78(configure: Any, tmp_path: Path) -> None:
    """At start-up; the unit does not start it again. No state folder is made."""
    ran = run_daemon(configure("[camera]\nsorce = 'off'\n"))
    assert (ran.returncode, ran.stdout) == (78, "")
    assert "did you mean source?" in ran.stderr
    assert "remedy:" in ran.stderr
    assert not (tmp_path / "state").exists()


def test_a_daemon_whose_state_folder_cannot_be_made_is_74(configure: Any, tmp_path: Path) -> None:
    """A file stands in its place."""
    (tmp_path / "state").write_text("")
    ran = run_daemon(configure(""))
    assert (ran.returncode, ran.stdout) == (74, "")
    assert "the state folder" in ran.stderr
    assert "remedy:" in ran.stderr


def test_a_daemon_that_ends_as_asked_is_0(configure: Any, tmp_path: Path) -> None:
    """With a broker that is not there: that is no reason to fail."""
    ran = run_daemon(configure(""))
    assert ran.returncode == 0
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "state/control.sock").exists()


@pytest.mark.feature("OPS-02", breaks="chappe.cli.failure:code_of")
def test_a_bug_is_70_with_everything_one_needs_to_report_it(chappe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody raised on purpose: its traceback, and that it is ours."""
    raising(monkeypatch, ZeroDivisionError("injected"))
    ran = chappe("version")
    assert ran.code == 70
    assert "ZeroDivisionError: injected" in ran.err
    assert "this is a bug in chappe" in ran.err


@pytest.mark.parametrize("words", [[], ["nothing"], ["config"], ["version", "--loud"], ["replay"]], ids=" ".join)
def test_wrong_words_are_2_with_the_usage(chappe: Any, words: list[str]) -> None:
    """No command, an unknown one, one without its action, an unknown option, a missing argument."""
    ran = chappe(*words)
    assert (ran.code, ran.out) == (2, "")
    assert "usage: chappe" in ran.err


def test_help_is_0_and_names_every_code(chappe: Any) -> None:
    """`chappe --help` lists the commands and what its exit codes mean."""
    ran = chappe("--help")
    assert ran.code == 0
    told = " ".join(ran.out.split())
    for code in Exit:
        assert f"{code.value} " in told
    for command in COMMANDS:
        assert f" {command} " in told


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ChappeError("x"), 1),
        (UsageError("x"), 2),
        (LinkError("x"), 69),
        (EdgeError("x"), 74),
        (SensorError("x"), 74),
        (StoreError("x"), 74),
        (BusyError("x"), 75),
        (ConfigError([Problem("a.b", "range", "x")]), 78),
        (KeyboardInterrupt(), 128 + signal.SIGINT),
        (OSError(28, "No space left on device"), 74),
        (OSError(5, "Input/output error"), 70),
        (BrokenPipeError(), 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_each_error_has_its_code(chappe: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int) -> None:
    """Errors of ours by their class; the keyboard, a full disk and a reader that left; an unknown one is a bug."""
    raising(monkeypatch, error)
    assert chappe("version").code == code


def test_what_a_command_returns_is_the_exit_code(chappe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is."""
    monkeypatch.setattr("chappe.cli.version.run", lambda _: 42)
    assert chappe("version").code == 42


def test_an_error_without_a_remedy_claims_none(chappe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No empty advice."""
    raising(monkeypatch, ChappeError("refused"))
    assert chappe("version").err == "chappe: refused\n"


# ── stdout that ends ─────────────────────────────────────────────────────────────────────────────────────────────────


def run_into(words: list[str], stdout: int) -> subprocess.CompletedProcess[str]:
    # Buffered, as it is for everybody who does not ask for the opposite.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-m", "chappe", *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("words", WHOLE.values(), ids=WHOLE.keys())
def test_a_reader_that_leaves_early_is_no_error(words: list[str]) -> None:
    """`chappe … | head -1`: exit 0 and silence, for output that fits into the buffer and for more."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = run_into(words, writing)
    finally:
        os.close(writing)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", WHOLE.values(), ids=WHOLE.keys())
def test_output_onto_a_full_disk_is_74(words: list[str]) -> None:
    """Said once, with a remedy."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        ran = run_into(words, full.fileno())
    assert ran.returncode == 74
    assert ran.stderr == "chappe: the disk is full\n  remedy: free some space and try again\n"


# ── stdout that is read by programs ──────────────────────────────────────────────────────────────────────────────────

READING = [
    ["version"],
    ["config", "show"],
    ["config", "show", "--origin"],
    ["config", "validate"],
    ["check", "--list"],
    ["check", "--skip", "tflite"],
    ["sensor", "read", "tick"],
    ["models", "list"],
    ["models", "verify"],
]


@pytest.mark.feature("OPS-02", breaks="chappe.cli.common:print_json")
@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_with_json_stdout_is_one_document(chappe: Any, configure: Any, words: list[str]) -> None:
    """Every reading command, whether it finds something wrong or not."""
    file = [] if words == ["version"] else ["--config", str(configure('[sensors.tick]\ndriver = "simulated"\n'))]
    ran = chappe(*words, "--json", *file)
    assert ran.code in (0, 1)
    assert len(ran.lines) == 1
    assert json.dumps(ran.json)


def test_the_schema_is_json_as_it_is(chappe: Any) -> None:
    """No option needed."""
    assert chappe("config", "schema").json["title"] == "Chappe configuration"


# ── start ────────────────────────────────────────────────────────────────────────────────────────────────────────────

HEAVY = {
    "numpy",
    "PIL",
    "cv2",
    "av",
    "ai_edge_litert",
    "tflite_runtime",
    "gpiozero",
    "apscheduler",
    "astral",
    "sqlite_utils",
    "sqlite3",
    "rich",
    "paho",
    "tomlkit",
    "asyncio",
    "ssl",
}


@pytest.mark.feature("OPS-02")
@pytest.mark.parametrize("words", [["version"], ["check", "--help"], ["bench", "--help"], ["--help"]], ids=" ".join)
def test_nothing_heavy_is_imported_before_it_is_needed(words: list[str]) -> None:
    """No camera, numbers, TFLite, pins, scheduler, database, terminal or broker client, by Python's own list of imports."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "chappe", *words], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0
    told = (line for line in ran.stderr.splitlines() if line.startswith("import time:"))
    imported = {line.rpartition("|")[2].strip() for line in told}
    assert "chappe.cli" in imported, "the list of imports was not read"
    assert HEAVY & {name.partition(".")[0] for name in imported} == set()
