"""``chappe version``."""

from __future__ import annotations

import argparse

from chappe import __version__
from chappe.cli.common import Commands, add_json_option, print_json


def register(commands: Commands) -> None:
    parser = commands.add_parser("version", help="print the version")
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the version."""
    if args.json:
        print_json({"version": __version__})
    else:
        print(f"chappe {__version__}")
    return 0
