"""Memory of the real daemon: `chappe run` in a process of its own, with frames, sensors, an outbox that fills, and health documents.

The figure is Pss: pages that several processes share count by their share. It is read from outside, after as many frames were looked at.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chappe.edge.control import SOCKET, call
from chappe.errors import EdgeError, LinkError

FRAMES = 1000
READINGS = 1000
LOOK_EVERY_S = 0.2
PATIENCE_LOOKS = 1500

SENSORS = (
    '[sensors.tick]\ndriver = "simulated"\nwave = "counter"\nevery = "50ms"\n'
    '[sensors.wave]\ndriver = "simulated"\nevery = "100ms"\n'
    '[streams.wave]\nclass = "latest"\nelide = { policy = "latest", every = "1s" }\n'
)


def with_vision(backend: str, frames: Path, weights: Path | None) -> float:
    """Pss in MB of a daemon that has looked at 1,000 frames with hands-lite and this pre-processing."""
    text = (
        f'[camera]\nsource = "files"\npath = "{frames}"\nhold = "1s"\nrate_hz = 60\n[vision]\nbackend = "{backend}"\n'
        '[signals]\nPointing_Up = "BUY"\nOpen_Palm = "SELL"\n'
    )
    models = f'[models]\ndir = "{weights}"\n' if weights else ""
    return _measure(text + models, lambda health: health["inference"]["n"] >= FRAMES)


def without_vision() -> float:
    """Pss in MB of a daemon without a camera that has taken 1,000 readings."""
    return _measure("", lambda health: health["streams"].get("tick", {}).get("produced", 0) >= READINGS)


def _measure(text: str, enough: Any) -> float:
    with _daemon(text + SENSORS) as (process, socket):
        wait = threading.Event()
        for _ in range(PATIENCE_LOOKS):
            wait.wait(LOOK_EVERY_S)
            if process.poll() is not None:
                raise EdgeError("the daemon of the memory bench ended early", remedy="run `chappe check`")
            health = _health(socket)
            if health and enough(health):
                return pss_mb(Path(f"/proc/{process.pid}/smaps_rollup"))
    raise EdgeError("the daemon of the memory bench did not come to its end in time")


@contextmanager
def _daemon(text: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    with tempfile.TemporaryDirectory(prefix="chappe-bench-") as folder:
        config = Path(folder) / "chappe.toml"
        # Port 9 (discard) refuses: the outbox keeps what it is given.
        config.write_text(f'[device]\nstate_dir = "{folder}/state"\n[mqtt]\nport = 9\n{text}', encoding="utf-8")
        command = [sys.executable, "-m", "chappe", "run", "--config", str(config)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield process, Path(folder) / "state" / SOCKET
        finally:
            process.terminate()
            process.wait()


def _health(socket: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = call(socket, "health").get("data", {})
    except LinkError:
        return {}
    return data


def pss_mb(path: Path = Path("/proc/self/smaps_rollup")) -> float:
    """Proportional set size of a process, MB of 10**6 bytes: shared pages count by their share.

    Args:
        path: the kernel's summary of the process's mappings.

    Raises:
        EdgeError: if the kernel does not say.
    """
    for line in path.read_text("ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise EdgeError(f"{path} has no Pss line", remedy="the memory figure needs Linux 4.14 or later")
