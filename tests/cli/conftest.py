"""The command line in this process, a configuration for it, and daemons to talk to."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chappe import cli
from chappe.core.effects import Remember, Reply
from chappe.core.events import Asked, Event, Faulted
from chappe.edge.control import Control
from chappe.edge.host import SystemClock
from chappe.edge.store import Store
from chappe.testing import ManualClock


@dataclass(frozen=True)
class Ran:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """All of stdout as one JSON document."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Each line of stdout as a JSON document."""
        return [json.loads(line) for line in self.out.splitlines()]


Chappe = Callable[..., Ran]
Configure = Callable[[str], Path]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine's own configuration or state is seen."""
    for name in os.environ:
        if name.startswith("CHAPPE_") and "__" in name:
            monkeypatch.delenv(name)
    for name in ("CHAPPE_CONFIG", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "GPIOZERO_PIN_FACTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def chappe(capsys: pytest.CaptureFixture[str]) -> Chappe:
    """Runs a command line in this process."""

    def run(*argv: str | Path) -> Ran:
        capsys.readouterr()
        try:
            code = cli.run([str(word) for word in argv])
        except SystemExit as ending:  # argparse's own way out
            code = int(ending.code or 0)
        return Ran(int(code), *capsys.readouterr())

    return run


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Writes a configuration whose state folder is the test's own, and whose broker is nowhere; returns the file."""

    def write(text: str) -> Path:
        file = tmp_path / "chappe.toml"
        texts = [text]
        if "[device]" not in text:
            texts.append('[device]\nid = "tower-1"\nstate_dir = "state"\n')
        if "[mqtt]" not in text:
            texts.append("[mqtt]\nport = 1\n")
        file.write_text("\n".join(texts), encoding="utf-8")
        return file

    return write


def no_fault(event: Event) -> None:
    """A store that samples the disk is well; one that has a fault is not."""
    assert not isinstance(event, Faulted), event


@pytest.fixture
def remember(tmp_path: Path) -> Callable[..., None]:
    """Lets an earlier boot have remembered something."""

    def commit(key: str, value: Any) -> None:
        store = Store(tmp_path / "state", ManualClock(), no_fault)
        store.open()
        store.handle([Remember(key=key, value=value)])
        store.close()

    return commit


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Callable[[Mapping[str, Any]], list[Asked]]]:
    """Something that answers on the control socket as it is told; returns the list of what it was asked."""
    opened: list[Control] = []

    def open_control(answers: Mapping[str, Any]) -> list[Asked]:
        asked: list[Asked] = []

        def post(event: Event) -> None:
            assert isinstance(event, Asked)
            asked.append(event)
            control.handle([Reply(to=event.reply_to, payload=json.dumps(answers[event.verb]).encode())])

        control = Control(tmp_path / "state", ManualClock(), post)
        control.open()
        opened.append(control)
        return asked

    yield open_control
    for control in opened:
        control.close()


@pytest.fixture
def running(configure: Configure) -> Iterator[Callable[[str], Path]]:
    """Starts a whole daemon in a thread of this process; returns its configuration file. It is stopped at the end."""
    from chappe.config import load
    from chappe.run import Daemon

    started: list[tuple[Daemon, threading.Thread]] = []

    def start(text: str = "") -> Path:
        file = configure(text)
        begun = threading.Event()
        daemon = Daemon(load(file, environ={}), observe=lambda _: begun.set())
        thread = threading.Thread(target=daemon.run, name="daemon-of-a-test")
        started.append((daemon, thread))
        thread.start()
        assert begun.wait(20), "the daemon did not start"
        return file

    yield start
    for daemon, thread in started:
        daemon.request_stop()
        thread.join(20)
        assert not thread.is_alive(), "the daemon did not stop"


@pytest.fixture
def held_state(tmp_path: Path) -> Iterator[None]:
    """The state folder is held as by a running daemon."""
    store = Store(tmp_path / "state", SystemClock(), no_fault)
    store.open()
    yield
    store.close()
