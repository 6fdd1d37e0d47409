"""A real `chappe run` with its own state folder, a real mosquitto, a proxy between them, and the consumer behind: a `Scene`."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from chappe.edge.broker import LocalBroker
from chappe.edge.control import call
from chappe.errors import LinkError

from .books import as_seen, balanced
from .mischief import Mischief
from .oracle import Account, End, tails
from .recorder import Recorder
from .running import WITHIN_S, Running, Stopwatch
from .shelf import Shelf

STOP_WITHIN_S = 5.0 if os.environ.get("NIGHTLY") else 10.0
"""A clean stop takes 5 s at most (RULINGS 16); where others keep the machine busy, twice that."""

DURABILITY: Mapping[str, str] = {"sure": "first", "fast": "behind", "soft": "memory", "last": "latest"}
STREAMS = """
[streams.sure]
durability = "first"
priority = 7
[streams.fast]
durability = "behind"
[streams.soft]
durability = "memory"
[streams.last]
class = "latest"
"""
RATES: Mapping[str, str] = {"sure": "10ms", "fast": "5ms", "soft": "20ms", "last": "10ms"}
SLOWLY = "50ms"
"""How often each counter counts in the last boot: its messages are those on which the last gaps are disclosed."""


DISCLOSED_WITHIN_S = 5.0


def counters(rates: Mapping[str, str]) -> str:
    """Sensors that count their readings."""
    return "".join(
        f'[sensors.{name}]\ndriver = "simulated"\nwave = "counter"\nevery = "{every}"\n'
        for name, every in rates.items()
    )


class Scene:
    """One device's life over many boots.

    Args:
        folder: for everything.
        state: the state folder; a folder on another disk, or one below `folder`.
        rates: its counters.
        more: further configuration.
        broker: keys of `LocalBroker`.
        prefix: runs the daemon, for example in a network namespace.
        host: where the proxy listens.

    Attributes:
        account: what the oracle judges.
        stops: seconds that each clean stop took.
    """

    def __init__(
        self,
        folder: Path,
        *,
        state: Path | None = None,
        rates: Mapping[str, str] = RATES,
        more: str = STREAMS,
        mqtt: str = 'drain_rate = "max"',
        durability: Mapping[str, str] = DURABILITY,
        broker: Mapping[str, Any] | None = None,
        prefix: Sequence[str] = (),
        host: str = "127.0.0.1",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.state = state or folder / "state"
        self.rates = rates
        self.account = Account(durability)
        self.stops: list[float] = []
        self.broker = LocalBroker(folder, kind="mosquitto", persistence=True, **(broker or {}))
        self.shelf = Shelf(self.state, folder)
        self.running: Running | None = None
        self.proxy: Mischief
        self.recorder: Recorder
        self._more, self._mqtt, self._prefix, self._host = more, mqtt, prefix, host
        self._boots: list[str] = []
        self._stack = ExitStack()
        self._watch = Stopwatch(folder)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.broker.open()
            stack.callback(self.broker.kill)
            self.proxy = stack.enter_context(Mischief(self.broker.port, self._host))
            self.recorder = stack.enter_context(Recorder(self.broker.port))
            self.account.messages = self.recorder.messages
            self.recorder.hopeless = self._died
            stack.enter_context(self._watch)
            self._stack = stack.pop_all()
        self._stack.callback(self._abandon)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _died(self) -> list[str] | None:
        """Last words of a daemon that should run and does not."""
        tower = self.running
        return tower.err[-12:] if tower is not None and tower.process.poll() is not None else None

    def _abandon(self) -> None:
        if self.running is not None:
            self.running.kill()

    # ── one boot ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, rates: Mapping[str, str] | None = None, under: Sequence[str] = (), more: str = "") -> Running:
        """Start the daemon on the same state folder."""
        file = self.folder / "chappe.toml"
        text = f'[device]\nid = "tower-1"\nstate_dir = "{self.state}"\n'
        text += f'[mqtt]\nhost = "{self._host}"\nport = {self.proxy.port}\n{self._mqtt}\n'
        file.write_text(text + counters(self.rates if rates is None else rates) + self._more + more, encoding="utf-8")
        self.running = Running(file, self.folder, [*self._prefix, *under])
        return self.running

    def kill(self, *, at: float | None = None, then: Callable[[], None] = lambda: None) -> End:
        """SIGKILL now, or note that it was killed; then look at what is left.

        Args:
            at: when it was killed by another.
            then: what else happens before anybody looks.
        """
        tower = self._ends()
        struck = tower.strike()
        killed = struck if at is None else at
        then()
        died = tower.process.returncode
        assert died in (-signal.SIGKILL, 128 + signal.SIGKILL), (died, tower.err[-20:])
        slack = self._watch.worst(5.0)
        had = self.recorder.settle()
        rows = tuple(self.shelf.rows())
        end = End(self._boot_of(rows), killed, tower.ready_at, rows, had, slack)
        self.account.ends.append(end)
        return end

    def stop(self) -> End:
        """SIGTERM; it must end well and soon."""
        assert self.running is not None
        took = self.running.stop()
        self.stops.append(took)
        assert took < STOP_WITHIN_S, f"a clean stop took {took:.1f} s"
        return self.stopped()

    def stopped(self) -> End:
        """It has ended well, whoever asked; look at what is left."""
        tower = self._ends()
        assert tower.wait() == 0, tower.err[-20:]
        had = self.recorder.settle()
        told = self.recorder.last("state") or {}
        rows = tuple(self.shelf.rows())
        boot = self._boot_of(rows)
        last = told.get("last", {}) if told.get("boot") == boot and told.get("status") == "stopped" else {}
        end = End(boot, rows=rows, had=had, last=last)
        self.account.ends.append(end)
        return end

    def _ends(self) -> Running:
        """The daemon that runs, which is to run no more."""
        tower, self.running = self.running, None
        assert tower is not None
        # Whatever becomes of the story, it is not left behind.
        self._stack.callback(tower.kill)
        return tower

    def _boot_of(self, rows: Sequence[Any]) -> str:
        """The id of the boot that has just ended, empty where it left no trace."""
        seen = dict.fromkeys(
            [*(message.boot for message in self.recorder.messages), *(row.boot for row in rows), *self.shelf.boots()]
        )
        new = [boot for boot in seen if boot not in self._boots]
        assert len(new) <= 1, f"one process, but boots {new}"
        self._boots += new
        return new[0] if new else ""

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, verb: str) -> dict[str, Any]:
        """What the daemon answers over its control socket."""
        answer = call(self.state / "control.sock", verb)
        assert answer["status"] == "ok", answer
        return answer["data"]

    def until(self, true: Callable[[], bool], why: str) -> None:
        """Wait until something is true that nobody announces."""
        deadline = time.monotonic() + WITHIN_S
        pause = threading.Event()
        while not true():
            assert time.monotonic() < deadline, why
            pause.wait(0.02)

    def depth(self) -> int:
        """How many messages wait; what the daemon itself says."""
        try:
            return int(self.ask("health")["queue"]["depth"])
        except LinkError:
            return -1

    # ── the end of a story ───────────────────────────────────────────────────────────────────────────────────────────

    def finish(self, *, killed: bool = True, judged: Collection[str] | None = None) -> list[str]:
        """One more boot drains everything and says what is lost; returns what is wrong.

        Args:
            killed: whether there were kills, after which the books know less than the consumer.
            judged: streams to look at; all, unless others lost messages that were not the daemon's to keep.
        """
        account = self.account
        if judged is not None:
            durability = {name: kind for name, kind in account.durability.items() if name in judged}
            account = Account(durability, account.messages, account.ends)
        self.proxy.be()
        tower = self.start(dict.fromkeys(self.rates, SLOWLY))
        tower.online()
        boot = self._waits_for_everything(account)
        live = self.ask("health")["streams"]
        end = self.stop()
        assert end.boot == boot, (end.boot, boot)
        books = self.shelf.books()
        return [
            *account.complaints(),
            *balanced(live),
            *balanced(books),
            *as_seen(books, account, killed=killed),
            *(
                f"{name}: {book['queued']} queued after the drain"
                for name, book in books.items()
                # The last receipts may still be on their way.
                if book["queued"] and name not in self.recorder.confirms
            ),
        ]

    def _waits_for_everything(self, account: Account) -> str:
        """Wait until this boot has sent something of each stream, and nothing is left to disclose; what is missing then stays so."""
        boot = self.ask("status")["info"]["boot"]

        def done() -> bool:
            came = {message.stream for message in list(account.messages) if message.boot == boot}
            return came >= set(self.rates) and not tails(account)

        self.recorder.wait(
            lambda: {m.stream for m in account.messages if m.boot == boot} >= set(self.rates),
            lambda: f"the last boot does not send: {self.running.err[-12:] if self.running else ''}",
        )
        with contextlib.suppress(AssertionError):
            self.recorder.wait(done, within_s=DISCLOSED_WITHIN_S)
        return str(boot)


@contextmanager
def scene(folder: Path, **options: Any) -> Iterator[Scene]:
    """A `Scene` that is cleaned up after."""
    with Scene(folder, **options) as made:
        yield made


@dataclass(frozen=True)
class Told:
    """A story at its end.

    Attributes:
        story: what happened.
        wrong: what the oracle has to say.
        figures: for people.
    """

    story: Scene
    wrong: list[str]
    figures: dict[str, Any]


def moment(span_s: float) -> None:
    """Let the daemon live for a while: the moment of a kill is chance, not an event."""
    threading.Event().wait(span_s)
