"""Pins: lamps, outputs and buttons, by gpiozero.

What a lamp shows and what a press means is decided in the core, on engine time. This edge only drives levels and reports raw
contact edges; gpiozero's own blink, pulse, hold and debounce are not used, and it starts no thread (the library below reports
edges in one of its own).

The privacy lamp is apart: no effect can drive it. The composition root hands its `Lamp` to the camera edge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from chappe.core.effects import Drive, Effect
from chappe.core.events import Faulted, Healed
from chappe.core.settings import Indicators, Output
from chappe.edge.gpio.factory import mock_factory, pin_errors, pin_factory
from chappe.edge.gpio.pins import Contact, Lamp, OutPin, Post
from chappe.edge.host import Clock
from chappe.errors import EdgeError

__all__ = ["Gpio", "Lamp", "mock_factory", "pin_factory"]

LAMPS = ("status", "green", "red", "blue")
PRIVACY = "privacy"
PULSE_S = 0.5

Wait = Callable[[float], object]


class Gpio:
    """Every pin of the device.

    Without a GPIO chip the pins are simulated, so that lamps can still be looked at, and the fault ``gpio_missing`` says so; the
    privacy lamp is then not drivable. A pin that is busy or fails is the fault ``gpio_failed``, and the others go on.

    Args:
        indicators: the section ``[indicators]``.
        outputs: the sections ``[outputs.NAME]``.
        buttons: BCM numbers by name.
        clock: stamps button edges.
        post: takes `ButtonEdge`, `Faulted`, `Healed`.
        factory: gives the pins; `mock_factory` for the demo.

    Attributes:
        counts: effects that drove nothing: ``privacy`` (refused), ``unknown``, ``failed``.
    """

    def __init__(
        self,
        indicators: Indicators,
        outputs: Mapping[str, Output],
        buttons: Mapping[str, int],
        *,
        clock: Clock,
        post: Post,
        factory: Callable[[], Any] = pin_factory,
    ) -> None:
        self._indicators = indicators
        self._outputs = outputs
        self._buttons = buttons
        self._clock = clock
        self._post = post
        self._new_factory = factory
        self._factory: Any = None
        self._missing = ""
        self._pins: dict[str, OutPin] = {}
        self._contacts: list[Contact] = []
        self._failing: set[str] = set()
        self.counts: Counter[str] = Counter()

    def open(self) -> None:
        """Claim every configured pin: lamps dark, outputs safe, buttons heard. Does nothing where none is configured."""
        pins = self._configured()
        if not pins and not self._buttons:
            return
        try:
            self._factory = self._new_factory()
        except EdgeError as error:
            self._missing = error.message
            self._factory = mock_factory()
            self._fault(error.code, f"{error.message}; pins are simulated")
        contacts = [Contact(name, pin, clock=self._clock, post=self._post) for name, pin in self._buttons.items()]
        failures = [why for pin in pins if (why := self._opened(pin))]
        failures += [why for contact in contacts if (why := self._opened(contact))]
        if failures:
            self._fault("gpio_failed", "; ".join(failures))

    def _configured(self) -> list[OutPin]:
        lit, numbers = self._indicators, {name: getattr(self._indicators, name) for name in LAMPS}
        # The core scales lamps by `brightness`; half of that is half for a lamp that knows only on and off.
        half = lit.brightness / 2
        pins = [
            OutPin(name, number, dimmable=lit.pwm, threshold=half)
            for name, number in numbers.items()
            if number is not None
        ]
        if lit.privacy is not None and lit.privacy is not False:
            pins.append(OutPin(PRIVACY, lit.privacy))
        return pins + [
            OutPin(name, output.pin, rest=float(output.safe == "high")) for name, output in self._outputs.items()
        ]

    def _opened(self, item: OutPin | Contact) -> str:
        """Open a pin and keep it; returns why it failed, or nothing."""
        if item.name in self._pins:
            return f"pin {item.number}: a lamp is called {item.name} already"
        try:
            item.open(self._factory)
        except pin_errors() as error:
            self._failing.add(item.name)
            with suppress(*pin_errors()):
                item.close()
            return f"pin {item.number} ({item.name}): {error}"
        if isinstance(item, Contact):
            self._contacts.append(item)
        else:
            self._pins[item.name] = item
        return ""

    def handle(self, effects: Iterable[Effect]) -> None:
        """Drive what the effects name; never blocks. The privacy lamp is refused."""
        for effect in effects:
            if isinstance(effect, Drive):
                self._drive(effect.pin, effect.level)

    def _drive(self, name: str, level: float) -> None:
        pin = self._pins.get(name)
        if name == PRIVACY or pin is None:
            self.counts[PRIVACY if name == PRIVACY else "failed" if name in self._failing else "unknown"] += 1
            return
        try:
            pin.drive(level)
        except pin_errors() as error:
            self._failed(pin, error)
        else:
            self._works(name)

    def _failed(self, pin: OutPin, error: Exception) -> None:
        self.counts["failed"] += 1
        self._failing.add(pin.name)
        with suppress(*pin_errors()):
            pin.drive(pin.rest)
        self._fault("gpio_failed", f"pin {pin.number} ({pin.name}): {error}")

    def _works(self, name: str) -> None:
        if name in self._failing:
            self._failing.remove(name)
            if not self._failing:
                self._post(Healed(at=self._clock.now(), part="gpio", code="gpio_failed"))

    def _fault(self, code: str, message: str) -> None:
        self._post(Faulted(at=self._clock.now(), part="gpio", code=code, message=message))

    def privacy_lamp(self) -> Lamp | None:
        """The lamp that must shine while the camera is open; None where none is configured. To be called after `open`."""
        if self._indicators.privacy is None or self._indicators.privacy is False:
            return None
        return Lamp(None if self._missing else self._pins.get(PRIVACY), self._missing)

    def levels(self) -> dict[str, float]:
        """The level of every pin that is open and driven, 0..1, by name."""
        return {name: pin.level for name, pin in self._pins.items()}

    def pins(self) -> dict[str, int]:
        """BCM numbers of what `pulse` can drive, by name."""
        return {name: pin.number for name, pin in self._pins.items()}

    def pulse(self, name: str, wait: Wait, span_s: float = PULSE_S) -> None:
        """Drive one pin for a moment, then as before; for ``chappe gpio test``.

        Args:
            name: of an open pin.
            wait: waits so many seconds, for example ``threading.Event().wait``.
            span_s: how long, in seconds.

        Raises:
            EdgeError: if there is no such pin, or it fails.
        """
        pin = self._pins.get(name)
        if pin is None:
            raise EdgeError(f"there is no pin {name!r} to drive", remedy=f"there are: {', '.join(self._pins)}")
        before = pin.level
        try:
            pin.drive(1.0 - pin.rest)
            wait(span_s)
            pin.drive(before)
        except pin_errors() as error:
            raise EdgeError(f"pin {pin.number} ({name}) cannot be driven: {error}", code="gpio_failed") from error

    def close(self) -> None:
        """Outputs to their safe level, lamps dark, then every pin released; idempotent.

        A released pin is an input: an output that must stay safe while the daemon is down needs a resistor that says so.
        """
        contacts, self._contacts = self._contacts, []
        pins, self._pins = self._pins, {}
        factory, self._factory = self._factory, None
        claimed: list[OutPin | Contact] = [*contacts, *pins.values()]
        for item in claimed:
            with suppress(*pin_errors()):
                item.close()
        if factory is not None:
            factory.close()
