"""Whether the files with our secrets have changed, without keeping what was in them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chappe.core.settings import Mqtt

# Drawn anew in each process: a digest that gets out says nothing about a password that is easy to guess.
_KEY = os.urandom(32)


def fingerprint(settings: Mqtt) -> bytes | None:
    """A keyed digest of the password, keys and certificates that `settings` name; None if one of the files cannot be read.

    Args:
        settings: the section ``[mqtt]``.
    """
    whole = hashlib.blake2b(key=_KEY)
    for path in (settings.password_file, settings.ca_file, settings.cert_file, settings.key_file):
        try:
            content = Path(path).read_bytes() if path else b""
        except OSError:
            return None
        # Of one size each, so that what stands in one file cannot be taken for the beginning of the next.
        whole.update(hashlib.blake2b(content, key=_KEY).digest())
    return whole.digest()
