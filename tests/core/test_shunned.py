"""Brokers that end the connection over a message they forbid: the stream is left alone, the others flow."""

from __future__ import annotations

import pytest

from chappe.testing import Tower

TWO = "".join(f'[sensors.{name}]\ndriver = "simulated"\nevery = "1d"\n' for name in ("bad", "good"))


def tower() -> Tower:
    it = Tower(TWO)
    it.link_up()
    it.advance(0.1)
    it.published.clear()  # the first reading of each
    return it


def bad(message: object) -> bool:
    return str(getattr(message, "topic", "")).endswith("/bad")


@pytest.mark.feature("OUT-11", breaks="chappe.core.returns:Returns._blame")
def test_a_refusal_that_ends_the_connection_is_not_repeated_at_each_connect() -> None:
    """The innocent that flew with it are not suspected, and the stream waits for its 60 s whatever the link does."""
    it = tower()
    it.ack = lambda message: 0x87 if bad(message) else None
    for _ in range(5):
        before = len(it.stream("bad"))
        it.sensor("good", 1)
        it.sensor("bad", 1)
        it.advance(0.1)
        it.link_down(cut=len(it.stream("bad")) > before)
        it.advance(1)
        it.link_up()
        it.advance(0.1)
    assert len(it.stream("bad")) == 1
    it.ack = lambda message: 0
    it.link_down()
    it.link_up()
    it.advance(1)
    assert it.book("good")["delivered"] == 1 + 5
    assert it.engine.context.outbox.stock.dead == {}
    it.advance(60)
    assert it.book("bad")["delivered"] == 1 + 5
    assert it.audits


@pytest.mark.feature("OUT-11", breaks="chappe.core.returns:Returns._convict")
def test_a_broker_that_bears_no_message_of_a_stream_gets_two_and_then_none() -> None:
    """It never says why: two messages become dead letters, then the stream is held, its rows kept, and the link is left in peace."""
    it = tower()
    it.ack = lambda message: None if bad(message) else 0
    for value in range(6):
        it.sensor("bad", value)
    for _ in range(40):
        it.advance(0.1)
        if any(bad(message) for message in it.published):
            it.published.clear()
            it.link_down(cut=True)
            it.advance(0.1)
            it.link_up()
    letters = it.engine.context.outbox.stock.dead
    assert [letter.reason for letter in letters.values()] == ["poison", "poison"]
    assert it.book("bad")["queued"] == 6
    assert ("streams.bad", "stream_held") in {(m.data["part"], m.data["code"]) for m in it.stream("fault")} | {
        (data["part"], data["code"]) for _, kind, data in it.announced if kind == "fault"
    }
    it.ack = lambda message: 0
    it.advance(61)
    assert (it.book("bad")["delivered"], it.audits) == (1 + 4, True)
