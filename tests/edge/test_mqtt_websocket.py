"""MQTT's bytes in WebSocket frames, against the server's half of the package `websockets` on a socket pair."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.core.settings import Mqtt
from chappe.edge.mqtt.terms import Counters, Failure
from chappe.edge.mqtt.websocket import CHUNK, WebSocketStream, upgrade
from chappe.edge.mqtt.wire import Wire

pytest.importorskip("websockets", reason="the package websockets is not installed")

from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

SETTINGS = Mqtt(host="broker.example", port=8080, transport="websockets")


class Server:
    """The other end: says what a test tells it to, and knows what it was told."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.request: Request | None = None
        self.frames: list[Frame] = []
        self.protocol = ServerProtocol(subprotocols=[Subprotocol("mqtt")])

    def take_in(self) -> None:
        data = self.sock.recv(1_000_000)
        if data:
            self.protocol.receive_data(data)
        else:
            self.protocol.receive_eof()
        for event in self.protocol.events_received():
            if isinstance(event, Request):
                self.request = event
            else:
                assert isinstance(event, Frame)
                self.frames.append(event)

    def give_out(self) -> None:
        self.sock.sendall(b"".join(self.protocol.data_to_send()))

    def greet(self) -> None:
        """Answer the request to upgrade."""
        while self.request is None:
            self.take_in()
        self.protocol.send_response(self.protocol.accept(self.request))
        self.give_out()

    def says(self, data: bytes, opcode: str = "binary", *, fin: bool = True) -> None:
        getattr(self.protocol, f"send_{opcode}")(data, **({} if opcode in ("ping", "pong") else {"fin": fin}))
        self.give_out()

    def heard(self, count: int) -> bytes:
        """The first `count` bytes of MQTT that came."""
        while sum(len(frame.data) for frame in self.frames) < count:
            self.take_in()
        assert all(frame.opcode is Opcode.BINARY for frame in self.frames)
        return b"".join(frame.data for frame in self.frames)


Pair = tuple[WebSocketStream, Server]


def connect(greet: Callable[[Server], None] = Server.greet) -> tuple[WebSocketStream | Failure, Server]:
    """Both ends of a connection, after the handshake."""
    near, far = socket.socketpair()
    near.settimeout(20)
    far.settimeout(20)
    server = Server(far)
    thread = threading.Thread(target=greet, args=(server,))
    thread.start()
    made = upgrade(near, SETTINGS)
    thread.join()
    if isinstance(made, Failure):
        near.close()
    else:
        near.setblocking(False)
    return made, server


@pytest.fixture
def pair() -> Iterator[Pair]:
    made, server = connect()
    assert isinstance(made, WebSocketStream)
    yield made, server
    made.close()
    server.sock.close()


# ── the handshake ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_asks_for_mqtt(pair: Pair) -> None:
    """The path and the subprotocol (MQTT-6.0.0-3), and the host by name."""
    _, server = pair
    assert server.request is not None
    assert server.request.path == "/mqtt"
    assert server.request.headers["Sec-WebSocket-Protocol"] == "mqtt"
    assert server.request.headers["Host"] == "broker.example:8080"


@pytest.mark.feature("MQT-09", breaks="chappe.edge.mqtt.websocket:_refusal")
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\nContent-Length: 0\r\n\r\n",
            "captive_portal_suspected",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "captive_portal_suspected"),
        (b"HTTP/1.1 511 Network Authentication Required\r\nContent-Length: 0\r\n\r\n", "captive_portal_suspected"),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "auth_failed"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "refused"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "refused"),
        (b"\x20\x02\x00\x01 this is no HTTP\r\n\r\n", "refused"),
        (b"", "refused"),
    ],
    ids=["302", "200", "511", "401", "404", "no key", "no HTTP", "nothing"],
)
def test_another_answer_is_told_apart(answer: bytes, status: str) -> None:
    """A portal's page or its way there, a proxy that wants a password, a server that knows nothing of this."""

    def reply(server: Server) -> None:
        server.take_in()
        server.sock.sendall(answer)
        server.sock.shutdown(socket.SHUT_WR)

    made, server = connect(reply)
    server.sock.close()
    assert isinstance(made, Failure)
    assert made.status == status


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a bug, but a part of the installation that is missing."""
    monkeypatch.setitem(sys.modules, "websockets.client", None)
    near, far = socket.socketpair()
    with near, far:
        made = upgrade(near, SETTINGS)
    assert isinstance(made, Failure)
    assert "chappe[websockets]" in made.reason


# ── bytes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_packets_and_frames_need_not_match(pair: Pair) -> None:
    """One packet in three pieces of a fragmented message, and two packets in one frame (MQTT-6.0.0-2)."""
    stream, server = pair
    server.says(b"\x90\x03", fin=False)
    server.says(b"\x00", "continuation", fin=False)
    server.says(b"\x01\x00", "continuation")
    server.says(b"\xd0\x00\xd0\x00")
    assert stream.recv(CHUNK) == b"\x90\x03\x00\x01\x00\xd0\x00\xd0\x00"
    with pytest.raises(BlockingIOError):
        stream.recv(CHUNK)


def test_half_a_frame_is_nothing_yet(pair: Pair) -> None:
    """The selector wakes, and there is no byte of MQTT."""
    stream, server = pair
    server.protocol.send_binary(b"abc")
    frame = b"".join(server.protocol.data_to_send())
    server.sock.sendall(frame[:-1])
    with pytest.raises(BlockingIOError):
        stream.recv(CHUNK)
    server.sock.sendall(frame[-1:])
    assert stream.recv(CHUNK) == b"abc"


def test_a_ping_is_answered(pair: Pair) -> None:
    """With what was in it (RFC 6455 section 5.5.3), and it is not MQTT."""
    stream, server = pair
    server.says(b"there?", "ping")
    with pytest.raises(BlockingIOError):
        stream.recv(CHUNK)
    server.take_in()
    assert [(frame.opcode, frame.data) for frame in server.frames] == [(Opcode.PONG, b"there?")]


@pytest.mark.parametrize("farewell", [True, False])
def test_the_end_is_an_end(pair: Pair, farewell: bool) -> None:
    """A close frame, or none: what came before it is read first, then there is nothing, and nothing can be sent."""
    stream, server = pair
    server.says(b"last")
    if farewell:
        server.protocol.send_close(1001)
        server.give_out()
    else:
        server.sock.shutdown(socket.SHUT_WR)
    assert stream.recv(CHUNK) == b"last"
    assert stream.recv(CHUNK) == b""
    with pytest.raises(BrokenPipeError):
        stream.send(bytearray(b"too late"))


@pytest.mark.parametrize(("opcode", "data"), [("text", b"hello"), ("binary", b"")])
def test_text_has_no_place_here(pair: Pair, opcode: str, data: bytes) -> None:
    """MQTT is binary (MQTT-6.0.0-1); an empty frame is harmless."""
    stream, server = pair
    server.says(data, opcode)
    with pytest.raises(ConnectionError if opcode == "text" else BlockingIOError):
        stream.recv(CHUNK)


def test_a_frame_that_breaks_the_rules_ends_it(pair: Pair) -> None:
    """A continuation of nothing."""
    stream, server = pair
    server.sock.sendall(b"\x80\x01x")
    assert stream.recv(CHUNK) == b""


def test_leaving_says_so(pair: Pair) -> None:
    """A close frame, then the end of the stream; what the server still says can be heard."""
    stream, server = pair
    stream.shutdown(socket.SHUT_WR)
    server.take_in()
    assert server.protocol.close_rcvd is not None
    assert server.protocol.close_rcvd.code == 1000
    server.sock.shutdown(socket.SHUT_WR)
    assert stream.recv(CHUNK) == b""


def test_a_socket_that_is_full_loses_nothing(pair: Pair) -> None:
    """Frames are finished by later calls; the bytes counted are those of MQTT alone, each once; a ping in between disturbs nothing."""
    stream, server = pair
    counters = Counters()
    wire = Wire(stream, counters)
    sent = bytes(range(256)) * 8_000
    wire.out += sent
    wire.flush()
    assert wire.unsent
    server.says(b"!", "ping")
    assert not wire.fill()
    for _ in range(10_000):
        if not wire.unsent:
            break
        server.take_in()
        wire.flush()
    server.frames[:] = [frame for frame in server.frames if frame.opcode is not Opcode.PONG]
    while sum(len(frame.data) for frame in server.frames) < len(sent):
        server.take_in()
    heard = [frame for frame in server.frames if frame.opcode is Opcode.BINARY]
    assert b"".join(frame.data for frame in heard) == sent
    assert counters.bytes_out == len(sent)


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=10))
def test_bytes_go_through_unchanged(pieces: list[bytes]) -> None:
    """In both directions, whatever the frames."""
    stream, server = connect()
    assert isinstance(stream, WebSocketStream)
    wire = Wire(stream, Counters())
    for piece in pieces:
        server.says(piece)
        wire.out += piece
        wire.flush()
    wire.fill()
    whole = b"".join(pieces)
    assert (wire.recv(10_000), server.heard(len(whole))) == (whole, whole)
    stream.close()
    server.sock.close()


def test_the_answer_can_carry_bytes_behind_it() -> None:
    """A server that is quick: its first frame comes with the answer to the handshake."""

    def greet(server: Server) -> None:
        server.take_in()
        assert server.request is not None
        response = server.protocol.accept(server.request)
        assert isinstance(response, Response)
        server.protocol.send_response(response)
        server.protocol.send_binary(b"at once")
        server.give_out()

    stream, server = connect(greet)
    assert isinstance(stream, WebSocketStream)
    assert stream.recv(CHUNK) == b"at once"
    stream.close()
    server.sock.close()
