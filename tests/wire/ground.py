"""One test's place on a broker that other tests use too: ids, topics and peers of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from chappe.core.events import LinkDown, LinkUp

from .broker_process import FarmBroker
from .capabilities import TABLE, Can
from .people import Device, Peer

_numbers = itertools.count(1)
MARKS = 3


class Ground:
    """A device id that nobody else has, on a broker.

    Args:
        broker: in service.
        stack: takes what is opened.
        make_device: opens links.
    """

    def __init__(self, broker: FarmBroker, stack: ExitStack, make_device: Callable[..., Device]) -> None:
        self.broker = broker
        self.device = f"tower-{next(_numbers)}"
        self.stack = stack
        self.make_device = make_device

    @property
    def can(self) -> Can:
        """What the broker is said to be able to do."""
        return TABLE[self.broker.name]

    @property
    def protocol(self) -> str:
        """The best it speaks."""
        return "5" if self.can.mqtt5 else "3.1.1"

    def topic(self, rest: str) -> str:
        """A topic of the device."""
        return f"chappe/{self.device}/{rest}"

    def link(self, **keys: Any) -> Device:
        """A link of the device, in the best version its broker speaks unless told otherwise; keywords are keys of ``[mqtt]``."""
        return self.make_device(**{"port": self.broker.port, "device": self.device, "version": self.protocol, **keys})

    def peer(self, *filters: str, **more: Any) -> Peer:
        """Another client, with these subscriptions."""
        options = {"protocol": self.protocol, "client_id": f"peer-{next(_numbers)}", **more}
        return self.stack.enter_context(Peer(self.broker.port, *filters, self.topic("mark"), **options))

    def post(self, topic: str, *payloads: bytes, retain: bool = False, **properties: Any) -> None:
        """Publish these as somebody who is gone afterwards; keywords are MQTT 5 properties."""
        name = f"peer-{next(_numbers)}"
        with Peer(self.broker.port, self.topic("mark"), protocol=self.protocol, client_id=name) as peer:
            for payload in payloads:
                peer.publish(topic, payload, retain=retain, **properties)
            # amqtt drops what it has acknowledged but not yet passed on when its publisher leaves, however politely.
            self.settle(peer)

    def reaches(self, topic: str, peer: Peer, *, hoped: bool) -> bool:
        """Whether a message on `topic` has reached `peer`, or will.

        Where it is hoped for it is waited for; elsewhere some messages of the peer to itself are, which were sent later.
        """
        if hoped:
            peer.wait_for(lambda message: message.topic == topic)
        else:
            self.settle(peer)
        return any(message.topic == topic for message in peer.messages)

    def settle(self, peer: Peer) -> None:
        """Wait until what was on its way to `peer` has had time to come: some messages of its own have gone there and back."""
        for mark in (b"%d" % next(_numbers) for _ in range(MARKS)):
            peer.publish(self.topic("mark"), mark)
            peer.wait_for(lambda message, mark=mark: message.payload == mark)


def came_up(device: Device) -> bool:
    """Whether the first attempt that counts brought the link up."""
    heard = device.heard.next(
        (LinkUp, LinkDown), lambda event: not isinstance(event, LinkDown) or event.status != "connecting"
    )
    return isinstance(heard, LinkUp)
