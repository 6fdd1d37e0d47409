"""``chappe bench vision``: what hand tracking costs, as ratios taken in one run.

Three figures are judged. A tracked frame (RGB array in, gesture out) against the bare run of its landmark model; a scene without a hand
against tracking; and the memory of a fresh daemon that has seen 1,000 frames. Milliseconds are printed but never judged: they say more
about the machine than about the code.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chappe.bench import memory
from chappe.edge import models
from chappe.errors import EdgeError, Exit
from chappe.vision.geometry import Frame, letterbox
from chappe.vision.hands import HandPipeline, HandSettings
from chappe.vision.manifest import Manifest
from chappe.vision.picture import decode
from chappe.vision.preprocess import available, open_warper
from chappe.vision.runtime import find_runtime

TRACKED_LIMITS = {
    ("hands-lite", "opencv"): 1.4,
    ("hands-lite", "pillow"): 1.7,
    ("hands-full", "opencv"): 1.3,
    ("hands-full", "pillow"): 1.5,
}
STILL_LIMIT, CHANGING_LIMIT = 0.08, 0.45
MEMORY_LIMITS_MB = {"pillow": 120.0, "opencv": 140.0}
MEMORY_LIMIT_BARE_MB = 50.0
RATE_HZ = 10
PERIOD_NS = 1_000_000_000 // RATE_HZ
SLIDE_PX, SLIDE_REACH = 4, 120
IDLE_FRAMES = 300
MOST_IDLE_ROUNDS = 3


@dataclass(frozen=True)
class Figure:
    """One measured value, judged if it has a limit.

    Attributes:
        name: what was measured.
        value: the value.
        unit: ``ratio``, ``ms`` or ``MB``.
        limit: the most it may be; None for a value that is only shown.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the value is within its limit."""
        return self.limit is None or self.value <= self.limit

    def line(self) -> str:
        """The figure for people."""
        limit = "" if self.limit is None else f"  (limit {self.limit:g}: {'ok' if self.ok else 'FAILED'})"
        return f"{self.name:58} {self.value:9.3f} {self.unit}{limit}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this bench.

    Args:
        parser: the parser of ``chappe bench vision``; ``--json`` is added by whoever owns the group.
    """
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="alternations; the median counts (default: 5)"
    )
    parser.add_argument("--model", action="append", metavar="NAME", help="bench this model alone (repeatable)")
    parser.add_argument("--backend", action="append", metavar="NAME", help="bench this back-end alone (repeatable)")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="the model folder (default: the search list)")


def run(args: argparse.Namespace) -> int:
    """Measure, print and judge; exit 1 if a limit is exceeded."""
    say = _quiet if args.json else print
    figures: list[Figure] = []
    for figure in measure(args.model, args.backend, folder=args.dir, rounds=args.rounds):
        figures.append(figure)
        say(figure.line())
    ok = all(figure.ok for figure in figures)
    if args.json:
        rows = [{**asdict(figure), "value": round(figure.value, 4), "ok": figure.ok} for figure in figures]
        print(json.dumps({"ok": ok, "figures": rows}))
    else:
        print("all limits met" if ok else "a limit was exceeded")
    return Exit.OK if ok else Exit.REFUSED


def _quiet(line: str) -> None:
    del line


def measure(
    names: Sequence[str] | None, backends: Sequence[str] | None, *, folder: Path | None, rounds: int
) -> Iterator[Figure]:
    """All figures, one after the other.

    Args:
        names: models; None for hands-lite and hands-full.
        backends: pre-processing; None for all that are installed.
        folder: model folder; None for the search list.
        rounds: alternations.
    """
    used = list(backends or available())
    for name in names or ("hands-lite", "hands-full"):
        for backend in used:
            for threads in (1, 2) if backend in MEMORY_LIMITS_MB else (1,):
                yield from tracked(name, backend, threads, folder, rounds)
            yield from idle(name, backend, folder, min(rounds, MOST_IDLE_ROUNDS))
    for backend in used:
        yield Figure(
            f"memory: daemon with hands-lite, {backend}, Pss after {memory.FRAMES} frames",
            memory.with_vision(backend, _frames_dir(), folder),
            "MB",
            MEMORY_LIMITS_MB.get(backend),
        )
    name = f"memory: daemon without vision, Pss after {memory.READINGS} readings"
    yield Figure(name, memory.without_vision(), "MB", MEMORY_LIMIT_BARE_MB)


# --- a tracked frame --------------------------------------------------------------------------------------------------------------


def tracked(name: str, backend: str, threads: int, folder: Path | None, rounds: int) -> Iterator[Figure]:
    """A tracked frame against the landmark model alone, in alternation.

    Args:
        name: the model.
        backend: pre-processing.
        threads: threads of one inference; the ratio is judged at one.
        folder: model folder; None for the search list.
        rounds: alternations; the median counts.
    """
    frames = moving()
    bare = _bare_landmarks(name, threads, folder, frames[0])
    with _pipeline(name, backend, folder, threads=threads) as pipeline:
        clock = _clock()
        pipeline.process(frames[0], next(clock))
        laps = [
            (_cost(lambda: _follow(pipeline, frames, clock)), _cost(lambda: [bare() for _ in frames]))
            for _ in range(rounds)
        ]
    title = f"{name}, {backend}, {threads} thread{'s' * (threads > 1)}"
    limit = TRACKED_LIMITS.get((name, backend)) if threads == 1 else None
    for index, kind in enumerate(("CPU", "wall")):
        ratio = statistics.median(whole[index] / alone[index] for whole, alone in laps)
        yield Figure(f"tracked frame / landmark run, {kind}: {title}", ratio, "ratio", None if index else limit)
    for index, kind in enumerate(("CPU", "wall")):
        spent = statistics.median(whole[index] for whole, _ in laps) / len(frames)
        yield Figure(f"tracked frame, {kind}: {title}", spent * 1e3, "ms")


def moving() -> list[Frame]:
    """The Open_Palm picture slid there and back, 4 px per frame: 122 frames."""
    palm = _picture("Open_Palm")
    there = range(-SLIDE_REACH, SLIDE_REACH + 1, SLIDE_PX)
    # The background is one colour, so what leaves on one side may come in on the other.
    return [np.roll(palm, offset, axis=1) for offset in (*there, *reversed(there))]


def _follow(pipeline: HandPipeline, frames: Sequence[Frame], clock: Iterator[int]) -> None:
    for frame in frames:
        if not pipeline.process(frame, next(clock)):
            raise EdgeError("the hand was lost while tracking was measured", remedy="run `chappe models verify`")


def _bare_landmarks(name: str, threads: int, folder: Path | None, frame: Frame) -> Callable[[], Any]:
    _, contents = _model(name, folder)
    model = find_runtime().load(contents["landmark"], threads)
    whole = letterbox(frame.shape[1], frame.shape[0])
    model.fill("input_1", lambda view: open_warper("numpy").warp(frame, whole, view[0]))
    return lambda: model.invoke({})


# --- a scene without a hand -------------------------------------------------------------------------------------------------------


def idle(name: str, backend: str, folder: Path | None, rounds: int) -> Iterator[Figure]:
    """Scenes without a hand against tracking, both at 10 frames per second, frames made beforehand.

    Args:
        name: the model.
        backend: pre-processing.
        folder: model folder; None for the search list.
        rounds: alternations; the median counts.
    """
    frames = moving()
    for title, limit, scene in (("still", STILL_LIMIT, still()), ("changing", CHANGING_LIMIT, changing())):
        ratios = []
        for _ in range(rounds):
            tracking, _ = _lap(name, backend, folder, frames)
            watching, searches = _lap(
                name, backend, folder, [scene[index % len(scene)] for index in range(IDLE_FRAMES)]
            )
            ratios.append(watching / tracking)
        yield Figure(f"{title} scene / tracking, CPU: {name}, {backend}", statistics.median(ratios), "ratio", limit)
        yield Figure(f"{title} scene, palm searches per second: {name}, {backend}", searches, "Hz")


def _lap(name: str, backend: str, folder: Path | None, frames: Sequence[Frame]) -> tuple[float, float]:
    """CPU seconds per frame and palm searches per second of a fresh pipeline that sees `frames` at 10 per second."""
    with _pipeline(name, backend, folder) as pipeline:
        clock = _clock()
        cpu, _ = _cost(lambda: [pipeline.process(frame, next(clock)) for frame in frames])
        return cpu / len(frames), pipeline.palm_runs * RATE_HZ / len(frames)


def still() -> list[Frame]:
    """One grey scene under camera noise of 3 grey levels, 20 frames."""
    rng = np.random.default_rng(0)
    scene = _scene(0).astype(np.float64)
    return [np.clip(scene + rng.normal(0, 3, scene.shape), 0, 255).astype(np.uint8) for _ in range(20)]


def changing() -> list[Frame]:
    """A scene in which everything drifts to the right, 160 frames, without a hand."""
    return [_scene(step * SLIDE_PX) for step in range(160)]


def _scene(shift: int) -> Frame:
    x = (np.arange(640) - shift) % 640
    row = np.stack([110 + 40 * np.sin(2 * np.pi * x / period) for period in (640, 320, 160)], axis=1)
    return np.broadcast_to(row.astype(np.uint8), (480, 640, 3)).copy()


# --- shared -----------------------------------------------------------------------------------------------------------------------


def _model(name: str, folder: Path | None) -> tuple[Manifest, dict[str, bytes]]:
    manifest = models.manifest_of(name, models.load_manifests())
    return manifest, models.read(manifest, [folder] if folder else models.search_dirs())


def _pipeline(name: str, backend: str, folder: Path | None, *, threads: int = 1) -> HandPipeline:
    manifest, contents = _model(name, folder)
    return HandPipeline(manifest, contents, HandSettings(backend=backend, threads=threads))


def _frames_dir() -> Path:
    packaged = Path(str(importlib.resources.files("chappe"))) / "_config" / "frames"
    return packaged if packaged.is_dir() else models.CHECKOUT / "config" / "frames"


def _picture(name: str) -> Frame:
    path = _frames_dir() / f"{name}.png"
    return decode(path.read_bytes(), name=path.name)


def _clock() -> Iterator[int]:
    now = 0
    while True:
        yield now
        now += PERIOD_NS


def _cost(work: Callable[[], Any]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall
