"""The demo's device at manual time, with a board that sees everything it decides."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from chappe.bundled import bundled
from chappe.core import effects as ef
from chappe.core.events import Ready
from chappe.demo.board import Board, Scene
from chappe.testing import Tower

SCENE = Scene(
    device="tower-1",
    root="chappe/tower-1",
    prefix="chappe",
    broker="mosquitto on 127.0.0.1:41234",
    port=41234,
    pins=("status", "green", "red", "blue", "relay"),
)


class ShownTower(Tower):
    """The demo's configuration at manual time; `board` has seen every effect.

    Args:
        more: further configuration.
    """

    def __init__(self, more: str = "") -> None:
        self.board = Board(SCENE)
        self.batches: list[list[ef.Effect]] = []
        super().__init__(bundled("config/demo.toml").read_text(encoding="utf-8") + more)

    def _carry_out(self, effects: Iterable[ef.Effect]) -> None:
        batch = list(effects)
        self.batches.append(batch)
        self.board.take(batch)
        super()._carry_out(batch)

    def status(self) -> dict[str, Any]:
        """What the control socket would answer."""
        self.ask("status", via="socket", reply_to="1")
        document: dict[str, Any] = self.replies["1"]["data"]
        return document

    def look(self) -> Board:
        """The board after a look at the status."""
        self.board.learn(self.status())
        return self.board


@pytest.fixture
def tower() -> ShownTower:
    """The demo's device, connected."""
    shown = ShownTower()
    shown.link_up()
    shown.feed(Ready(at=shown.clock.now()))
    return shown


@pytest.fixture
def show() -> Callable[..., None]:
    """Ten frames a second with these hands, for as long as a picture is held."""

    def frames(tower: Tower, *labels: str, n: int = 10) -> None:
        for _ in range(n):
            tower.see(*labels)
            tower.advance(0.1)

    return frames


@pytest.fixture(scope="session")
def weights(checkout: Path) -> Path:
    """The folder of the model files; skips where they were not pulled."""
    folder = checkout / "models"
    if len(list(folder.glob("*.tflite"))) < 6:
        pytest.skip("the model files are missing: run `make models`")
    return folder


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine's own configuration, state and pins is seen."""
    for name in (*(name for name in os.environ if name.startswith("CHAPPE_") and "__" in name), "GPIOZERO_PIN_FACTORY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("CHAPPE_CONFIG", "STATE_DIRECTORY", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
