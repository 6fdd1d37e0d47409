"""Topics of which only the newest payload counts (state, info, health, signal, model), and answers to requests.

They bypass the outbox: no numbers, no books. A last value is sent when it changes and after each connect; while one is in flight a newer
one replaces what waits behind it. Answers are kept until the broker has them or their request's life is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from chappe.core.effects import Publish
from chappe.core.events import Ack
from chappe.core.units import SECOND, Ns


class LastValues:
    """The newest payload per retained topic.

    Args:
        token: draws a message number.
    """

    def __init__(self, token: Callable[[], int]) -> None:
        self._token = token
        self._values: dict[str, bytes] = {}
        self._pending: dict[str, None] = {}
        self._flying: dict[int, tuple[str, bytes]] = {}
        self._allows: Callable[[str], bool] | None = None

    def only(self, allows: Callable[[str], bool] | None) -> None:
        """Hold back topics whose third level `allows` refuses; None: none."""
        self._allows = allows

    def _may(self, topic: str) -> bool:
        return self._allows is None or self._allows(topic.split("/")[2 if "/config/" not in topic else 3])

    def set(self, topic: str, payload: bytes) -> bool:
        """Make `payload` the newest value of `topic`; an empty payload removes it at the broker, and here once that is sent.

        Returns:
            Whether it differs from the value before.
        """
        if self._values.get(topic) == payload:
            return False
        self._values[topic] = payload
        self._pending[topic] = None
        return True

    def get(self, topic: str) -> bytes:
        """The newest value, empty where there is none."""
        return self._values.get(topic, b"")

    def announce(self) -> None:
        """Everything is to be sent again: a connection has begun."""
        self._flying.clear()
        self._pending = dict.fromkeys(
            topic for topic, payload in self._values.items() if payload or topic in self._pending
        )

    def announce_topic(self, topic: str) -> None:
        """One topic is to be sent again."""
        self._pending[topic] = None

    def acked(self, items: Iterable[Ack]) -> None:
        """Forget what the broker has. A refusal is not repeated before the value changes or the link is new."""
        for item in items:
            topic, payload = self._flying.pop(item.token, ("", b""))
            if topic and not payload and self._values.get(topic) == b"":
                del self._values[topic]

    def take(self, credit: int) -> list[Publish]:
        """At most `credit` messages, in the order of their change; one per topic in flight."""
        busy = {topic for topic, _ in self._flying.values()}
        out = []
        for topic in [topic for topic in self._pending if topic not in busy and self._may(topic)][:credit]:
            del self._pending[topic]
            token = self._token()
            self._flying[token] = (topic, self._values[topic])
            out.append(Publish(token=token, topic=topic, payload=self._values[topic], qos=1, retain=True))
        return out

    @property
    def flying(self) -> int:
        """How many are in flight."""
        return len(self._flying)

    @property
    def waiting(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self._pending)

    @property
    def empty(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not self._pending and not self._flying


MOST_BYTES = 8 * 1024 * 1024
"""Of answers that wait; whoever asks faster than the link carries loses the oldest, and asks again."""


class Answers:
    """Answers on their way to whoever asked.

    Args:
        token: draws a message number.
        life: how long an answer is of use to anybody.
    """

    def __init__(self, token: Callable[[], int], life: Ns) -> None:
        self._token = token
        self._life = life
        self._waiting: list[tuple[Ns, str, bytes, str]] = []
        self._flying: dict[int, tuple[Ns, str, bytes, str]] = {}

    def add(self, topic: str, payload: bytes, correlation: str, now: Ns) -> None:
        """Queue an answer."""
        self._waiting.append((Ns(now + self._life), topic, payload, correlation))
        size = sum(len(answer[2]) for answer in self._waiting)
        while size > MOST_BYTES and len(self._waiting) > 1:
            size -= len(self._waiting.pop(0)[2])

    def link_down(self) -> None:
        """What was in flight waits again."""
        self._waiting = [*self._flying.values(), *self._waiting]
        self._flying.clear()

    def acked(self, items: Iterable[Ack]) -> None:
        """Forget what the broker has taken or refused."""
        for item in items:
            self._flying.pop(item.token, None)

    def take(self, now: Ns, credit: int) -> list[Publish]:
        """At most `credit` answers that are still of use."""
        self._waiting = [answer for answer in self._waiting if answer[0] > now]
        ready, self._waiting = self._waiting[:credit], self._waiting[credit:]
        out = []
        for answer in ready:
            until, topic, payload, correlation = answer
            token = self._token()
            self._flying[token] = answer
            left = max(1, -(-(until - now) // SECOND))
            out.append(
                Publish(token=token, topic=topic, payload=payload, qos=1, expiry_s=left, correlation=correlation)
            )
        return out

    @property
    def flying(self) -> int:
        """How many are in flight."""
        return len(self._flying)

    @property
    def waiting(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self._waiting)

    @property
    def empty(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not self._waiting and not self._flying
