"""The owner's hand on the outbox: what waits and why, what is to be dropped, what is to be tried again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chappe.core.context import Context
from chappe.core.questions import HIGHEST, name
from chappe.core.requests import Handler, field, number
from chappe.core.units import Ns
from chappe.errors import WireError

SHOWN = 100
MOST_SHOWN = 1000
MOST_NAMED = 1000


def queue_verbs(context: Context) -> Mapping[str, Handler]:
    """The verbs ``queue``, ``queue-drop`` and ``queue-retry``."""

    def show(body: Mapping[str, Any], now: Ns) -> Any:
        return context.outbox.counter.listing(
            now, number(body, "n", 1, MOST_SHOWN, SHOWN), _known(context, name(body, "stream"))
        )

    def drop(body: Mapping[str, Any], now: Ns) -> Any:
        ids, stream, dead = _chosen(context, body)
        if not (ids or stream or dead):
            raise WireError("bad_request", "name what to drop: ids, stream or dead")
        dropped = context.outbox.counter.drop_rows(ids, stream, dead, now)
        if dropped.in_flight and not dropped.count:
            raise WireError("already_sent", "the message is on its way to the broker, or the broker has it")
        if ids and not dropped.count and not dropped.pending:
            raise WireError("not_found", "no such message waits")
        return {"dropped": dropped.count, "in_flight": dropped.in_flight, "pending": dropped.pending}

    def retry(body: Mapping[str, Any], now: Ns) -> Any:
        ids, stream, dead = _chosen(context, body)
        retried = context.outbox.counter.retry(ids, stream, dead, now)
        if ids and not retried:
            raise WireError("not_found", "no such dead letter")
        return {"retried": retried}

    return {"queue": show, "queue-drop": drop, "queue-retry": retry}


def _chosen(context: Context, body: Mapping[str, Any]) -> tuple[tuple[int, ...], str, bool]:
    """What a request names: rows by id, a stream, or the dead letters."""
    dead = field(body, "dead", bool, default=False)
    return _ids(body), _known(context, name(body, "stream")), bool(dead)


def _ids(body: Mapping[str, Any]) -> tuple[int, ...]:
    """One id or several; not ``id``, which is the request's own and comes back with the answer."""
    given = body.get("ids", ())
    if isinstance(given, int) and not isinstance(given, bool):
        given = (given,)
    wrong = not isinstance(given, list | tuple) or len(given) > MOST_NAMED
    if wrong or any(not isinstance(each, int) or isinstance(each, bool) or not 0 < each < HIGHEST for each in given):
        raise WireError("bad_request", f"ids must be a whole number, or a list of at most {MOST_NAMED}")
    return tuple(given)


def _known(context: Context, stream: str) -> str:
    if stream and stream not in context.outbox.lanes:
        raise WireError("not_found", f"there is no stream {stream!r}")
    return stream
