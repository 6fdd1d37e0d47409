"""One file of the store: how a connection to it is set up, what a transaction is, how it shrinks."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from chappe.edge.store.codec import CorruptError, Troubles

PAGE = 4096

# A short log is written over and over in place, which wears a card less than a growing one, and bounds what it adds to the store.
CHECKPOINT_PAGES = 500
LOG_BYTES = CHECKPOINT_PAGES * PAGE

SHRINK_PAGES = 1024
LONGEST = 256 << 20
"""No value is longer: it is the longest payload that MQTT can carry."""


def connect(path: Path, *, writable: bool = True) -> sqlite3.Connection:
    """Open a file of the store: a write-ahead log with an fsync in each commit.

    ``synchronous=FULL``: a commit that has returned survives a power cut; with NORMAL the tail since the last checkpoint is lost
    (https://www.sqlite.org/pragma.html#pragma_synchronous). `secure_delete` is off, as overwriting what is deleted wears the card.

    Raises:
        sqlite3.Error: if it is no database, or cannot be used.
    """
    link = sqlite3.connect(
        path if writable else f"{path.absolute().as_uri()}?mode=ro",
        uri=not writable,
        isolation_level=None,
        check_same_thread=False,
        timeout=5.0 if writable else 1.0,
    )
    try:
        # Noise may call itself a value of gigabytes: better to refuse it than to make room for it.
        link.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
        if writable:
            for pragma in (
                f"page_size={PAGE}",
                "auto_vacuum=INCREMENTAL",
                "journal_mode=WAL",
                "synchronous=FULL",
                "secure_delete=OFF",
                f"wal_autocheckpoint={CHECKPOINT_PAGES}",
                f"journal_size_limit={LOG_BYTES}",
            ):
                link.execute(f"PRAGMA {pragma}")
    except Troubles:
        link.close()
        raise
    return link


class Database:
    """A file with tables.

    Args:
        path: the file.
        migrate: brings its tables up to date.
        tables: columns of each.
    """

    def __init__(
        self, path: Path, migrate: Callable[[sqlite3.Connection], None], tables: Mapping[str, Mapping[str, type]]
    ) -> None:
        self.path = path
        self._migrate = migrate
        self._tables = tables
        self._link: sqlite3.Connection | None = None

    @property
    def link(self) -> sqlite3.Connection:
        """The connection.

        Raises:
            sqlite3.Error: if the file is not open.
        """
        if self._link is None:
            raise sqlite3.OperationalError(f"{self.path} is not open")
        return self._link

    @property
    def is_open(self) -> bool:
        return self._link is not None

    def open(self, *, writable: bool = True) -> None:
        """Open the file, bring its tables up to date.

        Raises:
            sqlite3.Error: if it is no database, is corrupt, or cannot be used.
        """
        self._link = connect(self.path, writable=writable)
        if writable:
            self._migrate(self._link)
        self._check()
        self.learn()

    def _check(self) -> None:
        """Noise in the first page can leave tables with other columns; a newer version may have added some."""
        for table, columns in self._tables.items():
            found = {name for _, name, *_ in self.link.execute(f'PRAGMA table_info("{table}")')}
            if not columns.keys() <= found:
                raise CorruptError(f"the table {table} is not as it was made")

    def learn(self) -> None:
        """Read what has to be known to write; also after a transaction that did not come about."""

    def close(self) -> None:
        """Close the file."""
        if self._link is not None:
            self._link.close()
            self._link = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing.

        Raises:
            sqlite3.Error: if it did not come about.
        """
        link = self.link
        link.execute("BEGIN IMMEDIATE")
        try:
            yield link
            link.execute("COMMIT")
        except BaseException:
            # Some errors roll back by themselves, and a corrupt file cannot; either way nothing was committed.
            with contextlib.suppress(*Troubles):
                if link.in_transaction:
                    link.execute("ROLLBACK")
            with contextlib.suppress(*Troubles):
                self.learn()
            raise

    def shrink(self, *, hard: bool) -> bool:
        """Give free pages back to the file system, a few at a time; fewer than half of the file are kept for what comes next.

        Args:
            hard: give every one back, as the disk is filling up.

        Returns:
            Whether there were any to give back.

        Raises:
            sqlite3.Error: if it did not come about.
        """
        link = self.link
        free, whole = (int(link.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("freelist_count", "page_count"))
        if not free or not (hard or (free > SHRINK_PAGES and 2 * free > whole)):
            return False
        # One step of this statement frees one page, and `execute` takes only one.
        link.executescript(f"PRAGMA incremental_vacuum({SHRINK_PAGES})")
        if hard:
            # The file itself gets shorter when the log is carried over.
            link.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return True
