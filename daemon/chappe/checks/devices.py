"""Items about what the device sees, lights and measures."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from chappe.assembly import state_folder
from chappe.checks.terms import LIVE, Answer, Subject
from chappe.core.streams import all_specs
from chappe.edge.gpio import pin_factory
from chappe.edge.models import PULL_REMEDY, load_manifests, manifest_of, search_dirs, verify
from chappe.edge.sensors import read_once
from chappe.edge.sources import probe
from chappe.errors import EdgeError, SensorError

_NO_CAMERA = 'no camera is configured (camera.source = "off")'
_RUNTIMES = ("ai_edge_litert", "tflite_runtime")


def _blind(subject: Subject) -> bool:
    return subject.loaded is not None and subject.config.camera.source == "off"


def tflite(subject: Subject) -> Answer:
    if _blind(subject) and not any(map(importlib.util.find_spec, _RUNTIMES)):
        return "skip", f"not installed, and {_NO_CAMERA}"
    try:
        from chappe.vision.runtime import find_runtime
    except ImportError as error:
        return "fail", f"vision needs numpy: {error}", "pip install 'chappe[litert]'"
    runtime = find_runtime()
    refused = "".join(f"\n{name} is not used: {reason}" for name, reason in runtime.refused)
    return "pass", f"{runtime.name} {runtime.version}{refused}"


def models(subject: Subject) -> Answer:
    if _blind(subject):
        return "skip", _NO_CAMERA
    config = subject.config
    manifest = manifest_of(config.vision.model, load_manifests())
    configured = Path(config.models.dir) if config.models.dir else None
    findings = verify([manifest], search_dirs(configured, state_dir=state_folder(config)))
    bad = [f"{one.path or one.file.file}: {one.wrong or 'missing'}" for one in findings if not one.ok]
    if bad:
        return "fail", "\n".join(bad), PULL_REMEDY
    return "pass", f"{manifest.model_id}: {len(findings)} files are the right ones"


def camera(subject: Subject) -> Answer:
    if _blind(subject):
        return "skip", _NO_CAMERA
    settings = subject.config.camera
    probe(settings)
    place = {"files": settings.path, "v4l2": settings.device}.get(settings.source, "")
    return "pass", f"{settings.source} {place}".rstrip()


def privacy(subject: Subject) -> Answer:
    lamp = subject.config.indicators.privacy
    if subject.config.camera.source not in LIVE:
        return "skip", "no live camera is configured"
    if lamp is False:
        return "warn", "by the owner's word this device has no privacy lamp", "fit one, and name its pin"
    if lamp is None:
        remedy = "set [indicators] privacy to the pin of its lamp, or to false if there is none"
        return "warn", "no privacy lamp is configured: nobody can see that the camera is open", remedy
    return "pass", f"lit on pin {lamp} while the camera is open"


def gpio(subject: Subject) -> Answer:
    config = subject.config
    lamps = [getattr(config.indicators, name) for name in ("status", "privacy", "green", "red", "blue")]
    count = sum(pin is not None and pin is not False for pin in lamps) + len(config.buttons) + len(config.outputs)
    if not count:
        return "skip", "no pin is configured"
    pins = f"{count} pin{'s' if count > 1 else ''}"
    try:
        factory = pin_factory()
    except EdgeError as error:
        if config.camera.source in LIVE and config.indicators.privacy:
            return "fail", f"{error.message}: the camera stays closed, as its lamp cannot be lit", error.remedy
        return "warn", f"{error.message}: {pins} simulated", error.remedy
    factory.close()
    return "pass", f"{pins}, by {type(factory).__name__}"


def sensors(subject: Subject) -> Answer:
    sensors = subject.config.sensors
    if not sensors:
        return "skip", "no sensor is configured"
    good, bad, remedies = [], [], []
    for name, sensor in sensors.items():
        try:
            value, unit = read_once(sensor)
            good.append(f"{name} {value} {unit}".rstrip())
        except SensorError as error:
            bad.append(f"{name}: {error.message}")
            remedies.append(error.remedy)
    if bad:
        return "fail", "\n".join(bad), "; ".join(filter(None, dict.fromkeys(remedies))) or "check the wiring and `path`"
    return "pass", ", ".join(good)


def elision(subject: Subject) -> Answer:
    elided = {name: spec.elide for name, spec in all_specs(subject.config).items() if spec.elide}
    if not elided:
        return "skip", "no stream is elided"
    lossy = [name for name, elide in elided.items() if elide.policy == "throttle_first"]
    if lossy:
        text = "\n".join(f"streams.{name}: throttle_first may lose the final value" for name in lossy)
        return "warn", text, 'use policy "latest", which always sends the final value'
    return "pass", ", ".join(f"{name} {elide.policy}" for name, elide in elided.items())
