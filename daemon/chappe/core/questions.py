"""Questions to the history: what a request asks is checked and put into a `Query`, and the store's `Page` becomes the answer.

The same for a running daemon (``req/history``) and for the command line beside a stopped one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from chappe.core.requests import field, number
from chappe.core.settings import IDENTIFIER
from chappe.core.stored import Found, Page, Query
from chappe.core.units import MICROSECOND, Span, WallNs
from chappe.errors import WireError

DEFAULT: Final = 50
MOST: Final = 500
MOST_OF_A_RANGE: Final = 50
"""Messages on one page that closes a gap (HIS-03)."""

LARGEST: Final = 240 * 1024
"""Bytes of messages in one answer, which as a whole stays below 256 KiB."""

BESIDE: Final = 96
"""Bytes that a message may take up in an answer beside itself: its stream and its offset."""

HIGHEST: Final = 1 << 53
LONGEST_TEXT: Final = 256
LONGEST_NAME: Final = 64

Range = tuple[int, int]

_BOOT = re.compile(r"[0-9a-f]{16}")
_NAME = re.compile(IDENTIFIER)
_CURSOR = re.compile(r"([nor])(0|[1-9][0-9]{0,15})")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = (1 << 63) - 1


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of the history.

    Attributes:
        query: for the store.
        range: the numbers asked for, None where none were named.
        mark: whether what is given out counts as read.
        by: who reads.
    """

    query: Query
    range: Range | None = None
    mark: bool = False
    by: str = ""


def understood(body: Mapping[str, Any], boot: str, wall: WallNs) -> Question:
    """A request's body as a question.

    Args:
        body: ``stream boot from to q n cursor after order since summary reader receipt by``, all optional.
        boot: whose numbers ``from`` and ``to`` are where the body does not say.
        wall: now, for ``since``.

    Raises:
        WireError: if a field is of another type or size, or fields contradict each other.
    """
    stream = name(body, "stream")
    mark = field(body, "receipt", bool, default=False)
    by = text(body, "by", LONGEST_NAME)
    if mark and not by:
        raise WireError("bad_request", "receipt needs by: who reads")
    ranged = "from" in body or "to" in body
    if not stream and (ranged or {"reader", "cursor", "after"} & body.keys()):
        raise WireError("bad_request", "from, to, reader, cursor and after need a stream")
    query = _range(body, stream, boot) if ranged else _search(body, stream, wall)
    return Question(query=query, range=_bounds(query) if ranged else None, mark=mark, by=by)


def _bounds(query: Query) -> Range:
    return query.from_ or 1, query.to or HIGHEST


def _range(body: Mapping[str, Any], stream: str, boot: str) -> Query:
    for other in ("q", "since", "summary", "reader", "order", "after"):
        if other in body:
            raise WireError("bad_request", f"from and to cannot be combined with {other}")
    kind, at = _cursor(body)
    if kind not in ("", "r"):
        raise WireError("bad_request", "this cursor belongs to another question")
    first = at if kind else number(body, "from", 1, HIGHEST, 1)
    last = number(body, "to", 1, HIGHEST, HIGHEST)
    if first > last:
        raise WireError("bad_request", "from must not lie behind to")
    return Query(
        stream=stream,
        boot=boot_of(body, boot),
        from_=first,
        to=last,
        n=min(number(body, "n", 1, MOST, DEFAULT), MOST_OF_A_RANGE),
        newest=False,
    )


def _search(body: Mapping[str, Any], stream: str, wall: WallNs) -> Query:
    reader = name(body, "reader")
    summary = field(body, "summary", bool, default=False)
    newest = _newest(body, reader)
    kind, at = _cursor(body)
    if kind not in ("", "n" if newest else "o"):
        raise WireError("bad_request", "this cursor belongs to another question")
    after = at if kind else number(body, "after", 0, HIGHEST) if "after" in body else None
    return Query(
        stream=stream,
        boot=boot_of(body, ""),
        text=text(body, "q", LONGEST_TEXT),
        since=_since(body, wall),
        after=after,
        reader=reader if after is None else "",
        n=number(body, "n", 1, MOST, DEFAULT),
        newest=newest,
        summary=summary,
    )


def _newest(body: Mapping[str, Any], reader: str) -> bool:
    order = field(body, "order", str, "oldest" if reader else "newest")
    if order not in ("newest", "oldest"):
        raise WireError("bad_request", 'order must be "newest" or "oldest"')
    if reader and order == "newest":
        raise WireError("bad_request", "a reader goes from the oldest to the newest")
    return bool(order == "newest")


def _cursor(body: Mapping[str, Any]) -> tuple[str, int]:
    if "cursor" not in body:
        return "", 0
    found = _CURSOR.fullmatch(field(body, "cursor", str))
    if found is None:
        raise WireError("bad_request", "cursor must be given as an earlier answer gave it")
    return found[1], int(found[2])


def _since(body: Mapping[str, Any], wall: WallNs) -> WallNs | None:
    if "since" not in body:
        return None
    given = text(body, "since", LONGEST_NAME)
    try:
        return moment(given, wall)
    except ValueError as error:
        raise WireError("bad_request", f"since: {error}") from None


def moment(given: str, wall: WallNs) -> WallNs:
    """A moment, as a span before `wall` or as RFC 3339.

    Raises:
        ValueError: if it is neither.

    >>> moment("10m", WallNs(3_600 * 10**9)), moment("1970-01-01T00:00:02.5+00:00", WallNs(0))
    (3000000000000, 2500000000)
    """
    if given[:1].isdigit() and len(given) <= 20 and not {"-", ":"} & set(given):
        return WallNs(max(0, wall - Span.parse(given)))
    try:
        parsed = datetime.fromisoformat(given)
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is None:
        raise ValueError(f'{given!r} is no moment; write a span like "10m", or a time like "2026-11-21T21:32:22Z"')
    return WallNs(min(max(0, (parsed - _EPOCH) // timedelta(microseconds=1) * MICROSECOND), _LATEST))


def name(body: Mapping[str, Any], key: str) -> str:
    """A name of a request's body, empty where there is none.

    Raises:
        WireError: if it cannot be a name.
    """
    given: str = field(body, key, str, "")
    if key in body and not _NAME.search(given):
        raise WireError("bad_request", f"{key} must be 1 to {LONGEST_NAME} of a-z, 0-9, _ and -")
    return given


def boot_of(body: Mapping[str, Any], default: str) -> str:
    """The boot that a request names.

    Raises:
        WireError: if it cannot be one.
    """
    given: str = field(body, "boot", str, default)
    if "boot" in body and not _BOOT.fullmatch(given):
        raise WireError("bad_request", "boot must be 16 hex digits")
    return given


def text(body: Mapping[str, Any], key: str, longest: int) -> str:
    """A text of a request's body, empty where there is none.

    Raises:
        WireError: if it is too long.
    """
    given: str = field(body, key, str, "")
    if len(given) > longest:
        raise WireError("bad_request", f"{key} must not be longer than {longest} characters")
    return given


# ── the answer ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a page comes to.

    Attributes:
        rows: what is given out.
        document: the answer's data.
    """

    rows: tuple[Found, ...]
    document: dict[str, Any]


def answered(question: Question, page: Page, coming: Iterable[Range] = (), last: int = HIGHEST) -> Answer:
    """The answer to a question.

    Args:
        question: as asked.
        page: what the store found.
        coming: for a range, numbers that may still wait in the outbox: they are not lost.
        last: for a range, the last number that was given.
    """
    rows, large, more = _fitting(question, page)
    document: dict[str, Any] = {
        "messages": [msgspec.Raw(row.envelope) for row in rows],
        "offsets": [row.offset for row in rows],
        "more": more,
        "lost": [{**_lost(row.seq, row.seq, "too_large"), "boot": row.boot} for row in large],
    }
    if not question.query.stream:
        document["streams"] = [row.stream for row in rows]
    seen = sorted([*rows, *large], key=_offset)
    cursor = _next(question, seen, more)
    if cursor:
        document["cursor"] = cursor
    if question.range is not None:
        _account(document, question.range, [row.seq for row in seen], coming, last)
    return Answer(rows=tuple(rows), document=document)


def _fitting(question: Question, page: Page) -> tuple[list[Found], list[Found], bool]:
    """What there is room for, what never fits into any answer, and whether more would follow."""
    found = sorted(page.rows, key=_seq) if question.range else page.rows
    rows: list[Found] = []
    large: list[Found] = []
    room = LARGEST
    for row in found:
        if len(row.envelope) + BESIDE > LARGEST:
            large.append(row)
            continue
        room -= len(row.envelope) + BESIDE
        if room < 0:
            return rows, large, True
        rows.append(row)
    return rows, large, page.more


def _next(question: Question, seen: list[Found], more: bool) -> str:
    """Where the next page begins. Going forward there is always one: what comes later is on it."""
    query = question.query
    if question.range is not None:
        return f"r{max(row.seq for row in seen) + 1}" if more and seen else ""
    if not query.stream or query.summary:
        return ""
    if query.newest:
        return f"n{seen[0].offset}" if more and seen else ""
    if seen:
        return f"o{seen[-1].offset}"
    return "" if query.after is None else f"o{query.after}"


def _account(document: dict[str, Any], asked: Range, seen: list[int], coming: Iterable[Range], last: int) -> None:
    """Say of every number asked for what became of it."""
    end = min(asked[1], last)
    if seen and (document["more"] or end == HIGHEST):
        end = max(seen)
    elif end == HIGHEST:
        end = asked[0] - 1  # nobody knows how far they went
    missing = gaps(seen, asked[0], end)
    queued = [part for span in missing for part in both(span, coming)]
    gone = [part for span in missing for part in without(span, queued)]
    document["lost"] = [*(_lost(first, final, "gone") for first, final in gone), *document["lost"]]
    if queued:
        document["queued"] = [{"from": first, "to": final} for first, final in queued]


def _lost(first: int, final: int, reason: str) -> dict[str, Any]:
    return {"from": first, "to": final, "n": final - first + 1, "reason": reason}


def gaps(seen: Iterable[int], first: int, last: int) -> list[Range]:
    """The runs of numbers in `first` to `last` that are not among `seen`.

    >>> gaps([3, 4, 7], 1, 9)
    [(1, 2), (5, 6), (8, 9)]
    """
    found = []
    expected = first
    for seq in [*sorted(seen), last + 1]:
        if seq > expected:
            found.append((expected, seq - 1))
        expected = max(expected, seq + 1)
    return found


def runs(numbers: Iterable[int]) -> list[Range]:
    """Numbers as runs.

    >>> runs([4, 1, 2, 2])
    [(1, 2), (4, 4)]
    """
    return joined((each, each) for each in numbers)


def joined(spans: Iterable[Range]) -> list[Range]:
    """Runs in order and apart, out of any.

    >>> joined([(5, 9), (1, 2), (3, 3), (6, 7)])
    [(1, 3), (5, 9)]
    """
    found: list[Range] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def both(span: Range, others: Iterable[Range]) -> list[Range]:
    """The parts of a run that lie in others; these are in order and apart.

    >>> both((1, 9), [(0, 2), (5, 6), (9, 12)])
    [(1, 2), (5, 6), (9, 9)]
    """
    parts = ((max(span[0], first), min(span[1], last)) for first, last in others)
    return [part for part in parts if part[0] <= part[1]]


def without(span: Range, others: Iterable[Range]) -> list[Range]:
    """The parts of a run that lie in none of others; these are in order and apart.

    >>> without((1, 9), [(0, 2), (5, 6)])
    [(3, 4), (7, 9)]
    """
    found = []
    expected = span[0]
    for first, last in both(span, others):
        if first > expected:
            found.append((expected, first - 1))
        expected = last + 1
    if expected <= span[1]:
        found.append((expected, span[1]))
    return found


def _offset(row: Found) -> int:
    return row.offset


def _seq(row: Found) -> int:
    return row.seq
