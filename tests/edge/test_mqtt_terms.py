"""The words that the rooms of the MQTT edge share."""

from __future__ import annotations

import pytest

from chappe.edge.mqtt.terms import Counters, Credentials


def test_a_password_is_not_shown() -> None:
    """What is printed by accident is printed without it."""
    assert "hunter2" not in repr(Credentials("tower", "hunter2"))


@pytest.mark.parametrize(("connects", "reconnects"), [(0, 0), (1, 0), (2, 1), (5, 4)])
def test_the_first_connect_is_no_reconnect(connects: int, reconnects: int) -> None:
    """Coming up once is not coming back."""
    assert Counters(connects=connects).reconnects == reconnects
