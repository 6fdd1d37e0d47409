"""The error tree of Chappe, and the exit codes of its command line.

::

    ChappeError
    ├── UsageError (also ValueError)        exit 2    the command line was used wrongly
    ├── ConfigError (also ValueError)       exit 78   the configuration is wrong; carries every problem found
    ├── EdgeError (also OSError)            exit 74   a device, file or link failed; retriable or not
    │   ├── CameraError                               a camera cannot be opened, read or has gone
    │   ├── SensorError                               a sensor driver failed
    │   ├── LinkError                       exit 69   the broker or the daemon cannot be reached
    │   ├── StoreError                                the state folder cannot be used
    │   ├── ModelError                                a model file is missing, wrong or not trusted
    │   └── PlugInError                               a plug-in is missing or misbehaves
    ├── BusyError (also OSError)            exit 75   somebody else holds the thing; try again
    ├── WireError (also ValueError)                   a peer's fault: counted and answered, never fatal
    └── SandboxError (also RuntimeError)              a budget was spent or a forbidden thing was tried

Anything that is not a `ChappeError` is a bug (exit 70).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Exit(enum.IntEnum):
    """Exit codes; 69 and above follow the BSD ``sysexits`` numbers."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNAVAILABLE = 69
    BUG = 70
    IO = 74
    TRY_AGAIN = 75
    CONFIG = 78


class ChappeError(Exception):
    """Root of every error that Chappe raises on purpose.

    Args:
        message: what is wrong, in one sentence.
        remedy: what the owner can do about it, in one sentence.
    """

    exit_code: Exit = Exit.REFUSED

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class UsageError(ChappeError, ValueError):
    """The command line was used wrongly."""

    exit_code = Exit.USAGE


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the configuration, and where.

    Attributes:
        path: dotted key, for example ``mqtt.port``.
        code: machine-readable kind: ``unknown_key``, ``type``, ``range``, ``syntax``, ``missing``, ``secret``, ``conflict``.
        message: what is wrong, with a suggestion where there is one.
        file: the file (or ``environment``, ``command line``) that set the key.
        line: 1-based line in that file, or None where lines mean nothing.
    """

    path: str
    code: str
    message: str
    file: str = ""
    line: int | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(filter(None, (where, self.path, self.message)))


class ConfigError(ChappeError, ValueError):
    """The configuration is wrong; `problems` holds everything that was found, not only the first.

    Args:
        problems: at least one problem.
    """

    exit_code = Exit.CONFIG

    def __init__(self, problems: list[Problem] | tuple[Problem, ...]) -> None:
        count = len(problems)
        super().__init__(
            "\n".join(str(problem) for problem in problems),
            remedy=f"correct {'it' if count == 1 else f'all {count}'} and run `chappe config validate`",
        )
        self.problems = tuple(problems)


class EdgeError(ChappeError, OSError):
    """A device, a file or a link failed.

    Args:
        message: what failed.
        remedy: what the owner can do.
        code: fault code published on the ``fault`` stream, for example ``camera_missing``.
        retriable: whether trying again later can help.
    """

    exit_code = Exit.IO
    default_code = "edge"

    def __init__(self, message: str, *, remedy: str = "", code: str = "", retriable: bool = True) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code or self.default_code
        self.retriable = retriable


class CameraError(EdgeError):
    """A camera cannot be opened or read, or has gone."""

    default_code = "camera_failed"


class SensorError(EdgeError):
    """A sensor driver failed."""

    default_code = "sensor_failed"


class LinkError(EdgeError):
    """The broker, or a running daemon, cannot be reached."""

    exit_code = Exit.UNAVAILABLE
    default_code = "link_lost"


class StoreError(EdgeError):
    """The state folder cannot be used."""

    default_code = "store_failed"


class ModelError(EdgeError):
    """A model file is missing, wrong, or does not fulfil its contract."""

    default_code = "model_rejected"


class PlugInError(EdgeError):
    """A plug-in is missing or breaks its contract."""

    default_code = "plugin_failed"


class BusyError(ChappeError, OSError):
    """Another process holds what is needed; try again later."""

    exit_code = Exit.TRY_AGAIN


class WireError(ChappeError, ValueError):
    """A peer sent something that cannot be accepted.

    Args:
        code: an error code of the request protocol, for example ``bad_request``.
        message: what is wrong with it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class SandboxError(ChappeError, RuntimeError):
    """Sandboxed work spent its budget or tried something forbidden."""
