"""How many bytes a month may cost, and what gives way as they run out (FEATURES ELI-10): pure.

====  =========  ======================================================================================================
step  from       what it means
====  =========  ======================================================================================================
0     the first  nothing
1     80 %       `latest` streams speak a quarter as often, `transient` ones not at all
2     100 %      only streams of priority 8 and 9, and ``state``, ``res``, ``reported``; ``health`` once an hour
====  =========  ======================================================================================================
"""

from __future__ import annotations

from typing import Literal

from chappe.core.settings import StreamClass
from chappe.core.units import HOUR, Span

Step = Literal[0, 1, 2]

SHORT_PERCENT = 80
STRETCH = 4
URGENT = 8
"""Lowest priority that is still worth its bytes when there are none left."""

KEPT_TOPICS = frozenset({"state", "res", "reported", "health"})


class Budget:
    """The bytes of one month.

    Args:
        limit: bytes of MQTT packets a month, None for no limit.
        used: how many of them have been used, for example by an earlier boot.
        month: the month that they were used in, as ``2026-11``; empty where nobody knew.

    >>> budget = Budget(1_000_000, 799_999, "2026-11")
    >>> budget.step, budget.carried(1, "2026-11"), budget.step
    (0, True, 1)
    """

    def __init__(self, limit: int | None, used: int = 0, month: str = "") -> None:
        self.limit = limit
        self.used = used
        self.month = month

    @property
    def step(self) -> Step:
        """How far things have come."""
        if self.limit is None or 100 * self.used < SHORT_PERCENT * self.limit:
            return 0
        return 1 if self.used < self.limit else 2

    def carried(self, amount: int, month: str) -> bool:
        """Book bytes that went over the link, in either direction.

        Args:
            amount: how many.
            month: the month it is, as ``2026-11``; empty while the clock is not known to be right.

        Returns:
            Whether `step` changed.
        """
        before = self.step
        self._turn_to(month)
        self.used += amount
        return self.step != before

    def _turn_to(self, month: str) -> None:
        """A later month begins at nothing. A first one, or one that shows that the last was wrong, inherits what was used."""
        if self.month and month > self.month:
            self.used = 0
        self.month = month or self.month

    # ── what a step means ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def stretch(self) -> int:
        """What the intervals of `latest` streams are multiplied by."""
        return STRETCH if self.step else 1

    def allows(self, class_: StreamClass, priority: int) -> bool:
        """Whether a stream may send.

        >>> spent = Budget(1_000, 1_000)
        >>> spent.allows("log", 9), spent.allows("log", 7), spent.allows("transient", 9)
        (True, False, False)
        """
        if self.step and class_ == "transient":
            return False
        return self.step < 2 or priority >= URGENT

    def allows_topic(self, kind: str) -> bool:
        """Whether what is no stream may be sent.

        Args:
            kind: ``state``, ``info``, ``health``, ``signal``, ``model``, ``reported`` or ``res``.
        """
        return self.step < 2 or kind in KEPT_TOPICS

    def health_every(self, every: Span) -> Span:
        """How often ``health`` may be sent.

        Args:
            every: how often it is sent when bytes are no matter.
        """
        return every if self.step < 2 else Span(max(every, HOUR))

    def document(self) -> dict[str, int | None]:
        """``budget`` of ``health``."""
        return {"used": self.used, "limit": self.limit, "step": self.step}
