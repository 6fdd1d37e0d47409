"""`verify = "echo"`: on a broker whose PUBACK means nothing, a stream is believed only after one of its messages came back."""

from __future__ import annotations

import json

import pytest

from chappe.core import events as ev
from chappe.core.echo import PATIENCE, Echo
from chappe.core.effects import Listen, Unlisten
from chappe.core.units import SECOND, Ns

from .rig import FORBIDDEN, Rig, stream_of

ECHO = '[mqtt]\nverify = "echo"\n[streams.tick]\n[streams.tock]\n'
TICK = "chappe/tower-1/stream/tick"


def asked_for(it: Rig) -> list[Listen | Unlisten]:
    """What the link was asked to listen to of `tick`."""
    return [wish for wish in it.wishes if wish.filter == TICK]


def returns(it: Rig, stream: str = "tick", which: int = -1) -> None:
    """A message of ours comes back on our own subscription."""
    body = it.bytes_of(stream)[which]
    it.feed(ev.Arrived(at=it.clock.now(), topic=f"chappe/tower-1/stream/{stream}", body=body))


@pytest.mark.feature("MQT-01", breaks="chappe.core.returns:Returns.echoed")
def test_the_first_message_counts_when_it_returns_and_then_the_others_follow() -> None:
    """A PUBACK alone proves nothing; until the proof no second message leaves; then nobody listens any more."""
    it = Rig(ECHO)
    it.put("tick", 1, 2, 3)
    it.advance(0.1)
    it.link_up(protocol="3.1.1")
    it.advance(5)
    assert (it.values("tick"), it.book("tick")["delivered"]) == ([1], 0)
    assert asked_for(it) == [Listen(filter=TICK)]
    returns(it)
    it.advance(1)
    assert (it.values("tick"), it.book("tick")["delivered"]) == ([1, 2, 3], 3)
    assert asked_for(it) == [Listen(filter=TICK), Unlisten(filter=TICK)]
    assert it.rows == {}
    assert it.audits


def test_the_subscription_is_asked_for_before_the_message_leaves() -> None:
    it = Rig(ECHO)
    it.link_up(protocol="3.1.1")
    it.put("tick", 1)
    [line] = [line for line in it.lines if b'"Listen"' in line]
    effects = [effect["type"] for effect in json.loads(line)["effects"]]
    assert effects.index("Listen") < effects.index("Publish")


def test_a_proof_before_the_puback_is_a_proof_and_the_puback_changes_nothing() -> None:
    it = Rig(ECHO)
    it.ack_after = 1.0
    it.link_up(protocol="3.1.1")
    it.put("tick", 1)
    returns(it)
    assert it.book("tick")["delivered"] == 1
    it.advance(2)
    assert it.book("tick")["delivered"] == 1
    assert it.audits


@pytest.mark.feature("MQT-01", breaks="chappe.core.returns:Returns.expire")
def test_what_does_not_return_within_ten_seconds_holds_its_stream_as_forbidden() -> None:
    """The broker acknowledged what it threw away. Nothing is lost: a minute later it is tried again."""
    it = Rig(ECHO)
    it.link_up(protocol="3.1.1")
    it.put("tick", 1, 2)
    it.advance(9.99)
    assert it.faults("streams.tick") == []
    it.advance(0.01)
    assert it.faults("streams.tick") == [("stream_held", False)]
    assert asked_for(it) == [Listen(filter=TICK), Unlisten(filter=TICK)]
    assert it.book("tick")["queued"] == 2
    it.until(70)
    assert [m.at for m in it.stream("tick")] == [0.0, 70.0]
    returns(it)
    it.advance(1)
    assert it.faults("streams.tick") == [("stream_held", False), ("stream_held", True)]
    assert it.book("tick")["delivered"] == 2
    assert it.audits


def test_each_stream_is_proven_by_itself() -> None:
    it = Rig(ECHO)
    it.link_up(protocol="3.1.1")
    it.put("tick", 1)
    it.put("tock", 1)
    returns(it, "tock")
    it.put("tick", 2)
    it.put("tock", 2)
    assert (it.values("tick"), it.values("tock")) == ([1], [1, 2])


def test_each_connection_begins_anew() -> None:
    it = Rig(ECHO)
    it.link_up(protocol="3.1.1")
    it.put("tick", 1)
    returns(it)
    it.put("tick", 2)
    assert it.book("tick")["delivered"] == 2
    it.link_down()
    it.put("tick", 3, 4)
    it.advance(0.1)
    it.link_up(protocol="3.1.1")
    it.advance(1)
    assert (it.values("tick"), it.book("tick")["delivered"]) == ([1, 2, 3], 2)
    returns(it)
    assert (it.values("tick"), it.book("tick")["delivered"]) == ([1, 2, 3, 4], 4)


def test_a_connection_that_ends_before_the_proof_proves_nothing() -> None:
    """The message leaves again, and an echo of the former connection comes too late."""
    it = Rig(ECHO)
    it.link_up(protocol="3.1.1")
    it.put("tick", 1)
    it.link_down()
    returns(it)
    assert it.book("tick")["delivered"] == 0
    it.link_up(protocol="3.1.1")
    assert it.values("tick") == [1, 1]
    assert len(set(it.bytes_of("tick"))) == 1
    assert it.audits


def test_only_the_very_message_is_a_proof() -> None:
    """Not somebody else's on our topic, and not another stream's."""
    it = Rig(ECHO)
    it.link_up(protocol="3.1.1")
    it.put("tick", 1)
    it.feed(ev.Arrived(at=it.clock.now(), topic=TICK, body=b'{"boot":"x","seq":1}'))
    it.feed(ev.Arrived(at=it.clock.now(), topic="chappe/tower-1/stream/tock", body=it.bytes_of("tick")[0]))
    it.feed(ev.Arrived(at=it.clock.now(), topic="chappe/tower-1/stream/none", body=it.bytes_of("tick")[0]))
    assert it.book("tick")["delivered"] == 0


def test_a_refusal_is_a_refusal_also_while_an_echo_is_awaited() -> None:
    it = Rig(ECHO)
    it.ack = lambda message: FORBIDDEN if stream_of(message) == "tick" else 0
    it.link_up()
    it.put("tick", 1)
    it.advance(20)
    assert it.faults("streams.tick") == [("stream_held", False)]
    assert len(it.stream("tick")) == 1


def test_without_verify_nobody_listens_and_a_puback_counts() -> None:
    it = Rig(ECHO.replace("echo", "off"))
    it.link_up(protocol="3.1.1")
    it.put("tick", 1)
    assert (it.wishes, it.book("tick")["delivered"]) == ([], 1)


# ── by itself ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_waits_is_due_when_its_patience_ends_and_is_told_once() -> None:
    echo = Echo(wanted=True)
    echo.restart(["a", "b"])
    echo.sent("a", 1, b"x", Ns(0))
    echo.sent("b", 2, b"y", Ns(SECOND))
    assert echo.due() == PATIENCE
    assert echo.overdue(Ns(PATIENCE - 1)) == []
    assert echo.overdue(Ns(PATIENCE)) == [("a", 1)]
    assert echo.overdue(Ns(PATIENCE)) == []
    assert echo.due() == PATIENCE + SECOND
    assert (echo.needs("a"), echo.blocks("a"), echo.blocks("b"), echo.token("b")) == (True, False, True, 2)


def test_nothing_needs_proof_that_nobody_wants() -> None:
    echo = Echo(wanted=False)
    echo.restart(["a"])
    assert not echo.needs("a")
    assert echo.due() is None
