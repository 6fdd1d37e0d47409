"""What every scenario shares: its times, its load, and a way to wait that is no sleep."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class Plan:
    """Times and load of one scenario.

    Attributes:
        rate_hz: messages offered per second, over all streams.
        clean_s: traffic before the fault.
        outage_s: how long the link is gone.
        tail_s: traffic after the recovery.
        silence_s: how long nothing has to arrive before what is missing counts as lost. A bridge may need 13 s to come back: a wait of 12 s
            once made a loss of everything out of a slow reconnect.
        broker_gone_s: how long a killed broker stays away.
        flood: messages behind an outage that are drained at full speed into a broker with its default limits.
    """

    rate_hz: int = 200
    clean_s: float = 5.0
    outage_s: float = 20.0
    tail_s: float = 10.0
    silence_s: float = 45.0
    broker_gone_s: float = 5.0
    flood: int = 12_000


FULL = Plan()
QUICK = Plan(clean_s=1.0, outage_s=2.0, tail_s=1.0, silence_s=10.0, broker_gone_s=1.0, flood=2_000)


def now() -> int:
    """Nanoseconds on the clock that the daemon stamps its values with."""
    return time.monotonic_ns()


def hold(seconds: float) -> None:
    """Let the world go on for so long."""
    threading.Event().wait(seconds)
