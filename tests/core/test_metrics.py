"""The figures of health as Prometheus reads them."""

from __future__ import annotations

import doctest
import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe.core import metrics
from chappe.core.books import Book
from chappe.core.metrics import FIGURES, OF_A_STREAM, exposition
from chappe.testing import Tower

# name{labels} value, as in "Exposition formats", section "Comments, help text, and type information".
SAMPLE = re.compile(
    r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)', re.ASCII
)
UNESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


def read(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Every sample by name and labels; what does not fit the format is an error."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    typed = ""
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            typed = line.split()[2]
            assert typed not in found, f"{typed} comes twice"
            found[typed] = {}
        elif not line.startswith("# HELP "):
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            assert match[1] == typed
            labels = tuple(
                (key, re.sub(r"\\.", lambda part: UNESCAPED[part[0]], value))
                for key, value in LABEL.findall(match[2] or "")
            )
            assert labels not in found[typed]
            found[typed][labels] = float(match[3])
    assert text == "" or text.endswith("\n")
    return found


def of_a_device() -> dict[str, Any]:
    """A real document: sensors, a camera that is missing, an outage."""
    it = Tower(
        '[sensors.tick]\ndriver = "simulated"\nwave = "counter"\nevery = "1s"\n[streams.tick]\nclass = "transient"\n'
    )
    it.advance(10)
    it.link_up()
    it.engine.context.fault("camera", "camera_missing", "no pictures")
    it.advance(60)
    health: dict[str, Any] = it.last("T/health")
    return health


def test_the_example() -> None:
    assert doctest.testmod(metrics).failed == 0
    assert doctest.testmod(metrics).attempted == 1


@pytest.mark.feature("OPS-04", breaks="chappe.core.metrics:exposition")
def test_every_figure_of_a_device_is_told_with_drops_by_reason() -> None:
    document = of_a_device()
    found = read(exposition(document))
    assert found["chappe_uptime_seconds"] == {(): document["uptime_s"]}
    assert found["chappe_queue_messages"] == {(): document["queue"]["depth"]}
    tick = (("stream", "tick"),)
    book = document["streams"]["tick"]
    assert book["spilled"] == 11
    assert found["chappe_stream_produced_total"][tick] == book["produced"]
    assert found["chappe_stream_dropped_total"][(*tick, ("reason", "spilled"))] == 11
    assert found["chappe_stream_dropped_total"][(*tick, ("reason", "elided"))] == 0
    assert found["chappe_fault"] == {(("part", "camera"), ("code", "camera_missing")): 1}
    assert found["chappe_link_up"] == {(("status", "online"),): 1}
    assert found["chappe_clock_synced"] == {(): 1}
    assert found["chappe_boot_info"] == {(("boot", document["boot"]),): 1}


@pytest.mark.feature("OPS-04", breaks="chappe.core.metrics:_family")
def test_the_parser_of_prometheus_itself_reads_it() -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus_client is not installed")
    families = {family.name: family for family in parser.text_string_to_metric_families(exposition(of_a_device()))}
    assert len(families) > 15
    produced = families["chappe_stream_produced"]
    assert produced.type == "counter"
    assert {sample.labels["stream"] for sample in produced.samples} >= {"tick", "fault"}
    assert all(family.documentation for family in families.values())


def test_the_sum_of_a_streams_figures_holds() -> None:
    """produced = delivered + dropped + queued, for whoever adds up a dashboard."""
    found = read(exposition(of_a_device()))
    for labels, produced in found["chappe_stream_produced_total"].items():
        dropped = sum(n for key, n in found["chappe_stream_dropped_total"].items() if key[:1] == labels)
        assert (
            produced == found["chappe_stream_delivered_total"][labels] + dropped + found["chappe_stream_queued"][labels]
        )


def test_what_nobody_measured_is_left_out() -> None:
    """A temperature that is not known is not zero degrees."""
    assert exposition({}) == ""
    assert "temperature" not in exposition({"temp_c": None, "rss": 1})
    assert "p50" not in exposition({"inference": {"n": 0, "p50_ms": None}})


def test_certificates_have_their_days() -> None:
    assert 'chappe_certificate_days{certificate="broker"} 29\n' in exposition({"certificates": {"broker": 29}})


def test_what_is_announced_for_the_file_is_plain_data() -> None:
    """`run --json` prints it like any other announcement; without a file there is none."""
    it = Tower('[metrics]\nfile = "chappe.prom"\n[sensors.tick]\ndriver = "simulated"\n')
    it.advance(60)
    [document] = [data for _, kind, data in it.announced if kind == "health"]
    assert json.loads(json.dumps(document))["streams"]["tick"]["produced"] > 0
    quiet = Tower()
    quiet.advance(60)
    assert "health" not in {kind for _, kind, _ in quiet.announced}


def test_milliseconds_become_seconds() -> None:
    assert "chappe_inference_p50_seconds 0.0123\n" in exposition({"inference": {"p50_ms": 12.3}})


def test_every_counter_of_a_book_has_its_figure() -> None:
    """A column that is added to the books is not forgotten here."""
    named = {figure.path[0] for figure in OF_A_STREAM} | set(metrics.REASONS)
    assert named >= {field.name for field in msgspec.structs.fields(Book)}


def test_names_are_prometheus_names_and_each_is_there_once() -> None:
    """Counters end in `_total`; nothing else does; base units."""
    names = [
        figure.name
        for figure in (
            *FIGURES,
            *OF_A_STREAM,
            metrics.DROPPED,
            metrics.RECEIPTS,
            metrics.CERTIFICATES,
            metrics.LINK,
            metrics.FAULTS,
        )
    ]
    assert len(set(names)) == len(names)
    assert not [name for name in names if not re.fullmatch("[a-z][a-z0-9_]*", name)]
    assert not [name for name in names if name.endswith(("_ms", "_ns", "_mb"))]


@given(st.text(), st.text())
def test_any_text_can_be_a_label(part: str, code: str) -> None:
    """A fault's words cannot break the file."""
    text = exposition({"faults": [{"part": part, "code": code}]})
    lines = [line for line in text.split("\n") if line.startswith("chappe_fault")]
    assert len(lines) == 1
    assert lines[0].endswith("} 1")


# ── health itself ────────────────────────────────────────────────────────────────────────────────────────────────────

BOOK = {"produced", "delivered", "elided", "expired", "spilled", "queued", "elide_overflow", "late", "invalid"}


@pytest.mark.feature("OPS-04", breaks="chappe.core.parts.news:News.expire")
def test_health_comes_every_minute_with_every_field_and_each_drop_under_its_reason() -> None:
    """300 s: 5 messages, the first after a minute. FEATURES appendix H, as far as the parts exist."""
    it = Tower(
        '[sensors.tick]\ndriver = "simulated"\nwave = "counter"\nevery = "1s"\n'
        '[streams.tick]\nclass = "latest"\nelide = { policy = "latest", every = "10s" }\n'
        '[streams.door]\nexpiry = "30s"\n[streams.bell]\nclass = "transient"\n'
    )
    for stream in ("door", "bell"):
        it.engine.context.produce(stream, {"value": 1})
    it.advance(100)
    it.link_up()
    it.advance(200)
    messages = it.on("T/health")
    assert [round(message.at) for message in messages] == [100, 120, 180, 240, 300]
    last = messages[-1].payload
    assert last.keys() >= {
        "queue",
        "streams",
        "camera",
        "inference",
        "temp_c",
        "rss",
        "bytes_written",
        "clock",
        "link",
        "faults",
    }
    assert last["queue"].keys() >= {"depth", "bytes", "oldest_s", "dead"}
    assert last["link"].keys() >= {"status", "reconnects", "offline_s"}
    assert all(book.keys() >= BOOK for book in last["streams"].values())
    assert last["streams"]["door"]["expired"] == 1
    assert last["streams"]["bell"]["spilled"] == 1
    assert last["streams"]["tick"]["elided"] > 200
