"""The store edge: the state folder, held by one daemon at a time, and the only writer of what is in it.

============================  =================================================================================
module                        what it knows
============================  =================================================================================
`chappe.edge.store.store`     `Store`: the façade the main thread calls, and the thread ``store``
`.vault`                      what becomes of a commit or a read when the disk is full or the file is corrupt
`.base`, `.reading`           the outbox's file: one transaction, one page of rows; plain sqlite3
`.found`                      what a boot finds in it
`.codec`, `.schema`           structs and tuples with their checksums; tables and migrations
`.database`                   a connection, a transaction, free pages
`.blobs`                      data too large for a row
`.disk`                       room: the ballast, samples, which error means what
`.pages`                      SQLite's file format read page by page, without SQLite
`.salvage`, `.carry`          a corrupt file set aside; what is legible carried into a new one
`.losses`                     rows that cannot be read any more: off the books, and told
`.faults`                     which faults stand
`.history`, `.entries`        the messages this device keeps for itself: batches and trouble; their file
`.search`, `.pruning`         questions to it, a slice at a time; what goes first
`.desk`, `.listing`           the command line's hands on a store whose daemon is stopped
`.audit`                      whether the books agree with what is there; also beside a running daemon
`.folder`                     the lock, names of files
============================  =================================================================================

sqlite-utils is imported when a file has to be made or migrated, not before.
"""

from __future__ import annotations

from chappe.edge.store.folder import FILE, LOCK, lock
from chappe.edge.store.schema import SCHEMA, migrate
from chappe.edge.store.store import Store

__all__ = ["FILE", "LOCK", "SCHEMA", "Store", "lock", "migrate"]
