"""The control of a power cut: a writer on the same disk that is acknowledged too early, and has to lose.

SQLite in WAL mode with ``synchronous=NORMAL`` returns from a commit before anything is synced. Where it loses nothing, the cut proves nothing.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from chappe.bench.outage.judge import Figures
from chappe.bench.outage.ledger import Ledger
from chappe.bench.outage.plan import SECOND_NS, hold, now

PAYLOAD = "x" * 200


class Control:
    """The writer, in a process of its own.

    Args:
        disk: the mount that will be cut.
        scratch: where its ledger lies.
        rate_hz: rows per second, each a commit.
    """

    def __init__(self, disk: Path, scratch: Path, rate_hz: int) -> None:
        self._file = disk / "normal.db"
        self._ledger = Ledger(scratch / "normal.ledger")
        self._rate_hz = rate_hz
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._ledger.open()
        with closing(sqlite3.connect(self._file)) as base:
            base.execute("PRAGMA journal_mode=WAL")
            base.execute("CREATE TABLE rows (n INTEGER PRIMARY KEY, data TEXT)")
            base.commit()
        # The table was there long before the power went.
        os.sync()
        command = [sys.executable, "-m", __name__, str(self._file), str(self._ledger.path), str(self._rate_hz)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """SIGKILL; idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def figures(self) -> Figures:
        """What it was told to be stored, and what of it is not."""
        taken = self._ledger.numbers()
        with closing(sqlite3.connect(self._file)) as base:
            stored = {n for (n,) in base.execute("SELECT n FROM rows")}
        lost = len(taken - stored)
        note = "" if lost else "lost nothing: this cut proves nothing"
        return Figures("power_cut", "control: SQLite WAL, NORMAL", "-", self._ledger.count, len(taken), lost, note=note)

    def close(self) -> None:
        """End it; idempotent."""
        self.kill()
        self._ledger.close()


def write(file: Path, ledger: Ledger, rate_hz: int) -> None:
    """One row, one commit, one entry in the ledger; again and again until the disk is gone."""
    step = SECOND_NS // rate_hz
    due = now()
    with closing(sqlite3.connect(file, isolation_level=None)) as base:
        base.execute("PRAGMA synchronous=NORMAL")
        number = 0
        while True:
            base.execute("INSERT INTO rows VALUES (?, ?)", (number, PAYLOAD))
            ledger.mark(number)
            number += 1
            due += step
            hold(max(0, due - now()) / SECOND_NS)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Ledger(Path(sys.argv[2])).open(), int(sys.argv[3]))
