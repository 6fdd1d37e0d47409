"""Keep the table of capabilities, the tests and the source honest with each other.

::

    python tools/features.py show            per area: how many rows have passing tests (make features)
    python tools/features.py prove           break what ten rows name and see their tests fail (make features-prove)
    python tools/features.py prove --all     … every row; or the ones that are named: prove VIS-05 OPS-03

A row of ``docs/capabilities.md`` is claimed by tests that carry ``@pytest.mark.feature("VIS-05", breaks="module:name")``.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
REPORT = Path("build/features.json")

# A test that waits for something a no-op never brings must have a deadline of its own below this.
HUNG_AFTER_S = 120
# All rows' tests as they are, one after the other.
UNBROKEN_S = 900

_ROW = re.compile(r"\| (?P<id>[A-Z]{3}-\d\d) \| (?P<capability>[^|]+) \| (?P<check>[^|]+) \|$")
_MOST_ARGUMENTS = 2

Outcomes = dict[str, list[tuple[str, str]]]


@dataclass(frozen=True)
class Row:
    """One capability that the project claims."""

    id: str
    capability: str
    check: str


@dataclass(frozen=True)
class Claim:
    """One marker: this test says it proves that row.

    Attributes:
        id: the row.
        breaks: ``module:qualname`` of the function without which the test must fail, or None.
        test: pytest's name of the test (a function, a class or a file), relative to the checkout.
    """

    id: str
    breaks: str | None
    test: str


# ---- reading the table and the tests ---------------------------------------------------------------------------------


def read_rows(table: Path) -> list[Row]:
    """Read the rows of a capability table.

    Raises:
        ValueError: if a line starts like a row but is none, or an id stands twice.
    """
    rows: list[Row] = []
    for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
        if not re.match(r"\| *[A-Z]{3}-", line):
            continue
        match = _ROW.match(line)
        if match is None:
            message = f"{table.name}:{number}: not a row of the form | ABC-01 | capability | check |"
            raise ValueError(message)
        rows.append(Row(**match.groupdict()))
    repeated = [name for name, n in Counter(row.id for row in rows).items() if n > 1]
    if repeated:
        message = f"{table.name}: {', '.join(repeated)} more than once"
        raise ValueError(message)
    return rows


def scan_tests(root: Path, folder: str = "tests") -> list[Claim]:
    """Find every feature marker below ``root/folder`` without importing a test.

    Raises:
        ValueError: if a marker's arguments are not texts that can be read without running the file.
    """
    claims: list[Claim] = []
    for file in sorted((root / folder).rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
        claims += _Scanner(tree).claims(tree, str(file.relative_to(root)))
    return claims


class _Scanner:
    """Reads the markers of one file; its module-level texts may be used in them."""

    def __init__(self, tree: ast.Module) -> None:
        self._texts: dict[str, str] = {}
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                text = self._text(node.value)
                if text is not None:
                    self._texts[node.targets[0].id] = text

    def claims(self, node: ast.Module | ast.ClassDef, name: str) -> Iterator[Claim]:
        """Yield the claims of a file or class: its `pytestmark`, and the decorators of what is inside."""
        for child in node.body:
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                inner = f"{name}::{child.name}"
                for decorator in child.decorator_list:
                    yield from self._claims_in(decorator, inner)
                if isinstance(child, ast.ClassDef):
                    yield from self.claims(child, inner)
            elif isinstance(child, ast.Assign) and [ast.unparse(t) for t in child.targets] == ["pytestmark"]:
                yield from self._claims_in(child.value, name)

    def _claims_in(self, expression: ast.expr, test: str) -> Iterator[Claim]:
        for call in ast.walk(expression):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.feature":
                yield self._claim(call, test)

    def _claim(self, call: ast.Call, test: str) -> Claim:
        named = {keyword.arg: keyword.value for keyword in call.keywords}
        values = [*call.args, *named.values()]
        texts = [text for text in map(self._text, values) if text is not None]
        if not set(named) <= {"breaks"} or len(texts) != len(values) or not 1 <= len(texts) <= _MOST_ARGUMENTS:
            message = f'{test} (line {call.lineno}): write feature("ABC-01", breaks="module:qualname") in plain texts'
            raise ValueError(message)
        return Claim(texts[0], texts[1] if len(texts) > 1 else None, test)

    def _text(self, node: ast.expr) -> str | None:
        """Return the text an expression stands for: a literal, a constant of the file, or an f-string of those."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else None
        if isinstance(node, ast.Name):
            return self._texts.get(node.id)
        if isinstance(node, ast.FormattedValue):
            return self._text(node.value)
        if isinstance(node, ast.JoinedStr):
            pieces = [self._text(value) for value in node.values]
            return None if None in pieces else "".join(filter(None, pieces))
        return None


# ---- running tests ---------------------------------------------------------------------------------------------------


def run_pytest(
    tests: Iterable[str], *options: str, root: Path = CHECKOUT, limit_s: float = HUNG_AFTER_S
) -> tuple[int | None, Outcomes, str]:
    """Run some tests in a process of their own.

    Returns:
        pytest's exit code (None if it took longer than ``limit_s`` and was ended), the outcomes by row, and what was
        printed.
    """
    (root / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root / "build", prefix="features-") as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += [f"--basetemp={folder}/tmp", f"--features-report={report}", *options, *tests]
        code, printed = _run(command, root, limit_s)
        outcomes = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    return code, outcomes, printed


def _run(command: Sequence[str], root: Path, limit_s: float) -> tuple[int | None, str]:
    process = subprocess.Popen(
        command, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        printed, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        # The session is its own process group: what the tests started goes with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        printed, _ = process.communicate()
        return None, printed
    return process.returncode, printed


def test_of(nodeid: str) -> str:
    """Return a node's test function: the part before the parameters."""
    return nodeid.split("[", 1)[0]


# ---- prove -----------------------------------------------------------------------------------------------------------


def draw(ids: Iterable[str], commit: str, count: int) -> list[str]:
    """Choose rows by the commit's hash: nobody picks them, and everybody gets the same ones.

    >>> draw(["A", "B", "C"], "commit", 2) == draw(["C", "A", "B"], "commit", 2)
    True
    """
    return sorted(set(ids), key=lambda name: hashlib.sha256(f"{commit} {name}".encode()).digest())[:count]


@dataclass(frozen=True)
class Verdict:
    """What became of one row and one broken function."""

    id: str
    breaks: str
    word: str  # proven | SURVIVED | INVALID | not proven
    why: str = ""

    @property
    def bad(self) -> bool:
        """Whether the proof as a whole must fail."""
        return self.word.isupper()


def prove_claims(claims: Iterable[Claim], root: Path = CHECKOUT) -> Iterator[Verdict]:
    """Run each row's tests as they are, then with each function they name broken; yield verdicts as they come."""
    wanted = [claim for claim in claims if claim.breaks]
    _, baseline, printed = run_pytest(dict.fromkeys(claim.test for claim in wanted), root=root, limit_s=UNBROKEN_S)
    groups: dict[tuple[str, str], list[str]] = {}
    for claim in wanted:
        groups.setdefault((claim.id, str(claim.breaks)), []).append(claim.test)
    for (feature, breaks), tests in groups.items():
        healthy = _healthy(baseline.get(feature, []), tests, printed)
        if healthy:
            yield Verdict(feature, breaks, *healthy)
            continue
        yield _break_and_judge(feature, breaks, tests, root)


def _healthy(outcomes: Iterable[tuple[str, str]], tests: Iterable[str], printed: str) -> tuple[str, str] | None:
    """Judge the unbroken run: None if the tests pass, so that breaking something can mean something."""
    found = [outcome for nodeid, outcome in outcomes if _belongs(nodeid, tests)]
    if not found:
        last = printed.strip().splitlines()[-1:] or ["no output"]
        return "INVALID", f"its tests do not run: {last[0]}"
    if {"failed", "error"} & set(found):
        return "INVALID", "a test fails with nothing broken"
    if "passed" not in found:
        return "not proven", "its tests skip here"
    return None


def _break_and_judge(feature: str, breaks: str, tests: Sequence[str], root: Path) -> Verdict:
    code, outcomes, printed = run_pytest(tests, "--feature-break", breaks, root=root)
    if code is None:
        return Verdict(
            feature, breaks, "INVALID", f"hung for {HUNG_AFTER_S} s with it broken: give the test a deadline"
        )
    if code not in {0, 1}:
        last = [line for line in printed.splitlines() if line.startswith(("E  ", "ERROR"))][:1] or ["no output"]
        return Verdict(feature, breaks, "INVALID", f"pytest ended with {code}: {last[0]}")
    by_test: dict[str, set[str]] = {}
    for nodeid, outcome in outcomes.get(feature, []):
        by_test.setdefault(test_of(nodeid), set()).add(outcome)
    # Of a test's many parameters some may expect what a no-op gives; one that fails is enough.
    alive = [test for test, found in by_test.items() if not {"failed", "error"} & found]
    skipped = [test for test in alive if by_test[test] == {"skipped"}]
    if not by_test or skipped:
        return Verdict(feature, breaks, "not proven", "skips with it broken: " + ", ".join(skipped))
    if alive:
        return Verdict(feature, breaks, "SURVIVED", "still passes: " + ", ".join(alive))
    return Verdict(feature, breaks, "proven", f"{len(by_test)} test{'s' * (len(by_test) > 1)} failed")


def _belongs(nodeid: str, tests: Iterable[str]) -> bool:
    return any(test_of(nodeid) == test or nodeid.startswith(f"{test}::") for test in tests)


def prove(root: Path, *, chosen: Sequence[str], everything: bool, count: int) -> int:
    """Draw rows (or take the chosen ones), prove them, print a table; 1 if a row survived or could not be judged."""
    known = {row.id for row in read_rows(root / "docs/capabilities.md")}
    claims = [claim for claim in scan_tests(root) if claim.breaks and claim.id in known]
    ids = sorted({claim.id for claim in claims})
    if chosen:
        drawn, how = [name for name in ids if name in chosen], "chosen"
    elif everything:
        drawn, how = ids, "all"
    else:
        drawn, how = draw(ids, head(root), count), f"drawn by {head(root)}"
    print(f"{len(drawn)} of {len(ids)} rows that name what they rest on ({how})", flush=True)
    verdicts = []
    for verdict in prove_claims([claim for claim in claims if claim.id in drawn], root):
        verdicts.append(verdict)
        print(f"  {verdict.id}  {verdict.word:<10}  {verdict.breaks}  ({verdict.why})", flush=True)
    words = Counter(verdict.word for verdict in verdicts)
    print(", ".join(f"{n} {word}" for word, n in sorted(words.items())) or "nothing to prove")
    return int(not verdicts or any(verdict.bad for verdict in verdicts))


def head(root: Path) -> str:
    """Return the checked-out commit, or a constant where there is none (an unpacked archive)."""
    found = subprocess.run(
        ["git", "rev-parse", "--verify", "-q", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "no commit"


# ---- show ------------------------------------------------------------------------------------------------------------


def state_of(outcomes: Iterable[tuple[str, str]]) -> str:
    """Return a row's state from the outcomes of its tests, the worst first."""
    words = {outcome for _, outcome in outcomes}
    if words & {"failed", "error"}:
        return "failing"
    if "passed" in words:
        return "proven"
    return "skipped" if words else "no test ran"


def table_of_areas(rows: Iterable[Row], outcomes: Outcomes) -> list[str]:
    """Return the printed table: per area the number of rows and their states."""
    states: dict[str, Counter[str]] = {}
    for row in rows:
        states.setdefault(row.id[:3], Counter())[state_of(outcomes.get(row.id, []))] += 1
    words = ["proven", "skipped", "failing", "no test ran"]
    lines = ["area  rows  " + "  ".join(words)]
    total: Counter[str] = Counter()
    for area, counts in [*states.items(), ("all", total)]:
        lines.append(f"{area:<4}  {counts.total():>4}  " + "  ".join(f"{counts[word]:>{len(word)}}" for word in words))
        total += counts
    return lines


def source_lines(folder: Path) -> int:
    """Count the lines of the Python files below a folder that are not blank."""
    files = (file.read_text(encoding="utf-8") for file in folder.rglob("*.py"))
    return sum(1 for text in files for line in text.splitlines() if line.strip())


def up_to_date(report: Path, root: Path) -> bool:
    """Whether no test and no source changed since the report was written."""
    files = [file for folder in ("tests", "daemon") for file in (root / folder).rglob("*.py")]
    return report.exists() and all(file.stat().st_mtime <= report.stat().st_mtime for file in files)


def show(root: Path) -> int:
    """Print per area how many rows have passing tests, and the rows that have not; 1 if a test fails."""
    rows = read_rows(root / "docs/capabilities.md")
    report = root / REPORT
    if up_to_date(report, root):
        print(f"from the last run of the tests ({REPORT})")
        outcomes: Outcomes = json.loads(report.read_text(encoding="utf-8"))
    else:
        print("running the tests that claim a row …", flush=True)
        outcomes = run_claiming_tests(root)
    print("\n".join(table_of_areas(rows, outcomes)))
    for row in rows:
        state = state_of(outcomes.get(row.id, []))
        if state != "proven":
            print(f"{row.id}: {state}")
    source, tests = source_lines(root / "daemon"), source_lines(root / "tests")
    print(f"test lines per source line: {tests / max(source, 1):.2f} ({tests} / {source}; aim 1.2)")
    return int(any(state_of(found) == "failing" for found in outcomes.values()))


def run_claiming_tests(root: Path) -> Outcomes:
    """Run every test that carries a marker and return the outcomes; what fails is printed by pytest itself."""
    tests = list(dict.fromkeys(claim.test for claim in scan_tests(root)))
    report = root / REPORT
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "--basetemp=build/pytest", f"--features-report={report}", *tests]
    subprocess.run(command, cwd=root, check=False)
    found: Outcomes = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=CHECKOUT, help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("show", help="per area, how many rows have passing tests")
    proving = commands.add_parser("prove", help="break what the rows name and see their tests fail")
    proving.add_argument("ids", nargs="*", metavar="ID", help="these rows (default: a draw by the commit's hash)")
    proving.add_argument("--all", action="store_true", help="every row instead of a draw")
    proving.add_argument("--count", type=int, default=10, help="how many rows are drawn (default: 10)")
    options = parser.parse_args(arguments)
    if options.command == "show":
        return show(options.root)
    return prove(options.root, chosen=options.ids, everything=options.all, count=options.count)


if __name__ == "__main__":
    sys.exit(main())
