"""When certificates begin and end to be valid: the few bytes of X.509 that say so (RFC 5280 section 4.1).

The standard library tells this of the peer's certificate only, and of files only where they hold authorities.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_BEFORE_VALIDITY = 3  # serialNumber, signature, issuer
_LONG_FORM = 0x80


@dataclass(frozen=True)
class Validity:
    """Both ends in seconds since the Unix epoch."""

    not_before: int
    not_after: int


def of_der(der: bytes) -> Validity:
    """The validity of a certificate.

    Raises:
        ValueError: if this is no certificate.
    """
    try:
        _, at, _ = _element(der, 0, _SEQUENCE)
        _, at, _ = _element(der, at, _SEQUENCE)
        tag, _, after = _element(der, at)
        if tag == _VERSION:
            at = after
        for _ in range(_BEFORE_VALIDITY):
            _, _, at = _element(der, at)
        _, at, _ = _element(der, at, _SEQUENCE)
        not_before, at = _time(der, at)
        not_after, _ = _time(der, at)
    except IndexError:
        raise ValueError("the certificate is cut short") from None
    return Validity(not_before, not_after)


def of_ours(path: str) -> Validity:
    """When a file with our certificate, and perhaps its chain, is valid: while all in it are.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if there is no certificate in it.
    """
    every = _of_file(path)
    return Validity(max(each.not_before for each in every), min(each.not_after for each in every))


def of_authorities(path: str) -> Validity:
    """When a file with authorities is of use: that of the one that lasts longest, as the old one stays in it while they change.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if there is no certificate in it.
    """
    return max(_of_file(path), key=lambda each: each.not_after)


def _of_file(path: str) -> list[Validity]:
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    found = [of_der(ssl.PEM_cert_to_DER_cert(block)) for block in _PEM.findall(text)]
    if not found:
        raise ValueError(f"there is no certificate in {path}")
    return found


def _element(der: bytes, at: int, wanted: int | None = None) -> tuple[int, int, int]:
    """Tag, beginning and end of the contents of the DER element at `at` (X.690 section 8.1)."""
    tag, length, at = der[at], der[at + 1], at + 2
    if wanted is not None and tag != wanted:
        raise ValueError(f"no certificate: tag 0x{tag:02x} instead of 0x{wanted:02x}")
    if length >= _LONG_FORM:
        count = length - _LONG_FORM
        length, at = int.from_bytes(der[at : at + count]), at + count
    if at + length > len(der):
        raise IndexError
    return tag, at, at + length


def _time(der: bytes, at: int) -> tuple[int, int]:
    """A time (RFC 5280 section 4.1.2.5) and where it ends."""
    tag, at, after = _element(der, at)
    text = der[at:after].decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError(f"no certificate: tag 0x{tag:02x} instead of a time")
    moment = datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    return int(moment.timestamp()), after
