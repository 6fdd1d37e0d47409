"""``chappe bench outbox``: throughput, wear and start of the outbox, against raw paho in the same run.

========================  ===========================================================================================
module                    what it measures
========================  ===========================================================================================
`.rates`                  messages per second and CPU per message: each durability, the drain of a backlog; `.raw` is the other side
`.wear`                   bytes to the block device per message, online and in an outage
`.begin`                  start to the first message, memory and what is read, with a million rows and with none
`.device`, `.children`    the product in a process of its own, and how it is spoken to
`.backlog`, `.setting`    what an earlier boot left; what all runs have in common
`.listener`               a subscriber that is quick enough not to be what is measured
========================  ===========================================================================================
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from chappe.bench.outbox.figures import Figure
from chappe.errors import Exit

NAMES = ("rates", "wear", "begin")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this bench."""
    parser.add_argument("--rounds", type=int, metavar="N", help="alternations; medians count (default: 5)")
    parser.add_argument(
        "--only", action="append", choices=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)} (repeatable)"
    )
    parser.add_argument(
        "--subscriber", choices=("yes", "no", "both"), help="whether one with QoS 1 is attached (default: both)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small run that shows that everything works, and no more"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print and judge; exit 1 if a promise is not kept."""
    figures = []
    for figure in measure(args):
        figures.append(figure)
        if not args.json:
            print(figure.line(), flush=True)
    ok = all(figure.ok for figure in figures)
    if args.json:
        print(json.dumps({"ok": ok, "figures": [figure.data() for figure in figures]}))
    else:
        print("all promises kept" if ok else "a promise is not kept")
    return Exit.OK if ok else Exit.REFUSED


def measure(args: argparse.Namespace) -> Iterator[Figure]:
    """The figures asked for, one after the other."""
    from chappe.bench.outbox import begin, rates, wear

    quick = args.quick
    rounds = args.rounds or (1 if quick else 5)
    names = args.only or NAMES
    if "rates" in names:
        subscriber = args.subscriber or ("yes" if quick else "both")
        for attached in (answer for answer, word in ((True, "yes"), (False, "no")) if subscriber in (word, "both")):
            yield from rates.measure(
                n=300 if quick else 20_000, backlog=500 if quick else 50_000, rounds=rounds, subscriber=attached
            )
    if "wear" in names:
        yield from wear.measure(seconds=1 if quick else 20, rounds=min(rounds, 3))
    if "begin" in names:
        yield from begin.measure(
            many=5_000 if quick else 1_000_000,
            some=1_000 if quick else 100_000,
            rounds=rounds,
            look_s=0.5 if quick else 5.0,
        )
