"""Keep what C libraries write to the terminal out of a picture that is drawn there."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

CHATTER = "INFO: "
"""How TFLite begins what nobody needs to know, such as which delegate it made; it knows no switch to be silent."""


@contextmanager
def hushed(descriptor: int = 2) -> Iterator[None]:
    """Hold back what is written to a descriptor below Python; what matters of it is said on stderr afterwards."""
    kept = os.dup(descriptor)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), descriptor)
        try:
            yield
        finally:
            os.dup2(kept, descriptor)
            os.close(kept)
            held.seek(0)
            text = held.read().decode("utf-8", "replace")
    for line in text.splitlines():
        if line.strip() and not line.startswith(CHATTER):
            print(line, file=sys.stderr)
