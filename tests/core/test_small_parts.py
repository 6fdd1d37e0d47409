"""Envelope, clock, faults, latency and units: small, and relied on everywhere."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.core.clock import WallClock
from chappe.core.elision import Summary
from chappe.core.envelope import Envelope, Lost, iso, merge, to_json
from chappe.core.faults import Faults
from chappe.core.latency import Latency
from chappe.core.row import absorb
from chappe.core.units import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Ns, Span, WallNs, as_seconds, seconds


def test_an_envelope_carries_only_what_applies() -> None:
    plain = Envelope(boot="b", seq=1, at="t", synced=False, data={"value": 1})
    assert to_json(plain) == b'{"boot":"b","seq":1,"at":"t","synced":false,"data":{"value":1}}'
    full = Envelope("b", 1, "t", True, {}, Summary(n=2), True, Lost(1, "crash", boot="a"), "m@1")
    assert json.loads(to_json(full)) == {
        "boot": "b",
        "seq": 1,
        "at": "t",
        "synced": True,
        "data": {},
        "elided": {"n": 2},
        "late": True,
        "lost": {"from": 1, "reason": "crash", "boot": "a"},
        "model": "m@1",
    }


gaps = st.builds(
    lambda start, n, reason: Lost(start, reason, start + n - 1, n),
    st.integers(1, 50),
    st.integers(1, 20),
    st.sampled_from(["spilled", "expired"]),
)


@given(gaps, gaps, gaps)
def test_merged_gaps_lose_no_count_and_no_reason(one: Lost, two: Lost, three: Lost) -> None:
    all_three = merge(merge(one, two), three)
    assert all_three is not None
    assert all_three.n == sum(gap.n or 0 for gap in (one, two, three))
    assert (all_three.from_, all_three.to) == (
        min(g.from_ for g in (one, two, three)),
        max(g.to or 0 for g in (one, two, three)),
    )
    if all_three.reason == "mixed":
        assert sum((all_three.by or {}).values()) == all_three.n
    else:
        assert {one.reason, two.reason, three.reason} == {all_three.reason}


def test_merging_nothing_changes_nothing() -> None:
    gap = Lost(1, "spilled", 2, 2)
    assert merge(None, gap) is gap
    assert merge(gap, None) is gap
    assert merge(None, None) is None


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=30))
def test_absorbing_values_one_by_one_gives_their_count_bounds_and_mean(values: list[int]) -> None:
    summary = None
    for value in values:
        summary = absorb(summary, {"value": value}, None)
    assert summary is not None
    assert (summary.n, summary.min, summary.max) == (len(values), min(values), max(values))
    assert summary.mean == pytest.approx(sum(values) / len(values))


def test_text_values_are_only_counted() -> None:
    assert absorb(absorb(None, {"value": "a"}, None), {"value": True}, None) == Summary(n=2)


@pytest.mark.parametrize(
    ("wall", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (999_999, "1970-01-01T00:00:00.000Z"),
        (1_795_296_742_123_456_789, "2026-11-21T21:32:22.123Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
    ],
)
def test_wall_times_are_utc_to_the_millisecond_never_rounded_up(wall: int, text: str) -> None:
    assert iso(WallNs(wall)) == text


def test_the_wall_clock_follows_a_step_and_keeps_telling_older_moments_by_the_new_offset() -> None:
    clock = WallClock(Ns(0), WallNs(0), synced=False)
    clock.set(Ns(10), WallNs(1_000_000_010), synced=True, zone_s=3600)
    assert clock.wall(Ns(5)) == 1_000_000_005
    assert clock.stamp(Ns(5)).synced
    assert clock.time_of_day(Ns(10)) == HOUR + 1_000_000_010


def test_a_fault_is_new_once_and_over_once() -> None:
    faults = Faults()
    assert faults.begin("camera", "stalled", "", Ns(0))
    assert not faults.begin("camera", "stalled", "", Ns(1))
    assert faults.any_of("camera")
    assert not faults.any_of("camera.")
    assert faults.end("camera", "stalled")
    assert not faults.end("camera", "stalled")


def test_faults_are_listed_with_their_age_and_found_by_the_beginning_of_a_part() -> None:
    faults = Faults()
    faults.begin("sensors.a", "sensor_stale", "why", Ns(0))
    assert faults.any_of("sensors.")
    assert faults.listing(seconds(2.5)) == [
        {"part": "sensors.a", "code": "sensor_stale", "message": "why", "for_s": 2.5}
    ]
    assert faults.of("sensors.a") == ["sensor_stale"]


@pytest.mark.feature("VIS-07", breaks="chappe.core.latency:Latency.add")
def test_percentiles_of_a_hundred_injected_delays() -> None:
    latency = Latency()
    for ms in range(10, 110):
        latency.add(Ns(ms * MILLISECOND))
    listing = latency.listing()
    assert listing["n"] == 100
    assert listing["p50_ms"] == pytest.approx(59.5, rel=0.1)
    assert listing["p95_ms"] == pytest.approx(104, rel=0.1)


def test_percentiles_forget_what_is_older_than_their_window_and_know_nothing_at_first() -> None:
    latency = Latency(window=10)
    assert latency.percentile(0.5) is None
    for ms in [1000] * 10 + [1] * 10:
        latency.add(Ns(ms * MILLISECOND))
    assert (latency.percentile(0.95), latency.n) == (1.0, 20)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("250ms", 250 * MILLISECOND),
        ("1.5s", 1500 * MILLISECOND),
        ("5m", 5 * MINUTE),
        ("1h30m", 90 * MINUTE),
        ("7d", 7 * DAY),
        ("0ms", 0),
    ],
)
def test_durations_are_read_and_written_back(text: str, span: int) -> None:
    assert Span.parse(text) == span
    assert Span.parse(str(Span(span))) == span


@pytest.mark.parametrize("text", ["", "5", "s", "1 s x", "-1s", "1y", "1s2", "1e3s", "\u0661s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        Span.parse(text)


@given(st.integers(0, 10**6))
def test_seconds_and_back(ms: int) -> None:
    assert as_seconds(seconds(ms / 1000)) == pytest.approx(ms / 1000)
    assert seconds(ms / 1000) == ms * MILLISECOND
    assert Span.parse(str(Span(ms * MILLISECOND))) == ms * MILLISECOND
    assert seconds(1) == SECOND
