"""What may stand in an ``elide`` table, and the key of a value."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from chappe.core.elision import Elide, Elider, PolicyName, problems
from chappe.core.elision.config import PARAMETERS
from chappe.core.elision.policies import POLICIES
from chappe.core.units import Span

ONE, TWO, TEN = (Span.parse(text) for text in ("1s", "2s", "10s"))

GOOD = [
    Elide(),
    Elide(policy="latest", every=ONE),
    Elide(policy="latest", every=ONE, max_keys=10, key="{room}/{entity}", bypass="gesture"),
    Elide(policy="sample", every=ONE),
    Elide(policy="throttle_first", every=ONE),
    Elide(policy="debounce", quiet=TWO, max_wait=TEN),
    Elide(policy="debounce", quiet=TWO, max_wait=TWO),
    Elide(policy="change"),
    Elide(policy="change", fields=("a",), heartbeat=TEN),
    Elide(policy="change", ignore=("a",)),
    Elide(policy="deadband", abs=0.5),
    Elide(policy="deadband", pct=5.0, heartbeat=TEN),
    Elide(policy="deadband", pct_range=5.0, range=(-10.0, 40.0)),
    Elide(policy="swinging_door", tolerance=0.5, max_gap=TEN),
    Elide(policy="aggregate", every=TEN),
]

BAD = [
    (Elide(policy="latest"), [("every", "missing")]),
    (Elide(policy="sample"), [("every", "missing")]),
    (Elide(policy="debounce", quiet=TWO), [("max_wait", "missing")]),
    (Elide(policy="debounce"), [("quiet", "missing"), ("max_wait", "missing")]),
    (Elide(policy="debounce", quiet=TEN, max_wait=ONE), [("max_wait", "range")]),
    (Elide(policy="deadband"), [("abs", "missing")]),
    (Elide(policy="deadband", abs=1.0, pct=2.0), [("pct", "conflict")]),
    (Elide(policy="deadband", pct_range=5.0), [("range", "missing")]),
    (Elide(policy="deadband", abs=1.0, range=(0.0, 1.0)), [("range", "conflict")]),
    (Elide(policy="deadband", pct_range=5.0, range=(4.0, 4.0)), [("range", "range")]),
    (Elide(policy="deadband", pct_range=5.0, range=(0.0, float("inf"))), [("range", "range")]),
    (Elide(policy="deadband", abs=0.0), [("abs", "range")]),
    (Elide(policy="deadband", abs=-1.0), [("abs", "range")]),
    (Elide(policy="deadband", abs=float("nan")), [("abs", "range")]),
    (Elide(policy="deadband", pct=float("inf")), [("pct", "range")]),
    (Elide(policy="latest", every=Span(0)), [("every", "range")]),
    (Elide(policy="latest", every=ONE, max_keys=0), [("max_keys", "range")]),
    (Elide(policy="latest", every=ONE, quiet=ONE), [("quiet", "conflict")]),
    (Elide(policy="latest", every=ONE, heartbeat=TEN), [("heartbeat", "conflict")]),
    (Elide(policy="aggregate", every=ONE, bypass="state"), [("bypass", "conflict")]),
    (Elide(policy="none", every=ONE), [("every", "conflict")]),
    (Elide(policy="change", fields=("a",), ignore=("b",)), [("ignore", "conflict")]),
    (Elide(policy="change", key="{entity"), [("key", "syntax")]),
    (Elide(policy="change", key="{a.__class__}"), [("key", "syntax")]),
    (Elide(policy="swinging_door"), [("tolerance", "missing")]),
]


@pytest.mark.parametrize("elide", GOOD, ids=str)
def test_nothing_is_found_in_a_good_table_and_it_works(elide):
    assert problems(elide) == []
    assert Elider(elide).held == 0


@pytest.mark.feature("ELI-03", breaks="chappe.core.elision.config:_missing")
@pytest.mark.parametrize(("elide", "expected"), BAD, ids=str)
def test_each_mistake_is_found_by_key_and_code(elide, expected):
    assert [(key, code) for key, code, _ in problems(elide)] == expected


def test_all_mistakes_are_found_at_once():
    elide = Elide(policy="debounce", every=ONE, max_wait=Span(0), abs=1.0, key="}{")

    assert {(key, code) for key, code, _ in problems(elide)} == {
        ("quiet", "missing"),
        ("every", "conflict"),
        ("abs", "conflict"),
        ("max_wait", "range"),
        ("key", "syntax"),
    }


def test_messages_name_the_key_and_a_remedy():
    _, _, missing = problems(Elide(policy="latest"))[0]
    assert missing == 'policy "latest" needs every; add for example every = "1s"'
    _, _, foreign = problems(Elide(policy="none", every=ONE))[0]
    assert foreign == 'policy "none" does not use every; remove it (it knows: no parameters)'


def test_every_policy_has_its_parameters_and_its_code():
    names = set(get_args(PolicyName))

    assert set(PARAMETERS) == names
    assert set(POLICIES) == names


def test_every_parameter_is_used_by_some_policy():
    used = {name for required, optional in PARAMETERS.values() for name in (*required, *optional)}

    assert used == set(Elide.__struct_fields__) - {"policy"}


def test_an_unknown_parameter_is_refused():
    with pytest.raises(msgspec.ValidationError, match="evry"):
        msgspec.convert({"policy": "latest", "evry": "1s"}, Elide, dec_hook=lambda kind, text: kind.parse(text))


@pytest.mark.parametrize(
    ("template", "data", "key"),
    [
        ("", {"entity": "door"}, ""),
        ("all", {"entity": "door"}, "all"),
        ("{entity}", {"entity": "door"}, "door"),
        ("{room}/{entity}", {"room": 3, "entity": "door"}, "3/door"),
        ("{entity}", {}, ""),
        ("{entity}", {"entity": "{room}", "room": 1}, "{room}"),
    ],
)
def test_the_key_is_the_template_with_its_fields(template, data, key):
    assert Elide(key=template).key_of(data) == key
