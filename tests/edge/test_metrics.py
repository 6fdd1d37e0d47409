"""The file of figures: whole at every moment, told when it cannot be written, gone when nobody keeps it up to date."""

from __future__ import annotations

import os
import queue
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from chappe.core.effects import Announce, CloseCamera
from chappe.core.events import Event, Faulted, Healed
from chappe.edge.metrics import Metrics
from chappe.testing import ManualClock

WITHIN_S = float(os.environ.get("CHAPPE_PATIENCE_S", "20"))


def health(rss: int) -> Announce:
    return Announce(kind="health", data={"rss": rss})


class Bench:
    """The part without its thread: its steps are taken by the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock()
        self.events: list[Event] = []
        self.metrics = Metrics(path, self.clock, self.events.append)

    def write(self, rss: int) -> None:
        self.metrics.handle([health(rss)])
        assert self.metrics._step(self.clock.now()) is None


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "chappe.prom")


@pytest.mark.feature("OPS-04", breaks="chappe.edge.metrics:Metrics._step")
def test_each_health_document_becomes_the_file(bench: Bench) -> None:
    """Readable for the collector, which runs as somebody else; nothing else is left in its folder."""
    bench.write(5)
    bench.write(7)
    assert bench.path.read_text().splitlines()[-1] == "chappe_resident_memory_bytes 7"
    assert stat.S_IMODE(bench.path.stat().st_mode) == 0o644
    assert list(bench.path.parent.iterdir()) == [bench.path]
    assert bench.events == []


def test_of_several_documents_the_newest_is_written_and_other_effects_are_none_of_its_business(bench: Bench) -> None:
    bench.metrics.handle([CloseCamera(), Announce(kind="fault", data={"rss": 1})])
    bench.metrics._step(bench.clock.now())
    assert not bench.path.exists()
    bench.metrics.handle([health(1), CloseCamera(), health(2)])
    bench.metrics._step(bench.clock.now())
    assert "bytes 2\n" in bench.path.read_text()


def test_a_reader_never_sees_half_of_it(bench: Bench) -> None:
    """The old file stays readable while the new one takes its place: another inode, not the same one written anew."""
    bench.write(5)
    with bench.path.open() as reader:
        before = bench.path.stat().st_ino
        bench.write(7)
        assert "bytes 5\n" in reader.read()
    assert bench.path.stat().st_ino != before


@pytest.mark.feature("OPS-04", breaks="chappe.edge.metrics:Metrics._write")
def test_a_file_that_cannot_be_written_is_a_fault_until_it_can(tmp_path: Path) -> None:
    """Where it is and why; the next document tries again."""
    bench = Bench(tmp_path / "nowhere" / "chappe.prom")
    bench.write(1)
    [fault] = bench.events
    assert isinstance(fault, Faulted)
    assert (fault.part, fault.code) == ("metrics", "metrics_failed")
    assert "chappe.prom: No such file" in fault.message
    bench.path.parent.mkdir()
    bench.write(2)
    assert bench.events[1:] == [Healed(at=bench.clock.now(), part="metrics", code="metrics_failed")]
    assert "bytes 2\n" in bench.path.read_text()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[Metrics, queue.SimpleQueue[Event]]]:
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    metrics = Metrics(tmp_path / "missing" / "chappe.prom", ManualClock(), events.put)
    metrics.open()
    yield metrics, events
    metrics.close()


def test_its_own_thread_does_the_writing(opened: tuple[Metrics, queue.SimpleQueue[Event]]) -> None:
    """The main loop only hands the document over."""
    metrics, events = opened
    metrics.handle([health(1)])
    assert isinstance(events.get(timeout=WITHIN_S), Faulted)


def test_a_stop_takes_the_file_away(bench: Bench) -> None:
    """Figures of a daemon that is gone would pass for those of one that is well; also twice, also without a file."""
    bench.metrics.close()
    bench.write(1)
    bench.metrics.close()
    assert not bench.path.exists()
    bench.metrics.close()
