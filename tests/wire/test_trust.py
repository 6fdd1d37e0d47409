"""Who is let in, and whom we believe: passwords, TLS, captive portals."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import pytest

from chappe.core.effects import Publish
from chappe.core.events import LinkDown, LinkUp
from chappe.edge.broker import LocalBroker, free_port
from chappe.edge.mqtt import dial

from .conftest import MakeBroker, MakeDevice
from .scripted import Conversation, Scripted

PORTAL = b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\nContent-Length: 0\r\n\r\n"


# ── passwords ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def guarded(make_broker: MakeBroker, tmp_path: Path) -> LocalBroker:
    """A mosquitto that lets in tower with the password right."""
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto_passwd is not installed")
    subprocess.run([program, "-b", "-c", tmp_path / "passwords", "tower", "right"], check=True, capture_output=True)
    return make_broker("mosquitto", extra=["allow_anonymous false", "password_file passwords"])


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_wrong_password_is_told_apart_and_a_new_one_is_tried(
    guarded: LocalBroker, make_device: MakeDevice, caplog: pytest.LogCaptureFixture, version: str
) -> None:
    """`auth_failed` while it is wrong; the password is read again at each attempt, so that the right one is enough."""
    caplog.set_level(logging.DEBUG)
    secrets = iter(["wrong-secret", "right", "right"])
    device = make_device(guarded.port, version=version, username="tower", password=lambda: next(secrets))
    down = device.heard.down("auth_failed")
    assert "user name or password" in down.reason.lower() or "not authorized" in down.reason.lower()
    device.online()
    assert "wrong-secret" not in caplog.text + str(device.heard.events)


def test_a_password_that_cannot_be_read_is_said_so(guarded: LocalBroker, make_device: MakeDevice) -> None:
    """The file is gone: `auth_failed` with that reason, and not a connection without a password."""

    def unreadable() -> str:
        raise FileNotFoundError(2, "No such file or directory")

    device = make_device(guarded.port, username="tower", password=unreadable)
    assert "password cannot be read" in device.heard.down("auth_failed").reason


# ── captive portals and other strangers ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("MQT-09", breaks="chappe.edge.mqtt.verdicts:stranger")
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(PORTAL, "captive_portal_suspected", id="HTTP"),
        pytest.param(PORTAL[:2], "captive_portal_suspected", id="the beginning of HTTP"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", "refused", id="SSH"),
        pytest.param(b"\x15\x03\x03\x00\x02\x02\x46", "refused", id="a TLS alert"),
        pytest.param(b"\x20\x03\x00\xee\x00", "refused", id="a CONNACK with an unknown code"),
    ],
)
def test_what_answers_the_connect_is_looked_at(
    make_device: MakeDevice, stack: ExitStack, answer: bytes, status: str
) -> None:
    """A stranger's answer gives the status at once and never reaches the parser."""

    def script(peer: Conversation) -> None:
        peer.send(answer)
        peer.packet()

    server = stack.enter_context(Scripted(script))
    device = make_device(server.port)
    device.heard.down(status)
    assert device.heard.all(LinkUp) == []


@pytest.mark.feature("MQT-09", breaks="chappe.edge.mqtt.dial:_look_for_http")
def test_a_tls_handshake_answered_in_http_is_a_portal(make_device: MakeDevice, stack: ExitStack) -> None:
    """A portal that intercepts the TLS port answers the ClientHello in plain HTTP."""

    def script(peer: Conversation) -> None:
        peer.bytes(5)
        peer.send(PORTAL)
        peer.bytes(100_000)

    server = stack.enter_context(Scripted(script, connect=False))
    device = make_device(server.port, tls=True)
    assert device.heard.down("captive_portal_suspected").reason


def test_a_plain_listener_does_not_pass_for_tls(mosquitto: LocalBroker, make_device: MakeDevice) -> None:
    """TLS to a plain MQTT port is `refused`, with the handshake named."""
    device = make_device(mosquitto.port, tls=True)
    assert "TLS handshake" in device.heard.down("refused").reason


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA, a stranger's CA, a server's certificate for localhost and a client's."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("authority")
    for name in ("ca", "stranger"):
        run(folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}",
            # Python 3.13 verifies strictly: an authority has to say what its key is for (RFC 5280 section 4.2.1.3).
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    (folder / "server.ext").write_text("subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n", encoding="utf-8")
    (folder / "client.ext").write_text("extendedKeyUsage=clientAuth\nauthorityKeyIdentifier=keyid\n", encoding="utf-8")
    for name in ("server", "client"):
        run(folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")  # fmt: skip
        run(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-out", f"{name}.pem", "-extfile", f"{name}.ext")  # fmt: skip
    return folder


def run(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def secured(make_broker: MakeBroker, authority: Path) -> LocalBroker:
    """A mosquitto whose clients need a certificate of the CA; ready when its log says so, as it answers no plain CONNECT."""
    port = free_port()
    lines = [
        f"listener {port} 127.0.0.1",
        f"cafile {authority / 'ca.pem'}",
        f"certfile {authority / 'server.pem'}",
        f"keyfile {authority / 'server.key'}",
        "require_certificate true",
    ]
    broker = make_broker("mosquitto", extra=lines)
    broker.port = port
    return broker


def files(authority: Path, ca: str = "ca", client: str = "client") -> dict[str, str]:
    paths = {"ca_file": f"{ca}.pem", "cert_file": f"{client}.pem", "key_file": f"{client}.key"}
    return {key: str(authority / name) for key, name in paths.items() if not name.startswith(".")}


@pytest.mark.feature("MQT-09", breaks="chappe.edge.mqtt.dial:_tls_context")
def test_tls_with_a_client_certificate(secured: LocalBroker, make_device: MakeDevice, authority: Path) -> None:
    """Right CA, right name, our certificate: online, and 500 messages of 2 KB come through."""
    device = make_device(secured.port, host="localhost", tls=True, **files(authority))
    device.online()
    for start in range(0, 500, 100):
        batch = range(start, start + 100)
        device.link.publish([Publish(token=n, topic="t", payload=b"x" * 2000) for n in batch])
        assert len(device.heard.codes(batch)) == 100
    device.link.disconnect()
    device.heard.down("off")


@pytest.mark.feature("SEC-06", breaks="chappe.edge.mqtt.dial:_certificates")
def test_the_link_says_when_certificates_end(secured: LocalBroker, make_device: MakeDevice, authority: Path) -> None:
    """The broker's, ours and the authority's, as openssl tells them; without TLS there are none."""
    device = make_device(secured.port, host="localhost", tls=True, **files(authority))
    told = {"broker": "server", "client": "client", "ca": "ca"}
    assert device.online().certificates == {name: end_of(authority / f"{file}.pem") for name, file in told.items()}


def end_of(certificate: Path) -> int:
    command = ["openssl", "x509", "-noout", "-enddate", "-in", certificate]
    line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(ssl.cert_time_to_seconds(line.strip().removeprefix("notAfter=")))


def test_without_tls_there_are_no_certificates(mosquitto: LocalBroker, make_device: MakeDevice) -> None:
    """Nothing to tell."""
    assert make_device(mosquitto.port).online().certificates == {}


@pytest.mark.feature("MQT-09", breaks="chappe.edge.mqtt.dial:_insecure")
@pytest.mark.parametrize(
    ("host", "ca"),
    [pytest.param("localhost", "stranger", id="wrong CA"), pytest.param("127.0.0.1", "ca", id="wrong name")],
)
def test_a_certificate_that_cannot_be_verified_ends_the_attempt(
    make_device: MakeDevice, authority: Path, host: str, ca: str
) -> None:
    """`tls_untrusted`, and the server never sees a byte of MQTT: the password stays here."""
    with TlsServer(authority) as server:
        device = make_device(
            server.port,
            host=host,
            tls=True,
            ca_file=str(authority / f"{ca}.pem"),
            username="u",
            password=lambda: "secret",
        )
        assert "not trusted" in device.heard.down("tls_untrusted").reason
        device.link.close()
    assert server.received == b""


def test_a_ca_file_that_is_missing_is_said_so(make_device: MakeDevice, authority: Path, mosquitto: LocalBroker) -> None:
    """Nothing is sent to anybody while the configured CA cannot be read."""
    device = make_device(mosquitto.port, tls=True, ca_file=str(authority / "missing.pem"))
    assert "missing.pem" in device.heard.down("tls_untrusted").reason


def test_a_broker_that_refuses_our_certificate_is_told_apart(
    secured: LocalBroker, make_device: MakeDevice, authority: Path
) -> None:
    """No certificate where one is required: TLS 1.3 says so after the handshake, and that is `auth_failed`."""
    device = make_device(secured.port, host="localhost", tls=True, ca_file=str(authority / "ca.pem"))
    device.heard.down("auth_failed")
    assert [event.status for event in device.heard.all(LinkDown)] == ["connecting", "auth_failed"]


@pytest.fixture(scope="module")
def tomorrow(authority: Path) -> Path:
    """A certificate for localhost of the same CA that is valid from tomorrow on, as all are to a clock that starts in 1970."""
    (authority / "index.txt").write_text("", encoding="ascii")
    (authority / "ca.conf").write_text(
        f"[ca]\ndefault_ca=own\n[own]\ndatabase={authority}/index.txt\nnew_certs_dir={authority}\nrand_serial=yes\n"
        "default_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n",
        encoding="utf-8",
    )
    begin, end = (datetime.now(UTC) + timedelta(days=days) for days in (1, 2))
    run(authority, "ca", "-config", "ca.conf", "-batch", "-notext", "-cert", "ca.pem", "-keyfile", "ca.key",
        "-startdate", f"{begin:%Y%m%d%H%M%SZ}", "-enddate", f"{end:%Y%m%d%H%M%SZ}",
        "-in", "server.csr", "-out", "tomorrow.pem", "-extfile", "server.ext")  # fmt: skip
    (authority / "tomorrow.key").write_bytes((authority / "server.key").read_bytes())
    return authority / "tomorrow.pem"


@pytest.mark.feature("SEC-06", breaks="chappe.edge.mqtt.dial:_insecure")
@pytest.mark.parametrize(("synced", "explained"), [(False, True), (True, False)], ids=["clock wrong", "clock right"])
def test_a_clock_that_is_wrong_is_named(
    make_device: MakeDevice,
    authority: Path,
    tomorrow: Path,
    monkeypatch: pytest.MonkeyPatch,
    synced: bool,
    explained: bool,
) -> None:
    """A certificate that is not yet valid: with a clock that nobody has set, that is said; with one that is right, it is the broker's."""
    monkeypatch.setattr(dial, "clock_synced", lambda: synced)
    with TlsServer(authority, tomorrow.stem) as server:
        device = make_device(server.port, host="localhost", tls=True, ca_file=str(authority / "ca.pem"))
        reason = device.heard.down("tls_untrusted").reason
        device.link.close()
    assert "not yet valid" in reason
    assert reason.endswith("clock not synced") == explained
    assert server.received == b""


def unresolved(*_: object, **__: object) -> list[object]:
    """What a machine without a network says of every name."""
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.mark.feature("MQT-10", breaks="chappe.edge.mqtt.herald:Herald.offline")
@pytest.mark.parametrize("status", ["no_network", "refused", "auth_failed", "tls_untrusted", "online"])
def test_each_way_to_fail_has_its_code(
    guarded: LocalBroker, make_device: MakeDevice, monkeypatch: pytest.MonkeyPatch, stack: ExitStack,
    request: pytest.FixtureRequest, status: str,
) -> None:  # fmt: skip
    """No way to the broker, nobody there, a bad password, a wrong authority; and with everything right, online."""
    keys: dict[str, object] = {"username": "tower", "password": lambda: "right"}
    port = guarded.port
    match status:
        case "no_network":
            monkeypatch.setattr(socket, "getaddrinfo", unresolved)
        case "refused":
            port = free_port()
        case "auth_failed":
            keys["password"] = lambda: "wrong"
        case "tls_untrusted":
            authority = request.getfixturevalue("authority")
            port = stack.enter_context(TlsServer(authority)).port
            keys |= {"host": "localhost", "tls": True, "ca_file": str(authority / "stranger.pem")}
    device = make_device(port, connect_timeout="500ms", **keys)
    if status == "online":
        device.online()
    else:
        device.heard.down(status)
    assert [event.status for event in device.heard.all(LinkDown)] == ["connecting", *({status} - {"online"})]


class TlsServer:
    """A TLS server that keeps what it is sent."""

    def __init__(self, authority: Path, name: str = "server") -> None:
        self.received = b""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(authority / f"{name}.pem", authority / f"{name}.key")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, name="tls-server", daemon=True)
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            plain.settimeout(10)
            try:
                with self._context.wrap_socket(plain, server_side=True) as secured:
                    self.received += secured.recv(4096)
            except OSError:
                plain.close()
