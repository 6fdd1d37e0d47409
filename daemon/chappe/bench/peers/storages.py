"""The storages of thingsboard-gateway, driven directly: what they accept, and what they give back after a fault.

No broker takes part: a storage is what stands between the gateway and an outage. Its `put` returns true: accepted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from chappe.bench.outage import ledger
from chappe.bench.outage.disk import Disk
from chappe.bench.outage.judge import Figures
from chappe.bench.outage.ledger import Ledger
from chappe.bench.outage.plan import Plan, hold, now
from chappe.bench.peers import install
from chappe.errors import EdgeError

KINDS = ("memory", "file", "sqlite")
SCENARIOS = ("refused", "kill_outage", "power_cut")
_WITHIN_S = 120.0


class Storage:
    """One storage in a process of its own.

    Args:
        packages: the folder that has thingsboard-gateway.
        kind: memory, file or sqlite.
        scratch: ledgers and results.
        state: its folder; on the disk that is cut.
    """

    def __init__(self, packages: Path, kind: str, scratch: Path, state: Path) -> None:
        self.offered = Ledger(scratch / "offered.ledger")
        self.accepted = Ledger(scratch / "accepted.ledger")
        self._packages = packages
        self._kind = kind
        self._scratch = scratch
        self._state = state
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        self.offered.open()
        self.accepted.open()

    def start(self, rate_hz: int) -> None:
        """Start it; with a rate of 0 it only gives back what it has."""
        child = Path(__file__).with_name("children") / "storage_child.py"
        environment = os.environ | {
            "PYTHONPATH": str(self._packages),
            "BENCH_LEDGER_MODULE": ledger.__file__,
            "BENCH_OFFERED": str(self.offered.path),
            "BENCH_ACCEPTED": str(self.accepted.path),
        }
        with (self._scratch / "said.log").open("ab") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(child), self._kind, str(self._state), str(rate_hz), str(self._result)],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                env=environment,
            )

    @property
    def _result(self) -> Path:
        return self._scratch / "recovered.json"

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None, "start() comes first"
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def recovered(self) -> list[int]:
        """Tell it to drain; every number it gave back, in order.

        Raises:
            EdgeError: if it does not end.
        """
        assert self._process is not None, "start() comes first"
        try:
            self._process.communicate(b"drain\n", _WITHIN_S)
        except subprocess.TimeoutExpired as error:
            raise EdgeError(f"the {self._kind} storage does not end") from error
        if not self._result.exists():
            raise EdgeError(
                f"the {self._kind} storage failed: {(self._scratch / 'said.log').read_text('utf-8')[-300:]}"
            )
        numbers: list[int] = json.loads(self._result.read_text("ascii"))
        return numbers

    def close(self) -> None:
        """End it; idempotent."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
            if self._process.stdin is not None and not self._process.stdin.closed:
                self._process.stdin.close()
        self.offered.close()
        self.accepted.close()


def measure(packages: Path, kind: str, scenario: str, plan: Plan, scratch: Path, disk: Disk | None) -> Figures:
    """One fault: numbers are put for the length of the outage, then the process is killed or the power cut, and what comes back is counted.

    Args:
        packages: the folder that has thingsboard-gateway.
        kind: memory, file or sqlite.
        scenario: of `SCENARIOS`.
        plan: times and load.
        scratch: a folder of this run.
        disk: a mounted disk to cut, for `power_cut`.
    """
    state = (disk.mount if disk is not None else scratch) / "storage"
    state.mkdir()
    os.sync()
    store = Storage(packages, kind, scratch, state)
    try:
        store.open()
        store.start(plan.rate_hz)
        begun = now()
        while not store.offered.count and now() - begun < 20e9:
            hold(0.05)
        hold(plan.outage_s)
        if scenario == "power_cut" and disk is not None:
            disk.cut()
        if scenario != "refused":
            store.kill()
            if scenario == "power_cut" and disk is not None:
                disk.restore()
            store.start(0)
        taken = store.accepted.numbers()
        back = store.recovered()
        taken |= store.accepted.numbers() if scenario == "refused" else set()
        return _figures(f"thingsboard-gateway storage {kind}", scenario, store.offered.count, taken, back)
    finally:
        store.close()


def _figures(subject: str, scenario: str, offered: int, taken: set[int], back: list[int]) -> Figures:
    distinct = set(back)
    return Figures(
        scenario=scenario,
        subject=subject,
        qos="-",
        offered=offered,
        accepted=len(taken),
        lost=len(taken - distinct),
        repeats=len(back) - len(distinct),
        disorder=sum(a > b for a, b in pairwise(back)),
        note="accepted: put() returned true; no broker",
    )


def ready(folder: Path) -> str:
    """Install the package; returns its version.

    Raises:
        NotInstalledError: if that cannot be done here.
    """
    install.thingsboard(folder)
    return install.THINGSBOARD
