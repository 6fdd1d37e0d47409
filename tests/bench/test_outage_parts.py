"""`chappe bench outage`: ledger, link, disk, oracle and counter do what the figures rest on."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chappe.bench.outage import command, oracle, plugin, table
from chappe.bench.outage.counter import Counter
from chappe.bench.outage.disk import Disk, can_cut
from chappe.bench.outage.judge import Figures, Row
from chappe.bench.outage.ledger import Ledger
from chappe.bench.outage.link import Link, kernel_can
from chappe.bench.outage.normal import Control
from chappe.bench.outage.plan import FULL, QUICK, now
from chappe.bench.peers import NAMES as PEERS
from chappe.cli import run
from chappe.config import loads
from chappe.core.effects import Commit
from chappe.core.stored import LANE_BITS
from chappe.edge.broker import LocalBroker, find_mosquitto
from chappe.edge.sensors.driver import find_driver
from chappe.errors import EdgeError, StoreError

WITHIN_S = 20.0
needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")


# ── the ledger ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    book = Ledger(tmp_path / "ledger", capacity=1000).open()
    yield book
    book.close()


def test_a_ledger_gives_numbers_from_nought_and_remembers_when(ledger: Ledger) -> None:
    before = now()
    assert [ledger.enter() for _ in range(3)] == [0, 1, 2]
    assert ledger.count == 3
    assert before <= ledger.at(0) <= ledger.at(1) <= ledger.at(2) <= now()


def test_marked_numbers_leave_holes(ledger: Ledger) -> None:
    ledger.mark(4)
    ledger.mark(2)
    assert (ledger.count, ledger.numbers()) == (5, {2, 4})


def test_no_number_is_given_twice_to_several_threads(ledger: Ledger) -> None:
    given: list[int] = []
    threads = [threading.Thread(target=lambda: given.extend(ledger.enter() for _ in range(100))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == list(range(400))


def test_a_ledger_survives_the_kill_of_its_writer(tmp_path: Path) -> None:
    """And is loaded by its path alone, as the Pythons of the peers do it."""
    program = (
        "import importlib.util, os, signal, pathlib\n"
        f"spec = importlib.util.spec_from_file_location('ledger', {sys.modules[Ledger.__module__].__file__!r})\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        f"book = module.Ledger(pathlib.Path({str(tmp_path / 'ledger')!r})).open()\n"
        "[book.enter() for _ in range(7)]\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    book = Ledger(tmp_path / "ledger").open()
    assert book.count == 7
    book.close()


def test_the_driver_reads_the_ledger_until_it_is_sealed(ledger: Ledger) -> None:
    sensor = loads(f'[sensors.a]\ndriver = "simulated"\noptions = {{ ledger = "{ledger.path}" }}\n').config.sensors["a"]
    feed = plugin.Feed()
    feed.open(sensor)
    assert [feed.read(), feed.read()] == [0, 1]
    ledger.seal()
    with pytest.raises(OSError, match="sealed"):
        feed.read()
    ledger.seal(sealed=False)
    assert feed.read() == 2
    feed.close()
    feed.close()
    assert ledger.count == 3


def test_the_driver_is_found_as_any_plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(plugin.describe(tmp_path)))
    assert isinstance(find_driver(plugin.NAME)(), plugin.Feed)


# ── the link ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Echo:
    """A server that sends back what it gets, on loopback."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with peer:
            try:
                while data := peer.recv(1024):
                    peer.sendall(data)
            except OSError:
                return


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.listener.close()


KINDS = [
    False,
    pytest.param(True, marks=pytest.mark.skipif(not kernel_can(), reason="needs root, ip and tc")),
]


@pytest.mark.parametrize("kernel", KINDS, ids=["proxy", "kernel"])
def test_a_link_forwards_refuses_and_heals(echo: Echo, kernel: bool) -> None:
    with Link(echo.port, kernel=kernel) as link:
        with socket.create_connection((link.host, link.port), WITHIN_S) as wire:
            wire.sendall(b"a")
            assert wire.recv(1) == b"a"
            link.refuse()
            with pytest.raises(ConnectionResetError):
                wire.recv(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((link.host, link.port), WITHIN_S)
        link.heal()
        with socket.create_connection((link.host, link.port), WITHIN_S) as wire:
            wire.sendall(b"b")
            assert wire.recv(1) == b"b"


@pytest.mark.parametrize("kernel", KINDS, ids=["proxy", "kernel"])
def test_a_black_hole_takes_everything_and_says_nothing(echo: Echo, kernel: bool) -> None:
    with Link(echo.port, kernel=kernel) as link, socket.create_connection((link.host, link.port), WITHIN_S) as wire:
        wire.sendall(b"a")
        assert wire.recv(1) == b"a"
        link.hole()
        wire.sendall(b"b")
        wire.settimeout(0.3)
        with pytest.raises(TimeoutError):
            wire.recv(1)
        link.heal()
        with socket.create_connection((link.host, link.port), WITHIN_S) as again:
            again.sendall(b"c")
            assert again.recv(1) == b"c"


def test_a_proxy_does_not_deliver_late_what_it_held_back(echo: Echo) -> None:
    with Link(echo.port) as link, socket.create_connection((link.host, link.port), WITHIN_S) as wire:
        wire.sendall(b"a")
        assert wire.recv(1) == b"a"
        link.hole()
        wire.sendall(b"b")
        link.heal()
        with pytest.raises(ConnectionResetError):
            wire.recv(1)


@pytest.mark.skipif(not kernel_can(), reason="needs root, ip and tc")
def test_a_namespace_is_taken_away_after_a_failure(echo: Echo) -> None:
    def names() -> set[str]:
        return set(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else set()  # noqa: PTH112, PTH208

    before = names()

    def fail() -> None:
        with Link(echo.port, kernel=True) as link:
            assert len(names() - before) == 1
            link.hole()
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert names() <= before


# ── the disk ─────────────────────────────────────────────────────────────────────────────────────────────────────────

cuts = pytest.mark.skipif(not can_cut(), reason="needs root and mkfs.ext4")


@cuts
def test_a_cut_takes_what_was_not_synced_and_leaves_what_was(tmp_path: Path) -> None:
    with Disk(tmp_path) as disk:
        kept, gone = disk.mount / "kept", disk.mount / "gone"
        with kept.open("wb") as file:
            file.write(b"x" * 5000)
            file.flush()
            os.fsync(file.fileno())
        os.fsync(folder := os.open(disk.mount, os.O_RDONLY))
        os.close(folder)
        gone.write_bytes(b"y" * 5000)
        disk.cut()
        with pytest.raises(OSError, match=r"Input/output|Structure"):
            (disk.mount / "later").write_bytes(b"z")
        disk.restore()
        assert kept.read_bytes() == b"x" * 5000
        assert not gone.exists() or gone.read_bytes() != b"y" * 5000
    assert not list(disk.mount.iterdir())


@cuts
def test_the_control_of_a_cut_loses(tmp_path: Path) -> None:
    """Where it did not, a cut would prove nothing; then its line says so."""
    with Disk(tmp_path) as disk:
        control = Control(disk.mount, tmp_path, rate_hz=500)
        try:
            control.start()
            deadline = now() + int(WITHIN_S * 1e9)
            while control._ledger.count < 200 and now() < deadline:
                threading.Event().wait(0.01)
            disk.cut()
            control.kill()
            disk.restore()
            figures = control.figures()
        finally:
            control.close()
    assert figures.accepted >= 200
    assert figures.lost > 0
    assert figures.note == ""


# ── oracle and counter ───────────────────────────────────────────────────────────────────────────────────────────────


def store_with_rows(folder: Path) -> None:
    """A state folder as the daemon's own store leaves it."""
    from chappe.core.books import Book
    from chappe.core.stored import LaneEntry, StoredRow
    from chappe.core.units import Ns
    from chappe.edge.store import Store
    from chappe.testing.clock import ManualClock

    done = threading.Event()
    store = Store(folder, ManualClock(), lambda event: done.set() if type(event).__name__ == "Committed" else None)
    store.open()
    rows = tuple(
        StoredRow(1 << LANE_BITS | n, "tick", "a" * 16, n, "", Ns(n), Ns(n), False, 0, b'{"value":%d}' % (n - 1))
        for n in (1, 2)
    )
    entry = LaneEntry(no=1, next=3, rows=2, bytes=20, book=Book(produced=2, queued=2), boot="a" * 16, seq=2)
    store.handle([Commit(number=1, at=Ns(5), rows=rows, lanes={"tick": entry}, boot="a" * 16)])
    assert done.wait(WITHIN_S)
    store.close()


def test_the_oracle_reads_what_the_store_wrote(tmp_path: Path) -> None:
    store_with_rows(tmp_path / "state")
    expected = [Row("tick", "a" * 16, 1, 0), Row("tick", "a" * 16, 2, 1)]
    assert oracle.beside(tmp_path / "state") == expected
    assert oracle.copied(tmp_path / "state", tmp_path / "copy") == expected


def test_the_oracle_does_not_believe_a_damaged_copy(tmp_path: Path) -> None:
    store_with_rows(tmp_path / "state")
    file = tmp_path / "state" / oracle.FILE
    with sqlite3.connect(file) as base:
        base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        root = base.execute("SELECT rootpage FROM sqlite_master WHERE name = 'rows'").fetchone()[0]
        page = base.execute("PRAGMA page_size").fetchone()[0]
    base.close()
    with file.open("r+b") as damaged:
        damaged.seek((root - 1) * page + 8)
        damaged.write(b"\xff" * 200)
    with pytest.raises((StoreError, sqlite3.DatabaseError), match=r"damaged|malformed"):
        oracle.copied(tmp_path / "state", tmp_path / "copy")


@needs_mosquitto
def test_the_counter_gets_what_came_while_it_was_away(tmp_path: Path) -> None:
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    with LocalBroker(tmp_path, kind="mosquitto") as broker:
        counter = Counter(broker.port, "bench/#")
        counter.open()
        counter.close()
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.connect(broker.host, broker.port)
        client.loop_start()
        for n in range(3):
            client.publish("bench/n", str(n), qos=1).wait_for_publish(WITHIN_S)
        client.disconnect()
        client.loop_stop()
        with counter:
            assert counter.settle(lambda arrivals: len(arrivals) >= 3, WITHIN_S)
            assert not counter.settle(lambda arrivals: len(arrivals) >= 4, 0.05)
        assert [arrival.payload for arrival in counter.arrivals] == [b"0", b"1", b"2"]


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def line(subject: str = "Chappe, first", **figures: object) -> dict[str, object]:
    return {**Figures("refused", subject, "1", 10, 10).to_data(), **figures}


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({}, ""),
        ({"lost": 1}, "1 of the accepted lost"),
        ({"repeats": 7}, ""),
        ({"repeats_after": 2}, "2 repeats after de-duplication"),
        ({"disorder": 3}, "3 out of order"),
        ({"exposure_ms": 350.0}, ""),
        ({"exposure_ms": 350.1}, "350.1 ms exposed"),
    ],
)
def test_limits_of_chappe(figures: dict[str, object], said: str) -> None:
    verdict = command.judge_limits(line(**figures))
    assert said in verdict
    assert bool(said) == bool(verdict)


@pytest.mark.parametrize("subject", ["mosquitto bridge, defaults", "the broker to an away session", "control: SQLite"])
def test_others_have_no_limits(subject: str) -> None:
    assert command.judge_limits(line(subject, lost=10)) == ""


def test_a_reference_consumer_that_missed_something_breaks_a_limit() -> None:
    assert "1 of the accepted lost" in command.judge_limits(line("reference consumer, live", lost=1))


@pytest.mark.feature("OPS-08", breaks="chappe.bench.outage.command:judge_limits")
@pytest.mark.parametrize(("lost", "code"), [(0, 0), (1, 1)])
def test_a_broken_limit_is_exit_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lost: int, code: int
) -> None:
    from chappe.bench.outage import scenarios

    monkeypatch.setattr(
        scenarios, "play", lambda name, *_, **__: [Figures(name, "Chappe, first", "1", 10, 10, lost, first_s=0.1)]
    )
    assert run(["bench", "outage", "--scenario", "refused", "--rounds", "2", "--seed", "7", "--json"]) == code
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["seed"], said["lines"][0]["offered"]) == (code == 0, 7, 20)
    assert len(said["broken"]) == code


def test_each_round_has_a_seed_of_its_own(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from chappe.bench.outage import scenarios

    seeds = []

    def play(name: str, _plan: object, seed: int, *, kernel: bool) -> list[Figures]:
        assert not kernel
        seeds.append(seed)
        return [Figures(name, "Chappe, first", "1")]

    monkeypatch.setattr(scenarios, "play", play)
    words = ["bench", "outage", "--scenario", "refused", "--rounds", "3", "--seed", "5", "--no-kernel", "--quick"]
    assert run(words) == 0
    assert seeds == [5, 6, 7]
    out = capsys.readouterr().out
    assert "outage_s=2.0" in out
    assert "black_hole=proxy" in out


def test_every_scenario_has_one_who_plays_it() -> None:
    from chappe.bench.outage import brokers, scenarios

    assert set(command.NAMES) == {*scenarios.SCENARIOS, *brokers.SCENARIOS}


def test_the_page_has_a_row_for_every_scenario_and_every_peer() -> None:
    """docs/reliability.md publishes what this command measures, all of it."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "reliability.md").read_text("utf-8")
    assert [name for name in (*command.NAMES, *PEERS) if f"`{name}`" not in page] == []
    assert all(option in page for option in ("--quick", "--rounds N", "--seed", "--no-kernel", "--peers"))


def test_options_are_understood() -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(["--scenario", "power_cut", "--scenario", "refused", "--peer", "node-red", "--quick"])
    assert (args.scenario, args.peer, args.quick, args.rounds) == (["power_cut", "refused"], ["node-red"], True, 1)
    with pytest.raises(SystemExit):
        parser.parse_args(["--scenario", "flood"])


def test_the_short_run_is_the_long_one_scaled() -> None:
    assert (FULL.outage_s, FULL.silence_s, FULL.rate_hz) == (20.0, 45.0, 200)
    assert QUICK.outage_s == 2.0
    assert QUICK.rate_hz == FULL.rate_hz


def test_the_table_has_a_line_per_figure_and_a_dash_for_what_is_not_known() -> None:
    text = table.text([line(first_s=0.25, note="as it is")], {"chappe": "1.2"})
    head, names, figures = text.splitlines()
    assert head == "chappe=1.2"
    assert names.split()[:4] == ["scenario", "subject", "QoS", "offered"]
    assert figures.split()[-5:] == ["0.25", "-", "as", "it", "is"]


def test_sigterm_ends_a_run_as_an_exception_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that mounts and namespaces are undone; afterwards the signal means what it meant before."""
    from chappe.bench.outage import scenarios

    undone = []

    def play(*_: object, **__: object) -> list[Figures]:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            undone.append(True)
        return []

    monkeypatch.setattr(scenarios, "play", play)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        command.run(argparse.Namespace(**_arguments()))
    assert ended.value.code == 143
    assert undone == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def _arguments() -> dict[str, object]:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return {**vars(parser.parse_args(["--scenario", "refused", "--seed", "1"])), "json": True}


def test_a_damaged_system_says_what_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program = tmp_path / "mkfs.ext4"
    program.write_text("#!/bin/sh\necho no such luck >&2\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    with pytest.raises(EdgeError, match="no such luck"), Disk(tmp_path):
        pass
