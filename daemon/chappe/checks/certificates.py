"""The items about what we prove ourselves with: certificates that end, secrets that others can read."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from chappe.checks.terms import Answer, Status, Subject
from chappe.core.units import SECOND
from chappe.edge.host import SystemClock, clock_synced
from chappe.edge.mqtt.certificates import Validity, of_authorities, of_ours

DAY_S = 86_400
WARN_DAYS, FAIL_DAYS = 30, 7

SYNC = "let the clock be set: timedatectl set-ntp true, and a way to a time server"
RENEW = "renew it, put the new file in its place and reload (systemctl reload chappe)"


def certificates(subject: Subject) -> Answer:
    """Our own files; the broker's certificate is looked at where it is shown, in the item `broker`."""
    mqtt = subject.config.mqtt
    if not mqtt.tls:
        return "skip", "mqtt.tls is off"
    files: list[tuple[str, str, Callable[[str], Validity]]] = [
        ("mqtt.cert_file", mqtt.cert_file, of_ours),
        ("mqtt.ca_file", mqtt.ca_file, of_authorities),
    ]
    answers = [_file(key, path, read) for key, path, read in files if path]
    if not answers:
        return "pass", "none of our own; the system's authorities are trusted"
    return worst(answers)


def _file(key: str, path: str, read: Callable[[str], Validity]) -> Answer:
    try:
        return judge(f"{key} {path}", read(path))
    except (OSError, ValueError) as error:
        return "fail", f"{key}: {error}", "put a certificate in PEM form there"


def judge(what: str, validity: Validity) -> Answer:
    """What to say of a certificate.

    Args:
        what: what it is, for the text.
        validity: when it is valid.
    """
    now = SystemClock().wall() // SECOND
    if now < validity.not_before:
        if not clock_synced():
            return "fail", f"{what} is not yet valid: clock not synced", SYNC
        return "fail", f"{what} is not yet valid, but from {_day(validity.not_before)} on", RENEW
    if now >= validity.not_after:
        return "fail", f"{what} has ended on {_day(validity.not_after)}", RENEW
    days = (validity.not_after - now) // DAY_S
    text = f"{what} ends in {days} {'day' if days == 1 else 'days'}, on {_day(validity.not_after)}"
    if days < FAIL_DAYS:
        return "fail", text, RENEW
    return ("warn", text, RENEW) if days < WARN_DAYS else ("pass", text)


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def worst(answers: Iterable[Answer]) -> Answer:
    """Several answers as one: the worst status, every line, and each remedy once."""
    every = list(answers)
    ranks: Mapping[Status, int] = {"skip": 0, "pass": 1, "warn": 2, "fail": 3}
    status = max((answer[0] for answer in every), key=ranks.__getitem__)
    remedies = dict.fromkeys(answer[2] for answer in every if len(answer) > 2 and answer[2])
    return status, "\n".join(answer[1] for answer in every), "; ".join(remedies)


def secrets(subject: Subject) -> Answer:
    """Files that nobody but the daemon, and who administers it, should be able to read."""
    mqtt = subject.config.mqtt
    paths = [Path(path) for path in (mqtt.password_file, mqtt.key_file) if path]
    if not paths:
        return "skip", "neither mqtt.password_file nor mqtt.key_file is set"
    bad = [path for path in paths if path.stat().st_mode & stat.S_IROTH]
    if bad:
        text = "\n".join(f"{path} can be read by everybody on this machine" for path in bad)
        return "warn", text, f"chmod o= {' '.join(map(str, bad))}"
    return "pass", ", ".join(map(str, paths))
