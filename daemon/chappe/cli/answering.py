"""Who answers a command about messages: the running daemon through its control socket, else the stopped store itself.

One of them has the lock of the state folder, never both: nobody writes beside a daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from chappe.errors import BusyError, ChappeError, LinkError, StoreError, UsageError, WireError

if TYPE_CHECKING:
    from chappe.config import Loaded
    from chappe.core.units import WallNs
    from chappe.edge.store.desk import Desk

NOBODY = "start the daemon with `chappe run` or `systemctl start chappe`"


class Answering:
    """Asks whoever can answer; who that is shows itself with the first question.

    Args:
        loaded: the configuration: where the socket and the store lie, and what the streams are.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._running: bool | None = None
        self._desk: Desk | None = None

    @property
    def running(self) -> bool:
        """Whether it was a daemon that answered."""
        return bool(self._running)

    def ask(self, verb: str, body: Mapping[str, Any] | None = None) -> Any:
        """What is answered to a verb.

        Raises:
            LinkError: if neither a daemon answers nor a store is there.
            UsageError: if the question makes no sense.
            ChappeError: if it is refused.
        """
        if self._running is not False:
            try:
                answer = self._daemon(verb, body)
            except LinkError as error:
                if self._running:
                    raise
                self._open(error)
                self._running = False
            else:
                self._running = True
                return outcome(answer)
        assert self._desk is not None
        return self._stopped(self._desk, verb, body or {})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._desk is not None:
            self._desk.close()
            self._desk = None

    def _daemon(self, verb: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        from chappe.assembly import control_folder
        from chappe.edge.control import SOCKET, call

        return call(control_folder(self._loaded.config) / SOCKET, verb, body)

    # ── a stopped store ──────────────────────────────────────────────────────────────────────────────────────────────

    def _open(self, error: LinkError) -> None:
        """Take the lock and open the store; whoever has the lock is a daemon that does not answer."""
        from chappe.assembly import state_folder
        from chappe.edge.host import SystemClock
        from chappe.edge.store.desk import Desk

        folder = state_folder(self._loaded.config)
        if not _visible(folder):
            raise LinkError(f"{error.message}, and there is no store in {folder}", remedy=NOBODY) from None
        desk = Desk(folder, SystemClock())
        try:
            desk.open()
        except BusyError:
            raise LinkError(
                f"{error.message}, though one holds {folder}",
                remedy="it starts or hangs: try again, and see its journal",
            ) from None
        except PermissionError as refusal:
            raise StoreError(
                f"the state folder {folder} cannot be opened: {refusal.strerror}",
                remedy="run the command as the daemon's user, or join its group",
            ) from None
        self._desk = desk

    def _stopped(self, desk: Desk, verb: str, body: Mapping[str, Any]) -> Any:
        act = _VERBS.get(verb)
        if act is None:
            raise LinkError("no chappe daemon is running", remedy=NOBODY)
        try:
            return act(self, desk, body)
        except WireError as error:
            raise refusal(error.code, str(error)) from None

    def _queue(self, desk: Desk, body: Mapping[str, Any]) -> Any:
        from chappe.core.streams import all_specs

        priorities = {name: spec.priority for name, spec in all_specs(self._loaded.config).items()}
        return desk.show(body.get("n", 100), body.get("stream", ""), priorities)

    def _drop(self, desk: Desk, body: Mapping[str, Any]) -> Any:
        dropped = desk.drop(body.get("ids", ()), body.get("stream", ""), dead=body.get("dead", False))
        if body.get("ids") and not dropped:
            raise WireError("not_found", "no such message waits")
        return {"dropped": dropped, "in_flight": 0, "pending": 0}

    def _retry(self, desk: Desk, body: Mapping[str, Any]) -> Any:
        retried = desk.retry(body.get("ids", ()), body.get("stream", ""))
        if body.get("ids") and not retried:
            raise WireError("not_found", "no such dead letter")
        return {"retried": retried}

    def _history(self, desk: Desk, body: Mapping[str, Any]) -> Any:
        import json

        from chappe.core.envelope import to_json
        from chappe.core.questions import answered, understood

        question = understood(body, "", now())
        return json.loads(to_json(answered(question, desk.history(question.query)).document))

    def _cursor(self, desk: Desk, body: Mapping[str, Any]) -> Any:
        desk.place(body["reader"], body["stream"], body["offset"])
        return dict(body)


_VERBS: Mapping[str, Callable[[Answering, Any, Mapping[str, Any]], Any]] = {
    "queue": Answering._queue,  # noqa: SLF001 - its own table
    "queue-drop": Answering._drop,  # noqa: SLF001
    "queue-retry": Answering._retry,  # noqa: SLF001
    "history": Answering._history,  # noqa: SLF001
    "cursor": Answering._cursor,  # noqa: SLF001
}


def _visible(folder: Path) -> bool:
    """Whether a store is there, or may be there without our being allowed to see it."""
    from chappe.edge.store import FILE

    try:
        return (folder / FILE).exists()
    except PermissionError:
        return True


def now() -> WallNs:
    """The wall clock."""
    from chappe.edge.host import SystemClock

    return SystemClock().wall()


def outcome(answer: Mapping[str, Any]) -> Any:
    """The data of an answer.

    Raises:
        ChappeError: if it is a refusal.
    """
    if answer.get("status") == "ok":
        return answer.get("data")
    error = answer.get("error") or {}
    raise refusal(error.get("code", "unknown"), error.get("message", "no reason given"))


def refusal(code: str, message: str) -> ChappeError:
    """A refusal as the command line tells it."""
    if code == "timeout":
        return LinkError(f"the daemon is busy: {message}", remedy="try again, and look into its journal")
    if code == "busy":
        return BusyError(message, remedy="try again in a moment")
    if code == "bad_request":
        return UsageError(message)
    return ChappeError(f"the daemon refuses: {message} ({code})")
