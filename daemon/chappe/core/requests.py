"""Requests: what arrives under ``req/<verb>`` is checked, answered, and never fatal."""

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

Handler = Callable[[Mapping[str, Any], Ns], Any]
"""Does what a verb asks; gets the body and now, returns the answer's data, raises `WireError` to refuse."""


class Requests:
    """The desk where requests are taken in.

    Args:
        limits: size and rate.
        verbs: what each verb does.
    """

    def __init__(self, limits: Limits, verbs: Mapping[str, Handler]) -> None:
        self.refused = 0
        self._limits = limits
        self._verbs = verbs
        self._recent: deque[Ns] = deque()

    def handle(self, asked: Asked) -> bytes:
        """The answer to a request, as JSON: ``{"status", "data"? | "error"?, "id"?}``."""
        answer: dict[str, Any] = {}
        try:
            self._admit(asked)
            body = self._body(asked)
            if "id" in body:
                answer["id"] = body["id"]
            data = self._verb(asked.verb)(body, asked.at)
        except WireError as error:
            self.refused += 1
            return to_json({"status": "error", "error": {"code": error.code, "message": str(error)}, **answer})
        return to_json({"status": "ok", **({"data": data} if data is not None else {}), **answer})

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
        if not isinstance(body.get("id", ""), str | int):
            raise WireError("bad_request", "id must be text or a whole number")
        return body

    def _verb(self, verb: str) -> Handler:
        handler = self._verbs.get(verb)
        if handler is None:
            raise WireError("unknown_verb", f"no verb {verb!r}; known: {', '.join(sorted(self._verbs))}")
        return handler


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


_WORDS = {bool: "true or false", str: "text", int: "a whole number", dict: "an object"}
