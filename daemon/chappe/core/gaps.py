"""Gaps that no message has disclosed yet: which of them ride on which message.

A gap rides on the first message after it whose content is not fixed yet. Contiguous gaps are one; gaps with a message between them stay apart.
"""

from __future__ import annotations

from collections.abc import Iterable

from chappe.core.envelope import Lost, merge

# More than this many apart are told as one with bounds: memory stays bounded, and the count stays right.
MOST = 64


class Gaps:
    """A stream's undisclosed gaps, oldest first.

    Args:
        pending: what earlier boots left behind, each with its boot.

    Attributes:
        changed: whether the store has to be told.
    """

    def __init__(self, pending: Iterable[Lost] = ()) -> None:
        self.pending: list[Lost] = list(pending)
        self.riding: dict[int, tuple[Lost, ...]] = {}
        self.changed = bool(self.pending)

    def add(self, gap: Lost) -> None:
        """Numbers were lost."""
        self.changed = True
        pending = self.pending
        place = len(pending)
        while place and pending[place - 1].boot == gap.boot and pending[place - 1].from_ > gap.from_:
            place -= 1
        if place and _touches(pending[place - 1], gap):
            place -= 1
            gap = _one(pending.pop(place), gap)
        if place < len(pending) and _touches(gap, pending[place]):
            gap = _one(gap, pending.pop(place))
        pending.insert(place, gap)
        if len(pending) > MOST:
            self._shorten()

    def _shorten(self) -> None:
        for place in range(len(self.pending) - 1):
            first, second = self.pending[place : place + 2]
            if first.boot == second.boot and first.to is not None and second.to is not None:
                self.pending[place : place + 2] = [_one(first, second)]
                return

    def for_message(self, seq: int) -> tuple[Lost, ...]:
        """The gaps that a message of this boot with number `seq` has to disclose: a crash first and alone, else those before it of one boot."""
        if not self.pending:
            return ()
        crash = next((gap for gap in self.pending if gap.to is None), None)
        if crash is not None:
            return (crash,)
        first = self.pending[0]
        found = []
        for gap in self.pending:
            if gap.boot != first.boot or (not gap.boot and (gap.to or 0) >= seq):
                break
            found.append(gap)
        return tuple(found)

    def ride(self, row_id: int, gaps: tuple[Lost, ...]) -> Lost:
        """These gaps are disclosed by the message of this row; they are kept until the row is acknowledged, or stored with them."""
        for gap in gaps:
            self.pending.remove(gap)
        self.riding[row_id] = gaps
        self.changed = True
        whole = gaps[0]
        for gap in gaps[1:]:
            whole = _one(whole, gap)
        return whole

    def arrived(self, row_id: int) -> None:
        """The message of this row is acknowledged, or stored together with its gap."""
        if self.riding and self.riding.pop(row_id, None) is not None:
            self.changed = True

    def as_stored(self, boot: str) -> tuple[Lost, ...]:
        """All gaps that a kill must not hide, each with its boot."""
        gaps = [*(gap for gaps in self.riding.values() for gap in gaps), *self.pending]
        return tuple(_of(gap, boot) for gap in gaps)


def _touches(earlier: Lost, later: Lost) -> bool:
    """Whether no number lies between two gaps, of which both ends are known."""
    known = earlier.to is not None and later.to is not None
    return known and earlier.boot == later.boot and later.from_ <= (earlier.to or 0) + 1


def _of(gap: Lost, boot: str) -> Lost:
    return gap if gap.boot else Lost(gap.from_, gap.reason, gap.to, gap.n, gap.by, boot)


def _one(earlier: Lost, later: Lost) -> Lost:
    merged = merge(earlier, later)
    assert merged is not None
    return merged
