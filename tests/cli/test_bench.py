"""`chappe bench NAME`: the module is imported when it is asked for, and only that one."""

from __future__ import annotations

import argparse
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from chappe.cli.bench import BENCHES


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[argparse.Namespace]:
    """In place of `chappe.bench.streams`; gives the command lines it was run with."""
    ran: list[argparse.Namespace] = []
    module = ModuleType("chappe.bench.streams")

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="mine")
        parser.add_argument("--rounds", type=int, default=5)

    def run(args: argparse.Namespace) -> int:
        ran.append(args)
        return 7

    module.add_arguments = add_arguments  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "chappe.bench.streams", module)
    return ran


def test_a_benchmark_gets_its_own_options_and_gives_the_exit_code(chappe: Any, fake: list[argparse.Namespace]) -> None:
    """What stands after its name is parsed by what the module adds."""
    assert chappe("bench", "streams", "--rounds", "3", "--json").code == 7
    assert chappe("bench", "streams").code == 7
    assert [(args.rounds, args.json) for args in fake] == [(3, True), (5, False)]


def test_wrong_options_of_a_benchmark_are_wrong_usage(chappe: Any, fake: list[argparse.Namespace]) -> None:
    """As everywhere: exit 2, the usage on stderr."""
    ran = chappe("bench", "streams", "--rounds", "many")
    assert ran.code == 2
    assert "usage: chappe bench streams" in ran.err
    assert fake == []


@pytest.mark.parametrize("words", [["bench"], ["bench", "nothing"]], ids=" ".join)
def test_a_benchmark_must_be_named(chappe: Any, words: list[str]) -> None:
    """The ones that exist are listed."""
    ran = chappe(*words)
    assert ran.code == 2
    assert "bench" in ran.err


def test_help_lists_every_benchmark_and_imports_none() -> None:
    """`chappe bench --help` knows their names without their modules."""
    code = "import sys\nfrom chappe.cli import run\ntry: run(['bench', '--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted(name for name in sys.modules if name.startswith('chappe.bench')))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
    for name, about in BENCHES.items():
        assert name in ran.stdout
        assert about.split()[0] in ran.stdout


@pytest.mark.parametrize("name", BENCHES)
def test_each_real_benchmark_keeps_the_contract(chappe: Any, name: str) -> None:
    """It has options, a help page, and --json."""
    ran = chappe("bench", name, "--help")
    assert ran.code == 0
    assert "--json" in ran.out
    assert ran.out.startswith(f"usage: chappe bench {name}")
