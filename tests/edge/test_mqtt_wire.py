"""The buffered socket between paho and the network."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.edge.mqtt.terms import Counters
from chappe.edge.mqtt.wire import HEAD, Wire


@pytest.fixture
def pair() -> Iterator[tuple[Wire, socket.socket]]:
    """A wire and the other end of its socket."""
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        far.settimeout(5)
        yield Wire(near, Counters()), far


Pair = tuple[Wire, socket.socket]


def test_reading_waits_for_fill(pair: Pair) -> None:
    """`recv` takes from the buffer only, in pieces of any size, and blocks on nothing."""
    wire, far = pair
    far.sendall(b"abcdef")
    with pytest.raises(BlockingIOError):
        wire.recv(1)
    assert wire.fill()
    assert (wire.recv(1), wire.recv(3), wire.recv(99)) == (b"a", b"bcd", b"ef")
    with pytest.raises(BlockingIOError):
        wire.recv(1)


def test_a_second_fill_keeps_what_was_not_read(pair: Pair) -> None:
    """Bytes of both are read in order."""
    wire, far = pair
    far.sendall(b"abc")
    wire.fill()
    assert wire.recv(1) == b"a"
    far.sendall(b"def")
    wire.fill()
    assert wire.recv(99) == b"bcdef"


def test_filling_from_a_quiet_socket_is_nothing(pair: Pair) -> None:
    """No data is not the end."""
    wire, _ = pair
    assert not wire.fill()
    assert (wire.ended, wire.error, wire.unread) == (False, None, False)


def test_a_packet_is_offered_when_it_is_whole(pair: Pair) -> None:
    """A reader that comes when there is something never finds half of it."""
    wire, far = pair
    for piece, whole in ((b"\x90", False), (b"\x03\x00", False), (b"\x01\x00\xd0", True)):
        far.sendall(piece)
        wire.fill()
        assert wire.unread == whole
    assert wire.recv(5) == b"\x90\x03\x00\x01\x00"
    assert not wire.unread


def test_pubacks_are_taken_out_of_the_front(pair: Pair) -> None:
    """Those before another packet; the ones behind it when that has been read."""
    wire, far = pair
    far.sendall(bytes.fromhex("400200014003000210d000400200034002"))
    wire.fill()
    assert wire.pubacks() == [(1, 0), (2, 0x10)]
    assert wire.pubacks() == []
    assert wire.recv(2) == b"\xd0\x00"
    assert wire.pubacks() == [(3, 0)]
    far.sendall(b"\x00\x04")
    wire.fill()
    assert wire.pubacks() == [(4, 0)]


def test_the_end_is_seen_after_the_last_byte(pair: Pair) -> None:
    """What came before the peer closed is read first; then `recv` says end of file."""
    wire, far = pair
    far.sendall(b"bye")
    far.close()
    wire.fill()
    wire.fill()
    assert (wire.ended, wire.error) == (True, None)
    assert (wire.recv(99), wire.recv(99)) == (b"bye", b"")


@given(st.lists(st.binary(min_size=1, max_size=5), max_size=8))
def test_the_head_is_the_first_bytes_however_they_come(pieces: list[bytes]) -> None:
    """For telling what the peer speaks."""
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        wire = Wire(near, Counters())
        for piece in pieces:
            far.sendall(piece)
            wire.fill()
        assert wire.head == b"".join(pieces)[:HEAD]


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=10), st.lists(st.integers(1, 50), max_size=40))
def test_reading_gives_exactly_what_was_sent(pieces: list[bytes], sizes: list[int]) -> None:
    """Whatever the sizes on either side."""
    near, far = socket.socketpair()
    near.setblocking(False)
    counters = Counters()
    with near, far:
        wire, got = Wire(near, counters), b""
        for number, piece in enumerate(pieces):
            far.sendall(piece)
            wire.fill()
            if number < len(sizes):
                with contextlib.suppress(BlockingIOError):
                    got += wire.recv(sizes[number])
        with contextlib.suppress(BlockingIOError):
            while True:
                got += wire.recv(7)
    assert got == b"".join(pieces)
    assert counters.bytes_in == len(got)


def test_writing_waits_for_flush(pair: Pair) -> None:
    """A batch of packets leaves in one piece."""
    wire, far = pair
    assert wire.send(b"abc") == 3
    wire.send(bytearray(b"def"))
    assert wire.unsent
    far.setblocking(False)
    with pytest.raises(BlockingIOError):
        far.recv(99)
    wire.flush()
    assert not wire.unsent
    assert far.recv(99) == b"abcdef"


def test_a_socket_that_is_full_keeps_the_rest_waiting() -> None:
    """Against a peer that does not read, `flush` writes what fits and says whether it wrote anything; all arrives when it reads on."""
    near, far = socket.socketpair()
    near.setblocking(False)
    counters = Counters()
    with near, far:
        far.settimeout(5)
        wire = Wire(near, counters)
        wire.out += bytes(4_000_000)
        assert wire.flush()
        assert wire.unsent
        assert not wire.flush()
        assert counters.bytes_out == 4_000_000 - len(wire.out)
        got = 0
        while got < 4_000_000:
            got += len(far.recv(100_000))
            wire.flush()
        assert (got, counters.bytes_out, wire.unsent) == (4_000_000, 4_000_000, False)


def test_the_last_words_are_read_when_writing_fails(pair: Pair) -> None:
    """The peer said why and closed: our write fails, the reason is still there to be read."""
    wire, far = pair
    far.sendall(b"\xe0\x01\x8e")
    far.close()
    wire.send(b"too late")
    wire.flush()
    assert wire.ended
    assert wire.recv(99) == b"\xe0\x01\x8e"
    assert not wire.unsent


def test_closing_is_a_note_and_releasing_is_real(pair: Pair) -> None:
    """paho's close leaves the descriptor valid for the selector; `release` closes it, any number of times."""
    wire, _ = pair
    number = wire.fileno()
    wire.close()
    assert wire.closed
    assert wire.fileno() == number
    wire.release()
    wire.release()
    assert wire.fileno() == -1


def test_finishing_tells_the_peer(pair: Pair) -> None:
    """End of file at the other side, while what it sends can still be read."""
    wire, far = pair
    wire.send(b"last")
    wire.flush()
    wire.finish()
    assert (far.recv(99), far.recv(99)) == (b"last", b"")
    far.sendall(b"x")
    wire.fill()
    assert wire.recv(9) == b"x"
    wire.release()
    wire.finish()


class Records(ssl.SSLSocket):
    """A TLS socket that has decrypted more than one call returned."""

    def __new__(cls, *_: object) -> Self:
        return super().__new__(cls)

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks

    def recv(self, *_: object) -> bytes:
        if not self.chunks:
            raise ssl.SSLWantReadError
        return self.chunks.pop(0)

    def pending(self) -> int:
        return sum(map(len, self.chunks))


def test_what_tls_has_decrypted_is_taken_at_once() -> None:
    """The selector would not wake for it again."""
    wire = Wire(Records([b"ab", b"cd", b"ef"]), Counters())
    wire.fill()
    assert wire.recv(99) == b"abcdef"
    wire.fill()
    assert not wire.ended
