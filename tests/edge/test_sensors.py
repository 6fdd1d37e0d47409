"""The sensors edge: one thread per driver, readings that hang, fail or are no readings."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chappe.core.effects import Drive, ReadSensors
from chappe.core.events import Event, Faulted, SensorFailed, SensorRead
from chappe.core.settings import Sensor
from chappe.core.units import MILLISECOND, SECOND, Ns, Span, WallNs
from chappe.edge import sensors as edge_module
from chappe.edge.sensors import Sensors
from chappe.edge.sensors.lane import MOST_LEFT_BEHIND
from chappe.edge.worker import BUGS_BEFORE_OFF
from chappe.errors import PlugInError, SensorError

PATIENCE_S = 20.0


def eventually(true: Callable[[], bool]) -> None:
    """Wait for what no event announces."""
    pause, deadline = threading.Event(), time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        pause.wait(0.001)


class ManualClock:
    def __init__(self) -> None:
        self.at = 0

    def now(self) -> Ns:
        return Ns(self.at)

    def wall(self) -> WallNs:
        return WallNs(self.at)


class Heard(list[Event]):
    """What an edge has posted; waits for more with a deadline."""

    def __init__(self) -> None:
        super().__init__()
        self._more = threading.Condition()

    def post(self, event: Event) -> None:
        with self._more:
            self.append(event)
            self._more.notify_all()

    def until(self, count: int) -> list[Event]:
        with self._more:
            assert self._more.wait_for(lambda: len(self) >= count, PATIENCE_S), list(self)
            return list(self)


class Rig:
    """A driver whose every reading a test decides about, and the books of its instances."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[], Any]] = {}
        self.gates: dict[str, threading.Event] = {}
        self.begun: dict[str, threading.Event] = {}
        self.opened: Counter[str] = Counter()
        self.closed: Counter[str] = Counter()
        self.threads: set[threading.Thread] = set()
        self.closing = threading.Condition()

    def hang(self, name: str) -> None:
        """From now on a reading of `name` does not return before `free`."""
        self.gates[name] = threading.Event()
        self.begun[name] = threading.Event()

    def free(self, name: str) -> None:
        self.gates.pop(name).set()

    def wait_begun(self, name: str) -> None:
        assert self.begun[name].wait(PATIENCE_S)

    def wait_closed(self, name: str, count: int) -> None:
        with self.closing:
            assert self.closing.wait_for(lambda: self.closed[name] >= count, PATIENCE_S)

    def find(self, _name: str) -> Callable[[], Any]:
        return lambda: Instance(self)


class Instance:
    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.name = ""

    def open(self, sensor: Sensor) -> None:
        self.name = sensor.path
        self.rig.opened[self.name] += 1

    def read(self) -> Any:
        rig = self.rig
        rig.threads.add(threading.current_thread())
        gate = rig.gates.get(self.name)
        if gate is not None:
            rig.begun[self.name].set()
            assert gate.wait(PATIENCE_S)
        return rig.answers.get(self.name, lambda: 1)()

    def close(self) -> None:
        with self.rig.closing:
            self.rig.closed[self.name] += 1
            self.rig.closing.notify_all()


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.heard = Heard()
        self.rig = Rig()
        self.edge: Sensors | None = None

    def start(self, **drivers: tuple[str, ...]) -> Sensors:
        """Start the edge with these sensors by driver."""
        configured = {
            name: Sensor(driver=driver, path=name, timeout=Span(5 * SECOND))
            for driver, names in drivers.items()
            for name in names
        }
        self.edge = Sensors(configured, clock=self.clock, post=self.heard.post, find=self.rig.find)
        self.edge.open()
        return self.edge

    def ask(self, *names: str) -> None:
        assert self.edge is not None
        self.edge.handle([ReadSensors(names=names)])

    def read(self, *names: str) -> list[Event]:
        """Ask, and wait for as many answers."""
        before = len(self.heard)
        self.ask(*names)
        return self.heard.until(before + len(names))[before:]

    def time_out(self, name: str) -> None:
        """Let a reading of `name` hang until it is given up."""
        assert self.edge is not None
        self.rig.hang(name)
        self.ask(name)
        self.rig.wait_begun(name)
        self.clock.at += 5 * SECOND
        self.edge.check(self.clock.now())

    def use_up(self) -> None:
        """Let the reading of ``a``, which has a bug, fail until the driver is left off."""
        for _ in range(BUGS_BEFORE_OFF):
            self.hit_bug()
        self.wait_off()

    def hit_bug(self) -> None:
        """Read ``a``, which has a bug; the fault is told a moment before the lane is ready again."""
        assert self.edge is not None
        self.read("a")
        lane = self.edge._lane_of["a"]
        eventually(lambda: not lane._asked)

    def wait_off(self) -> None:
        assert self.edge is not None
        reader = self.edge._lane_of["a"]._reader
        assert reader is not None
        eventually(lambda: not reader.able)

    def stop(self) -> None:
        for gate in self.rig.gates.values():
            gate.set()
        if self.edge is not None:
            self.edge.close()
        for thread in self.rig.threads:
            thread.join(PATIENCE_S)


@pytest.fixture
def bench() -> Iterator[Bench]:
    one = Bench()
    yield one
    one.stop()


# ── readings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("SEN-01", breaks="chappe.edge.sensors:Sensors.handle")
def test_a_sensor_is_read_when_the_engine_says_so(bench: Bench) -> None:
    """Each effect gives one raw reading with the time at which it was taken."""
    bench.start(rig=("warmth",))
    bench.rig.answers["warmth"] = lambda: 21.5
    bench.clock.at = 7 * SECOND
    assert bench.read("warmth") == [SensorRead(at=Ns(7 * SECOND), name="warmth", value=21.5)]


@pytest.mark.parametrize("value", [0, -5, 2.5, "open", "", True, False])
def test_every_kind_of_value_arrives_raw(bench: Bench, value: object) -> None:
    """Numbers, text and truth values pass as the driver gave them; calibration is the core's."""
    bench.start(rig=("thing",))
    bench.rig.answers["thing"] = lambda: value
    (event,) = bench.read("thing")
    assert isinstance(event, SensorRead)
    assert (event.value, type(event.value)) == (value, type(value))


def test_a_subclass_of_float_becomes_a_plain_float(bench: Bench) -> None:
    """A number of some library's own kind can still be recorded and sent."""
    bench.start(rig=("thing",))
    bench.rig.answers["thing"] = lambda: type("Fancy", (float,), {})(1.5)
    (event,) = bench.read("thing")
    assert isinstance(event, SensorRead)
    assert type(event.value) is float


def test_an_instance_serves_many_readings(bench: Bench) -> None:
    """A sensor is opened by its first reading and stays open."""
    bench.start(rig=("a", "b"))
    for _ in range(3):
        bench.read("a", "b")
    assert bench.rig.opened == {"a": 1, "b": 1}
    assert not bench.rig.closed


def test_readings_keep_the_order_in_which_they_were_asked_for(bench: Bench) -> None:
    """Sensors of one driver take their turns."""
    bench.start(rig=("a", "b", "c"))
    assert [event.name for event in bench.read("c", "a", "b") if isinstance(event, SensorRead)] == ["c", "a", "b"]


def test_each_driver_has_one_named_thread(bench: Bench) -> None:
    """Ten sensors on two drivers are two threads."""
    bench.start(one=tuple("abcde"), two=tuple("fghij"))
    bench.read(*"abcdefghij")
    assert sorted(thread.name for thread in bench.rig.threads) == ["sensors-one", "sensors-two"]


def test_a_sensor_that_is_not_configured_is_counted(bench: Bench) -> None:
    """An effect for an unknown sensor harms nobody and is not lost from the books."""
    edge = bench.start(rig=("a",))
    bench.ask("b", "c")
    assert edge.unknown == 2
    assert bench.read("a")


def test_other_effects_are_no_concern(bench: Bench) -> None:
    """What is for the pins is left alone."""
    edge = bench.start(rig=("a",))
    edge.handle([Drive(pin="status", level=1.0)])
    assert edge.counts() == {"rig": {}}


def test_every_driver_is_told_where_sys_is(bench: Bench) -> None:
    """The injected root reaches the driver as an option; the owner's own options stay."""
    seen: list[dict[str, Any]] = []

    class Curious(Instance):
        def open(self, sensor: Sensor) -> None:
            seen.append(dict(sensor.options))

    sensor = Sensor(driver="curious", options={"port": 3})
    edge = Sensors({"a": sensor}, clock=bench.clock, post=bench.heard.post, find=lambda _: lambda: Curious(bench.rig))
    bench.edge = edge
    edge.open()
    bench.read("a")
    assert seen == [{"root": "/sys", "port": 3}]


def test_a_sensor_still_being_read_is_not_queued_twice(bench: Bench) -> None:
    """Requests that come faster than readings are counted, not piled up."""
    edge = bench.start(rig=("slow",))
    bench.rig.hang("slow")
    bench.ask("slow")
    bench.rig.wait_begun("slow")
    for _ in range(10):
        bench.ask("slow")
    bench.rig.free("slow")
    bench.heard.until(1)
    assert bench.read("slow")
    assert edge.counts() == {"rig": {"repeat": 10, "read": 2}}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30))
def test_every_request_is_in_the_books_once(script: list[tuple[str, bool]]) -> None:
    """Asked = read + failed + repeated, whatever fails and whoever is faster."""
    bench = Bench()
    edge = bench.start(rig=("a", "b", "c"))
    broken = Counter(name for name, fails in script if fails)

    def answer(name: str) -> Callable[[], int]:
        def doing() -> int:
            if broken[name]:
                broken[name] -= 1
                raise OSError(5, "Input/output error")
            return 1

        return doing

    bench.rig.answers = {name: answer(name) for name in "abc"}
    for name, _ in script:
        bench.ask(name)
    told = Counter(
        type(event).__name__ for event in bench.heard.until(len(script) - edge.counts()["rig"].get("repeat", 0))
    )
    counts = Counter(edge.counts()["rig"])
    edge.close()
    assert counts["read"] == told["SensorRead"]
    assert counts["failed"] == told["SensorFailed"]
    assert counts.total() == len(script)


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def raising(error: Exception) -> Callable[[], Any]:
    def doing() -> Any:
        raise error

    return doing


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(5, "Input/output error"), "sensor_failed", "Input/output error"),
        (ValueError("bad checksum"), "sensor_failed", "ValueError: bad checksum"),
        (SensorError("wire cut", remedy="solder it"), "sensor_failed", "wire cut (solder it)"),
        (SensorError("nobody there", code="sensor_missing"), "sensor_missing", "nobody there"),
        (SensorError("odd", code="cable_chewed"), "sensor_failed", "odd"),
    ],
)
def test_a_failed_reading_is_told_with_its_code(bench: Bench, error: Exception, code: str, message: str) -> None:
    """No value is invented; the fault has one of the known codes, and the driver's own words."""
    bench.start(rig=("a",))
    bench.rig.answers["a"] = raising(error)
    (event,) = bench.read("a")
    assert isinstance(event, SensorFailed)
    assert (event.name, event.code) == ("a", code)
    assert message in event.message


def test_a_sensor_that_failed_is_opened_anew(bench: Bench) -> None:
    """After a failure the instance is closed, and the next reading starts with a fresh one."""
    bench.start(rig=("a",))
    bench.rig.answers["a"] = raising(OSError("gone"))
    bench.read("a")
    assert (bench.rig.opened["a"], bench.rig.closed["a"]) == (1, 1)
    del bench.rig.answers["a"]
    (event,) = bench.read("a")
    assert isinstance(event, SensorRead)
    assert (bench.rig.opened["a"], bench.rig.closed["a"]) == (2, 1)


def test_one_sensor_that_fails_does_not_disturb_another(bench: Bench) -> None:
    """Two sensors of one driver are two instances."""
    bench.start(rig=("a", "b"))
    bench.rig.answers["a"] = raising(OSError("gone"))
    first, second = bench.read("a", "b")
    assert isinstance(first, SensorFailed)
    assert isinstance(second, SensorRead)


def test_an_unknown_driver_is_a_missing_sensor_and_looked_for_once(bench: Bench) -> None:
    """The others go on; the installed packages are not searched again at each reading."""
    searches: list[str] = []

    def find(name: str) -> Any:
        searches.append(name)
        if name == "nobody":
            raise PlugInError("there is no sensor driver 'nobody'", code="sensor_missing", retriable=False)
        return bench.rig.find(name)

    configured = {name: Sensor(driver=driver, path=name) for name, driver in (("a", "nobody"), ("b", "rig"))}
    bench.edge = Sensors(configured, clock=bench.clock, post=bench.heard.post, find=find)
    bench.edge.open()
    events = [*bench.read("a"), *bench.read("b"), *bench.read("a")]
    assert [getattr(event, "code", "") for event in events] == ["sensor_missing", "", "sensor_missing"]
    assert sorted(searches) == ["nobody", "rig"]


def test_a_bug_of_a_driver_is_a_fault_and_the_lane_goes_on(bench: Bench) -> None:
    """What a driver must not raise is told as its bug; its other sensors are read on."""
    bench.start(rig=("a", "b"))
    bench.rig.answers["a"] = raising(ZeroDivisionError("division by zero"))
    (event,) = bench.read("a")
    assert isinstance(event, Faulted)
    assert (event.part, event.code) == ("sensors-rig", "sensors-rig_bug")
    assert "ZeroDivisionError" in event.message
    assert bench.rig.closed["a"] == 1
    (event,) = bench.read("b")
    assert isinstance(event, SensorRead)


def test_the_third_bug_in_a_minute_leaves_the_driver_off(bench: Bench) -> None:
    """A driver that fails faster than it works is left off; requests for it are counted."""
    edge = bench.start(rig=("a",))
    bench.rig.answers["a"] = raising(RuntimeError("again"))
    bench.use_up()
    bench.ask("a")
    assert edge.counts()["rig"]["refused"] == 1
    assert edge.check(Ns(100 * SECOND)) is None
    assert len(bench.heard) == 3


def test_what_waits_for_a_driver_that_is_left_off_is_refused(bench: Bench) -> None:
    """A queue nobody will serve is emptied and counted, so that the main loop is not kept awake by it."""
    edge = bench.start(rig=("a", "b"))
    bench.rig.answers["a"] = raising(RuntimeError("again"))
    bench.hit_bug()
    bench.hit_bug()
    bench.rig.hang("a")
    bench.ask("a", "b")
    bench.rig.wait_begun("a")
    bench.rig.free("a")
    bench.wait_off()
    assert edge.check(Ns(SECOND)) is None
    assert edge.counts()["rig"] == {"refused": 1}
    assert len(bench.heard) == 3


# ── readings that hang ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("SEN-03", breaks="chappe.edge.sensors:Sensors.check")
def test_a_driver_that_blocks_is_a_fault_at_five_seconds(bench: Bench) -> None:
    """Not a nanosecond before, at 5.0 s, and only once; the other driver is read meanwhile."""
    edge = bench.start(stuck=("a",), quick=("b",))
    bench.rig.hang("a")
    bench.ask("a")
    bench.rig.wait_begun("a")
    for second in range(1, 5):
        bench.clock.at = second * SECOND
        assert bench.read("b") == [SensorRead(at=Ns(second * SECOND), name="b", value=1)]
    assert edge.check(Ns(5 * SECOND - 1)) == 5 * SECOND
    assert len(bench.heard) == 4
    bench.clock.at = 5 * SECOND
    assert edge.check(Ns(5 * SECOND)) is None
    timeout = SensorFailed(at=Ns(5 * SECOND), name="a", code="sensor_timeout", message="no answer within 5 s")
    assert bench.heard[4:] == [timeout]
    for second in range(6, 61):
        edge.check(Ns(second * SECOND))
    assert bench.heard[5:] == []


def test_a_sensor_that_opens_for_ever_times_out_too(bench: Bench) -> None:
    """Opening is part of the first reading."""
    gate = threading.Event()
    begun = threading.Event()

    class Slow(Instance):
        def open(self, sensor: Sensor) -> None:
            begun.set()
            assert gate.wait(PATIENCE_S)
            super().open(sensor)

    edge = Sensors(
        {"a": Sensor(driver="slow", path="a")},
        clock=bench.clock,
        post=bench.heard.post,
        find=lambda _: lambda: Slow(bench.rig),
    )
    bench.edge = edge
    edge.open()
    bench.ask("a")
    assert begun.wait(PATIENCE_S)
    edge.check(Ns(5 * SECOND))
    gate.set()
    bench.rig.wait_closed("a", 1)
    assert [getattr(event, "code", "") for event in bench.heard] == ["sensor_timeout"]


def test_the_other_sensors_of_a_driver_that_hangs_go_on(bench: Bench) -> None:
    """A new thread takes over, with the instances that are already open."""
    bench.start(rig=("a", "b"))
    bench.read("b")
    bench.time_out("a")
    (event,) = bench.read("b")[-1:]
    assert isinstance(event, SensorRead)
    assert bench.rig.opened["b"] == 1
    assert len(bench.rig.threads) == 2


def test_what_waited_behind_a_reading_that_hangs_is_read_after_it_is_given_up(bench: Bench) -> None:
    """The queue passes to the new thread."""
    edge = bench.start(rig=("a", "b"))
    bench.rig.hang("a")
    bench.ask("a", "b")
    bench.rig.wait_begun("a")
    bench.clock.at = 5 * SECOND
    edge.check(bench.clock.now())
    kinds = {type(event).__name__: event for event in bench.heard.until(2)}
    assert kinds["SensorFailed"].name == "a"  # type: ignore[attr-defined]
    assert kinds["SensorRead"].name == "b"  # type: ignore[attr-defined]


def test_a_sensor_that_hangs_is_left_alone_until_it_returns(bench: Bench) -> None:
    """It is not asked again meanwhile, its late value is not published, and then it starts afresh."""
    edge = bench.start(rig=("a",))
    bench.time_out("a")
    bench.ask("a")
    bench.ask("a")
    assert edge.counts()["rig"] == {"timeout": 1, "repeat": 2}
    bench.rig.free("a")
    bench.rig.wait_closed("a", 1)
    assert len(bench.heard) == 1
    bench.clock.at = 70 * SECOND
    assert bench.read("a") == [SensorRead(at=Ns(70 * SECOND), name="a", value=1)]
    assert edge.counts()["rig"] == {"timeout": 1, "repeat": 2, "late": 1, "read": 1}
    assert bench.rig.opened["a"] == 2


def test_threads_left_behind_are_bounded(bench: Bench) -> None:
    """After three the driver gets no more; its other sensors fail, and are not asked, until one call returns."""
    edge = bench.start(rig=("a", "b", "c", "d"))
    bench.read("d")
    for name in "abc":
        bench.time_out(name)
    assert len(bench.rig.threads) == MOST_LEFT_BEHIND
    failed = [(event.name, event.message) for event in bench.heard if isinstance(event, SensorFailed)]
    assert [name for name, _ in failed] == ["a", "b", "c", "d"]
    assert failed[-1][1] == "the driver rig hangs in a, b, c"
    bench.ask("d")
    assert edge.counts()["rig"]["refused"] == 1
    assert edge.check(Ns(100 * SECOND)) is None
    bench.rig.free("b")
    bench.rig.wait_closed("b", 1)
    (event,) = bench.read("d")
    assert isinstance(event, SensorRead)


def test_check_says_when_it_has_to_be_called_again(bench: Bench) -> None:
    """Never too late for the next timeout, and never for nothing."""
    edge = bench.start(one=("a",), two=("b",))
    assert edge.check(Ns(0)) is None
    bench.rig.hang("a")
    bench.rig.hang("b")
    bench.clock.at = 10 * MILLISECOND
    bench.ask("a")
    bench.rig.wait_begun("a")
    bench.clock.at = 30 * MILLISECOND
    bench.ask("b")
    bench.rig.wait_begun("b")
    assert edge.check(bench.clock.now()) == 5010 * MILLISECOND
    assert edge.check(Ns(5010 * MILLISECOND)) == 5030 * MILLISECOND
    assert edge.check(Ns(5030 * MILLISECOND)) is None


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_close_closes_every_sensor_and_ends_the_threads(bench: Bench) -> None:
    """Nothing is left open, nothing runs, and closing twice is no error."""
    edge = bench.start(one=("a", "b"), two=("c",))
    bench.read("a", "b", "c")
    edge.close()
    edge.close()
    assert bench.rig.closed == {"a": 1, "b": 1, "c": 1}
    assert not any(thread.is_alive() for thread in bench.rig.threads)


def test_an_edge_that_never_opened_can_be_closed(bench: Bench) -> None:
    """`close` asks for nothing."""
    edge = Sensors({"a": Sensor(driver="rig")}, clock=bench.clock, post=bench.heard.post, find=bench.rig.find)
    edge.close()
    edge.handle([ReadSensors(names=("a",))])
    assert edge.unknown == 1


def test_close_leaves_a_thread_that_hangs_behind(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon can stop although a driver does not return; what comes later is not published."""
    monkeypatch.setattr(edge_module, "PATIENCE_S", 0.01)
    edge = bench.start(rig=("a",))
    bench.rig.hang("a")
    bench.ask("a")
    bench.rig.wait_begun("a")
    edge.close()
    bench.rig.free("a")
    bench.rig.wait_closed("a", 1)
    assert bench.heard == []


def test_close_also_closes_what_a_driver_that_was_left_off_had_open(bench: Bench) -> None:
    """Even with no thread left every instance is closed."""
    edge = bench.start(rig=("a", "b"))
    bench.read("b")
    bench.rig.answers["a"] = raising(RuntimeError("again"))
    bench.use_up()
    edge.close()
    assert bench.rig.closed == {"a": 3, "b": 1}
