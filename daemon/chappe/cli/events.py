"""``chappe events``: the messages that this device keeps, and those that come; beside a running daemon or without one."""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from chappe.cli.answering import Answering, now
from chappe.cli.common import Commands, add_config_options, add_json_option, load_config
from chappe.errors import Exit, LinkError, UsageError

POLL_S = 0.5
"""How often the daemon is asked for what is new: it is printed within a second."""

PAGE = 200
SHOWN_FIRST = 10

Event = dict[str, Any]


def register(commands: Commands) -> None:
    events = commands.add_parser("events", help="messages that this device keeps, and those that come")
    add_config_options(events)
    add_json_option(events)
    events.add_argument("--stream", metavar="NAME", default="", help="only this stream")
    events.add_argument("--since", metavar="WHEN", help='a span like "10m", or a time like "2026-11-21T21:32:22Z"')
    events.add_argument("--from-end", type=int, metavar="N", help="only the last N")
    events.add_argument(
        "--follow", action="store_true", help=f"go on with what comes (begins with the last {SHOWN_FIRST} unless told)"
    )
    events.add_argument(
        "--reader", metavar="NAME", help="go on where this reader has come to, and remember where it is"
    )
    events.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print messages until there are no more, or for ever."""
    _check(args)
    with Answering(load_config(args)) as who:
        try:
            if args.reader:
                _read(who, args)
            else:
                _show(who, args)
        except KeyboardInterrupt:
            # The way to end it, and none in which anything failed.
            return Exit.OK
    return Exit.OK


def _check(args: argparse.Namespace) -> None:
    from chappe.core.questions import moment

    if args.reader and not args.stream:
        raise UsageError("a reader reads one stream: name it with --stream")
    if args.reader and (args.since or args.from_end is not None):
        raise UsageError("a reader goes on where it was; --since and --from-end cannot be combined with it")
    if args.from_end is not None and args.from_end < 0:
        raise UsageError("--from-end must not be negative")
    if args.since:
        try:
            moment(args.since, now())
        except ValueError as error:
            raise UsageError(f"--since: {error}") from None


# ── what was, and what comes ─────────────────────────────────────────────────────────────────────────────────────────


def _show(who: Answering, args: argparse.Namespace) -> None:
    known = _newest(who, args.stream)
    _may_follow(who, args)
    from_end = args.from_end
    if args.follow and from_end is None and not args.since:
        from_end = SHOWN_FIRST
    since = {"since": args.since} if args.since else {}
    if from_end is None:
        streams = [_forward(who, stream, since) for stream in known]
    else:
        streams = [reversed(list(itertools.islice(_backward(who, stream, since), from_end))) for stream in known]
    found: Iterable[Event] = heapq.merge(*streams, key=_at)
    if from_end is not None:
        found = list(found)[-from_end:] if from_end else []
    known.update(_printed(found, args))
    if args.follow:
        _follow(who, args, known)


def _follow(who: Answering, args: argparse.Namespace, known: dict[str, int]) -> None:
    """Print what comes behind the offsets that are known."""
    pause = threading.Event()
    while not pause.wait(POLL_S):
        fresh = [stream for stream, newest in _newest(who, args.stream).items() if newest > known.get(stream, -1)]
        come = [_forward(who, stream, {"after": known[stream]} if stream in known else {}) for stream in fresh]
        known.update(_printed(heapq.merge(*come, key=_at), args))


def _may_follow(who: Answering, args: argparse.Namespace) -> None:
    if args.follow and not who.running:
        raise LinkError(
            "no chappe daemon is running, so nothing will come",
            remedy="start it with `chappe run` or `systemctl start chappe`, or leave --follow out",
        )


def _newest(who: Answering, stream: str) -> dict[str, int]:
    """The streams that have messages, and the offset of each one's newest."""
    page = who.ask("history", {"summary": True, "n": 500, **({"stream": stream} if stream else {})})
    streams = page.get("streams", [stream] * len(page["messages"]))
    return dict(zip(streams, page["offsets"], strict=True))


def _forward(who: Answering, stream: str, more: Mapping[str, Any]) -> Iterator[Event]:
    """Messages of a stream, oldest first, page by page."""
    body = {"stream": stream, "order": "oldest", "n": PAGE, **more}
    while True:
        page = who.ask("history", body)
        yield from _events(page, stream)
        if not page["more"]:
            return
        body["cursor"] = page["cursor"]


def _backward(who: Answering, stream: str, more: Mapping[str, Any]) -> Iterator[Event]:
    """Messages of a stream, newest first, page by page."""
    body = {"stream": stream, "n": PAGE, **more}
    while True:
        page = who.ask("history", body)
        yield from _events(page, stream)
        if not page["more"]:
            return
        body["cursor"] = page["cursor"]


def _events(page: Mapping[str, Any], stream: str) -> Iterator[Event]:
    for offset, message in zip(page["offsets"], page["messages"], strict=True):
        yield {"stream": stream, "offset": offset, **message}


def _at(event: Event) -> str:
    """Times are written so that their order is that of their text."""
    return str(event["at"])


# ── a reader ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read(who: Answering, args: argparse.Namespace) -> None:
    """Print what the reader has not had, and remember that it has: after it was printed, so that a kill repeats and never skips."""
    pause = threading.Event()
    body = {"stream": args.stream, "reader": args.reader, "n": PAGE}
    while True:
        page = who.ask("history", body)
        _may_follow(who, args)
        for stream, offset in _printed(_events(page, args.stream), args).items():
            who.ask("cursor", {"reader": args.reader, "stream": stream, "offset": offset})
        if not page["more"]:
            if not args.follow:
                return
            pause.wait(POLL_S)


# ── printing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _printed(events: Iterable[Event], args: argparse.Namespace) -> dict[str, int]:
    """Print messages; returns the last offset of each stream."""
    last: dict[str, int] = {}
    for event in events:
        print(json.dumps(event, ensure_ascii=False) if args.json else _line(event))
        last[event["stream"]] = event["offset"]
    sys.stdout.flush()
    return last


def _line(event: Event) -> str:
    """A message for people.

    >>> _line({"stream": "door", "at": "2026-11-21T21:32:22.123Z", "seq": 7, "data": {"open": True}, "late": True})
    '2026-11-21T21:32:22.123Z  door  7  {"open": true}  late'
    """
    data = json.dumps(event["data"], ensure_ascii=False)
    lost = event.get("lost")
    notes = ["late" if event.get("late") else "", f"lost before it: {_lost(lost)}" if lost else ""]
    return "  ".join([event["at"], event["stream"], str(event["seq"]), data, *filter(None, notes)])


def _lost(lost: Mapping[str, Any]) -> str:
    n = lost.get("n")
    return f"{'an unknown number' if n is None else n} ({lost.get('reason')})"
