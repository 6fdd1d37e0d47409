"""From labels to gestures, and from gestures to the latched signal.

A classifier gives each hand a label in each frame. `Voter` makes a *gesture* of labels that stay the same for long enough, and says
it once. `Latch` maps gestures to a *signal*, which stays until another comes, or until it has not been seen for a while.
`Gestures` is both, one frame at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from chappe.core.units import Ns, Span

NO_GESTURE: Final = "None"
NO_SIGNAL: Final = "-"


class Votes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a label counts.

    Attributes:
        votes: how many frames in a row a hand must have the label. Frames that miss the hand neither count nor break the row.
        threshold: a label with a lower score counts as none.
        gone_after: a hand that was missed in so many frames in a row has left; it begins anew when it comes back.
        hold: how long the label must have been there, counted from the first of the row.
        refractory: after a gesture, the same one is ignored for so long, whichever hand shows it.
    """

    votes: Annotated[int, Meta(ge=1)] = 3
    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.5
    gone_after: Annotated[int, Meta(ge=1)] = 5
    hold: Span = Span(0)
    refractory: Span = Span(0)


class Sighting(msgspec.Struct, frozen=True):
    """One hand in one frame; renders as the data of the ``gesture`` stream.

    Attributes:
        gesture: the label, ``None`` for a hand that shows none.
        score: the classifier's probability of the label, 0 to 1.
        handedness: the physical hand, ``left`` or ``right``.
        box: x and y of the top left corner, width, height; pixels of the frame.
        hand: the tracker's number of the hand, the same as long as it is followed.
    """

    gesture: str
    score: float
    handedness: str
    box: tuple[int, int, int, int]
    hand: int


class Verdict(msgspec.Struct, frozen=True):
    """What a frame says after the votes.

    Attributes:
        new: gestures that begin with this frame, as the sightings that decided it.
        showing: sightings of hands that show their gesture in this frame, those of `new` included.
    """

    new: tuple[Sighting, ...] = ()
    showing: tuple[Sighting, ...] = ()


_SILENCE: Final = Verdict()


class _Hand:
    """The votes for one hand."""

    __slots__ = ("accepted", "count", "frame", "label", "since", "stable")

    def __init__(self) -> None:
        self.label = ""
        self.count = 0
        self.since = Ns(0)
        self.stable = NO_GESTURE
        # Whether the stable gesture was said, and not ignored in its refractory time.
        self.accepted = False
        self.frame = 0


class Voter:
    """Votes, hold and refractory time, for every hand by itself. Times must not go back.

    Args:
        votes: when a label counts.
    """

    def __init__(self, votes: Votes) -> None:
        self.votes = votes
        self._hands: dict[int, _Hand] = {}
        self._frame = 0
        self._said: dict[str, Ns] = {}

    def frame(self, sightings: Sequence[Sighting], now: Ns) -> Verdict:
        """What the hands of one processed frame say; frames without a hand count too.

        >>> voter = Voter(Votes(votes=2))
        >>> seen = Sighting("Victory", 0.9, "right", (0, 0, 10, 10), 1)
        >>> [len(voter.frame([seen], Ns(at)).new) for at in range(4)]
        [0, 1, 0, 0]
        """
        if not sightings and not self._hands:
            return _SILENCE
        self._frame += 1
        new = [sighting for sighting in sightings if self._vote(sighting, now)]
        showing = [sighting for sighting in sightings if self._shows(sighting)]
        if len(self._hands) > len(sightings):
            oldest = self._frame - self.votes.gone_after
            self._hands = {number: hand for number, hand in self._hands.items() if hand.frame > oldest}
        return Verdict(tuple(new), tuple(showing)) if showing else _SILENCE

    def _label(self, sighting: Sighting) -> str:
        return sighting.gesture if sighting.score >= self.votes.threshold else NO_GESTURE

    def _vote(self, sighting: Sighting, now: Ns) -> bool:
        """Count one label; whether a gesture begins with it."""
        hand = self._hands.get(sighting.hand)
        if hand is None:
            hand = self._hands[sighting.hand] = _Hand()
        hand.frame = self._frame
        label = self._label(sighting)
        if label != hand.label:
            hand.label, hand.count, hand.since = label, 0, now
        hand.count += 1
        if label == hand.stable or hand.count < self.votes.votes:
            return False
        # Letting go takes the votes, but no hold: who lowers a hand does not keep still for it.
        if label != NO_GESTURE and now - hand.since < self.votes.hold:
            return False
        hand.stable = label
        hand.accepted = label != NO_GESTURE and self._may_say(label, now)
        return hand.accepted

    def _may_say(self, label: str, now: Ns) -> bool:
        last = self._said.get(label)
        if last is not None and now - last < self.votes.refractory:
            return False
        self._said[label] = now
        return True

    def _shows(self, sighting: Sighting) -> bool:
        hand = self._hands[sighting.hand]
        return hand.accepted and hand.stable == self._label(sighting)


class Latch:
    """The latched signal. Times must not go back.

    Args:
        signals: gesture to signal; other gestures change nothing.
        hold: a signal ends so long after the last sighting of a hand that shows its gesture; None: when another comes.
    """

    def __init__(self, signals: Mapping[str, str], hold: Span | None = None) -> None:
        self.signals = signals
        self.hold = hold
        self.signal = NO_SIGNAL
        self._seen = Ns(0)

    def see(self, verdict: Verdict, now: Ns) -> str | None:
        """The new signal, if this frame changes it; else None. Of several mapped gestures the one with the highest score counts.

        A gesture that begins always counts; one that goes on counts when nothing is latched, so that frames further apart than
        `hold` do not leave a hand unheard that is there all the time.
        """
        ended = self.expire(now)
        if verdict.showing:
            chosen = self._best(verdict.new) or (self._best(verdict.showing) if self.signal == NO_SIGNAL else None)
            before, self.signal = self.signal, chosen or self.signal
            if any(self.signals.get(sighting.gesture) == self.signal for sighting in verdict.showing):
                self._seen = now
            if self.signal != before:
                return self.signal
        return ended

    def due(self) -> Ns | None:
        """When the signal ends, unless it is seen again; None if it does not end by itself."""
        return Ns(self._seen + self.hold) if self.hold is not None and self.signal != NO_SIGNAL else None

    def expire(self, now: Ns) -> str | None:
        """``-`` if the signal ends by `now`; else None."""
        due = self.due()
        if due is None or due > now:
            return None
        self.signal = NO_SIGNAL
        return NO_SIGNAL

    def _best(self, sightings: Sequence[Sighting]) -> str | None:
        mapped = [sighting for sighting in sightings if sighting.gesture in self.signals]
        return self.signals[max(mapped, key=_score).gesture] if mapped else None


def _score(sighting: Sighting) -> float:
    return sighting.score


class Decision(msgspec.Struct, frozen=True):
    """What one frame decides.

    Attributes:
        gestures: gestures that begin, in the order of the hands in the frame.
        signal: the newly latched signal; None if it stays.
    """

    gestures: tuple[Sighting, ...] = ()
    signal: str | None = None


_NOTHING: Final = Decision()


class Gestures:
    """Votes and latch, one frame at a time.

    Args:
        votes: when a label counts.
        signals: gesture to signal.
        latch: how long a signal outlives its last sighting; None: until another comes.
    """

    def __init__(self, votes: Votes, signals: Mapping[str, str], latch: Span | None = None) -> None:
        self.voter = Voter(votes)
        self.latch = Latch(signals, latch)

    @property
    def signal(self) -> str:
        """The latched signal, ``-`` for none."""
        return self.latch.signal

    def frame(self, sightings: Sequence[Sighting], now: Ns) -> Decision:
        """Decide about one processed frame."""
        verdict = self.voter.frame(sightings, now)
        if verdict is _SILENCE and self.latch.hold is None:
            return _NOTHING
        signal = self.latch.see(verdict, now)
        return Decision(verdict.new, signal) if verdict.new or signal is not None else _NOTHING

    def due(self) -> Ns | None:
        """When the signal ends by itself; see `Latch.due`."""
        return self.latch.due()

    def expire(self, now: Ns) -> str | None:
        """``-`` if the signal ends by `now`; else None."""
        return self.latch.expire(now)
