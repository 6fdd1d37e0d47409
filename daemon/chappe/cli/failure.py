"""What a command does when it fails: the error and its remedy on stderr, and the exit code that says which kind it was."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import traceback

from chappe.errors import ChappeError, EdgeError, Exit


def code_of(error: BaseException) -> int:
    """Tell an error and return its exit code. What Chappe did not raise on purpose is a bug, and is told as one."""
    if isinstance(error, ChappeError):
        _tell(error)
        return int(error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has seen enough.
        _abandon_stdout()
        return Exit.OK
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        _abandon_stdout()
        _tell(EdgeError("the disk is full", remedy="free some space and try again"))
        return Exit.IO
    traceback.print_exception(error)
    print("chappe: this is a bug in chappe; please report the lines above", file=sys.stderr)
    return Exit.BUG


def _abandon_stdout() -> None:
    """Let what is still in stdout's buffer vanish quietly at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(error: ChappeError) -> None:
    print(f"chappe: {error.message}", file=sys.stderr)
    if error.remedy:
        print(f"  remedy: {error.remedy}", file=sys.stderr)
