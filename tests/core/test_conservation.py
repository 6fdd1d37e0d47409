"""Produced = delivered + elided + expired + spilled + queued, after each of a thousand steps; and each increment is one that would be missed."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

from chappe.core import events as ev
from chappe.core import intake, lane
from chappe.testing.world import Published

from .rig import Rig, dice, ns

COLUMNS = ("produced", "delivered", "elided", "expired", "spilled", "queued")
STREAMS = """
[outbox]
rows = 40
dead = 3
[streams.tick]
[streams.alarm]
durability = "first"
priority = 9
[streams.brief]
expiry = "3s"
[streams.soft]
durability = "memory"
[streams.safe]
confirm = "delivered"
[streams.room]
class = "latest"
elide = { policy = "latest", every = "1s", key = "{k}" }
[streams.pose]
class = "transient"
"""
NAMES = ("tick", "alarm", "brief", "soft", "safe", "room", "pose")


class Walk:
    """A device to which anything may happen, one thing after the other.

    Args:
        seed: of chance.

    Attributes:
        produced: how many values went in, by stream, since its books begin.
    """

    def __init__(self, seed: int) -> None:
        self.chance = dice(seed)
        self.boots = 0
        self.it = Rig(STREAMS)
        self.it.ack = self.judge
        self.produced = dict.fromkeys(NAMES, 0)
        self.online = False
        self.codes = [0]

    def judge(self, message: Published) -> int | None:
        code = self.chance.choice(self.codes)
        return None if code < 0 else code

    def step(self) -> None:
        """One thing happens, and then a moment passes."""
        deeds: list[Callable[[], None]] = [
            *[self.produce] * 8,
            self.link,
            self.link,
            self.broker,
            self.disk,
            self.overload,
            self.owner,
            self.consumer,
            self.wait,
            self.kill,
        ]
        self.chance.choice(deeds)()
        self.it.advance(self.chance.choice([0.0, 0.01, 0.3, 1.0]))

    def produce(self) -> None:
        name, n = self.chance.choice(NAMES), self.chance.randrange(1, 13)
        self.it.put(name, *range(n), k=self.chance.choice("ab"))
        self.produced[name] += n

    def overload(self) -> None:
        name, n = self.chance.choice(NAMES), self.chance.randrange(1, 5)
        self.it.feed(ev.Overloaded(at=self.it.clock.now(), stream=name, n=n))
        self.produced[name] += n

    def link(self) -> None:
        if self.online:
            self.chance.choice([self.it.link_down, self.it.cut])()
        else:
            self.it.link_up()
        self.online = not self.online

    def broker(self) -> None:
        self.codes = self.chance.choice([[0], [0, 0, -1], [0, 0x10, 0x97], [0, 0x95, 0x99], [0, 0x87], [-1]])

    def disk(self) -> None:
        self.it.shelf.fail = self.chance.choice([None, None, "store_full", "store_failed"])
        self.it.shelf.delay = ns(self.chance.choice([0.0, 0.0, 0.05, 0.4]))

    def owner(self) -> None:
        verb = self.chance.choice(["queue-drop", "queue-retry"])
        body = self.chance.choice([{"stream": self.chance.choice(NAMES)}, {"dead": True}])
        self.it.ask(verb, body, via="socket", reply_to="owner")

    def consumer(self) -> None:
        for message in self.it.stream("safe")[-5:]:
            self.it.receipt("safe", message.payload["seq"], message.payload["boot"])

    def wait(self) -> None:
        self.it.advance(self.chance.choice([4.0, 11.0, 61.0]))

    def kill(self) -> None:
        """And a stop, now and then: it brings the books up to date."""
        if self.chance.random() < 0.5:
            self.it.shelf.fail = None
            self.it.stop()
            self.it.store.close()
        self.disk_agrees()
        self.boots += 1
        self.it = self.it.next_boot(f"{self.boots:016x}")
        self.it.ack = self.judge
        self.online = False
        self.produced = {name: self.it.book(name)["produced"] for name in NAMES}

    def disk_agrees(self) -> None:
        """What the next boot will find: entries that balance and tell as many rows and dead letters as there are."""
        tables = self.it.shelf.tables
        for name, entry in tables.lanes.items():
            rows = [row for row in tables.rows.values() if row.stream == name]
            letters = [burial for burial in tables.dead.values() if burial.row.stream == name]
            assert entry.book.balanced
            assert (entry.rows, entry.book.queued) == (len(rows), len(rows) + len(letters)), name

    @property
    def sound(self) -> bool:
        """Whether the sums hold, agree with what is really there, and count what really went in."""
        books = {name: self.it.book(name) for name in NAMES}
        return (
            self.it.audits
            and all(book["produced"] == sum(book[column] for column in COLUMNS[1:]) for book in books.values())
            and all(book["produced"] == self.produced[name] for name, book in books.items())
            and all(number >= 0 for book in books.values() for number in book.values())
        )


@pytest.mark.feature("OUT-12", breaks="chappe.core.intake:Intake._elided")
def test_after_each_of_a_thousand_random_steps_every_stream_adds_up() -> None:
    """Produce, acknowledge, refuse, cut, kill, stop, spill, expire, drop, retry, a full disk; each column has moved in the end."""
    walk, seen = Walk(12), dict.fromkeys(COLUMNS, 0)
    for number in range(1000):
        walk.step()
        assert walk.sound, f"step {number}"
        for name in NAMES:
            for column, value in walk.it.book(name).items():
                seen[column] = max(seen.get(column, 0), value)
    assert min(seen[column] for column in COLUMNS) > 10
    assert walk.boots > 20


# ── each increment is one that would be missed ───────────────────────────────────────────────────────────────────────


def increments() -> Iterator[tuple[ModuleType, int, str]]:
    """Every statement of the core that moves a column of the sum: its module, line and text."""
    for module in (intake, lane):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.AugAssign) and ast.unparse(node.target).rpartition(".")[0] == "self.book":
                yield module, node.lineno, ast.unparse(node)


def codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from codes(const)


def without(module: ModuleType, line: int) -> tuple[FunctionType, CodeType]:
    """The function that holds the statement at `line`, and its code without that statement."""
    tree = ast.parse(inspect.getsource(module))
    for node in ast.walk(tree):
        for field in ("body", "orelse"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                block[:] = [ast.Pass(lineno=line, col_offset=0) if s.lineno == line else s for s in block]
    file = module.__file__ or ""
    whole = compile(ast.fix_missing_locations(tree), file, "exec")
    [changed] = [
        one
        for one in codes(whole)
        if one.co_name not in ("<module>", "Intake", "Lane") and one.co_firstlineno <= line <= last_line(one)
    ]
    found: Any = module
    for name in changed.co_qualname.split("."):
        found = inspect.getattr_static(found, name)
    return found, changed


def last_line(code: CodeType) -> int:
    return max(line for _, _, line in code.co_lines() if line is not None)


ALL = list(increments())


def test_the_columns_are_moved_where_things_happen_and_nowhere_else() -> None:
    """All six, each by a statement of its own; no other module of the core touches one."""
    moved = {text.split()[0].rpartition(".")[2] for _, _, text in ALL}
    assert moved == set(COLUMNS)
    assert len(ALL) >= 10


@pytest.mark.feature("OUT-12", breaks="chappe.core.outbox:Outbox.produce")
@pytest.mark.parametrize(("module", "line", "text"), ALL, ids=[f"{text}@{line}" for _, line, text in ALL])
def test_the_audit_fails_if_one_increment_is_forgotten(
    module: ModuleType, line: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No column is computed from the others: the sum cannot hide what was never counted."""
    function, changed = without(module, line)
    monkeypatch.setattr(function, "__code__", changed)
    walk = Walk(12)
    for _ in range(400):
        walk.step()
        if not walk.it.audits:
            return
    raise AssertionError(f"without {text!r} every sum still holds")
