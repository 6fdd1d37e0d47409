"""Which library drives the pins."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, MutableMapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from chappe.errors import EdgeError


def pin_errors() -> tuple[type[Exception], ...]:
    """What gpiozero and the library below raise when a pin cannot be had or driven."""
    import gpiozero

    lgpio = sys.modules.get("lgpio")  # its error class has no root but Exception
    return (gpiozero.GPIOZeroError, OSError, *((lgpio.error,) if lgpio else ()))


def mock_factory() -> Any:
    """Pins that exist only in memory, dimmable, for the demo and for machines without pins."""
    from gpiozero.pins.mock import MockFactory, MockPWMPin

    return MockFactory(pin_class=MockPWMPin)


def pin_factory(
    env: MutableMapping[str, str] = os.environ, dev: Path = Path("/dev"), work_dir: Path | None = None
) -> Any:
    """The factory that ``GPIOZERO_PIN_FACTORY`` names, else lgpio's. gpiozero's global default is not touched.

    Args:
        env: environment; ``LG_WD`` is set in it for lgpio, which needs a folder for its pipes at import.
        dev: where ``gpiochip*`` would be.
        work_dir: a writable folder; default: the first of systemd's RUNTIME_DIRECTORY.

    Raises:
        EdgeError: if there is no GPIO chip, or it cannot be used (code ``gpio_missing``).
    """
    chosen = env.get("GPIOZERO_PIN_FACTORY", "")
    if not chosen and not any(dev.glob("gpiochip*")):
        raise EdgeError(
            "this machine has no GPIO chip", remedy="nothing to do on a machine without pins", code="gpio_missing"
        )
    folder = work_dir or Path(env.get("RUNTIME_DIRECTORY", "").split(":")[0] or "/nonexistent")
    if "LG_WD" not in env and os.access(folder, os.W_OK):
        env["LG_WD"] = str(folder)
    errors: tuple[type[Exception], ...] = (ImportError, *pin_errors())
    try:
        return _factory_class(chosen or "lgpio")()
    except errors as error:
        raise EdgeError(
            f"the pins cannot be used: {error}",
            remedy="`sudo apt install python3-lgpio`, and the daemon's user in group gpio",
            code="gpio_missing",
        ) from error


def _factory_class(name: str) -> Callable[[], Any]:
    for spelling in (name, name.lower()):
        for entry in entry_points(group="gpiozero_pin_factories", name=spelling):
            factory: Callable[[], Any] = entry.load()
            return factory
    raise ImportError(f"there is no pin factory {name!r}; GPIOZERO_PIN_FACTORY may be lgpio or mock")
