"""Which messages are acknowledged, and in which order."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from chappe.edge.mqtt.receipts import Receipts


def test_what_nobody_minds_is_due_at_once() -> None:
    """In the order in which it came, once."""
    receipts = Receipts(count(1))
    assert [receipts.owe(mid, until_told=False) for mid in (4, 2)] == [0, 0]
    assert receipts.due() == [4, 2]
    assert receipts.due() == []


def test_what_waits_holds_back_what_came_after_it() -> None:
    """A client acknowledges in the order of the messages (MQTT 5 section 4.6)."""
    receipts = Receipts(count(1))
    first = receipts.owe(1, until_told=True)
    receipts.owe(2, until_told=False)
    second = receipts.owe(3, until_told=True)
    receipts.settle([second])
    assert receipts.due() == []
    receipts.settle([first])
    assert receipts.due() == [1, 2, 3]


def test_a_receipt_of_another_connection_is_nobodys() -> None:
    """Numbers are never drawn twice, so the identifier that has come again is not taken for the old one."""
    numbers = count(1)
    before, now = Receipts(numbers), Receipts(numbers)
    old = before.owe(1, until_told=True)
    new = now.owe(1, until_told=True)
    now.settle([old])
    assert now.due() == []
    now.settle([new, new])
    assert now.due() == [1]


def test_without_an_identifier_nothing_is_owed() -> None:
    """QoS 0."""
    receipts = Receipts(count(1))
    assert receipts.owe(0, until_told=True) == 0
    assert receipts.due() == []


@given(st.lists(st.booleans(), max_size=20), st.randoms(use_true_random=False))
def test_every_message_is_acknowledged_once_and_in_order(waits: list[bool], chance: object) -> None:
    """Whatever is settled when."""
    receipts = Receipts(count(1))
    numbers = [receipts.owe(mid, until_told=waiting) for mid, waiting in enumerate(waits, 1)]
    told = [number for number in numbers if number]
    chance.shuffle(told)  # type: ignore[attr-defined]
    done = receipts.due()
    for number in told:
        receipts.settle([number])
        done += receipts.due()
    assert done == list(range(1, len(waits) + 1))
