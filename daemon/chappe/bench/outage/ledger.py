"""A ledger outside every process that is killed: which numbers were offered or accepted, and when.

A file mapped into memory: what was written stays there when the writer is killed with SIGKILL, and nobody has to ask it. This file imports
nothing of Chappe: the Pythons of the peers load it too.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from pathlib import Path

CAPACITY = 1 << 20
_CELL = struct.Struct("<q")
_HEAD = 2
_COUNT, _SEAL = range(_HEAD)


class Ledger:
    """Numbers from 0 upwards, each with the moment it was entered.

    Args:
        path: the file; made when it is missing.
        capacity: most numbers it can hold.
    """

    def __init__(self, path: Path, capacity: int = CAPACITY) -> None:
        self.path = path
        self._size = (_HEAD + capacity) * _CELL.size
        self._map: mmap.mmap | None = None
        self._turn = threading.Lock()

    def open(self) -> Ledger:
        """Map the file."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o640)
        try:
            if os.fstat(descriptor).st_size < self._size:
                os.ftruncate(descriptor, self._size)
            self._map = mmap.mmap(descriptor, self._size)
        finally:
            os.close(descriptor)
        return self

    @property
    def count(self) -> int:
        """The highest number entered, and one."""
        return self._get(_COUNT)

    @property
    def sealed(self) -> bool:
        """Whether no further number is to be taken."""
        return self._get(_SEAL) != 0

    def seal(self, sealed: bool = True) -> None:
        """Let no further number be taken, or let them be taken again; those who feed look at `sealed`."""
        self._put(_SEAL, int(sealed))

    def enter(self) -> int:
        """Take the next number, now."""
        with self._turn:
            number = self.count
            self.mark(number)
            return number

    def mark(self, number: int) -> None:
        """Enter this number, now."""
        self._put(_HEAD + number, time.monotonic_ns())
        # The count follows the moment: whoever reads it finds every number below it complete.
        self._put(_COUNT, max(self.count, number + 1))

    def at(self, number: int) -> int:
        """When a number was entered, monotonic nanoseconds; 0 for never."""
        return self._get(_HEAD + number)

    def times(self) -> list[int]:
        """When each number was entered."""
        return [self.at(number) for number in range(self.count)]

    def numbers(self) -> set[int]:
        """The numbers that were entered."""
        return {number for number, at in enumerate(self.times()) if at}

    def _get(self, place: int) -> int:
        assert self._map is not None, "open() comes first"
        value: int = _CELL.unpack_from(self._map, place * _CELL.size)[0]
        return value

    def _put(self, place: int, value: int) -> None:
        assert self._map is not None, "open() comes first"
        _CELL.pack_into(self._map, place * _CELL.size, value)

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None
