"""SIGKILL by the kernel at the n-th system call of a kind: just before a write, a sync, a send, a receipt, a removal.

strace lets the signal strike a thread as it enters the call, so the call itself does not happen, and the one before it has.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import NIGHTLY
from .oracle import repeated
from .tower import Scene, scene

WINDOW = 100
RATES = {"sure": "10ms", "fast": "10ms", "soft": "50ms", "last": "20ms"}
LIVES_S = 5.0
"""A boot that was ready and has not come to its point by then is killed where it is, and is counted as that."""

CALLS = ("pwrite64", "fdatasync", "sendto", "recvfrom", "unlink")
LATEST = {"pwrite64": 400, "fdatasync": 60, "sendto": 120, "recvfrom": 80, "unlink": 4}
"""Where chance looks for the n-th of each kind at night."""


@dataclass(frozen=True)
class Point:
    """Where a boot dies: at the `n`-th `call` of one of its threads, `dark` (without a broker) or while it drains."""

    call: str
    n: int
    dark: bool

    @property
    def stops(self) -> bool:
        """Files are removed at the start and at the end only: that boot is asked to stop."""
        return self.call == "unlink"

    def tracer(self, log: Path) -> list[str]:
        # No --seccomp-bpf, which is faster to start: with it strace 6.1 never gets beyond the first of `when`.
        only, inject = f"trace={self.call}", f"inject={self.call}:signal=SIGKILL:when={self.n}"
        return ["strace", "-f", "-qq", "-ttt", "-o", str(log), "-e", only, "-e", inject]


def death(log: Path) -> float | None:
    """When the kernel killed it, None where it did not."""
    times = re.findall(r"^\d+ +([\d.]+) \+\+\+ killed by SIGKILL", log.read_text(encoding="ascii"), re.MULTILINE)
    return min(map(float, times), default=None)


def die(story: Scene, point: Point) -> bool:
    """Start it and let it come to its point; whether it did."""
    if point.dark:
        story.proxy.refuse()
    else:
        story.proxy.accept_again()
    log = story.folder / "strace.log"
    tower = story.start(under=point.tracer(log))
    if tower.ready(mortal=True) and point.stops:
        tower.terminate()
    tower.dies(LIVES_S)
    if tower.process.poll() == 0:
        # Asked to stop, it was done before it came to its point.
        story.stopped()
        return False
    struck = death(log)
    story.kill(at=struck)
    return struck is not None


def walk(folder: Path, points: Sequence[Point]) -> tuple[list[Point], list[str]]:
    """One device that dies at each of the points in turn; returns those that were reached, and what is wrong."""
    with scene(folder, rates=RATES) as story:
        reached = [point for point in points if die(story, point)]
        story.proxy.accept_again()
        return reached, [*story.finish(), *repeated(story.account, WINDOW, cuts=len(points))]


def tour(folder: Path, walks: Sequence[Sequence[Point]]) -> tuple[list[Point], list[str]]:
    """Several devices side by side."""
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda n: walk(folder / str(n), walks[n]), range(len(walks))))
    return [point for reached, _ in done for point in reached], [each for _, wrong in done for each in wrong]


@pytest.fixture(autouse=True)
def tracer() -> None:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")


NUMBERED = {
    "pwrite64": (2, 9, 30),
    "fdatasync": (1, 4, 12),
    "sendto": (1, 3, 9),
    "recvfrom": (1, 2, 6),
    "unlink": (1, 2),
}


@pytest.mark.usefixtures("tales")
@pytest.mark.feature("OUT-03", breaks="chappe.core.keeper:Keeper.commit")
def test_nothing_accepted_is_lost_at_any_numbered_call(disk_tmp: Path, seed: int, tell: Callable[[str], None]) -> None:
    """Each kind of call is a point of death, in an outage and in a drain."""
    points = [Point(call, n, dark) for call, numbers in NUMBERED.items() for n in numbers for dark in (True, False)]
    points = [point for point in points if not (point.dark and point.call in ("sendto", "recvfrom"))]
    random.Random(seed).shuffle(points)
    # Each device begins with an outage, so that there is something to drain.
    walks = [sorted(half, key=lambda point: not point.dark)[:1] + list(half) for half in (points[::2], points[1::2])]
    reached, wrong = tour(disk_tmp, walks)
    missed = set(points) - set(reached)
    tell(f"killed at {len(reached)} points; not reached: {sorted(map(str, missed))}")
    assert {point.call for point in reached} == set(CALLS)
    assert wrong == []


@pytest.mark.skipif(not NIGHTLY, reason="200 random points: make nightly")
def test_nothing_accepted_is_lost_at_two_hundred_random_calls(
    disk_tmp: Path, seed: int, tell: Callable[[str], None]
) -> None:
    chance = random.Random(seed)

    def point() -> Point:
        call = chance.choice(CALLS)
        n = round(LATEST[call] ** chance.random())
        return Point(call, n, dark=call not in ("sendto", "recvfrom") and chance.random() < 0.5)

    reached, wrong = tour(disk_tmp, [[point() for _ in range(20)] for _ in range(10)])
    tell(f"killed at {len(reached)} of 200 points")
    assert len(reached) >= 100
    assert wrong == []
