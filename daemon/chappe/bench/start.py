"""``chappe bench start``: how soon the command line answers, the daemon is ready, and a clean stop is over. Wall clock, medians.

The first figure is a ratio to an empty Python taken in the same run; the other two are seconds of this machine.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

AIM_RATIO = 3.0
READY_LIMIT_S = 2.0
STOP_LIMIT_S = 5.0

SENSORS = (
    '[sensors.tick]\ndriver = "simulated"\nwave = "counter"\nevery = "10ms"\n'
    '[streams.tick]\nclass = "latest"\nelide = { policy = "latest", every = "1h" }\n'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this bench."""
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="alternations; medians count (default: 5)")


def run(args: argparse.Namespace) -> int:
    """Measure, print and judge; exit 1 if ready or stop exceed their limits."""
    version, bare, ready, stop = [], [], [], []
    for _ in range(args.rounds):
        version.append(_wall(["-m", "chappe", "version"]))
        bare.append(_wall(["-c", "pass"]))
        begun, ended = start_and_stop()
        ready.append(begun)
        stop.append(ended)
    figures = {
        "version_over_python": round(statistics.median(version) / statistics.median(bare), 2),
        "version_aim": AIM_RATIO,
        "ready_s": round(statistics.median(ready), 3),
        "ready_limit_s": READY_LIMIT_S,
        "stop_s": round(statistics.median(stop), 3),
        "stop_limit_s": STOP_LIMIT_S,
    }
    ok = figures["ready_s"] <= READY_LIMIT_S and figures["stop_s"] <= STOP_LIMIT_S
    if args.json:
        print(json.dumps({"ok": ok, **figures}))
    else:
        print("\n".join(f"{name:24}{value}" for name, value in figures.items()))
    return 0 if ok else 1


def _wall(arguments: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def start_and_stop() -> tuple[float, float]:
    """Seconds from exec to ready, and from SIGTERM to the end, of a daemon on a broker of its own that holds a value back."""
    from chappe.edge.broker import LocalBroker

    with tempfile.TemporaryDirectory(prefix="chappe-bench-") as folder, LocalBroker(Path(folder)) as broker:
        config = Path(folder) / "chappe.toml"
        config.write_text(
            f'[device]\nstate_dir = "{folder}/state"\n[mqtt]\nport = {broker.port}\n{SENSORS}', encoding="utf-8"
        )
        command = [sys.executable, "-m", "chappe", "run", "--json", "--config", str(config)]
        begun = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            ready = 0.0
            for line in process.stdout:
                event = json.loads(line)
                ready = ready or (time.perf_counter() - begun if event.get("status") == "ready" else 0.0)
                if ready and event.get("topic", "").endswith("/stream/tick"):
                    break
            asked = time.perf_counter()
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
            process.wait()
        return ready, time.perf_counter() - asked
