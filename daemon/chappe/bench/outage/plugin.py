"""The sensor driver of this bench: its values are the numbers of a ledger, so that what was offered is known to the last value.

The daemon finds it as it finds any plug-in, by an entry point.
"""

from __future__ import annotations

from pathlib import Path

from chappe.bench.outage.ledger import Ledger
from chappe.core.settings import Sensor

NAME = "bench_ledger"


class Feed:
    """Reads the next number of the ledger that its option ``ledger`` names; a sealed one is a sensor that was unplugged."""

    def __init__(self) -> None:
        self._ledger: Ledger | None = None

    def open(self, sensor: Sensor) -> None:
        self._ledger = Ledger(Path(sensor.options["ledger"])).open()

    def read(self) -> int:
        assert self._ledger is not None, "read before open"
        if self._ledger.sealed:
            raise OSError("the ledger is sealed")
        return self._ledger.enter()

    def close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None


def describe(folder: Path) -> Path:
    """Make `folder` one that, on the path of a Python, offers the driver; returns it."""
    about = folder / "chappe_bench_ledger-1.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: chappe-bench-ledger\nVersion: 1\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(f"[chappe.sensors]\n{NAME} = {__name__}:Feed\n", encoding="utf-8")
    return folder
