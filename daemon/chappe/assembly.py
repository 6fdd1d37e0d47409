"""How each part is made out of the configuration, and what they share. `chappe.run` says in which order they start and stop.

A part that cannot be opened becomes a fault and is left out; only the state folder is needed by all. Everything heavy is imported
where its part is made.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from chappe import __version__
from chappe.config import Loaded
from chappe.core import effects as ef
from chappe.core.envelope import to_json
from chappe.core.events import ClockChanged, Event, Faulted, Started
from chappe.core.settings import Config, to_data
from chappe.core.streams import all_specs
from chappe.core.topics import Topics
from chappe.core.units import SECOND, Ns
from chappe.edge import host
from chappe.edge.host import Clock
from chappe.edge.inbox import Inbox
from chappe.edge.lookout import LOOK_EVERY, Lookout
from chappe.edge.slot import FrameSlot
from chappe.edge.store import Store
from chappe.edge.worker import Post
from chappe.errors import EdgeError, StoreError

if TYPE_CHECKING:
    from chappe.vision.hands import HandPipeline

log = logging.getLogger(__name__)


class Part(Protocol):
    """What a part looks like from the loop."""

    def open(self) -> None: ...

    def handle(self, effects: Sequence[ef.Effect], /) -> None: ...

    def close(self) -> None: ...


def state_folder(config: Config, environ: Mapping[str, str] | None = None) -> Path:
    """Where state is kept: ``device.state_dir``, else systemd's STATE_DIRECTORY, else ``~/.local/state/chappe``."""
    environ = os.environ if environ is None else environ
    named = config.device.state_dir or environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(named) if named else Path.home() / ".local/state/chappe"


def control_folder(config: Config, environ: Mapping[str, str] | None = None) -> Path:
    """Where the control socket lies: systemd's RUNTIME_DIRECTORY, else the state folder."""
    environ = os.environ if environ is None else environ
    named = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return Path(named) if named and not config.device.state_dir else state_folder(config, environ)


class Assembly:
    """The parts of one boot.

    Args:
        loaded: the configuration.
        boot: this start's id.
        clock: where time comes from.
        inbox: takes every event.

    Attributes:
        folder: the state folder.
        look_at: when `watch` wants to be called again at the latest.
    """

    def __init__(self, loaded: Loaded, boot: str, clock: Clock, inbox: Inbox) -> None:
        self.folder = state_folder(loaded.config)
        self.look_at = Ns(0)
        self._config = loaded.config
        self._boot = boot
        self._clock = clock
        self._inbox = inbox
        self._topics = Topics(self._config.mqtt.prefix, self._config.device.id)
        self._slot = FrameSlot()
        self._parts: dict[str, Part] = {}
        self._lookout = Lookout(clock, self._config.site.timezone)
        self._makers: Mapping[str, Callable[[], Part | None]] = {
            "store": self._store,
            "gpio": self._gpio,
            "control": self._control,
            "mqtt": self._mqtt,
            "vision": self._vision,
            "camera": self._camera,
            "sensors": lambda: _sensors(self._config, self._clock, self._inbox.put),
            "scheduler": lambda: _scheduler(self._config, self._clock, self._inbox.put),
            "host": lambda: host.Host(self._clock, self._inbox.put),
            "metrics": lambda: _metrics(self._config, self._clock, self._inbox.put),
        }

    # ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def open(self, name: str) -> None:
        """Make and open a part; one that cannot be opened is a fault, and the rest goes on without it.

        Raises:
            BusyError: if another daemon has the state folder.
            StoreError: if the state folder cannot be used.
        """
        part = self._makers[name]()
        if part is None:
            return
        try:
            part.open()
        except StoreError:
            raise
        except EdgeError as error:
            log.warning("%s: %s", name, error)
            self._inbox.put(Faulted(at=self._clock.now(), part=name, code=error.code, message=str(error)))
            return
        self._parts[name] = part

    def handle(self, name: str, effects: Sequence[ef.Effect]) -> None:
        """Give a part what it has to do."""
        part = self._parts.get(name)
        if part is not None:
            part.handle(effects)

    def close(self, name: str) -> None:
        """Close a part, if it is open."""
        part = self._parts.pop(name, None)
        if part is not None:
            part.close()

    def _store(self) -> Part:
        config = self._config
        kept = {name: spec.history for name, spec in all_specs(config).items() if spec.history is not None}
        return Store(
            self.folder,
            self._clock,
            self._inbox.put,
            inline=config.outbox.inline,
            history_bytes=config.history.bytes,
            retention=kept,
            disk_free=config.outbox.disk_free,
            boot=self._boot,
        )

    def _gpio(self) -> Part:
        from chappe.edge.gpio import Gpio

        config = self._config
        return Gpio(config.indicators, config.outputs, config.buttons, clock=self._clock, post=self._inbox.put)

    def _control(self) -> Part:
        from chappe.edge.control import Control

        return Control(control_folder(self._config), self._clock, self._inbox.put)

    def _mqtt(self) -> Part:
        from chappe.edge.mqtt import MqttLink

        config, topics = self._config, self._topics
        wanted = {topics.req("+"), topics.receipt("+"), topics.state}
        return Mqtt(
            MqttLink(
                config.mqtt,
                client_id=f"{config.mqtt.prefix}-{config.device.id}",
                subscriptions=[item for item in topics.subscriptions() if item.filter in wanted],
                request_prefix=topics.req(""),
                will=(topics.state, to_json({"status": "offline", "boot": self._boot})),
                clock=self._clock,
                post=self._inbox.put,
                post_many=self._inbox.put_many,
                password=lambda: secret(config.mqtt.password_file),
                jitter=random.SystemRandom(),
            )
        )

    def _vision(self) -> Part | None:
        from chappe.edge.sight import SightEdge

        if self._config.camera.source == "off":
            return None
        return SightEdge(
            self._config.vision,
            self._config.camera.rate_hz,
            self._slot,
            clock=self._clock,
            post=self._inbox.put,
            load=lambda name: load_detector(self._config, name),
            listing=lambda: model_listing(self._config),
        )

    def _camera(self) -> Part | None:
        from chappe.edge.camera import CameraEdge

        if self._config.camera.source == "off":
            return None
        return CameraEdge(
            self._config.camera,
            clock=self._clock,
            post=self._inbox.put,
            slot=self._slot,
            lamp=self._privacy_lamp(),
            pulse_every=Ns(SECOND),
        )

    def _privacy_lamp(self) -> Any:
        """The lamp, None where there is none, or, where it is configured but its pins are not open, one that cannot be lit."""
        from chappe.edge.gpio import Lamp

        gpio: Any = self._parts.get("gpio")
        if gpio is not None:
            return gpio.privacy_lamp()
        return Lamp(None, "the pins are not open") if self._config.indicators.has_privacy else None

    # ── the first event ──────────────────────────────────────────────────────────────────────────────────────────────

    def started(self) -> Started:
        """Everything that this boot depends on."""
        store = self._parts["store"]
        assert isinstance(store, Store)
        data, digest = plain(self._config)
        self._lookout.look(self._clock.now())
        return Started(
            at=self._clock.now(),
            boot=self._boot,
            wall=self._clock.wall(),
            synced=self._lookout.synced,
            zone_s=self._lookout.zone_s,
            config=data,
            config_hash=digest,
            version=__version__,
            memory=store.memory(),
            backlog=store.backlog(),
            facts={"python": platform.python_version(), "machine": platform.machine(), "platform": sys.platform},
        )

    def secrets_changed(self) -> bool:
        """Whether a file with a secret holds another one than the broker has been shown."""
        mqtt: Any = self._parts.get("mqtt")
        return bool(mqtt is not None and mqtt.secrets_changed())

    def watch(self, now: Ns) -> list[Event]:
        """Look after what nobody else watches; called in every pass of the loop, at the latest at `look_at`."""
        sensors: Any = self._parts.get("sensors")
        due = sensors.check(now) if sensors is not None else None
        self.look_at = Ns(now + LOOK_EVERY) if due is None else min(due, Ns(now + LOOK_EVERY))
        events = self._lookout.look(now)
        scheduler: Any = self._parts.get("scheduler")
        if scheduler is not None and any(isinstance(event, ClockChanged) for event in events):
            scheduler.clock_changed()
        return events


def _sensors(config: Config, clock: Clock, post: Post) -> Part | None:
    from chappe.edge.sensors import Sensors

    return Sensors(config.sensors, clock=clock, post=post) if config.sensors else None


def _scheduler(config: Config, clock: Clock, post: Post) -> Part | None:
    from chappe.edge.scheduler import Scheduler

    jobs = {name: job for name, job in config.jobs.items() if not job.every}
    return Scheduler(jobs, config.site, clock=clock, post=post) if jobs else None


def _metrics(config: Config, clock: Clock, post: Post) -> Part | None:
    from chappe.edge.metrics import Metrics

    return Metrics(Path(config.metrics.file), clock, post) if config.metrics.file else None


class Mqtt:
    """The MQTT link as a part."""

    def __init__(self, link: Any) -> None:
        self._link = link

    def open(self) -> None:
        self._link.open()

    def handle(self, effects: Sequence[ef.Effect]) -> None:
        self._link.handle(effects)

    def secrets_changed(self) -> bool:
        """Whether the present connection was made with other secrets than the files hold now."""
        return bool(self._link.secrets_changed())

    def close(self) -> None:
        self._link.close()


def model_folders(config: Config) -> list[Path]:
    """Where weights are looked for."""
    from chappe.edge.models import search_dirs

    return search_dirs(Path(config.models.dir) if config.models.dir else None, state_dir=state_folder(config))


def load_detector(config: Config, name: str) -> HandPipeline:
    """A hand pipeline for a model, its files checked and its interpreters built.

    Raises:
        ModelError: if a file is missing or wrong, or no TFLite runtime works.
    """
    from chappe.edge.models import load_manifests, manifest_of, read
    from chappe.vision.hands import HandPipeline, HandSettings

    manifest = manifest_of(name, load_manifests())
    vision = config.vision
    settings = HandSettings(
        hands=vision.hands,
        palm_score=vision.palm_score,
        presence=vision.presence,
        gone_after=config.gestures.gone_after,
        backend=vision.backend,
        threads=vision.threads,
        idle_ns=round(SECOND / vision.idle_hz),
        still_ns=round(SECOND / vision.still_hz),
    )
    pipeline = HandPipeline(manifest, read(manifest, model_folders(config)), settings)
    pipeline.open()
    return pipeline


def model_listing(config: Config) -> tuple[dict[str, Any], ...]:
    """The models of this device, as ``info`` and ``chappe models list`` show them."""
    from chappe.edge.models import describe, load_manifests

    return tuple(describe(load_manifests().values(), model_folders(config), active=config.vision.model))


def plain(config: Config) -> tuple[dict[str, Any], str]:
    """A configuration as data, and the first 12 hex digits of the sha256 of its canonical JSON."""
    import msgspec

    data = to_data(config)
    digest = hashlib.sha256(msgspec.json.encode(data, order="sorted")).hexdigest()
    return data, digest[:12]


def secret(path: str) -> str | None:
    """The secret in a file, without the line end; None where no file is named. White space alone is no secret.

    Raises:
        EdgeError: if the file cannot be read.
    """
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError) as error:
        raise EdgeError(f"the secret {path} cannot be read: {error}", code="auth_failed") from error
