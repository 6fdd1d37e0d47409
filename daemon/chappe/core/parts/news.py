"""What the device says about itself: ``info`` when it changes, ``health`` every minute, and both when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from chappe.core.context import Context
from chappe.core.effects import LoadModel, SampleHost
from chappe.core.envelope import to_json
from chappe.core.events import HostSampled, Reloaded
from chappe.core.parts.eyes import Eyes
from chappe.core.settings import from_data, to_data
from chappe.core.units import SECOND, Ns

if TYPE_CHECKING:
    from chappe.core.parts.archive import Archive
    from chappe.core.parts.keep import Keep
    from chappe.core.parts.wire import Wire

SCHEMA = 1
DAY_S = 86_400
# Keys whose new values take effect at once; every other change waits for a restart and says so.
LIVE = ("signals", "gestures", "rules", "vision.model")


class News:
    """Builds the device's own documents.

    Args:
        context: the engine's.
        eyes: knows camera, models and inference times.
    """

    def __init__(self, context: Context, eyes: Eyes) -> None:
        self.wire: Wire
        self.keep: Keep
        self.archive: Archive
        self._context = context
        self._eyes = eyes
        self._due = Ns(context.now + context.config.health.every)
        self._host = HostSampled(at=context.now)
        self._asked = False

    def due(self) -> Ns | None:
        return None if self._context.stopping else self._due

    def expire(self) -> None:
        """Health is due: the host is asked first, and its answer makes the document."""
        if self._due <= self._context.now:
            self._due = Ns(self._due + self._context.budget.health_every(self._context.config.health.every))
            self._asked = True
            self._context.emit(SampleHost())

    def health(self, event: HostSampled) -> None:
        """The host has answered."""
        self._host = event
        if self._asked:
            self._asked = False
            document = self.health_document()
            self._context.last.set(self._context.topics.health, to_json(document))
            if self._context.config.metrics.file:
                self._context.announce("health", **msgspec.to_builtins(document))

    def info(self) -> None:
        """Publish ``info`` if it changed."""
        self._context.last.set(self._context.topics.info, to_json(self.info_document()))

    def info_document(self) -> dict[str, Any]:
        """What the device is."""
        context = self._context
        return {
            "version": context.started.version,
            "schema": SCHEMA,
            "boot": context.started.boot,
            "started": context.clock.stamp(context.started.at).at,
            "config_hash": context.config_hash,
            "restart_required": list(context.restart_required),
            "groups": list(context.config.device.groups),
            "mqtt": self.wire.protocol,
            "streams": [self._stream(name) for name in context.specs],
            "models": list(self._eyes.listing),
            "model": self._eyes.model,
            "signals": context.config.signals,
            "camera": {"source": context.config.camera.source, "privacy_lamp": context.config.indicators.has_privacy},
            **context.started.facts,
        }

    def _stream(self, name: str) -> dict[str, Any]:
        spec = self._context.specs[name]
        told = {"owner": spec.owner, "description": spec.description, "unit": spec.unit}
        return {
            "name": name,
            "class": spec.class_,
            "priority": spec.priority,
            **({"elide": spec.elide.policy} if spec.elide else {}),
            **{key: value for key, value in told.items() if value},
        }

    def health_document(self) -> dict[str, Any]:
        """How the device is: FEATURES appendix H."""
        context = self._context
        queue = context.outbox.counter.depth(context.now)
        return {
            "at": context.clock.stamp(context.now).at,
            "boot": context.started.boot,
            "uptime_s": (context.now - context.started.at) // SECOND,
            "queue": {
                "depth": queue.depth,
                "bytes": queue.bytes,
                "oldest_s": round(queue.oldest_s, 3),
                "dead": queue.dead,
            },
            "streams": {name: lane.book for name, lane in context.outbox.lanes.items() if lane.book.produced},
            "camera": self._eyes.camera_document(),
            "inference": {**self._eyes.latency.listing(), "skipped": self._eyes.inference_skipped},
            "temp_c": self._host.temp_c,
            "rss": self._host.rss,
            "bytes_written": self._host.bytes_written,
            "disk": {"free": round(self.keep.disk_free, 4), "store_bytes": self.keep.store_bytes},
            "clock": {"synced": context.clock.synced},
            "link": {
                "status": self.wire.status,
                "reconnects": self.wire.reconnects,
                "offline_s": self.wire.offline_s(),
            },
            "budget": context.budget.document(),
            "receipts": self.archive.document(),
            **self._certificates(),
            "requests_refused": self.wire.refused,
            "faults": context.faults.listing(context.now),
            **self._host.extra,
        }

    def _certificates(self) -> dict[str, Any]:
        """Days until each certificate in use ends; nothing while the clock cannot be trusted, or where there is none."""
        context = self._context
        ends = self.wire.certificates
        if not ends or not context.clock.synced:
            return {}
        now = context.clock.wall(context.now) // SECOND
        return {"certificates": {name: (end - now) // DAY_S for name, end in ends.items()}}

    def status_document(self) -> dict[str, Any]:
        """Everything an owner asks first: ``status``."""
        context = self._context
        return {
            "device": context.config.device.id,
            "state": "stopping" if context.stopping else "online" if self.wire.status == "online" else "offline",
            "signal": self._eyes.signal,
            "indicators": [state.label for state in context.lamp.active],
            "info": self.info_document(),
            "health": self.health_document(),
        }

    def reload(self, event: Reloaded) -> None:
        """Take over what can change while running; say what needs a restart."""
        context = self._context
        old, new = to_data(context.config), event.config
        changed = sorted(_changes(old, new))
        live = [path for path in changed if path.startswith(LIVE)]
        if any(path.startswith("outputs") for path in changed):
            # Rules may name outputs that are not open yet; they come together, at the restart.
            live = [path for path in live if path != "rules"]
        for path in live:
            _copy(new, old, path)
        context.config = from_data(old)
        context.restart_required = tuple(path for path in changed if path not in live)
        context.config_hash = event.config_hash
        self._eyes.reconfigured()
        if "vision.model" in live:
            context.emit(LoadModel(name=context.config.vision.model))
        self.info()
        context.announce("state", status="reloaded", changed=changed, restart_required=list(context.restart_required))


def _changes(old: dict[str, Any], new: dict[str, Any], path: str = "") -> list[str]:
    """Dotted paths whose values differ; whole tables of names (signals, rules) count as one value below their section."""
    found: list[str] = []
    for key in {**old, **new}:
        here = f"{path}.{key}" if path else key
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict) and here not in LIVE:
            found += _changes(before, after, here)
        else:
            found.append(here)
    return found


def _copy(source: dict[str, Any], target: dict[str, Any], path: str) -> None:
    keys = path.split(".")
    for key in keys[:-1]:
        source, target = source[key], target[key]
    target[keys[-1]] = source[keys[-1]]
