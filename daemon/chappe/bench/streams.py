"""``chappe bench streams``: one simulated hour of a device through the engine, against a plain loop that does the bare minimum.

The hour: detections at 30 frames per second (a hand in one minute of ten, its gesture changing every ten seconds), ten sensors at
1 Hz on `latest` streams elided to one message per ten seconds, a link that acknowledges everything. The plain loop counts votes and keeps
the newest value per sensor and interval, with nothing around it: no books, no numbers, no envelopes, no lamps, no camera watch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

HOUR_S = 3600
FPS = 30
SENSORS = 10
LABELS = ("Pointing_Up", "Open_Palm", "Closed_Fist", "Thumb_Up", "Victory", "None")
EVERY_S = 10
VOTES = 3

CONFIG = (
    '[camera]\nsource = "files"\npath = "frames"\nrate_hz = 30\n'
    '[signals]\nPointing_Up = "BUY"\nOpen_Palm = "SELL"\nClosed_Fist = "HOLD"\n'
    "[indicators]\nstatus = 17\n"
) + "".join(
    f'[sensors.s{n}]\ndriver = "simulated"\nevery = "1s"\n'
    f'[streams.s{n}]\nclass = "latest"\nelide = {{ policy = "latest", every = "{EVERY_S}s" }}\n'
    for n in range(SENSORS)
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the benchmark."""
    parser.add_argument("--json", action="store_true", help="machine-readable output, on stdout")
    parser.add_argument("--rounds", type=int, default=5, help="alternations; medians are quoted (default 5)")


def run(args: argparse.Namespace) -> int:
    """Measure, and print events per second and the ratio to the plain loop (process CPU, one thread)."""
    script = hour()
    engine_s, plain_s = [], []
    for _ in range(args.rounds):
        engine_s.append(_cpu(lambda: through_engine(script)))
        plain_s.append(_cpu(lambda: through_plain_loop(script)))
    seconds, bare = statistics.median(engine_s), statistics.median(plain_s)
    figures = {
        "events": len(script),
        "simulated_s": HOUR_S,
        "engine_cpu_s": round(seconds, 3),
        "events_per_s": round(len(script) / seconds),
        "plain_loop_cpu_s": round(bare, 3),
        "engine_over_plain_loop": round(seconds / bare, 2),
        "faster_than_life": round(HOUR_S / seconds),
    }
    if args.json:
        print(json.dumps(figures))
    else:
        print("\n".join(f"{name:24}{value}" for name, value in figures.items()))
    return 0


def _cpu(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def hour() -> list[Any]:
    """The events of the hour, in order of time."""
    from chappe.core.events import Seen, SensorRead
    from chappe.core.gestures import Sighting
    from chappe.core.units import SECOND, Ns

    events: list[Any] = []
    frame = 0
    for second in range(HOUR_S):
        events += [
            SensorRead(at=Ns(second * SECOND + 1 + n), name=f"s{n}", value=(second * 7 + n) % 100)
            for n in range(SENSORS)
        ]
        hands: tuple[Sighting, ...] = ()
        if second % 600 < 60:
            label = LABELS[second // 10 % len(LABELS)]
            hands = (Sighting(label, 0.8, "right", (200, 120, 150, 160), 1),)
        for n in range(FPS):
            frame += 1
            at = Ns(second * SECOND + (n + 1) * SECOND // (FPS + 1))
            events.append(Seen(at=at, frame=frame, frame_at=at, took=Ns(10_000_000), hands=hands))
    return events


def through_engine(script: list[Any]) -> int:
    """Step the engine through the hour; returns how many messages it published."""
    from chappe.config import loads
    from chappe.core.effects import Commit, Publish
    from chappe.core.engine import boot
    from chappe.core.events import Ack, Acked, CameraOpened, Committed, LinkUp, Ready, Started
    from chappe.core.settings import to_data
    from chappe.core.units import Ns, WallNs

    data = to_data(loads(CONFIG).config)
    engine, first = boot(
        Started(at=Ns(0), boot="0" * 16, wall=WallNs(0), synced=True, config=data, config_hash="", version="bench")
    )
    for effect in first:
        if isinstance(effect, Commit):
            engine.step(Committed(at=Ns(0), number=effect.number))
    engine.step(Ready(at=Ns(0)))
    engine.step(CameraOpened(at=Ns(0), source="files", width=640, height=480))
    published = 0
    for event in [LinkUp(at=Ns(0), protocol="5", window=100), *script]:
        waiting = engine.step(event)
        while waiting:
            # A broker and a disk that answer at once.
            acks = tuple(Ack(effect.token) for effect in waiting if isinstance(effect, Publish))
            published += len(acks)
            answers: list[Any] = [Acked(at=event.at, items=acks)] if acks else []
            answers += [
                Committed(at=event.at, number=effect.number) for effect in waiting if isinstance(effect, Commit)
            ]
            waiting = [effect for answer in answers for effect in engine.step(answer)]
    return published


def through_plain_loop(script: list[Any]) -> int:
    """The least that could be called the same work."""
    from chappe.core.events import Seen

    newest: dict[str, Any] = {}
    sent_at: dict[str, int] = {}
    label, count, sent = "", 0, 0
    for event in script:
        if isinstance(event, Seen):
            if event.hands:
                found = event.hands[0].gesture
                count = count + 1 if found == label else 1
                label = found
                sent += count == VOTES
        else:
            newest[event.name] = event.value
            if event.at - sent_at.get(event.name, -EVERY_S * 1_000_000_000) >= EVERY_S * 1_000_000_000:
                sent_at[event.name] = event.at
                sent += 1
    return sent
