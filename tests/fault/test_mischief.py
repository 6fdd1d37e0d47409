"""The proxy does what it is told to, and nothing else."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .mischief import PUBACK, PUBLISH, Mischief, Splitter, packet_size
from .recorder import WITHIN_S

PACKET = bytes([PUBLISH << 4 | 2, 5, 0, 1, 97, 0, 7])
ACK = bytes([PUBACK << 4, 2, 0, 7])
PING = bytes([0xC0, 0])


class Echo:
    """Takes one connection and gives back what comes, byte for byte."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.heard = bytearray()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        peer, _ = self._listener.accept()
        with peer, contextlib.suppress(ConnectionResetError):
            while data := peer.recv(4096):
                self.heard += data
                peer.sendall(data)

    def close(self) -> None:
        self._thread.join(WITHIN_S)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    there = Echo()
    yield there
    there.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Mischief]:
    with Mischief(echo.port) as made:
        yield made


@pytest.fixture
def link(proxy: Mischief) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port)) as made:
        made.settimeout(WITHIN_S)
        yield made


def read(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = link.recv(size - len(data))
        assert more, f"closed after {len(data)} of {size} bytes"
        data += more
    return data


def test_it_forwards_both_ways(link: socket.socket, echo: Echo) -> None:
    link.sendall(PACKET + PING)
    assert read(link, len(PACKET + PING)) == PACKET + PING == bytes(echo.heard)


def test_packets_of_a_kind_go_twice_and_others_once(link: socket.socket, proxy: Mischief, echo: Echo) -> None:
    proxy.be(twice=[PUBLISH])
    link.sendall(PING + PACKET + ACK)
    assert read(link, 1)
    wanted = PING + PACKET * 2 + ACK
    # On the way back each of the two is doubled again.
    assert read(link, len(PING + PACKET * 4 + ACK) - 1)[-len(ACK) :] == ACK
    assert bytes(echo.heard) == wanted
    assert proxy.doubled == 3


def test_packets_of_a_kind_can_be_swallowed_on_their_way_to_the_broker(
    link: socket.socket, proxy: Mischief, echo: Echo
) -> None:
    proxy.be(unsaid=[PUBACK])
    link.sendall(PING + ACK + PACKET)
    assert read(link, len(PING + PACKET)) == PING + PACKET == bytes(echo.heard)


def test_packets_of_a_kind_can_be_swallowed_on_their_way_to_the_device(
    link: socket.socket, proxy: Mischief, echo: Echo
) -> None:
    proxy.be(unheard=[PUBACK])
    link.sendall(PING + ACK + PACKET)
    assert read(link, len(PING + PACKET)) == PING + PACKET
    assert bytes(echo.heard) == PING + ACK + PACKET


def test_a_packet_in_pieces_is_doubled_whole(link: socket.socket, proxy: Mischief, echo: Echo) -> None:
    proxy.be(twice=[PUBACK])
    link.sendall(ACK[:3])
    link.sendall(ACK[3:])
    assert read(link, 4 * len(ACK)) == ACK * 4
    assert bytes(echo.heard) == ACK * 2


def test_a_trickle_arrives_whole_in_many_pieces(link: socket.socket, proxy: Mischief, echo: Echo) -> None:
    proxy.be(trickle=True)
    packet = bytes([PUBLISH << 4, 0xE8, 0x07]) + bytes(1000)
    link.sendall(packet)
    assert read(link, len(packet)) == packet
    # How many of them the other end takes at once is its business.
    assert proxy.pieces >= len(packet) == len(echo.heard)


def test_a_delay_keeps_the_order_and_takes_its_time(link: socket.socket, proxy: Mischief) -> None:
    proxy.be(delay_s=0.05)
    began = time.monotonic()
    packets = [bytes([PUBLISH << 4, 1, n]) for n in range(50)]
    for packet in packets:
        link.sendall(packet)
    assert read(link, 150) == b"".join(packets)
    # Both ways; never sooner, however fast the machine.
    assert time.monotonic() - began >= 0.1


def test_nothing_overtakes_what_is_still_delayed(link: socket.socket, proxy: Mischief, echo: Echo) -> None:
    proxy.be(delay_s=0.1)
    link.sendall(PACKET)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    proxy.be()
    link.sendall(PING)
    assert read(link, len(PACKET + PING)) == PACKET + PING


def test_what_is_delayed_when_the_link_is_cut_is_lost(link: socket.socket, proxy: Mischief, echo: Echo) -> None:
    proxy.be(delay_s=3600)
    link.sendall(PACKET)
    proxy.cut()
    with pytest.raises(OSError, match=r"reset|closed"):
        read(link, 1)
    assert not echo.heard


def test_a_half_open_link_swallows_and_closes_nothing(link: socket.socket, proxy: Mischief, echo: Echo) -> None:
    link.sendall(PING)
    assert read(link, 2) == PING
    proxy.hold()
    link.sendall(PACKET)
    assert bytes(echo.heard) == PING
    proxy.resume()
    assert read(link, len(PACKET)) == PACKET


def test_a_refused_link_is_reset_and_no_other_is_taken_until_it_listens_again(
    link: socket.socket, proxy: Mischief
) -> None:
    proxy.refuse()
    with pytest.raises(OSError, match=r"reset|closed"):
        read(link, 1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port))
    proxy.accept()
    assert proxy.accepted == 1
    # Its backlog takes a connection before the proxy does.
    socket.create_connection(("127.0.0.1", proxy.port)).close()


@given(st.lists(st.tuples(st.integers(1, 15), st.integers(0, 20_000)), max_size=6), st.integers(1, 700))
def test_packets_are_found_however_the_bytes_are_cut(shapes: list[tuple[int, int]], piece: int) -> None:
    packets = [bytes([kind << 4]) + length(size) + bytes(size) for kind, size in shapes]
    stream = b"".join(packets)
    splitter = Splitter()
    found = [packet for n in range(0, len(stream), piece) for packet in splitter.take(stream[n : n + piece])]
    assert found == packets


def length(size: int) -> bytes:
    """A variable byte integer, MQTT 5 section 1.5.5."""
    out = bytearray()
    while True:
        size, low = size >> 7, size & 0x7F
        out.append(low | (0x80 if size else 0))
        if not size:
            return bytes(out)


@pytest.mark.parametrize("size", [0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455])
def test_the_size_of_a_packet_is_read_from_its_header(size: int) -> None:
    header = b"\x30" + length(size)
    assert packet_size(header) == len(header) + size
    assert packet_size(header[:-1]) == 0
