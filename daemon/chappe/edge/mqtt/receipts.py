"""Which messages from the broker are acknowledged, and when."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator


class Receipts:
    """The PUBACKs that one connection owes the broker.

    They leave in the order in which the messages came, as the protocol demands (MQTT 5 section 4.6): behind a message that somebody still
    has to answer for, those that nobody minds wait, too.

    Args:
        numbers: draws receipt numbers, over all connections, so that one of an earlier connection is known as such.
    """

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers
        self._owed: deque[tuple[int, int]] = deque()
        self._open: set[int] = set()

    def owe(self, mid: int, *, until_told: bool) -> int:
        """A message with this packet identifier came.

        Args:
            mid: packet identifier; 0 for QoS 0, which nobody acknowledges.
            until_told: whether it waits for `settle`.

        Returns:
            Its receipt number, 0 where nothing waits.
        """
        if not mid:
            return 0
        number = next(self._numbers)
        self._owed.append((number, mid))
        if until_told:
            self._open.add(number)
        return number if until_told else 0

    def settle(self, numbers: Iterable[int]) -> None:
        """These may be acknowledged; numbers of another connection are passed over."""
        self._open.difference_update(numbers)

    def due(self) -> list[int]:
        """Packet identifiers to acknowledge now, in order."""
        ready = []
        while self._owed and self._owed[0][0] not in self._open:
            ready.append(self._owed.popleft()[1])
        return ready
