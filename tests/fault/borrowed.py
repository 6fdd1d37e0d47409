"""Helpers of other test folders; test folders are no packages of each other."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def borrow(path: str) -> ModuleType:
    """A module below ``tests/``, for example ``wire/proxy.py``."""
    name = "chappe_test_" + path.removesuffix(".py").replace("/", "_")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]
