"""Questions to the history: what is asked is checked to the last field, and an answer accounts for every number."""

from __future__ import annotations

import doctest
import json
import os
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chappe.core import questions
from chappe.core.envelope import to_json
from chappe.core.questions import HIGHEST, LARGEST, Question, answered, gaps, joined, moment, understood, without
from chappe.core.stored import Found, Page
from chappe.core.units import SECOND, WallNs
from chappe.errors import WireError

BOOT = "0123456789abcdef"
OLD = "fedcba9876543210"
NOW = WallNs(1_795_294_800 * SECOND)  # 2026-11-21T21:00:00Z


def ask(**body: Any) -> Question:
    return understood({key.rstrip("_"): value for key, value in body.items()}, BOOT, NOW)


def found(seq: int, offset: int | None = None, *, stream: str = "s", size: int = 0, boot: str = BOOT) -> Found:
    envelope = b'{ "boot":"%s", "seq":%d,"data":"%s"}' % (boot.encode(), seq, b"x" * size)
    return Found(seq - 1 if offset is None else offset, stream, boot, seq, NOW, envelope)


def page(seqs: Iterable[int], *, more: bool = False) -> Page:
    return Page(tuple(found(seq) for seq in seqs), more)


def test_the_examples() -> None:
    results = doctest.testmod(questions)
    assert results.attempted > 4
    assert results.failed == 0


# ── asked ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_newest_first_fifty_at_a_time_of_every_stream_is_what_one_gets_without_saying_anything() -> None:
    query = ask().query
    assert (query.stream, query.newest, query.n, query.after, query.since) == ("", True, 50, None, None)
    assert not ask().mark


def test_a_range_is_of_this_boot_unless_another_is_named_and_fifty_at_most() -> None:
    """A gap is closed in pages of 50 (HIS-03)."""
    asked = ask(stream="s", from_=100, to=199, n=500)
    assert (asked.query.boot, asked.query.from_, asked.query.to, asked.query.n) == (BOOT, 100, 199, 50)
    assert not asked.query.newest
    assert asked.range == (100, 199)
    assert ask(stream="s", boot=OLD, from_=7).query.boot == OLD


def test_since_is_a_span_or_a_moment() -> None:
    assert ask(since="10m").query.since == NOW - 600 * SECOND
    assert ask(since="2026-11-21T22:00:00.5+01:00").query.since == NOW + SECOND // 2


def test_a_reader_goes_forward_from_its_own_place_until_a_cursor_says_otherwise() -> None:
    query = ask(stream="s", reader="shop").query
    assert (query.reader, query.newest, query.after) == ("shop", False, None)
    query = ask(stream="s", reader="shop", cursor="o41").query
    assert (query.reader, query.after) == ("", 41)


WRONG: list[dict[str, Any]] = [
    {"stream": 5},
    {"stream": ""},
    {"stream": "A"},
    {"stream": "a\n"},
    {"stream": "x" * 65},
    {"boot": "0123456789abcdeg"},
    {"boot": "0123456789abcdef\n"},
    {"stream": "s", "from": 0},
    {"stream": "s", "from": 5, "to": 4},
    {"stream": "s", "from": True},
    {"stream": "s", "from": "1"},
    {"stream": "s", "to": 1 << 60},
    {"from": 1, "to": 2},
    {"stream": "s", "from": 1, "q": "x"},
    {"stream": "s", "from": 1, "cursor": "n5"},
    {"n": 0},
    {"n": 501},
    {"n": 10**400},
    {"n": 5.0},
    {"q": "x" * 257},
    {"q": None},
    {"order": "random"},
    {"order": ["newest"]},
    {"cursor": "o5"},
    {"stream": "s", "cursor": "o5"},
    {"stream": "s", "cursor": "n-5"},
    {"stream": "s", "cursor": "n05"},
    {"stream": "s", "cursor": "n" + "9" * 17},
    {"stream": "s", "cursor": 5},
    {"stream": "s", "after": -1},
    {"reader": "r"},
    {"stream": "s", "reader": "r", "order": "newest"},
    {"since": ""},
    {"since": "10"},
    {"since": "-10m"},
    {"since": "yesterday"},
    {"since": "2026-11-21T22:00:00"},
    {"since": "9" * 400 + "s"},
    {"since": 600},
    {"summary": 1},
    {"receipt": True},
    {"receipt": "yes"},
    {"receipt": True, "by": "x" * 65},
]


@pytest.mark.parametrize("body", WRONG, ids=lambda body: str(body)[:40])
def test_what_cannot_be_meant_is_refused_with_a_reason(body: dict[str, Any]) -> None:
    with pytest.raises(WireError) as caught:
        understood(body, BOOT, NOW)
    assert caught.value.code == "bad_request"
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("given", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "99999999999999999w"])
def test_a_moment_always_fits_into_the_stores_numbers(given: str) -> None:
    assert 0 <= moment(given, NOW) < 1 << 63


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        "stream",
        "boot",
        "from",
        "to",
        "q",
        "n",
        "cursor",
        "after",
        "order",
        "since",
        "summary",
        "reader",
        "receipt",
        "by",
    ]
)
LIKELY = st.sampled_from(
    ["s", BOOT, "n5", "o5", "r5", "newest", "oldest", "10m", "2026-11-21T22:00:00Z", 1, 50, HIGHEST, True, False]
)


@pytest.mark.feature("SEC-08", breaks="chappe.core.questions:understood")
@settings(max_examples=20_000 if os.environ.get("NIGHTLY") else 200)
@given(st.dictionaries(FIELDS, LIKELY | JSON, max_size=6))
def test_any_body_is_a_question_within_bounds_or_refused(body: dict[str, Any]) -> None:
    """Nothing but `WireError` comes of it, and what the store is asked fits into its types."""
    try:
        query = understood(body, BOOT, NOW).query
    except WireError:
        return
    assert 1 <= query.n <= 500
    assert all(0 <= each < 1 << 63 for each in (query.from_, query.to, query.after, query.since) if each is not None)
    assert len(query.text) <= 256
    assert query.boot in ("", BOOT) or len(query.boot) == 16
    msgspec.json.encode(query)


# ── answered ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_messages_come_as_they_were_sent_byte_for_byte() -> None:
    """An envelope is embedded, not written anew: blanks and all."""
    row = found(3)
    document = answered(ask(stream="s"), Page((row,))).document
    assert row.envelope in to_json(document)
    assert json.loads(to_json(document))["messages"] == [json.loads(row.envelope)]


def test_newest_first_ends_in_a_cursor_as_long_as_there_is_more() -> None:
    asked = ask(stream="s", n=2)
    answer = answered(asked, Page((found(9), found(8)), more=True)).document
    assert (answer["more"], answer["cursor"], answer["offsets"]) == (True, "n7", [8, 7])
    assert ask(stream="s", n=2, cursor=answer["cursor"]).query.after == 7
    assert "cursor" not in answered(asked, Page((found(1),))).document


def test_oldest_first_always_ends_in_a_cursor_that_waits_for_what_comes() -> None:
    asked = ask(stream="s", order="oldest")
    assert answered(asked, page([1, 2])).document["cursor"] == "o1"
    again = ask(stream="s", order="oldest", cursor="o1")
    assert answered(again, Page()).document["cursor"] == "o1"
    assert "cursor" not in answered(asked, Page()).document


def test_over_all_streams_each_message_says_its_stream() -> None:
    rows = (found(1, stream="a"), found(4, stream="b"))
    document = answered(ask(summary=True), Page(rows)).document
    assert document["streams"] == ["a", "b"]
    assert "cursor" not in document


@pytest.mark.feature("HIS-03", breaks="chappe.core.questions:gaps")
def test_numbers_that_are_neither_kept_nor_coming_are_lost() -> None:
    """100 to 109 asked for, 103 to 105 and 108 there, 109 still waits."""
    asked = ask(stream="s", from_=100, to=109)
    document = answered(asked, page([105, 103, 104, 108]), coming=[(109, 130)]).document
    assert [json.loads(bytes(each))["seq"] for each in document["messages"]] == [103, 104, 105, 108]
    assert document["lost"] == [
        {"from": 100, "to": 102, "n": 3, "reason": "gone"},
        {"from": 106, "to": 107, "n": 2, "reason": "gone"},
    ]
    assert document["queued"] == [{"from": 109, "to": 109}]
    assert not document["more"]


def test_a_page_accounts_for_its_own_numbers_only() -> None:
    """What lies behind the last message of a page is the next page's business."""
    asked = ask(stream="s", from_=1, to=100)
    document = answered(asked, page([2, 3], more=True)).document
    assert document["lost"] == [{"from": 1, "to": 1, "n": 1, "reason": "gone"}]
    assert document["cursor"] == "r4"
    following = ask(stream="s", from_=1, to=100, cursor="r4")
    assert (following.query.from_, following.range) == (4, (4, 100))


def test_numbers_that_were_never_given_are_not_lost() -> None:
    assert answered(ask(stream="s", from_=5, to=50), page([5]), last=6).document["lost"] == [
        {"from": 6, "to": 6, "n": 1, "reason": "gone"}
    ]
    assert answered(ask(stream="s", from_=7), Page(), last=6).document["lost"] == []
    assert answered(ask(stream="s", boot=OLD, from_=7), Page()).document["lost"] == []


@pytest.mark.parametrize("body", [{"from_": 1}, {"order": "oldest", "n": 500}, {"n": 500}])
def test_an_answer_stays_below_256_kib_and_the_next_page_goes_on(body: dict[str, Any]) -> None:
    """Fewer messages, and `more`; nothing is left out on the way."""
    everything = [found(seq, size=9_000) for seq in range(1, 101)]
    seen: list[int] = []
    cursor: dict[str, Any] = {}
    for _ in range(10):
        asked = ask(stream="s", **body, **cursor)
        rows = [row for row in everything if asked.query.from_ is None or row.seq >= asked.query.from_]
        if asked.query.newest:
            rows = [row for row in reversed(rows) if asked.query.after is None or row.offset < asked.query.after]
        elif asked.query.from_ is None:
            rows = [row for row in rows if asked.query.after is None or row.offset > asked.query.after]
        answer = answered(asked, Page(tuple(rows[: asked.query.n]), len(rows) > asked.query.n)).document
        assert len(to_json(answer)) < 256 * 1024
        seen += [json.loads(bytes(each))["seq"] for each in answer["messages"]]
        assert answer["lost"] == []
        if not answer["more"]:
            break
        cursor = {"cursor": answer["cursor"]}
    assert sorted(seen) == list(range(1, 101))


def test_a_message_that_fits_into_no_answer_is_told_and_passed_over() -> None:
    """Else whoever closes a gap would ask for it for ever."""
    rows = (found(1), found(2, size=LARGEST), found(3))
    answer = answered(ask(stream="s", from_=1, to=3), Page(rows)).document
    assert [json.loads(bytes(each))["seq"] for each in answer["messages"]] == [1, 3]
    assert answer["lost"] == [{"from": 2, "to": 2, "n": 1, "reason": "too_large", "boot": BOOT}]


NUMBERS = st.sets(st.integers(1, 40))
SPANS = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 6)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=4
)


@pytest.mark.feature("HIS-03", breaks="chappe.core.questions:without")
@given(NUMBERS, SPANS, st.integers(1, 40), st.integers(0, 39), st.integers(1, 45), st.integers(1, 8))
def test_every_number_asked_for_is_a_message_or_coming_or_lost_and_only_one_of_them(
    kept: set[int], coming: list[tuple[int, int]], first: int, length: int, last: int, n: int
) -> None:
    """Page by page, up to the last number that was given."""
    to = first + length
    spans = joined(coming)
    told: list[int] = []
    body: dict[str, Any] = {"stream": "s", "from_": first, "to": to, "n": n}
    for _ in range(50):
        asked = ask(**body)
        rows = sorted(seq for seq in kept if asked.query.from_ <= seq <= min(to, last))
        answer = answered(asked, page(rows[:n], more=len(rows) > n), spans, last).document
        told += [json.loads(bytes(each))["seq"] for each in answer["messages"]]
        for part in (*answer["lost"], *answer.get("queued", ())):
            told += range(part["from"], part["to"] + 1)
        if not answer["more"]:
            break
        body["cursor"] = answer["cursor"]
    assert sorted(told) == list(range(first, min(to, last) + 1))


def test_runs_and_what_is_left_of_them() -> None:
    assert gaps([], 5, 4) == []
    assert without((1, 10), [(3, 4), (4, 6), (9, 20)]) == [(1, 2), (7, 8)]
    assert joined([(1, 5), (2, 3), (7, 7)]) == [(1, 5), (7, 7)]
