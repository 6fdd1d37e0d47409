"""The one door into the engine: a bounded queue of events with two lanes.

The *control* lane (links, acknowledgements, requests, buttons, faults) is never dropped. The *data* lane (sensor readings,
detections, camera pulses) is bounded: when the engine cannot keep up, the newest value is turned away at the door, counted under
its stream, and the count goes in as `Overloaded`, so that even this loss is disclosed.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable

from chappe.core.events import Event, FramesCaptured, Overloaded, Seen, SensorRead
from chappe.core.units import SECOND, Ns
from chappe.edge.host import Clock

DATA = (SensorRead, Seen, FramesCaptured)


class Inbox:
    """A thread-safe queue from every edge to the main thread.

    Args:
        clock: stamps `Overloaded`.
        limit: most data events that may wait.
    """

    def __init__(self, clock: Clock, limit: int = 4096) -> None:
        self._clock = clock
        self._limit = limit
        self._queue: deque[Event] = deque()
        self._data = 0
        self._dropped: Counter[str] = Counter()
        self._ready = threading.Condition()

    def put(self, event: Event) -> None:
        """Let one event in; never blocks."""
        with self._ready:
            self._admit(event)
            self._ready.notify()

    def put_many(self, events: Iterable[Event]) -> None:
        """Let a batch in with one wake-up; never blocks."""
        with self._ready:
            for event in events:
                self._admit(event)
            self._ready.notify()

    def _admit(self, event: Event) -> None:
        if isinstance(event, DATA):
            if self._data >= self._limit:
                self._dropped[stream_of(event)] += 1
                return
            self._data += 1
        self._queue.append(event)

    def drain(self, until: Ns | None) -> list[Event]:
        """Everything that waits, in order of arrival; waits for the first event, but not beyond `until` (None: for ever)."""
        with self._ready:
            if not self._queue:
                timeout = None if until is None else max(0.0, (until - self._clock.now()) / SECOND)
                self._ready.wait(timeout)
            # One exchange: a signal handler in this very thread may put an event between two statements.
            events, self._queue = self._queue, deque()
            self._data = 0
            dropped, self._dropped = self._dropped, Counter()
        now = self._clock.now()
        return [*events, *(Overloaded(at=now, stream=stream, n=n) for stream, n in dropped.items())]


def stream_of(event: Event) -> str:
    """Name of the stream a data event would have fed; detections feed ``gesture``, pulses feed none."""
    if isinstance(event, SensorRead):
        return event.name
    return "gesture" if isinstance(event, Seen) else ""
