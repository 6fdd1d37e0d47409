"""The tables of the two files, and how they come about. Migrations only add: an older version can open the file.

No two tables have columns of the same number and kinds, so that `chappe.edge.store.salvage` can tell a record's table from the record
alone. No table but `memory` has an index besides its key: an index is one more thing to write, and to break.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

SCHEMA = 2
HISTORY_SCHEMA = 1

MEMORY: Mapping[str, type] = {"key": str, "value": str}
# The wide columns come last: what is asked of many rows (size, times) is then always in a row's first page.
ROW: Mapping[str, type] = {
    "id": int,
    "boot": int,
    "seq": int,
    "at": int,
    "accepted": int,
    "late": int,
    "attempts": int,
    "size": int,
    "crc": int,
    "key": str,
    "model": str,
    "elided": bytes,
    "lost": bytes,
    "path": str,
    "sha256": bytes,
    "data": bytes,
}
DEAD: Mapping[str, type] = {**ROW, "since": int, "reason": str}
BOOK = ("produced", "delivered", "elided", "expired", "spilled", "queued", "elide_overflow", "late", "invalid")
LANE: Mapping[str, type] = {
    "no": int,
    "stream": str,
    "next": int,
    "rows": int,
    "bytes": int,
    "boot": str,
    "seq": int,
    "gaps": str,
    "corrupt": str,
    **dict.fromkeys(BOOK, int),
}
BOOT: Mapping[str, type] = {
    "no": int,
    "boot": str,
    "kernel": str,
    "offset": int,
    "synced": int,
    "last": int,
    "clean": int,
}
STANDING: Mapping[str, type] = {
    "no": int,
    "stream": str,
    "boot": str,
    "seq": int,
    "state": str,
    "times": str,
    "by": str,
    "crc": int,
}
# Rows name their lane and boot by number only. Were the page with those names lost, no row could be told; so they stand on two pages.
NAME: Mapping[str, type] = {"id": int, "kind": str, "no": int, "name": str}

OUTBOX: Mapping[str, Mapping[str, type]] = {
    "memory": MEMORY,
    "rows": ROW,
    "dead": DEAD,
    "lanes": LANE,
    "boots": BOOT,
    "standings": STANDING,
    "names": NAME,
}

# ── the history ──────────────────────────────────────────────────────────────────────────────────────────────────────

STREAM: Mapping[str, type] = {"no": int, "stream": str, "next": int, "bytes": int}
BOOT_NAME: Mapping[str, type] = {"no": int, "boot": str}
ENTRY: Mapping[str, type] = {
    "id": int,
    "lane": int,
    "boot": int,
    "seq": int,
    "wall": int,
    "crc": int,
    "envelope": bytes,
}
CURSOR: Mapping[str, type] = {"reader": str, "stream": str, "offset": int}
REMOVED: Mapping[str, type] = {
    "id": int,
    "stream": str,
    "first": int,
    "last": int,
    "n": int,
    "reason": str,
    "wall": int,
}
ANNALS: Mapping[str, Mapping[str, type]] = {
    "streams": STREAM,
    "boots": BOOT_NAME,
    "entries": ENTRY,
    "cursors": CURSOR,
    "removed": REMOVED,
}


def migrate(base: sqlite3.Connection) -> None:
    """Bring the outbox's tables up to `SCHEMA`."""
    version = int(base.execute("PRAGMA user_version").fetchone()[0])
    if version >= SCHEMA:
        return
    from sqlite_utils import Database

    tables = Database(base)
    with base:
        base.execute("BEGIN IMMEDIATE")
        tables["memory"].create(dict(MEMORY), pk="key", if_not_exists=True)
        tables["rows"].create(dict(ROW), pk="id", if_not_exists=True)
        tables["dead"].create(dict(DEAD), pk="id", if_not_exists=True)
        tables["lanes"].create(dict(LANE), pk="no", defaults={"corrupt": ""}, if_not_exists=True)
        tables["boots"].create(dict(BOOT), pk="no", if_not_exists=True)
        tables["standings"].create(dict(STANDING), pk="no", if_not_exists=True)
        tables["standings"].create_index(["stream", "boot", "seq"], unique=True, if_not_exists=True)
        tables["names"].create(dict(NAME), pk="id", if_not_exists=True)
        base.execute(f"PRAGMA user_version = {SCHEMA}")


def migrate_history(base: sqlite3.Connection) -> None:
    """Bring the history's tables up to `HISTORY_SCHEMA`."""
    version = int(base.execute("PRAGMA user_version").fetchone()[0])
    if version >= HISTORY_SCHEMA:
        return
    from sqlite_utils import Database

    tables = Database(base)
    with base:
        base.execute("BEGIN IMMEDIATE")
        tables["streams"].create(dict(STREAM), pk="no", if_not_exists=True)
        tables["boots"].create(dict(BOOT_NAME), pk="no", if_not_exists=True)
        tables["entries"].create(dict(ENTRY), pk="id", if_not_exists=True)
        tables["entries"].create_index(["lane", "boot", "seq"], unique=True, if_not_exists=True)
        tables["cursors"].create(dict(CURSOR), pk=("reader", "stream"), if_not_exists=True)
        tables["removed"].create(dict(REMOVED), pk="id", if_not_exists=True)
        base.execute(f"PRAGMA user_version = {HISTORY_SCHEMA}")
