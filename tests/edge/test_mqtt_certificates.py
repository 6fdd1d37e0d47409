"""When a certificate begins and ends, read from its own bytes."""

from __future__ import annotations

import base64
import contextlib
import shutil
import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.edge.mqtt.certificates import Validity, of_authorities, of_der, of_ours


def der(tag: int, *contents: bytes) -> bytes:
    """An element of DER (X.690 section 8.1)."""
    body = b"".join(contents)
    size = len(body)
    length = bytes([size]) if size < 0x80 else bytes([0x82]) + size.to_bytes(2)
    return bytes([tag]) + length + body


def utc(text: str) -> bytes:
    return der(0x17, text.encode())


def generalized(text: str) -> bytes:
    return der(0x18, text.encode())


def certificate(begin: bytes, end: bytes, *, version: bool = True, filler: int = 0) -> bytes:
    """As much of a certificate as matters here; `filler` makes its issuer long."""
    shown = [der(0xA0, der(0x02, b"\x02"))] if version else []
    tbs = der(0x30, *shown, der(0x02, b"\x01"), der(0x30), der(0x30, bytes(filler)), der(0x30, begin, end), der(0x30))
    return der(0x30, tbs, der(0x30), der(0x03, b"\x00"))


def pem(data: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(data).decode()}-----END CERTIFICATE-----\n"


def stamp(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp())


JANUARY, JUNE, DECEMBER = utc("260101000000Z"), utc("260601000000Z"), utc("261201000000Z")


@pytest.mark.parametrize("version", [True, False], ids=["v3", "v1"])
@pytest.mark.parametrize("filler", [0, 300])
def test_the_validity_is_found(version: bool, filler: int) -> None:
    """With or without a version, behind a short or a long issuer."""
    made = certificate(JANUARY, DECEMBER, version=version, filler=filler)
    assert of_der(made) == Validity(stamp(2026, 1, 1), stamp(2026, 12, 1))


def test_both_ways_to_write_a_year() -> None:
    """Two digits mean 1950 to 2049, four mean what they say (RFC 5280 section 4.1.2.5)."""
    assert of_der(certificate(utc("500101000000Z"), utc("491231000000Z"))) == Validity(
        stamp(1950, 1, 1), stamp(2049, 12, 31)
    )
    far = certificate(generalized("20500101000000Z"), generalized("99991231000000Z"))
    assert of_der(far) == Validity(stamp(2050, 1, 1), stamp(9999, 12, 31))


@given(st.binary(max_size=200) | st.integers(0, 80).map(lambda cut: certificate(JANUARY, DECEMBER)[:cut]))
def test_what_is_no_certificate_is_an_error(data: bytes) -> None:
    """Rubbish, or a certificate cut short: `ValueError`, nothing else."""
    if data == certificate(JANUARY, DECEMBER):
        return
    with pytest.raises(ValueError, match=r"."):
        of_der(data)


@given(st.binary(min_size=1, max_size=10), st.integers(0, 60))
def test_a_damaged_certificate_is_read_or_an_error(noise: bytes, at: int) -> None:
    """Wherever the damage is."""
    made = bytearray(certificate(JANUARY, DECEMBER))
    made[at : at + len(noise)] = noise
    with contextlib.suppress(ValueError):
        assert isinstance(of_der(bytes(made)), Validity)


def test_a_chain_is_valid_while_all_of_it_is(tmp_path: Path) -> None:
    """Ours and the authority between: the later beginning, the earlier end; a key in the same file is passed over."""
    file = tmp_path / "client.pem"
    key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    file.write_text(key + pem(certificate(JANUARY, DECEMBER)) + pem(certificate(utc("250101000000Z"), JUNE)))
    assert of_ours(str(file)) == Validity(stamp(2026, 1, 1), stamp(2026, 6, 1))


def test_authorities_are_of_use_as_long_as_one_of_them_is(tmp_path: Path) -> None:
    """The old one stays in the file while brokers change over to the new one."""
    file = tmp_path / "ca.pem"
    file.write_text(pem(certificate(JANUARY, JUNE)) + pem(certificate(JUNE, DECEMBER)))
    assert of_authorities(str(file)) == Validity(stamp(2026, 6, 1), stamp(2026, 12, 1))


def test_a_file_without_a_certificate_is_an_error(tmp_path: Path) -> None:
    """Named."""
    file = tmp_path / "empty.pem"
    file.write_text("nothing\n")
    with pytest.raises(ValueError, match=r"empty\.pem"):
        of_ours(str(file))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_agrees(tmp_path: Path) -> None:
    """On a certificate of its own making."""
    file = tmp_path / "own.pem"
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "9",
    ]
    subprocess.run(
        [*make, "-keyout", tmp_path / "key", "-out", file, "-subj", "/CN=x"], check=True, capture_output=True
    )
    told = subprocess.run(
        ["openssl", "x509", "-noout", "-dates", "-in", file], check=True, capture_output=True, text=True
    ).stdout
    dates = dict(line.split("=") for line in told.splitlines())
    expected = Validity(*(int(ssl.cert_time_to_seconds(dates[name])) for name in ("notBefore", "notAfter")))
    assert of_ours(str(file)) == expected
