"""What the card has to bear: bytes written to the block device per message, the file system's own journal included."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from chappe.bench.outage.disk import Disk, can_cut
from chappe.bench.outbox.children import Child
from chappe.bench.outbox.device import Plan
from chappe.bench.outbox.figures import Figure, median
from chappe.bench.outbox.setting import configuration
from chappe.edge.broker import LocalBroker

MOST_ONLINE = 60.0
RATE_HZ = 200
SECTOR = 512
NOBODY = 9  # the discard port: nobody listens
SECTORS_WRITTEN = 6  # Linux Documentation/block/stat.rst

Counter = Callable[[int], int]


def measure(*, seconds: int, rounds: int) -> Iterator[Figure]:
    """Bytes per message at 200 messages of 200 bytes a second, online and in an outage.

    Args:
        seconds: length of one run.
        rounds: runs of each; medians count.
    """
    n = seconds * RATE_HZ
    for name, offline, most in (("online", False, MOST_ONLINE), ("in an outage", True, None)):
        runs = [_bytes(n, offline=offline) for _ in range(rounds)]
        how = "block device" if can_cut() else "write_bytes of the process"
        yield median(f"{how}, per message {name}", "B", [each / n for each in runs], most=most)


def _bytes(n: int, *, offline: bool) -> int:
    """Bytes that `n` messages caused to be written, in a daemon that has been up for a while."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chappe-bench-")))
        broker = stack.enter_context(LocalBroker(folder, kind="mosquitto"))
        state, written = stack.enter_context(_disk(folder))
        config = folder / "chappe.toml"
        config.write_text(configuration(state, NOBODY if offline else broker.port), encoding="utf-8")
        child = stack.enter_context(Child(Plan(config=str(config), n=n, rate_hz=RATE_HZ, offline=offline), folder))
        child.hear("warm")
        before = written(child.pid)
        child.go_on()
        child.hear("done")
        after = written(child.pid)
        child.go_on()
    return after - before


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[tuple[Path, Counter]]:
    """A state folder, and what tells how many bytes were written for it (and for whom) so far."""
    if not can_cut():
        yield folder / "state", process_bytes
        return
    with Disk(folder) as disk:
        yield disk.mount / "state", lambda _: device_bytes(disk.mount)


def device_bytes(place: Path) -> int:
    """Bytes written to the block device below `place` since the machine started; all that waits is written first."""
    os.sync()
    device = place.stat().st_dev
    stat = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    return int(stat.read_text("ascii").split()[SECTORS_WRITTEN]) * SECTOR


def process_bytes(pid: int) -> int:
    """Bytes that a process has caused to be written (``write_bytes`` of /proc/PID/io, proc(5)); the file system's journal is not in it."""
    lines = Path(f"/proc/{pid}/io").read_text("ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("write_bytes")))
