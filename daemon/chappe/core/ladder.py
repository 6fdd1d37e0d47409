"""The delivery ladder: how far each message has come, and who says so (FEATURES appendix B; the words are Chappe's, the idea is mesibo's).

=====================================  =====  ======================================================================
state                                  rank   reached when
=====================================  =====  ======================================================================
``queued``, ``stored``                 0, 1   accepted; these two the outbox knows, as long as it has the message
``sent``                               2      the broker acknowledged it; ``no_subscriber`` beside it: nobody listened
``expired spilled rejected recalled``  2      given up; a dead letter that is retried is ``sent`` after all
``delivered``                          3      a consumer has it
``read``                               4      somebody has read it
=====================================  =====  ======================================================================

A higher rank never falls back, in whatever order the news comes in; of two states of one rank the newer holds. The first time of each state is
kept, whatever the state is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, Literal

from chappe.core.envelope import iso
from chappe.core.stored import Standing
from chappe.core.units import Ns, WallNs

NEWEST = 10_000
"""Of how many messages the way is known; and again of how many of the streams that are kept on disk."""

RANKS: Final[Mapping[str, int]] = {
    "queued": 0,
    "stored": 1,
    "sent": 2,
    "expired": 2,
    "spilled": 2,
    "rejected": 2,
    "recalled": 2,
    "delivered": 3,
    "read": 4,
}

NO_SUBSCRIBER = "no_subscriber"
"""Stands beside ``sent`` among the times where the broker had nobody to pass the message on to (MQTT 5.0 section 3.4.2.1, 0x10)."""

End = Literal["expired", "spilled", "rejected", "recalled"]
Kind = Literal["delivered", "read"]
Key = tuple[str, str, int]
_Note = tuple[str, str, int, Ns, str]


class Ladder:
    """How far the newest messages have come.

    What the outbox tells is only noted, for it tells of every message; it is looked through when somebody asks.

    Args:
        wall: the wall time of a moment of this boot.
        kept: streams whose states are kept on disk.
        found: what earlier boots kept.

    Attributes:
        unknown: receipts for messages that were never sent, or so long ago that nothing is known of them any more.
        repeated: receipts that said nothing new, of messages that the broker has.
    """

    def __init__(
        self, wall: Callable[[Ns], WallNs] = WallNs, kept: Collection[str] = (), found: Iterable[Standing] = ()
    ) -> None:
        self.unknown = 0
        self.repeated = 0
        self._wall = wall
        self._kept = frozenset(kept)
        self._notes: deque[_Note] = deque(maxlen=NEWEST)
        self._recent: dict[Key, _Note | Standing] = {}
        self._lasting: dict[Key, Standing] = {}
        self._changed: dict[Key, None] = {}
        for standing in found:
            self._place(self._lasting, (standing.stream, standing.boot, standing.seq), standing)

    # ── the outbox tells ─────────────────────────────────────────────────────────────────────────────────────────────

    def sent(self, stream: str, boot: str, seq: int, now: Ns, no_subscriber: bool = False) -> None:
        """The broker has acknowledged a message."""
        note = (stream, boot, seq, now, NO_SUBSCRIBER if no_subscriber else "sent")
        if stream in self._kept:
            self._take(note)
        else:
            self._notes.append(note)

    def ended(self, stream: str, boot: str, seq: int, state: End, now: Ns) -> None:
        """A message was given up."""
        note = (stream, boot, seq, now, state)
        if stream in self._kept:
            self._take(note)
        else:
            self._notes.append(note)

    # ── consumers tell ───────────────────────────────────────────────────────────────────────────────────────────────

    def receipt(
        self, stream: str, boot: str, seq: int, kind: Kind, by: str, wall: WallNs, *, exists: bool = False
    ) -> Standing | None:
        """A consumer says that it has a message, or has read it.

        Args:
            stream: its stream.
            boot: the boot that numbered it.
            seq: its number.
            kind: what is said.
            by: who says so.
            wall: when that was heard.
            exists: whether the message is known to exist although the broker has not acknowledged it: it is in flight (a receipt may be
                faster than the acknowledgement), it is shown here, or it was read out of the history.

        Returns:
            How far the message is now, None if nothing is known of it or the receipt says nothing new.
        """
        self._catch_up()
        key = stream, boot, seq
        standing = self._standing(key)
        if standing is None and not exists:
            self.unknown += 1
            return None
        standing = standing or Standing(stream=stream, boot=boot, seq=seq, state="queued")
        if kind in standing.times:
            self.repeated += not exists
            return None
        standing = _risen(standing, kind, wall, by)
        self._keep(key, standing)
        return standing

    # ── asked ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def of(self, stream: str, boot: str, seq: int) -> dict[str, Any] | None:
        """How far a message has come: its state, the time of each one reached, and who said so; None where nothing is known."""
        self._catch_up()
        standing = self._standing((stream, boot, seq))
        if standing is None:
            return None
        return {
            "stream": stream,
            "boot": boot,
            "seq": seq,
            "state": standing.state,
            "times": {state: iso(wall) for state, wall in sorted(standing.times.items(), key=_by_time)},
            "by": dict(standing.by),
        }

    @property
    def dirty(self) -> bool:
        """Whether `changed` has anything to tell."""
        return bool(self._changed)

    def changed(self) -> tuple[Standing, ...]:
        """What the next commit has to carry; it is told once."""
        changed, self._changed = self._changed, {}
        return tuple(self._lasting[key] for key in changed if key in self._lasting)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _catch_up(self) -> None:
        notes, recent = self._notes, self._recent
        while notes:
            note = notes.popleft()
            key = note[:3]
            if note[4] == "sent" and key not in recent:
                self._place(recent, key, note)  # as it is: nearly all are never asked for
            else:
                self._take(note)

    def _take(self, note: _Note) -> None:
        stream, boot, seq, now, state = note
        key = stream, boot, seq
        standing = self._standing(key) or Standing(stream=stream, boot=boot, seq=seq, state="queued")
        wall = self._wall(now)
        if state == NO_SUBSCRIBER:
            standing, state = _risen(standing, state, wall), "sent"
        self._keep(key, _risen(standing, state, wall))

    def _standing(self, key: Key) -> Standing | None:
        known = self._lasting.get(key) or self._recent.get(key)
        if known is None or isinstance(known, Standing):
            return known
        stream, boot, seq, now, state = known
        return Standing(stream=stream, boot=boot, seq=seq, state=state, times={state: self._wall(now)})

    def _keep(self, key: Key, standing: Standing) -> None:
        if key[0] in self._kept:
            self._changed[key] = None
            self._place(self._lasting, key, standing)
        else:
            self._place(self._recent, key, standing)

    def _place(self, shelf: dict[Key, Any], key: Key, known: _Note | Standing) -> None:
        shelf[key] = known
        if len(shelf) > NEWEST:
            oldest = next(iter(shelf))
            del shelf[oldest]
            self._changed.pop(oldest, None)


def _risen(standing: Standing, state: str, wall: WallNs, by: str = "") -> Standing:
    """A standing after `state` was reached at `wall`."""
    higher = state in RANKS and RANKS[state] >= RANKS[standing.state]
    return Standing(
        stream=standing.stream,
        boot=standing.boot,
        seq=standing.seq,
        state=state if higher else standing.state,
        times={state: wall, **standing.times},
        by={**standing.by, state: by} if by else standing.by,
    )


def _by_time(item: tuple[str, WallNs]) -> tuple[WallNs, int]:
    return item[1], RANKS.get(item[0], RANKS["sent"])
