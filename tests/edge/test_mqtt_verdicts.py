"""What bytes and codes of a broker, or of a stranger, mean for the status."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.edge.mqtt.terms import Failure
from chappe.edge.mqtt.verdicts import last_words, lost, refusal, stranger, unanswered


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"HTTP/1.1", "captive_portal_suspected"),
        (b"HTTP", "captive_portal_suspected"),
        (b"H", "captive_portal_suspected"),
        (b"HELO", "refused"),
        (b"\x15\x03\x03\x00", "refused"),
        (b"SSH-2.0-", "refused"),
        (b"\x00", "refused"),
    ],
)
def test_strangers(head: bytes, status: str) -> None:
    """HTTP is a captive portal, however little of it has come; all else that is no CONNACK is no broker."""
    failure = stranger(head)
    assert failure is not None
    assert (failure.status, failure.outcome) == (status, "other")


def test_a_tls_alert_names_the_remedy() -> None:
    """Plain MQTT to a TLS port: say what to set."""
    failure = stranger(b"\x15\x03\x03\x00\x02\x02\x46")
    assert failure is not None
    assert "mqtt.tls" in failure.reason


@given(st.binary(max_size=7))
def test_a_connack_is_no_stranger(rest: bytes) -> None:
    """Whatever follows its first byte is for the parser to judge."""
    assert stranger(b"\x20" + rest) is None


@pytest.mark.parametrize(
    ("code", "status", "outcome"),
    [
        (0x84, "refused", "unsupported"),
        (0x86, "auth_failed", "other"),
        (0x87, "auth_failed", "other"),
        (0x8A, "auth_failed", "other"),
        (0x8C, "auth_failed", "other"),
        (0x85, "refused", "other"),
        (0x88, "refused", "other"),
        (0x97, "refused", "other"),
        (0x9F, "refused", "other"),
    ],
)
def test_refusals(code: int, status: str, outcome: str) -> None:
    """Codes about who we are fail authentication; the one about the version says to speak another; the rest refuses."""
    failure = refusal(code, "the name")
    assert (failure.status, failure.outcome) == (status, outcome)
    assert "the name" in failure.reason


@pytest.mark.parametrize(
    ("head", "version", "outcome"),
    [
        (b"", "5", "closed"),
        (b"", "3.1.1", "closed"),
        (b"\x20\x02\x00\x04", "5", "unsupported"),
        (b"\x20\x02\x00\x04", "3.1.1", "other"),
        (b"\x20\x03\x00\xee\x00", "5", "other"),
    ],
)
def test_ends_without_a_connack(head: bytes, version: str, outcome: str) -> None:
    """Nothing at all is a close; a CONNACK of 3.1.1 to MQTT 5 names the version, whatever its code; the rest makes no sense."""
    failure = unanswered(head, version, "the end")  # type: ignore[arg-type]
    assert (failure.status, failure.outcome) == ("refused", outcome)


@pytest.mark.parametrize(
    ("number", "ended", "dismissed", "cut"),
    [
        (None, True, False, True),
        (errno.ECONNRESET, True, False, True),
        (errno.EPIPE, True, False, True),
        (errno.ETIMEDOUT, True, False, False),
        (errno.EHOSTUNREACH, True, False, False),
        (None, False, False, False),
        (None, False, True, True),
    ],
    ids=["end of file", "reset", "pipe", "timed out", "no route", "we left", "DISCONNECT"],
)
def test_who_ended_a_connection(number: int | None, ended: bool, dismissed: bool, cut: bool) -> None:
    """The other side: a cut. The network that gave up, or we: none."""
    error = None if number is None else OSError(number, "x")
    assert lost("words", error, ended=ended, dismissed=dismissed) == Failure("lost", "words", cut=cut)


def test_the_last_words_are_the_brokers_own_if_it_had_some() -> None:
    """Else the socket's, else that it was closed."""
    error = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    assert last_words("the broker says: x", error) == "the broker says: x"
    assert last_words("", error) == "Connection reset by peer"
    assert last_words("", OSError("odd")) == "odd"
    assert last_words("", None) == "the broker closed the connection"
