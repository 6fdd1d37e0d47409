"""One connection at manual time, against a socket that the test writes and reads."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.core.effects import Acknowledge, Listen, Publish, Unlisten
from chappe.core.events import Acked, Arrived, Asked, Event, LinkUp
from chappe.core.settings import Mqtt
from chappe.core.topics import Subscription
from chappe.core.units import SECOND, Ns, Span
from chappe.edge.mqtt.session import Session
from chappe.edge.mqtt.terms import Counters, Credentials, Identity, Version
from chappe.edge.mqtt.wire import Wire

IDENTITY = Identity(
    "tower", (Subscription("r/+", retain_as_published=True, retain_handling=2),), "r/", "tower/state", b"offline"
)
SETTINGS = Mqtt(ack_stall=Span(15 * SECOND), connect_timeout=Span(5 * SECOND), keepalive=Span(3600 * SECOND))
PATIENCE = Ns(SECOND)
NOBODY = Credentials("", None)

CONNACK = b"\x20\x03\x00\x00\x00"
SUBACK = b"\x90\x04\x00\x01\x00\x01"


class Bench:
    """A session and the broker's end of its socket."""

    def __init__(self, version: Version = "5", identity: Identity = IDENTITY) -> None:
        near, self.far = socket.socketpair()
        near.setblocking(False)
        self.far.setblocking(False)
        self.wire = Wire(near, Counters())
        self.session = Session(
            self.wire,
            version,
            settings=SETTINGS,
            identity=identity,
            patience=PATIENCE,
            receipts=count(1),
            certificates={"broker": 17},
        )
        self.now = Ns(0)

    def open(self, credentials: Credentials = NOBODY) -> bytes:
        """The CONNECT it sends."""
        self.session.open(credentials, self.now)
        return self.sent()

    def says(self, data: bytes, at: int | None = None) -> list[Event]:
        """The broker sends `data`; the events of the pass."""
        self.far.sendall(data)
        return self.passes(at)

    def passes(self, at: int | None = None) -> list[Event]:
        """One pass at `at`."""
        self.now = Ns(self.now if at is None else at)
        self.session.read(self.now)
        self.session.tick(self.now)
        return self.session.drain(self.now)

    def sent(self) -> bytes:
        try:
            return self.far.recv(1_000_000)
        except BlockingIOError:
            return b""

    def ready(self) -> LinkUp:
        """Bring it up."""
        self.open()
        self.says(CONNACK)
        (up,) = self.says(SUBACK)
        assert isinstance(up, LinkUp)
        self.sent()
        return up

    def close(self) -> None:
        self.wire.release()
        self.far.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def message(token: int, qos: int = 1) -> Publish:
    return Publish(token=token, topic="t", payload=b"x", qos=qos)


# ── the handshake ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_connect_says_what_it_should(bench: Bench) -> None:
    """MQTT 5, clean start false, will retained with QoS 1, session expiry 1 d, Receive Maximum 20, user and password."""
    packet = bench.open(Credentials("tower", "hunter2"))
    assert packet[2:9] == b"\x00\x04MQTT\x05"
    assert packet[9] == 0b1110_1100
    assert struct.unpack("!H", packet[10:12]) == (3600,)
    properties = packet[13 : 13 + packet[12]]
    assert b"\x11" + struct.pack("!L", 86_400) in properties
    assert b"\x21\x00\x14" in properties
    assert packet.endswith(b"\x00\x05tower\x00\x00\x0btower/state\x00\x07offline\x00\x05tower\x00\x07hunter2")


def test_on_3_1_1_it_says_the_same_with_fewer_words() -> None:
    """Level 4, clean session false, the same will, no properties, no credentials where there are none."""
    bench = Bench("3.1.1")
    packet = bench.open()
    assert packet[2:9] == b"\x00\x04MQTT\x04"
    assert packet[9] == 0b0010_1100
    assert packet[12:] == b"\x00\x05tower\x00\x0btower/state\x00\x07offline"
    bench.close()


def test_online_is_connack_and_suback(bench: Bench) -> None:
    """The CONNACK alone brings the SUBSCRIBE with its options, the SUBACK brings `LinkUp`."""
    bench.open()
    assert bench.says(CONNACK) == []
    assert bench.sent() == b"\x82\x09\x00\x01\x00\x00\x03r/+" + bytes([0b10_1001])
    assert bench.says(SUBACK, at=7) == [
        LinkUp(at=Ns(7), protocol="5", window=100, max_packet=0, certificates={"broker": 17})
    ]
    assert bench.session.phase == "ready"


def test_without_subscriptions_the_connack_is_enough() -> None:
    """Nothing to wait for."""
    bench = Bench(identity=Identity("tower", (), "r/", "s", b""))
    bench.open()
    assert bench.says(CONNACK) == [LinkUp(at=Ns(0), protocol="5", window=100, certificates={"broker": 17})]
    bench.close()


def test_the_brokers_limits_are_in_link_up(bench: Bench) -> None:
    """Receive Maximum 7 and Maximum Packet Size 900."""
    bench.open()
    bench.says(b"\x20\x0b\x00\x00\x08\x21\x00\x07\x27\x00\x00\x03\x84")
    (up,) = bench.says(SUBACK)
    assert isinstance(up, LinkUp)
    assert (up.window, up.max_packet) == (7, 900)


def test_connack_suback_and_end_in_one_read_are_three_things(bench: Bench) -> None:
    """The link was up, if only for a moment: `LinkUp` is posted and the end is `lost`, not a refusal."""
    bench.open()
    bench.says(CONNACK)
    events = bench.says(SUBACK + b"\xe0\x01\x8e")
    assert [type(event) for event in events] == [LinkUp]
    assert bench.session.end is not None
    assert (bench.session.end.status, bench.session.end.reason) == ("lost", "the broker says: Session taken over")
    assert bench.session.end.cut


@pytest.mark.parametrize(
    ("spoken", "at", "reason"), [(b"", 0, "CONNECT"), (CONNACK, 4 * SECOND, "SUBSCRIBE")], ids=["CONNACK", "SUBACK"]
)
def test_the_handshake_has_deadlines(bench: Bench, spoken: bytes, at: int, reason: str) -> None:
    """The CONNACK has `patience`, the SUBACK the connect timeout: a nanosecond before there is no end, then there is."""
    bench.open()
    bench.says(spoken)
    due = PATIENCE + at
    assert bench.session.next_due == due
    bench.passes(due - 1)
    assert bench.session.end is None
    bench.passes(due)
    assert bench.session.end is not None
    assert reason in bench.session.end.reason


# ── acknowledgements ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_all_acknowledgements_of_a_pass_are_one_event(bench: Bench) -> None:
    """Three PUBACKs in one read: one `Acked` with the tokens, codes as they came."""
    bench.ready()
    bench.session.publish([message(token) for token in (70, 71, 72)], bench.now)
    bench.passes()
    sent = bench.sent()
    mids = [sent[n + 5 : n + 7] for n in range(0, len(sent), len(sent) // 3)]
    (event,) = bench.says(
        b"".join(b"\x40\x03" + mid + bytes([code]) for mid, code in zip(mids, (0, 0x10, 0x87), strict=True))
    )
    assert isinstance(event, Acked)
    assert [(ack.token, ack.code) for ack in event.items] == [(70, 0), (71, 0x10), (72, 0x87)]


@pytest.mark.feature("MQT-04", breaks="chappe.edge.mqtt.session:Session._overdue")
def test_the_stall_is_exact(bench: Bench) -> None:
    """A publish at 10 s without PUBACK: at 25 s minus a nanosecond the link is up, at 25 s it is lost."""
    bench.ready()
    bench.now = Ns(10 * SECOND)
    bench.session.publish([message(1)], bench.now)
    assert bench.session.next_due == 25 * SECOND
    bench.passes(25 * SECOND - 1)
    assert bench.session.end is None
    bench.passes(25 * SECOND)
    assert bench.session.end is not None
    assert (bench.session.end.status, bench.session.end.reason) == ("lost", "no PUBACK for 15 s")


def test_nothing_unacknowledged_means_nothing_due(bench: Bench) -> None:
    """An idle link is looked after by keepalive alone."""
    bench.ready()
    ping = bench.session.next_due
    assert ping == 3600 * SECOND
    bench.session.publish([message(1, qos=0)], bench.now)
    bench.passes()
    assert bench.session.next_due == ping


# ── pings ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("MQT-04", breaks="chappe.edge.mqtt.pulse:Pulse.ping")
def test_a_silent_link_is_found_dead_after_two_keepalives(bench: Bench) -> None:
    """Nothing said, nothing heard: a ping after one keepalive; nothing again for one more, and the link is lost, exactly then."""
    bench.ready()
    hour = 3600 * SECOND
    bench.passes(hour - 1)
    assert bench.sent() == b""
    bench.passes(hour)
    assert bench.sent() == b"\xc0\x00"
    bench.passes(2 * hour - 1)
    assert bench.session.end is None
    bench.passes(2 * hour)
    assert bench.session.end is not None
    assert (bench.session.end.status, bench.session.end.cut) == ("lost", False)
    assert bench.session.end.reason == "the broker does not answer pings"


def test_any_byte_is_a_sign_of_life(bench: Bench) -> None:
    """The answer to a ping stands behind a long download: its first bytes are enough to go on."""
    bench.ready()
    hour = 3600 * SECOND
    bench.passes(hour)
    bench.says(b"\x30\xff\x7f\x00", at=2 * hour - 1)
    bench.passes(2 * hour)
    assert bench.session.end is None
    assert bench.session.next_due is not None
    assert bench.session.next_due > 2 * hour


def test_a_brokers_own_keepalive_holds(bench: Bench) -> None:
    """Server Keep Alive in the CONNACK (MQTT 5 section 3.2.2.3.14) is used instead of ours."""
    bench.open()
    bench.says(b"\x20\x06\x00\x00\x03\x13\x00\x05")
    bench.says(SUBACK)
    assert bench.session.next_due == 5 * SECOND


# ── orders ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_listening_to_more_stands_before_what_is_published_after_it(bench: Bench) -> None:
    """A SUBSCRIBE with QoS 1 on the running connection, then the PUBLISH; later an UNSUBSCRIBE."""
    bench.ready()
    bench.session.obey(Listen(filter="tower/stream/x"))
    bench.session.publish([message(1)], bench.now)
    bench.passes()
    sent = bench.sent()
    subscribe = b"\x82\x14\x00\x02\x00\x00\x0etower/stream/x\x01"
    assert sent[: len(subscribe)] == subscribe
    assert sent[len(subscribe)] == 0x32
    bench.session.obey(Unlisten(filter="tower/stream/x"))
    bench.passes()
    assert bench.sent() == b"\xa2\x13\x00\x03\x00\x00\x0etower/stream/x"


def test_a_filter_that_is_refused_later_is_told(bench: Bench) -> None:
    """Once; one that is granted is no news."""
    bench.ready()
    for text in ("a", "b"):
        bench.session.obey(Listen(filter=text))
    bench.says(b"\x90\x04\x00\x02\x00\x01" + b"\x90\x04\x00\x03\x00\x87")
    assert bench.session.refusals() == ("b",)
    assert bench.session.refusals() == ()


def test_what_was_meant_for_the_connection_before_is_passed_over(bench: Bench) -> None:
    """Before this one is ready nobody can have meant it."""
    bench.open()
    bench.session.obey(Listen(filter="a"))
    bench.session.obey(Unlisten(filter="a"))
    bench.session.obey(Acknowledge(receipts=(1, 2)))
    bench.says(CONNACK)
    assert bench.sent() == b"\x82\x09\x00\x01\x00\x00\x03r/+" + bytes([0b10_1001])


def request(mid: int, qos: int = 1) -> bytes:
    """A request as the broker sends it."""
    body = b"\x00\x03r/x" + (mid.to_bytes(2) if qos else b"") + b"\x00"
    return bytes([0x30 | qos << 1, len(body)]) + body


def test_a_request_is_acknowledged_when_the_core_says_so(bench: Bench) -> None:
    """Not before; then once, however often it is said."""
    bench.ready()
    (asked,) = bench.says(request(9))
    assert isinstance(asked, Asked)
    assert bench.sent() == b""
    for _ in range(2):
        bench.session.obey(Acknowledge(receipts=(asked.receipt,)))
        bench.passes()
    assert bench.sent() == b"\x40\x02\x00\x09"


def test_what_is_no_request_is_acknowledged_at_once(bench: Bench) -> None:
    """In the pass in which it came."""
    bench.ready()
    (arrived,) = bench.says(b"\x32\x06\x00\x01t\x00\x07\x00")
    assert isinstance(arrived, Arrived)
    assert bench.sent() == b"\x40\x02\x00\x07"


def test_a_request_without_quality_of_service_needs_no_receipt(bench: Bench) -> None:
    """Its receipt is 0."""
    bench.ready()
    (asked,) = bench.says(request(0, qos=0))
    assert isinstance(asked, Asked)
    assert asked.receipt == 0
    assert bench.sent() == b""


# ── how it ends ──────────────────────────────────────────────────────────────────────────────────────────────────────


def end_of(bench: Bench) -> tuple[str, bool]:
    """Status, and whether the broker ended it."""
    bench.passes()
    bench.passes()
    assert bench.session.end is not None
    return bench.session.end.status, bench.session.end.cut


@pytest.mark.parametrize("words", [b"", b"\xe0\x00", b"\xe0\x02\x8b\x00"], ids=["end of file", "3.1.1", "MQTT 5"])
def test_a_connection_that_the_broker_ends_was_cut(bench: Bench, words: bytes) -> None:
    """It hangs up, or says DISCONNECT first."""
    bench.ready()
    bench.far.sendall(words)
    bench.far.shutdown(socket.SHUT_WR)
    assert end_of(bench) == ("lost", True)


def test_a_reset_is_a_cut_and_a_network_that_gives_up_is_not(bench: Bench) -> None:
    """The kernel says which: ECONNRESET comes from the other side, ETIMEDOUT from nobody."""
    for number, cut in ((errno.ECONNRESET, True), (errno.ETIMEDOUT, False), (errno.EHOSTUNREACH, False)):
        made = Bench()
        made.ready()
        made.wire._end(OSError(number, "over"))
        assert end_of(made) == ("lost", cut)
        made.close()


def test_rubbish_is_our_reason_to_leave(bench: Bench) -> None:
    """A packet that makes no sense ends the connection from our side."""
    bench.ready()
    bench.says(b"\xf0\xff\xff\xff\xff\xff")
    assert end_of(bench) == ("lost", False)


def test_before_the_link_was_up_nothing_is_cut(bench: Bench) -> None:
    """Closed without a CONNACK, or before the SUBACK."""
    for spoken in (b"", CONNACK):
        made = Bench()
        made.open()
        made.says(spoken)
        made.far.shutdown(socket.SHUT_WR)
        assert end_of(made) == ("refused", False)
        made.close()


def test_acknowledgements_of_the_last_read_are_not_lost(bench: Bench) -> None:
    """PUBACK and end of file together: the token is judged before the link is reported lost."""
    bench.ready()
    bench.session.publish([message(5)], bench.now)
    bench.passes()
    mid = bench.sent()[5:7]
    bench.far.sendall(b"\x40\x02" + mid)
    bench.far.shutdown(socket.SHUT_WR)
    events = [*bench.passes(), *bench.passes()]
    assert [ack.token for event in events if isinstance(event, Acked) for ack in event.items] == [5]
    assert bench.session.end is not None
    assert bench.session.end.status == "lost"


def test_batches_before_the_link_is_ready_wait_for_it(bench: Bench) -> None:
    """Nothing leaves between CONNECT and SUBACK."""
    bench.open()
    bench.session.publish([message(1)], bench.now)
    bench.says(CONNACK)
    assert bench.sent().startswith(b"\x82")
    assert bench.sent() == b""
    bench.says(SUBACK)
    assert bench.sent().startswith(b"\x32")


# ── the goodbye ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("MQT-05", breaks="chappe.edge.mqtt.session:Session.leave")
def test_the_goodbye_follows_what_was_handed_over(bench: Bench) -> None:
    """PUBLISH, then DISCONNECT, then end of file; over when the broker hangs up."""
    bench.ready()
    bench.session.publish([message(1)], bench.now)
    bench.session.leave(bench.now)
    sent = bench.sent()
    assert sent.startswith(b"\x32")
    assert sent.endswith(b"\xe0\x00")
    assert bench.far.recv(1) == b""
    bench.passes()
    assert bench.session.end is None
    bench.far.close()
    bench.passes()
    assert bench.session.end is not None
    assert bench.session.end.status == "off"


def test_the_goodbye_does_not_wait_for_ever(bench: Bench) -> None:
    """A broker that does not hang up has a second."""
    bench.ready()
    bench.session.leave(bench.now)
    assert bench.session.next_due == SECOND
    bench.passes(SECOND - 1)
    assert bench.session.end is None
    bench.passes(SECOND)
    assert bench.session.end is not None


def test_a_goodbye_before_the_connack_is_said_too(bench: Bench) -> None:
    """The CONNECT has named a will already."""
    assert bench.open()
    bench.session.leave(bench.now)
    assert bench.sent() == b"\xe0\x00"


def test_a_goodbye_waits_for_a_full_socket(bench: Bench) -> None:
    """What was handed over is written first, however slowly the broker reads; DISCONNECT is the last thing it gets."""
    bench.ready()
    big = [Publish(token=n, topic="t", payload=bytes(100_000)) for n in range(20)]
    bench.session.publish(big, bench.now)
    bench.session.leave(bench.now)
    assert bench.wire.unsent
    got = b""
    while not got.endswith(b"\xe0\x00"):
        got += bench.sent()
        bench.passes()
        assert bench.session.end is None
    assert len(got) > 2_000_000


# ── strangers and rubbish ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "captive_portal_suspected"),
        (b"\x20\x03\x00\x86\x00", "auth_failed"),
        (b"\x20\x03\x00\x84\x00", "refused"),
        (b"\x20\x02\x00\x05", "refused"),
    ],
)
def test_the_answer_to_the_connect_gives_the_status(bench: Bench, said: bytes, status: str) -> None:
    """At once, without waiting for the peer to hang up."""
    bench.open()
    bench.says(said)
    assert bench.session.end is not None
    assert bench.session.end.status == status


packets = st.builds(
    lambda first, body: bytes([first, len(body)]) + body,
    st.sampled_from([0x20, 0x30, 0x31, 0x32, 0x34, 0x40, 0x50, 0x62, 0x70, 0x90, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0]),
    st.binary(max_size=12) | st.binary(max_size=3).map(lambda rest: b"\x00\x01" + rest),
)


@given(st.sampled_from(["5", "3.1.1"]), st.integers(0, 2), st.lists(packets | st.binary(max_size=8), max_size=6))
def test_no_bytes_are_a_bug(version: Version, known: int, rubbish: list[bytes]) -> None:
    """Whatever a broker sends, in whatever phase: the session goes on or ends with a reason; nothing is raised."""
    bench = Bench(version)
    greetings = (CONNACK, SUBACK) if version == "5" else (b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x01")
    bench.open()
    for each in greetings[:known]:
        bench.says(each)
    bench.session.publish([message(1), message(2, qos=0)], bench.now)
    for each in rubbish:
        events = bench.says(each)
        assert all(isinstance(event, LinkUp | Acked | Arrived | Asked) for event in events)
        if bench.session.end is not None:
            assert bench.session.end.reason
            break
    bench.close()
