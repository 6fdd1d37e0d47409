"""``chappe queue``: what waits for the broker and why, giving it up, trying it again; beside a running daemon or without one."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from chappe.cli.answering import Answering
from chappe.cli.common import Commands, add_config_options, add_json_option, load_config, print_json, table
from chappe.cli.live import span
from chappe.errors import Exit, UsageError

LIMIT = 100
LONGEST = 1000


def register(commands: Commands) -> None:
    queue = commands.add_parser("queue", help="what waits for the broker: show it, drop it, try it again")
    actions = queue.add_subparsers(title="actions", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="what waits, since when, and why")
    show.add_argument("--limit", type=int, default=LIMIT, metavar="N", help=f"most rows to print (default {LIMIT})")
    drop = actions.add_parser("drop", help="give messages up; the next message of their stream says so")
    retry = actions.add_parser("retry", help="try dead letters again, and streams that the broker forbade")
    for parser, function, what in ((show, run_show, "show"), (drop, run_drop, "drop"), (retry, run_retry, "retry")):
        add_config_options(parser)
        add_json_option(parser)
        parser.add_argument("--stream", metavar="NAME", default="", help=f"{what} only this stream")
        parser.add_argument(
            "--dead", action="store_true", help=f"{what} dead letters: what the broker refused for good"
        )
        parser.set_defaults(run=function)
    for parser in (drop, retry):
        parser.add_argument(
            "--id", type=int, action="append", default=[], metavar="N", dest="ids", help="this row; may be repeated"
        )


def run_show(args: argparse.Namespace) -> int:
    """Print what waits."""
    if not 1 <= args.limit <= LONGEST:
        raise UsageError(f"--limit must lie in 1 to {LONGEST}")
    with Answering(load_config(args)) as who:
        found = who.ask("queue", {"n": args.limit, **_stream(args)})
    if args.dead:
        found = {**found, "rows": []}
    if args.json:
        print_json(found)
    else:
        _print(found, dead_only=args.dead)
    return Exit.OK


def run_drop(args: argparse.Namespace) -> int:
    """Give messages up."""
    if not (args.ids or args.stream or args.dead):
        raise UsageError("name what to drop: --id, --stream or --dead")
    with Answering(load_config(args)) as who:
        done = who.ask("queue-drop", _chosen(args))
    if args.json:
        print_json(done)
        return Exit.OK
    print(f"{_count(done['dropped'], 'message')} given up")
    if done["pending"]:
        print(f"{_count(done['pending'], 'more message')} will be, as they are read from the disk")
    if done["in_flight"]:
        print(f"{_count(done['in_flight'], 'message')} on the way to the broker stay")
    return Exit.OK


def run_retry(args: argparse.Namespace) -> int:
    """Try messages again."""
    with Answering(load_config(args)) as who:
        done = who.ask("queue-retry", _chosen(args))
        running = who.running
    if args.json:
        print_json(done)
        return Exit.OK
    when = "now" if running else "when the daemon starts"
    print(f"{_count(done['retried'], 'dead letter')} will be sent again {when}")
    return Exit.OK


def _stream(args: argparse.Namespace) -> dict[str, Any]:
    return {"stream": args.stream} if args.stream else {}


def _chosen(args: argparse.Namespace) -> dict[str, Any]:
    return {**_stream(args), **({"ids": args.ids} if args.ids else {}), **({"dead": True} if args.dead else {})}


# ── for people ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _print(found: Mapping[str, Any], *, dead_only: bool) -> None:
    rows, dead = found["rows"], found["dead"]
    if not dead_only:
        oldest = f", the oldest for {span(found['oldest_s'])}" if found["depth"] else ""
        print(f"{_count(found['depth'], 'message')} waiting{oldest}")
    if found["streams"] and not dead_only:
        print()
        table([_lane(name, lane) for name, lane in found["streams"].items()], ["stream", "waiting", "dead", "state"])
    if rows:
        print()
        table([_row(row) for row in rows], ["id", "stream", "seq", "state", "age", "attempts", "reason"])
        _cut(found["depth"], len(rows))
    if dead:
        print("\ndead letters")
        table([_letter(letter) for letter in dead], ["id", "stream", "seq", "since", "attempts", "bytes", "reason"])
    elif dead_only:
        print("no dead letters")


def _lane(name: str, lane: Mapping[str, Any]) -> dict[str, Any]:
    parts = [
        f"{lane['in_flight']} in flight" if lane["in_flight"] else "",
        f"{lane['unconfirmed']} not confirmed by a consumer" if lane["unconfirmed"] else "",
        "forbidden by the broker" if lane["held"] else "",
        f"tried again in {lane['retry_in_s']:.0f} s" if lane.get("retry_in_s") else "",
    ]
    return {"stream": name, "waiting": lane["depth"], "dead": lane["dead"], "state": ", ".join(filter(None, parts))}


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "age": span(row["age_s"])}


def _letter(letter: Mapping[str, Any]) -> dict[str, Any]:
    return {**letter, "bytes": letter["size"]}


def _cut(depth: int, shown: int) -> None:
    if depth > shown:
        print(f"… and {depth - shown} more; see them with --stream and --limit")


def _count(n: int, what: str) -> str:
    """A number of things.

    >>> _count(1, "message"), _count(2, "message")
    ('1 message', '2 messages')
    """
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
