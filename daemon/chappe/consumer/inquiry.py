"""Questions on the wire: ``req/history`` out, and which answer belongs to which question."""

from __future__ import annotations

import secrets

from chappe.consumer.closer import Question
from chappe.consumer.terms import Incoming, Options, Outgoing
from chappe.consumer.words import Answer
from chappe.core.envelope import to_json
from chappe.core.topics import Topics

PAGE = 50
"""Messages asked for at a time; a device gives out no more of a range."""


class Inquiry:
    """What is asked, and has not been answered.

    Args:
        options: topics, and who asks.
    """

    def __init__(self, options: Options) -> None:
        self.asked = 0
        self._options = options
        # Answers to an earlier run's questions may still come: their ids must not be ours.
        self._run = secrets.token_hex(4)
        self._open: dict[str, Question] = {}

    def request(self, question: Question) -> Outgoing:
        """The request that asks it; the answer to an earlier one to the same device is nobody's from now on."""
        self.asked += 1
        device, stream, boot = question.book_id
        topics = Topics(self._options.prefix, device)
        name = f"{self._options.name}-{self._run}-{self.asked}"
        self._open = {key: other for key, other in self._open.items() if other.book_id[0] != device}
        self._open[name] = question
        until = {} if question.last is None else {"to": question.last}
        body = {"id": name, "stream": stream, "boot": boot, "from": question.first, **until, "n": PAGE}
        # Below the device's own tree, where an access list that lets it publish its streams lets it publish this.
        reply_to = f"{topics.res('history')}/{self._options.name}"
        return Outgoing(topics.req("history"), to_json(body), reply_to, name.encode())

    def match(self, device: str, incoming: Incoming, answer: Answer) -> Question | None:
        """The question that this answers, None where it is somebody else's or an earlier run's."""
        name = incoming.correlation.decode("ascii", "replace") or str(answer.id)
        question = self._open.get(name)
        if question is None or question.book_id[0] != device:
            return None
        del self._open[name]
        return question

    def link_down(self) -> None:
        """No answer will come any more."""
        self._open.clear()
