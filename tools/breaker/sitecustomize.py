"""Replace one function by a no-op, so that a capability's test can be seen to fail without it.

``tests/conftest.py`` uses `break_function` in the test process. For the programs a test starts it puts this folder on
PYTHONPATH: Python imports a module of this name by itself at start, and the environment variable tells what to break.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from types import FunctionType
from typing import Any

# Not CHAPPE_…: those are a layer of the configuration, and tests clear them.
VARIABLE = "FEATURE_BREAK"


def find_function(target: str) -> FunctionType:
    """Return the function that ``module:qualname`` names.

    Methods, static and class methods, properties and wrapped functions (``functools.wraps``, caches) give the plain
    function inside.

    Raises:
        LookupError: if the module, the name or a function behind it does not exist.
    """
    module_name, _, qualname = target.partition(":")
    if not qualname:
        message = f"{target!r} is not of the form module:qualname"
        raise LookupError(message)
    try:
        found: Any = importlib.import_module(module_name)
        for name in qualname.split("."):
            found = inspect.getattr_static(found, name)
    except (ImportError, AttributeError) as error:
        message = f"{target!r}: {error}"
        raise LookupError(message) from error
    return _plain(found, target)


def _plain(found: Any, target: str) -> FunctionType:
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, functools.cached_property):
        found = found.func
    elif isinstance(found, (staticmethod, classmethod)):
        found = found.__func__
    found = inspect.unwrap(found)
    if not isinstance(found, FunctionType):
        message = f"{target!r} is not a function written in Python"
        raise LookupError(message)  # noqa: TRY004 - to the caller the name leads nowhere, whatever stands there
    return found


def break_function(target: str) -> None:
    """Make a function do nothing and return None, for every holder of it.

    The code is replaced inside the function object and not the name in its module: tables and modules that have
    already imported the function are broken too.

    Raises:
        LookupError: if ``target`` names no function.
    """
    function = find_function(target)
    # A function keeps the number of its closure cells for life; the no-op must claim the same.
    function.__code__ = _nothing.__code__.replace(
        co_name=function.__code__.co_name, co_freevars=function.__code__.co_freevars
    )
    function.__defaults__ = None
    function.__kwdefaults__ = None


def _nothing(*_args: object, **_kwargs: object) -> None:
    """Do nothing."""


def _break_here() -> None:
    target = os.environ.get(VARIABLE)
    if not target:
        return
    try:
        break_function(target)
    except LookupError:
        # Some other Python that a test started, without Chappe in it.
        return


if __name__ == "sitecustomize":
    _break_here()
