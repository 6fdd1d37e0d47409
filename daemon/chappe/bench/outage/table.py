"""How the figures are printed: columns for people, Markdown for docs/reliability.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = {
    "scenario": "scenario",
    "subject": "subject",
    "qos": "QoS",
    "offered": "offered",
    "accepted": "accepted",
    "lost": "lost",
    "disclosed": "disclosed",
    "repeats": "repeats",
    "repeats_after": "after dedup",
    "disorder": "disorder",
    "exposure_ms": "exposed ms",
    "first_s": "first s",
    "drain_s": "drained s",
    "note": "note",
}


def text(lines: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """Aligned columns under what the run was."""
    head = "  ".join(f"{name}={value}" for name, value in about.items())
    rows = [list(COLUMNS.values()), *(_cells(line) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    body = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([head, *body])


def _cells(line: Mapping[str, Any]) -> list[str]:
    return ["-" if (value := line[name]) is None else str(value) for name in COLUMNS]
