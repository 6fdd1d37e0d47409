"""The control socket: the command line beside a running daemon speaks the verbs of ``req/<verb>`` through a Unix socket.

One JSON line each way: ``{"verb": "status", "body": {…}}`` and the answer as on MQTT. Who may open the file (mode 0660) is admin.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import socketserver
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chappe.core.effects import Effect, Reply
from chappe.core.events import Asked
from chappe.edge.host import Clock
from chappe.edge.worker import Post
from chappe.errors import LinkError, StoreError

SOCKET = "control.sock"
ANSWER_WITHIN_S = 10.0
LONGEST_LINE = 256 * 1024 + 1024


class Control:
    """The daemon's end of the socket.

    Args:
        folder: where the socket lies: RUNTIME_DIRECTORY, else the state folder.
        clock: stamps requests.
        post: takes them.
    """

    def __init__(self, folder: Path, clock: Clock, post: Post) -> None:
        self.path = folder / SOCKET
        self._clock = clock
        self._post = post
        self._numbers = itertools.count(1)
        self._waiting: dict[str, _Slip] = {}
        self._server: socketserver.BaseServer | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Listen.

        Raises:
            StoreError: if the socket cannot be made.
        """
        control = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                # Whoever asked may leave before the answer comes; that is no news.
                with contextlib.suppress(OSError):
                    for line in iter(lambda: self.rfile.readline(LONGEST_LINE), b""):
                        self.wfile.write(control.ask(line) + b"\n")

        try:
            self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            if self.path.exists() and stat.S_ISSOCK(self.path.stat().st_mode):
                self.path.unlink()
            with _reachable(self.path) as address:
                self._server = _Server(address, Handler)
            self.path.chmod(0o660)
        except OSError as error:
            raise StoreError(f"the control socket {self.path} cannot be made: {error}") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.25}, name="control", daemon=True
        )
        self._thread.start()

    def ask(self, line: bytes) -> bytes:
        """Pass one line on as a request and wait for its answer."""
        try:
            call = json.loads(line)
            verb, body = call["verb"], json.dumps(call.get("body", {})).encode()
        except (ValueError, KeyError, TypeError, RecursionError):
            return _refusal("bad_request", 'expected one line {"verb": …, "body": {…}}')
        slip = _Slip()
        number = str(next(self._numbers))
        self._waiting[number] = slip
        self._post(
            Asked(at=self._clock.now(), verb=str(verb), body=body, size=len(body), via="socket", reply_to=number)
        )
        slip.done.wait(ANSWER_WITHIN_S)
        self._waiting.pop(number, None)
        return slip.answer or _refusal("timeout", "the daemon did not answer in time")

    def handle(self, effects: Sequence[Effect]) -> None:
        """Give answers to those who wait for them."""
        for effect in effects:
            slip = self._waiting.get(effect.to) if isinstance(effect, Reply) else None
            if slip is not None and isinstance(effect, Reply):
                slip.answer = effect.payload
                slip.done.set()

    def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            if self._thread is not None:
                self._thread.join()
            self.path.unlink(missing_ok=True)


class _Slip:
    def __init__(self) -> None:
        self.answer = b""
        self.done = threading.Event()


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    # Of a Unix socket the kernel turns away whoever finds the queue full; the library's own 5 are soon full.
    request_queue_size = 128


def _refusal(code: str, message: str) -> bytes:
    return json.dumps({"status": "error", "error": {"code": code, "message": message}}).encode()


@contextlib.contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """An address of at most 107 characters for a socket of any path, through a descriptor of its folder."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def call(path: Path, verb: str, body: Mapping[str, Any] | None = None, timeout_s: float = 12.0) -> dict[str, Any]:
    """Ask the daemon behind the socket `path`.

    Returns:
        Its answer, ``{"status": "ok" | "error", …}``.

    Raises:
        LinkError: if no daemon answers there.
    """
    try:
        with _reachable(path) as address, socket.socket(socket.AF_UNIX) as link:
            link.settimeout(timeout_s)
            link.connect(address)
            link.sendall(json.dumps({"verb": verb, "body": dict(body or {})}).encode() + b"\n")
            with link.makefile("rb") as lines:
                answer = json.loads(lines.readline())
    except (OSError, ValueError) as error:
        raise LinkError(
            f"no chappe daemon answers at {path}", remedy="start it with `chappe run` or `systemctl start chappe`"
        ) from error
    if not isinstance(answer, dict):
        raise LinkError(f"what answers at {path} is no chappe daemon")
    return answer
