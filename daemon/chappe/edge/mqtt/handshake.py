"""The beginning of a connection: CONNECT and CONNACK, SUBSCRIBE and SUBACK, each with its deadline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from chappe.core.events import LinkUp
from chappe.core.units import Ns
from chappe.edge.mqtt import verdicts
from chappe.edge.mqtt.codec import Codec, Connack
from chappe.edge.mqtt.terms import Credentials, Failure, Identity, Version

if TYPE_CHECKING:
    from chappe.core.settings import Mqtt

FAILURE = 0x80


class Handshake:
    """What is agreed on before anything is published; over when `phase` is ``ready``.

    Args:
        codec: of a connection that is empty.
        version: version of MQTT to speak.
        settings: keepalive, window and connect timeout.
        identity: client id, subscriptions, will.
        patience: how long the broker may take for the CONNACK.
        certificates: when which certificate ends, for `LinkUp`.

    Attributes:
        phase: ``connecting`` until the CONNACK, ``subscribing`` until the SUBACK, then ``ready``.
        deadline: when the broker's next answer is overdue.
        window: how many messages may be unacknowledged.
        max_packet: greatest packet the broker takes, 0 where it named none.
        keepalive: the keepalive that holds.
    """

    def __init__(
        self,
        codec: Codec,
        version: Version,
        *,
        settings: Mqtt,
        identity: Identity,
        patience: Ns,
        certificates: Mapping[str, int],
    ) -> None:
        self.phase: Literal["connecting", "subscribing", "ready"] = "connecting"
        self.deadline: Ns = Ns(0)
        self.window = 0
        self.max_packet = 0
        self.keepalive: Ns = Ns(settings.keepalive)
        self._codec = codec
        self._version = version
        self._settings = settings
        self._identity = identity
        self._patience = patience
        self._certificates = certificates

    def open(self, credentials: Credentials, now: Ns) -> None:
        """Write the CONNECT."""
        self.deadline = Ns(now + self._patience)
        self._codec.open(self._settings, self._identity, credentials)

    def advance(self, now: Ns) -> LinkUp | Failure | None:
        """Go on from what the broker has said by now: the end of the handshake, good or bad, or nothing yet."""
        if self.phase == "connecting" and self._codec.connack is not None:
            failure = self._connected(self._codec.connack, now)
            if failure is not None:
                return failure
        if self.phase == "subscribing" and self._codec.suback is not None:
            return self._subscribed(self._codec.suback, now)
        return None

    def _connected(self, connack: Connack, now: Ns) -> Failure | None:
        if connack.code >= FAILURE:
            return verdicts.refusal(connack.code, connack.name)
        self.phase = "subscribing"
        self.deadline = Ns(now + self._settings.connect_timeout)
        self.window = min(self._settings.window, connack.receive_maximum)
        self.max_packet = connack.max_packet
        if connack.keepalive is not None:
            self.keepalive = connack.keepalive
        if self._identity.subscriptions:
            self._codec.subscribe(self._identity.subscriptions)
        else:
            self._codec.suback = ()
        return None

    def _subscribed(self, codes: Sequence[int], now: Ns) -> LinkUp:
        self.phase = "ready"
        answers = zip(self._identity.subscriptions, codes, strict=False)
        self._codec.refused += [wanted.filter for wanted, code in answers if code >= FAILURE]
        return LinkUp(
            at=now,
            protocol=self._version,
            window=self.window,
            max_packet=self.max_packet,
            certificates=dict(self._certificates),
        )
