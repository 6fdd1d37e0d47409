"""What no single key can know: keys that contradict each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from chappe.core.calibration import problems as calibration_problems
from chappe.core.elision import Elide
from chappe.core.elision import problems as elision_problems
from chappe.core.labels import LABELS
from chappe.core.settings import Config, Deed, Stream
from chappe.core.streams import RESERVED, effective
from chappe.errors import Problem

PRESSES = ("short", "double", "long", "very_long", "reset")


def cross_check(config: Config) -> list[Problem]:
    """Every contradiction in a configuration whose single keys are all valid."""
    return [
        *_pins(config),
        *_streams(config),
        *_signals(config),
        *_rules(config),
        *_jobs(config),
        *_site(config),
        *_camera(config),
        *_mqtt(config),
        *_sensors(config),
    ]


def _pins(config: Config) -> Iterator[Problem]:
    users: dict[int, list[str]] = defaultdict(list)
    for name in ("status", "privacy", "green", "red", "blue"):
        pin = getattr(config.indicators, name)
        if pin is not None and pin is not False:
            users[pin].append(f"indicators.{name}")
    for name, pin in config.buttons.items():
        users[pin].append(f"buttons.{name}")
    for name, output in config.outputs.items():
        users[output.pin].append(f"outputs.{name}.pin")
    for pin, paths in users.items():
        for path in paths[1:]:
            yield Problem(path, "conflict", f"pin {pin} is already used by {paths[0]}")


def _streams(config: Config) -> Iterator[Problem]:
    for name, stream in config.streams.items():
        yield from _elision(name, stream)


def _elision(name: str, stream: Stream) -> Iterator[Problem]:
    if not isinstance(stream.elide, Elide) or stream.elide.policy == "none":
        return
    path = f"streams.{name}.elide"
    if effective(name, stream).class_ != "latest":
        yield Problem(
            path, "conflict", 'only streams with class = "latest" are elided; every message of this one counts'
        )
    for key, code, message in elision_problems(stream.elide):
        yield Problem(f"{path}.{key}" if key else path, code, message)


def _signals(config: Config) -> Iterator[Problem]:
    for label in config.signals:
        if label not in LABELS or label == "None":
            known = ", ".join(name for name in LABELS if name != "None")
            yield Problem(f"signals.{label}", "unknown_key", f"no such gesture; known: {known}")


def _rules(config: Config) -> Iterator[Problem]:
    for name, rule in config.rules.items():
        path = f"rules.{name}"
        if sum(bool(cause) for cause in (rule.gesture, rule.signal, rule.press)) != 1:
            yield Problem(path, "conflict", "name exactly one cause: gesture, signal or press")
        if rule.gesture and rule.gesture not in LABELS:
            yield Problem(f"{path}.gesture", "range", f"{rule.gesture!r} is no gesture; known: {', '.join(LABELS)}")
        if rule.signal and rule.signal not in (*config.signals.values(), "-"):
            yield Problem(f"{path}.signal", "range", f"no gesture in [signals] gives {rule.signal!r}")
        if rule.press and rule.press not in PRESSES:
            yield Problem(f"{path}.press", "range", f"{rule.press!r} is not one of {', '.join(PRESSES)}")
        yield from _deed(config, path, rule)


def _jobs(config: Config) -> Iterator[Problem]:
    for name, job in config.jobs.items():
        path = f"jobs.{name}"
        if sum(bool(time) for time in (job.every, job.cron, job.sun)) != 1:
            yield Problem(path, "conflict", "name exactly one time: every, cron or sun")
        if job.sun and (config.site.latitude is None or config.site.longitude is None):
            yield Problem(f"{path}.sun", "missing", "sun times need [site] latitude and longitude")
        yield from _deed(config, path, job)


def _site(config: Config) -> Iterator[Problem]:
    name = config.site.timezone
    if name:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            yield Problem(
                "site.timezone", "range", f'{name!r} is no time zone known here; write it like "Europe/Paris"'
            )


def _deed(config: Config, path: str, item: Deed) -> Iterator[Problem]:
    if not (item.output or item.camera or item.mark or item.alert):
        yield Problem(path, "missing", "it does nothing: name an output, camera, mark or alert")
    if item.output and item.output not in config.outputs:
        yield Problem(f"{path}.output", "range", f"there is no [outputs.{item.output}]")


def _camera(config: Config) -> Iterator[Problem]:
    if config.camera.source == "files" and not config.camera.path:
        yield Problem("camera.path", "missing", 'source = "files" needs a folder or a glob of pictures')


def _mqtt(config: Config) -> Iterator[Problem]:
    if bool(config.mqtt.cert_file) != bool(config.mqtt.key_file):
        yield Problem("mqtt.cert_file", "conflict", "a client certificate needs both cert_file and key_file")
    if config.mqtt.ca_file and not config.mqtt.tls:
        yield Problem(
            "mqtt.ca_file", "conflict", "ca_file is set but tls is not: the connection would not be encrypted"
        )


def _sensors(config: Config) -> Iterator[Problem]:
    for name, sensor in config.sensors.items():
        if name in RESERVED:
            message = (
                f"the stream {name} is the daemon's own; a sensor feeds the stream of its name, so give it another"
            )
            yield Problem(f"sensors.{name}", "conflict", message)
        yield from calibration_problems(sensor, f"sensors.{name}")
