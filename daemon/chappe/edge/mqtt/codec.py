"""paho-mqtt, used as a codec for all packets but PUBLISH and PUBACK on the way out: bytes of a socket in, notes of what they said out.

The only room that knows paho's names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from chappe.core.topics import Subscription
from chappe.core.units import Ns, as_seconds, seconds
from chappe.edge.mqtt.terms import Credentials, Identity, Version
from chappe.edge.mqtt.wire import Wire

if TYPE_CHECKING:
    from chappe.core.settings import Mqtt

# Nobody may fill our memory: well above the largest request that is read, which still gets its "too_large".
OWN_MAXIMUM_PACKET = 1 << 20
OWN_RECEIVE_MAXIMUM = 20
_RECEIVE_MAXIMUM_ABSENT = 65_535  # MQTT 5 section 3.2.2.3.3


class _Paho(Client):
    """paho's client on a socket that is connected already; its own way of connecting would block the thread."""

    def __init__(self, wire: Wire, client_id: str, version: Version) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if version == "5" else False,
            protocol=MQTTProtocolVersion.MQTTv5 if version == "5" else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._wire = wire

    def _create_socket(self) -> Wire:
        return self._wire


@dataclass(frozen=True)
class Connack:
    """The broker's answer to the CONNECT.

    Attributes:
        code: reason code of MQTT 5, or paho's translation of a return code of 3.1.1; 0x80 and above is refusal.
        name: its name.
        receive_maximum: how many of our messages may be unacknowledged.
        max_packet: greatest packet it takes, 0 where it named none.
        keepalive: the keepalive it demands, None where it leaves that to us.
    """

    code: int
    name: str
    receive_maximum: int = _RECEIVE_MAXIMUM_ABSENT
    max_packet: int = 0
    keepalive: Ns | None = None


class Codec:
    """One paho client for one connection. Its callbacks take notes and do nothing else, as they run inside paho's locks.

    Args:
        wire: the buffered socket.
        version: version of MQTT to speak.

    Attributes:
        connack: once it has come.
        suback: the reason codes of the first SUBACK, once it has come.
        refused: filters of later SUBSCRIBEs that the broker would not grant.
        messages: what came in, none of it acknowledged.
        farewell: why it is over, where paho or the broker says so.
        dismissed: whether it was the broker.
    """

    def __init__(self, wire: Wire, version: Version, client_id: str) -> None:
        self.connack: Connack | None = None
        self.suback: tuple[int, ...] | None = None
        self.refused: list[str] = []
        self.messages: list[MQTTMessage] = []
        self.farewell = ""
        self.dismissed = False
        self._version = version
        self._asked: dict[int | None, str] = {}
        self._client = _Paho(wire, client_id, version)

    def open(self, settings: Mqtt, identity: Identity, credentials: Credentials) -> None:
        """Write the CONNECT."""
        client = self._client
        client.will_set(identity.will_topic, identity.will_payload, qos=1, retain=True)
        if credentials.username or credentials.password is not None:
            client.username_pw_set(credentials.username, credentials.password)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        keepalive = max(1, round(as_seconds(settings.keepalive)))
        if self._version == "5":
            client.connect(settings.host, settings.port, keepalive, clean_start=False, properties=_wishes(settings))
        else:
            client.connect(settings.host, settings.port, keepalive)

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Write one SUBSCRIBE for all of these; the answer becomes `suback`."""
        wanted: list[Any] = [(each.filter, each.qos) for each in subscriptions]
        if self._version == "5":
            wanted = [
                (each.filter, SubscribeOptions(each.qos, False, each.retain_as_published, each.retain_handling))
                for each in subscriptions
            ]
        self._client.subscribe(wanted)

    def listen(self, text: str) -> None:
        """Write a SUBSCRIBE for one more filter, with QoS 1; if the broker says no, the filter is among `refused`."""
        _, mid = self._client.subscribe(text, qos=1)
        self._asked[mid] = text

    def unlisten(self, text: str) -> None:
        """Write an UNSUBSCRIBE."""
        self._client.unsubscribe(text)

    def acknowledge(self, mids: Iterable[int]) -> None:
        """Write a PUBACK for each of these packet identifiers."""
        for mid in mids:
            self._client.ack(mid, 1)

    def disconnect(self) -> None:
        """Write a DISCONNECT."""
        self._client.disconnect()

    def read(self) -> None:
        """Take a packet out of the wire's buffer and note what it says."""
        if self._client.loop_read() == MQTTErrorCode.MQTT_ERR_PROTOCOL and not self.farewell:
            self.farewell = "the broker sent something that is not MQTT"

    def _on_connect(
        self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, given: Properties | None
    ) -> None:
        keepalive = getattr(given, "ServerKeepAlive", None)
        self.connack = Connack(
            reason.value,
            str(reason),
            getattr(given, "ReceiveMaximum", _RECEIVE_MAXIMUM_ABSENT),
            getattr(given, "MaximumPacketSize", 0),
            None if keepalive is None else seconds(keepalive),
        )

    def _on_subscribe(self, _client: Client, _data: Any, mid: int, reasons: list[ReasonCode], _given: Any) -> None:
        wanted = self._asked.pop(mid, None)
        if wanted is None:
            self.suback = tuple(reason.value for reason in reasons)
        elif any(reason.is_failure for reason in reasons):
            self.refused.append(wanted)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self.messages.append(message)

    def _on_disconnect(self, _client: Client, _data: Any, flags: Any, reason: ReasonCode, _given: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self.farewell = f"the broker says: {reason}"
            self.dismissed = True


def _wishes(settings: Mqtt) -> Properties:
    wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    wishes.SessionExpiryInterval = round(as_seconds(settings.session_expiry))
    wishes.ReceiveMaximum = OWN_RECEIVE_MAXIMUM
    wishes.MaximumPacketSize = OWN_MAXIMUM_PACKET
    return wishes
