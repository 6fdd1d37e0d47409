"""paho-mqtt, used as a codec: bytes of a socket in, notes of what they said out. The only room that knows paho's names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from chappe.core.effects import Publish
from chappe.core.units import as_seconds
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
        )
        self._wire = wire

    def _create_socket(self) -> Wire:
        return self._wire


class _Packed:
    """Properties that are bytes already; all that paho asks of properties when publishing is `pack`."""

    def __init__(self, block: bytes) -> None:
        self._block = block

    def pack(self) -> bytes:
        return self._block


@dataclass(frozen=True)
class Connack:
    """The broker's answer to the CONNECT.

    Attributes:
        code: reason code of MQTT 5, or paho's translation of a return code of 3.1.1; 0x80 and above is refusal.
        name: its name.
        receive_maximum: how many of our messages may be unacknowledged.
        max_packet: greatest packet it takes, 0 where it named none.
    """

    code: int
    name: str
    receive_maximum: int = _RECEIVE_MAXIMUM_ABSENT
    max_packet: int = 0


class Codec:
    """One paho client for one connection. Its callbacks take notes and do nothing else, as they run inside paho's locks.

    Args:
        wire: the buffered socket.
        version: version of MQTT to speak.

    Attributes:
        connack: once it has come.
        suback: its reason codes, once it has come.
        published: (packet identifier, reason code) of each PUBACK, and of each QoS 0 message the socket took late.
        messages: what came in.
        farewell: why it is over, where paho or the broker says so.
    """

    def __init__(self, wire: Wire, version: Version, client_id: str) -> None:
        self.connack: Connack | None = None
        self.suback: tuple[int, ...] | None = None
        self.published: list[tuple[int, int]] = []
        self.messages: list[MQTTMessage] = []
        self.farewell = ""
        self._version = version
        self._client = _Paho(wire, client_id, version)

    def open(self, settings: Mqtt, identity: Identity, credentials: Credentials) -> None:
        """Write the CONNECT."""
        client = self._client
        # Its own count of inflight messages costs a scan of all of them at every PUBACK; the window is kept by `Flight`.
        client.max_inflight_messages_set(0)
        client.will_set(identity.will_topic, identity.will_payload, qos=1, retain=True)
        if credentials.username or credentials.password is not None:
            client.username_pw_set(credentials.username, credentials.password)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        keepalive = max(1, round(as_seconds(settings.keepalive)))
        if self._version == "5":
            client.connect(settings.host, settings.port, keepalive, clean_start=False, properties=_wishes(settings))
        else:
            client.connect(settings.host, settings.port, keepalive)

    def subscribe(self, identity: Identity) -> None:
        """Write one SUBSCRIBE for all filters."""
        wanted: list[Any] = [(each.filter, each.qos) for each in identity.subscriptions]
        if self._version == "5":
            wanted = [
                (each.filter, SubscribeOptions(each.qos, False, each.retain_as_published, each.retain_handling))
                for each in identity.subscriptions
            ]
        self._client.subscribe(wanted)

    def publish(self, message: Publish, properties: bytes) -> tuple[int, bool] | None:
        """Write a PUBLISH.

        Args:
            message: its topic must be one that can be published to.
            properties: the property block on MQTT 5, empty on 3.1.1.

        Returns:
            The packet identifier, and whether all of it was taken; None if the connection is gone.
        """
        packed = cast("Properties", _Packed(properties)) if properties else None
        info = self._client.publish(message.topic, message.payload, message.qos, message.retain, packed)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return None
        # `is_published` says nothing about a PUBACK's reason code; for QoS 0 it says that the last byte was written.
        return info.mid, message.qos == 0 and info.is_published()

    def disconnect(self) -> None:
        """Write a DISCONNECT."""
        self._client.disconnect()

    @property
    def wants_write(self) -> bool:
        """Whether packets wait for room in the wire's buffer."""
        return self._client.want_write()

    def read(self) -> None:
        """Take packets out of the wire's buffer and note what they say."""
        if self._client.loop_read() == MQTTErrorCode.MQTT_ERR_PROTOCOL and not self.farewell:
            self.farewell = "the broker sent something that is not MQTT"

    def write(self) -> None:
        """Put waiting packets into the wire's buffer."""
        if self._client.want_write():
            self._client.loop_write()

    def keep_alive(self) -> None:
        """Ping when it is time; closes the wire if a ping was not answered."""
        self._client.loop_misc()

    def _on_connect(
        self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, given: Properties | None
    ) -> None:
        self.connack = Connack(
            reason.value,
            str(reason),
            getattr(given, "ReceiveMaximum", _RECEIVE_MAXIMUM_ABSENT),
            getattr(given, "MaximumPacketSize", 0),
        )

    def _on_subscribe(self, _client: Client, _data: Any, _mid: int, reasons: list[ReasonCode], _given: Any) -> None:
        self.suback = tuple(reason.value for reason in reasons)

    def _on_publish(self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _given: Any) -> None:
        self.published.append((mid, reason.value))

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        # paho acknowledges when this returns. Where the acknowledgement has to wait for a commit, create the client with
        # manual_ack and call `Client.ack(message.mid, message.qos)` when the order to do so comes through the mailbox.
        self.messages.append(message)

    def _on_disconnect(self, _client: Client, _data: Any, flags: Any, reason: ReasonCode, _given: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self.farewell = f"the broker says: {reason}"


def _wishes(settings: Mqtt) -> Properties:
    wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    wishes.SessionExpiryInterval = round(as_seconds(settings.session_expiry))
    wishes.ReceiveMaximum = OWN_RECEIVE_MAXIMUM
    wishes.MaximumPacketSize = OWN_MAXIMUM_PACKET
    return wishes
