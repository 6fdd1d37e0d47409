"""The check items `certificates`, `secrets` and, where TLS is on, `broker`: what ends, what others can read, what the clock says."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chappe.checks import ITEMS, Finding, certificates, run_checks
from chappe.checks.certificates import judge, worst
from chappe.config import loads
from chappe.edge.broker import LocalBroker, find_mosquitto, free_port
from chappe.edge.mqtt.certificates import Validity

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")

DAY = 86_400
NOW = 1_800_000_000


def look(item: str, text: str, base: Path | None = None) -> Finding:
    skip = [each.id for each in ITEMS if each.id != item]
    (finding,) = run_checks(lambda: loads(f'[device]\nid = "tower-9"\n[mqtt]\n{text}', base=base), skip=skip)
    return finding


# ── how long a certificate lasts ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def at_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock stands still."""
    monkeypatch.setattr(certificates.SystemClock, "wall", lambda _: NOW * 1_000_000_000)


@pytest.mark.usefixtures("at_now")
@pytest.mark.feature("SEC-06", breaks="chappe.checks.certificates:judge")
@pytest.mark.parametrize(
    ("left", "status", "words"),
    [
        (31 * DAY, "pass", "in 31 days"),
        (30 * DAY, "pass", "in 30 days"),
        (30 * DAY - 1, "warn", "in 29 days"),
        (7 * DAY, "warn", "in 7 days"),
        (7 * DAY - 1, "fail", "in 6 days"),
        (DAY, "fail", "in 1 day,"),
        (0, "fail", "has ended on 2027-01-15"),
        (-5 * DAY, "fail", "has ended on 2027-01-10"),
    ],
)
def test_the_days_that_are_left_decide(left: int, status: str, words: str) -> None:
    """A warning with less than 30 days left, a failure with less than 7."""
    found = judge("it", Validity(NOW - DAY, NOW + left))
    assert (found[0], words in found[1]) == (status, True)
    assert (len(found) > 2) == (status != "pass")


@pytest.mark.usefixtures("at_now")
@pytest.mark.feature("SEC-06", breaks="chappe.checks.certificates:judge")
def test_a_clock_in_1970_is_named_and_not_the_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it begins: where the clock was never set, that is the reason; where it was, it is the certificate."""
    early = Validity(NOW + DAY, NOW + 400 * DAY)
    monkeypatch.setattr(certificates, "clock_synced", lambda: False)
    status, text, remedy = judge("it", early)  # type: ignore[misc]
    assert (status, text) == ("fail", "it is not yet valid: clock not synced")
    assert "timedatectl" in remedy
    monkeypatch.setattr(certificates, "clock_synced", lambda: True)
    assert judge("it", early)[:2] == ("fail", "it is not yet valid, but from 2027-01-16 on")


def test_several_answers_are_one() -> None:
    """The worst status, every line, each remedy once."""
    assert worst([("pass", "a"), ("warn", "b", "r"), ("warn", "c", "r"), ("pass", "d", "")]) == (
        "warn",
        "a\nb\nc\nd",
        "r",
    )
    assert worst([("warn", "a", "r"), ("fail", "b", "s")]) == ("fail", "a\nb", "r; s")


# ── real files ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Authority:
    """A CA in a folder, and certificates of it that last as long as a test wants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _run(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def own(self, days: int) -> None:
        """``ca.pem``, which lasts `days`."""
        self._run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                  "-days", str(days), "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca",
                  "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip

    def issue(self, name: str, days: int) -> None:
        """A certificate and its key for localhost."""
        (self.folder / "ext").write_text(
            "subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n", encoding="ascii"
        )
        self._run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                  "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")  # fmt: skip
        self._run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                  "-days", str(days), "-out", f"{name}.pem", "-extfile", "ext")  # fmt: skip


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """One that lasts for a year."""
    made = Authority(tmp_path)
    made.own(365)
    return made


OURS = 'tls = true\nca_file = "ca.pem"\ncert_file = "client.pem"\nkey_file = "client.key"'


@needs_openssl
@pytest.mark.feature("SEC-06", breaks="chappe.checks.certificates:certificates")
@pytest.mark.parametrize(("days", "status"), [(40, "pass"), (29, "warn"), (6, "fail")])
def test_our_own_files_are_looked_at(authority: Authority, days: int, status: str) -> None:
    """The client's certificate: 29 days are a warning, 6 a failure; both files are in the text."""
    authority.issue("client", days)
    found = look("certificates", OURS, authority.folder)
    assert found.status == status
    assert "mqtt.cert_file" in found.text
    assert "mqtt.ca_file" in found.text
    assert ("renew" in found.remedy) == (status != "pass")


@needs_openssl
def test_the_authority_is_looked_at_too(authority: Authority) -> None:
    """With it everything it has signed is worth nothing."""
    authority.issue("client", 300)
    authority.own(5)
    assert look("certificates", OURS, authority.folder).status == "fail"


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("", "skip", "off"),
        ("tls = true", "pass", "system's"),
        ('tls = true\nca_file = "missing.pem"', "fail", "missing.pem"),
        ('tls = true\nca_file = "rubbish.pem"', "fail", "no certificate"),
    ],
    ids=["no TLS", "no files", "missing", "rubbish"],
)
def test_without_a_certificate_there_is_something_to_say(tmp_path: Path, text: str, status: str, words: str) -> None:
    """TLS off, no files of our own, a file that is not there, a file that is none."""
    (tmp_path / "rubbish.pem").write_text("nothing", encoding="ascii")
    found = look("certificates", text, tmp_path)
    assert (found.status, words in found.text) == (status, True)


@needs_openssl
@needs_mosquitto
@pytest.mark.feature("SEC-06", breaks="chappe.checks.broker:broker")
@pytest.mark.parametrize(("days", "status"), [(300, "pass"), (29, "warn"), (6, "fail")])
def test_the_brokers_certificate_is_looked_at(authority: Authority, tmp_path: Path, days: int, status: str) -> None:
    """As it shows it: it works, and will not for long."""
    authority.issue("server", days)
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", "certfile server.pem", "keyfile server.key"]
    with LocalBroker(tmp_path, kind="mosquitto", extra=lines):
        found = look("broker", f'host = "localhost"\nport = {port}\ntls = true\nca_file = "ca.pem"', tmp_path)
    assert found.status == status
    assert "MQTT 5" in found.text
    assert "the broker's certificate ends in" in found.text


@needs_openssl
@needs_mosquitto
@pytest.mark.parametrize("synced", [True, False])
def test_a_broker_from_the_future_means_a_clock_from_the_past(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: bool
) -> None:
    """The TLS handshake fails as its certificate is not yet valid: the remedy is the clock, where nobody has set it."""
    authority.issue("server", 1)
    (tmp_path / "index.txt").write_text("", encoding="ascii")
    (tmp_path / "ca.conf").write_text(
        "[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\npolicy=any\n"
        "[any]\ncommonName=supplied\n",
        encoding="ascii",
    )
    begin, end = (datetime.now(UTC) + timedelta(days=days) for days in (1, 2))
    authority._run("ca", "-config", "ca.conf", "-batch", "-notext", "-cert", "ca.pem", "-keyfile", "ca.key",
                   "-startdate", f"{begin:%Y%m%d%H%M%SZ}", "-enddate", f"{end:%Y%m%d%H%M%SZ}",
                   "-in", "server.csr", "-out", "server.pem", "-extfile", "ext")  # fmt: skip
    monkeypatch.setattr("chappe.edge.mqtt.dial.clock_synced", lambda: synced)
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", "certfile server.pem", "keyfile server.key"]
    with LocalBroker(tmp_path, kind="mosquitto", extra=lines):
        found = look("broker", f'host = "localhost"\nport = {port}\ntls = true\nca_file = "ca.pem"', tmp_path)
    assert found.status == "fail"
    assert "not yet valid" in found.text
    assert ("timedatectl" in found.remedy) != synced


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("SEC-01", breaks="chappe.checks.certificates:secrets")
@pytest.mark.parametrize(("mode", "status"), [(0o600, "pass"), (0o640, "pass"), (0o644, "warn"), (0o604, "warn")])
@pytest.mark.parametrize(
    "key", ['password_file = "secret"', 'cert_file = "any"\nkey_file = "secret"'], ids=["password", "key"]
)
def test_a_secret_that_everybody_can_read_is_a_warning(tmp_path: Path, key: str, mode: int, status: str) -> None:
    """The owner and a group may; with others the remedy is the one command."""
    file = tmp_path / "secret"
    file.write_text("x", encoding="ascii")
    file.chmod(mode)
    found = look("secrets", f"tls = true\n{key}", tmp_path)
    assert (found.status, str(file) in found.text) == (status, True)
    assert found.remedy == (f"chmod o= {file}" if status == "warn" else "")


def test_without_secrets_there_is_nothing_to_hide(tmp_path: Path) -> None:
    """Not configured: skipped; configured and missing: a failure that names it."""
    assert look("secrets", "").status == "skip"
    found = look("secrets", 'password_file = "nowhere"', tmp_path)
    assert (found.status, "nowhere" in found.text) == ("fail", True)
