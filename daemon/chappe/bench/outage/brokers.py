"""What a broker loses after its PUBACK, and how the reference consumer gets it back from the device's history.

No outbox can prevent this loss: to the device the message is delivered. `broker_kill`: mosquitto with ``persistence true`` is killed and
started again; sessions and what waited in them since the last save are gone. `broker_queue`: into a mosquitto with the queue limits it comes
with (1,000 messages per subscriber), a backlog is drained at full speed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chappe.bench.outage.counter import Counter
from chappe.bench.outage.daemon import DEVICE, Daemon
from chappe.bench.outage.judge import Figures, messages
from chappe.bench.outage.plan import SECOND_NS, Plan, hold, now
from chappe.bench.outage.scratch import scratch_folder
from chappe.consumer import Consumer, Message
from chappe.edge.broker import LOOPBACK, LocalBroker
from chappe.errors import EdgeError

Numbers = set[tuple[str, int]]
"""(stream, seq): one boot, so that a number is a message."""

SCENARIOS = ("broker_kill", "broker_queue")
STREAMS = {"first": "first", "behind": "behind"}
FLOOD_HZ = 500
WORK_S = 0.0005
"""What the live subscriber does with each message: about one commit to a database."""
_DEFAULT_LIMITS = ("max_queued_messages 1000", "max_inflight_messages 20")
_CLOSED_WITHIN_S = 300.0
_IN_TIME_S = 60.0
_FLOOD_WITHIN_S = 120.0
_QUIET_S = 5.0
_BACK_S = 5.0
_MOMENT_S = 1.0


class Reader:
    """The reference consumer in a thread of its own; keeps what it was handed.

    Args:
        port: of the broker.
        state: its SQLite file.
        name: who it is.
    """

    def __init__(self, port: int, state: Path, name: str) -> None:
        self.got: Numbers = set()
        self.handed = 0
        self.latest = 0
        self._port = port
        self._state = state
        self._name = name
        self._consumer: Consumer | None = None
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self.recovered = 0
        self.questions = 0

    def _take(self, message: Message, _link: Any) -> None:
        with self._changed:
            self.handed += 1
            self.latest = now()
            self.got.add((message.stream, message.seq))
            self._changed.notify_all()

    def start(self) -> None:
        """Begin, or go on."""
        self._consumer = Consumer(
            LOOPBACK,
            self._port,
            handler=self._take,
            state=self._state,
            name=self._name,
            devices=DEVICE,
            receipts=(),
        )
        self._thread = threading.Thread(target=self._consumer.run, name="bench-consumer", daemon=True)
        self._thread.start()

    def wait_for(self, wanted: Numbers, within_s: float) -> bool:
        """Wait until it has all of these.

        Raises:
            EdgeError: if it has ended by itself.
        """
        deadline = now() + int(within_s * SECOND_NS)
        with self._changed:
            while not wanted <= self.got and now() < deadline:
                if self._thread is None or not self._thread.is_alive():
                    raise EdgeError("the reference consumer ended; what it said is above")
                self._changed.wait(1.0)
            return wanted <= self.got

    def stop(self) -> None:
        """Leave; its session and its state stay. Idempotent."""
        if self._consumer is not None and self._thread is not None:
            self._consumer.stop()
            self._thread.join(30)
            self.recovered += self._consumer.counts.recovered
            self.questions += self._consumer.counts.questions
            self._consumer = self._thread = None


@dataclass
class Stage:
    """Everything that runs; who is away has a session at the broker and no connection."""

    plan: Plan
    broker: LocalBroker
    daemon: Daemon
    live: Counter
    away: Counter
    reader: Reader
    reader_away: Reader


def broker_kill(stage: Stage) -> None:
    """SIGKILL for the broker in the middle of live traffic; it stays away for a while."""
    hold(stage.plan.clean_s)
    stage.broker.kill()
    hold(stage.plan.broker_gone_s)
    stage.broker.restart()
    hold(stage.plan.tail_s)


def broker_queue(stage: Stage) -> None:
    """The broker is stopped as it should be and keeps its sessions; when it is back, a backlog comes at full speed into short queues."""
    stage.broker.stop()
    begun = now()
    while len(_wanted(stage.daemon)) < stage.plan.flood and now() - begun < _FLOOD_WITHIN_S * SECOND_NS:
        hold(0.1)
    stage.daemon.unplug()
    stage.broker.restart()


def play(scenario: str, plan: Plan, seed: int, *, kernel: bool) -> list[Figures]:
    """One scenario; lines for the broker's own loss and for what the consumer made of it."""
    del kernel, seed  # the way to the broker is never touched, and nothing is drawn
    with _stage(scenario, plan) as stage:
        {"broker_kill": broker_kill, "broker_queue": broker_queue}[scenario](stage)
        stage.daemon.unplug()
        begun = now()
        queued = _drained(stage)
        return _figures(scenario, stage, queued, (now() - begun) / SECOND_NS)


@contextmanager
def _stage(scenario: str, plan: Plan) -> Iterator[Stage]:
    flood = scenario == "broker_queue"
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        (folder / "broker").mkdir()
        limits = _DEFAULT_LIMITS if flood else ()
        broker = stack.enter_context(LocalBroker(folder / "broker", kind="mosquitto", persistence=True, extra=limits))
        topics = f"chappe/{DEVICE}/stream/+"
        live = stack.enter_context(Counter(broker.port, topics, name="bench-live", work_s=WORK_S))
        away = Counter(broker.port, topics, name="bench-away")
        readers = [Reader(broker.port, folder / f"{name}.db", name) for name in ("live", "away")]
        daemon = Daemon(
            folder,
            folder / "state",
            LOOPBACK,
            broker.port,
            STREAMS,
            FLOOD_HZ if flood else plan.rate_hz,
            mqtt='drain_rate = "max"\n' if flood else "",
            each='history = "7d"\n',
        )
        stack.callback(daemon.close)
        daemon.open()
        stage = Stage(plan, broker, daemon, live, away, readers[0], readers[1])
        for reader in readers:
            reader.start()
            stack.callback(reader.stop)
        away.open()
        daemon.start()
        _everybody_there(stage)
        yield stage


def _everybody_there(stage: Stage) -> None:
    """Let each hear a first message, then send two of them away."""
    if not stage.live.wait_for(lambda arrivals: len(messages(arrivals)) > 0, _IN_TIME_S):
        raise EdgeError(f"nothing arrived: {stage.daemon.last_words()}")
    for reader in (stage.reader, stage.reader_away):
        begun = now()
        while not reader.got and now() - begun < _IN_TIME_S * SECOND_NS:
            hold(0.05)
    stage.reader_away.stop()
    stage.away.close()


def _drained(stage: Stage) -> dict[str, dict[str, int]]:
    """Wait until the daemon says that nothing waits; its books of each stream."""
    begun = now()
    while True:
        hold(0.25)
        books: dict[str, dict[str, int]] = stage.daemon.ask("health").get("streams", {})
        mine = {name: books.get(name, {}) for name in STREAMS}
        offered = {name: len(stage.daemon.offered(name)) for name in STREAMS}
        if all(mine[name].get("delivered", -1) >= offered[name] for name in STREAMS):
            return mine
        if now() - begun > _IN_TIME_S * SECOND_NS:
            return mine


def _figures(scenario: str, stage: Stage, books: dict[str, dict[str, int]], drained_s: float) -> list[Figures]:
    wanted = _wanted(stage.daemon)
    acked = sum(book.get("delivered", 0) for book in books.values())
    total = len(wanted)
    device = Figures(scenario, "Chappe to the broker", "1", total, acked, total - acked, drain_s=round(drained_s, 2))
    device.note = "accepted: PUBACKs in the daemon's books"
    stage.away.open()
    lines = [device]
    for who, counter in (
        (f"a live subscriber, {WORK_S * 1000:g} ms a message", stage.live),
        ("an away session", stage.away),
    ):
        counter.settle(lambda arrivals: wanted <= _pairs(arrivals), _QUIET_S)
        got = _pairs(counter.arrivals)
        lines.append(Figures(scenario, f"the broker to {who}", "1", total, acked, len(wanted - got)))
        lines[-1].repeats = len(messages(counter.arrivals)) - len(got)
    stage.away.close()
    stage.reader_away.start()
    _go_on(stage)
    begun = now()
    for who, reader in (("live", stage.reader), ("away", stage.reader_away)):
        lines.append(_closed(scenario, f"reference consumer, {who}", reader, _wanted(stage.daemon), begun))
    return lines


def _wanted(daemon: Daemon) -> Numbers:
    """Every number there is: one boot, and a number for each value."""
    return {(name, seq) for name in STREAMS for seq in range(1, len(daemon.offered(name)) + 1)}


def _go_on(stage: Stage) -> None:
    """A gap shows itself by the message behind it: once everybody is back, there is one more moment of traffic."""
    hold(_BACK_S)
    stage.daemon.unplug(False)
    hold(_MOMENT_S)
    stage.daemon.unplug()
    _drained(stage)


def _closed(scenario: str, subject: str, reader: Reader, wanted: Numbers, begun: int) -> Figures:
    reader.wait_for(wanted, _CLOSED_WITHIN_S)
    took = (max(begun, reader.latest) - begun) / SECOND_NS
    reader.stop()
    line = Figures(scenario, subject, "1", len(wanted), len(wanted), len(wanted - reader.got), drain_s=round(took, 1))
    line.repeats_after = reader.handed - len(reader.got)
    line.note = f"{reader.recovered} asked for by req/history, in {reader.questions} questions"
    return line


def _pairs(arrivals: Any) -> Numbers:
    return {(message.stream, message.seq) for message in messages(arrivals) if message.stream in STREAMS}
