"""When to try to connect, with which version of MQTT, and the one attempt under way."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from chappe.core.units import Ns
from chappe.edge.host import Clock
from chappe.edge.mqtt.backoff import Backoff
from chappe.edge.mqtt.dial import Dial, Dialled
from chappe.edge.mqtt.terms import Failure, Outcome, Version
from chappe.edge.mqtt.versions import Versions

if TYPE_CHECKING:
    from chappe.core.settings import Mqtt


class Caller:
    """The attempts to reach the broker, one at a time; owned by the mqtt thread.

    Args:
        settings: the section ``[mqtt]``.
        clock: where now comes from.
        password: reads the password, at every attempt.
        jitter: spreads the attempts.
        done: takes the outcome of an attempt, in that attempt's thread.

    Attributes:
        busy: whether an attempt is under way.
        retry_at: when the next one is due.
    """

    def __init__(
        self,
        settings: Mqtt,
        *,
        clock: Clock,
        password: Callable[[], str | None],
        jitter: random.Random,
        done: Callable[[Dial, Dialled | Failure], None],
    ) -> None:
        self.retry_at: Ns = Ns(0)
        self._settings = settings
        self._clock = clock
        self._password = password
        self._done = done
        self._backoff = Backoff(jitter)
        self._versions = Versions(settings.version)
        self._dial: Dial | None = None
        self._last_dial: Dial | None = None

    @property
    def busy(self) -> bool:
        return self._dial is not None

    @property
    def version(self) -> Version:
        """The version that the next connection speaks."""
        return self._versions.next

    @property
    def secrets(self) -> bytes | None:
        """Fingerprint of the secrets that the newest attempt used, None before it has read them."""
        return self._last_dial.secrets if self._last_dial is not None else None

    def call(self) -> None:
        """Begin an attempt."""
        self._dial = self._last_dial = Dial(self._settings, password=self._password, clock=self._clock, done=self._done)
        self._dial.start()

    def takes(self, dial: Dial, outcome: Dialled | Failure) -> bool:
        """Whether this is the outcome of the attempt under way; a connection that nobody waits for any more is closed."""
        if dial is self._dial:
            self._dial = None
            return True
        if isinstance(outcome, Dialled):
            outcome.sock.close()
        return False

    def patience(self, round_trip: Ns) -> Ns:
        """How long the broker may take for the CONNACK."""
        return self._versions.patience(Ns(self._settings.connect_timeout), round_trip)

    def connected(self, version: Version) -> None:
        """The link is up."""
        self._versions.worked(version)
        self._backoff.reset()

    def fall_back(self, version: Version, outcome: Outcome, now: Ns) -> bool:
        """An attempt with this version did not bring the link up.

        Returns:
            True if the next attempt follows at once, with another version, so that nobody needs to hear of this one.
        """
        at_once = self._versions.failed(version, outcome)
        if at_once:
            self.retry_at = now
        return at_once

    def wait(self, now: Ns) -> None:
        """The next attempt has to wait, as the back-off says."""
        self.retry_at = Ns(now + self._backoff.wait(now))

    def pause(self, length: Ns, now: Ns) -> None:
        """The next attempt has to wait that long."""
        self.retry_at = Ns(now + length)

    def cancel(self) -> None:
        """Give up the attempt under way, if there is one."""
        dial, self._dial = self._dial, None
        if dial is not None:
            dial.cancel()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread of the last attempt."""
        if self._last_dial is not None:
            self._last_dial.join(timeout_s)
