"""The check item `broker`, against real brokers and against things that are none."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chappe.checks import ITEMS, Finding, run_checks
from chappe.config import loads
from chappe.edge.broker import LocalBroker, find_amqtt, find_mosquitto, free_port

needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
needs_amqtt = pytest.mark.skipif(not find_amqtt(), reason="amqtt is not installed")


def look(port: int, more: str = "", base: Path | None = None) -> Finding:
    text = f'[device]\nid = "tower-9"\n[mqtt]\nport = {port}\n{more}'
    skip = [item.id for item in ITEMS if item.id != "broker"]
    (finding,) = run_checks(lambda: loads(text, base=base), skip=skip)
    return finding


def log_of(folder: Path) -> str:
    return (folder / "mosquitto.log").read_text(encoding="utf-8")


def session_present(port: int, client_id: str) -> bool:
    """Whether the broker still keeps a session under a client id."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
    client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_connect = lambda _client, _data, flags, *_: answers.put(flags.session_present)
    client.connect("127.0.0.1", port, clean_start=False)
    client.loop_start()
    try:
        return answers.get(timeout=20)
    finally:
        client.disconnect()
        client.loop_stop()


@needs_mosquitto
def test_a_broker_with_mqtt_5_passes_and_notices_next_to_nothing(tmp_path: Path) -> None:
    """One client with a name of its own, which subscribes to nothing, leaves politely and keeps no session."""
    with LocalBroker(tmp_path, kind="mosquitto", extra=["log_type all"]) as broker:
        found = look(broker.port)
        log = log_of(tmp_path)
        assert not session_present(broker.port, "chappe-tower-9-check")
    assert (found.status, found.text) == ("pass", f"127.0.0.1:{broker.port}, MQTT 5")
    assert "as chappe-tower-9-check (" in log
    assert "Client chappe-tower-9-check disconnected." in log
    assert "SUBSCRIBE from chappe-tower-9-check" not in log
    assert "PUBLISH from chappe-tower-9-check" not in log


@needs_mosquitto
def test_a_wrong_password_fails_with_the_keys_to_look_at(tmp_path: Path) -> None:
    """The broker's answer, and which keys name the user."""
    with LocalBroker(tmp_path, kind="mosquitto", extra=["allow_anonymous false"]) as broker:
        found = look(broker.port)
    assert found.status == "fail"
    assert "refuses us" in found.text
    assert "mqtt.password_file" in found.remedy


@needs_amqtt
@pytest.mark.feature("MQT-01", breaks="chappe.checks.broker:_spoken")
def test_a_broker_without_mqtt_5_is_a_warning(tmp_path: Path) -> None:
    """On 3.1.1 a forbidden publish looks successful."""
    with LocalBroker(tmp_path, kind="amqtt") as broker:
        found = look(broker.port)
    assert found.status == "warn"
    assert "3.1.1" in found.text
    assert "a forbidden publish looks successful" in found.text


@needs_mosquitto
def test_3_1_1_by_the_owners_wish_is_a_warning_too(tmp_path: Path) -> None:
    """It is as blind when it was chosen."""
    with LocalBroker(tmp_path, kind="mosquitto") as broker:
        assert look(broker.port, 'version = "3.1.1"').status == "warn"


def test_nothing_listens() -> None:
    """Told at once."""
    found = look(free_port())
    assert found.status == "fail"
    assert "refuses the connection" in found.text
    assert "mqtt.port" in found.remedy


def test_a_name_that_cannot_be_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is in the answer."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    found = look(1, 'host = "nowhere.example"')
    assert found.status == "fail"
    assert "nowhere.example" in found.text
    assert "mqtt.host" in found.remedy


def test_a_name_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check does not wait for ever."""
    asked, over = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        asked.set()
        over.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        found = look(1, 'host = "slow.example"\nconnect_timeout = "50ms"')
    finally:
        over.set()
    assert asked.is_set()
    assert found.status == "fail"
    assert "slow.example" in found.text


def test_a_password_file_that_is_missing(tmp_path: Path) -> None:
    """Told before the broker could refuse us."""
    found = look(1, 'username = "x"\npassword_file = "nowhere"', tmp_path)
    assert found.status == "fail"
    assert "nowhere" in found.text
    assert "mqtt.password_file" in found.remedy


# ── things that are no brokers, or old ones ──────────────────────────────────────────────────────────────────────────

Answer = Callable[[bytes], bytes]


@contextlib.contextmanager
def server(answer: Answer) -> Iterator[int]:
    """Answers the first bytes of each connection, then closes it; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    link, _ = listener.accept()
                    with link, contextlib.suppress(OSError):
                        first = link.recv(4096)
                        reply = answer(first)
                        link.sendall(reply)
                        if reply:
                            link.recv(4096)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        # Closing alone does not wake a thread that waits in accept.
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        assert not thread.is_alive()


def test_a_page_in_place_of_a_broker() -> None:
    """A captive portal, most likely."""
    with server(lambda first: b"HTTP/1.1 302 Found\r\n\r\n" if first else b"") as port:
        found = look(port)
    assert found.status == "fail"
    assert "HTTP" in found.text
    assert "log in to this network" in found.remedy


CONNACK_3_1_1 = b"\x20\x02\x00\x00"
VERSION_5 = b"\x00\x04MQTT\x05"


def test_a_broker_that_closes_on_mqtt_5_is_asked_again_in_3_1_1() -> None:
    """RabbitMQ before 3.13 closes without an answer; twice running earns the older version a try."""
    with server(lambda first: CONNACK_3_1_1 if first and VERSION_5 not in first else b"") as port:
        found = look(port)
    assert found.status == "warn"
    assert "3.1.1" in found.text


def test_a_server_that_closes_on_everything_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the last thing that was seen; how long it is tried is not this test's concern."""
    monkeypatch.setattr("chappe.checks.broker.AFTER_REFUSAL_S", 0.1)
    with server(lambda _: b"") as port:
        found = look(port)
    assert found.status == "fail"
    assert "no answer to the CONNECT" in found.text
