"""A storage of thingsboard-gateway, driven directly: puts numbers until told to drain, then lists what it gives back.

Usage: storage_child.py KIND FOLDER RATE RESULT; a rate of 0 puts nothing. ``drain`` on standard input ends the putting.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

QUIET_S = 3.0
PAYLOAD = 200
_CLASSES = {
    "memory": ("memory.memory_event_storage", "MemoryEventStorage"),
    "file": ("file.file_event_storage", "FileEventStorage"),
    "sqlite": ("sqlite.sqlite_event_storage", "SQLiteEventStorage"),
}


def load_ledger() -> Any:
    """The module of the ledger, by its path."""
    spec = importlib.util.spec_from_file_location("ledger", os.environ["BENCH_LEDGER_MODULE"])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def storage(kind: str, folder: str) -> Any:
    """The storage, with the settings that the gateway ships."""
    log: Any = logging.getLogger("storage")
    log.trace = log.debug
    config = {
        "type": kind,
        "read_records_count": 100,
        "max_records_count": 100000,
        "data_folder_path": f"{folder}/",
        "max_file_count": 10,
        "max_read_records_count": 10,
        "max_records_per_file": 10000,
        "data_file_path": f"{folder}/",
        "messages_ttl_check_in_hours": 1,
        "messages_ttl_in_days": 7,
    }
    if kind == "sqlite":
        config["max_read_records_count"] = 1000
    module, name = _CLASSES[kind]
    return getattr(importlib.import_module(f"thingsboard_gateway.storage.{module}"), name)(
        config, log, threading.Event()
    )


def put(store: Any, rate_hz: int, told: threading.Event) -> None:
    """Offer numbers at an even rate until told otherwise."""
    ledgers = load_ledger()
    offered = ledgers.Ledger(Path(os.environ["BENCH_OFFERED"])).open()
    accepted = ledgers.Ledger(Path(os.environ["BENCH_ACCEPTED"])).open()
    due = time.monotonic()
    while not told.wait(max(0.0, due - time.monotonic())):
        number = offered.enter()
        if store.put(f"{number:08d}|".ljust(PAYLOAD, "x")):
            accepted.mark(number)
        due += 1 / rate_hz


def drain(store: Any) -> list[int]:
    """Everything the storage gives back, until nothing has come for a while."""
    numbers: list[int] = []
    never = threading.Event()
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < QUIET_S:
        pack = store.get_event_pack()
        if pack:
            numbers += [int(event[:8]) for event in pack]
            quiet_since = time.monotonic()
        store.event_pack_processing_done()
        if not pack:
            never.wait(0.05)
    return numbers


def main() -> None:
    kind, folder, rate, result = sys.argv[1:]
    store = storage(kind, folder)
    told = threading.Event()
    putting = threading.Thread(target=put, args=(store, int(rate), told), daemon=True)
    if int(rate):
        putting.start()
        sys.stdin.readline()
        told.set()
        putting.join()
    numbers = drain(store)
    Path(result).write_text(json.dumps(numbers), encoding="ascii")
    # Its threads may hang on what was taken away; everything that matters is written.
    os._exit(0)


if __name__ == "__main__":
    main()
