"""docs/consumers.md says what the library does: its example runs, its tables and samples are the program's."""

from __future__ import annotations

import inspect
import json
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chappe.consumer import Access, Consumer, Patience
from chappe.consumer.client import GOODBYE
from chappe.consumer.desk import MOST_IN_A_TURN, TURN
from chappe.consumer.inquiry import PAGE
from chappe.consumer.ledger import Ledger
from chappe.consumer.receipts import ANSWERED_FOR
from chappe.consumer.words import Arrived, Pages, read_answer, read_envelope
from chappe.core.units import MILLISECOND, SECOND
from chappe.edge.broker import LocalBroker

from .people import WITHIN_S, ScriptedDevice
from .table import Table, payload

PAGE_FILE = Path(__file__).parents[2] / "docs" / "consumers.md"
TEXT = PAGE_FILE.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Code blocks, those inside lists too."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", TEXT, re.MULTILINE | re.DOTALL)


def table(heading: str) -> dict[str, str]:
    """The table whose first column is headed so: first cell to the others."""
    found = re.search(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    assert found is not None
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in found[1].splitlines()]
    return {row[0]: " ".join(row[1:]) for row in rows}


def test_the_example_runs_as_it_stands(broker: LocalBroker, tmp_path: Path) -> None:
    """Started as a program, beside a broker: the table has each reading once, and a gap is printed."""
    (example,) = blocks("python")
    assert len(example.splitlines()) <= 35
    assert example.count("1883") == 1
    program = tmp_path / "example.py"
    program.write_text(example.replace("1883", str(broker.port)), encoding="utf-8")
    with ScriptedDevice(broker.port) as tower:
        with (tmp_path / "out.txt").open("wb") as out:
            started = subprocess.Popen([sys.executable, "-u", program], cwd=tmp_path, stdout=out)
        try:
            first = tower.make([1])
            assert any(tower.send(first, "temperature") or tower.hears(1, within_s=0.2) for _ in range(100))
            told = tower.make([5], lost={"from": 3, "to": 4, "n": 2, "reason": "spilled"})
            tower.send([*tower.make([2]), *told, *first, *told], "temperature")
            tower.wait_until(lambda: {body["seq"] for body in tower.receipts} >= {1, 2, 5})
            started.send_signal(signal.SIGTERM)
            assert started.wait(WITHIN_S) == 0
        finally:
            started.kill()
            started.wait(WITHIN_S)
    db = sqlite3.connect(tmp_path / "archive.db")
    rows = db.execute("SELECT device, seq, value FROM readings").fetchall()
    db.close()
    assert rows == [("tower-1", 1, 1.0), ("tower-1", 2, 2.0), ("tower-1", 5, 5.0)]
    assert "tower-1/temperature: 3 to 4 of boot 9f3c11d2a0b4e657 are lost: spilled" in (
        (tmp_path / "out.txt").read_text(encoding="utf-8")
    )
    assert {body["by"] for body in tower.receipts} == {"archive"}


def test_every_argument_is_in_the_table() -> None:
    """And none is invented; defaults of the simple ones are the program's."""
    rows = table("argument")
    told = {name for cell in rows for name in re.findall(r"`(\w+)`", cell)}
    parameters = inspect.signature(Consumer).parameters
    assert told == set(parameters) - {"host", "port", "clock"}
    for cell, rest in rows.items():
        for name, shown in zip(re.findall(r"`(\w+)`", cell), re.findall(r"`([^`]+)`", rest), strict=False):
            default = parameters[name].default
            if isinstance(default, str | bool | tuple) and default != "":
                assert eval(shown) == default, name
    assert set(re.findall(r"`(\w+)`", rows["`access`"])) == set(Access.__struct_fields__)


def test_the_request_on_the_page_is_the_one_that_is_sent(tmp_path: Path) -> None:
    """Same keys, same size of page."""
    request, _, receipt = (json.loads(block) for block in blocks("json"))
    one = Table(tmp_path / "state.db")
    try:
        one.hear(payload(1), payload(3))
        one.tick()
        one.tick(5)
        one.tick()
        (asked,) = one.requests
        sent = [msgspec.json.decode(each.payload) for each in one.sent if each.receipt]
    finally:
        one.close()
    assert asked.keys() == request.keys()
    assert request["n"] == PAGE
    assert sent[0].keys() == receipt.keys()
    assert (sent[0]["kind"], receipt["kind"]) == ("delivered", "delivered")


def test_the_answer_on_the_page_is_understood() -> None:
    """Messages, what is lost, and that more would follow."""
    answer = read_answer(blocks("json")[1].encode())
    assert answer is not None
    assert isinstance(answer.data, Pages)
    envelope = read_envelope(bytes(answer.data.messages[0]))
    assert envelope is not None
    assert (envelope.seq, answer.data.more) == (100, True)
    assert (answer.data.lost[0].from_, answer.data.lost[0].to, answer.data.lost[0].reason) == (101, 103, "gone")


@pytest.mark.parametrize(
    ("told", "gaps"),
    [
        ('{"from": 11, "to": 17, "n": 7, "reason": "spilled"}', [(11, 17)]),
        ('{"boot": "b", "from": 5, "reason": "crash"}', [(5, None)]),
    ],
)
def test_disclosed_gaps_are_read_as_the_page_has_them(told: str, gaps: list[tuple[int, int | None]]) -> None:
    """The samples of rule 4."""
    as_printed = told.replace('"b"', "…").replace("5", "k")
    assert told in TEXT or as_printed in TEXT
    ledger = Ledger()
    ledger.receive("d", "s", Arrived(boot="a", seq=10))
    ledger.receive("d", "s", Arrived(boot="b", seq=1))
    taken = ledger.receive("d", "s", Arrived(boot="a", seq=18, lost=msgspec.Raw(told.encode())))
    assert [(gap.first, gap.last) for gap in taken.gaps] == gaps


@pytest.mark.parametrize(
    ("words", "true"),
    [
        ("at most 200 messages, or those of a tenth of a second", (MOST_IN_A_TURN, TURN) == (200, 100 * MILLISECOND)),
        ("50 messages at a time", PAGE == 50),
        ("The library waits 5 s", Patience().first == 5 * SECOND),
        ("After ten rounds", Patience().tries == 10),
        ("five seconds to work off", GOODBYE == 5 * SECOND),
        ("half a minute after your receipt", ANSWERED_FOR == 30 * SECOND),
    ],
)
def test_figures_in_the_prose_are_the_programs(words: str, true: Any) -> None:
    """A changed constant changes the page."""
    assert words in " ".join(TEXT.split())
    assert true
