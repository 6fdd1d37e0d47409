"""The figures of ``health`` in a file, for the textfile collector of Prometheus' node exporter."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from chappe.core.effects import Announce, Effect
from chappe.core.events import Faulted, Healed
from chappe.core.metrics import exposition
from chappe.core.units import Ns
from chappe.edge.host import Clock
from chappe.edge.worker import Post, Worker

CODE = "metrics_failed"


class Metrics:
    """Writes the file whenever ``health`` is published; whoever reads it sees one document or the next, never half of one.

    Nothing is synced to the disk: figures of a minute ago are of no use after a power cut. The file belongs on a tmpfs.

    Args:
        path: the file; its folder must exist.
        clock: stamps faults.
        post: takes them.
    """

    def __init__(self, path: Path, clock: Clock, post: Post) -> None:
        self._path = path
        self._clock = clock
        self._post = post
        self._failing = False
        self._text = ""
        # A thread of its own: the file may lie on a network's disk that does not answer.
        self._worker = Worker("metrics", self._step, clock=clock, post=post)

    def open(self) -> None:
        """Start; the first document makes the file."""
        self._worker.start()

    def handle(self, effects: Sequence[Effect]) -> None:
        """Have the newest of the documents among these written."""
        for effect in effects:
            if isinstance(effect, Announce) and effect.kind == "health":
                # Read here: the books in it go on counting.
                self._text = exposition(effect.data)
                self._worker.wake()

    def _step(self, now: Ns) -> Ns | None:
        text, self._text = self._text, ""
        if not text:
            return None
        try:
            self._write(text)
        except OSError as error:
            self._failing = True
            self._post(Faulted(at=now, part="metrics", code=CODE, message=f"{self._path}: {error.strerror or error}"))
        else:
            if self._failing:
                self._post(Healed(at=now, part="metrics", code=CODE))
            self._failing = False
        return None

    def _write(self, text: str) -> None:
        # The collector reads every *.prom of the folder, so the draft is called otherwise.
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        draft.chmod(0o644)
        draft.replace(self._path)

    def close(self) -> None:
        """Stop, and take the file away: figures that nobody keeps up to date would pass for those of a device that is well."""
        self._worker.stop()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
