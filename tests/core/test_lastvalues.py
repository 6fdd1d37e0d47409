"""Retained last values and answers to requests."""

from __future__ import annotations

from itertools import count

import pytest

from chappe.core.effects import Publish
from chappe.core.events import Ack
from chappe.core.lastvalues import Answers, LastValues
from chappe.core.units import SECOND, Ns, seconds


@pytest.fixture
def last() -> LastValues:
    tokens = count(1)
    return LastValues(lambda: next(tokens))


def shown(messages: list[Publish]) -> list[tuple[str, bytes]]:
    return [(message.topic, message.payload) for message in messages]


def test_a_value_is_sent_once_retained_at_qos_1(last: LastValues) -> None:
    assert last.set("a", b"1")
    (message,) = last.take(10)
    assert (message.retain, message.qos, message.topic) == (True, 1, "a")
    assert last.take(10) == []


def test_an_equal_value_is_not_sent_again(last: LastValues) -> None:
    last.set("a", b"1")
    last.take(10)
    assert not last.set("a", b"1")
    assert last.take(10) == []


def test_while_one_is_in_flight_only_the_newest_waits_behind_it(last: LastValues) -> None:
    last.set("a", b"1")
    (first,) = last.take(10)
    last.set("a", b"2")
    last.set("a", b"3")
    assert last.take(10) == []
    last.acked([Ack(first.token)])
    assert shown(last.take(10)) == [("a", b"3")]


def test_everything_is_announced_again_after_a_connect_even_what_was_in_flight(last: LastValues) -> None:
    for topic in "abc":
        last.set(topic, topic.encode())
    last.acked([Ack(message.token) for message in last.take(2)])
    last.announce()
    assert sorted(shown(last.take(10))) == [("a", b"a"), ("b", b"b"), ("c", b"c")]


def test_credit_bounds_what_is_taken_and_the_rest_follows(last: LastValues) -> None:
    for topic in "abc":
        last.set(topic, b"x")
    assert len(last.take(2)) == 2
    assert len(last.take(2)) == 1
    assert last.flying == 3


def test_an_empty_payload_removes_the_topic_and_is_then_forgotten(last: LastValues) -> None:
    last.set("a", b"1")
    last.acked([Ack(message.token) for message in last.take(1)])
    last.set("a", b"")
    (message,) = last.take(1)
    assert (message.payload, message.retain) == (b"", True)
    last.acked([Ack(message.token)])
    last.announce()
    assert last.take(1) == []


def test_a_removal_that_was_never_acknowledged_is_announced_again(last: LastValues) -> None:
    last.set("a", b"1")
    last.acked([Ack(message.token) for message in last.take(1)])
    last.set("a", b"")
    last.announce()
    assert shown(last.take(1)) == [("a", b"")]


def test_one_topic_can_be_announced_alone(last: LastValues) -> None:
    for topic in "ab":
        last.set(topic, b"x")
    last.acked([Ack(message.token) for message in last.take(2)])
    last.announce_topic("b")
    assert shown(last.take(2)) == [("b", b"x")]
    assert not last.empty


@pytest.fixture
def answers() -> Answers:
    tokens = count(1)
    return Answers(lambda: next(tokens), Ns(60 * SECOND))


def test_an_answer_goes_where_it_was_asked_for_with_its_correlation_and_life(answers: Answers) -> None:
    answers.add("reply/here", b"{}", "Y29ycg==", Ns(0))
    (message,) = answers.take(seconds(10), 5)
    assert (message.topic, message.correlation, message.retain, message.expiry_s) == (
        "reply/here",
        "Y29ycg==",
        False,
        50,
    )


def test_an_answer_that_the_broker_never_took_is_offered_again(answers: Answers) -> None:
    answers.add("t", b"{}", "", Ns(0))
    (first,) = answers.take(Ns(0), 5)
    answers.link_down()
    (second,) = answers.take(Ns(1), 5)
    assert first.payload == second.payload
    answers.acked([Ack(second.token)])
    assert answers.empty


def test_an_answer_nobody_can_use_any_more_is_dropped(answers: Answers) -> None:
    answers.add("t", b"{}", "", Ns(0))
    assert answers.take(seconds(60), 5) == []
    assert answers.empty
