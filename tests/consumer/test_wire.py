"""The consumer on a real mosquitto, before a device that the test plays: repeats, gaps, restarts, and what the broker itself drops."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chappe.consumer import Access, Consumer, Message, Patience
from chappe.core.units import Ns
from chappe.edge.broker import LocalBroker, free_port
from chappe.errors import BusyError

from .people import BOOT, SOON, STREAM, WITHIN_S, Application, Running, ScriptedDevice

Device = Callable[..., ScriptedDevice]
Make = Callable[..., Running]


def stored(state: Path) -> list[int]:
    """What the application has in the file, in the order in which it was written."""
    with sqlite3.connect(state) as db:
        found = [row[0] for row in db.execute("SELECT seq FROM got ORDER BY rowid")]
    db.close()
    return found


@pytest.mark.feature("FLT-01", breaks="chappe.consumer.closer:Closer.ask")
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_repeats_a_gap_and_restarts_leave_each_message_once_with_one_receipt(
    broker: LocalBroker, device: Device, consumer: Make, app: Application, tmp_path: Path, version: str
) -> None:
    """50 repeats, a gap of 7 and 3 restarts: each message once, the gap closed by `req/history`, one receipt each."""
    tower = device(broker, version=version)
    first, missing, second, third, fourth = (
        tower.make(seqs) for seqs in (range(1, 101), range(101, 108), range(108, 201), range(201, 301), range(301, 401))
    )
    assert len(missing) == 7
    options = {"access": Access(version=version)}  # type: ignore[arg-type]
    with consumer(broker, **options):
        tower.send([*first, *first[75:]])
        app.wait(100)
    tower.send([*second, *second[:15]])  # stays with the broker, as the consumer is away
    with consumer(broker, **options):
        app.wait(100 + 93 + 7)
    with consumer(broker, **options):
        tower.send([*third, *third[-10:]])
        app.wait(300)
    with consumer(broker, **options) as last:
        tower.send(fourth)
        app.wait(400)
        tower.wait_for("receipts", 400)
    assert last.consumer.counts.lost == 0
    assert sorted(stored(tmp_path / "state.db")) == list(range(1, 401))
    assert [(body["from"], body["to"], body["boot"]) for body in tower.requests] == [(101, 107, BOOT)]
    assert sorted(body["seq"] for body in tower.receipts) == list(range(1, 401))
    assert {(body["boot"], body["kind"], body["by"], body["stream"]) for body in tower.receipts} == {
        (BOOT, "delivered", "ours", STREAM)
    }
    assert not app.gaps


@pytest.mark.feature("FLT-01", breaks="chappe.consumer.desk:Desk.outgoing")
def test_what_the_broker_drops_after_its_puback_is_found_and_closed(
    make_broker: Callable[..., LocalBroker], device: Device, consumer: Make, app: Application, tmp_path: Path
) -> None:
    """RULINGS 7: mosquitto's own limits, 3,000 messages acknowledged while the consumer is away, about 2,000 of them dropped."""
    broker = make_broker(extra=["max_queued_messages 1000", "max_inflight_messages 20"])
    tower = device(broker)
    with consumer(broker):
        tower.send(tower.make([1]))
        app.wait(1)
    tower.send(tower.make(range(2, 3002)))
    with consumer(broker) as running:
        app.wait(2)
        tower.send(tower.make([3002]))
        app.wait(3002)
    assert running.consumer.counts.recovered >= 1900
    assert sorted(stored(tmp_path / "state.db")) == list(range(1, 3003))
    assert len(tower.requests) <= running.consumer.counts.recovered // 50 + 3
    assert not app.gaps


def test_in_order_what_follows_a_gap_waits_for_it(
    broker: LocalBroker, device: Device, consumer: Make, app: Application
) -> None:
    """`ordered`: 5 comes out of the history before 6 is handed over, and a gap takes its place."""
    tower = device(broker)
    with consumer(broker, ordered=True):
        tower.send(tower.make(range(1, 5)))
        tower.make([5])
        tower.send(tower.make([6, 9], lost={"from": 7, "to": 8, "n": 2, "reason": "spilled"})[:1])
        tower.send([tower.has[BOOT, 9]])
        app.wait(7)
    assert app.seqs == [1, 2, 3, 4, 5, 6, 9]
    assert [(gap.first, gap.last, gap.reason) for gap in app.gaps] == [(7, 8, "spilled")]


def test_a_gap_that_nobody_can_close_is_told(
    broker: LocalBroker, device: Device, consumer: Make, app: Application
) -> None:
    """The device's history does not reach back: reason `gone`."""
    tower = device(broker)
    with consumer(broker):
        tower.send(tower.make([1, 4]))
        app.wait_for(lambda app: bool(app.gaps))
    assert sum((gap.last or 0) - gap.first + 1 for gap in app.gaps) in (1, 2)
    assert {gap.reason for gap in app.gaps} == {"gone"}


def test_the_end_of_a_boot_is_asked_for(broker: LocalBroker, device: Device, consumer: Make, app: Application) -> None:
    """The last messages of a boot that ended without a word, dropped by the broker, come out of the history."""
    tower = device(broker)
    old = "00000000000000aa"
    with consumer(broker):
        tower.send(tower.make(range(1, 6), old)[:3])
        tower.send(tower.make([1]))
        app.wait(6)
    assert sorted((message.boot, message.seq) for message in app.seen if message.boot == old) == [
        (old, seq) for seq in range(1, 6)
    ]
    assert "to" not in tower.requests[0]


def test_a_broker_that_forgets_everything_is_found_again(
    broker: LocalBroker, consumer: Make, app: Application, tmp_path: Path
) -> None:
    """RULINGS 20: killed with its sessions; what it lost after its PUBACK is a gap like any other."""
    with consumer(broker):
        with ScriptedDevice(broker.port) as tower:
            tower.send(tower.make(range(1, 4)))
            app.wait(3)
            tower.make(range(4, 8))
            broker.restart()
        with ScriptedDevice(broker.port) as again:
            again.has = tower.has
            eight = again.make([8])
            # What is published before the consumer is back, this broker forgets as well; a repeat does no harm.
            assert any(again.send(eight) or app.has(8, within_s=0.2) for _ in range(100))
            app.wait(8)
    assert sorted(stored(tmp_path / "state.db")) == list(range(1, 9))


def test_a_broker_that_comes_late_is_found(device: Device, consumer: Make, app: Application, tmp_path: Path) -> None:
    """The consumer may be started first."""
    port = free_port()
    running = Running(port, app, tmp_path / "state.db")
    broker = LocalBroker(tmp_path, kind="mosquitto", port=port)
    running._thread.start()
    try:
        broker.open()
        assert running.consumer.online.wait(WITHIN_S)
    finally:
        running.consumer.stop()
        running._thread.join(WITHIN_S)
        broker.kill()
    assert running.error is None


def test_the_brokers_window_is_respected(
    make_broker: Callable[..., LocalBroker],
    device: Device,
    consumer: Make,
    app: Application,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A broker that takes 3 unacknowledged publishes at a time would end the connection over a fourth (MQTT 5 section 4.9)."""
    broker = make_broker(extra=["max_inflight_messages 3"])
    tower = device(broker)
    with consumer(broker):
        tower.send(tower.make(range(1, 201)))
        tower.wait_for("receipts", 200)
    assert sorted(body["seq"] for body in tower.receipts) == list(range(1, 201))
    assert "disconnected" not in caplog.text


# ── the application ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_the_handler_raises_ends_the_run_and_the_message_comes_again(
    broker: LocalBroker, device: Device, app: Application, tmp_path: Path
) -> None:
    """Nothing is swallowed, nothing is skipped."""
    tower = device(broker)

    def stumble(message: Message, db: sqlite3.Connection) -> None:
        if message.seq == 2:
            raise ZeroDivisionError
        app.take(message, db)

    state = tmp_path / "state.db"
    with Running(broker.port, app, state):  # so that the broker knows it
        pass
    tower.send(tower.make([1, 2, 3]))
    failing = Consumer("localhost", broker.port, handler=stumble, state=state, name="ours", setup=app.SETUP)
    for _ in range(2):  # the same again, whether with a new consumer or with this one
        with pytest.raises(ZeroDivisionError):
            failing.run()
    with Running(broker.port, app, tmp_path / "state.db"):
        app.wait(3)
    assert stored(tmp_path / "state.db") == [1, 2, 3]


def test_a_consumer_can_be_run_again(broker: LocalBroker, device: Device, app: Application, tmp_path: Path) -> None:
    """Stopped, and started again from the same program."""
    tower = device(broker)
    consumer = Consumer("localhost", broker.port, handler=app.take, state=tmp_path / "state.db", setup=app.SETUP)
    for seq in (1, 2):
        thread = threading.Thread(target=consumer.run)
        thread.start()
        assert consumer.online.wait(WITHIN_S)
        tower.send(tower.make([seq]))
        app.wait(seq)
        consumer.stop()
        thread.join(WITHIN_S)
        assert not consumer.online.is_set()
    assert stored(tmp_path / "state.db") == [1, 2]


def test_two_consumers_do_not_share_a_file(broker: LocalBroker, consumer: Make) -> None:
    """The second is refused, and says what to do."""
    with consumer(broker):
        second = consumer(broker)
        with pytest.raises(BusyError, match="another consumer works with"):
            second.consumer.run()


def test_two_consumers_of_different_names_both_get_everything(
    broker: LocalBroker, device: Device, app: Application, tmp_path: Path
) -> None:
    """Each has its own session, its own file, and its own receipts."""
    tower = device(broker)
    other = Application()
    with Running(broker.port, app, tmp_path / "a.db"), Running(broker.port, other, tmp_path / "b.db", name="theirs"):
        tower.send(tower.make([1, 2]))
        app.wait(2)
        other.wait(2)
        tower.wait_for("receipts", 4)
    assert sorted((body["by"], body["seq"]) for body in tower.receipts) == [
        ("ours", 1), ("ours", 2), ("theirs", 1), ("theirs", 2),
    ]  # fmt: skip


@pytest.mark.parametrize("option", [{"name": "A"}, {"name": "a/b"}, {"prefix": "#"}, {"devices": ["ok", "a+"]}])
def test_names_that_are_no_level_of_a_topic_are_refused(tmp_path: Path, option: dict[str, Any]) -> None:
    """Before anything is opened."""
    with pytest.raises(ValueError, match="is not a valid id"):
        Consumer("localhost", handler=lambda *_: None, state=tmp_path / "s.db", **option)


def test_only_the_named_devices_are_listened_to(
    broker: LocalBroker, device: Device, consumer: Make, app: Application, tmp_path: Path
) -> None:
    """A list of ids instead of all."""
    tower = device(broker)
    stranger = Application()
    with (
        consumer(broker, devices=["tower-2", "tower-1"]),
        Running(broker.port, stranger, tmp_path / "b.db", name="theirs", devices="tower-2"),
    ):
        tower.send(tower.make([1]))
        app.wait(1)
    assert stranger.seen == []


# ── who is let in ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def guarded(make_broker: Callable[..., LocalBroker], tmp_path: Path) -> LocalBroker:
    """A mosquitto that lets in `reader` with the password right."""
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto_passwd is not installed")
    subprocess.run([program, "-b", "-c", tmp_path / "passwords", "reader", "right"], check=True, capture_output=True)
    return make_broker(extra=["allow_anonymous false", f"password_file {tmp_path}/passwords"])


def test_the_password_is_read_from_its_file_at_each_attempt(
    guarded: LocalBroker, app: Application, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong one is told in the log, without itself; correcting the file is enough."""
    secret = tmp_path / "secret"
    secret.write_text("wrong-secret\n", encoding="utf-8")
    access = Access(username="reader", password_file=str(secret))
    running = Running(guarded.port, app, tmp_path / "state.db", access=access)
    consumer = running.consumer
    consumer.open()
    try:
        while "refuses" not in caplog.text:
            consumer.step()
        secret.write_text("right\n", encoding="utf-8")
        while not consumer.online.is_set():
            consumer.step()
    finally:
        consumer.close()
    assert "wrong-secret" not in caplog.text


def test_a_password_file_that_is_not_there_is_said_so(
    guarded: LocalBroker, app: Application, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And no attempt is made without a password."""
    access = Access(username="reader", password_file=str(tmp_path / "nothing"))
    with Running(guarded.port, app, tmp_path / "state.db", access=access).consumer as consumer:
        consumer.step()
    assert "nothing" in caplog.text
    assert "refuses" not in caplog.text


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A folder with an authority and a certificate for localhost."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    base = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj"]
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"]
    subprocess.run([*base, "/CN=localhost", *names], check=True, capture_output=True)
    return tmp_path


def test_tls_is_verified(
    make_broker: Callable[..., LocalBroker],
    authority: Path,
    app: Application,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With the authority it connects; without it, or by another name, it does not."""
    secure = free_port()
    make_broker(
        extra=[f"listener {secure} 127.0.0.1", f"certfile {authority}/cert.pem", f"keyfile {authority}/key.pem"]
    )
    with Running(secure, app, tmp_path / "a.db", access=Access(tls=True, ca_file=str(authority / "cert.pem"))):
        pass
    with Running(secure, app, tmp_path / "b.db", access=Access(tls=True)).consumer as stranger:
        stranger.step()
    assert "certificate verify failed" in caplog.text
    assert not stranger.online.is_set()
    caplog.clear()
    believing = Access(tls=True, ca_file=str(authority / "cert.pem"))
    options: dict[str, Any] = {"handler": app.take, "state": tmp_path / "c.db", "access": believing, "patience": SOON}
    with Consumer("127.0.0.1", secure, **options) as misled:
        misled.step()
    assert "certificate" in caplog.text


def test_patience_is_as_told_by_default() -> None:
    """5 s before a gap is asked for, 5 questions a second, given up after 10 rounds."""
    patience = Patience()
    assert (patience.first, patience.pace, patience.tries) == (Ns(5_000_000_000), Ns(200_000_000), 10)
