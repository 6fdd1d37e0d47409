"""A small subscriber: every message of a broker as a line, for machines without mosquitto's clients."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chappe.core.topics import validate_filter
from chappe.errors import LinkError, UsageError

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

Show = Callable[[str, bytes, bool], None]
"""Is given a message: topic, payload, and whether the broker had kept it."""

RECONNECT_AT_MOST_S = 5
KEEPALIVE_S = 20


def watch(host: str, port: int, topic: str, show: Show, *, username: str = "", password: str | None = None) -> None:
    """Show every message that matches a filter, until the process is told to end; a lost broker is waited for.

    Args:
        host: the broker's name or address.
        port: its port.
        topic: a topic filter, for example ``chappe/#``.
        show: takes the messages.
        username: empty where the broker asks for none.
        password: None where there is none.

    Raises:
        UsageError: if `topic` is no topic filter.
        LinkError: if the broker cannot be reached, or refuses.
    """
    try:
        validate_filter(topic)
    except ValueError as error:
        raise UsageError(str(error), remedy="write it like chappe/# or chappe/+/signal") from None
    refusals: list[str] = []
    client = _client(topic, show, refusals)
    client.username_pw_set(username or None, password)
    try:
        client.connect(host, port, keepalive=KEEPALIVE_S)
    except OSError as error:
        raise LinkError(
            f"no broker answers at {host}:{port}: {error.strerror or error}",
            remedy="start one, or name another with --host and --port",
        ) from error
    try:
        client.loop_forever()
    finally:
        link = client.socket()
        if link is not None:
            link.close()
    if refusals:
        raise LinkError(
            f"the broker at {host}:{port} refuses: {refusals[0]}", remedy="check --username and its password"
        )


def _client(topic: str, show: Show, refusals: list[str]) -> Client:
    from paho.mqtt.client import Client, MQTTv311
    from paho.mqtt.enums import CallbackAPIVersion

    # 3.1.1 is what every broker speaks.
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv311)
    client.on_message = lambda _client, _data, message: _pass_on(message, show)
    client.on_connect = lambda client, _data, _flags, reason, _properties: _connected(client, reason, topic, refusals)
    client.on_disconnect = lambda _client, _data, _flags, reason, _properties: _disconnected(reason, refusals)
    client.reconnect_delay_set(1, RECONNECT_AT_MOST_S)
    return client


def _pass_on(message: MQTTMessage, show: Show) -> None:
    show(message.topic, bytes(message.payload), message.retain)


def _connected(client: Client, reason: Any, topic: str, refusals: list[str]) -> None:
    if reason.is_failure:
        refusals.append(str(reason))
        client.disconnect()
    else:
        client.subscribe(topic, qos=1)


def _disconnected(reason: Any, refusals: list[str]) -> None:
    if reason.is_failure and not refusals:
        print("chappe: the broker is gone; trying again", file=sys.stderr)
