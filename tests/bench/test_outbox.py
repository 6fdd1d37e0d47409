"""`chappe bench outbox`: every figure is taken from the real daemon on a real broker, and from messages that arrived. Small here: no figure is
judged, only that it is one.
"""

from __future__ import annotations

import json
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chappe.bench import outbox
from chappe.bench.outage.disk import can_cut
from chappe.bench.outbox import begin, children, rates, wear
from chappe.bench.outbox.device import Plan
from chappe.bench.outbox.figures import Figure
from chappe.bench.outbox.listener import Listener
from chappe.bench.outbox.raw import Raw
from chappe.bench.outbox.setting import SIZE, TOPIC, WINDOW, configuration
from chappe.cli import run
from chappe.edge.broker import LocalBroker, find_mosquitto
from chappe.errors import EdgeError

needs_mosquitto = pytest.mark.skipif(not find_mosquitto(), reason="mosquitto is not installed")
nightly = pytest.mark.skipif(not os.environ.get("NIGHTLY"), reason="takes minutes: only when NIGHTLY is set")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path_factory.mktemp("broker"), kind="mosquitto") as broker:
        yield broker


@pytest.fixture
def listening(broker: LocalBroker) -> Iterator[Listener]:
    with Listener(broker.port, TOPIC) as listener:
        yield listener


def payloads(listener: Listener) -> list[dict[str, Any]]:
    return sorted((json.loads(payload) for payload in listener._seen), key=lambda message: message["seq"])


# ── the raw side ─────────────────────────────────────────────────────────────────────────────────────────────────────


@needs_mosquitto
def test_the_raw_side_publishes_what_it_says(broker: LocalBroker, listening: Listener) -> None:
    taken = Raw(broker.port, TOPIC, 150, WINDOW).run()
    assert listening.wait(150, 20.0)
    assert listening.distinct == listening.count == 150
    assert {len(payload) for payload in listening._seen} == {SIZE}
    assert taken["wall_s"] > 0 < taken["cpu_s"]


class Miser(threading.Thread):
    """A broker of MQTT 5 that acknowledges nothing before the publisher has gone silent, and notes how much was out by then."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ears = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.ears.getsockname()[1]
        self.most = 0

    def run(self) -> None:
        with self.ears, self.ears.accept()[0] as link:
            link.recv(4096)
            link.sendall(b"\x20\x03\x00\x00\x00")
            waiting: list[bytes] = []
            rest = b""
            while data := self._next(link, waiting):
                packets, rest = _split(rest + data)
                waiting += packets
                self.most = max(self.most, len(waiting))

    def _next(self, link: socket.socket, waiting: list[bytes]) -> bytes:
        while not select.select([link], [], [], 0.2)[0]:
            link.sendall(b"".join(b"@\x02" + mid for mid in waiting))
            waiting.clear()
        return link.recv(65_536)


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    """Packet identifiers of the PUBLISHes (each has a length of two bytes here), and the rest."""
    found = []
    while len(data) > 3 and len(data) >= (size := 3 + (data[1] & 127 | data[2] << 7)):
        start = 5 + (data[3] << 8 | data[4])
        found.append(data[start : start + 2])
        data = data[size:]
    return found, data


def test_the_raw_side_keeps_exactly_one_window_on_its_way() -> None:
    """Both sides of a ratio have the same window: less would flatter us, more would, too."""
    miser = Miser()
    miser.start()
    Raw(miser.port, TOPIC, 2 * WINDOW + 7, WINDOW).run()
    assert miser.most == WINDOW


# ── the product's side ───────────────────────────────────────────────────────────────────────────────────────────────


@needs_mosquitto
@pytest.mark.parametrize("durability", ["behind", "first"])
def test_readings_go_through_the_whole_daemon_and_none_is_turned_away(
    tmp_path: Path, broker: LocalBroker, listening: Listener, durability: str
) -> None:
    """More readings than the inbox holds: every one arrives, once, in order, with nothing disclosed as lost."""
    n = 5000
    config = tmp_path / "chappe.toml"
    config.write_text(configuration(tmp_path / "state", broker.port, durability=durability), encoding="utf-8")
    with children.Child(Plan(config=str(config), n=n), tmp_path) as child:
        child.hear("warm")
        assert listening.count == 1
        child.go_on()
        done = child.hear("done")
        child.go_on()
    # One more than was put in: the sensor itself is read once, at the start.
    assert listening.wait(n + 1, 20.0)
    assert listening.distinct == listening.count == n + 1
    messages = payloads(listening)
    assert [message["seq"] for message in messages] == list(range(1, n + 2))
    assert not [message for message in messages if "lost" in message]
    assert {len(payload) for payload in listening._seen if b'"seq":1000' in payload} <= {SIZE - 1, SIZE, SIZE + 1}
    assert done["wall_s"] > 0 < done["cpu_s"]


@needs_mosquitto
@pytest.mark.feature("OPS-08", breaks="chappe.bench.outbox.rates:measure")
def test_a_rate_stands_beside_raw_paho_of_the_same_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "DURABILITIES", ())
    figures = {figure.name: figure for figure in rates.measure(n=200, backlog=400, rounds=1, subscriber=True)}
    about = "with a subscriber"
    names = ["raw paho", "raw paho, CPU", "drain / raw paho", "drain / raw paho, CPU", "drain", "drain, CPU"]
    assert list(figures) == [f"{name}: {about}" for name in names]
    assert all(figure.value > 0 for figure in figures.values())
    before, after = figures[f"raw paho: {about}"].each
    ratio = figures[f"drain / raw paho: {about}"]
    assert ratio.value == pytest.approx(figures[f"drain: {about}"].value * 2 / (before + after))
    assert ratio.least == 0.6


def test_rounds_alternate_and_every_run_is_between_two_raw_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []

    def raw(laps: rates.Laps, n: int, *, subscriber: bool) -> None:
        runs.append("raw")
        laps.add(n, 1.0, 0.5)

    def lap(laps: rates.Laps, durability: str, n: int, *, subscriber: bool, drain: bool = False) -> None:
        runs.append(f"drain of {n}" if drain else durability)
        laps.add(n, 0.5, 1.0)

    monkeypatch.setattr(rates, "_lap_of_raw", raw)
    monkeypatch.setattr(rates, "_lap", lap)
    figures = {figure.name: figure.value for figure in rates.measure(n=10, backlog=50, rounds=2, subscriber=False)}
    one = ["raw", "behind", "raw", "first", "raw", "memory", "raw", "drain of 50", "raw"]
    assert runs == [*one, *one]
    assert figures["behind / raw paho: no subscriber"] == 2.0
    assert figures["behind / raw paho, CPU: no subscriber"] == 2.0
    assert figures["drain: no subscriber"] == 100.0


@pytest.mark.parametrize(("count", "distinct"), [(9, 9), (11, 10), (10, 9)])
def test_a_rate_with_a_loss_or_a_repeat_is_none(count: int, distinct: int) -> None:
    class Heard:
        def __init__(self) -> None:
            self.count, self.distinct = count, distinct

        def wait(self, n: int, timeout_s: float) -> bool:
            return self.count >= n

    with pytest.raises(EdgeError, match=f"of 10 messages {distinct} different ones arrived, {count} in all"):
        rates._arrived(Heard(), 10)  # type: ignore[arg-type]


# ── starts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@needs_mosquitto
@pytest.mark.parametrize("rows", [0, 50])
def test_a_start_is_timed_to_the_first_message_or_without_rows_to_the_state(
    tmp_path: Path, broker: LocalBroker, rows: int
) -> None:
    start = begin._start(begin._ground(tmp_path, rows, broker.port), broker.port, rows, 0.1)
    assert start.seconds > 0
    assert 10 < start.pss < 1000


def test_every_start_finds_the_same_backlog(tmp_path: Path) -> None:
    """What one start has drained is there again for the next."""
    config = begin._ground(tmp_path, 3, 1883)
    found = (config.parent / "found" / "chappe.db").read_bytes()
    begin._found(config)
    (config.parent / "state" / "chappe.db").write_bytes(b"drained")
    begin._found(config)
    assert (config.parent / "state" / "chappe.db").read_bytes() == found


@needs_mosquitto
@pytest.mark.feature("OUT-06", breaks="chappe.edge.store.found:backlog")
def test_what_is_read_before_the_first_message_does_not_grow_with_the_backlog(
    tmp_path: Path, broker: LocalBroker
) -> None:
    """Twenty times the rows, the same steps of SQLite and the same bytes read: the start does not depend on the backlog."""
    few, many = (begin._read(begin._ground(tmp_path, rows, broker.port), rows) for rows in (1_000, 20_000))
    assert few.steps > 0
    assert many.steps <= 1.1 * few.steps
    assert many.read <= 1.1 * few.read


# ── wear ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@needs_mosquitto
def test_wear_is_what_was_written_between_the_first_and_the_last_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an outage each reading goes to the disk, so that there is something to see; how a start writes is not in it."""
    monkeypatch.setattr(wear, "can_cut", lambda: False)
    monkeypatch.setattr(wear, "RATE_HZ", 100)
    assert wear._bytes(50, offline=True) > 50 * SIZE / 2


@nightly
@needs_mosquitto
@pytest.mark.skipif(not can_cut(), reason="needs root and a loop device")
@pytest.mark.feature("OUT-13", breaks="chappe.bench.outbox.wear:measure")
def test_200_messages_a_second_cost_the_card_no_more_than_60_bytes_each() -> None:
    online, _ = wear.measure(seconds=20, rounds=1)
    assert online.value <= wear.MOST_ONLINE


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────

KEPT = Figure("a", 1.0, "ratio", least=0.6)
BROKEN = Figure("b", 0.5, "ratio", least=0.6)


def told(*figures: Figure) -> Callable[..., Iterator[Figure]]:
    def measure(**_: object) -> Iterator[Figure]:
        yield from figures

    return measure


@pytest.mark.parametrize(("figures", "code"), [((KEPT,), 0), ((KEPT, BROKEN), 1)])
def test_a_promise_that_is_not_kept_is_exit_1(
    figures: tuple[Figure, ...], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(begin, "measure", told(*figures))
    assert run(["bench", "outbox", "--only", "begin", "--json"]) == code
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is (code == 0)
    assert [figure["name"] for figure in said["figures"]] == [figure.name for figure in figures]
    assert run(["bench", "outbox", "--only", "begin"]) == code
    assert capsys.readouterr().out.splitlines()[-1] == ("a promise is not kept" if code else "all promises kept")


def test_the_words_of_the_command_line_reach_the_measurements(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def note(name: str) -> Callable[..., Iterator[Figure]]:
        def measure(**words: Any) -> Iterator[Figure]:
            asked.append((name, words))
            yield KEPT

        return measure

    for module in (rates, wear, begin):
        monkeypatch.setattr(module, "measure", note(module.__name__.rpartition(".")[2]))
    run(["bench", "outbox"])
    full = {"n": 20_000, "backlog": 50_000, "rounds": 5}
    assert asked == [
        ("rates", {**full, "subscriber": True}),
        ("rates", {**full, "subscriber": False}),
        ("wear", {"seconds": 20, "rounds": 3}),
        ("begin", {"many": 1_000_000, "some": 100_000, "rounds": 5, "look_s": 5.0}),
    ]
    asked.clear()
    run(["bench", "outbox", "--quick", "--only", "rates", "--subscriber", "no", "--rounds", "2"])
    assert asked == [("rates", {"n": 300, "backlog": 500, "rounds": 2, "subscriber": False})]
    capsys.readouterr()


def test_the_page_of_the_bench_names_its_modules() -> None:
    assert all(
        f"`.{name}`" in (outbox.__doc__ or "") for name in ("rates", "wear", "begin", "device", "raw", "listener")
    )
