"""The store as somebody else sees it: a copy of its file, read with plain SQL and nothing of the daemon's own."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from .books import PARTS
from .oracle import Stored

FILE = "chappe.db"
LANE_BITS = 40

# Dead letters are kept, so they count as there.
ROWS = """
SELECT lane.name, boot.name, row.seq
FROM (SELECT id, boot, seq FROM rows UNION ALL SELECT id, boot, seq FROM dead) AS row
JOIN names AS lane ON lane.kind = 'lane' AND lane.no = row.id >> ?
JOIN names AS boot ON boot.kind = 'boot' AND boot.no = row.boot
ORDER BY row.id
"""


class Shelf:
    """Looks into a state folder without touching it.

    Args:
        state: the state folder.
        folder: where copies go.
    """

    def __init__(self, state: Path, folder: Path) -> None:
        self._state = state
        self._copy = folder / "copy"

    @contextmanager
    def copy(self) -> Iterator[sqlite3.Connection]:
        """A copy of the file and its log, as a restart would find them."""
        shutil.rmtree(self._copy, ignore_errors=True)
        self._copy.mkdir()
        for name in (FILE, FILE + "-wal"):
            if (self._state / name).exists():
                shutil.copyfile(self._state / name, self._copy / name)
        with closing(sqlite3.connect(self._copy / FILE)) as base:
            yield base

    @contextmanager
    def beside(self) -> Iterator[sqlite3.Connection]:
        """The file itself, read beside the running daemon: what is seen there has been committed."""
        with closing(sqlite3.connect(f"file:{self._state / FILE}?mode=ro", uri=True)) as base:
            yield base

    def rows(self) -> list[Stored]:
        """Every row that waits, dead letters included."""
        with self.copy() as base:
            return rows(base)

    def boots(self) -> list[str]:
        """Every boot it knows of, oldest first."""
        with self.copy() as base:
            return [name for (name,) in base.execute("SELECT boot FROM boots ORDER BY no")] if _made(base) else []

    def books(self) -> dict[str, dict[str, int]]:
        """The books of each stream as last written, and how many rows really lie there."""
        with self.copy() as base:
            if not _made(base):
                return {}
            columns = ("produced", *PARTS)
            query = f"SELECT stream, {', '.join(columns)} FROM lanes"
            return {stream: dict(zip(columns, book, strict=True)) for stream, *book in base.execute(query)}

    def check(self) -> str:
        """SQLite's own word: ``ok``."""
        with self.copy() as base:
            return str(base.execute("PRAGMA integrity_check").fetchone()[0])


def rows(base: sqlite3.Connection) -> list[Stored]:
    """Every row in a store; none where its tables were not made yet."""
    return [Stored(*row) for row in base.execute(ROWS, (LANE_BITS,))] if _made(base) else []


def _made(base: sqlite3.Connection) -> bool:
    return bool(base.execute("SELECT 1 FROM sqlite_master WHERE name = 'names'").fetchone())
