"""Name, TCP and TLS of one attempt, in the thread ``mqtt-connect``, so that nothing else waits for a dead name server."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chappe.core.units import Ns, as_seconds
from chappe.edge.host import Clock, clock_synced
from chappe.edge.mqtt import certificates
from chappe.edge.mqtt.certificates import Validity
from chappe.edge.mqtt.fingerprint import fingerprint
from chappe.edge.mqtt.terms import Credentials, Failure
from chappe.edge.mqtt.verdicts import HTTP
from chappe.edge.mqtt.wire import Stream
from chappe.errors import ChappeError

if TYPE_CHECKING:
    from chappe.core.settings import Mqtt


_NO_NETWORK = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL, errno.ENONET}
)

CLOCK_UNSYNCED = "clock not synced"
_NOT_YET_VALID = 9  # X509_V_ERR_CERT_NOT_YET_VALID of OpenSSL's x509_vfy.h


@dataclass(frozen=True)
class Dialled:
    """A connection on which MQTT may begin.

    Attributes:
        sock: connected, non-blocking, verified where TLS is on, and a WebSocket where that is wanted.
        credentials: read for this attempt.
        round_trip: what setting up the TCP connection took.
        certificates: validity of the certificates in use: ``broker``, ``client``, ``ca``.
    """

    sock: Stream
    credentials: Credentials = field(repr=False)
    round_trip: Ns
    certificates: dict[str, Validity] = field(default_factory=dict)


class _DialError(ChappeError):
    """An attempt failed in a way that has a name; never leaves this module."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class Dial:
    """One attempt to reach the broker.

    Args:
        settings: host, port, TLS files and the connect timeout.
        password: reads the password; called once, in this thread, as it may be a file.
        clock: times the set-up of the connection.
        done: takes the outcome, in this thread; not called after `cancel`.

    Attributes:
        secrets: fingerprint of the files with secrets, from shortly before they were used.
    """

    def __init__(
        self,
        settings: Mqtt,
        *,
        password: Callable[[], str | None],
        clock: Clock,
        done: Callable[[Dial, Dialled | Failure], None],
    ) -> None:
        self.secrets: bytes | None = None
        self._settings = settings
        self._password = password
        self._clock = clock
        self._done = done
        self._lock = threading.Lock()
        self._cancelled = False
        self._sock: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="mqtt-connect", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def cancel(self) -> None:
        """Forget the attempt; a connection it may still make is closed."""
        with self._lock:
            self._cancelled = True
            if self._sock is not None:
                # No timeout: a connect that is about to wait does not. Shutdown: one that waits, or a handshake, ends; closing would
                # not wake it. Not SSLSocket's own: that takes the TLS object away under the other thread's hands.
                self._sock.settimeout(0)
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def join(self, timeout_s: float) -> None:
        """Wait for the thread, which only a name server that does not answer can hold up."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        outcome: Dialled | Failure = Failure("refused", "an internal error ended the attempt")
        try:
            outcome = self._attempt()
        except _DialError as error:
            outcome = error.failure
        finally:
            self._deliver(outcome)

    def _deliver(self, outcome: Dialled | Failure) -> None:
        with self._lock:
            sock, self._sock = self._sock, None
            if sock is not None and (self._cancelled or isinstance(outcome, Failure)):
                sock.close()
            if not self._cancelled:
                self._done(self, outcome)

    def _attempt(self) -> Dialled:
        self.secrets = fingerprint(self._settings)
        credentials = self._credentials()
        context = _tls_context(self._settings) if self._settings.tls else None
        begun = self._clock.now()
        self._connect()
        round_trip = Ns(self._clock.now() - begun)
        if context is not None:
            self._secure(context)
        sock = self._sock
        assert sock is not None
        stream = self._upgrade(sock) if self._settings.transport == "websockets" else sock
        sock.setblocking(False)
        return Dialled(stream, credentials, round_trip, _certificates(self._settings, sock))

    def _credentials(self) -> Credentials:
        try:
            return Credentials(self._settings.username, self._password())
        except (ChappeError, OSError, UnicodeDecodeError) as error:
            reason = f"the password cannot be read: {_plain(error)}"
            raise _DialError(Failure("auth_failed", reason)) from error

    def _connect(self) -> None:
        host, port = self._settings.host, self._settings.port
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _DialError(Failure("no_network", f"the name {host!r} cannot be resolved: {_plain(error)}")) from error
        problem: OSError | None = None
        for family, kind, protocol, _, address in addresses:
            try:
                self._adopt(socket.socket(family, kind, protocol)).connect(address)
            except OSError as error:
                problem = problem or error
            else:
                return
        raise _DialError(_unreachable(problem, f"{host}:{port}")) from problem

    def _adopt(self, sock: socket.socket) -> socket.socket:
        sock.settimeout(self._timeout_s)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            # A batch is one write already; waiting for the peer's delayed ACK would only add 40 ms to the next.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            if self._sock is not None:
                self._sock.close()
            self._sock = sock
            if self._cancelled:
                raise _DialError(Failure("off", "cancelled"))
        return sock

    @property
    def _timeout_s(self) -> float:
        return as_seconds(self._settings.connect_timeout)

    def _secure(self, context: ssl.SSLContext) -> None:
        plain = self._sock
        assert plain is not None
        try:
            with self._lock:
                secured = context.wrap_socket(plain, server_hostname=self._settings.host, do_handshake_on_connect=False)
                self._sock = secured
            _shake_hands(secured, self._timeout_s)
        except (OSError, ValueError) as error:
            raise _DialError(_insecure(error)) from error

    def _upgrade(self, sock: socket.socket) -> Stream:
        from chappe.edge.mqtt.websocket import upgrade

        try:
            upgraded = upgrade(sock, self._settings)
        except OSError as error:
            raise _DialError(_insecure(error, "the WebSocket handshake")) from error
        if isinstance(upgraded, Failure):
            raise _DialError(upgraded)
        return upgraded


def _tls_context(settings: Mqtt) -> ssl.SSLContext:
    """A client context that verifies the chain and the name, from the configured files or the system's authorities."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file or None)
    except (OSError, ValueError) as error:
        files = ", ".join(filter(None, (settings.ca_file, settings.cert_file, settings.key_file)))
        raise _DialError(
            Failure("tls_untrusted", f"the TLS files ({files}) cannot be used: {_plain(error)}")
        ) from error
    return context


def _certificates(settings: Mqtt, sock: socket.socket) -> dict[str, Validity]:
    """What is in use on this connection; one that we cannot make out has been good enough for OpenSSL, and is left out."""
    found = {}
    if isinstance(sock, ssl.SSLSocket):
        with contextlib.suppress(ValueError):
            found["broker"] = certificates.of_der(sock.getpeercert(binary_form=True) or b"")
        with contextlib.suppress(ValueError, OSError):
            if settings.cert_file:
                found["client"] = certificates.of_ours(settings.cert_file)
        with contextlib.suppress(ValueError, OSError):
            if settings.ca_file:
                found["ca"] = certificates.of_authorities(settings.ca_file)
    return found


def _shake_hands(secured: ssl.SSLSocket, timeout_s: float) -> None:
    secured.setblocking(False)
    try:
        secured.do_handshake()
    except ssl.SSLWantReadError:
        _look_for_http(secured, timeout_s)
    secured.settimeout(timeout_s)
    secured.do_handshake()


def _look_for_http(secured: ssl.SSLSocket, timeout_s: float) -> None:
    """Peek at the first answer below TLS: a captive portal answers a ClientHello in plain HTTP."""
    poll = select.poll()
    poll.register(secured, select.POLLIN)
    if not poll.poll(timeout_s * 1000):
        raise TimeoutError("no answer to the TLS handshake")
    if socket.socket.recv(secured, len(HTTP), socket.MSG_PEEK).startswith(HTTP):
        raise _DialError(Failure("captive_portal_suspected", "the TLS handshake was answered in plain HTTP"))


def _unreachable(error: OSError | None, address: str) -> Failure:
    if isinstance(error, TimeoutError):
        return Failure("no_network", f"{address} does not answer", "silent")
    if error is None or error.errno in _NO_NETWORK:
        return Failure("no_network", f"{address} cannot be reached: {_plain(error)}")
    return Failure("refused", f"{address} refuses the connection: {_plain(error)}")


def _insecure(error: Exception, what: str = "the TLS handshake") -> Failure:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code == _NOT_YET_VALID and not clock_synced():
            return Failure("tls_untrusted", f"the broker's certificate is not yet valid: {CLOCK_UNSYNCED}")
        return Failure("tls_untrusted", f"the broker's certificate is not trusted: {error.verify_message}")
    if isinstance(error, TimeoutError):
        return Failure("no_network", f"no answer to {what}", "silent")
    return Failure("refused", f"{what} failed: {_plain(error)}")


def rejects_certificate(error: OSError | None) -> bool:
    """Whether this is the broker's alert about our certificate, which TLS 1.3 sends after the handshake (RFC 8446 section 6.2)."""
    return isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "") and "VERSION" not in (error.reason or "")


def _plain(error: Exception | None) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) if error is not None else "no address"
