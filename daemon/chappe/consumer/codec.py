"""paho-mqtt on a socket that is connected already: its own way of connecting leaves the socket of a failed handshake open."""

from __future__ import annotations

import socket

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


class Paho(Client):
    """A client for one connection, with a session that outlives it, and acknowledgements by hand.

    Args:
        sock: connected, and verified where TLS is on.
        client_id: MQTT client identifier.
        five: MQTT 5, or else 3.1.1.
    """

    def __init__(self, sock: socket.socket, client_id: str, *, five: bool) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if five else False,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._connected_socket = sock
        # Its own window cannot be set once the broker has said how large it may be.
        self.max_inflight_messages_set(0)

    def _create_socket(self) -> socket.socket:
        return self._connected_socket

    def hang_up(self) -> None:
        """Close the socket, whatever state the connection is in; idempotent."""
        self._sock_close()
        self._connected_socket.close()


def connect_properties(session_expiry_s: int, receive_maximum: int) -> Properties:
    """What a CONNECT asks for (MQTT 5 section 3.1.2.11)."""
    wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    wishes.SessionExpiryInterval = session_expiry_s
    wishes.ReceiveMaximum = receive_maximum
    return wishes


def request_properties(response_topic: str, correlation: bytes) -> Properties:
    """Where the answer to a PUBLISH is to go (MQTT 5 section 3.3.2.3)."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ResponseTopic = response_topic
    properties.CorrelationData = correlation
    return properties
