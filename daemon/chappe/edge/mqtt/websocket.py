"""MQTT inside WebSocket (RFC 6455; MQTT 5 section 6), in the shape of a socket: the package `websockets` frames, we read and write.

Only the bytes of MQTT come out at the top: what framing adds is counted nowhere.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from typing import TYPE_CHECKING

from chappe.edge.mqtt.terms import Failure

if TYPE_CHECKING:
    from websockets.client import ClientProtocol

    from chappe.core.settings import Mqtt

PATH = "/mqtt"
"""Where brokers listen for it, by default or in any case (paho's default, too)."""

CHUNK = 64 * 1024

_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_PORTAL = frozenset({200, 301, 302, 303, 307, 308, 511})
"""What a portal answers to whatever it is asked: a page, the way to one, or RFC 6585's own code."""
_WHO = frozenset({401, 403, 407})
_NORMAL = 1000  # RFC 6455 section 7.4.1


def upgrade(sock: socket.socket, settings: Mqtt) -> WebSocketStream | Failure:
    """Turn a connection into a WebSocket for MQTT.

    Args:
        sock: connected, with a timeout, TLS or plain.
        settings: host, port and whether TLS is on.

    Raises:
        OSError: if the connection fails meanwhile.
    """
    try:
        from websockets.client import ClientProtocol
        from websockets.protocol import CONNECTING, OPEN
        from websockets.typing import Subprotocol
        from websockets.uri import parse_uri
    except ImportError:
        return Failure(
            "refused", 'mqtt.transport = "websockets" needs the package websockets: install chappe[websockets]'
        )
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    uri = parse_uri(f"{'wss' if settings.tls else 'ws'}://{host}:{settings.port}{PATH}")
    protocol = ClientProtocol(uri, subprotocols=[Subprotocol("mqtt")], max_size=None)
    protocol.send_request(protocol.connect())
    sock.sendall(b"".join(protocol.data_to_send()))
    while protocol.state is CONNECTING and protocol.handshake_exc is None:
        data = sock.recv(CHUNK)
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
    if protocol.state is OPEN:
        return WebSocketStream(sock, protocol)
    return _refusal(protocol.handshake_exc)


def _refusal(error: Exception | None) -> Failure:
    response = getattr(error, "response", None)
    if response is None:
        return Failure("refused", f"what answers is no WebSocket: {error}")
    answer = f"the way to {PATH} was answered with {response.status_code} {response.reason_phrase}"
    if response.status_code in _PORTAL:
        return Failure("captive_portal_suspected", answer)
    return Failure("auth_failed" if response.status_code in _WHO else "refused", answer)


class WebSocketStream:
    """The payloads of a WebSocket's binary frames as a stream of bytes.

    Args:
        sock: connected and, from the first call here on, non-blocking.
        protocol: its handshake is over.
    """

    def __init__(self, sock: socket.socket, protocol: ClientProtocol) -> None:
        self._sock = sock
        self._protocol = protocol
        self._out = bytearray()
        self._owed = 0
        self._ended = False

    def fileno(self) -> int:
        return self._sock.fileno()

    def recv(self, size: int, /) -> bytes:
        """What has come; may be more than `size`, as a frame is as long as it is.

        Raises:
            BlockingIOError: if nothing has.
            OSError: if the connection is broken.
        """
        self._fill(size)
        data = self._payload()
        # Pongs, and the answer to a farewell; where there is no room for them now, they leave before the next frame.
        self._out += b"".join(self._protocol.data_to_send())
        with contextlib.suppress(*_LATER):
            self._push()
        if not data and not self._over:
            raise BlockingIOError
        return data

    def _fill(self, size: int) -> None:
        """Read until nothing is left: what TLS has decrypted wakes no selector."""
        with contextlib.suppress(*_LATER):
            while not self._ended:
                data = self._sock.recv(size)
                if data:
                    self._protocol.receive_data(data)
                else:
                    self._ended = True
                    self._protocol.receive_eof()

    @property
    def _over(self) -> bool:
        """Whether the other side has hung up, said in a frame that it will, or broken the rules."""
        protocol = self._protocol
        return self._ended or protocol.close_rcvd is not None or protocol.parser_exc is not None

    def _payload(self) -> bytes:
        """Frames of MQTT are binary; where a packet begins in one means nothing (MQTT-6.0.0-2)."""
        from websockets.frames import Frame, Opcode

        frames = [event for event in self._protocol.events_received() if isinstance(event, Frame)]
        if any(frame.opcode is Opcode.TEXT for frame in frames):
            raise ConnectionError("the broker sent text where MQTT has binary frames")
        return b"".join(frame.data for frame in frames if frame.opcode in (Opcode.BINARY, Opcode.CONT))

    def send(self, data: bytearray, /) -> int:
        """Send the beginning of `data`; returns how much of it.

        A frame that the socket takes only a part of is finished by the calls after it, which bring the same bytes again.

        Raises:
            BlockingIOError: if there is no room.
            OSError: if the connection is broken.
        """
        if not self._owed:
            if self._over:
                raise BrokenPipeError(errno.EPIPE, "the WebSocket is closed")
            piece = bytes(data[:CHUNK])
            self._protocol.send_binary(piece)
            self._out += b"".join(self._protocol.data_to_send())
            self._owed = len(piece)
        self._push()
        sent, self._owed = self._owed, 0
        return sent

    def _push(self) -> None:
        while self._out:
            del self._out[: self._sock.send(self._out)]

    def shutdown(self, how: int, /) -> None:
        """Say goodbye in a frame, as far as there is room for it, then as a socket does."""
        if not self._over:
            self._protocol.send_close(_NORMAL)
            self._out += b"".join(self._protocol.data_to_send())
        with contextlib.suppress(*_LATER):
            self._push()
        self._sock.shutdown(how)

    def close(self) -> None:
        self._sock.close()
