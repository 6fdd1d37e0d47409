"""Print a hash-locked requirements file without some of its packages.

On a Raspberry Pi numpy and Pillow come from apt, compiled together with picamera2; the lock's own must stay out::

    python3 tools/lockfilter.py lock.txt numpy pillow opencv-python-headless
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==")


def without(lines: Iterable[str], names: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a lock that do not belong to the named packages.

    A package's lines are its pin, which starts at the margin, and the indented hashes and comments below it.

    >>> list(without(["a==1 \\\\", "    --hash=sha256:00", "b==2 \\\\", "    --hash=sha256:11"], ["A"]))
    ['b==2 \\\\', '    --hash=sha256:11']
    """
    unwanted = {canonical(name) for name in names}
    keep = True
    for line in lines:
        pin = _PIN.match(line)
        if pin:
            keep = canonical(pin["name"]) not in unwanted
        if keep:
            yield line


def canonical(name: str) -> str:
    """Return a package's name as every index spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    lock, *unwanted_names = sys.argv[1:]
    print("\n".join(without(Path(lock).read_text(encoding="utf-8").splitlines(), unwanted_names)))
