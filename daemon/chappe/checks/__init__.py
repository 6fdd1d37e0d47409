"""What ``chappe check`` looks at: one small function per item, in a table.

An item answers with status, text and remedy; a `ChappeError` or `OSError` out of it is the finding ``fail`` with that error's
words. Heavy libraries are imported inside the items, so that a broken one fails its own item and no other.

===============  =========================================================
module           what it looks at
===============  =========================================================
`.machine`       Python, the configuration, the state folder, clock, daemon
`.certificates`  certificates and secrets
`.broker`        the way to the broker
`.devices`       runtime, models, camera, pins, sensors, elision
===============  =========================================================
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from chappe.checks import broker, certificates, devices, machine
from chappe.checks.terms import Finding, Item, Subject
from chappe.config import Loaded
from chappe.errors import ChappeError, ConfigError

__all__ = ["ITEMS", "Finding", "Item", "run_checks"]


ITEMS: tuple[Item, ...] = (
    Item("python", "Python's version and word size", machine.python, configured=False),
    Item("config", "every key of every layer", machine.config, configured=False),
    Item("state_dir", "the state folder: writable, on a real disk, with room", machine.state_dir),
    Item("conservation", "whether the books of the outbox agree with what lies there", machine.conservation),
    Item("clock", "whether the clock is synchronised", machine.clock, configured=False),
    Item("daemon", "whether the daemon runs, and its faults", machine.daemon),
    Item("certificates", "when our certificate and our authorities end", certificates.certificates),
    Item("secrets", "whether others can read the password and the key", certificates.secrets),
    Item("broker", "name, TCP, TLS and MQTT up to the broker's answer", broker.broker),
    Item("tflite", "a runtime for the hand models that really computes", devices.tflite, configured=False),
    Item("models", "the files of the hand model, by their hashes", devices.models),
    Item("camera", "whether the camera could be opened", devices.camera),
    Item("privacy", "the lamp that shows that the camera is open", devices.privacy),
    Item("gpio", "the pins of lamps, buttons and outputs", devices.gpio),
    Item("sensors", "one reading of each sensor", devices.sensors),
    Item("elision", "policies that may lose a final value", devices.elision),
)


def run_checks(
    load: Callable[[], Loaded],
    *,
    skip: Collection[str] = (),
    seen: Callable[[Finding], None] | None = None,
) -> list[Finding]:
    """Look at every item, in the order of the table.

    Args:
        load: reads the configuration.
        skip: ids of items to leave out.
        seen: is shown each finding as soon as it is there.
    """
    subject = _subject(load)
    findings = []
    for item in ITEMS:
        if item.id not in skip:
            finding = _look(item, subject)
            findings.append(finding)
            if seen is not None:
                seen(finding)
    return findings


def _subject(load: Callable[[], Loaded]) -> Subject:
    try:
        return Subject(load())
    except ConfigError as error:
        return Subject(error=error)


def _look(item: Item, subject: Subject) -> Finding:
    if item.configured and subject.loaded is None:
        return Finding(item.id, "skip", "needs a correct configuration")
    try:
        return Finding(item.id, *item.look(subject))
    except ChappeError as error:
        return Finding(item.id, "fail", error.message, error.remedy)
    except OSError as error:
        return Finding(item.id, "fail", str(error))
