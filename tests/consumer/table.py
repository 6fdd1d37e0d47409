"""A desk with a real file at manual time, between a scripted device and an application that writes into the same file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from chappe.consumer.closer import Patience
from chappe.consumer.desk import Desk
from chappe.consumer.keeper import Keeper
from chappe.consumer.terms import Incoming, Options, Outgoing
from chappe.consumer.words import Gap, Message
from chappe.core.units import Ns
from chappe.testing import ManualClock

from .feed import DEVICE, STREAM

SETUP = "CREATE TABLE IF NOT EXISTS got (boot TEXT, seq INTEGER, overdue INTEGER);"

Answer = Callable[[dict[str, Any]], Any]


def payload(seq: int, boot: str = "a" * 16, **more: Any) -> bytes:
    return msgspec.json.encode(
        {"boot": boot, "seq": seq, "at": "2026-11-22T10:00:00.000Z", "data": {"value": seq}, **more}
    )


class Table:
    """A consumer without a network.

    Args:
        file: its state.
        answer: the device's answer to the body of a request: the data, or an error's code.
        options: of the desk.
    """

    def __init__(self, file: Path, answer: Answer = lambda body: "unknown_verb", **options: Any) -> None:
        self.clock = ManualClock()
        self.sent: list[Outgoing] = []
        self.requests: list[dict[str, Any]] = []
        self.before_take: Callable[[Message | Gap], None] = lambda item: None
        self._file = file
        self._answer = answer
        self._options = options
        self.open()

    def open(self) -> None:
        self.keeper = Keeper(self._file, SETUP)
        self.keeper.open()
        # Whether fsync keeps its word is not in question here, and hypothesis would wait for it ten thousand times.
        self.keeper.db.execute("PRAGMA synchronous=OFF")
        wanted: dict[str, Any] = {"receipts": ("delivered",), "ordered": False, "backfill": False}
        wanted |= {"patience": Patience(pace=Ns(0)), "on_gap": self._on_gap}
        options = Options(prefix="chappe", name="ours", handler=self._handle, **wanted | self._options)
        self.desk = Desk(self.keeper, self.clock, options)
        self.desk.open()

    def kill(self) -> None:
        """The process is gone: what was committed is there, nothing else."""
        self.keeper.close()
        self.open()

    # ── the application ──────────────────────────────────────────────────────────────────────────────────────────────

    def _handle(self, message: Message, db: sqlite3.Connection) -> None:
        self.before_take(message)
        db.execute("INSERT INTO got VALUES (?, ?, ?)", (message.boot, message.seq, message.overdue))

    def _on_gap(self, gap: Gap, db: sqlite3.Connection) -> None:
        self.before_take(gap)
        db.execute("INSERT INTO got VALUES (?, ?, ?)", (gap.boot, -gap.first, gap.last or 0))

    def rows(self) -> list[tuple[str, int, int]]:
        """What the application has, in the order in which it got it; gaps with a minus before their first number."""
        return self.keeper.db.execute("SELECT boot, seq, overdue FROM got ORDER BY rowid").fetchall()

    @property
    def got(self) -> list[int]:
        return [seq for _, seq, _ in self.rows()]

    # ── the wire ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def hear(self, *payloads: bytes, topic: str = f"stream/{STREAM}", device: str = DEVICE, work: bool = True) -> None:
        """These arrive in one pass."""
        self.desk.take([Incoming(f"chappe/{device}/{topic}", each) for each in payloads])
        if work:
            self.work()

    def hear_all(self, *seqs: int, work: bool = True) -> None:
        self.hear(*(payload(seq) for seq in seqs), work=work)

    def work(self) -> None:
        while self.desk.hand_over():
            pass

    def tick(self, span_s: float = 0.0) -> list[Outgoing]:
        """Time passes, and what the consumer says is heard: requests are answered, receipts acknowledged."""
        self.clock.advance(span_s)
        self.desk.take(())
        out = self.desk.outgoing(1000)
        self.sent += out
        self.desk.take(
            [self._answered(each) for each in out if each.reply_to], [each.receipt for each in out if each.receipt]
        )
        self.work()
        return out

    def _answered(self, out: Outgoing) -> Incoming:
        body = msgspec.json.decode(out.payload)
        self.requests.append(body)
        found = self._answer(body)
        document = (
            {"status": "error", "error": {"code": found, "message": "no"}, "id": body["id"]}
            if isinstance(found, str)
            else {"status": "ok", "data": found, "id": body["id"]}
        )
        return Incoming(out.reply_to, msgspec.json.encode(document), correlation=out.correlation)

    def receipts(self) -> list[tuple[str, int, str]]:
        """(kind, number, by) of every receipt sent."""
        bodies = [msgspec.json.decode(each.payload) for each in self.sent if each.receipt]
        return [(body["kind"], body["seq"], body["by"]) for body in bodies]

    def close(self) -> None:
        self.keeper.close()
