"""One connection of a consumer to its broker: paho-mqtt, with acknowledgements by hand. Made anew for each connection.

paho is imported by `Link.open`, not before.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from chappe.consumer.terms import Incoming, Outgoing
from chappe.errors import LinkError

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

    from chappe.consumer.codec import Paho

log = logging.getLogger(__name__)

BATCH = 500
"""Most messages of one pass, which is one commit."""

RECEIVE_MAXIMUM = 100
"""Unacknowledged messages that the broker may send; more of them make a commit cheaper, and a crash of ours costs more repeats."""

WINDOW = 100
"""Most publishes of ours that wait for the broker's word; a broker may grant fewer (MQTT 5 section 3.2.2.3.3)."""

GOODBYE_S = 1.0
"""How long a goodbye may take; a broker that does not take it will miss it."""

GOODBYE_PASSES = 20

REFUSAL = 0x80
"""Reason codes from here on say no (MQTT 5 section 2.4)."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How to get at the broker.

    Attributes:
        version: ``5`` or ``3.1.1``.
        username: empty for none.
        password_file: file with the password, read at each connection; empty for none.
        tls: whether to use TLS; the chain and the name are always verified.
        ca_file: authorities to believe, empty for the system's.
        cert_file, key_file: a client certificate, empty for none.
        keepalive_s: seconds between signs of life.
        session_expiry_s: how long the broker keeps the session, and with it the messages, while this consumer is away (MQTT 5 only).
        connect_timeout_s: longest wait for a connection.
    """

    version: Literal["5", "3.1.1"] = "5"
    username: str = ""
    password_file: str = ""
    tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    keepalive_s: int = 20
    session_expiry_s: int = 7 * 86_400
    connect_timeout_s: float = 5.0


class Link:
    """One connection.

    Args:
        host: the broker's.
        port: the broker's.
        client_id: must be the same at every start, as the broker keeps the session under it.
        filters: what to subscribe to, with QoS 1.
        access: how to get in.

    Attributes:
        ready: whether the broker has granted every subscription.
        failure: why the connection ended, or was refused; empty while all is well.
    """

    def __init__(self, host: str, port: int, client_id: str, filters: Sequence[str], access: Access) -> None:
        self.ready = False
        self.failure = ""
        self._host = host
        self._port = port
        self._client_id = client_id
        self._filters = tuple(filters)
        self._access = access
        self._messages: list[Incoming] = []
        self._acked: list[int] = []
        self._under_way: dict[int, int] = {}
        self._window = 1
        self._client: Paho | None = None

    def open(self) -> None:
        """Connect, and write the CONNECT.

        Raises:
            LinkError: if the broker cannot be reached, or a file cannot be read.
        """
        from chappe.consumer.codec import Paho, connect_properties

        access, five = self._access, self._access.version == "5"
        wishes = connect_properties(access.session_expiry_s, RECEIVE_MAXIMUM) if five else None
        try:
            password = _password(access)
            client = Paho(_dial(self._host, self._port, access), self._client_id, five=five)
        except (OSError, ValueError) as error:
            raise LinkError(f"{self._host}:{self._port} cannot be reached: {error}") from error
        self._client = client
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        if access.username or password is not None:
            client.username_pw_set(access.username, password)
        asked: dict[str, Any] = {"clean_start": False, "properties": wishes} if five else {}
        client.connect(self._host, self._port, access.keepalive_s, **asked)

    # ── one pass ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def pump(self, wait_s: float) -> tuple[list[Incoming], list[int]]:
        """Read and write what can be read and written now.

        Args:
            wait_s: how long to wait for something.

        Returns:
            Messages that came, and numbers of receipts that the broker has acknowledged.
        """
        client = self._client
        assert client is not None, "the link is not open"
        before, seen = -1, 0
        while not self.failure and before < seen < BATCH:
            before = seen
            if client.loop(wait_s) and not self.failure:
                self.failure = "the connection is lost"
            wait_s = 0.0
            seen = len(self._messages) + len(self._acked)
        messages, self._messages = self._messages, []
        acked, self._acked = self._acked, []
        return messages, acked

    def acknowledge(self, batch: Sequence[Incoming]) -> None:
        """Tell the broker that these have arrived."""
        if self._client is not None and not self.failure:
            for incoming in batch:
                self._client.ack(incoming.handle, incoming.qos)

    @property
    def room(self) -> int:
        """How much may be published now."""
        return max(0, self._window - len(self._under_way))

    def publish(self, out: Outgoing) -> None:
        """Send something."""
        if self._client is None or self.failure:
            return
        from chappe.consumer.codec import request_properties

        asking = out.reply_to and self._access.version == "5"
        properties = request_properties(out.reply_to, out.correlation) if asking else None
        info = self._client.publish(out.topic, out.payload, qos=1, properties=properties)
        self._under_way[info.mid] = out.receipt

    def close(self) -> None:
        """Say goodbye, so that the broker keeps the session without complaint; idempotent."""
        client, self._client = self._client, None
        if client is None:
            return
        client.disconnect()
        for _ in range(GOODBYE_PASSES):
            if client.socket() is None or client.loop(GOODBYE_S / GOODBYE_PASSES):
                break
        client.hang_up()

    # ── what paho calls ──────────────────────────────────────────────────────────────────────────────────────────────

    def _on_connect(self, client: Client, _data: Any, flags: Any, reason: Any, given: Any) -> None:
        if reason.is_failure:
            self.failure = f"the broker refuses: {reason}"
            return
        self._window = min(getattr(given, "ReceiveMaximum", WINDOW), WINDOW)
        log.info(
            "connected, the broker %s", "has kept the session" if flags.session_present else "begins a new session"
        )
        client.subscribe([(each, 1) for each in self._filters])

    def _on_subscribe(self, _client: Client, _data: Any, _mid: int, reasons: Sequence[Any], _given: Any) -> None:
        refused = [each for each, reason in zip(self._filters, reasons, strict=False) if reason.is_failure]
        if refused:
            self.failure = f"the broker does not let us listen to {', '.join(refused)}"
            return
        self.ready = True
        log.info("subscribed to %s", ", ".join(self._filters))

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", b"") if message.properties is not None else b""
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        self._messages.append(Incoming(topic, bytes(message.payload), message.qos, correlation, message.mid))

    def _on_publish(self, _client: Client, _data: Any, mid: int, reason: Any, _given: Any) -> None:
        receipt = self._under_way.pop(mid, 0)
        if receipt:
            self._acked.append(receipt)
            if reason.value >= REFUSAL:
                log.warning("the broker does not take our receipts: %s", reason)

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: Any, _given: Any) -> None:
        self.failure = self.failure or f"disconnected: {reason}"


def _password(access: Access) -> str | None:
    return Path(access.password_file).read_text(encoding="utf-8").strip() if access.password_file else None


def _dial(host: str, port: int, access: Access) -> socket.socket:
    """A connection, with TLS where that is wanted; verified, or not at all."""
    context = ssl.create_default_context(cafile=access.ca_file or None) if access.tls else None
    if context is not None and access.cert_file:
        context.load_cert_chain(access.cert_file, access.key_file or None)
    sock = socket.create_connection((host, port), access.connect_timeout_s)
    # A commit's acknowledgements leave at once, not after the other end's delayed ACK.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock if context is None else context.wrap_socket(sock, server_hostname=host)
