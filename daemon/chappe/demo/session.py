"""One demo: a broker, a folder and simulated pins, made before the daemon starts and gone after it has stopped."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from chappe.bundled import bundled
from chappe.config import Loaded, load
from chappe.core.effects import Effect
from chappe.core.settings import Config
from chappe.core.topics import Topics
from chappe.demo.board import LAMPS, Scene
from chappe.demo.view import Screen
from chappe.edge.broker import Kind, LocalBroker
from chappe.edge.control import SOCKET, call
from chappe.errors import ChappeError, LinkError, UsageError
from chappe.run import Daemon

ASK_EVERY_S = 0.5
ANSWER_WITHIN_S = 1.0
ENDED_WITHIN_S = 3.0

# gpiozero's mock pins, dimmable: a demo on a real Pi must not drive what is wired to it.
SIMULATED = {"GPIOZERO_PIN_FACTORY": "mock", "GPIOZERO_MOCK_PIN_CLASS": "mockpwmpin"}

Serve = Callable[[Daemon, float | None], int]


class Session:
    """A demo from beginning to end.

    Args:
        screen: where it is shown.
        serve: runs a daemon with this process's signals, for at most so many seconds.
        broker: which broker; None takes mosquitto where it is installed, else amqtt.
        camera: a folder, a picture or a pattern of pictures, or a device like ``/dev/video0``; None plays the bundled frames.
    """

    def __init__(self, screen: Screen, serve: Serve, *, broker: Kind | None = None, camera: Path | None = None) -> None:
        self._screen = screen
        self._serve = serve
        self._kind = broker
        self._camera = camera
        self._daemon: Daemon | None = None
        self._stopping = False
        self._unread: OSError | None = None

    def run(self, seconds: float | None = None) -> int:
        """Run the demo; nothing of it is left afterwards.

        Args:
            seconds: end after so long; None: when asked to.

        Returns:
            The daemon's exit code.

        Raises:
            ChappeError: if the models are missing.
            LinkError: if no broker is to be had.
            BrokenPipeError: if whoever was shown the demo has gone.
        """
        with ExitStack() as stack:
            stack.enter_context(self._signals())
            overrides = [*self._camera_keys(), *model_keys(demo_config([]).config)]
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chappe-demo-")))
            broker = LocalBroker(folder, kind=self._kind)
            stack.callback(broker.stop)
            broker.open()
            overrides += [f"mqtt.port={broker.port}", f"device.state_dir={folder / 'state'}"]
            stack.enter_context(environment(SIMULATED))
            self._daemon = Daemon(demo_config(overrides), observe=self._observe, reload=lambda: demo_config(overrides))
            stack.callback(self._end)
            self._screen.begin(scene(demo_config(overrides).config, self._broker_words(broker)))
            stack.enter_context(self._asking(folder / "state" / SOCKET))
            if self._stopping:
                self._daemon.request_stop()
            code = self._serve(self._daemon, seconds)
        if self._unread is not None:
            raise BrokenPipeError(*self._unread.args) from self._unread
        return code

    def _broker_words(self, broker: LocalBroker) -> str:
        stands_in = self._kind is None and broker.kind == "amqtt"
        return f"{broker.describe()}{', as mosquitto is not installed' if stands_in else ''}"

    def _camera_keys(self) -> list[str]:
        camera = self._camera
        if camera is None:
            return []
        if camera.is_char_device():
            # A webcam has a lamp of its own, and pins are simulated here: there is none that this demo could promise.
            return ["camera.source=v4l2", f"camera.device={camera}", "indicators.privacy=false"]
        if not camera.exists() and not list(camera.parent.glob(camera.name)):
            raise UsageError(f"there are no pictures at {camera}", remedy="give a folder, a picture or a pattern")
        return [f"camera.path={camera.absolute()}"]

    # ── signals before the daemon has its own ────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Until the daemon listens to signals itself, they are noted: no half-made broker is left behind."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.getsignal(number) for number in numbers}
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stop())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self) -> None:
        self._stopping = True
        if self._daemon is not None:
            self._daemon.request_stop()

    # ── what is shown ────────────────────────────────────────────────────────────────────────────────────────────────

    def _observe(self, effects: Sequence[Effect]) -> None:
        if self._unread is None:
            with self._while_read():
                self._screen.observe(effects)

    def _end(self) -> None:
        with self._while_read():
            self._screen.end()

    @contextmanager
    def _while_read(self) -> Iterator[None]:
        """A closed pipe or terminal ends the demo, cleanly."""
        try:
            yield
        except OSError as gone:
            self._unread = gone
            self._stop()

    @contextmanager
    def _asking(self, path: Path) -> Iterator[None]:
        """Let the screen have the daemon's status, twice a second, as any program on this machine could."""
        if not self._screen.curious:
            yield
            return
        ended = threading.Event()
        thread = threading.Thread(target=self._ask, args=(path, ended), name="demo-view", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(ENDED_WITHIN_S)

    def _ask(self, path: Path, ended: threading.Event) -> None:
        while not ended.wait(ASK_EVERY_S) and self._unread is None:
            document = ask(path)
            with self._while_read():
                self._screen.status(document)


def ask(path: Path) -> Mapping[str, Any] | None:
    """The status of the daemon behind a control socket; None while it does not answer."""
    try:
        answer = call(path, "status", timeout_s=ANSWER_WITHIN_S)
    except LinkError:
        return None
    document: Mapping[str, Any] | None = answer.get("data")
    return document


def demo_config(overrides: Sequence[str]) -> Loaded:
    """The demo's configuration, whatever this machine's files and environment say."""
    return load(bundled("config/demo.toml"), environ={}, overrides=overrides)


def model_keys(config: Config) -> list[str]:
    """Where the demo finds its model, as configuration keys: its own state folder is new and empty.

    Raises:
        ChappeError: if a file of the model is missing or wrong, or nothing is installed that could run it.
    """
    from chappe.edge.models import load_manifests, manifest_of, search_dirs, verify

    manifest = manifest_of(config.vision.model, load_manifests())
    findings = verify([manifest], search_dirs())
    absent = [finding.file.file for finding in findings if not finding.ok]
    if absent:
        raise ChappeError(f"models missing: {', '.join(absent)}", remedy="run `chappe models pull`")
    if find_spec("ai_edge_litert") is None and find_spec("tflite_runtime") is None:
        raise ChappeError(
            "no TFLite runtime is installed to run the models", remedy="pip install 'chappe[litert,demo]'"
        )
    return [f"models.dir={finding.path.parent}" for finding in findings[:1] if finding.path is not None]


def scene(config: Config, broker: str) -> Scene:
    """What a screen says before it begins."""
    lit = tuple(name for name in LAMPS if getattr(config.indicators, name) is not None)
    return Scene(
        device=config.device.id,
        root=Topics(config.mqtt.prefix, config.device.id).root,
        prefix=config.mqtt.prefix,
        broker=broker,
        port=config.mqtt.port,
        pins=(*lit, *config.outputs),
    )


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of this process for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
