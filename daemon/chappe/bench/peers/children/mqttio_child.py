"""mqtt-io as it is, but for its mock sensor: each value read is the next number of a ledger."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any


def load_ledger() -> Any:
    """The module of the ledger, by its path."""
    spec = importlib.util.spec_from_file_location("ledger", os.environ["BENCH_LEDGER_MODULE"])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    ledgers = load_ledger()
    offered = ledgers.Ledger(Path(os.environ["BENCH_OFFERED"])).open()
    accepted = ledgers.Ledger(Path(os.environ["BENCH_ACCEPTED"])).open()
    feeding = Path(os.environ["BENCH_FEED"])

    mock: Any = importlib.import_module("mqtt_io.modules.sensor.mock")

    def read(_sensor: Any, _settings: Any) -> int | None:
        if not feeding.exists():
            return None
        number: int = offered.enter()
        accepted.mark(number)
        return number

    def begin(sensor: Any, config: Any) -> None:
        mock.GenericSensor.__init__(sensor, config)

    mock.Sensor.__init__ = begin
    mock.Sensor.get_value = read

    sys.argv = ["mqtt-io", sys.argv[1]]
    importlib.import_module("mqtt_io.__main__").main()


if __name__ == "__main__":
    main()
