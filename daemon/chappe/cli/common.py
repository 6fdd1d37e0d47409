"""What several commands share: where the configuration comes from, and how results are printed."""

from __future__ import annotations

import argparse
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module typing alone would cost a fifth of `chappe version`
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from chappe.config import Loaded

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it
else:
    Commands = object


def file_path(text: str) -> Path:
    """An argument that is a path."""
    from pathlib import Path

    return Path(text)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """``--config FILE`` and ``--set KEY=VALUE``."""
    parser.add_argument(
        "--config",
        type=file_path,
        metavar="FILE",
        default=os.environ.get("CHAPPE_CONFIG") or None,
        help="read FILE in place of /etc/chappe/chappe.toml and /etc/chappe/conf.d/*.toml",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="set one key, for example mqtt.port=1884",
    )


def load_config(args: argparse.Namespace) -> Loaded:
    """The configuration that a command line names.

    Raises:
        ConfigError: if anything in it is wrong.
    """
    from pathlib import Path

    from chappe.config import load
    from chappe.errors import ConfigError

    loaded = load(Path(args.config) if args.config else None, overrides=args.overrides)
    jobs = {name: job for name, job in loaded.config.jobs.items() if not job.every}
    if jobs:
        # Only the scheduler knows whether a cron expression or a place on earth makes sense.
        from chappe.edge.scheduler import validate_job

        problems = [
            each for name, job in jobs.items() for each in validate_job(job, loaded.config.site, f"jobs.{name}")
        ]
        if problems:
            raise ConfigError([loaded.placed(problem) for problem in problems])
    return loaded


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="machine-readable output, on stdout")


def print_json(value: Any) -> None:
    """One line of JSON on stdout, at once."""
    import json

    print(json.dumps(value, ensure_ascii=False), flush=True)


def table(rows: list[Mapping[str, Any]], columns: list[str]) -> None:
    """Rows as aligned columns on stdout."""
    cells = [[str(row.get(column, "")) for column in columns] for row in rows]
    widths = [max(len(column), *(len(row[i]) for row in cells), 0) for i, column in enumerate(columns)] if cells else []
    for line in [columns, *cells] if cells else []:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(), file=sys.stdout)
