"""Proof by echo: on a broker whose PUBACK means nothing, a stream is believed only after one of its messages came back.

On MQTT 3.1.1 a broker acknowledges also what it then throws away because the access list forbids it (MQTT 3.1.1 section 3.3.5). With
``mqtt.verify = "echo"`` the device subscribes to a stream of its own until the first message of the connection has returned; until then no
second one leaves, and one that does not return in time is held as forbidden.
"""

from __future__ import annotations

from collections.abc import Iterable

from chappe.core.units import SECOND, Ns

PATIENCE = 10 * SECOND
"""How long a message may take to come back."""


class Echo:
    """Which streams are proven on this connection.

    Args:
        wanted: whether proof is asked for at all.
    """

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self._unproven: set[str] = set()
        self._waiting: dict[str, tuple[int, bytes, Ns]] = {}

    def restart(self, streams: Iterable[str]) -> None:
        """A connection begins: nothing is proven."""
        self._waiting.clear()
        self._unproven = set(streams) if self._wanted else set()

    def blocks(self, stream: str) -> bool:
        """Whether a message of `stream` is on its way to prove it."""
        return stream in self._waiting

    def needs(self, stream: str) -> bool:
        """Whether the next message of `stream` has to prove it."""
        return stream in self._unproven

    def sent(self, stream: str, token: int, payload: bytes, now: Ns) -> None:
        """This message is the proof, if it returns."""
        self._waiting[stream] = (token, payload, Ns(now + PATIENCE))

    def token(self, stream: str) -> int | None:
        """The message that is waited for."""
        waiting = self._waiting.get(stream)
        return None if waiting is None else waiting[0]

    def returned(self, stream: str, payload: bytes) -> int | None:
        """A message came back. Returns its number if it is the one that was waited for."""
        waiting = self._waiting.get(stream)
        if waiting is None or waiting[1] != payload:
            return None
        del self._waiting[stream]
        self._unproven.discard(stream)
        return waiting[0]

    def forget(self, stream: str) -> None:
        """The message was refused, or is tried again later."""
        self._waiting.pop(stream, None)

    def due(self) -> Ns | None:
        """When `overdue` has to be called."""
        return min((until for _, _, until in self._waiting.values()), default=None)

    def overdue(self, now: Ns) -> list[tuple[str, int]]:
        """(stream, message) of what has not come back in time."""
        late = [(stream, token) for stream, (token, _, until) in self._waiting.items() if until <= now]
        for stream, _ in late:
            del self._waiting[stream]
        return late
