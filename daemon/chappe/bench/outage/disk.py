"""A disk that can be cut off from its power: ext4 on a loop device, ended by ``EXT4_IOC_SHUTDOWN``; needs root.

Flag 2 (``EXT4_GOING_FLAGS_NOLOGFLUSH``, fs/ext4/ext4.h) drops every dirty page and the file system's own journal: what was not synced is
gone, as when the plug is pulled. Flag 0 would sync first and prove nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from chappe.errors import EdgeError

_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
_NO_LOG_FLUSH = struct.pack("I", 2)
_SIZE = 256 * 1024 * 1024


class Disk:
    """A file system of one's own.

    Args:
        folder: where the image and the mount point go; must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.mount = folder / "disk"
        self._image = folder / "disk.img"
        self._mounted = False

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Make and mount it.

        Raises:
            EdgeError: if that cannot be done here.
        """
        self.mount.mkdir(exist_ok=True)
        with self._image.open("wb") as image:
            image.truncate(_SIZE)
        _command("mkfs.ext4", "-q", "-F", str(self._image))
        self._attach()

    def cut(self) -> None:
        """Pull the plug: nothing that was not synced survives, and every later access fails."""
        descriptor = os.open(self.mount, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(descriptor)

    def restore(self) -> None:
        """Power again: mount what is left; ext4 replays its journal. Whoever had files open there must have ended."""
        self._detach()
        self._attach()

    def _attach(self) -> None:
        _command("mount", "-o", "loop", str(self._image), str(self.mount))
        self._mounted = True

    def _detach(self) -> None:
        if self._mounted:
            _command("umount", str(self.mount))
            self._mounted = False

    def close(self) -> None:
        """Unmount and remove it; idempotent."""
        try:
            self._detach()
        except EdgeError:
            _command("umount", "--lazy", str(self.mount))
            self._mounted = False
        finally:
            with contextlib.suppress(FileNotFoundError):
                self._image.unlink()


def can_cut() -> bool:
    """Whether such a disk can be made here."""
    return os.geteuid() == 0 and all(shutil.which(program) for program in ("mkfs.ext4", "mount", "umount"))


def _command(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EdgeError(f"`{' '.join(words)}` failed: {done.stderr.strip()}")
