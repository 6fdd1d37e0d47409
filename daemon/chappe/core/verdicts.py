"""What becomes of a message by the broker's answer to it: the reason codes of PUBACK (MQTT 5.0 section 3.4.2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from chappe.core.units import SECOND

Verdict = Literal["done", "retry", "held", "dead"]

# A forbidden stream is held, not thrown away, so that a typing error in an access list destroys nothing.
VERDICTS: Mapping[int, tuple[Verdict, str]] = {
    0x00: ("done", ""),
    0x10: ("done", "no_subscriber"),
    0x80: ("retry", "unspecified"),
    0x83: ("retry", "implementation_specific"),
    0x87: ("held", "not_authorized"),
    0x90: ("dead", "topic_name_invalid"),
    0x95: ("dead", "too_large"),
    0x97: ("retry", "quota_exceeded"),
    0x99: ("dead", "payload_format_invalid"),
}
FAILURE = 0x80
NOT_AUTHORIZED = 0x87
ATTEMPTS = 5
LONGEST_PAUSE = 60 * SECOND


def judge(code: int, attempts: int) -> tuple[Verdict, str]:
    """The verdict on a message, and the reason in one word.

    Args:
        code: the reason code.
        attempts: how often the message has been tried, this time included. A refusal this table does not know is tried five times.
    """
    if code in VERDICTS:
        return VERDICTS[code]
    if code < FAILURE:
        return "done", ""
    return ("dead" if attempts >= ATTEMPTS else "retry"), f"0x{code:02x}"


def pause(verdict: Verdict, refusals: int) -> int:
    """How long a stream waits after its head was refused: 1, 2, 4 … 60 s; a held one 60 s at once."""
    return LONGEST_PAUSE if verdict == "held" else min(LONGEST_PAUSE, SECOND << min(refusals - 1, 6))
