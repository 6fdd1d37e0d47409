"""A demo is put together from nothing and leaves nothing, whatever happens in between."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from chappe.bundled import bundled
from chappe.core.effects import Effect
from chappe.demo import session
from chappe.demo.board import Scene
from chappe.demo.session import SIMULATED, Session, ask, demo_config, environment, model_keys, scene
from chappe.edge import models
from chappe.errors import ChappeError, LinkError, UsageError
from chappe.run import Daemon

pytestmark = pytest.mark.usefixtures("own_environment")

WITHIN_S = 20.0


class Broker:
    """Stands for `LocalBroker`: remembers whether it runs, and what was done when."""

    last: Broker
    refuses = False

    def __init__(self, folder: Path, *, kind: str | None = None) -> None:
        Broker.last = self
        self.folder = folder
        self.kind = kind or "amqtt"
        self.port = 41234
        self.running = False

    def open(self) -> None:
        assert self.folder.is_dir()
        if Broker.refuses:
            raise LinkError("no broker is installed")
        self.running = True

    def stop(self) -> None:
        self.running = False

    def describe(self) -> str:
        return f"{self.kind} on 127.0.0.1:{self.port}"


class Screen:
    """Remembers what it was shown.

    Args:
        curious: whether it wants to be told the status.
        gone: what showing anything raises.
        still: `observe` shows nothing yet.
    """

    def __init__(self, *, curious: bool = False, gone: OSError | None = None, still: bool = False) -> None:
        self.curious = curious
        self.gone = gone
        self.still = still
        self.scene: Scene | None = None
        self.effects: list[Effect] = []
        self.documents: list[Mapping[str, Any] | None] = []
        self.told = threading.Event()
        self.ended = 0

    def begin(self, scene: Scene) -> None:
        self.scene = scene

    def observe(self, effects: Sequence[Effect]) -> None:
        if self.gone is not None and not self.still:
            raise self.gone
        self.effects += effects

    def status(self, document: Mapping[str, Any] | None) -> None:
        self.documents.append(document)
        if document is not None:
            self.told.set()
        if self.gone is not None:
            raise self.gone

    def end(self) -> None:
        self.ended += 1


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No real broker, no weights needed, and a folder of this test's own for temporary ones."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(session.tempfile, "tempdir", str(folder))
    monkeypatch.setattr(session, "LocalBroker", Broker)
    monkeypatch.setattr(session, "model_keys", lambda config: [])
    monkeypatch.setattr(Broker, "refuses", False)
    return folder


def settings(daemon: Daemon) -> Any:
    return daemon._loaded.config


# ── putting together, taking apart ───────────────────────────────────────────────────────────────────────────────────


def test_everything_is_there_while_the_daemon_runs_and_gone_afterwards(local: Path) -> None:
    """Broker, folder and simulated pins; the daemon's exit code is the demo's."""
    screen = Screen()

    def serve(daemon: Daemon, seconds: float | None) -> int:
        assert Broker.last.running
        assert settings(daemon).mqtt.port == 41234
        assert Path(settings(daemon).device.state_dir).parent.parent == local
        assert {name: os.environ[name] for name in SIMULATED} == SIMULATED
        assert screen.scene is not None
        assert screen.ended == 0
        assert seconds == 2.5
        return 7

    assert Session(screen, serve).run(2.5) == 7
    assert not Broker.last.running
    assert list(local.iterdir()) == []
    assert not set(SIMULATED) & set(os.environ)
    assert screen.ended == 1


def test_a_daemon_that_fails_takes_nothing_with_it(local: Path) -> None:
    """Whatever it raises, broker and folder go, and the terminal is given back."""
    screen = Screen()

    def serve(daemon: Daemon, seconds: float | None) -> int:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        Session(screen, serve).run()
    assert not Broker.last.running
    assert list(local.iterdir()) == []
    assert screen.ended == 1


def test_without_any_broker_nothing_begins(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the broker's, with its remedy; no folder stays."""
    monkeypatch.setattr(Broker, "refuses", True)
    with pytest.raises(LinkError, match="no broker"):
        Session(Screen(), lambda daemon, seconds: 0).run()
    assert list(local.iterdir()) == []


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (None, "amqtt on 127.0.0.1:41234, as mosquitto is not installed"),
        ("amqtt", "amqtt on 127.0.0.1:41234"),
        ("mosquitto", "mosquitto on 127.0.0.1:41234"),
    ],
)
def test_a_stand_in_for_mosquitto_is_named_as_one(wanted: Any, said: str) -> None:
    """Who did not choose amqtt is told why it is there."""
    screen = Screen()
    Session(screen, lambda daemon, seconds: 0, broker=wanted).run()
    assert screen.scene is not None
    assert screen.scene.broker == said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_before_the_daemon_has_its_own_ends_the_demo_cleanly(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, local: Path
) -> None:
    """Ctrl-C while the broker starts: the daemon is asked to stop as soon as there is one, and nothing is left."""
    monkeypatch.setattr(Broker, "describe", lambda broker: os.kill(os.getpid(), number) or "a broker")
    before = signal.getsignal(number)
    asked = []

    def serve(daemon: Daemon, seconds: float | None) -> int:
        asked.extend(type(event).__name__ for event in daemon.inbox.drain(daemon.clock.now()))
        return 0

    assert Session(Screen(), serve).run() == 0
    assert set(asked) == {"StopRequested"}
    assert signal.getsignal(number) == before
    assert not Broker.last.running
    assert list(local.iterdir()) == []


def test_a_hang_up_changes_nothing_before_the_daemon_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGHUP is harmless from the first moment."""
    monkeypatch.setattr(Broker, "describe", lambda broker: os.kill(os.getpid(), signal.SIGHUP) or "a broker")
    assert Session(Screen(), lambda daemon, seconds: len(daemon.inbox.drain(daemon.clock.now()))).run() == 0


# ── who watches ──────────────────────────────────────────────────────────────────────────────────────────────────────


def stopped_when(ready: Callable[[], object]) -> Callable[[Daemon, float | None], int]:
    """Serves a daemon that is asked to stop when `ready` returns."""

    def serve(daemon: Daemon, seconds: float | None) -> int:
        asker = threading.Thread(target=lambda: (ready(), daemon.request_stop()))
        asker.start()
        try:
            return daemon.run()
        finally:
            asker.join(WITHIN_S)

    return serve


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo without a camera, so that no model is needed."""
    monkeypatch.setattr(
        session, "demo_config", lambda overrides: demo_config([*overrides, "camera.source=off", "mqtt.port=1"])
    )


@pytest.mark.usefixtures("blind")
def test_a_curious_screen_gets_the_daemons_own_answer_through_its_socket() -> None:
    """The document is that of `chappe status`; the effects are the engine's."""
    screen = Screen(curious=True)
    assert Session(screen, stopped_when(lambda: screen.told.wait(WITHIN_S))).run() == 0
    document = next(document for document in screen.documents if document is not None)
    assert document["device"] == "tower-1"
    assert "tick" in document["health"]["streams"]
    assert "Announce" in {type(effect).__name__ for effect in screen.effects}
    assert "demo-view" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("gone", [BrokenPipeError(errno.EPIPE, "Broken pipe"), OSError(errno.EIO, "hung up")], ids=str)
def test_when_nobody_reads_any_more_the_demo_stops_by_itself(gone: OSError, local: Path) -> None:
    """`chappe demo --json | head`, or a closed terminal: a clean stop, and an error the command line knows as that."""
    screen = Screen(gone=gone)
    with pytest.raises(BrokenPipeError):
        Session(screen, lambda daemon, seconds: daemon.run()).run()
    assert screen.effects == []
    assert screen.ended == 1
    assert list(local.iterdir()) == []


@pytest.mark.usefixtures("blind")
def test_a_screen_that_fails_while_it_draws_stops_the_demo_too() -> None:
    """The thread that asks is not the one that runs the daemon; it asks no more after that."""
    screen = Screen(curious=True, gone=OSError(errno.EIO, "hung up"), still=True)
    with pytest.raises(BrokenPipeError):
        Session(screen, lambda daemon, seconds: daemon.run()).run()
    assert len(screen.documents) == 1


def test_nobody_is_asked_where_no_daemon_answers(tmp_path: Path) -> None:
    """Before the socket is there, and after it is gone, there is simply no document."""
    assert ask(tmp_path / "control.sock") is None


# ── configuration ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_demo_is_the_same_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner's environment does not leak into it; what the demo sets on top does count."""
    monkeypatch.setenv("CHAPPE_CAMERA__SOURCE", "v4l2")
    monkeypatch.setenv("CHAPPE_MQTT__HOST", "broker.example")
    loaded = demo_config(["mqtt.port=41234"])
    assert (loaded.config.camera.source, loaded.config.mqtt.host, loaded.config.mqtt.port) == (
        "files",
        "127.0.0.1",
        41234,
    )


def camera(place: Path | None) -> Any:
    """The section [camera] of a demo that shows `place`."""
    found: list[Any] = []

    def serve(daemon: Daemon, seconds: float | None) -> int:
        found.append(settings(daemon))
        return 0

    Session(Screen(), serve, camera=place).run()
    return found[0]


def test_own_pictures_take_the_place_of_the_bundled_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, a picture or a pattern, absolute or relative to where one stands."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    for place in ("mine", "mine/a.png", "mine/*.png", tmp_path / "mine"):
        assert camera(Path(place)).camera.path == str(tmp_path / place)
        assert camera(Path(place)).camera.source == "files"
    assert Path(camera(None).camera.path) == bundled("config/frames")


def test_a_webcam_is_opened_by_its_device() -> None:
    """A device node means video; pins are simulated, so no privacy lamp of ours is promised."""
    config = camera(Path("/dev/null"))
    assert (config.camera.source, config.camera.device, config.indicators.privacy) == ("v4l2", "/dev/null", False)


def test_a_place_without_pictures_is_a_wrong_command_line(tmp_path: Path) -> None:
    """Said before anything is started."""
    with pytest.raises(UsageError, match="no pictures at"):
        Session(Screen(), lambda daemon, seconds: 0, camera=tmp_path / "none" / "*.png").run()


def test_the_scene_names_what_is_configured() -> None:
    """Topics, port, and every pin in the order shown."""
    shown = scene(demo_config(["mqtt.port=41234", "mqtt.prefix=hall", "indicators.red=7"]).config, "a broker")
    assert (shown.root, shown.prefix, shown.port) == ("hall/tower-1", "hall", 41234)
    assert shown.pins == ("status", "green", "red", "blue", "relay")
    assert any("-t 'hall/#'" in line for line in shown.lines)


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_weights_the_demo_refuses_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It does not run blind: exit 1, every missing file named, the command that brings them."""
    monkeypatch.setattr(models, "search_dirs", lambda: [tmp_path])
    with pytest.raises(ChappeError, match=r"models missing: palm_detection_lite\.tflite, ") as raised:
        model_keys(demo_config([]).config)
    assert raised.value.exit_code == 1
    assert raised.value.remedy == "run `chappe models pull`"


def test_a_damaged_weight_counts_as_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: Path) -> None:
    """A file is only what its hash says."""
    for file in weights.glob("*.tflite"):
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "hand_landmark_lite.tflite").unlink()
    (tmp_path / "hand_landmark_lite.tflite").write_bytes(b"not this")
    monkeypatch.setattr(models, "search_dirs", lambda: [tmp_path])
    with pytest.raises(ChappeError, match=r"models missing: hand_landmark_lite.tflite \("):
        model_keys(demo_config([]).config)


def test_the_folder_with_the_weights_is_handed_on(monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    """The demo's own state folder is empty, so it says where the owner's models are."""
    monkeypatch.setattr(models, "search_dirs", lambda: [weights])
    assert model_keys(demo_config([]).config) == [f"models.dir={weights}"]


def test_without_a_runtime_the_demo_refuses(monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    """Weights alone see nothing."""
    monkeypatch.setattr(models, "search_dirs", lambda: [weights])
    monkeypatch.setattr(session, "find_spec", lambda name: None)
    with pytest.raises(ChappeError, match="no TFLite runtime") as raised:
        model_keys(demo_config([]).config)
    assert "chappe[litert,demo]" in raised.value.remedy


# ── environment ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_environment_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was set before is set again, what was not is gone, also after an error."""
    monkeypatch.setenv("CHAPPE_TEST_A", "before")

    def use() -> None:
        with environment({"CHAPPE_TEST_A": "x", "CHAPPE_TEST_B": "y"}):
            assert (os.environ["CHAPPE_TEST_A"], os.environ["CHAPPE_TEST_B"]) == ("x", "y")
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        use()
    assert os.environ["CHAPPE_TEST_A"] == "before"
    assert "CHAPPE_TEST_B" not in os.environ
