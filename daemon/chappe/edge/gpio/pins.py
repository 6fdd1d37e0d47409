"""One pin each: driven ones, the privacy lamp, and a button's contact."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from chappe.core.events import ButtonEdge, Event
from chappe.edge.gpio.factory import pin_errors
from chappe.edge.host import Clock
from chappe.errors import EdgeError

Post = Callable[[Event], None]


class OutPin:
    """A pin that is driven.

    Args:
        name: as effects call it.
        number: BCM number.
        rest: its level while nobody drives it.
        dimmable: whether to try pulse-width modulation.
        threshold: the level from which a pin that cannot be dimmed is on.
    """

    def __init__(
        self, name: str, number: int, *, rest: float = 0.0, dimmable: bool = False, threshold: float = 0.5
    ) -> None:
        self.name = name
        self.number = number
        self.rest = rest
        self.level = rest
        self._dimmable = dimmable
        self._threshold = threshold
        self._device: Any = None

    @property
    def is_open(self) -> bool:
        return self._device is not None

    def open(self, factory: Any) -> None:
        """Claim the pin; it rests from the first moment on."""
        import gpiozero

        if self._dimmable:
            try:
                self._device = gpiozero.PWMLED(self.number, initial_value=self.rest, pin_factory=factory)
            except gpiozero.PinPWMUnsupported:
                self._dimmable = False
        if not self._dimmable:
            self._device = gpiozero.LED(self.number, initial_value=self.rest >= self._threshold, pin_factory=factory)

    def drive(self, level: float) -> None:
        """Set the level, 0..1."""
        self._device.value = level if self._dimmable else level >= self._threshold
        self.level = level

    def close(self) -> None:
        """Back to rest, then release the pin; idempotent."""
        device, self._device = self._device, None
        self.level = self.rest
        if device is not None:
            with suppress(*pin_errors()):
                device.value = self.rest
            device.close()


class Lamp:
    """The privacy lamp, for whoever opens the camera. Always at full brightness.

    Args:
        pin: None where it cannot be driven.
        why: the reason for that.
    """

    def __init__(self, pin: OutPin | None, why: str = "") -> None:
        self._pin = pin
        self._why = why

    def on(self) -> None:
        """Light it.

        Raises:
            EdgeError: if it cannot be driven (code ``privacy_led``); the camera has to stay closed then.
        """
        self._drive(1.0)

    def off(self) -> None:
        """Put it out.

        Raises:
            EdgeError: as `on`.
        """
        self._drive(0.0)

    def _drive(self, level: float) -> None:
        why = self._why or "its pin is closed"
        if self._pin is not None and self._pin.is_open:
            try:
                return self._pin.drive(level)
            except pin_errors() as error:
                why = str(error)
        raise EdgeError(
            f"the privacy lamp cannot be driven: {why}",
            remedy="correct [indicators] privacy, or set it to false if this device has no such lamp",
            code="privacy_led",
        )


class Contact:
    """A button between its pin and ground: every change of the contact becomes an event, bounces included.

    Args:
        name: of the button.
        number: BCM number.
        clock: stamps the edges.
        post: takes them, in the thread of the library below gpiozero.
    """

    def __init__(self, name: str, number: int, *, clock: Clock, post: Post) -> None:
        self.name = name
        self.number = number
        self._clock = clock
        self._post = post
        self._device: Any = None
        self._down = False
        self._lock = threading.Lock()

    def open(self, factory: Any) -> None:
        """Claim the pin and listen; a contact that is closed already counts as an edge."""
        import gpiozero

        self._device = gpiozero.DigitalInputDevice(self.number, pull_up=True, bounce_time=None, pin_factory=factory)
        self._device.when_activated = self._closed
        self._device.when_deactivated = self._opened
        if self._device.is_active:
            self._moved(True)

    def _closed(self) -> None:
        self._moved(True)

    def _opened(self) -> None:
        self._moved(False)

    def _moved(self, down: bool) -> None:
        with self._lock:
            if down == self._down:
                return  # told twice: by the look at the start and by the edge that came just then
            self._down = down
            self._post(ButtonEdge(at=self._clock.now(), button=self.name, down=down))

    def close(self) -> None:
        """Release the pin; idempotent."""
        device, self._device = self._device, None
        if device is not None:
            device.close()
