"""Which faults of the store stand: each is told once, and healed once."""

from __future__ import annotations

from collections.abc import Callable

from chappe.core.events import Event, Faulted, Healed
from chappe.edge.host import Clock

PART = "store"


class Faults:
    """Tells of faults.

    Args:
        clock: stamps them.
        post: takes them.
    """

    def __init__(self, clock: Clock, post: Callable[[Event], None]) -> None:
        self._clock = clock
        self._post = post
        self._standing: dict[str, str] = {}

    def report(self, code: str, message: str) -> None:
        """Something failed; the same again is no news, but a corrupt file always is."""
        if code not in self._standing or (code == "store_corrupt" and self._standing[code] != message):
            self._standing[code] = message
            self._post(Faulted(at=self._clock.now(), part=PART, code=code, message=message))

    def heal(self, code: str) -> None:
        """It works again."""
        if self._standing.pop(code, None) is not None:
            self._post(Healed(at=self._clock.now(), part=PART, code=code))
