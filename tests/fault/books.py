"""The books of RULINGS 3 against each other and against what a consumer saw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .oracle import Account, Message, distinct, gaps

PARTS = ("delivered", "elided", "expired", "spilled", "queued")
COLUMN = {
    "expired": "expired",
    "recalled": "expired",
    **dict.fromkeys(("spilled", "offline", "overload", "operator"), "spilled"),
}
"""In which column of the books a reason counts (RULINGS 2 and 3, FEATURES appendix B)."""


def balanced(books: Mapping[str, Mapping[str, int]]) -> list[str]:
    """produced = delivered + elided + expired + spilled + queued, for each stream."""
    return [
        f"{stream}: {book['produced']} produced, but {[(part, book[part]) for part in PARTS]}"
        for stream, book in books.items()
        if book["produced"] != sum(book[part] for part in PARTS)
    ]


def as_seen(books: Mapping[str, Mapping[str, int]], account: Account, *, killed: bool) -> list[str]:
    """The books against what a consumer can see. After a kill they may know less than the consumer, never more (RULINGS 3).

    What a row that was dropped had elided is in the books, and no message is left to tell of it.
    """
    kept = distinct(account.messages).values()
    return [
        complaint
        for stream, book in books.items()
        if stream in account.durability
        for complaint in _compared(
            stream,
            book,
            [m for m in kept if m.stream == stream],
            # What is in flight at a clean stop counts as spilled, as nobody can know that it came.
            fewer=killed or account.durability[stream] == "memory",
        )
    ]


def _compared(stream: str, book: Mapping[str, int], kept: Sequence[Message], *, fewer: bool) -> Iterator[str]:
    told = gaps(kept)
    seen = {
        "delivered": len(kept),
        "elided": sum((m.elided or {}).get("n", 0) for m in kept),
        **{
            column: sum(n for gap in told for why, n in gap.by if COLUMN.get(why) == column)
            for column in ("spilled", "expired")
        },
    }
    dropped = seen["spilled"] + seen["expired"] > 0
    for column, n in seen.items():
        more, less = book[column] > n, book[column] < n
        if (more and not (column == "elided" and dropped)) or (less and not fewer):
            yield f"{stream}: {column} {book[column]} in the books, {n} seen"
