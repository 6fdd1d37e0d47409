"""Folders of one run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for one run; its name is short, as Unix sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="chappe-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
