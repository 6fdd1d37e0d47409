"""The words of ``chappe check``: what an item is, what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from chappe.config import Loaded
from chappe.core.settings import Config
from chappe.errors import ConfigError

Status = Literal["pass", "warn", "fail", "skip"]

LIVE = ("picamera2", "v4l2")
"""Sources that see the world."""


@dataclass(frozen=True)
class Finding:
    """What was found out about one item.

    Attributes:
        id: the item.
        status: ``skip`` where the item does not apply; `text` says why.
        text: what is so, in a sentence; every problem on a line of its own.
        remedy: what the owner can do.
    """

    id: str
    status: Status
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Subject:
    """What is looked at.

    Attributes:
        loaded: the configuration, None where it is wrong.
        error: what is wrong with it.
    """

    loaded: Loaded | None = None
    error: ConfigError | None = None

    @property
    def config(self) -> Config:
        """The configuration of an item that is only looked at where there is one."""
        assert self.loaded is not None, "this item needs a configuration"
        return self.loaded.config


Answer = tuple[Status, str] | tuple[Status, str, str]
"""Status, text and, where there is one, remedy."""


@dataclass(frozen=True)
class Item:
    """One thing to look at.

    Attributes:
        id: its name in output and for ``--skip``.
        about: what it looks at, for ``--list``.
        look: looks.
        configured: whether it can only be looked at with a valid configuration.
    """

    id: str
    about: str
    look: Callable[[Subject], Answer]
    configured: bool = True
