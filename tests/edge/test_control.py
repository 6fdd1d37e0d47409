"""The control socket: whoever may open it is answered, and nobody can disturb it."""

from __future__ import annotations

import contextlib
import json
import queue
import select
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chappe.core.effects import CloseCamera, Reply
from chappe.core.events import Asked, Event
from chappe.edge import control as module
from chappe.edge.control import SOCKET, Control, call
from chappe.errors import Exit, LinkError, StoreError
from chappe.testing import ManualClock

WITHIN_S = 20.0


class Desk:
    """A control socket with an engine behind it that a test plays."""

    def __init__(self, folder: Path) -> None:
        self.asked: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        self.control = Control(folder, ManualClock(), self.post)
        self.answers: Callable[[Asked], Any] | None = lambda asked: {"status": "ok", "data": asked.verb}

    def post(self, event: Event) -> None:
        assert isinstance(event, Asked)
        self.asked.put(event)
        if self.answers is not None:
            self.reply(event, self.answers(event))

    def reply(self, asked: Asked, answer: Any) -> None:
        self.control.handle([CloseCamera(), Reply(to=asked.reply_to, payload=json.dumps(answer).encode())])

    @property
    def path(self) -> Path:
        return self.control.path


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    desk.control.open()
    yield desk
    desk.control.close()


@contextlib.contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    """A client that can say anything."""
    with module._reachable(path) as address, socket.socket(socket.AF_UNIX) as link:
        link.settimeout(WITHIN_S)
        link.connect(address)
        yield link


def spoken(path: Path, *lines: bytes) -> list[Any]:
    """What is answered to each line, on one connection."""
    with connected(path) as link, link.makefile("rb") as answers:
        found = []
        for line in lines:
            link.sendall(line + b"\n")
            found.append(json.loads(answers.readline()))
        return found


# ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_question_becomes_an_event_and_its_answer_comes_back(desk: Desk) -> None:
    """Verb, body, and that it came through the socket."""
    desk.answers = lambda _: {"status": "ok", "data": {"device": "tower-1"}}
    assert call(desk.path, "status", {"deep": [1, "ü"]}) == {"status": "ok", "data": {"device": "tower-1"}}
    asked = desk.asked.get(timeout=WITHIN_S)
    assert (asked.verb, json.loads(asked.body), asked.via, asked.size) == (
        "status",
        {"deep": [1, "ü"]},
        "socket",
        len(asked.body),
    )


def test_a_question_without_a_body_has_an_empty_one(desk: Desk) -> None:
    """So that every verb can look for its fields."""
    call(desk.path, "identify")
    assert desk.asked.get(timeout=WITHIN_S).body == b"{}"


def test_several_questions_on_one_connection_are_answered_in_turn(desk: Desk) -> None:
    """One line each way."""
    lines = [json.dumps({"verb": f"verb-{number}"}).encode() for number in range(5)]
    assert [answer["data"] for answer in spoken(desk.path, *lines)] == [f"verb-{number}" for number in range(5)]


def test_everybody_gets_the_answer_to_their_own_question(desk: Desk) -> None:
    """Ten ask at the same time; the answers come in the opposite order."""
    desk.answers = None
    got: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda number=number: got.setdefault(number, call(desk.path, f"verb-{number}")))
        for number in range(10)
    ]
    for thread in threads:
        thread.start()
    waiting = [desk.asked.get(timeout=WITHIN_S) for _ in threads]
    for asked in reversed(waiting):
        desk.reply(asked, {"status": "ok", "data": asked.verb})
    for thread in threads:
        thread.join(WITHIN_S)
    assert {number: answer["data"] for number, answer in got.items()} == {n: f"verb-{n}" for n in range(10)}


def test_one_who_only_listens_keeps_nobody_waiting(desk: Desk) -> None:
    """A connection on which nothing is said does not block the next."""
    with connected(desk.path):
        assert call(desk.path, "status")["status"] == "ok"


# ── nonsense ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"\xff\xfe\x00",
        b"[]",
        b"5",
        b"null",
        b'"status"',
        b"{}",
        b'{"body": {}}',
        b'{"verb": "status"',
        b"[" * 100_000,
        b'{"verb": "status"}' * 2,
    ],
    ids=lambda line: repr(line[:20]),
)
def test_nonsense_is_answered_and_the_connection_goes_on(desk: Desk, line: bytes) -> None:
    """`bad_request` with an example, and the next line is heard; nothing of it reaches the engine."""
    refused, served = spoken(desk.path, line, b'{"verb": "status"}')
    assert refused["status"] == "error"
    assert refused["error"]["code"] == "bad_request"
    assert '"verb"' in refused["error"]["message"]
    assert served["status"] == "ok"
    assert desk.asked.get(timeout=WITHIN_S).verb == "status"
    assert desk.asked.empty()


def test_a_line_without_end_is_not_collected_for_ever(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the longest line there may be, it is refused."""
    monkeypatch.setattr(module, "LONGEST_LINE", 1000)
    with connected(desk.path) as link, link.makefile("rb") as answers:
        link.sendall(b"x" * 1000)
        assert json.loads(answers.readline())["error"]["code"] == "bad_request"


def test_one_who_leaves_before_the_answer_leaves_no_trace(
    desk: Desk, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a traceback in the journal nor a thread; the next one is served."""
    left = threading.Semaphore(0)
    finish = module._Server.shutdown_request

    def note(server: Any, request: Any) -> None:
        finish(server, request)
        left.release()

    monkeypatch.setattr(module._Server, "shutdown_request", note)
    with connected(desk.path) as link:
        link.sendall(b'{"verb": "status"}\n')
        select.select([link], [], [], WITHIN_S)
    assert left.acquire(timeout=WITHIN_S)
    assert call(desk.path, "status")["status"] == "ok"
    assert capfd.readouterr().err == ""


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_engine_that_does_not_answer_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The asker is not kept for ever: code `timeout`; an answer that comes later goes nowhere."""
    monkeypatch.setattr(module, "ANSWER_WITHIN_S", 0.01)
    desk.answers = None
    answer = call(desk.path, "status")
    assert answer["error"]["code"] == "timeout"
    desk.reply(desk.asked.get(timeout=WITHIN_S), {"status": "ok"})
    desk.answers = lambda _: {"status": "ok", "data": "fresh"}
    assert call(desk.path, "status")["data"] == "fresh"


def test_a_daemon_that_does_not_answer_is_not_reached(desk: Desk) -> None:
    """The caller's own patience is its own."""
    desk.answers = None
    with pytest.raises(LinkError):
        call(desk.path, "status", timeout_s=0.01)


# ── the socket itself ────────────────────────────────────────────────────────────────────────────────────────────────


def test_user_and_group_may_open_it_and_nobody_else(desk: Desk) -> None:
    """Mode 0660: who may open the file is admin."""
    assert stat.S_ISSOCK(desk.path.stat().st_mode)
    assert stat.S_IMODE(desk.path.stat().st_mode) == 0o660


def test_the_path_may_be_of_any_length(tmp_path: Path) -> None:
    """The kernel takes 107 characters of a socket's address; state folders may be deeper."""
    desk = Desk(tmp_path / ("x" * 80) / ("y" * 80))
    assert len(str(desk.path)) > 200
    desk.control.open()
    try:
        assert call(desk.path, "status")["status"] == "ok"
    finally:
        desk.control.close()
    assert not desk.path.exists()


def test_a_socket_that_a_killed_daemon_left_behind_is_replaced(tmp_path: Path) -> None:
    """Nobody listens on it any more; asking there says so."""
    left = socket.socket(socket.AF_UNIX)
    with module._reachable(tmp_path / SOCKET) as address:
        left.bind(address)
    left.close()
    with pytest.raises(LinkError):
        call(tmp_path / SOCKET, "status")
    desk = Desk(tmp_path)
    desk.control.open()
    try:
        assert call(desk.path, "status")["status"] == "ok"
    finally:
        desk.control.close()


def test_a_file_of_the_owners_is_not_deleted(tmp_path: Path) -> None:
    """What lies there and is no socket stays; the daemon says why it cannot listen."""
    (tmp_path / SOCKET).write_text("mine")
    with pytest.raises(StoreError, match="control socket"):
        Desk(tmp_path).control.open()
    assert (tmp_path / SOCKET).read_text() == "mine"


def test_closing_removes_it_and_may_be_done_twice(tmp_path: Path) -> None:
    """Also before it was opened; then nobody is reached."""
    desk = Desk(tmp_path)
    desk.control.close()
    desk.control.open()
    desk.control.close()
    desk.control.close()
    assert not desk.path.exists()
    with pytest.raises(LinkError):
        call(desk.path, "status")


# ── nobody there ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OPS-02", breaks="chappe.edge.control:call")
def test_without_a_daemon_the_caller_learns_how_to_start_one(tmp_path: Path) -> None:
    """No socket, no folder: 69, where it looked, and a remedy."""
    for path in (tmp_path / SOCKET, tmp_path / "nowhere" / SOCKET):
        with pytest.raises(LinkError) as caught:
            call(path, "status")
        assert caught.value.exit_code == Exit.UNAVAILABLE
        assert str(path) in caught.value.message
        assert "chappe run" in caught.value.remedy


@pytest.mark.parametrize("answer", [b"", b"hello\n", b"[1]\n", b"\xff\n"], ids=repr)
def test_somebody_else_on_the_socket_is_no_daemon(tmp_path: Path, answer: bytes) -> None:
    """What hangs up, or does not answer with a JSON object, is told as such."""
    with module._reachable(tmp_path / SOCKET) as address, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()

        def serve() -> None:
            link, _ = listener.accept()
            with link:
                link.recv(4096)
                link.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(LinkError, match=SOCKET):
            call(tmp_path / SOCKET, "status", timeout_s=WITHIN_S)
        thread.join(WITHIN_S)
