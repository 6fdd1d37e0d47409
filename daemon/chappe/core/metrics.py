"""The figures of ``health`` as text for Prometheus (text exposition format 0.0.4, prometheus.io/docs/instrumenting/exposition_formats).

What is not known is left out: a figure that nobody took is not zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec

Labels = Mapping[str, str]
Sample = tuple[Labels, Any]


class Figure(msgspec.Struct, frozen=True):
    """One figure of the document.

    Attributes:
        name: without the prefix; that of a counter ends in ``_total``.
        help: what it counts or measures, and in what.
        path: keys of the document that lead to it.
        scale: the document's unit in that of the figure.
    """

    name: str
    help: str
    path: tuple[str, ...]
    scale: float = 1

    @property
    def type(self) -> Literal["counter", "gauge"]:
        """Its type, as its name says."""
        return "counter" if self.name.endswith("_total") else "gauge"


FIGURES = (
    Figure("uptime_seconds", "Time since this boot of the daemon began.", ("uptime_s",)),
    Figure("queue_messages", "Messages that wait for the broker.", ("queue", "depth")),
    Figure("queue_bytes", "Bytes that wait for the broker.", ("queue", "bytes")),
    Figure("queue_oldest_seconds", "Age of the oldest message that waits.", ("queue", "oldest_s")),
    Figure("queue_dead_letters", "Messages that the broker does not take.", ("queue", "dead")),
    Figure("camera_fps", "Frames a second.", ("camera", "fps")),
    Figure("camera_frames_total", "Frames captured.", ("camera", "frames")),
    Figure(
        "camera_frames_skipped_total", "Frames replaced by newer ones before anybody looked.", ("camera", "skipped")
    ),
    Figure("camera_restarts_total", "Times the camera was started again.", ("camera", "restarts")),
    Figure("inference_frames_total", "Frames looked at.", ("inference", "n")),
    Figure("inference_skipped_total", "Looks that came too late for their turn.", ("inference", "skipped")),
    Figure("inference_p50_seconds", "Median time from a frame to its result.", ("inference", "p50_ms"), 0.001),
    Figure("inference_p95_seconds", "Time of the slowest twentieth.", ("inference", "p95_ms"), 0.001),
    Figure("temperature_celsius", "Temperature of the SoC.", ("temp_c",)),
    Figure("resident_memory_bytes", "Resident memory of the daemon.", ("rss",)),
    Figure("written_bytes_total", "Bytes this process has caused to be written to storage.", ("bytes_written",)),
    Figure("disk_free_ratio", "Share of the state folder's file system that is free.", ("disk", "free")),
    Figure("store_bytes", "What the store takes up on disk.", ("disk", "store_bytes")),
    Figure("budget_used_bytes", "Bytes sent and received in this month.", ("budget", "used")),
    Figure("budget_limit_bytes", "Bytes that may be in a month.", ("budget", "limit")),
    Figure("clock_synced", "Whether the wall clock is known to be right.", ("clock", "synced")),
    Figure("clock_offset_seconds", "How far the wall clock is off.", ("clock", "offset_s")),
    Figure("link_reconnects_total", "Times the link was made anew.", ("link", "reconnects")),
    Figure("link_offline_seconds_total", "Time without a link.", ("link", "offline_s")),
    Figure("requests_refused_total", "Requests that were refused.", ("requests_refused",)),
)

OF_A_STREAM = (
    Figure("stream_produced_total", "Values that entered the stream.", ("produced",)),
    Figure("stream_delivered_total", "Values whose message the broker acknowledged.", ("delivered",)),
    Figure("stream_queued", "Values that wait.", ("queued",)),
    Figure("stream_late_total", "Messages first sent after an outage.", ("late",)),
    Figure("stream_invalid_total", "Readings refused before they became values.", ("invalid",)),
    Figure("stream_elide_overflow_total", "Values that passed un-elided.", ("elide_overflow",)),
)

DROPPED = Figure("stream_dropped_total", "Values that were not sent, by reason.", ())
REASONS = ("elided", "expired", "spilled")
RECEIPTS = Figure("receipts_total", "Receipts by what they said.", ("receipts",))
CERTIFICATES = Figure("certificate_days", "Days until a certificate in use ends.", ("certificates",))
LINK = Figure("link_up", "Whether the device is connected; the label says what its link is doing.", ("link", "status"))
FAULTS = Figure("fault", "Faults that hold.", ("faults",))
BOOT = Figure("boot_info", "The boot that these figures are of.", ("boot",))


def exposition(document: Mapping[str, Any]) -> str:
    """The whole text.

    Args:
        document: as published on ``health``; fields that are missing are left out.

    >>> print(exposition({"rss": 1024}), end="")
    # HELP chappe_resident_memory_bytes Resident memory of the daemon.
    # TYPE chappe_resident_memory_bytes gauge
    chappe_resident_memory_bytes 1024
    """
    return "".join(line for figure, samples in _families(document) for line in _family(figure, samples))


def _families(document: Mapping[str, Any]) -> Iterator[tuple[Figure, Iterable[Sample]]]:
    for figure in FIGURES:
        yield figure, [({}, _at(document, figure.path))]
    streams = _at(document, ("streams",)) or {}
    for figure in OF_A_STREAM:
        yield figure, [({"stream": name}, _at(book, figure.path)) for name, book in streams.items()]
    yield (
        DROPPED,
        [
            ({"stream": name, "reason": reason}, _at(book, (reason,)))
            for name, book in streams.items()
            for reason in REASONS
        ],
    )
    receipts = _at(document, RECEIPTS.path) or {}
    yield RECEIPTS, [({"kind": kind}, n) for kind, n in receipts.items()]
    certificates = _at(document, CERTIFICATES.path) or {}
    yield CERTIFICATES, [({"certificate": name}, days) for name, days in certificates.items()]
    status = _at(document, LINK.path)
    yield LINK, [({"status": status}, status == "online")] if status else []
    faults = _at(document, FAULTS.path) or []
    yield FAULTS, [({"part": fault["part"], "code": fault["code"]}, True) for fault in faults]
    boot = _at(document, BOOT.path)
    yield BOOT, [({"boot": boot}, True)] if boot else []


def _at(document: Any, path: tuple[str, ...]) -> Any:
    """What lies at `path`, None if nothing does; books are structs, all else is made of dicts."""
    for key in path:
        document = document.get(key) if isinstance(document, Mapping) else getattr(document, key, None)
    return document


def _family(figure: Figure, samples: Iterable[Sample]) -> Iterator[str]:
    known = [(labels, value) for labels, value in samples if isinstance(value, int | float)]
    if not known:
        return
    name = f"chappe_{figure.name}"
    yield f"# HELP {name} {figure.help}\n"
    yield f"# TYPE {name} {figure.type}\n"
    for labels, value in known:
        scaled = (
            round(value * figure.scale, 9) if figure.scale != 1 else int(value) if isinstance(value, bool) else value
        )
        yield f"{name}{_braced(labels)} {scaled!r}\n"


def _braced(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(str(value))}"' for key, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
