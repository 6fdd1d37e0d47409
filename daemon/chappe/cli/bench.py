"""``chappe bench NAME``: figures taken on this machine, as ratios within one run.

Each benchmark is a module ``chappe.bench.NAME`` with ``add_arguments(parser)`` and ``run(args) -> int``, imported when it is asked for.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from chappe.cli.common import Commands, add_json_option

BENCHES: Mapping[str, str] = {
    "vision": "a tracked frame against the bare model, idle cost, memory",
    "start": "how soon the command line answers, the daemon is ready, a stop is over",
    "streams": "events per second of the engine against a plain loop",
    "outage": "what is lost when the link, the process, the power or the broker fails; --peers beside it",
    "outbox": "throughput, wear and start of the outbox against raw paho",
}


class _LazyParser(argparse.ArgumentParser):
    """A parser that gets its arguments from the benchmark's module once its command line is there."""

    bench = ""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]
        if self.bench:
            name, self.bench = self.bench, ""
            module = importlib.import_module(f"chappe.bench.{name}")
            module.add_arguments(self)
            self.set_defaults(run=module.run)
        return super().parse_known_args(args, namespace)


def register(commands: Commands) -> None:
    parser = commands.add_parser("bench", help="measure this machine")
    names = parser.add_subparsers(title="benchmarks", metavar="NAME", required=True, parser_class=_LazyParser)
    for name, about in BENCHES.items():
        # A benchmark may have a word of its own about an option that all have.
        one = names.add_parser(name, help=about, description=about.capitalize() + ".", conflict_handler="resolve")
        add_json_option(one)
        one.bench = name
