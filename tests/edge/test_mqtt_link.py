"""The façade, its mailbox and its herald, without a broker."""

from __future__ import annotations

import random
import select
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator

import pytest

from chappe.core.effects import Acknowledge, Disconnect, Listen, Publish, Reconnect, Unlisten
from chappe.core.events import Carried, Event, Faulted, Healed, LinkDown
from chappe.core.settings import Mqtt
from chappe.core.units import SECOND, Ns
from chappe.edge.host import SystemClock
from chappe.edge.mqtt import MqttLink
from chappe.edge.mqtt.herald import Herald
from chappe.edge.mqtt.mailbox import Close, Goodbye, Mailbox
from chappe.edge.mqtt.meter import Meter
from chappe.edge.mqtt.terms import Counters, Failure

WITHIN_S = 20


# ── the façade ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Ears:
    """Collects events and says when the first has come."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.first = threading.Event()

    def post(self, event: Event) -> None:
        self.post_many([event])

    def post_many(self, events: Iterable[Event]) -> None:
        self.events.extend(events)
        self.first.set()


def link_to(port: int, ears: Ears) -> MqttLink:
    return MqttLink(
        Mqtt(port=port),
        client_id="tower",
        subscriptions=(),
        request_prefix="r/",
        will=("s", b""),
        clock=SystemClock(),
        post=ears.post,
        post_many=ears.post_many,
        password=lambda: None,
        jitter=random.Random(1),
    )


def test_a_link_that_was_never_opened_does_nothing() -> None:
    """Publishing, leaving and closing it are no errors; it has no beat and no thread."""
    ears = Ears()
    link = link_to(1, ears)
    link.publish([Publish(token=1, topic="t", payload=b"")])
    link.disconnect()
    link.close()
    assert (ears.events, link.beat, link.reconnects) == ([], 0, 0)
    assert "mqtt" not in {thread.name for thread in threading.enumerate()}


def test_it_says_that_it_is_connecting_and_beats() -> None:
    """The first event of an open link; the thread's beat is younger than the opening."""
    ears = Ears()
    before = SystemClock().now()
    with link_to(1, ears) as link:
        assert ears.first.wait(WITHIN_S)
        assert link.beat >= before
        assert "mqtt" in {thread.name for thread in threading.enumerate()}
    first = ears.events[0]
    assert isinstance(first, LinkDown)
    assert first.status == "connecting"
    link.close()
    assert "mqtt" not in {thread.name for thread in threading.enumerate()}


def test_it_can_be_opened_again() -> None:
    """A closed link is as good as new."""
    ears = Ears()
    link = link_to(1, ears)
    for _ in range(2):
        ears.first.clear()
        link.open()
        assert ears.first.wait(WITHIN_S)
        link.close()


def test_importing_it_imports_nothing_heavy() -> None:
    """paho, ssl and asyncio are imported when a link is opened, not by whoever names it."""
    code = "import sys, chappe.edge.mqtt, chappe.edge.broker; print([m for m in ('paho', 'ssl', 'asyncio', 'amqtt') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


# ── the mailbox ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    made = Mailbox()
    made.open()
    yield made
    made.close()


def rings(mailbox: Mailbox) -> bool:
    return bool(select.select([mailbox], [], [], 0)[0])


def test_orders_come_out_as_they_went_in(mailbox: Mailbox) -> None:
    """Batches stay whole, and a goodbye stays behind them."""
    batch = [Publish(token=1, topic="t", payload=b"")]
    orders = [batch, Goodbye(), Close()]
    for order in orders:
        mailbox.put(order)  # type: ignore[arg-type]
    assert list(mailbox) == orders
    assert list(mailbox) == []


def test_it_rings_once_for_many(mailbox: Mailbox) -> None:
    """One byte for all that is put while the reader sleeps, and again when it sleeps again."""
    assert mailbox.lie_down()
    for _ in range(100_000):
        mailbox.put([])
    assert rings(mailbox)
    mailbox.hush()
    assert not rings(mailbox)
    assert len(list(mailbox)) == 100_000
    assert mailbox.lie_down()
    mailbox.put([])
    assert rings(mailbox)


def test_a_reader_at_work_is_not_rung_for(mailbox: Mailbox) -> None:
    """It looks before it lies down, and finds what came meanwhile."""
    mailbox.put([])
    assert not rings(mailbox)
    assert not mailbox.lie_down()
    assert len(list(mailbox)) == 1
    assert mailbox.lie_down()


def test_what_is_put_while_it_is_emptied_is_not_missed(mailbox: Mailbox) -> None:
    """Either this emptying finds it or the bell rings again; tried from another thread, many times."""
    count = 20_000
    putter = threading.Thread(target=lambda: [mailbox.put([]) for _ in range(count)])
    putter.start()
    found = 0
    while found < count:
        if mailbox.lie_down():
            assert select.select([mailbox], [], [], WITHIN_S)[0], f"{found} of {count}"
            mailbox.hush()
        found += len(list(mailbox))
    putter.join()


# ── orders ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_effects_become_orders_in_their_order() -> None:
    """Publishes that follow each other are one order; what stands between them stays there."""
    link = link_to(1, Ears())
    taken: list[object] = []

    class Box:
        def put(self, order: object) -> None:
            taken.append(order)

    class Pumped:
        mailbox = Box()

    link._pump = Pumped()  # type: ignore[assignment]
    first, second, third = (Publish(token=n, topic="t", payload=b"") for n in range(3))
    between = [Listen(filter="a"), Acknowledge(receipts=(1,)), Unlisten(filter="a"), Reconnect(after=Ns(5))]
    link.handle([first, second, between[0], third, *between[1:], Disconnect()])
    assert taken[:-1] == [[first, second], between[0], [third], *between[1:]]
    assert isinstance(taken[-1], Goodbye)


def test_a_link_that_was_never_opened_has_no_secrets() -> None:
    """Nothing to reconnect for."""
    assert not link_to(1, Ears()).secrets_changed()


# ── the herald ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Told:
    """A herald and what it said."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.counters = Counters()
        self.herald = Herald(self.events.extend, Meter(self.counters))

    @property
    def statuses(self) -> list[str]:
        return [event.status for event in self.events if isinstance(event, LinkDown)]


def test_a_status_is_said_once() -> None:
    """Ten refused attempts are one event; a new reason alone is none; another status is."""
    told = Told()
    for attempt in range(10):
        told.herald.offline(Failure("refused", f"attempt {attempt}"), Ns(attempt))
    told.herald.offline(Failure("no_network", "gone"), Ns(10))
    assert told.statuses == ["refused", "no_network"]
    assert told.events[0] == LinkDown(at=Ns(0), status="refused", reason="attempt 0")


def test_silence_after_having_been_online_is_still_lost() -> None:
    """Attempts that time out say nothing new about a lost link; a refusal does."""
    told = Told()
    herald = told.herald
    herald.offline(Failure("no_network", "silent", "silent"), Ns(0))
    herald.online("5")
    herald.offline(Failure("lost", "gone"), Ns(2))
    herald.offline(Failure("no_network", "silent", "silent"), Ns(3))
    herald.offline(Failure("refused", "nobody listens"), Ns(4))
    herald.offline(Failure("no_network", "silent", "silent"), Ns(5))
    assert told.statuses == ["no_network", "lost", "refused", "lost"]


def test_every_loss_is_said_and_who_is_to_blame() -> None:
    """Cut, online, silent: twice lost, and which is which."""
    told = Told()
    for second, cut in ((0, True), (2, False)):
        told.herald.online("5")
        told.herald.offline(Failure("lost", "gone", cut=cut), Ns(second * SECOND))
    assert [event.cut for event in told.events if isinstance(event, LinkDown)] == [True, False]
    assert told.statuses == ["lost", "lost"]


def test_what_was_carried_is_told_before_the_link_is_down() -> None:
    """Beside the events of a pass at most once a second; what is left of it before `LinkDown`."""
    told = Told()
    told.herald.online("5")
    told.counters.bytes_out += 5
    told.herald.tell([Healed(at=Ns(0), part="x", code="y")], Ns(0))
    told.counters.bytes_in += 3
    told.herald.tell([], Ns(1))
    told.herald.offline(Failure("lost", "gone"), Ns(2))
    assert told.events[1:] == [
        Carried(at=Ns(0), sent=5, received=0),
        Carried(at=Ns(2), sent=0, received=3),
        LinkDown(at=Ns(2), status="lost", reason="gone"),
    ]


def test_nothing_to_tell_is_not_told() -> None:
    """An empty pass wakes nobody."""
    told = Told()
    posts: list[object] = []
    told.herald._post_many = posts.append
    told.herald.tell([], Ns(0))
    assert posts == []


def test_a_refused_filter_is_a_fault_until_all_are_granted() -> None:
    """Faulted each time one is refused, healed once by the next connection that grants all."""
    herald = Told().herald
    assert herald.granted(Ns(0)) == []
    (fault,) = herald.refused(("a/+", "b"), Ns(1))
    assert isinstance(fault, Faulted)
    assert (fault.part, fault.code) == ("mqtt", "subscription_refused")
    assert "a/+, b" in fault.message
    assert herald.granted(Ns(2)) == [Healed(at=Ns(2), part="mqtt", code="subscription_refused")]
    assert herald.granted(Ns(3)) == []
