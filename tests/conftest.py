"""What every test folder shares: the capability markers and a few fixtures about places.

``--features-report FILE`` writes which test proved which capability. ``--feature-break module:qualname`` replaces that
function by a no-op before any test is imported; a test marked with it must then fail (``make features-prove``).
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

CHECKOUT = Path(__file__).resolve().parent.parent

# File systems without a disk below them, or with another one's semantics: nothing about disks can be tested there.
NOT_A_DISK = {"tmpfs", "ramfs", "overlay", "aufs"}

hypothesis.settings.register_profile("laptop", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None, max_examples=50)
hypothesis.settings.register_profile("nightly", deadline=None, database=None, max_examples=1000)
hypothesis.settings.load_profile("nightly" if os.environ.get("NIGHTLY") else "ci" if os.environ.get("CI") else "laptop")


def load_tool(path: str) -> ModuleType:
    """Import a file of ``tools/`` (which is no package), for example ``features.py``."""
    name = f"chappe_tool_{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(name, CHECKOUT / "tools" / path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


# ---- capability markers ----------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("capabilities")
    group.addoption("--features-report", type=Path, metavar="FILE", help="write {id: [[nodeid, outcome], …]} as JSON")
    group.addoption("--feature-break", metavar="MODULE:QUALNAME", help="make this function a no-op for this run")


def pytest_configure(config: pytest.Config) -> None:
    target = config.getoption("--feature-break")
    if target:
        _break(target)
    report = config.getoption("--features-report")
    if report:
        config.pluginmanager.register(FeatureReport(report), "chappe-feature-report")


def _break(target: str) -> None:
    breaker = load_tool("breaker/sitecustomize.py")
    try:
        breaker.break_function(target)
    except LookupError as error:
        raise pytest.UsageError(str(error)) from error
    # What is broken often never comes: no need to wait for it as long as a busy machine may need for what works.
    os.environ.setdefault("CHAPPE_PATIENCE_S", "20")
    # Programs that a test starts run with the same function broken.
    os.environ[breaker.VARIABLE] = target
    folders = [str(CHECKOUT / "tools" / "breaker"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, folders))


class FeatureReport:
    """Collects the outcome of each marked test and writes them when the session ends."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.ids: dict[str, list[str]] = {}
        self.outcomes: dict[str, str] = {}

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        marked = [str(mark.args[0]) for mark in item.iter_markers("feature")]
        if marked:
            self.ids[item.nodeid] = marked

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.nodeid not in self.ids:
            return
        if report.when == "call" or report.skipped:
            self.outcomes[report.nodeid] = report.outcome
        elif report.failed:
            self.outcomes[report.nodeid] = "error"

    def pytest_sessionfinish(self) -> None:
        found: dict[str, list[tuple[str, str]]] = {}
        for nodeid, outcome in sorted(self.outcomes.items()):
            for feature in self.ids[nodeid]:
                found.setdefault(feature, []).append((nodeid, outcome))
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


# ---- places ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the source tree."""
    return CHECKOUT


@pytest.fixture(scope="session")
def tool() -> Callable[[str], ModuleType]:
    """Imports a file of ``tools/``."""
    return functools.cache(load_tool)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Development data that is not part of the project; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("CHAPPE_DATA") or CHECKOUT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder} (set CHAPPE_DATA to its folder)")
    return folder


@pytest.fixture
def disk_tmp(tmp_path: Path) -> Path:
    """Like ``tmp_path``, for tests about disks: skips where nothing is ever written to one."""
    kind = file_system(tmp_path)
    if kind in NOT_A_DISK:
        pytest.skip(f"{tmp_path} is on {kind}, which is not a disk")
    return tmp_path


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """An empty folder whose path leaves room for a Unix socket's name (107 characters in all)."""
    with tempfile.TemporaryDirectory(prefix="chappe-", dir="/tmp") as folder:
        yield Path(folder)


def file_system(path: Path) -> str:
    """Return the type of the file system that holds ``path``, as in ``/proc/self/mountinfo``."""
    best, kind = "", "unknown"
    real = str(path.resolve())
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        left, _, right = line.partition(" - ")
        # The file spells blanks in paths as octal escapes.
        mount = left.split()[4].encode("ascii", "backslashreplace").decode("unicode_escape")
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        # Of several mounts on one place the last one is in force.
        if inside and len(mount) >= len(best):
            best, kind = mount, right.split()[0]
    return kind
