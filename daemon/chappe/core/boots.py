"""Other boots' clocks: when a row of an earlier boot was made, in this boot's time and on the wall."""

from __future__ import annotations

from chappe.core.clock import WallClock
from chappe.core.envelope import iso
from chappe.core.stamp import Stamp
from chappe.core.stored import BootFound
from chappe.core.units import Ns, WallNs


class Boots:
    """The boots whose rows may still wait.

    Args:
        found: the earlier ones, oldest first.
        kernel: this kernel boot.
        clock: this boot's clock.
    """

    def __init__(self, found: tuple[BootFound, ...], kernel: str, clock: WallClock) -> None:
        self._clock = clock
        self._found = {one.boot: one for one in found}
        self._same = {one.boot for one in found if one.kernel == kernel}
        self._shift = {one.boot: _shift(one, found, kernel, clock) for one in found if one.kernel != kernel}

    def here(self, boot: str, moment: Ns) -> Ns:
        """A moment of `boot` on this boot's clock.

        Over a restart of the machine, wall time connects the two where both knew it; else the time without power counts as nothing,
        and all that each kernel ran in between counts.
        """
        return Ns(moment + self._shift.get(boot, 0))

    def there(self, boot: str, moment: Ns) -> Ns:
        """The other way round."""
        return Ns(moment - self._shift.get(boot, 0))

    def wall(self, boot: str, at: Ns) -> WallNs:
        """The wall time of a moment on the clock of `boot` (empty: this one)."""
        old = None if not boot or boot in self._same else self._found.get(boot)
        return self._clock.wall(at) if old is None else WallNs(at + old.offset)

    def stamp(self, boot: str, at: Ns) -> Stamp:
        """A moment on the clock of `boot` (empty: this one) as envelopes carry it."""
        if not boot:
            return self._clock.stamp(at)
        old = None if boot in self._same else self._found.get(boot)
        return self._clock.stamp(at) if old is None else Stamp(iso(WallNs(at + old.offset)), old.synced)


def _shift(one: BootFound, found: tuple[BootFound, ...], kernel: str, clock: WallClock) -> int:
    if one.synced and clock.synced:
        return one.offset - clock.offset
    ends: dict[str, int] = {}  # how long each kernel ran, as far as anybody knows; monotonic time begins with it
    for boot in found[found.index(one) :]:
        if boot.kernel != kernel:
            ends[boot.kernel] = max(boot.last, ends.get(boot.kernel, 0))
    return -sum(ends.values())
