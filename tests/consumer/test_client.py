"""What the consumer does with a connection, at manual time and over a link that the test plays."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from chappe.consumer import Access, Consumer, Message
from chappe.consumer.client import GOODBYE
from chappe.consumer.link import Link
from chappe.consumer.terms import Incoming, Outgoing
from chappe.errors import LinkError, StoreError
from chappe.testing import ManualClock

from .table import payload


class PlayedLink:
    """A link without a broker.

    Args:
        scene: remembers what is done, and lets time pass where a real link would wait.
        reachable: whether `open` works.
    """

    def __init__(self, scene: Scene, *, reachable: bool = True) -> None:
        self.ready = True
        self.failure = ""
        self.room = 100
        self.batch: list[Incoming] = []
        self.acked: list[int] = []
        self.published: list[Outgoing] = []
        self.acknowledged: list[int] = []
        self.closed = False
        self._scene = scene
        self._reachable = reachable

    def open(self) -> None:
        if not self._reachable:
            raise LinkError("nobody there")

    def pump(self, wait_s: float) -> tuple[list[Incoming], list[int]]:
        self._scene.clock.advance(wait_s)
        batch, self.batch = self.batch, []
        acked, self.acked = self.acked, []
        return batch, acked

    def acknowledge(self, batch: list[Incoming]) -> None:
        self.acknowledged += [incoming.handle for incoming in batch]
        self._scene.on_acknowledge()

    def publish(self, out: Outgoing) -> None:
        self.published.append(out)

    def close(self) -> None:
        self.closed = True

    def bring(self, *seqs: int) -> None:
        self.batch += [Incoming("chappe/tower-1/stream/tick", payload(seq), handle=100 + seq) for seq in seqs]

    def confirmed(self) -> list[int]:
        return [msgspec.json.decode(out.payload)["seq"] for out in self.published if out.receipt]


class Scene:
    """A consumer whose links are played."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.clock = ManualClock()
        self.file = folder / "state.db"
        self.links: list[PlayedLink] = []
        self.dialled: list[float] = []
        self.reachable = True
        self.seen: list[int] = []
        self.on_acknowledge: Callable[[], None] = lambda: None
        self.consumer = Consumer("unused", handler=self._take, state=self.file, clock=self.clock, **options)
        self.consumer._dial = self._dial  # type: ignore[assignment]

    def _take(self, message: Message, db: sqlite3.Connection) -> None:
        self.seen.append(message.seq)

    def _dial(self) -> PlayedLink:
        self.dialled.append(self.clock.now() / 1e9)
        self.links.append(PlayedLink(self, reachable=self.reachable))
        return self.links[-1]

    @property
    def link(self) -> PlayedLink:
        return self.links[-1]

    def kept(self) -> int:
        """Messages that another process would find on the disk."""
        with sqlite3.connect(self.file) as db:
            (count,) = db.execute("SELECT count(*) FROM chappe_inbox").fetchone()
        db.close()
        return int(count)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_acknowledged_only_when_it_is_on_the_disk(scene: Scene) -> None:
    """Another process finds it there at the moment of the acknowledgement; the application gets it in the next pass."""
    found: list[int] = []
    scene.on_acknowledge = lambda: found.append(scene.kept())
    with scene.consumer as consumer:
        consumer.step()
        scene.link.bring(1, 2)
        consumer.step()
        assert found[-1] == 2
        assert scene.link.acknowledged == [101, 102]
        assert scene.link.confirmed() == [1, 2]
        consumer.step()
    assert scene.seen == [1, 2]


def test_what_cannot_be_written_is_not_acknowledged(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker keeps it, and says it again to whoever comes next."""
    with scene.consumer as consumer:
        consumer.step()
        scene.link.bring(1)

        def full(*_: Any) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(consumer._keeper, "save", full)
        with pytest.raises(StoreError, match="full"):
            consumer.step()
        assert scene.link.acknowledged == []
        assert scene.link.published == []


def test_nothing_is_said_before_the_subscriptions_are_granted(scene: Scene) -> None:
    """But what the broker has kept comes earlier, and is taken."""
    with scene.consumer as consumer:
        consumer.step()
        scene.link.ready = False
        scene.link.bring(1)
        consumer.step()
        assert scene.link.acknowledged == [101]
        assert scene.link.published == []
        scene.link.ready = True
        consumer.step()
        assert scene.link.confirmed() == [1]


def test_after_a_lost_connection_receipts_are_said_again_on_the_next(scene: Scene) -> None:
    """Those whose arrival nobody has confirmed; not those that the broker has."""
    with scene.consumer as consumer:
        consumer.step()
        scene.link.bring(1, 2)
        consumer.step()
        first = scene.link
        first.acked = [out.receipt for out in first.published[:1]]
        first.failure = "cut"
        consumer.step()
        assert first.closed
        assert not consumer.online.is_set()
        scene.clock.advance(1)
        consumer.step()
        assert scene.link is not first
        assert scene.link.confirmed() == [2]
        assert consumer.online.is_set()


def test_a_question_under_way_is_asked_again_after_a_cut(scene: Scene) -> None:
    """Its answer went to a connection that is gone."""
    with scene.consumer as consumer:
        consumer.step()
        scene.link.bring(1, 3)
        for _ in range(60):
            consumer.step(wait_s=0.1)
        asked = [out for out in scene.link.published if out.reply_to]
        assert len(asked) == 1
        scene.link.failure = "cut"
        consumer.step()
        scene.clock.advance(1)
        consumer.step()
        assert len([out for out in scene.link.published if out.reply_to]) == 1


def test_waits_between_attempts_double_up_to_half_a_minute(scene: Scene) -> None:
    """1, 2, 4 … 30 s; and from the beginning once it was online."""
    scene.reachable = False
    with scene.consumer as consumer:
        for _ in range(700):
            consumer._stop.set()  # waits end at once
            consumer.step()
            scene.clock.advance(0.25)
        waits = [round(b - a) for a, b in zip(scene.dialled, scene.dialled[1:], strict=False)]
        assert waits == [1, 2, 4, 8, 16, 30, 30, 30, 30][: len(waits)]
        assert len(waits) >= 8
        scene.reachable = True
        while not consumer.online.is_set():
            consumer.step()
            scene.clock.advance(0.25)
        scene.link.failure = "cut"
        consumer.step()
        cut = scene.clock.now() / 1e9
        count = len(scene.dialled)
        while len(scene.dialled) == count:
            consumer.step()
            scene.clock.advance(0.25)
        assert round(scene.dialled[-1] - cut) == 1


def test_a_stop_works_off_what_was_taken_and_waits_for_receipts(scene: Scene) -> None:
    """Nothing new is taken meanwhile; it is over when the broker has said its word."""
    consumer = scene.consumer
    scene.on_acknowledge = lambda: consumer.stop() if scene.link.acknowledged else None
    original = scene._dial

    done: list[int] = []

    def dial() -> PlayedLink:
        link = original()
        link.bring(1, 2)
        pump = link.pump

        def answering(wait_s: float) -> tuple[list[Incoming], list[int]]:
            if consumer._stop.is_set():
                link.bring(3)
                told = [out.receipt for out in link.published[len(done) :] if out.receipt]
                done.extend(told)
                link.acked = told
            return pump(wait_s)

        link.pump = answering  # type: ignore[method-assign]
        return link

    consumer._dial = dial  # type: ignore[assignment]
    consumer.run()
    assert scene.seen == [1, 2]
    assert scene.link.confirmed() == [1, 2]
    assert scene.link.acknowledged == [101, 102]
    assert scene.link.closed
    assert scene.clock.now() < GOODBYE


def test_a_stop_does_not_wait_for_a_broker_that_says_nothing(scene: Scene) -> None:
    """Five seconds; the receipts are sent again at the next start."""
    consumer = scene.consumer
    scene.on_acknowledge = lambda: consumer.stop() if scene.link.acknowledged else None
    original = scene._dial

    def dial() -> PlayedLink:
        link = original()
        link.bring(1)
        return link

    consumer._dial = dial  # type: ignore[assignment]
    consumer.run()
    assert GOODBYE <= scene.clock.now() < 2 * GOODBYE
    with scene.consumer as again:
        consumer._dial = original  # type: ignore[assignment]
        again.step()
        assert scene.link.confirmed() == [1]


def test_without_a_broker_the_application_still_gets_what_is_in_the_file(scene: Scene) -> None:
    """The inbox needs no network."""
    with scene.consumer as consumer:
        consumer.step()
        scene.link.bring(1, 2)
        scene.link.failure = "cut"
        scene.reachable = False
        consumer.step()
        assert scene.link.acknowledged == [101, 102]
        consumer._stop.set()
        consumer.step()
    assert scene.seen == [1, 2]


def test_no_more_is_published_than_the_broker_has_granted() -> None:
    """A publish too many ends the connection (MQTT 5 section 4.9); each word of the broker makes room for one."""
    mids = itertools.count(1)
    paho = SimpleNamespace(
        publish=lambda *_, **__: SimpleNamespace(mid=next(mids)), subscribe=lambda _: None, ack=lambda *_: None
    )
    link = Link("unused", 1883, "c", ["f"], Access())
    link._client = cast("Any", paho)
    granted = SimpleNamespace(ReceiveMaximum=3)
    link._on_connect(
        link._client, None, SimpleNamespace(session_present=True), SimpleNamespace(is_failure=False), granted
    )
    for receipt in (11, 12, 13):
        assert link.room == 14 - receipt
        link.publish(Outgoing("t", b"{}", receipt=receipt))
    assert link.room == 0
    link._on_publish(link._client, None, 2, SimpleNamespace(value=0), None)
    assert link.room == 1
    assert link._acked == [12]
