"""`chappe bench outage`: whole scenarios with a real `chappe run` and a real mosquitto, scaled; in full length in the nightly run."""

from __future__ import annotations

import json
import os
import random
import threading
from pathlib import Path

import pytest

from chappe.bench.outage import brokers, command, scenarios
from chappe.bench.outage.daemon import Daemon
from chappe.bench.outage.disk import can_cut
from chappe.bench.outage.judge import Figures, messages
from chappe.bench.outage.ledger import Ledger
from chappe.bench.outage.link import kernel_can
from chappe.bench.outage.plan import QUICK, Plan
from chappe.edge.broker import find_mosquitto
from chappe.errors import EdgeError

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
nightly = pytest.mark.skipif(not os.environ.get("NIGHTLY"), reason="takes minutes: make nightly")

SHORT = Plan(clean_s=0.5, outage_s=1.0, tail_s=0.5, silence_s=20.0, broker_gone_s=0.5, flood=400)


def played(name: str, plan: Plan) -> list[Figures]:
    """The lines of one scenario; its seed is in the message of what fails."""
    seed = random.SystemRandom().randrange(1 << 32)
    play = brokers.play if name in brokers.SCENARIOS else scenarios.play
    lines = play(name, plan, seed, kernel=kernel_can())
    print(f"seed {seed}:", *lines, sep="\n")
    return lines


def wait_until(ledger: Ledger, count: int) -> None:
    tick = threading.Event()
    for _ in range(2000):
        if ledger.count >= count:
            return
        tick.wait(0.01)
    pytest.fail(f"only {ledger.count} of {count}")


def nothing_lost(lines: list[Figures]) -> None:
    """No line breaks a limit, but for exposure: that is wall time, and belongs to the bench."""
    for line in lines:
        assert command.judge_limits({**line.to_data(), "exposure_ms": None}) == "", line


@pytest.mark.feature("OUT-05", breaks="chappe.core.keeper:Keeper.commit")
@pytest.mark.feature("OUT-02", breaks="chappe.core.keeper:Keeper.commit")
def test_a_kill_in_an_outage_loses_nothing_that_was_accepted() -> None:
    lines = played("kill_outage", SHORT)
    nothing_lost(lines)
    assert [line.subject for line in lines] == ["Chappe, first", "Chappe, behind"]
    for line in lines:
        assert line.offered >= line.accepted > 0
        assert line.exposure_ms is not None
        assert line.first_s is not None
        # What waited came after the recovery: it had survived the kill.
        assert line.drain_s is not None
        assert line.drain_s > 0


@nightly
@pytest.mark.parametrize("name", scenarios.SCENARIOS)
def test_every_scenario_in_full(name: str) -> None:
    if name == "power_cut" and not can_cut():
        pytest.skip("needs root and mkfs.ext4")
    lines = played(name, Plan())
    nothing_lost(lines)
    control = [line for line in lines if line.subject.startswith("control")]
    assert bool(control) == (name == "power_cut")
    assert all(line.lost > 0 for line in control), "this cut proves nothing"


@nightly
@pytest.mark.parametrize("name", brokers.SCENARIOS)
def test_what_a_broker_loses_comes_back(name: str) -> None:
    lines = played(name, QUICK)
    nothing_lost(lines)
    away = next(line for line in lines if line.subject == "the broker to an away session")
    assert away.lost > 0


@nightly
def test_the_command_prints_a_line_for_each(capfd: pytest.CaptureFixture[str]) -> None:
    from chappe.cli import run

    assert run(["bench", "outage", "--quick", "--scenario", "refused", "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert [line["subject"] for line in said["lines"]] == ["Chappe, first", "Chappe, behind"]
    assert said["broken"] == []


def test_a_daemon_that_does_not_start_is_an_error_and_not_a_good_figure(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, tmp_path / "state", "127.0.0.1", 9, {"behind": "behind"}, 10, mqtt="nonsense = 1\n")
    daemon.open()
    try:
        with pytest.raises(EdgeError, match=r"(?s)did not become ready.*nonsense"):
            daemon.start()
    finally:
        daemon.close()


def test_a_daemon_offers_what_its_ledger_says_and_can_be_unplugged(tmp_path: Path) -> None:
    """Every value in the store has its moment in the ledger; an unplugged sensor offers no more."""
    daemon = Daemon(tmp_path, tmp_path / "state", "127.0.0.1", 9, {"first": "first"}, 100)
    daemon.open()
    try:
        daemon.start()
        wait_until(daemon.ledgers["first"], 5)
        assert daemon.ask("health")["streams"]["first"]["produced"] > 0
        assert daemon.kill() >= daemon.offered("first")[-1]
        assert (tmp_path / "said.log").stat().st_size > 0
        daemon.unplug()
        before = len(daemon.offered("first"))
        daemon.start()
        daemon.stop()
        assert len(daemon.offered("first")) == before
        assert daemon.ask("health") == {}
        with pytest.raises(EdgeError, match="ended by itself"):
            daemon.kill()
    finally:
        daemon.close()


def test_nothing_is_left_when_a_scenario_fails() -> None:
    """No process, no folder."""
    left: list[Path] = []
    pids: list[int | None] = []

    def fail() -> None:
        with scenarios.stage_for("refused", SHORT, 1, kernel=False) as stage:
            pids.extend([stage.broker.pid, stage.daemon._process.pid if stage.daemon._process else None])
            assert stage.counter.wait_for(lambda arrivals: len(messages(arrivals)) > 0, 20.0)
            left.append(stage.folder)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not any(folder.exists() for folder in left)
