"""When to try again: once a second for a minute, then ever less often, never giving up."""

from __future__ import annotations

import random

from chappe.core.units import MINUTE, Ns, seconds

PATIENCE: Ns = Ns(MINUTE)
FIRST_S = 1.0
LONGEST_S = 30.0
SPREAD = 0.5


class Backoff:
    """The waits between attempts to connect: 1 s for the first minute, then doubling up to 30 s, each ±50 %.

    Libraries such as stamina and tenacity wrap a call and sleep between its repetitions. Here nothing may sleep: the wait is one
    deadline among others of a selector that must also wake for a shutdown, so all that is needed of them is this sequence.

    Args:
        jitter: spreads the waits, so that a hall of devices does not come back in the same instant.
    """

    def __init__(self, jitter: random.Random) -> None:
        self._jitter = jitter
        self._since: Ns | None = None
        self._base_s = FIRST_S

    def wait(self, now: Ns) -> Ns:
        """How long to wait after the failure at `now`."""
        if self._since is None:
            self._since = now
        elif now - self._since >= PATIENCE:
            self._base_s = min(2 * self._base_s, LONGEST_S)
        return seconds(self._base_s * self._jitter.uniform(1 - SPREAD, 1 + SPREAD))

    def reset(self) -> None:
        """The link is up: the next failure starts a new row."""
        self._since = None
        self._base_s = FIRST_S
