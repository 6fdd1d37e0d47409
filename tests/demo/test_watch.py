"""The small subscriber, against a real broker."""

from __future__ import annotations

import hashlib
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from chappe.demo.watch import watch
from chappe.edge.broker import LOOPBACK, LocalBroker, find_amqtt, find_mosquitto, free_port
from chappe.errors import LinkError, UsageError

WITHIN_S = 20.0


class Enough(Exception):  # noqa: N818 - it is no error
    """Ends a watch that would go on for ever."""


class Log:
    """Takes messages until it has enough of them.

    Args:
        n: how many.
    """

    def __init__(self, n: int) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self._n = n

    def __call__(self, topic: str, payload: bytes, retained: bool) -> None:
        self.messages.append((topic, payload, retained))
        if len(self.messages) == self._n:
            raise Enough


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalBroker]:
    if not {"mosquitto": find_mosquitto, "amqtt": find_amqtt}[request.param]():
        pytest.skip(f"{request.param} is not installed")
    with LocalBroker(tmp_path, kind=request.param) as opened:
        yield opened


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[LocalBroker]:
    if not find_mosquitto():
        pytest.skip("mosquitto is not installed")
    users = tmp_path / "users"
    # As `mosquitto_passwd` writes it: PBKDF2 with SHA-512, 101 rounds, 12 bytes of salt.
    salt = b"twelve bytes"
    key = hashlib.pbkdf2_hmac("sha512", b"secret", salt, 101)
    users.write_text(f"anna:$7$101${b64encode(salt).decode()}${b64encode(key).decode()}\n", encoding="ascii")
    users.chmod(0o600)
    with LocalBroker(tmp_path, kind="mosquitto", extra=["allow_anonymous false", f"password_file {users}"]) as opened:
        yield opened


def publish(port: int, *messages: tuple[str, bytes]) -> None:
    """Leave retained messages at a broker."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.connect(LOOPBACK, port)
    client.loop_start()
    try:
        infos = [client.publish(topic, payload, qos=1, retain=True) for topic, payload in messages]
        for info in infos:
            info.wait_for_publish(WITHIN_S)
            assert info.is_published()
    finally:
        client.disconnect()
        client.loop_stop()


def test_what_matches_the_filter_is_shown_with_its_bytes(broker: LocalBroker) -> None:
    """Topic, payload as it is, and that the broker had kept it; on both brokers the demo may have."""
    publish(
        broker.port,
        ("chappe/a/state", b"{}"),
        ("chappe/a/b", b"\xff\x00"),
        ("other/a", b"x"),
        ("chappe/c", b"\xc2\xb0"),
    )
    log = Log(3)
    with pytest.raises(Enough):
        watch(LOOPBACK, broker.port, "chappe/#", log)
    assert sorted(log.messages) == [
        ("chappe/a/b", b"\xff\x00", True),
        ("chappe/a/state", b"{}", True),
        ("chappe/c", b"\xc2\xb0", True),
    ]


def test_a_broker_that_asks_for_a_name_gets_one(mosquitto: LocalBroker) -> None:
    """The right password is let in; without one, the refusal and its remedy are said, and it is over."""
    with pytest.raises(LinkError, match="refuses") as raised:
        watch(LOOPBACK, mosquitto.port, "chappe/#", Log(1))
    assert raised.value.exit_code == 69
    assert "--username" in raised.value.remedy
    with pytest.raises(LinkError, match="refuses"):
        watch(LOOPBACK, mosquitto.port, "chappe/#", Log(1), username="anna", password="wrong")
    log = Log(1)
    with pytest.raises(Enough):
        watch(LOOPBACK, mosquitto.port, "$SYS/broker/version", log, username="anna", password="secret")
    assert log.messages[0][0] == "$SYS/broker/version"


def test_where_no_broker_is_it_says_so() -> None:
    """Exit 69, the place, and what to do."""
    port = free_port()
    with pytest.raises(LinkError, match=f"no broker answers at {LOOPBACK}:{port}: Connection refused") as raised:
        watch(LOOPBACK, port, "chappe/#", Log(1))
    assert raised.value.exit_code == 69
    assert "--port" in raised.value.remedy


@pytest.mark.parametrize("topic", ["a/b+", "a/#/b", "", "$share//x"])
def test_what_is_no_filter_is_a_wrong_command_line(topic: str) -> None:
    """Refused before anything is connected: a broker would close the connection without a word."""
    with pytest.raises(UsageError, match=r"filter|shared") as raised:
        watch(LOOPBACK, 1, topic, Log(1))
    assert raised.value.exit_code == 2


def test_a_lost_broker_is_waited_for(broker: LocalBroker, capsys: pytest.CaptureFixture[str]) -> None:
    """The broker dies under it and comes back: said once, connected again, subscribed again."""
    publish(broker.port, ("chappe/first", b"1"))
    log = Log(2)
    seen = threading.Event()

    def show(topic: str, payload: bytes, retained: bool) -> None:
        seen.set()
        log(topic, payload, retained)

    ended: list[BaseException] = []

    def run() -> None:
        try:
            watch(LOOPBACK, broker.port, "chappe/#", show)
        except Enough as enough:
            ended.append(enough)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert seen.wait(WITHIN_S)
    broker.restart()
    publish(broker.port, ("chappe/second", b"2"))
    thread.join(WITHIN_S)
    assert ended
    assert [topic for topic, _, _ in log.messages] == ["chappe/first", "chappe/second"]
    assert "the broker is gone; trying again" in capsys.readouterr().err
