"""The installed command as a process, beside a real broker; nothing here outlives its test."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest

from chappe.edge.broker import LocalBroker, find_amqtt, find_mosquitto

from .process import Daemon


def _wire(name: str) -> ModuleType:
    """A helper module of the wire tests."""
    path = Path(__file__).parents[1] / "wire" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"chappe_test_wire_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


Peer = _wire("people").Peer


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What a test opened is closed after it, the newest first."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def broker(stack: ExitStack, tmp_path: Path) -> LocalBroker:
    """A mosquitto of this test's own."""
    if not find_mosquitto():
        pytest.skip("mosquitto is not installed")
    return stack.enter_context(LocalBroker(tmp_path, kind="mosquitto"))


@pytest.fixture
def amqtt(stack: ExitStack, tmp_path: Path) -> LocalBroker:
    """An amqtt of this test's own."""
    if not find_amqtt():
        pytest.skip("amqtt is not installed")
    return stack.enter_context(LocalBroker(tmp_path, kind="amqtt"))


@pytest.fixture
def peer(stack: ExitStack) -> Callable[..., object]:
    """Connects another client, subscribed to everything of the prefix unless told otherwise."""
    return lambda broker, *filters, **more: stack.enter_context(Peer(broker.port, *(filters or ("chappe/#",)), **more))


@pytest.fixture
def daemon(stack: ExitStack, tmp_path: Path) -> Callable[..., Daemon]:
    """Makes `chappe run` processes on one state folder; they are ended with the test."""

    def make(config: str, port: int, *options: str) -> Daemon:
        file = tmp_path / "chappe.toml"
        folder = tmp_path / "state"
        file.write_text(
            f'[device]\nid = "tower-1"\nstate_dir = "{folder}"\n[mqtt]\nport = {port}\n{config}', encoding="utf-8"
        )
        made = Daemon(file, *options)
        stack.callback(made.kill)
        return made

    return make


@pytest.fixture(scope="session")
def frames(checkout: Path) -> Path:
    """The bundled pictures."""
    return checkout / "config" / "frames"


@pytest.fixture(scope="session")
def weights(checkout: Path) -> Path:
    """The folder of the model files; skips where they were not pulled."""
    folder = checkout / "models"
    if len(list(folder.glob("*.tflite"))) < 6:
        pytest.skip("the model files are missing: run `chappe models pull --dir models`")
    return folder
