"""The memory figure is taken from the real daemon, and is the kernel's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from chappe.bench import memory
from chappe.errors import EdgeError


def test_memory_is_the_proportional_set_size(tmp_path: Path) -> None:
    """Pss of the kernel's summary, kB of 1024 bytes, told in MB of a million."""
    summary = tmp_path / "smaps_rollup"
    summary.write_text(
        "0-7 ---p 0 00:00 0 [rollup]\nRss: 90000 kB\nPss:  50000 kB\nPss_Anon: 40000 kB\n", encoding="ascii"
    )
    assert memory.pss_mb(summary) == 51.2
    summary.write_text("Rss: 1 kB\n", encoding="ascii")
    with pytest.raises(EdgeError, match="no Pss line"):
        memory.pss_mb(summary)


def test_a_daemon_without_vision_is_measured_after_its_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "READINGS", 20)
    assert 10 < memory.without_vision() < 1000


def test_a_daemon_that_ends_early_is_an_error_and_not_a_good_figure(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="ended early"):
        memory._measure("nonsense = 1\n", lambda health: True)
