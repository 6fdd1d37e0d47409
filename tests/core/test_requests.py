"""Requests are answered, whatever they are, and never fatal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.core.events import Asked
from chappe.core.requests import WAITING, Later, Requests, field, number
from chappe.core.settings import Requests as Limits
from chappe.core.units import Ns, seconds
from chappe.errors import WireError


def refuse(body: Mapping[str, Any], now: Ns) -> Any:
    raise WireError("owner_off", "no")


def desk() -> Requests:
    return Requests(
        Limits(),
        {
            "echo": lambda body, now: body,
            "quiet": lambda body, now: None,
            "on": lambda body, now: field(body, "on", bool),
            "refuse": refuse,
        },
    )


def ask(requests: Requests, verb: str, body: bytes = b"", at: float = 0.0, **more: Any) -> dict[str, Any]:
    answer = requests.handle(Asked(at=seconds(at), verb=verb, body=body, **more))
    assert answer is not None
    return json.loads(answer)


def code(answer: dict[str, Any]) -> str:
    return answer["error"]["code"] if answer["status"] == "error" else ""


def test_an_answer_carries_the_id_and_the_data() -> None:
    assert ask(desk(), "echo", b'{"id":"7","x":1}') == {"status": "ok", "data": {"id": "7", "x": 1}, "id": "7"}
    assert ask(desk(), "quiet") == {"status": "ok"}


@pytest.mark.feature("CMD-02", breaks="chappe.core.requests:Requests._admit")
@pytest.mark.parametrize(
    ("verb", "body", "more", "expected"),
    [
        ("nonsense", b"{}", {}, "unknown_verb"),
        ("echo", b'{"a":', {}, "bad_request"),
        ("echo", b"[]", {}, "bad_request"),
        ("echo", b"\xff\xfe", {}, "bad_request"),
        ("echo", b'{"id":[1]}', {}, "bad_request"),
        ("echo", b"{}", {"size": 257 * 1024}, "too_large"),
        ("echo", b"{}", {"retained": True}, "retained"),
        ("on", b'{"on":"yes"}', {}, "bad_request"),
        ("on", b"{}", {}, "bad_request"),
        ("refuse", b"{}", {}, "owner_off"),
    ],
)
def test_a_bad_request_is_answered_with_its_code(verb: str, body: bytes, more: dict[str, Any], expected: str) -> None:
    requests = desk()
    assert code(ask(requests, verb, body, **more)) == expected
    assert requests.refused == 1


@pytest.mark.feature("CMD-02", breaks="chappe.core.requests:Requests._within_rate")
def test_the_eleventh_request_within_a_second_is_refused_and_one_a_second_later_is_not() -> None:
    requests = desk()
    answers = [code(ask(requests, "quiet", at=n / 100)) for n in range(11)]
    assert answers == [""] * 10 + ["rate_limited"]
    assert code(ask(requests, "quiet", at=1.0)) == ""


def test_the_local_socket_has_no_rate_limit() -> None:
    requests = desk()
    assert {code(ask(requests, "quiet", via="socket")) for _ in range(50)} == {""}


def test_a_refusal_of_a_request_with_an_id_carries_the_id() -> None:
    assert ask(desk(), "refuse", b'{"id":5}')["id"] == 5


def test_deeply_nested_json_is_refused_not_fatal() -> None:
    assert code(ask(desk(), "echo", b'{"a":' * 50_000)) == "bad_request"


@given(st.binary(max_size=200), st.text(max_size=20))
def test_any_bytes_under_any_verb_get_a_json_answer(body: bytes, verb: str) -> None:
    assert ask(desk(), verb, body)["status"] in {"ok", "error"}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_a_field_of_another_type_is_a_wire_error(value: Any) -> None:
    if isinstance(value, bool):
        assert field({"on": value}, "on", bool) is value
    else:
        with pytest.raises(WireError):
            field({"on": value}, "on", bool)


def test_a_truth_value_is_not_a_number() -> None:
    with pytest.raises(WireError, match="whole number"):
        field({"n": True}, "n", int)


# ── answers that come later ──────────────────────────────────────────────────────────────────────────────────────────


class Slow:
    """A desk with one verb, ``look``, whose answer comes when the test says so."""

    def __init__(self, then: Any = None) -> None:
        self.tickets = 0
        self.then = then
        self.requests = Requests(Limits(), {"look": self.look, "quiet": lambda body, now: None})

    def look(self, body: Mapping[str, Any], now: Ns) -> Later:
        self.tickets += 1
        return Later(self.tickets, self.then)

    def ask(self, at: float = 0.0, body: bytes = b"{}", **more: Any) -> bytes | None:
        return self.requests.handle(Asked(at=seconds(at), verb="look", body=body, via="socket", **more))


def told(done: Any) -> tuple[str, dict[str, Any]]:
    asked, payload = done
    return asked.reply_to, json.loads(payload)


@pytest.mark.feature("HIS-02", breaks="chappe.core.requests:Requests.fulfil")
def test_an_answer_that_comes_later_reaches_who_asked_once() -> None:
    """With the id of the request; a second answer goes nowhere."""
    desk = Slow()
    assert desk.ask(body=b'{"id":"a"}', reply_to="1") is None
    assert desk.ask(body=b'{"id":"b"}', reply_to="2") is None
    assert told(desk.requests.fulfil(2, [1])) == ("2", {"status": "ok", "data": [1], "id": "b"})
    assert told(desk.requests.fulfil(1, {})) == ("1", {"status": "ok", "data": {}, "id": "a"})
    assert desk.requests.fulfil(1, {}) is None
    assert desk.requests.fulfil(99, {}) is None


def test_what_comes_is_made_into_the_answer_by_whoever_put_it_off() -> None:
    desk = Slow(then=lambda came: came * 2)
    desk.ask()
    assert told(desk.requests.fulfil(1, 21))[1]["data"] == 42


@pytest.mark.parametrize("late", [False, True])
def test_a_refusal_may_come_later_too(late: bool) -> None:
    """As the outcome itself, or out of what makes the answer."""
    error = WireError("not_found", "no")
    desk = Slow(then=(lambda came: refuse({}, Ns(0))) if late else None)
    desk.ask(body=b'{"id":3}')
    answer = told(desk.requests.fulfil(1, None if late else error))[1]
    assert (code(answer), answer["id"]) == ("owner_off" if late else "not_found", 3)
    assert desk.requests.refused == 1


@pytest.mark.feature("CMD-02", breaks="chappe.core.requests:Requests.expire")
def test_after_exactly_ten_seconds_the_asker_learns_that_no_answer_came() -> None:
    """`timeout`; the answer that comes after that goes nowhere."""
    desk = Slow()
    assert desk.requests.due() is None
    desk.ask(1.0, reply_to="1")
    desk.ask(2.5, reply_to="2")
    assert desk.requests.due() == seconds(11.0)
    assert desk.requests.expire(Ns(seconds(11.0) - 1)) == []
    [first] = desk.requests.expire(seconds(11.0))
    assert (told(first)[0], code(told(first)[1])) == ("1", "timeout")
    assert desk.requests.fulfil(1, {}) is None
    assert desk.requests.due() == seconds(12.5)
    assert told(desk.requests.fulfil(2, {}))[0] == "2"
    assert desk.requests.due() is None


def test_the_sixty_fifth_who_would_wait_is_told_to_come_again() -> None:
    """`busy`; what can be answered at once still is, and a place that is free again is given."""
    desk = Slow()
    assert [desk.ask() for _ in range(WAITING)] == [None] * WAITING
    assert code(json.loads(desk.ask() or b"")) == "busy"
    assert ask(desk.requests, "quiet", via="socket") == {"status": "ok"}
    desk.requests.fulfil(1, None)
    assert desk.ask() is None


def test_what_waits_keeps_nothing_of_the_body() -> None:
    """64 requests of 256 KiB are not held in memory for ten seconds."""
    desk = Slow()
    desk.ask(body=b'{"x":"' + b"y" * 200_000 + b'"}')
    asked, _ = desk.requests.fulfil(1, None) or (None, b"")
    assert asked is not None
    assert asked.body == b""


@pytest.mark.parametrize("given", [b'"' + b"x" * 257 + b'"', b"1" + b"0" * 30, b"1.5", b"null", b"true"])
def test_an_id_is_short_text_or_a_number(given: bytes) -> None:
    """It is kept and sent back: not for the asker to blow up."""
    answer = ask(desk(), "quiet", b'{"id":' + given + b"}")
    assert (code(answer), "id" in answer) == ("bad_request", False)


def test_the_name_of_an_unknown_verb_is_not_echoed_at_any_length() -> None:
    assert len(ask(desk(), "v" * 100_000)["error"]["message"]) < 300


@pytest.mark.parametrize(
    ("given", "right"), [(1, True), (9, True), (0, False), (10, False), (True, False), ("5", False)]
)
def test_a_number_lies_within_its_bounds(given: Any, right: bool) -> None:
    if right:
        assert number({"n": given}, "n", 1, 9) == given
    else:
        with pytest.raises(WireError, match="n must"):
            number({"n": given}, "n", 1, 9)
    assert number({}, "n", 1, 9, 4) == 4
