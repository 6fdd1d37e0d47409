"""Which status a failed handshake or a lost connection gets: pure, from what was seen on the wire."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from chappe.edge.mqtt.terms import Failure, Version

HTTP = b"HTTP/"
CONNACK = 0x20
_CONNACK_OF_3_1_1 = b"\x20\x02"  # two bytes follow; in MQTT 5 at least three do (MQTT 5 section 3.2)
_TLS_ALERT = b"\x15\x03"  # RFC 8446 section 5.1

UNSUPPORTED_VERSION = 0x84
AUTHENTICATION = frozenset({0x86, 0x87, 0x8A, 0x8C})
"""CONNACK codes about who we are: bad user name or password, not authorized, banned, bad authentication method (MQTT 5 section
3.2.2.2). paho translates 4 and 5 of MQTT 3.1.1 into the first two."""


OVERDUE: Mapping[str, Failure] = {
    "connecting": Failure("refused", "the broker did not answer the CONNECT in time", "silent"),
    "subscribing": Failure("refused", "the broker did not answer the SUBSCRIBE in time"),
    "leaving": Failure("off", "disconnected"),
}
"""What it means when a phase has lasted too long."""

# The network's word that nobody answers: the peer has ended nothing.
_SILENCE = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})


def lost(words: str, error: OSError | None, *, ended: bool, dismissed: bool) -> Failure:
    """What the end of a connection that was up means.

    Args:
        words: how it ended.
        error: what the socket said, None for nothing.
        ended: whether the other side, or the network, has ended it; else we have.
        dismissed: whether the broker said DISCONNECT.
    """
    silence = error is not None and error.errno in _SILENCE
    return Failure("lost", words, cut=dismissed or (ended and not silence))


def last_words(farewell: str, error: OSError | None) -> str:
    """How a connection ended, in words.

    Args:
        farewell: what the broker said or did wrong last, empty for nothing.
        error: what the socket said, None where the peer just closed it.
    """
    if farewell or error is None:
        return farewell or "the broker closed the connection"
    return error.strerror or str(error)


def stranger(head: bytes) -> Failure | None:
    """What answered our CONNECT, if it was no MQTT broker.

    Args:
        head: the first bytes it sent, at least one.
    """
    if head[0] == CONNACK:
        return None
    if head.startswith(HTTP[: len(head)]):
        return Failure("captive_portal_suspected", "the CONNECT was answered in HTTP")
    if head.startswith(_TLS_ALERT[: len(head)]):
        return Failure("refused", "the broker wants TLS on this port (set mqtt.tls)")
    return Failure("refused", "what answers on this port is no MQTT broker")


def refusal(code: int, name: str) -> Failure:
    """What a CONNACK with a failure code means.

    Args:
        code: reason code of MQTT 5, or paho's translation of a return code of 3.1.1.
        name: its name.
    """
    if code in AUTHENTICATION:
        return Failure("auth_failed", f"the broker refuses us: {name}")
    return Failure(
        "refused",
        f"the broker refuses the connection: {name}",
        "unsupported" if code == UNSUPPORTED_VERSION else "other",
    )


def unanswered(head: bytes, version: Version, last_words: str) -> Failure:
    """What an end without a CONNACK that we could read means.

    Args:
        head: the first bytes the broker sent, empty if none.
        version: what we had spoken.
        last_words: how the connection ended.
    """
    if not head:
        return Failure("refused", f"no answer to the CONNECT: {last_words}", "closed")
    if version == "5" and head.startswith(_CONNACK_OF_3_1_1):
        return Failure("refused", "the broker answered MQTT 5 with a CONNACK of 3.1.1", "unsupported")
    return Failure("refused", "the broker's CONNACK makes no sense")
