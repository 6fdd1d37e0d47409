"""Data too large for a row, each in a file of its own: one write of the card per byte instead of SQLite's two.

A file is on the disk before the row that names it is committed, and goes after the row is gone. What a power cut leaves between those
two moments is a file without a row, which the next start removes. A name has the content in it, so that a row that is replaced, and
the replacement then rolled back, still finds its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from chappe.edge.store.codec import File
from chappe.edge.store.folder import BLOBS, sync_folder


class Blobs:
    """The files beside the rows.

    Args:
        folder: the state folder.
        inline: data above this many bytes gets a file.
    """

    def __init__(self, folder: Path, inline: int) -> None:
        self._folder = folder / BLOBS
        self._inline = inline
        self._names: dict[int, str] = {}

    def open(self) -> None:
        """Learn which files there are.

        Raises:
            OSError: if the folder cannot be made or read.
        """
        self._folder.mkdir(mode=0o750, exist_ok=True)
        self._names = {number: path.name for path in self._folder.iterdir() if (number := owner(path)) is not None}

    def clean(self, named: Callable[[int], str]) -> None:
        """Remove every file that no row names.

        Args:
            named: the path in the row of an id, empty for none.
        """
        kept: dict[int, str] = {}
        for path in self._folder.iterdir():
            number = owner(path)
            if number is not None and named(number) == path.name:
                kept[number] = path.name
            else:
                self._unlink(path.name)
        self._names = kept

    def write(self, items: Iterable[tuple[int, bytes]]) -> dict[int, File]:
        """Put what is too large for a row on the disk.

        Returns:
            Where it is, by id.

        Raises:
            OSError: if there is no room, or the disk fails; nothing is left behind then.
        """
        files: dict[int, File] = {}
        fresh: list[str] = []
        try:
            for number, data in items:
                if len(data) > self._inline:
                    digest = hashlib.sha256(data)
                    name = f"{number}.{digest.hexdigest()[:16]}"
                    files[number] = File(name, digest.digest())
                    if self._names.get(number) != name:
                        fresh.append(name)
                        self._write(name, data)
            if fresh:
                sync_folder(self._folder)
        except OSError:
            self.discard(fresh)
            raise
        return files

    def _write(self, name: str, data: bytes) -> None:
        half = self._folder / f"{name}.part"
        try:
            with half.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            half.rename(self._folder / name)
        except OSError:
            half.unlink(missing_ok=True)
            raise

    def discard(self, names: Iterable[str]) -> None:
        """Remove files of a commit that did not come about; those of rows that are there stay."""
        kept = set(self._names.values())
        for name in names:
            if name not in kept:
                self._unlink(name)

    def settle(self, files: Mapping[int, File], gone: Iterable[int]) -> None:
        """The commit is on the disk: files of rows that are gone or were replaced go, too."""
        if not self._names and not files:
            return
        for number in gone:
            name = self._names.pop(number, "") if number not in files else ""
            if name:
                self._unlink(name)
        for number, file in files.items():
            before = self._names.get(number, file.path)
            if before != file.path:
                self._unlink(before)
            self._names[number] = file.path

    def read(self, file: File) -> bytes | None:
        """The data of a row, None if the file is missing or not what was written."""
        try:
            data = (self._folder / Path(file.path).name).read_bytes()
        except OSError:
            return None
        return data if hashlib.sha256(data).digest() == file.sha256 else None

    def used(self) -> int:
        """Bytes of all files."""
        total = 0
        for name in self._names.values():
            with contextlib.suppress(OSError):
                total += (self._folder / name).stat().st_size
        return total

    def _unlink(self, name: str) -> None:
        # A file that cannot be removed now is removed at the next start, when no row names it.
        with contextlib.suppress(OSError):
            (self._folder / name).unlink(missing_ok=True)


def owner(path: Path) -> int | None:
    """Id of the row whose data a file holds, None if it is no such file.

    >>> owner(Path("17.00c0ffee")), owner(Path("17.00c0ffee.part"))
    (17, None)
    """
    number, _, rest = path.name.partition(".")
    return int(number) if number.isdecimal() and rest.isalnum() else None
