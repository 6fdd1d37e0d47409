"""What rules and jobs do: pulse an output, switch the camera, set a mark, raise an alert. Here on the device, broker or not."""

from __future__ import annotations

from collections.abc import Callable

from chappe.core.context import Context
from chappe.core.effects import Drive
from chappe.core.parts.alerts import Alerts
from chappe.core.settings import Deed
from chappe.core.units import Ns


class Deeds:
    """The device's own reactions.

    Args:
        context: the engine's.
        camera: switches the camera on or off as a request would.

    Attributes:
        alerts: what has been raised and is not acknowledged yet.
    """

    def __init__(self, context: Context, camera: Callable[[bool], str | None]) -> None:
        self.alerts = Alerts(context)
        self._context = context
        self._camera = camera
        self._until: dict[str, Ns] = {}

    def due(self) -> Ns | None:
        return min(self._until.values()) if self._until else None

    def expire(self) -> None:
        """End the pulses whose time is over."""
        for name in [name for name, until in self._until.items() if until <= self._context.now]:
            del self._until[name]
            self._context.emit(Drive(pin=name, level=self._safe(name)))

    def react(self, *, gesture: str = "", signal: str = "", press: str = "") -> None:
        """Carry out every rule with this cause."""
        for name, rule in self._context.config.rules.items():
            if (rule.gesture, rule.signal, rule.press) == (gesture, signal, press):
                self._context.announce("rule", rule=name)
                self.do(rule, cause=f"rule:{name}")

    def do(self, item: Deed, *, cause: str, missed: int = 0) -> None:
        """Do what a rule or a job says."""
        if item.output:
            self._context.emit(Drive(pin=item.output, level=1.0 - self._safe(item.output)))
            self._until[item.output] = Ns(self._context.now + item.pulse)
        if item.camera:
            self._camera(item.camera == "on")
        if item.mark:
            data = {"mark": item.mark, "by": cause, **({"missed": missed} if missed else {})}
            self._context.produce("mark", data)
            self._context.announce("mark", **data)
        if item.alert:
            self.alerts.begin(cause.partition(":")[2], item.alert, cause, missed)

    def stop(self) -> None:
        """Every output to its safe level."""
        self._until.clear()
        for name in self._context.config.outputs:
            self._context.emit(Drive(pin=name, level=self._safe(name)))

    def _safe(self, name: str) -> float:
        return 1.0 if self._context.config.outputs[name].safe == "high" else 0.0
