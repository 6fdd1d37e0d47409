"""``chappe config show | validate | schema``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from chappe.cli.common import Commands, add_config_options, add_json_option, load_config, print_json
from chappe.errors import ConfigError, Exit


def register(commands: Commands) -> None:
    parser = commands.add_parser("config", help="show, validate or describe the configuration")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="print the effective configuration")
    show.add_argument("--origin", action="store_true", help="say which layer set each value")
    validate = actions.add_parser("validate", help="check the configuration and print every error")
    validate.add_argument("file", nargs="?", type=Path, help="check this file alone")
    schema = actions.add_parser("schema", help="print the JSON Schema of configuration files")
    for action, function in ((show, run_show), (validate, run_validate), (schema, run_schema)):
        action.set_defaults(run=function)
    for action in (show, validate):
        add_config_options(action)
        add_json_option(action)


def run_show(args: argparse.Namespace) -> int:
    """Print every value, and with ``--origin`` who set it."""
    from chappe.core.settings import to_data

    loaded = load_config(args)
    data = to_data(loaded.config)
    if args.json:
        values = dict(_leaves(data))
        print_json(
            {path: {"value": value, "origin": loaded.where(path)} for path, value in values.items()}
            if args.origin
            else data
        )
        return Exit.OK
    for path, value in _leaves(data):
        origin = f"  # {loaded.where(path)}" if args.origin else ""
        print(f"{path} = {json.dumps(value, ensure_ascii=False)}{origin}")
    return Exit.OK


def _leaves(data: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for key, value in data.items():
        here = f"{path}.{key}" if path else key
        if isinstance(value, dict) and value:
            leaves += _leaves(value, here)
        elif value is not None and value != {}:
            leaves.append((here, value))
    return leaves


def run_validate(args: argparse.Namespace) -> int:
    """Exit 0 if the configuration is good, 78 with every error if not."""
    if args.file is not None:
        args.config = args.file
    try:
        loaded = load_config(args)
    except ConfigError as error:
        if not args.json:
            raise
        print_json({"ok": False, "problems": [vars(problem) for problem in error.problems]})
        return error.exit_code
    read = [layer.name for layer in loaded.layers if layer.data]
    if args.json:
        print_json({"ok": True, "layers": read})
    else:
        print(f"ok: {', '.join(read) or 'built-in defaults only'}")
    return Exit.OK


def run_schema(args: argparse.Namespace) -> int:
    """Print the JSON Schema."""
    from chappe.config.schema import json_schema

    del args
    print(json.dumps(json_schema(), indent=2))
    return Exit.OK
