"""The table of docs/brokers.md is true: each cell is tried out on the broker it speaks of, what it cannot do as well as what it can.

With another version of a broker than the table's, what it was said to be unable to do is no news: such a cell is skipped, with a word.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from chappe.core.effects import Publish
from chappe.core.events import Acked, Asked, Event, LinkDown
from chappe.core.units import SECOND
from chappe.edge.host import SystemClock

from .broker_process import FarmBroker
from .capabilities import NOT_ALWAYS, ROWS, TABLE, render
from .conftest import MakeDevice
from .farm import FORBIDDEN, KINDS, Amqtt, Mosquitto, RabbitMq
from .ground import Ground, came_up
from .people import WITHIN_S, Device
from .raw import publish_and_hang_up

NOT_AUTHORIZED = 0x87
BODIES = [b"%d" % number for number in range(5)]
ROUNDS = 3
Found = bool | str


def agree(ground: Ground, name: str, found: Found) -> None:
    """The table says what was found."""
    declared = getattr(ground.can, name)
    version = ground.broker.version()
    if found != declared and declared is not True and version != ground.can.version:
        pytest.skip(f"the table is of {ground.broker.title} {ground.can.version}, here {version} says {found}: {name}")
    assert found == declared, f"{ground.broker.title} {version}, {name}: {ROWS[name]}"


# ── what can be seen while it runs; the last argument says whether it is hoped for, which is only about how long to wait ──────


def mqtt5(ground: Ground, hoped: bool) -> Found:
    """A link that insists on MQTT 5 comes up."""
    return came_up(ground.link(version="5", connect_timeout="20s" if hoped else "500ms"))


def told_apart(ground: Ground, _: bool) -> Found:
    """The PUBACK of a forbidden publish says so."""
    return fate(ground.link()) == NOT_AUTHORIZED


def forbidden_on_3(ground: Ground, _: bool) -> Found:
    """The acknowledgement of a forbidden publish is like any other, though nobody gets it; or the connection ends over it."""
    watcher = ground.peer(f"{FORBIDDEN}/#")
    end = fate(ground.link(version="3.1.1"))
    assert not ground.reaches(f"{FORBIDDEN}/x", watcher, hoped=False)
    return {0: "counts as delivered", None: "ends the connection"}.get(end, f"code {end}")


def fate(device: Device) -> int | None:
    """The reason code of a forbidden publish, None if the connection ends instead."""
    device.online()
    device.link.publish([Publish(token=1, topic=f"{FORBIDDEN}/x", payload=b"x")])
    end: Event = device.heard.next((Acked, LinkDown))
    return end.items[0].code if isinstance(end, Acked) else None


def reply_to(ground: Ground, _: bool) -> Found:
    """The response topic of a request reaches the device."""
    device = ground.link()
    device.online()
    where = {"ResponseTopic": "probe/answer"} if ground.can.mqtt5 else {}
    ground.post(ground.topic("req/status"), b"{}", **where)
    return device.heard.next(Asked).reply_to == "probe/answer"


def expiry(ground: Ground, hoped: bool) -> Found:
    """Of two retained messages, the one with a life of one second is gone after a while."""
    device = ground.link()
    device.online()
    dies, stays = ground.topic("dies"), ground.topic("stays")
    device.link.publish([Publish(token=1, topic=dies, payload=b"x", retain=True, expiry_s=1)])
    device.link.publish([Publish(token=2, topic=stays, payload=b"x", retain=True)])
    device.heard.codes([1, 2])
    clock, pause = SystemClock(), threading.Event()
    deadline = clock.now() + (WITHIN_S if hoped else 1.3) * SECOND
    while clock.now() < deadline and not pause.wait(0.2):
        late = ground.peer(dies, stays)
        assert ground.reaches(stays, late, hoped=True)
        if not ground.reaches(dies, late, hoped=False):
            return True
    return False


def marks_retained(ground: Ground, _: bool) -> Found:
    """The device sees that a request was published to be retained, although it is online and gets it live."""
    device = ground.link()
    device.online()
    ground.post(ground.topic("req/reboot"), b"{}", retain=True)
    return device.heard.next(Asked).retained


def keeps_acknowledged(ground: Ground, _: bool) -> Found:
    """A connection breaks at the 60th PUBACK of a hundred, a few times over: all that was acknowledged arrives."""
    topic = ground.topic("stream/t")
    watcher = ground.peer(topic)
    acknowledged: set[bytes] = set()
    for number in range(ROUNDS):
        payloads = [b"%d.%d" % (number, n) for n in range(100)]
        acknowledged.update(publish_and_hang_up(ground.broker.port, topic, payloads, after=60))
    ground.settle(watcher)
    return acknowledged <= {message.payload for message in watcher.messages}


def only_subscribed(ground: Ground, _: bool) -> Found:
    """A last value that somebody subscribed to does not come to a stranger who connects."""
    topic = ground.topic("keep")
    reader = ground.peer(topic)
    ground.post(topic, b"x", retain=True)
    assert ground.reaches(topic, reader, hoped=True)
    return not ground.reaches(topic, ground.peer(), hoped=False)


def names_window(ground: Ground, _: bool) -> Found:
    """A link that would have 200 messages in flight is told a smaller number."""
    return ground.link(window=200).online().window < 200


def shared(ground: Ground, hoped: bool) -> Found:
    """Ten messages to a group of two: each gets to one of them."""
    topic = ground.topic("work")
    members = [ground.peer(f"$share/{ground.device}/{topic}") for _ in range(2)]
    ground.post(topic, *(b"%d" % number for number in range(10)))

    def done() -> list[bytes]:
        return sorted(message.payload for member in members for message in member.messages if message.topic == topic)

    clock, pause = SystemClock(), threading.Event()
    deadline = clock.now() + WITHIN_S * SECOND
    while hoped and len(done()) < 10 and clock.now() < deadline:
        pause.wait(0.01)
    for member in members:
        ground.settle(member)
    return done() == [b"%d" % number for number in range(10)]


def retained(ground: Ground, hoped: bool) -> Found:
    """A last value reaches one who subscribes later."""
    topic = ground.topic("keep")
    ground.post(topic, b"x", retain=True)
    return ground.reaches(topic, ground.peer(topic), hoped=hoped)


def retained_wildcard(ground: Ground, hoped: bool) -> Found:
    """The same for one who does not name the topic."""
    topic = ground.topic("keep")
    ground.post(topic, b"x", retain=True)
    return ground.reaches(topic, ground.peer(f"chappe/+/{topic.rsplit('/', 1)[1]}"), hoped=hoped)


def session(ground: Ground, hoped: bool) -> Found:
    """A device was here and has gone; what it is asked meanwhile it hears when it comes back."""
    leave_requests(ground)
    return hears_requests(ground, hoped)


def leave_requests(ground: Ground) -> None:
    """A device says goodbye, then it is asked some things."""
    device = ground.link()
    device.online()
    device.link.disconnect()
    device.heard.down("off")
    device.link.close()
    ground.post(ground.topic("req/status"), *BODIES)


def hears_requests(ground: Ground, hoped: bool) -> bool:
    """The device comes back: whether it hears all of them, in order."""
    device = ground.link()
    if not hoped:
        device.online()
        ground.post(ground.topic("req/status"), b"last")
    bodies: list[bytes] = []
    while len(bodies) < len(BODIES) and b"last" not in bodies:
        bodies.append(device.heard.next(Asked).body)
    return bodies == BODIES


PROBES: dict[str, Callable[[Ground, bool], Found]] = {
    probe.__name__: probe
    for probe in (
        mqtt5,
        told_apart,
        forbidden_on_3,
        reply_to,
        expiry,
        marks_retained,
        keeps_acknowledged,
        only_subscribed,
        names_window,
        shared,
        session,
        retained,
        retained_wildcard,
    )
}


@pytest.mark.parametrize("name", PROBES)
def test_what_it_can_and_cannot_do(ground: Ground, name: str) -> None:
    """Each cell is what is found here."""
    agree(ground, name, PROBES[name](ground, getattr(ground.can, name) is True))


# ── what is left of it after a restart ───────────────────────────────────────────────────────────────────────────────

RESTARTS = {"restart": True, "kill": False}


@pytest.fixture
def mortal(farmed: FarmBroker, stack: ExitStack, make_device: MakeDevice) -> Ground:
    """A place on a broker of this test's own, as not every one survives what follows; on the shared one where a start takes long."""
    broker = farmed if isinstance(farmed, RabbitMq) else stack.enter_context(type(farmed)())
    return Ground(broker, stack, make_device)


@pytest.mark.parametrize("how", RESTARTS)
def test_what_survives_the_broker(mortal: Ground, how: str) -> None:
    """The broker goes and comes back with its data: the session and the last values are there, or not, as the table says.

    A link that was up finds the way back and hears requests again, whatever the broker has kept.
    """
    topic = mortal.topic("keep")
    stays = Ground(mortal.broker, mortal.stack, mortal.make_device)
    device = stays.link()
    device.online()
    leave_requests(mortal)
    mortal.post(topic, b"x", retain=True)
    mortal.broker.restart(keep=True, politely=RESTARTS[how])
    device.heard.down("lost")
    device.online()
    kept, heard = (getattr(mortal.can, f"{what}_{how}") for what in ("retained", "session"))
    agree(mortal, f"retained_{how}", mortal.reaches(topic, mortal.peer(topic), hoped=kept is True))
    if heard == NOT_ALWAYS:
        mend(mortal, device)
    else:
        agree(mortal, f"session_{how}", hears_requests(mortal, heard))
    stays.post(stays.topic("req/status"), b"again")
    assert device.heard.next(Asked).body == b"again"


def mend(ground: Ground, device: Device) -> None:
    """What was lost is said; as the broker may not pass on anything any more, it starts anew, without its data."""
    try:
        whole = hears_requests(ground, hoped=True)
    except AssertionError:
        whole = False
    print(f"{ground.broker.title}: the session was {'whole' if whole else 'gone, or the store with it'}")
    ground.broker.restart(keep=False)
    device.heard.down("lost")
    device.online()


def test_amqtt_marks_what_waited_as_retained(stack: ExitStack, make_device: MakeDevice) -> None:
    """Who logs in has a session in amqtt too, but what waited in it looks as if it had been retained; requests like that are refused."""
    if not Amqtt.program() or Amqtt.version() != TABLE["amqtt"].version:
        pytest.skip(f"about amqtt {TABLE['amqtt'].version}")
    ground = Ground(stack.enter_context(Amqtt(logins=True)), stack, make_device)
    leave_requests(ground)
    device = ground.link()
    asked = [device.heard.next(Asked) for _ in BODIES]
    assert [(each.body, each.retained) for each in asked] == [(body, True) for body in BODIES]


def test_mosquitto_without_a_limit_hangs_up_over_what_it_forbids(stack: ExitStack, make_device: MakeDevice) -> None:
    """With `max_queued_messages 0`, mosquitto 2.0.11 says no to a forbidden publish, and ends the connection."""
    if not Mosquitto.program() or Mosquitto.version() != TABLE["mosquitto"].version:
        pytest.skip(f"about mosquitto {TABLE['mosquitto'].version}")
    ground = Ground(stack.enter_context(Mosquitto("max_queued_messages 0")), stack, make_device)
    device = ground.link()
    assert fate(device) == NOT_AUTHORIZED
    device.heard.down("lost")


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_row_is_tried() -> None:
    """No row of the table rests on somebody's word."""
    survives = {f"{what}_{how}" for what in ("session", "retained") for how in RESTARTS}
    assert {*PROBES, *survives} == set(ROWS)


def test_the_page_shows_the_table(checkout: Path) -> None:
    """docs/brokers.md has this table, cell for cell."""
    table = "\n".join(render({name: kind.title for name, kind in KINDS.items()}))
    page = (checkout / "docs" / "brokers.md").read_text(encoding="utf-8")
    assert table in page, f"write this into docs/brokers.md:\n\n{table}"


def test_the_table_has_every_broker() -> None:
    assert list(TABLE) == list(KINDS)
