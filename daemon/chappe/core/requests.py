"""Requests: what arrives under ``req/<verb>`` is checked, answered, and never fatal.

Most are answered at once. A handler that first has to ask the store returns `Later` with a ticket; whoever gets the store's answer hands the
outcome to `Requests.fulfil`, which gives back who asked and what to tell them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from chappe.core.envelope import to_json
from chappe.core.events import Asked
from chappe.core.settings import Requests as Limits
from chappe.core.units import SECOND, Ns
from chappe.errors import WireError

PATIENCE = 10 * SECOND
"""How long an answer may take (FEATURES appendix F, handler timeout)."""

WAITING = 64
"""How many may wait for theirs at a time."""

LONGEST_ID = 256


class Later(msgspec.Struct, frozen=True):
    """The answer will come.

    Attributes:
        ticket: the number under which it comes; whoever draws them never draws one twice in a boot.
        then: makes the answer's data out of what comes, or raises `WireError`; None where that is the data.
    """

    ticket: int
    then: Callable[[Any], Any] | None = None


class _Pending(msgspec.Struct, frozen=True):
    asked: Asked
    head: dict[str, Any]
    until: Ns
    then: Callable[[Any], Any] | None


Handler = Callable[[Mapping[str, Any], Ns], Any]
"""Does what a verb asks; gets the body and now, returns the answer's data or `Later`, raises `WireError` to refuse."""


class Requests:
    """The desk where requests are taken in.

    Args:
        limits: size and rate.
        verbs: what each verb does.

    Attributes:
        refused: requests that were refused in this boot, those answered too late among them.
    """

    def __init__(self, limits: Limits, verbs: Mapping[str, Handler]) -> None:
        self.refused = 0
        self._limits = limits
        self._verbs = verbs
        self._recent: deque[Ns] = deque()
        # All wait equally long, so the first is always the next whose time is over.
        self._waiting: dict[int, _Pending] = {}

    def handle(self, asked: Asked) -> bytes | None:
        """The answer to a request, as JSON: ``{"status", "data"? | "error"?, "id"?}``; None where it comes later, by `fulfil` or `expire`."""
        head: dict[str, Any] = {}
        try:
            self._admit(asked)
            body = self._body(asked)
            if "id" in body:
                head["id"] = body["id"]
            data = self._verb(asked.verb)(body, asked.at)
            if isinstance(data, Later):
                self._wait(data, asked, head)
                return None
        except WireError as error:
            return self._refusal(error, head)
        return _answer(data, head)

    # ── later ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def fulfil(self, ticket: int, outcome: Any) -> tuple[Asked, bytes] | None:
        """What a handler had put off has come.

        Args:
            ticket: as in its `Later`.
            outcome: what came; or a `WireError` that stands in its place.

        Returns:
            Who asked, and the answer; None where nobody waits any more.
        """
        pending = self._waiting.pop(ticket, None)
        if pending is None:
            return None
        try:
            if isinstance(outcome, WireError):
                raise outcome
            data = outcome if pending.then is None else pending.then(outcome)
        except WireError as error:
            return pending.asked, self._refusal(error, pending.head)
        return pending.asked, _answer(data, pending.head)

    def due(self) -> Ns | None:
        """When `expire` has to be called next."""
        return next((pending.until for pending in self._waiting.values()), None)

    def expire(self, now: Ns) -> list[tuple[Asked, bytes]]:
        """Those whose answer did not come in time, and what they are told: ``timeout``."""
        over = [ticket for ticket, pending in self._waiting.items() if pending.until <= now]
        error = WireError("timeout", f"no answer within {PATIENCE // SECOND} s")
        return [told for ticket in over if (told := self.fulfil(ticket, error)) is not None]

    def _wait(self, later: Later, asked: Asked, head: dict[str, Any]) -> None:
        if len(self._waiting) >= WAITING:
            raise WireError("busy", f"{WAITING} requests wait for their answer already; ask again in a moment")
        asker = msgspec.structs.replace(asked, body=b"")
        self._waiting[later.ticket] = _Pending(asker, head, Ns(asked.at + PATIENCE), later.then)

    # ── checks ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _refusal(self, error: WireError, head: Mapping[str, Any]) -> bytes:
        self.refused += 1
        return to_json({"status": "error", "error": {"code": error.code, "message": str(error)}, **head})

    def _admit(self, asked: Asked) -> None:
        if asked.retained:
            raise WireError(
                "retained", "a request must not be retained: it would be carried out again at every connect"
            )
        size = max(asked.size, len(asked.body))
        if size > self._limits.size:
            raise WireError("too_large", f"{size} bytes; at most {self._limits.size} are read")
        if asked.via == "mqtt" and not self._within_rate(asked.at):
            raise WireError("rate_limited", f"more than {self._limits.rate} requests within a second")

    def _within_rate(self, now: Ns) -> bool:
        while self._recent and now - self._recent[0] >= SECOND:
            self._recent.popleft()
        if len(self._recent) >= self._limits.rate:
            return False
        self._recent.append(now)
        return True

    def _body(self, asked: Asked) -> dict[str, Any]:
        if not asked.body.strip():
            return {}
        try:
            body = msgspec.json.decode(asked.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise WireError("bad_request", f"not valid JSON: {error}") from None
        if not isinstance(body, dict):
            raise WireError("bad_request", "the body must be a JSON object")
        if not _is_id(body.get("id", "")):
            raise WireError("bad_request", f"id must be a whole number, or text of at most {LONGEST_ID} characters")
        return body

    def _verb(self, verb: str) -> Handler:
        handler = self._verbs.get(verb)
        if handler is None:
            raise WireError("unknown_verb", f"no verb {verb[:64]!r}; known: {', '.join(sorted(self._verbs))}")
        return handler


def _is_id(value: Any) -> bool:
    """Whether a request may be known by this: it is kept while the answer is made, and sent back with it."""
    if isinstance(value, str):
        return len(value) <= LONGEST_ID
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 64


def _answer(data: Any, head: Mapping[str, Any]) -> bytes:
    return to_json({"status": "ok", **({"data": data} if data is not None else {}), **head})


def field(body: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    """One field of a request's body.

    Raises:
        WireError: if it is missing without a default, or of another type (a truth value is not a number).
    """
    value = body.get(name, default)
    wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
    if value is None or wrong:
        raise WireError("bad_request", f"{name} must be given as {_WORDS.get(kind, kind.__name__)}")
    return value


def number(body: Mapping[str, Any], name: str, low: int, high: int, default: int | None = None) -> int:
    """A whole number of a request's body.

    Raises:
        WireError: if it is missing without a default, is no whole number, or does not lie in `low` to `high`.
    """
    value: int = field(body, name, int, default)
    if not low <= value <= high:
        raise WireError("bad_request", f"{name} must lie in {low} to {high}")
    return value


_WORDS = {bool: "true or false", str: "text", int: "a whole number", dict: "an object"}
