"""The command line of ``chappe bench outage``."""

from __future__ import annotations

import argparse
import json
import platform
import random
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from chappe.bench.outage.plan import FULL, QUICK, Plan
from chappe.bench.peers import NAMES as PEERS

NAMES = ("refused", "black_hole", "kill_outage", "kill_drain", "power_cut", "broker_kill", "broker_queue")
EXPOSURE_LIMIT_MS = 350.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this bench."""
    parser.add_argument(
        "--scenario",
        action="append",
        choices=NAMES,
        metavar="NAME",
        help=f"only this one; again for more: {', '.join(NAMES)}",
    )
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="how often each; counts add up (default: 1)")
    parser.add_argument("--quick", action="store_true", help="an outage of 2 s in place of 20 s: to see that it works")
    parser.add_argument("--seed", type=int, help="repeats the random moments of a run")
    parser.add_argument("--no-kernel", action="store_true", help="black holes by a proxy, even as root")
    parser.add_argument("--peers", action="store_true", help="the same for the peers, installed when missing")
    parser.add_argument(
        "--peer", action="append", choices=PEERS, metavar="NAME", help=f"only this peer, not Chappe: {', '.join(PEERS)}"
    )
    parser.add_argument(
        "--peers-dir",
        type=Path,
        default=Path("build/peers"),
        metavar="DIR",
        help="where peers are installed (default: build/peers)",
    )


def run(args: argparse.Namespace) -> int:
    """Run every scenario, print the table; exit 1 if a limit is broken."""
    from chappe.bench.outage import table
    from chappe.bench.outage.link import kernel_can

    plan = QUICK if args.quick else FULL
    seed = random.SystemRandom().randrange(1 << 32) if args.seed is None else args.seed
    kernel = kernel_can() and not args.no_kernel
    # An end by SIGTERM undoes mounts and namespaces too.
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        lines = [line.to_data() for line in _lines(args, plan, seed, kernel=kernel)]
    finally:
        signal.signal(signal.SIGTERM, before)
    broken = [text for line in lines if (text := judge_limits(line))]
    about = _about(plan, seed, kernel=kernel)
    if args.json:
        print(json.dumps({"ok": not broken, **about, "lines": lines, "broken": broken}))
    else:
        print(table.text(lines, about))
        print("\n".join(f"limit broken: {text}" for text in broken), end="\n" if broken else "")
    return 1 if broken else 0


def _lines(args: argparse.Namespace, plan: Plan, seed: int, *, kernel: bool) -> Iterator[Any]:
    wanted = args.scenario or NAMES
    if not args.peer:
        yield from _chappe(wanted, args.rounds, plan, seed, kernel=kernel)
    if args.peers or args.peer:
        from chappe.bench.peers import run as peers

        # A bridge takes its time to come back, in a short run too.
        patient = replace(plan, silence_s=FULL.silence_s)
        scenarios = [name for name in peers.SCENARIOS if name in wanted]
        for name in args.peer or PEERS:
            _say(f"{name}: {', '.join(scenarios)}")
            yield from peers.measure(name, scenarios, patient, args.peers_dir, kernel=kernel)


def _chappe(wanted: Sequence[str], rounds: int, plan: Plan, seed: int, *, kernel: bool) -> Iterator[Any]:
    from chappe.bench.outage import brokers, scenarios
    from chappe.bench.outage.disk import can_cut
    from chappe.bench.outage.judge import Figures, total

    for name in (each for each in NAMES if each in wanted):
        if name == "power_cut" and not can_cut():
            yield Figures(name, "Chappe", "1", note="not run: needs root")
            continue
        _say(f"chappe: {name}")
        play = brokers.play if name in brokers.SCENARIOS else scenarios.play
        played = [play(name, plan, seed + turn, kernel=kernel) for turn in range(rounds)]
        for lines in zip(*played, strict=True):
            yield total(lines)


def judge_limits(line: dict[str, Any]) -> str:
    """What is wrong with a line of Chappe, or nothing; peers, brokers and the control have no limits."""
    if not line["subject"].startswith(("Chappe", "reference consumer")):
        return ""
    wrong = []
    if line["lost"]:
        wrong.append(f"{line['lost']} of the accepted lost")
    if line["repeats_after"]:
        wrong.append(f"{line['repeats_after']} repeats after de-duplication")
    if line["disorder"]:
        wrong.append(f"{line['disorder']} out of order")
    if (line["exposure_ms"] or 0) > EXPOSURE_LIMIT_MS:
        wrong.append(f"{line['exposure_ms']} ms exposed, limit {EXPOSURE_LIMIT_MS:.0f}")
    return f"{line['scenario']}, {line['subject']}: {'; '.join(wrong)}" if wrong else ""


def _about(plan: Plan, seed: int, *, kernel: bool) -> dict[str, Any]:
    import chappe
    from chappe.bench.peers.install import mosquitto_version
    from chappe.edge.broker import find_mosquitto

    return {
        "chappe": chappe.__version__,
        "mosquitto": mosquitto_version() if find_mosquitto() else "missing",
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "rate_hz": plan.rate_hz,
        "outage_s": plan.outage_s,
        "black_hole": "kernel" if kernel else "proxy",
        "seed": seed,
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(143)
