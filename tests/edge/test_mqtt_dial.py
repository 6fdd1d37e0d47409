"""One attempt to reach the broker: what each kind of failure is called, and that none is left behind."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chappe.core.settings import Mqtt
from chappe.core.units import MILLISECOND, SECOND, Span
from chappe.edge.host import SystemClock
from chappe.edge.mqtt.dial import Dial, Dialled, rejects_certificate
from chappe.edge.mqtt.terms import Failure
from chappe.errors import EdgeError

WITHIN_S = 20


class Caller:
    """Dials and waits for the outcome."""

    def __init__(self) -> None:
        self.outcomes: list[Dialled | Failure] = []
        self._came = threading.Event()

    def start(self, settings: Mqtt, password: Callable[[], str | None] = lambda: None) -> Dial:
        dial = Dial(settings, password=password, clock=SystemClock(), done=self._done)
        dial.start()
        return dial

    def dial(self, settings: Mqtt, password: Callable[[], str | None] = lambda: None) -> Dialled | Failure:
        dial = self.start(settings, password)
        assert self._came.wait(WITHIN_S)
        dial.join(WITHIN_S)
        return self.outcomes[0]

    def fails(self, settings: Mqtt, password: Callable[[], str | None] = lambda: None) -> Failure:
        outcome = self.dial(settings, password)
        assert isinstance(outcome, Failure)
        return outcome

    def _done(self, _dial: Dial, outcome: Dialled | Failure) -> None:
        self.outcomes.append(outcome)
        self._came.set()


@pytest.fixture
def caller() -> Iterator[Caller]:
    made = Caller()
    yield made
    for outcome in made.outcomes:
        if isinstance(outcome, Dialled):
            outcome.sock.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(WITHIN_S)
        yield sock


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def test_a_connection_is_ready_for_use(caller: Caller, listener: socket.socket) -> None:
    """Connected, non-blocking, without Nagle's delay, with the credentials of this attempt and how long a round trip takes."""
    outcome = caller.dial(Mqtt(port=port_of(listener), username="tower"), lambda: "hunter2")
    assert isinstance(outcome, Dialled)
    assert outcome.sock.gettimeout() == 0.0
    assert outcome.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert (outcome.credentials.username, outcome.credentials.password) == ("tower", "hunter2")
    assert 0 <= outcome.round_trip < WITHIN_S * SECOND
    assert "hunter2" not in repr(outcome)


def test_nobody_listens(caller: Caller) -> None:
    """ECONNREFUSED is `refused`."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        failure = caller.fails(Mqtt(port=port_of(sock)))
    assert (failure.status, failure.outcome) == ("refused", "other")
    assert f"127.0.0.1:{port_of_text(failure)}" in failure.reason


def port_of_text(failure: Failure) -> str:
    return failure.reason.split(":")[1].split()[0]


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.ENETUNREACH, "no_network"),
        (errno.EHOSTUNREACH, "no_network"),
        (errno.ENETDOWN, "no_network"),
        (errno.ECONNRESET, "refused"),
        (errno.ECONNREFUSED, "refused"),
        (errno.EACCES, "refused"),
    ],
)
def test_each_error_has_a_status(caller: Caller, monkeypatch: pytest.MonkeyPatch, number: int, status: str) -> None:
    """No way there is `no_network`, being turned away is `refused`; the reason is the system's."""

    class Failing(socket.socket):
        def connect(self, _address: object) -> None:
            raise OSError(number, "the system's words")

    monkeypatch.setattr(socket, "socket", Failing)
    failure = caller.fails(Mqtt())
    assert (failure.status, failure.outcome) == (status, "other")
    assert "the system's words" in failure.reason


def test_a_name_that_cannot_be_resolved_is_no_network(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that does not answer, or does not know, is the usual face of a missing network."""

    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    failure = caller.fails(Mqtt(host="broker.example"))
    assert (failure.status, failure.outcome) == ("no_network", "other")
    assert "broker.example" in failure.reason


def test_silence_is_no_network(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connect that times out; `silent`, so that a link which was lost stays `lost`."""

    class Silent(socket.socket):
        def connect(self, _address: object) -> None:
            raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "socket", Silent)
    failure = caller.fails(Mqtt())
    assert (failure.status, failure.outcome) == ("no_network", "silent")


def test_the_second_address_is_tried(caller: Caller, listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with two addresses, the first of which refuses."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port_of(sock))) for sock in (closed, listener)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        assert isinstance(caller.dial(Mqtt()), Dialled)


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "No such file"), EdgeError("not readable"), PermissionError(13, "no")]
)
def test_a_password_that_cannot_be_read(caller: Caller, listener: socket.socket, error: Exception) -> None:
    """`auth_failed`, and nobody is connected to without it."""

    def password() -> str:
        raise error

    assert caller.fails(Mqtt(port=port_of(listener)), password).status == "auth_failed"
    listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_the_password_is_read_in_its_own_thread(caller: Caller, listener: socket.socket) -> None:
    """A file on a dead network mount holds up nobody else."""
    names: list[str] = []

    def password() -> None:
        names.append(threading.current_thread().name)

    caller.dial(Mqtt(port=port_of(listener)), password)
    assert names == ["mqtt-connect"]


@pytest.mark.parametrize("key", ["ca_file", "cert_file"])
def test_tls_files_that_cannot_be_used(caller: Caller, tmp_path: Path, key: str) -> None:
    """`tls_untrusted` with the file's name, before anything is connected to."""
    path = tmp_path / "rubbish.pem"
    path.write_text("no certificate", encoding="utf-8")
    for file in (path, tmp_path / "missing.pem"):
        failure = Caller().fails(Mqtt(port=1, tls=True, **{key: str(file)}))
        assert failure.status == "tls_untrusted"
        assert file.name in failure.reason


def test_a_handshake_that_nobody_answers_times_out(caller: Caller, listener: socket.socket) -> None:
    """A peer that accepts and keeps silent."""
    settings = Mqtt(port=port_of(listener), tls=True, connect_timeout=Span(50 * MILLISECOND))
    failure = caller.fails(settings)
    assert (failure.status, failure.outcome) == ("no_network", "silent")


def test_a_cancelled_attempt_ends_without_an_outcome(caller: Caller, listener: socket.socket) -> None:
    """In the middle of a TLS handshake that would last for hours."""
    settings = Mqtt(port=port_of(listener), tls=True, connect_timeout=Span(3600 * SECOND))
    dial = caller.start(settings)
    accepted, _ = listener.accept()
    with accepted:
        accepted.settimeout(WITHIN_S)
        assert accepted.recv(1) == b"\x16"
        dial.cancel()
        dial.join(WITHIN_S)
        while accepted.recv(4096):
            pass
    assert caller.outcomes == []
    assert "mqtt-connect" not in {thread.name for thread in threading.enumerate()}


def test_cancelled_while_the_name_is_looked_up(
    caller: Caller, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name server answers at last, and nothing is connected to any more."""
    asked, answer = threading.Event(), threading.Event()
    look_up = socket.getaddrinfo

    def slow(*arguments: object, **keywords: object) -> object:
        asked.set()
        assert answer.wait(WITHIN_S)
        return look_up(*arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    dial = caller.start(Mqtt(port=port_of(listener)))
    assert asked.wait(WITHIN_S)
    dial.cancel()
    answer.set()
    dial.join(WITHIN_S)
    assert caller.outcomes == []
    listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_even_a_bug_has_an_outcome(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mqtt thread never waits for an attempt that has died."""

    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(socket, "getaddrinfo", bug)
    assert caller.fails(Mqtt()).status == "refused"


@pytest.mark.parametrize(
    ("reason", "is_about_us"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", True),
        ("TLSV1_ALERT_UNKNOWN_CA", True),
        ("SSLV3_ALERT_BAD_CERTIFICATE", True),
        ("TLSV1_ALERT_PROTOCOL_VERSION", False),
        ("WRONG_VERSION_NUMBER", False),
    ],
)
def test_alerts_about_our_certificate(reason: str, is_about_us: bool) -> None:
    """The broker's complaint about us is told from other ends of a TLS connection."""
    error = ssl.SSLError(1, reason)
    error.reason = reason
    assert rejects_certificate(error) == is_about_us
    assert not rejects_certificate(ConnectionResetError())
    assert not rejects_certificate(None)
