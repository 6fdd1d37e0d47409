"""What is wrong right now. A fault is told once when it begins and once when it is over, however often it is found in between."""

from __future__ import annotations

from typing import Any

from chappe.core.units import SECOND, Ns


class Faults:
    """The faults that hold, by (part, code)."""

    def __init__(self) -> None:
        self._active: dict[tuple[str, str], tuple[Ns, str]] = {}

    def __bool__(self) -> bool:
        """Whether anything is wrong at all."""
        return bool(self._active)

    def begin(self, part: str, code: str, message: str, now: Ns) -> bool:
        """Note a fault; returns whether it is new."""
        known = (part, code) in self._active
        if not known:
            self._active[part, code] = (now, message)
        return not known

    def end(self, part: str, code: str) -> bool:
        """Note that a fault is over; returns whether it held."""
        return self._active.pop((part, code), None) is not None

    def of(self, part: str) -> list[str]:
        """Codes of the faults that a part has."""
        return [code for owner, code in self._active if owner == part]

    def any_of(self, owner: str) -> bool:
        """Whether a part has any fault, or, for an `owner` ending in a dot, any part whose name begins so."""
        return any(part == owner or (owner.endswith(".") and part.startswith(owner)) for part, _ in self._active)

    def listing(self, now: Ns) -> list[dict[str, Any]]:
        """For ``health`` and ``status``: oldest first."""
        return [
            {"part": part, "code": code, "message": message, "for_s": round((now - since) / SECOND, 1)}
            for (part, code), (since, message) in self._active.items()
        ]
