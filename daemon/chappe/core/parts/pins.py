"""Buttons and lamps: presses and what they do, the status lamp, the signal lamps, quiet hours."""

from __future__ import annotations

from collections.abc import Callable

from chappe.core.buttons import Button, Press
from chappe.core.context import Context
from chappe.core.effects import Drive
from chappe.core.events import ButtonEdge, ClockChanged
from chappe.core.indicators import State, signal_levels
from chappe.core.parts.deeds import Deeds
from chappe.core.units import DAY, HOUR, MINUTE, SECOND, Ns

IDENTIFY_FOR = 15 * SECOND
SHORT_IDENTIFY_FOR = 2 * SECOND


class Pins:
    """Everything with a wire to it, apart from the privacy lamp, which the engine cannot drive.

    Args:
        context: the engine's.
        deeds: rules on presses, and the alerts that a press acknowledges.
        toggle_camera: the owner's hand on the camera.
    """

    def __init__(self, context: Context, deeds: Deeds, toggle_camera: Callable[[], None]) -> None:
        self._context = context
        self._deeds = deeds
        self._toggle_camera = toggle_camera
        self._buttons = {name: Button() for name in context.config.buttons}
        self._quiet = _hours(context.config.indicators.quiet)
        self._quiet_due: Ns | None = None
        self._levels: dict[str, float] = {}
        context.lamp.set(State.STARTING, True, context.now)
        context.lamp.set(State.CLOCK_UNSYNCED, not context.clock.synced, context.now)
        self._dim()

    def due(self) -> Ns | None:
        due = self._context.lamp.due()
        if self._quiet_due is not None and (due is None or self._quiet_due < due):
            due = self._quiet_due
        for button in self._buttons.values():
            moment = button.due()
            if moment is not None and (due is None or moment < due):
                due = moment
        return due

    def expire(self) -> None:
        """Let time act on buttons and quiet hours; the lamp is asked after every event anyway."""
        now = self._context.now
        for name, button in self._buttons.items():
            self._presses(name, button.expire(now))
            self._context.lamp.follow(button.stage(now), now)
        if self._quiet_due is not None and self._quiet_due <= now:
            self._dim()

    def refresh(self) -> None:
        """Drive the status lamp if its level changed."""
        due = self._context.lamp.due()
        if due is None or due > self._context.now:
            return
        level = self._context.lamp.advance(self._context.now)
        if level is not None and self._context.config.indicators.status is not None:
            self._context.emit(Drive(pin="status", level=level))

    # ── buttons ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def edge(self, event: ButtonEdge) -> None:
        """A contact moved."""
        button = self._buttons.get(event.button)
        if button is not None:
            self._presses(event.button, button.edge(event.down, self._context.now))
            self._context.lamp.follow(button.stage(self._context.now), self._context.now)

    def _presses(self, name: str, presses: list[Press]) -> None:
        for press in presses:
            if press is Press.CANCELLED:
                continue
            self._context.produce("button", {"button": name, "press": str(press)})
            self._context.announce("press", button=name, press=str(press))
            self._act(name, press)
            self._deeds.react(press=str(press))

    def _act(self, name: str, press: Press) -> None:
        if press is Press.SHORT:
            if not self._deeds.alerts.acknowledge(f"button:{name}"):
                self.identify(SHORT_IDENTIFY_FOR)
        elif press is Press.DOUBLE:
            self._context.produce("mark", {"mark": "button", "by": f"button:{name}"})
        elif press is Press.LONG:
            self._toggle_camera()

    # ── lamps ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def identify(self, span: int = IDENTIFY_FOR) -> None:
        """Blink at 10 Hz so that somebody in the room can tell which device this is."""
        self._context.lamp.show_for(State.IDENTIFY, span, self._context.now)

    def signal(self, signal: str) -> None:
        """Light the lamp of a signal."""
        indicators = self._context.config.indicators
        for lamp, level in signal_levels(signal).items():
            if getattr(indicators, lamp) is not None and self._levels.get(lamp) != level:
                self._levels[lamp] = level
                self._context.emit(Drive(pin=lamp, level=level * indicators.brightness))

    def clock(self, event: ClockChanged) -> None:
        """Local time moved."""
        self._context.lamp.set(State.CLOCK_UNSYNCED, not event.synced, self._context.now)
        self._dim()

    def dark(self) -> None:
        """Put out every lamp that the engine drives: it is safe to unplug."""
        for lamp in ("green", "red", "blue"):
            if getattr(self._context.config.indicators, lamp) is not None:
                self._context.emit(Drive(pin=lamp, level=0.0))

    def _dim(self) -> None:
        now = self._context.now
        quiet = False
        if self._quiet is not None:
            begin, end = self._quiet
            time = self._context.clock.time_of_day(now)
            quiet = (time - begin) % DAY < (end - begin) % DAY
            self._quiet_due = Ns(now + (((end if quiet else begin) - time) % DAY or DAY))
        self._context.lamp.dim(brightness=self._context.config.indicators.brightness, quiet=quiet, now=now)


def _hours(text: str) -> tuple[int, int] | None:
    """``"22:00-07:00"`` as nanoseconds since midnight, None where there are no quiet hours."""
    if not text:
        return None
    begin, end = (time.split(":") for time in text.split("-"))
    return int(begin[0]) * HOUR + int(begin[1]) * MINUTE, int(end[0]) * HOUR + int(end[1]) * MINUTE
