"""The item about the broker: one connection, made and ended as the daemon would."""

from __future__ import annotations

import queue
import random
from collections.abc import Iterable

import msgspec

from chappe.assembly import secret
from chappe.checks.certificates import SYNC, judge, worst
from chappe.checks.terms import Answer, Subject
from chappe.core.events import Event, LinkDown, LinkUp
from chappe.core.settings import Config
from chappe.core.topics import Topics
from chappe.core.units import SECOND, Ns, Span, as_seconds, seconds
from chappe.edge.host import SystemClock
from chappe.edge.mqtt import MqttLink
from chappe.edge.mqtt.dial import CLOCK_UNSYNCED, Dial, Dialled
from chappe.edge.mqtt.terms import Failure
from chappe.errors import LinkError

AFTER_REFUSAL_S = 3.0
"""A broker that closes without a CONNACK is asked again after a second and a half at most, and then with MQTT 3.1.1."""

_REMEDIES = {
    "no_network": "check mqtt.host, the cable or the WLAN, and the name server",
    "refused": "check mqtt.host and mqtt.port, and whether the broker runs and listens there",
    "auth_failed": "check mqtt.username, mqtt.password_file and the broker's list of users",
    "tls_untrusted": "check mqtt.ca_file, and the name in the broker's certificate",
    "captive_portal_suspected": "log in to this network, or ask for a way around its portal",
}


def broker(subject: Subject) -> Answer:
    config = subject.config
    shown = _dial(config).certificates.get("broker")
    answers = [_spoken(_connect(config), f"{config.mqtt.host}:{config.mqtt.port}")]
    if shown is not None:
        answers.append(judge("the broker's certificate", shown))
    return worst(answers)


def _spoken(protocol: str, where: str) -> Answer:
    if protocol == "3.1.1":
        return (
            "warn",
            f"{where} is spoken to in MQTT 3.1.1: a forbidden publish looks successful",
            "use a broker with MQTT 5, or make sure that its access list lets this device publish",
        )
    return "pass", f"{where}, MQTT {protocol}"


def _dial(config: Config) -> Dialled:
    """Name, TCP and TLS, and what was seen of them; the connection is closed again.

    Raises:
        LinkError: if one of these fails.
    """
    answers: queue.SimpleQueue[Dialled | Failure] = queue.SimpleQueue()
    dial = Dial(
        config.mqtt,
        password=lambda: secret(config.mqtt.password_file),
        clock=SystemClock(),
        done=lambda _, outcome: answers.put(outcome),
    )
    dial.start()
    try:
        outcome = answers.get(timeout=2 * as_seconds(config.mqtt.connect_timeout))
    except queue.Empty:
        dial.cancel()
        raise _refusal("no_network", f"the name {config.mqtt.host!r} is not resolved in time") from None
    if isinstance(outcome, Failure):
        raise _refusal(outcome.status, outcome.reason)
    outcome.sock.close()
    return outcome


def _connect(config: Config) -> str:
    """Connect once as a client of its own, which subscribes to nothing and leaves no session; returns the protocol.

    Raises:
        LinkError: if the broker does not let us in.
    """
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    with _link(config, events) as link:
        protocol = _await_link(events, as_seconds(config.mqtt.connect_timeout))
        link.disconnect()
    return protocol


def _link(config: Config, events: queue.SimpleQueue[Event]) -> MqttLink:
    def put_many(batch: Iterable[Event]) -> None:
        for event in batch:
            events.put(event)

    topics = Topics(config.mqtt.prefix, config.device.id)
    return MqttLink(
        msgspec.structs.replace(config.mqtt, session_expiry=Span(0)),
        client_id=f"{config.mqtt.prefix}-{config.device.id}-check",
        subscriptions=(),
        request_prefix=topics.req(""),
        # A link has a will. Should this process be killed while it is connected, this one says nothing and stays nowhere.
        will=(f"{topics.root}/check", b""),
        clock=SystemClock(),
        post=events.put,
        post_many=put_many,
        password=lambda: secret(config.mqtt.password_file),
        jitter=random.Random(),  # noqa: S311 - spreads attempts, no secret
    )


def _await_link(events: queue.SimpleQueue[Event], timeout_s: float) -> str:
    clock, last = SystemClock(), LinkDown(at=Ns(0), status="refused", reason="no answer to the CONNECT in time")
    deadline = clock.now() + seconds(2 * timeout_s + AFTER_REFUSAL_S)
    while (left := deadline - clock.now()) > 0:
        try:
            event = events.get(timeout=left / SECOND)
        except queue.Empty:
            break
        if isinstance(event, LinkUp):
            return event.protocol
        if isinstance(event, LinkDown) and event.status not in ("connecting", "off"):
            last = event
            deadline = min(deadline, clock.now() + (seconds(AFTER_REFUSAL_S) if event.status == "refused" else 0))
    raise _refusal(last.status, last.reason)


def _refusal(status: str, reason: str) -> LinkError:
    if CLOCK_UNSYNCED in reason:
        return LinkError(reason, remedy=SYNC)
    return LinkError(reason, remedy=_REMEDIES.get(status, "look into the broker's log"))
