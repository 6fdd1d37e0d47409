"""`chappe events`: what this device keeps, and what comes; beside a running daemon and on a stopped store."""

from __future__ import annotations

import json
import os
import queue as queues
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chappe.cli import events as module
from chappe.errors import Exit

from .stopped import Device

STREAMS = '[streams.door]\nhistory = "7d"\n[streams.window]\nhistory = "7d"\n'
TICK = '[sensors.tick]\ndriver = "simulated"\nwave = "counter"\nevery = "50ms"\n[streams.tick]\nhistory = "7d"\n'
WITHIN_S = float(os.environ.get("CHAPPE_PATIENCE_S", "60"))


@pytest.fixture
def leave(tmp_path: Path) -> Callable[..., Device]:
    """Leaves a stopped store with a history behind: `door` and `window` in turn, a second apart."""

    def build(n: int = 6, every_s: float = 1.0) -> Device:
        it = Device(tmp_path / "state", STREAMS)
        it.link_up()
        for number in range(n):
            it.put("window" if number % 3 == 2 else "door", number, every_s=every_s)
        it.end()
        return it

    return build


@pytest.fixture
def events(chappe: Any, configure: Any) -> Callable[..., Any]:
    """Runs `chappe events` against the state folder of this test."""
    return lambda *argv: chappe("events", *argv, "--config", configure(STREAMS))


def numbers(ran: Any) -> list[Any]:
    assert ran.code == 0, ran.err
    return [line["data"]["value"] for line in ran.lines]


# ── what was ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("HIS-07", breaks="chappe.cli.events:_forward")
def test_everything_is_told_in_the_order_of_time_over_all_streams(events: Any, leave: Any) -> None:
    """One line each, the message as it was sent, with its stream and its offset there."""
    leave()
    ran = events("--json")
    assert numbers(ran) == [0, 1, 2, 3, 4, 5]
    assert [(line["stream"], line["offset"], line["seq"]) for line in ran.lines] == [
        ("door", 0, 1),
        ("door", 1, 2),
        ("window", 0, 1),
        ("door", 2, 3),
        ("door", 3, 4),
        ("window", 1, 2),
    ]


def test_one_stream_alone(events: Any, leave: Any) -> None:
    leave()
    assert numbers(events("--stream", "window", "--json")) == [2, 5]
    assert events("--stream", "nothing", "--json").lines == []


@pytest.mark.feature("HIS-07", breaks="chappe.cli.events:_backward")
@pytest.mark.parametrize(("n", "expected"), [(0, []), (2, [4, 5]), (5, [1, 2, 3, 4, 5]), (99, [0, 1, 2, 3, 4, 5])])
def test_from_the_end(events: Any, leave: Any, n: int, expected: list[int]) -> None:
    """`--from-end 5` → 5."""
    leave()
    assert numbers(events("--from-end", str(n), "--json")) == expected


@pytest.mark.feature("HIS-07", breaks="chappe.cli.events:_show")
def test_since_a_span_or_a_moment(events: Any, leave: Any) -> None:
    """A minute apart from two hours ago on."""
    leave(12, every_s=60.0)
    assert numbers(events("--since", "115m", "--json")) == [6, 7, 8, 9, 10, 11]
    third = events("--json").lines[2]["at"]
    assert numbers(events("--since", third, "--json")) == list(range(2, 12))
    assert numbers(events("--since", third, "--from-end", "3", "--json")) == [9, 10, 11]
    assert numbers(events("--since", "0s", "--json")) == []


def test_many_pages_are_one_list(events: Any, leave: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost or repeated between pages, forward and backward."""
    leave(20, every_s=0.1)
    monkeypatch.setattr(module, "PAGE", 3)
    assert numbers(events("--json")) == list(range(20))
    assert numbers(events("--from-end", "11", "--json")) == list(range(9, 20))


def test_a_line_for_people(events: Any, leave: Any) -> None:
    """When, which stream, which number, what; and what was lost before it."""
    leave(1)
    [line] = events().out.splitlines()
    assert line.split("  ")[1:] == ["door", "1", '{"value": 0}']
    event = {
        "at": "t",
        "stream": "s",
        "seq": 9,
        "data": None,
        "late": True,
        "lost": {"from": 3, "n": 5, "reason": "spilled"},
    }
    assert module._line(event) == "t  s  9  null  late  lost before it: 5 (spilled)"
    assert module._line({**event, "lost": {"from": 3, "reason": "crash"}}).endswith("an unknown number (crash)")


# ── readers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("HIS-07", breaks="chappe.cli.events:_read")
def test_a_reader_goes_on_where_it_was_and_others_are_not_disturbed(events: Any, leave: Any, tmp_path: Path) -> None:
    """Across restarts of the daemon, too: here another boot adds what is new."""
    leave(6)
    assert numbers(events("--stream", "door", "--reader", "shop", "--json")) == [0, 1, 3, 4]
    assert numbers(events("--stream", "door", "--reader", "shop", "--json")) == []
    later = Device(tmp_path / "state", STREAMS, boot_id="f" * 16)
    later.link_up()
    later.put("door", 100, 101)
    later.end()
    assert numbers(events("--stream", "door", "--reader", "shop", "--json")) == [100, 101]
    assert numbers(events("--stream", "door", "--reader", "office", "--json")) == [0, 1, 3, 4, 100, 101]


def test_what_could_not_be_printed_is_read_again(events: Any, leave: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cursor moves after the page was printed, not before."""
    leave(6)
    monkeypatch.setattr(module, "PAGE", 2)
    printed = module._printed
    pages: list[int] = []

    def fail_at_the_second(found: Any, args: Any) -> dict[str, int]:
        pages.append(1)
        if len(pages) == 2:
            raise OSError(28, "No space left on device")
        return printed(found, args)

    monkeypatch.setattr(module, "_printed", fail_at_the_second)
    assert events("--stream", "door", "--reader", "shop", "--json").code == Exit.IO
    monkeypatch.setattr(module, "_printed", printed)
    assert numbers(events("--stream", "door", "--reader", "shop", "--json")) == [3, 4]


# ── what comes ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Follower:
    """`chappe events --follow` as a process; its lines come in through a queue."""

    def __init__(self, *argv: str | Path) -> None:
        self.lines: queues.SimpleQueue[str] = queues.SimpleQueue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chappe", "events", "--follow", *map(str, argv)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if name != "CHAPPE_CONFIG"},
        )
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def take(self, n: int) -> list[dict[str, Any]]:
        return [json.loads(self.lines.get(timeout=WITHIN_S)) for _ in range(n)]

    def end(self) -> tuple[int, str]:
        """Ctrl-C; exit code and what stood on stderr."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(WITHIN_S)
        self._thread.join(WITHIN_S)
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            return code, stderr.read()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(WITHIN_S)
        self._thread.join(WITHIN_S)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def follow() -> Iterator[Callable[..., Follower]]:
    opened: list[Follower] = []

    def start(*argv: str | Path) -> Follower:
        opened.append(Follower(*argv))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.mark.feature("HIS-07", breaks="chappe.cli.events:_follow")
def test_following_prints_what_comes_without_a_hole_and_ends_cleanly(follow: Any, running: Any) -> None:
    """No link to a broker is needed; Ctrl-C is exit 0 and says nothing."""
    one = follow("--stream", "tick", "--from-end", "0", "--json", "--config", running(TICK))
    values = [line["data"]["value"] for line in one.take(40)]
    assert values == list(range(values[0], values[0] + 40))
    assert one.end() == (0, "")


def test_a_reader_may_follow_too(follow: Any, running: Any, chappe: Any) -> None:
    """It begins at the beginning; what was printed before the last page is never printed again."""
    file = running(TICK)
    one = follow("--stream", "tick", "--reader", "shop", "--json", "--config", file)
    values = [line["data"]["value"] for line in one.take(1)]
    [newest] = numbers(chappe("events", "--stream", "tick", "--from-end", "1", "--json", "--config", file))
    while values[-1] <= newest:
        values += [line["data"]["value"] for line in one.take(1)]
    assert values == list(range(len(values)))
    assert one.end() == (0, "")
    again = follow("--stream", "tick", "--reader", "shop", "--json", "--config", file)
    assert again.take(1)[0]["data"]["value"] > 0


def test_without_a_daemon_nothing_can_come(events: Any, leave: Any) -> None:
    """69 with the remedy, rather than waiting for ever; what is there is told without `--follow`."""
    leave()
    for more in ((), ("--stream", "door", "--reader", "shop")):
        ran = events("--follow", *more)
        assert ran.code == Exit.UNAVAILABLE
        assert "remedy: start it with `chappe run`" in ran.err
        assert ran.out == ""


# ── nobody, and nonsense ─────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_daemon_and_without_a_store_it_is_69(events: Any) -> None:
    ran = events()
    assert ran.code == Exit.UNAVAILABLE
    assert "there is no store in" in ran.err


@pytest.mark.parametrize(
    "argv",
    [
        ["--since", "yesterday"],
        ["--since", "10"],
        ["--from-end", "-1"],
        ["--from-end", "x"],
        ["--reader", "shop"],
        ["--reader", "shop", "--stream", "door", "--since", "1m"],
        ["--reader", "shop", "--stream", "door", "--from-end", "1"],
        ["--reader", "No Name", "--stream", "door"],
        ["--stream", "No Name"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_2(events: Any, leave: Any, argv: list[str]) -> None:
    leave()
    ran = events(*argv)
    assert ran.code == Exit.USAGE
    assert ran.err
