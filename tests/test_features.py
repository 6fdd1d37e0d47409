"""The table of capabilities, the markers on the tests and the functions they name are in step; so are their tools."""

from __future__ import annotations

import doctest
import functools
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def features(tool: Callable[[str], ModuleType]) -> Any:
    return tool("features.py")


@pytest.fixture(scope="module")
def breaker(tool: Callable[[str], ModuleType]) -> Any:
    return tool("breaker/sitecustomize.py")


# ---- the project -----------------------------------------------------------------------------------------------------


def test_every_row_is_claimed_by_a_test_and_every_claim_is_a_row(features: Any) -> None:
    """docs/capabilities.md and the markers name the same capabilities."""
    rows = {row.id for row in features.read_rows(CHECKOUT / "docs/capabilities.md")}
    claims = features.scan_tests(CHECKOUT)
    without = rows - {claim.id for claim in claims}
    unknown = [f"{claim.id} is not in the table: {claim.test}" for claim in claims if claim.id not in rows]
    assert not without, f"no test claims {', '.join(sorted(without))}"
    assert not unknown, "\n".join(unknown)


def test_every_function_that_a_marker_names_exists(features: Any, breaker: Any) -> None:
    """`breaks` leads to a function of Chappe's that can be replaced."""
    wrong = []
    for claim in features.scan_tests(CHECKOUT):
        if claim.breaks is None:
            continue
        if not claim.breaks.startswith("chappe."):
            wrong.append(f"{claim.test}: {claim.breaks} is not Chappe's")
        try:
            breaker.find_function(claim.breaks)
        except LookupError as error:
            wrong.append(f"{claim.test}: {error}")
    assert not wrong, "\n".join(wrong)


def test_the_scan_sees_every_marker_that_pytest_sees(features: Any, request: pytest.FixtureRequest) -> None:
    """Markers are read from the source, without importing it; none that is made in another way escapes."""
    scanned = {(claim.test, claim.id, claim.breaks) for claim in features.scan_tests(CHECKOUT)}
    unseen = []
    for item in request.session.items:
        parts = features.test_of(item.nodeid).split("::")
        names = ["::".join(parts[:n]) for n in range(1, len(parts) + 1)]
        for mark in item.iter_markers("feature"):
            claim = (mark.args[0], mark.kwargs.get("breaks", (*mark.args, None)[1]))
            if not any((name, *claim) in scanned for name in names):
                unseen.append((item.nodeid, *claim))
    assert not unseen, "\n".join(map(str, unseen))


@pytest.mark.parametrize("path", ["features.py", "docs.py", "lockfilter.py"])
def test_examples_in_the_tools(tool: Callable[[str], ModuleType], path: str) -> None:
    """The examples in the docstrings of tools/ are true."""
    results = doctest.testmod(tool(path))
    assert results.attempted > 0
    assert results.failed == 0


# ---- reading ---------------------------------------------------------------------------------------------------------


def test_rows_are_read_and_the_rest_of_the_page_is_prose(features: Any, tmp_path: Path) -> None:
    """A row has an id, a capability and a check."""
    page = tmp_path / "t.md"
    page.write_text("# T\n| id | capability | check |\n|---|---|---|\n| ABC-01 | does a | sees b |\n", encoding="utf-8")
    assert features.read_rows(page) == [features.Row("ABC-01", "does a", "sees b")]


@pytest.mark.parametrize(
    ("lines", "said"),
    [("| ABC-1 | a | b |\n", "t.md:1: not a row"), ("| ABC-01 | a | b |\n" * 2, "ABC-01 more than once")],
)
def test_a_row_that_is_none_is_refused(features: Any, tmp_path: Path, lines: str, said: str) -> None:
    """A typing error in the table does not silently drop a row."""
    page = tmp_path / "t.md"
    page.write_text(lines, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        features.read_rows(page)


def scan(features: Any, tmp_path: Path, source: str) -> list[tuple[str, str | None, str]]:
    folder = tmp_path / "tests"
    folder.mkdir(exist_ok=True)
    (folder / "test_a.py").write_text(textwrap.dedent(source), encoding="utf-8")
    return [(claim.id, claim.breaks, claim.test) for claim in features.scan_tests(tmp_path)]


def test_markers_are_found_wherever_pytest_allows_them(features: Any, tmp_path: Path) -> None:
    """On functions, methods, classes, one parameter, and a whole file."""
    found = scan(
        features,
        tmp_path,
        """
        import pytest
        pytestmark = [pytest.mark.feature("FIL-01")]
        MODULE = "a.b"
        FUNCTION = f"{MODULE}:f"
        @pytest.mark.feature("FUN-01", breaks=FUNCTION)
        @pytest.mark.feature("FUN-02", f"{MODULE}:C.g")
        def test_f(): ...
        @pytest.mark.feature("CLS-01")
        class TestC:
            @pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.feature("PAR-01"))])
            async def test_m(self, x): ...
        """,
    )
    name = "tests/test_a.py"
    assert found == [
        ("FIL-01", None, name),
        ("FUN-01", "a.b:f", f"{name}::test_f"),
        ("FUN-02", "a.b:C.g", f"{name}::test_f"),
        ("CLS-01", None, f"{name}::TestC"),
        ("PAR-01", None, f"{name}::TestC::test_m"),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        "NAME",
        "",
        '"A-01", breaks=f"{NAME}:f"',
        '"A-01", breaks="a" + "b"',
        '"A-01", broken="a:b"',
        '"A-01", "a:b", "c"',
    ],
)
def test_a_marker_the_scan_cannot_read_is_refused(features: Any, tmp_path: Path, arguments: str) -> None:
    """Computed arguments would escape the scan, so they are an error."""
    with pytest.raises(ValueError, match="plain texts"):
        scan(features, tmp_path, f"import pytest\n@pytest.mark.feature({arguments})\ndef test_a(): ...\n")


# ---- breaking --------------------------------------------------------------------------------------------------------

VICTIM = """
import contextlib, functools
def plain(a, b=1, *, c=2): return a
def make(n):
    def closure(): return n
    return closure
closure = make(3)
table = {"plain": plain}
@functools.cache
def cached(): return 1
@contextlib.contextmanager
def managed(): yield 1
class Base:
    def method(self): return 1
class C(Base):
    def method(self): return super().method()
    @staticmethod
    def static(): return 1
    @classmethod
    def build(cls): return 1
    @property
    def value(self): return 1
    @functools.cached_property
    def kept(self): return 1
    class Inner:
        def method(self): return 1
    number = 7
"""


@pytest.fixture
def victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "victim_module.py").write_text(VICTIM, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("victim_module")
    del sys.modules["victim_module"]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("plain", lambda m: m.plain(5)),
        ("plain", lambda m: m.table["plain"](5, 6, c=7)),
        ("closure", lambda m: m.closure()),
        ("cached", lambda m: m.cached()),
        ("C.method", lambda m: m.C().method()),
        ("C.static", lambda m: m.C.static()),
        ("C.build", lambda m: m.C.build()),
        ("C.value", lambda m: m.C().value),
        ("C.kept", lambda m: m.C().kept),
        ("C.Inner.method", lambda m: m.C.Inner().method()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_function_returns_none_for_every_holder(
    breaker: Any, victim: Any, name: str, call: Callable[[Any], object]
) -> None:
    """Also through tables that already hold it, caches, closures and cells."""
    assert call(victim) is not None or name == "cached"
    victim.cached.cache_clear()
    breaker.break_function(f"victim_module:{name}")
    assert call(victim) is None


@pytest.mark.parametrize(
    "target", ["victim_module", "no_such_module:f", "victim_module:nothing", "victim_module:C.number"]
)
def test_what_is_no_function_cannot_be_broken(breaker: Any, victim: Any, target: str) -> None:
    """A typing error in `breaks` is told, not passed over."""
    assert victim.C.number == 7
    with pytest.raises(LookupError, match=target.rpartition(":")[2]):
        breaker.break_function(target)


def test_programs_started_by_a_test_are_broken_too(victim: Any, tmp_path: Path) -> None:
    """The folder on PYTHONPATH and the variable break the function in a new Python; other Pythons start as ever."""
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT / 'tools' / 'breaker'}{os.pathsep}{tmp_path}"}
    printed = functools.partial(subprocess.run, capture_output=True, text=True, check=True, cwd=tmp_path)
    broken = {**environment, "FEATURE_BREAK": "victim_module:plain"}
    program = [sys.executable, "-c", "import victim_module; print(victim_module.plain(5))"]
    assert victim.plain(5) == 5
    assert printed(program, env=environment).stdout == "5\n"
    assert printed(program, env=broken).stdout == "None\n"
    elsewhere = printed([sys.executable, "-S", "-c", "print(1)"], env=broken | {"FEATURE_BREAK": "absent:f"})
    assert elsewhere.stdout == "1\n"


# ---- the proof, on a project of four tests ---------------------------------------------------------------------------

HONEST_AND_OTHERS = """
import pytest
import victim_module as v

@pytest.mark.feature("HON-01", breaks="victim_module:plain")
@pytest.mark.parametrize("x", [None, 5])
def test_honest(x):
    assert v.plain(x) == x

@pytest.mark.feature("LIE-01", breaks="victim_module:plain")
def test_liar():
    v.plain(5)

@pytest.mark.feature("SKP-01", breaks="victim_module:plain")
def test_skips():
    pytest.skip("no such thing here")

@pytest.mark.feature("SIK-01", breaks="victim_module:closure")
def test_fails_anyway():
    assert v.closure() == 4

@pytest.mark.feature("IMP-01", breaks="victim_module:gone")
def test_breaks_nothing():
    assert v.plain(5) == 5
"""


@pytest.fixture
def project(tmp_path: Path, victim: Any) -> Path:
    """A project of its own, with the real conftest and tools."""
    assert victim
    for name in ("tools", "docs", "tests"):
        (tmp_path / name).mkdir()
    shutil.copy(CHECKOUT / "tests/conftest.py", tmp_path / "tests")
    shutil.copytree(CHECKOUT / "tools/breaker", tmp_path / "tools/breaker")
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\nmarkers = feature\n", encoding="utf-8")
    (tmp_path / "tests/test_a.py").write_text(HONEST_AND_OTHERS, encoding="utf-8")
    ids = ("HON-01", "LIE-01", "SKP-01", "SIK-01", "IMP-01", "NOT-01")
    rows = "".join(f"| {name} | c | d |\n" for name in ids)
    (tmp_path / "docs/capabilities.md").write_text(rows, encoding="utf-8")
    return tmp_path


def run_tool(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, CHECKOUT / "tools/features.py", "--root", project, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_proof_tells_the_honest_from_the_others(project: Path) -> None:
    """Only the test that fails without its function proves its row; exit 1 names the rest."""
    found = run_tool(project, "prove", "--all")
    words = {line.split()[0]: line for line in found.stdout.splitlines() if line.startswith("  ")}
    assert words["HON-01"].split()[1] == "proven"
    assert words["LIE-01"].split()[1] == "SURVIVED"
    assert "still passes: tests/test_a.py::test_liar" in words["LIE-01"]
    assert "not proven" in words["SKP-01"]
    assert "INVALID" in words["SIK-01"]
    assert "fails with nothing broken" in words["SIK-01"]
    assert "INVALID" in words["IMP-01"]
    assert found.returncode == 1


def test_the_proof_is_green_when_every_row_is(project: Path) -> None:
    """Without the liars it ends with 0; a test that skips here is no proof, and no failure."""
    page = project / "docs/capabilities.md"
    page.write_text("| HON-01 | c | d |\n| SKP-01 | c | d |\n", encoding="utf-8")
    found = run_tool(project, "prove")
    assert "1 not proven, 1 proven" in found.stdout
    assert found.returncode == 0


def test_rows_can_be_chosen(project: Path) -> None:
    """An author proves the row at hand."""
    found = run_tool(project, "prove", "HON-01")
    assert found.stdout.splitlines()[-1] == "1 proven"
    assert found.returncode == 0


def test_the_summary_counts_rows_by_what_their_tests_did(project: Path) -> None:
    """Per area: proven, skipped, failing, and rows whose tests did not run; read again from the report afterwards."""
    first = run_tool(project, "show")
    counts = {line.split()[0]: line.split()[1:] for line in first.stdout.splitlines() if line[:3].isalpha()}
    assert counts["HON"] == ["1", "1", "0", "0", "0"]
    assert counts["SKP"] == ["1", "0", "1", "0", "0"]
    assert counts["SIK"] == ["1", "0", "0", "1", "0"]
    assert counts["NOT"] == ["1", "0", "0", "0", "1"]
    assert counts["all"] == ["6", "3", "1", "1", "1"]
    assert first.returncode == 1
    report = json.loads((project / "build/features.json").read_text(encoding="utf-8"))
    assert report["HON-01"] == [
        ["tests/test_a.py::test_honest[5]", "passed"],
        ["tests/test_a.py::test_honest[None]", "passed"],
    ]
    (project / "daemon").mkdir()
    assert "from the last run" in run_tool(project, "show").stdout


def test_the_draw_depends_on_the_commit_alone(features: Any) -> None:
    """The same commit draws the same rows in any order of the table; another commit draws others."""
    ids = [f"ABC-{n:02}" for n in range(40)]
    assert features.draw(ids, "c1", 10) == features.draw(reversed(ids), "c1", 10)
    assert len(set(features.draw(ids, "c1", 10))) == 10
    assert features.draw(ids, "c1", 10) != features.draw(ids, "c2", 10)
