"""When the next attempt is made, with which version; and what becomes of answers nobody waits for."""

from __future__ import annotations

import random
import socket
import threading

import pytest

from chappe.core.settings import Mqtt
from chappe.core.units import MILLISECOND, SECOND, Ns
from chappe.edge.host import SystemClock
from chappe.edge.mqtt.caller import Caller
from chappe.edge.mqtt.dial import Dial, Dialled
from chappe.edge.mqtt.terms import Credentials, Failure

WITHIN_S = 20


class Middle(random.Random):
    """Spreads nothing."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


class Called:
    """A caller to a port where nobody listens, and the outcomes of its attempts."""

    def __init__(self, **keys: object) -> None:
        self.outcomes: list[tuple[Dial, Dialled | Failure]] = []
        self.came = threading.Event()
        settings = Mqtt(port=1, **keys)  # type: ignore[arg-type]
        self.caller = Caller(settings, clock=SystemClock(), password=lambda: None, jitter=Middle(), done=self._done)

    def _done(self, dial: Dial, outcome: Dialled | Failure) -> None:
        self.outcomes.append((dial, outcome))
        self.came.set()

    def outcome(self) -> tuple[Dial, Dialled | Failure]:
        self.caller.call()
        assert self.came.wait(WITHIN_S)
        self.caller.join(WITHIN_S)
        return self.outcomes[-1]


def test_one_attempt_at_a_time() -> None:
    """It is under way until its outcome is taken, which happens once."""
    called = Called()
    dial, outcome = called.outcome()
    assert called.caller.busy
    assert called.caller.takes(dial, outcome)
    assert not called.caller.busy
    assert not called.caller.takes(dial, outcome)


def test_an_answer_nobody_waits_for_is_hung_up_on() -> None:
    """The attempt was given up when the connection had just come about: it is closed."""
    called = Called()
    dial, _ = called.outcome()
    called.caller.cancel()
    near, far = socket.socketpair()
    with far:
        assert not called.caller.takes(dial, Dialled(near, Credentials("", None), Ns(0)))
        assert near.fileno() == -1


def test_the_next_attempt_waits_as_the_back_off_says() -> None:
    """A second after a failure; exactly as long as asked for otherwise."""
    caller = Called().caller
    caller.wait(Ns(5 * SECOND))
    assert caller.retry_at == 6 * SECOND
    caller.pause(Ns(60 * SECOND), Ns(7 * SECOND))
    assert caller.retry_at == 67 * SECOND


def test_an_older_version_is_tried_at_once() -> None:
    """Named as unsupported: 3.1.1 now; what a connection that worked taught is kept."""
    caller = Called().caller
    assert caller.fall_back("5", "unsupported", Ns(9))
    assert (caller.version, caller.retry_at) == ("3.1.1", 9)
    caller.connected("5")
    assert not caller.fall_back("5", "unsupported", Ns(9))
    assert caller.version == "5"


def test_the_time_for_the_connack_grows_with_the_round_trip() -> None:
    """A second at least, and never more than the connect timeout."""
    caller = Called().caller
    assert caller.patience(Ns(0)) == SECOND
    assert caller.patience(Ns(500 * MILLISECOND)) == 4 * SECOND
    assert caller.patience(Ns(60 * SECOND)) == 5 * SECOND


def test_secrets_are_those_of_the_newest_attempt() -> None:
    """None before there was one."""
    called = Called()
    assert called.caller.secrets is None
    dial, _ = called.outcome()
    assert called.caller.secrets == dial.secrets
    assert called.caller.secrets is not None


@pytest.mark.parametrize("forced", ["5", "3.1.1"])
def test_a_forced_version_is_kept(forced: str) -> None:
    """Whatever the broker says."""
    caller = Called(version=forced).caller
    assert not caller.fall_back(caller.version, "unsupported", Ns(0))
    assert caller.version == forced
