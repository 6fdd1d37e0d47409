"""A mosquitto of the test's own, a device played by the test, and consumers on one state file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chappe.edge.broker import LocalBroker, find_mosquitto

from .people import Application, Running, ScriptedDevice


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What a test opened is closed after it, the newest first."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def make_broker(stack: ExitStack, tmp_path: Path) -> Callable[..., LocalBroker]:
    """Starts mosquitto; skips where it is not installed."""

    def make(**options: Any) -> LocalBroker:
        if not find_mosquitto():
            pytest.skip("mosquitto is not installed")
        broker = LocalBroker(tmp_path, kind="mosquitto", **options)
        broker.open()
        stack.callback(broker.kill)
        return broker

    return make


@pytest.fixture
def broker(make_broker: Callable[..., LocalBroker]) -> LocalBroker:
    """A mosquitto that drops nothing."""
    return make_broker()


@pytest.fixture
def device(stack: ExitStack) -> Callable[..., ScriptedDevice]:
    """Connects the device."""
    return lambda broker, **options: stack.enter_context(ScriptedDevice(broker.port, **options))


@pytest.fixture
def app() -> Application:
    """What the consumer works for; it outlives the consumer's runs."""
    return Application()


@pytest.fixture
def consumer(app: Application, tmp_path: Path) -> Callable[..., Running]:
    """Makes consumers, to be entered; all on one state file."""
    return lambda broker, **options: Running(broker.port, app, tmp_path / "state.db", **options)
