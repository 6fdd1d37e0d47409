"""What only root can do to a machine, and takes back: disks that are full or lose their power, networks that swallow everything."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

EXT4_IOC_SHUTDOWN = 0x8004587D
"""``_IOR('X', 125, __u32)`` of the kernel's fs/ext4/ext4.h."""
NOLOGFLUSH = 2
"""Drop dirty pages and the journal, as a power cut does (EXT4_GOING_FLAGS_NOLOGFLUSH)."""


def run(*words: str | Path) -> str:
    """Run a program that must succeed."""
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def needs(*programs: str) -> None:
    """Skip the test unless this is root and has these programs."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for program in programs:
        if tool(program) is None:
            pytest.skip(f"{program} is not installed")


def tool(program: str) -> str | None:
    """Where a program is; those for root are not on everybody's PATH."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


class Disk:
    """An ext4 file system of its own in a file.

    Args:
        folder: where its image and its mount point go.
        size_mb: of the image.
    """

    def __init__(self, folder: Path, size_mb: int) -> None:
        self.path = folder / "disk"
        self._image = folder / "disk.img"
        self._size = size_mb << 20

    def __enter__(self) -> Self:
        needs("mkfs.ext4", "mount", "umount", "losetup")
        with self._image.open("wb") as image:
            image.truncate(self._size)
        run(tool("mkfs.ext4") or "", "-q", "-F", self._image)
        self.path.mkdir()
        try:
            self.mount()
        except AssertionError as error:
            pytest.skip(f"no loop device can be mounted here: {error}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(AssertionError):
            self.unmount()

    def mount(self) -> None:
        run("mount", "-o", "loop", self._image, self.path)

    def unmount(self) -> None:
        run("umount", self.path)

    def cut_power(self) -> None:
        """Everything that was not synced is gone, and every later write fails."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(descriptor)

    def come_back(self) -> None:
        """Mount it again; the journal is replayed. Whoever used it must have ended."""
        self.unmount()
        self.mount()

    def fill(self) -> Path:
        """Write a file until nothing more fits; returns it."""
        file = self.path / "filler"
        with file.open("ab", buffering=0) as filler:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        filler.write(b"\0" * size)
        return file


class Island:
    """A network namespace with one cable to here: `here` is this end's address. One a process: its names hold the process's number."""

    def __init__(self) -> None:
        number = os.getpid() % 250
        self.name = f"chappe{number}"
        self.here = f"10.254.{number}.1"
        self._there = f"10.254.{number}.2"
        self._near, self._far = f"chn{number}", f"chf{number}"

    def __enter__(self) -> Self:
        needs("ip", "tc")
        self._remove()
        try:
            run("ip", "netns", "add", self.name)
            run("ip", "link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self.name)
            run("ip", "address", "add", f"{self.here}/30", "dev", self._near)
            run("ip", "link", "set", self._near, "up")
            for words in (
                ("address", "add", f"{self._there}/30", "dev", self._far),
                ("link", "set", self._far, "up"),
                ("link", "set", "lo", "up"),
            ):
                run("ip", "-n", self.name, *words)
        except AssertionError as error:
            self._remove()
            pytest.skip(f"no network namespace here: {error}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", self._near], capture_output=True, check=False)

    @property
    def prefix(self) -> tuple[str, ...]:
        """Runs a program there."""
        # `ip netns exec` would also copy every mount, and so keep alive a disk that somebody unmounts meanwhile.
        return "nsenter", f"--net=/run/netns/{self.name}"

    @contextlib.contextmanager
    def black_hole(self) -> Iterator[None]:
        """Both ends of the cable throw every packet away; nobody is told."""
        for where, device in self._ends():
            run("tc", *where, "qdisc", "replace", "dev", device, "root", "pfifo", "limit", "0")
        try:
            yield
        finally:
            for where, device in self._ends():
                run("tc", *where, "qdisc", "delete", "dev", device, "root")

    def _ends(self) -> tuple[tuple[tuple[str, ...], str], ...]:
        return ((), self._near), (("-n", self.name), self._far)
