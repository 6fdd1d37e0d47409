"""`chappe bench streams`: the simulated hour is the hour it claims to be, and its figures are taken from real work."""

from __future__ import annotations

import json

import pytest

from chappe.bench import streams
from chappe.cli import run
from chappe.core.events import Seen, SensorRead
from chappe.core.units import SECOND


@pytest.fixture(scope="module")
def script() -> list[object]:
    return streams.hour()


def test_the_hour_has_thirty_detections_and_ten_readings_a_second_in_order(script: list[Seen | SensorRead]) -> None:
    assert sum(isinstance(event, Seen) for event in script) == 108_000
    assert sum(isinstance(event, SensorRead) for event in script) == 36_000
    times = [event.at for event in script]
    assert times == sorted(times)
    assert times[-1] < 3600 * SECOND


@pytest.mark.feature("SCH-04", breaks="chappe.bench.streams:through_engine")
def test_the_hour_goes_through_the_engine_and_gives_its_messages(script: list[object]) -> None:
    published = streams.through_engine(script)
    # Ten sensors once in ten seconds, one gesture per ten seconds of a hand (none for the label None), and what is retained.
    assert 3600 <= published <= 3600 + 36 + 36 + 70


def test_the_plain_loop_does_the_least_of_the_same(script: list[object]) -> None:
    assert streams.through_plain_loop(script) >= 3600


def test_the_figures_are_printed_as_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HOUR_S", 60)
    assert run(["bench", "streams", "--rounds", "1", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["events"] == 60 * 40
    assert figures["events_per_s"] == pytest.approx(figures["events"] / figures["engine_cpu_s"], rel=0.5)
    assert figures["engine_over_plain_loop"] > 1
