"""The rules of the house: imports, sizes, purity, and what must never be committed."""

from __future__ import annotations

import ast
import doctest
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from chappe import core

CHECKOUT = Path(__file__).resolve().parent.parent
SOURCE = CHECKOUT / "daemon" / "chappe"
TOOLS = CHECKOUT / "tools"

MAX_FUNCTION, MAX_CLASS, MAX_MODULE = 40, 199, 399
# "file" or "file:qualname" -> why it is allowed to be larger. A reason that no longer holds makes a test fail.
LARGER: dict[str, str] = {}

# What the command line may not load before it knows that it is needed.
HEAVY = {
    "PIL", "ai_edge_litert", "amqtt", "apscheduler", "astral", "asyncio", "av", "cv2", "gpiozero", "libcamera", "numpy",
    "paho", "picamera2", "rich", "sqlite_utils", "tflite_runtime", "tomlkit",
}  # fmt: skip


def python_files(*folders: Path) -> list[Path]:
    return sorted(file for folder in folders for file in folder.rglob("*.py"))


def relative(file: Path) -> str:
    return file.relative_to(CHECKOUT).as_posix()


# ---- imports ---------------------------------------------------------------------------------------------------------


def test_imports_point_inward_and_the_core_is_pure() -> None:
    """import-linter's contracts in pyproject.toml hold."""
    program = Path(sys.executable).with_name("lint-imports")
    found = subprocess.run([program, "--no-cache"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-1000:]


def test_the_core_calls_no_built_in_that_reaches_outside() -> None:
    """What import-linter cannot see: `open`, `print` and the clock inside `datetime`."""
    outside = {"open", "print", "input", "exec", "eval", "breakpoint", "__import__"}
    clock = {"now", "utcnow", "today"}
    found = []
    for file in python_files(Path(core.__file__).parent):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            is_clock = name.split(".")[-1] in clock and name.split(".")[0] in {"datetime", "date", "dt"}
            if name in outside or is_clock:
                found.append(f"{relative(file)}:{node.lineno} {name}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("command", [["version"], ["check", "--help"]], ids=" ".join)
def test_the_command_line_starts_without_anything_heavy(command: list[str]) -> None:
    """`version` and `check --help` load no camera, no numbers, no broker client and no event loop."""
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "chappe", *command], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert found.stdout.strip()
    loaded = {line.rsplit("|", 1)[1].strip() for line in found.stderr.splitlines() if line.startswith("import time:")}
    assert "chappe.cli" in loaded, "the list of imports was not read"
    assert sorted(HEAVY & {name.split(".", 1)[0] for name in loaded}) == []


# ---- sizes -----------------------------------------------------------------------------------------------------------


def sizes(file: Path) -> Iterator[tuple[str, int, int]]:
    """Yield (name, lines, limit) of a module and of every class and function in it."""
    text = file.read_text(encoding="utf-8")
    yield relative(file), len(text.splitlines()), MAX_MODULE
    yield from _sizes_inside(ast.parse(text), relative(file) + ":")


def _sizes_inside(node: ast.AST, prefix: str) -> Iterator[tuple[str, int, int]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            limit = MAX_CLASS if isinstance(child, ast.ClassDef) else MAX_FUNCTION
            yield prefix + child.name, (child.end_lineno or child.lineno) - child.lineno + 1, limit
            yield from _sizes_inside(child, f"{prefix}{child.name}.")
        else:
            yield from _sizes_inside(child, prefix)


def test_functions_classes_and_modules_stay_small() -> None:
    """Functions up to 40 lines, classes below 200, modules below 400; exceptions are listed with their reason."""
    every = [found for file in python_files(SOURCE, TOOLS) for found in sizes(file)]
    large = {name: f"{name}: {lines} lines, at most {limit}" for name, lines, limit in every if lines > limit}
    assert not large.keys() - LARGER, "\n".join(large[name] for name in large.keys() - LARGER)
    assert sorted(set(LARGER) - set(large)) == [], "these are small now: take them off the list"


def test_sizes_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long function inside a method is found by its full name."""
    monkeypatch.setattr(sys.modules[__name__], "CHECKOUT", tmp_path)
    file = tmp_path / "a.py"
    file.write_text("class C:\n    def m(self):\n        def f():\n" + "            pass\n" * 50, encoding="utf-8")
    assert list(sizes(file)) == [("a.py", 53, 399), ("a.py:C", 53, 199), ("a.py:C.m", 52, 40), ("a.py:C.m.f", 51, 40)]


def test_nobody_sleeps() -> None:
    """Source waits on events, tests own time: `time.sleep` and `asyncio.sleep` occur nowhere."""
    found = [
        f"{relative(file)}:{node.lineno}"
        for file in python_files(SOURCE, CHECKOUT / "tests")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "sleep", "asyncio.sleep"}
    ]
    assert not found, "\n".join(found)


def modules_with_examples() -> list[str]:
    files = (file for file in python_files(SOURCE) if ">>> " in file.read_text(encoding="utf-8"))
    return [".".join(file.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__") for file in files]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_in_the_docstrings_are_true(name: str) -> None:
    """What a reader is shown is what a reader gets."""
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert results.attempted > 0
    assert results.failed == 0


# ---- what is committed -----------------------------------------------------------------------------------------------

# Written in pieces, so that this file does not find itself.
_HOSTS = (
    ("files.py", "thonhosted.org"),
    ("py", "pi.org"),
    ("pi", "wheels.org"),
    ("registry.np", "mjs."),
    ("deb.deb", "ian.org"),
    ("archive.rasp", "berrypi."),
    ("proxy.go", "lang."),
)
FORBIDDEN_TEXT = re.compile(
    "|".join(
        [
            r"(?<![\w./-])/(?:work|root)\b(?![.\w-])",
            r"(?<![\w./-])/(?:home|Users)/\w",
            r"(?<![\w./-])/tmp/\w",
            rf"\b{'fa' + 'rm'}-\w",
            *(rf"\b{re.escape(''.join(pieces))}" for pieces in _HOSTS),
        ]
    )
)


def committed_files() -> list[Path]:
    """What is committed or would be: tracked files, and new ones that nothing ignores."""
    if shutil.which("git") is None or not (CHECKOUT / ".git").exists():
        pytest.skip("not a git checkout: nothing to tell tracked files by")
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [CHECKOUT / name for name in listed.stdout.split("\0") if name and (CHECKOUT / name).is_file()]


def test_no_weights_are_committed() -> None:
    """Model weights are pulled, never committed; nor is anything else that large."""
    files = committed_files()
    assert [relative(file) for file in files if file.suffix in {".tflite", ".task", ".whl", ".onnx"}] == []
    assert [relative(file) for file in files if file.stat().st_size > 1_000_000] == []


def test_no_machine_path_and_no_registry_host_is_committed() -> None:
    """The project reads the same wherever it is checked out and wherever its packages come from."""
    found = []
    for file in committed_files():
        content = file.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8").splitlines(), 1):
            match = FORBIDDEN_TEXT.search(line)
            if match:
                found.append(f"{relative(file)}:{number} {match.group()}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "cd /wo" + "rk/main",
        '"/ro' + 'ot/.cache"',
        "/ho" + "me/pi/x",
        "open('/tm" + "p/a')",
        "https://py" + "pi.org/simple",
    ],
)
def test_such_a_path_would_be_found(text: str) -> None:
    """The search above finds what it is for."""
    assert FORBIDDEN_TEXT.search(text)


@pytest.mark.parametrize(
    "text", ["../work/x", "net/root-ca.pem", "dir='/tmp'", "a/home/b", "https://example.org/tmp/x"]
)
def test_an_innocent_path_is_not_found(text: str) -> None:
    """… and nothing else."""
    assert not FORBIDDEN_TEXT.search(text)


# ---- pages -----------------------------------------------------------------------------------------------------------


def test_generated_pages_are_current_and_links_lead_somewhere() -> None:
    """`make docs` would change nothing, and no page has a dead link."""
    found = subprocess.run([sys.executable, TOOLS / "docs.py", "--check"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_decision_is_listed() -> None:
    """A record that the list does not name is not found by who asks why."""
    folder = CHECKOUT / "docs/decisions"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert listed == sorted(file.name for file in folder.glob("[0-9]*.md"))


# ---- locks -----------------------------------------------------------------------------------------------------------


def read_lock(name: str) -> dict[str, tuple[str, int]]:
    """Return {package: (version, number of hashes)} of a lock; every line must be a pin, a hash or a comment."""
    pins: dict[str, tuple[str, int]] = {}
    package = ""
    for line in (CHECKOUT / name).read_text(encoding="utf-8").splitlines():
        pin = re.fullmatch(r"([a-z0-9-]+)==(\S+)(?: ; [^\\]+)? \\", line)
        if pin:
            package = pin[1]
            pins[package] = (pin[2], 0)
        elif re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?", line):
            pins[package] = (pins[package][0], pins[package][1] + 1)
        else:
            assert line.startswith("#"), f"{name}: neither pin nor hash: {line}"
    return pins


@pytest.mark.parametrize("name", ["lock.txt", "lock-numpy1.txt"])
def test_locks_pin_everything_by_hash(name: str) -> None:
    """Every package has its hashes, the project's own dependencies are among them, and no index is named."""
    pins = read_lock(name)
    assert [package for package, (_, hashes) in pins.items() if hashes == 0] == []
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["dev"],
        *project["build-system"]["requires"],
    ]
    assert [need for need in wanted if re.split(r"[^\w.-]", need)[0].lower() not in pins] == []


def test_the_two_locks_differ_where_they_must() -> None:
    """tflite-runtime needs numpy 1, opencv 5 needs numpy 2: they never stand in one lock."""
    new, old = read_lock("lock.txt"), read_lock("lock-numpy1.txt")
    assert new["numpy"][0].startswith("2.")
    assert new["opencv-python-headless"][0].startswith("5.")
    assert "tflite-runtime" not in new
    assert old["numpy"][0].startswith("1.")
    assert old["tflite-runtime"][0] == "2.14.0"
    assert new["ai-edge-litert"] == old["ai-edge-litert"]


def test_the_set_up_on_a_pi_leaves_apts_packages_out() -> None:
    """`tools/lockfilter.py` drops a package with its hashes and nothing else."""
    printed = subprocess.run(
        [sys.executable, TOOLS / "lockfilter.py", CHECKOUT / "lock.txt", "NumPy", "pillow", "opencv_python.headless"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    whole = (CHECKOUT / "lock.txt").read_text(encoding="utf-8").splitlines()
    gone = ("numpy", "pillow", "opencv-python-headless")
    hashes = sum(count for package, (_, count) in read_lock("lock.txt").items() if package in gone)
    assert len(whole) - len(printed) == len(gone) + hashes
    assert [line for line in printed if line.startswith(tuple(f"{name}==" for name in gone))] == []


# ---- places and words ------------------------------------------------------------------------------------------------


def test_the_file_system_below_a_path_is_told(request: pytest.FixtureRequest) -> None:
    """Tests about disks skip by this: /proc is proc, whatever is mounted around it."""
    shared = next(p for p in request.config.pluginmanager.get_plugins() if getattr(p, "NOT_A_DISK", None))
    assert shared.file_system(Path("/proc/self")) == "proc"
    assert shared.file_system(Path("/proc/no/such/file")) == "proc"
    assert shared.file_system(Path("/")) not in {"", "unknown", "proc"}


def test_a_short_folder_leaves_room_for_a_socket(short_tmp: Path) -> None:
    """A Unix socket's path has 107 characters at most."""
    assert short_tmp.is_dir()
    assert len(str(short_tmp)) < 40


def test_make_help_names_every_word() -> None:
    """One word per job, and each is explained."""
    text = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    words = re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE)[0].split()
    explained = " ".join(re.findall(r"@echo 'make (.+?)   ", text)).replace(",", " ").split()
    assert sorted(set(words) - set(explained)) == ["help"]
    assert [word for word in words if not re.search(rf"^{word}:", text, re.MULTILINE)] == []


# ---- set-up on machines that are not ready ---------------------------------------------------------------------------


@pytest.fixture
def bare_machine(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A copy of the set-up script, and an environment whose PATH holds only what a test puts there."""
    tools = tmp_path / "tools"
    programs = tmp_path / "bin"
    tools.mkdir()
    programs.mkdir()
    script = (TOOLS / "setup.sh").read_text(encoding="utf-8")
    # The machine of the test may be a good one; its own Python must stay out of sight.
    script = script.replace("SYSTEM_PYTHON=/usr/bin/python3", "SYSTEM_PYTHON=/nonexistent/python3")
    (tools / "setup.sh").write_text(script, encoding="utf-8")
    for name in ("bash", "cat", "cut", "date", "dirname", "env", "flock", "getconf", "mkdir", "rm", "sed", "sha256sum"):
        program = shutil.which(name)
        assert program
        (programs / name).symlink_to(program)
    return tools / "setup.sh", {**os.environ, "PATH": str(programs)}


def fake(environment: dict[str, str], name: str, body: str) -> None:
    program = Path(environment["PATH"]) / name
    program.unlink(missing_ok=True)
    program.write_text(f"#!{shutil.which('bash')}\n{body}\n", encoding="utf-8")
    program.chmod(0o755)


def run_setup(script: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    bash = shutil.which("bash")
    assert bash
    return subprocess.run(
        [bash, script], env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def test_setup_without_venv_and_without_root_prints_the_one_line_that_helps(
    bare_machine: tuple[Path, dict[str, str]],
) -> None:
    """Debian without python3-venv, nobody there to type a password: the apt line, exit 1, nothing half-made."""
    script, environment = bare_machine
    # A Python that fits, but whose ensurepip is in a package of its own.
    fake(environment, "python3", f"""case $2 in *ensurepip*) exit 1 ;; esac; exec {sys.executable} "$@" """)
    fake(environment, "id", "echo 1000")
    fake(environment, "apt-get", "exit 99")
    found = run_setup(script, environment)
    version = "{}.{}".format(*sys.version_info[:2])
    line = f"sudo apt-get update && sudo apt-get install -y --no-install-recommends python{version}-venv"
    assert line in found.stderr
    assert found.returncode == 1
    assert not (script.parent.parent / ".venv").exists()


def test_setup_as_root_installs_what_is_missing(bare_machine: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Root: the lists first, then the package, without a question and with patience for a lock."""
    script, environment = bare_machine
    log = tmp_path / "apt.log"
    fake(environment, "python3", f"""case $2 in *ensurepip*) exit 1 ;; esac; exec {sys.executable} "$@" """)
    fake(environment, "id", "echo 0")
    fake(environment, "apt-get", f'echo "$DEBIAN_FRONTEND $*" >> {log}')
    found = run_setup(script, environment)
    update, install = log.read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"noninteractive .*DPkg::Lock::Timeout=\d+ update", update)
    assert re.fullmatch(r"noninteractive .*-y .*DPkg::Lock::Timeout=\d+ .*install python3\.\d+-venv", install)
    # apt was a fake, so there still is no ensurepip, and that is said.
    assert "Python 3.11, 3.12 or 3.13 with venv is needed" in found.stderr
    assert found.returncode == 1


@pytest.mark.parametrize(
    ("program", "body", "said"),
    [
        ("getconf", "echo 32", "32-bit systems are not supported"),
        ("date", 'case $1 in +%s) echo 1000 ;; *) echo "1970-01-01 00:16" ;; esac', "the clock says 1970-01-01 00:16"),
    ],
    ids=["32 bit", "clock"],
)
def test_setup_refuses_a_machine_it_cannot_serve(
    bare_machine: tuple[Path, dict[str, str]], program: str, body: str, said: str
) -> None:
    """A 32-bit system, and a clock before the release (TLS would fail), are named before anything is downloaded."""
    script, environment = bare_machine
    fake(environment, program, body)
    found = run_setup(script, environment)
    assert said in found.stderr
    assert found.returncode == 1


def test_setup_passes_over_a_python_that_does_not_start(bare_machine: tuple[Path, dict[str, str]]) -> None:
    """A version manager's shim for a version that is not chosen, and one that is too old, are not taken."""
    script, environment = bare_machine
    fake(environment, "python3.13", "echo 'command not found' >&2; exit 127")
    fake(environment, "python3", """case "$1" in --version) echo Python 3.9.2 ;; *) exit 1 ;; esac""")
    fake(environment, "id", "echo 0")
    fake(environment, "apt-get", "exit 0")
    found = run_setup(script, environment)
    assert "Python 3.11, 3.12 or 3.13 with venv is needed and python3 here is Python 3.9.2" in found.stderr
    assert found.returncode == 1
