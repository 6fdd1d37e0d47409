"""Requests are answered, whatever they are, and never fatal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.core.events import Asked
from chappe.core.requests import Requests, field
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
    return json.loads(requests.handle(Asked(at=seconds(at), verb=verb, body=body, **more)))


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
