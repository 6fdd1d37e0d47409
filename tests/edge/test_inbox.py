"""The door into the engine: two lanes, one order, bounded where it may be, and honest about what it turned away."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.core.events import (
    Ack,
    Acked,
    Asked,
    ButtonEdge,
    Event,
    Faulted,
    FramesCaptured,
    Overloaded,
    Seen,
    SensorRead,
    StopRequested,
)
from chappe.core.units import SECOND, Ns
from chappe.edge.host import SystemClock
from chappe.edge.inbox import Inbox, stream_of
from chappe.testing import ManualClock

NOW = Ns(0)

CONTROL = (
    ButtonEdge(at=NOW, button="main", down=True),
    Faulted(at=NOW, part="camera", code="camera_failed"),
    Acked(at=NOW, items=(Ack(1, 0),)),
    Asked(at=NOW, verb="status", body=b"", via="mqtt"),
    StopRequested(at=NOW),
)


def reading(number: int, name: str = "tick") -> SensorRead:
    return SensorRead(at=Ns(number), name=name, value=number)


def seen(number: int) -> Seen:
    return Seen(at=Ns(number), frame=number, frame_at=Ns(number), took=Ns(1))


def pulse(number: int) -> FramesCaptured:
    return FramesCaptured(at=Ns(number), frames=number, skipped=0, last_at=Ns(number))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_events_come_out_in_the_order_in_which_they_came_in(clock: ManualClock) -> None:
    """Whatever their lane: a button pressed before a reading is handled before it."""
    inbox = Inbox(clock)
    events: list[Event] = [reading(1), CONTROL[0], seen(2), CONTROL[1], pulse(3), reading(4)]
    inbox.put(events[0])
    inbox.put_many(events[1:4])
    inbox.put_many(events[4:])
    assert inbox.drain(clock.now()) == events
    assert inbox.drain(clock.now()) == []


def test_the_data_lane_is_bounded_and_says_what_it_turned_away(clock: ManualClock) -> None:
    """The newest values go, by stream; the count comes last in the same batch, with the time of the draining."""
    inbox = Inbox(clock, limit=3)
    for number in range(5):
        inbox.put(reading(number))
    inbox.put_many([reading(5, "door"), seen(6)])
    clock.advance(2)
    assert inbox.drain(clock.now()) == [
        *(reading(number) for number in range(3)),
        Overloaded(at=Ns(2 * SECOND), stream="tick", n=2),
        Overloaded(at=Ns(2 * SECOND), stream="door", n=1),
        Overloaded(at=Ns(2 * SECOND), stream="gesture", n=1),
    ]


def test_once_drained_there_is_room_again(clock: ManualClock) -> None:
    """And a loss is told once."""
    inbox = Inbox(clock, limit=1)
    inbox.put_many([reading(1), reading(2)])
    assert len(inbox.drain(clock.now())) == 2
    inbox.put(reading(3))
    assert inbox.drain(clock.now()) == [reading(3)]


@pytest.mark.parametrize("event", CONTROL, ids=lambda event: type(event).__name__)
def test_control_is_never_turned_away(clock: ManualClock, event: Event) -> None:
    """However full the data lane is, and however many there are."""
    inbox = Inbox(clock, limit=1)
    inbox.put_many([reading(1), reading(2)])
    inbox.put_many([event] * 10_000)
    drained = inbox.drain(clock.now())
    assert drained.count(event) == 10_000


def test_what_is_only_a_pulse_feeds_no_stream() -> None:
    """Readings feed the stream of their sensor, detections `gesture`, totals of the camera none."""
    assert [stream_of(event) for event in (reading(1, "door"), seen(1), pulse(1))] == ["door", "gesture", ""]


@given(
    st.lists(st.one_of(st.sampled_from(CONTROL), st.builds(reading, st.integers(0, 99), st.sampled_from(("a", "b"))))),
    st.integers(1, 5),
)
def test_nothing_is_lost_without_being_counted(events: list[Event], limit: int) -> None:
    """Per stream: let in plus told as overloaded is what was put; control and order are kept."""
    clock = ManualClock()
    inbox = Inbox(clock, limit)
    inbox.put_many(events)
    drained = inbox.drain(clock.now())
    told = Counter({event.stream: event.n for event in drained if isinstance(event, Overloaded)})
    passed = [event for event in drained if not isinstance(event, Overloaded)]
    data = [event for event in passed if isinstance(event, SensorRead)]
    assert len(data) <= limit
    assert [event for event in passed if event in CONTROL] == [event for event in events if event in CONTROL]
    put = Counter(event.name for event in events if isinstance(event, SensorRead))
    assert Counter(event.name for event in data) + told == put
    remaining = iter(events)
    assert all(event in remaining for event in passed), "the order has changed"


def test_draining_waits_for_the_first_event() -> None:
    """The main thread sleeps until another thread has something for it."""
    inbox = Inbox(SystemClock())
    got: list[list[Event]] = []
    waiter = threading.Thread(target=lambda: got.append(inbox.drain(None)))
    waiter.start()
    inbox.put(CONTROL[0])
    waiter.join(20)
    assert not waiter.is_alive()
    assert got == [[CONTROL[0]]]


def test_draining_does_not_wait_beyond_the_deadline() -> None:
    """A timer of the engine is due although nothing happens; one that is over waits not at all."""
    clock = SystemClock()
    inbox = Inbox(clock)
    deadline = Ns(clock.now() + SECOND // 50)
    assert inbox.drain(deadline) == []
    assert clock.now() >= deadline
    assert inbox.drain(Ns(0)) == []


def test_many_threads_lose_nothing() -> None:
    """Four writers, one reader that drains meanwhile: every control event arrives, in each writer's own order."""
    inbox, each = Inbox(SystemClock(), limit=10), 2_000
    names = [f"writer-{number}" for number in range(4)]

    def write(name: str) -> None:
        for number in range(each):
            inbox.put(Faulted(at=Ns(number), part=name, code="x"))
            inbox.put(reading(number, name))

    threads = [threading.Thread(target=write, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    drained: list[Event] = []
    while any(thread.is_alive() for thread in threads):
        drained += inbox.drain(Ns(0))
    drained += inbox.drain(Ns(0))
    for name in names:
        assert [event.at for event in drained if isinstance(event, Faulted) and event.part == name] == list(range(each))
        read = sum(isinstance(event, SensorRead) and event.name == name for event in drained)
        dropped = sum(event.n for event in drained if isinstance(event, Overloaded) and event.stream == name)
        assert read + dropped == each
