"""When the camera is opened, closed and started again. Pure: events in, decisions out, time is an argument.

`TABLE` is the whole behaviour. A pair that is not in it changes nothing. ::

    off ── want ──▶ opening ── opened ──▶ open ── timeout, failed ──▶ waiting ── timeout ──▶ opening …
    any ── unwant ──▶ closing ── closed ──▶ off          opening, open ── exhausted ──▶ done, ── refused ──▶ refused

"Timeout" is the passing of one deadline, whose meaning depends on the state: no answer (opening), no frame (open), the end of a
pause (waiting).

The pauses: a camera that worked is started again at once; one that does not come back is tried again after 2, 4, 8 … 60 s. The count
begins anew once frames have flowed for as long as a stall takes, so that a camera which fails after each first frame is not flogged.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from chappe.core.units import SECOND, Ns

OPEN_LIMIT = 10 * SECOND
"""An opening that has not been answered for so long has failed."""

FIRST_FRAME = 2 * SECOND
"""What a camera that was started again is given, at least, for its first frame."""

LONGEST_PAUSE = 60 * SECOND

ALWAYS_TOLD = frozenset(("privacy_led", "camera_not_closed"))
"""Faults that are told even of a camera which nobody wants: they are about its being dark."""


class Open(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Open the camera, or give up what is open or hangs and open it anew."""


class Close(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Close the camera."""


class Fault(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The camera has failed; told once per code until healed."""

    code: str
    message: str = ""


class Heal(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The fault `code` is over."""

    code: str


Decision = Open | Close | Fault | Heal
OffBy = Literal["owner", "request"] | None


class State(enum.Enum):
    """What the camera is doing, as far as is known."""

    OFF = "off"
    OPENING = "opening"
    OPEN = "open"
    WAITING = "waiting"
    CLOSING = "closing"
    DONE = "done"
    REFUSED = "refused"


class Input(enum.Enum):
    """What can happen to it."""

    WANT = "want"
    UNWANT = "unwant"
    OPENED = "opened"
    CLOSED = "closed"
    FRAME = "frame"
    FAILED = "failed"
    REFUSED = "refused"
    EXHAUSTED = "exhausted"
    TIMEOUT = "timeout"


TABLE: Final[Mapping[tuple[State, Input], tuple[State, str]]] = {
    # state, input: next state, what is done on the way
    (State.OFF, Input.WANT): (State.OPENING, "_ask"),
    (State.OPENING, Input.OPENED): (State.OPEN, "_await_frames"),
    (State.OPENING, Input.FRAME): (State.OPEN, "_flow"),
    (State.OPENING, Input.FAILED): (State.WAITING, "_back_off"),
    (State.OPENING, Input.REFUSED): (State.REFUSED, "_rest"),
    (State.OPENING, Input.EXHAUSTED): (State.DONE, "_rest"),
    (State.OPENING, Input.TIMEOUT): (State.WAITING, "_stall"),
    (State.OPENING, Input.UNWANT): (State.CLOSING, "_release"),
    (State.OPEN, Input.FRAME): (State.OPEN, "_flow"),
    (State.OPEN, Input.CLOSED): (State.OPENING, "_await_opening"),
    (State.OPEN, Input.FAILED): (State.WAITING, "_back_off"),
    (State.OPEN, Input.REFUSED): (State.REFUSED, "_rest"),
    (State.OPEN, Input.EXHAUSTED): (State.DONE, "_rest"),
    (State.OPEN, Input.TIMEOUT): (State.WAITING, "_stall"),
    (State.OPEN, Input.UNWANT): (State.CLOSING, "_release"),
    (State.WAITING, Input.TIMEOUT): (State.OPENING, "_restart"),
    (State.WAITING, Input.UNWANT): (State.CLOSING, "_release"),
    (State.CLOSING, Input.CLOSED): (State.OFF, "_rest"),
    (State.CLOSING, Input.FAILED): (State.OFF, "_rest"),
    (State.CLOSING, Input.REFUSED): (State.OFF, "_rest"),
    (State.CLOSING, Input.WANT): (State.OPENING, "_ask"),
    (State.DONE, Input.WANT): (State.OPENING, "_ask"),
    (State.DONE, Input.UNWANT): (State.CLOSING, "_release"),
    (State.REFUSED, Input.WANT): (State.OPENING, "_ask"),
    (State.REFUSED, Input.UNWANT): (State.CLOSING, "_release"),
}


class CameraWatch:
    """Watches over one camera. Tell it what happens, and it answers with what is to be done.

    Only `turn` answers with an error code instead; what it decides comes out of the next `expire`.

    Args:
        source: the configured source; ``off`` is never opened.
        rate_hz: configured frames per second.
        stall: configured time without a frame that counts as a stall, in nanoseconds; five periods if that is longer.

    Attributes:
        restarts: how often the camera was started again because of trouble.
        off_by: who switched it off, None if nobody did.

    >>> watch = CameraWatch("v4l2", 10.0, 5 * SECOND)
    >>> watch.started(Ns(0), None)
    [Open()]
    >>> watch.opened(Ns(0)), watch.frame(Ns(SECOND), Ns(SECOND))
    ([], [])
    >>> watch.due() == 6 * SECOND, watch.expire(Ns(6 * SECOND))
    (True, [Fault(code='camera_stalled', message='no frame for 5 s'), Open()])
    """

    def __init__(self, source: str, rate_hz: float, stall: int) -> None:
        self.restarts = 0
        self.off_by: OffBy = None
        self._source = source
        self._span = max(round(5 * SECOND / rate_hz), stall)
        self._state = State.OFF
        self._now = Ns(0)
        self._deadline: Ns | None = None
        self._decided: list[Decision] = []
        self._faults: list[str] = []
        self._tries = 0
        self._asked = Ns(0)
        self._first: Ns | None = None
        self._last = Ns(0)

    @property
    def phase(self) -> State:
        """What the camera is doing."""
        return self._state

    def state(self) -> OffBy:
        """What has to survive a restart of the daemon; `started` takes it back."""
        return self.off_by

    def started(self, now: Ns, off_by: object) -> list[Decision]:
        """The daemon has started; `off_by` is what `state` returned in an earlier life. Anything unknown counts as the owner's."""
        self.off_by = None if off_by is None else "request" if off_by == "request" else "owner"
        if self._source == "off" or self.off_by is not None:
            return []
        return self._take(Input.WANT, now)

    def turn(self, on: bool, by: Literal["owner", "request"], now: Ns) -> str | None:
        """Switch the camera on or off. What the owner switched off, only the owner switches on.

        Args:
            on: whether it shall be on.
            by: ``owner`` for whoever stands before it (a button), ``request`` for everybody else.
            now: the time.

        Returns:
            None if it is done, else an error code: ``owner_off``, or ``disabled`` where no camera is configured.
        """
        if on and by == "request" and self.off_by == "owner":
            return "owner_off"
        if on:
            self.off_by = None
            if self._source == "off":
                return "disabled"
        else:
            self.off_by = "owner" if "owner" in (by, self.off_by) else "request"
        self._follow(Input.WANT if on else Input.UNWANT, now)
        return None

    def opened(self, now: Ns) -> list[Decision]:
        """The source is open."""
        return self._take(Input.OPENED, now)

    def closed(self, now: Ns) -> list[Decision]:
        """The source is closed and the privacy lamp dark."""
        return self._take(Input.CLOSED, now)

    def failed(self, code: str, retriable: bool, now: Ns, message: str = "") -> list[Decision]:
        """The source could not be opened, or has failed and is closed."""
        if code in ALWAYS_TOLD or self._state not in (State.OFF, State.CLOSING):
            self._fault(code, message)
        return self._take(Input.FAILED if retriable else Input.REFUSED, now)

    def frame(self, at: Ns, now: Ns) -> list[Decision]:
        """A frame was captured at `at`. Frames from before the last opening, told late, prove nothing."""
        if self._undisturbed and at < (self._deadline or 0) and now < (self._deadline or 0):
            # The hot path, once a frame: what `TABLE` says for a camera that works, without looking it up.
            self._now = now
            self._last = max(self._last, at)
            self._flow()
            return []
        if at < self._asked or (self._state, Input.FRAME) not in TABLE:
            return self.expire(now)
        self._last = max(self._last, at)
        return self._take(Input.FRAME, now)

    @property
    def _undisturbed(self) -> bool:
        return self._state is State.OPEN and self._first is not None and not self._faults and not self._decided

    def exhausted(self, now: Ns) -> list[Decision]:
        """A source of files has shown its last picture."""
        return self._take(Input.EXHAUSTED, now)

    def due(self) -> Ns | None:
        """When `expire` has something to say; None if only an event can change anything."""
        return self._now if self._decided else self._deadline

    def expire(self, now: Ns) -> list[Decision]:
        """Everything decided since the last call, the passing of deadlines up to `now` included."""
        while self._deadline is not None and self._deadline <= now:
            self._follow(Input.TIMEOUT, now)
        decided, self._decided = self._decided, []
        return decided

    def _take(self, happening: Input, now: Ns) -> list[Decision]:
        self._follow(happening, now)
        return self.expire(now)

    def _follow(self, happening: Input, now: Ns) -> None:
        """One step through the table."""
        self._now = now
        known = TABLE.get((self._state, happening))
        if known is not None:
            self._state, deed = known
            getattr(self, deed)()

    # ── what is done on the way from state to state ──────────────────────────────────────────────────────────────────

    def _ask(self) -> None:
        self._tries = 0
        self._open(OPEN_LIMIT)

    def _restart(self) -> None:
        self._tries += 1
        self.restarts += 1
        self._open(self._pause())

    def _open(self, limit: int) -> None:
        self._decided.append(Open())
        self._asked = self._last = self._now
        self._first = None
        self._deadline = Ns(self._now + limit)

    def _await_opening(self) -> None:
        """The camera's thread closed it without having been asked, after a bug, and opens it again by itself."""
        self._deadline = Ns(self._now + OPEN_LIMIT)

    def _await_frames(self) -> None:
        if self._tries == 0:
            self._deadline = Ns(self._now + self._span)
        else:
            self._deadline = Ns(max(self._asked + self._pause(), self._now + FIRST_FRAME))

    def _flow(self) -> None:
        for code in self._faults:
            self._decided.append(Heal(code))
        self._faults.clear()
        self._first = self._last if self._first is None else self._first
        if self._last - self._first >= self._span:
            self._tries = 0
        self._deadline = Ns(self._last + self._span)

    def _stall(self) -> None:
        self._fault("camera_stalled", f"no frame for {(self._now - self._last) / SECOND:g} s")
        # Without a frame since the last restart its pause has passed already.
        self._deadline = self._now if self._first is None else Ns(self._now + self._pause())

    def _back_off(self) -> None:
        if self._first is None:
            self._tries = max(1, self._tries)
        self._deadline = Ns(self._now + self._pause())

    def _pause(self) -> int:
        return 0 if self._tries == 0 else min(2**self._tries * SECOND, LONGEST_PAUSE)

    def _release(self) -> None:
        """What is switched off has no faults: a lamp that went on flashing would call the owner to nothing."""
        self._decided.append(Close())
        self._decided.extend(Heal(code) for code in self._faults)
        self._faults.clear()
        self._deadline = None

    def _rest(self) -> None:
        self._deadline = None

    def _fault(self, code: str, message: str) -> None:
        if code not in self._faults:
            self._faults.append(code)
            self._decided.append(Fault(code, message))
