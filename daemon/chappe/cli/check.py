"""``chappe check``: what works on this machine with this configuration, what does not, and what to do about it."""

from __future__ import annotations

import argparse
import textwrap
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from chappe.cli.common import Commands, add_config_options, add_json_option, load_config, print_json, table
from chappe.errors import Exit, UsageError

if TYPE_CHECKING:
    from chappe.checks import Finding

LABELS = {"pass": "pass", "warn": "warn", "fail": "FAIL", "skip": "skip"}
WIDTH = 100


def register(commands: Commands) -> None:
    parser = commands.add_parser(
        "check",
        help="what works here, what does not, and what to do about it",
        description="Looks at the machine, the configuration and everything it names. Exit 0: nothing fails; 1: something does.",
    )
    add_config_options(parser)
    add_json_option(parser)
    parser.add_argument("--list", action="store_true", help="say what would be looked at, and look at nothing")
    parser.add_argument(
        "--skip", action="append", default=[], metavar="ID", help="leave an item out; may be given several times"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look at every item.

    Raises:
        UsageError: if ``--skip`` names an item that does not exist.
    """
    from chappe.checks import ITEMS, run_checks

    known = {item.id: item.about for item in ITEMS}
    for name in args.skip:
        if name not in known:
            raise UsageError(f"there is no check item {name!r}", remedy=f"there are {', '.join(known)}")
    if args.list:
        _list({name: about for name, about in known.items() if name not in args.skip}, args)
        return Exit.OK
    findings = run_checks(lambda: load_config(args), skip=args.skip, seen=None if args.json else _tell)
    counts = Counter(finding.status for finding in findings)
    if args.json:
        print_json({"ok": not counts["fail"], "items": [vars(finding) for finding in findings]})
    else:
        passed, skipped = counts["pass"], counts["skip"]
        print(f"{passed} passed, {counts['warn']} to look at, {counts['fail']} failed, {skipped} skipped")
    return Exit.REFUSED if counts["fail"] else Exit.OK


def _list(items: Mapping[str, str], args: argparse.Namespace) -> None:
    rows: list[Mapping[str, str]] = [{"id": name, "about": about} for name, about in items.items()]
    if args.json:
        print_json({"items": rows})
    else:
        table(rows, ["id", "about"])


def _tell(finding: Finding) -> None:
    """One item, as soon as it is known: some take seconds."""
    first = f"{LABELS[finding.status]}  {finding.id:<10}"
    indent = " " * len(first)
    text = [line for part in finding.text.splitlines() for line in textwrap.wrap(part, WIDTH, break_on_hyphens=False)]
    remedy = textwrap.wrap(f"-> {finding.remedy}", WIDTH, subsequent_indent="   ") if finding.remedy else []
    lines = [*text, *remedy] or [""]
    print("\n".join((indent if place else first) + line for place, line in enumerate(lines)), flush=True)
