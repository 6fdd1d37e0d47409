"""`chappe bench start`: figures of a daemon that really started, published and stopped."""

from __future__ import annotations

import json

import pytest

from chappe.bench import start
from chappe.cli import run


def test_a_daemon_becomes_ready_and_ends() -> None:
    ready, stop = start.start_and_stop()
    assert ready > 0
    assert stop > 0


def test_a_limit_that_is_exceeded_is_exit_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "start_and_stop", lambda: (2.5, 0.1))
    assert run(["bench", "start", "--rounds", "1", "--json"]) == 1
    figures = json.loads(capsys.readouterr().out)
    assert (figures["ok"], figures["ready_s"]) == (False, 2.5)
    assert figures["version_over_python"] > 1
