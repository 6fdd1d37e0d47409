"""What lies in the store, read from outside the daemon: plain SQL on a copy, or beside the running daemon for a moment."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from chappe.bench.outage.judge import Row
from chappe.core.stored import LANE_BITS
from chappe.errors import StoreError

FILE = "chappe.db"
_ROWS = """
    SELECT lanes.stream, boot.name, rows.seq, rows.data
    FROM rows
    JOIN lanes ON lanes.no = rows.id >> ?
    JOIN names AS boot ON boot.kind = 'boot' AND boot.no = rows.boot
    ORDER BY rows.id
"""


def copied(state: Path, to: Path) -> Sequence[Row]:
    """Rows of a copy of the state folder of a daemon that has ended.

    Args:
        state: its state folder.
        to: where the copy goes; replaced if it is there.

    Raises:
        StoreError: if the copy is damaged.
    """
    if to.exists():
        shutil.rmtree(to)
    shutil.copytree(state, to, ignore=shutil.ignore_patterns("*.sock", "ballast*"))
    with closing(sqlite3.connect(to / FILE)) as base:
        said = base.execute("PRAGMA integrity_check").fetchone()[0]
        if said != "ok":
            raise StoreError(f"the store is damaged after the fault: {said}")
        return _rows(base)


def beside(state: Path) -> Sequence[Row]:
    """Rows that a reader beside the running daemon sees: in WAL mode a row is seen only after its commit was synced."""
    with closing(sqlite3.connect(f"file:{state / FILE}?mode=ro", uri=True)) as base:
        return _rows(base)


def _rows(base: sqlite3.Connection) -> Sequence[Row]:
    found = base.execute(_ROWS, (LANE_BITS,))
    return [Row(stream, boot, seq, _value(data)) for stream, boot, seq, data in found]


def _value(data: bytes) -> int:
    content = json.loads(data) if data else {}
    value = content.get("value") if isinstance(content, dict) else None
    return value if isinstance(value, int) else -1
