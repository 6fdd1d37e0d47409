"""Every command line on a page exists, is understood, and, where that is cheap, does what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chappe.cli import COMMANDS, build_parser
from chappe.config import loads
from chappe.core.topics import Topics, validate_filter
from chappe.errors import Exit

from .pages import CHECKOUT, Block, Command, commands, every_block, inline_commands, sections, table, text_of

CHAPPE = [each for each in commands() if each.words[0] == "chappe"]
MAKE = [each for each in commands() if each.words[0] == "make"]
OTHERS = [each for each in commands() if each.words[0] not in {"chappe", "make"}]

# Programs of the system that the pages use; everything else would be a typing error.
SYSTEM = {"sudo", "mosquitto_sub", "mosquitto_pub", "."}

# Command lines that a test may run as they stand in a checkout: nothing is changed, and no network is needed.
RUN = {
    "version": 0,
    "config schema": 0,
    "config validate config/chappe.toml": 0,
    "config validate config/demo.toml": 0,
    "config show": 0,
    "config show --origin": 0,
    "config show --origin --config config/demo.toml": 0,
    "models list": 0,
    "check --config config/demo.toml --skip broker": None,
    "status": Exit.UNAVAILABLE,
    "identify": Exit.UNAVAILABLE,
    "camera off": Exit.UNAVAILABLE,
    "detect config/frames/Victory.png": 0,
}


def test_the_pages_have_commands() -> None:
    """The search below finds what it is for."""
    assert len(CHAPPE) > 15
    assert len(MAKE) > 4
    assert len(OTHERS) > 4


@pytest.mark.parametrize("each", CHAPPE, ids=str)
def test_a_chappe_command_line_is_understood(each: Command) -> None:
    """argparse knows every command, option and argument."""
    assert hasattr(build_parser().parse_args(each.words[1:]), "run")


@pytest.mark.parametrize(
    "page", ["README.md", "ARCHITECTURE.md", "docs/install.md", "docs/troubleshooting.md", "NOTICE"]
)
def test_commands_in_the_prose_exist(page: str) -> None:
    """A command named in passing is one too: its first word, and the second where it has actions."""
    parser = build_parser()
    for text in inline_commands(page):
        first, *rest = text.removeprefix("chappe ").split()
        assert first in COMMANDS, text
        choices = parser._subparsers._group_actions[0].choices[first]._subparsers  # type: ignore[union-attr,index]
        if choices is not None and rest:
            assert rest[0] in choices._group_actions[0].choices, text


@pytest.mark.parametrize("each", MAKE, ids=str)
def test_a_make_target_exists(each: Command) -> None:
    """Every word that is no variable is a target of the Makefile."""
    targets = re.search(r"^\.PHONY: (.+)$", text_of("Makefile"), re.MULTILINE)[1].split()
    assert [word for word in each.words[1:] if "=" not in word and word not in targets] == []


@pytest.mark.parametrize("each", OTHERS, ids=str)
def test_other_programs_are_the_systems(each: Command) -> None:
    """No program that nobody has; topics and filters that it is given are valid, and the device's own."""
    assert each.words[0] in SYSTEM
    for option, value in zip(each.words, each.words[1:], strict=False):
        if option == "-t":
            validate_filter(value)
            assert value == "chappe/#" or Topics("chappe", "tower-1").incoming(value)


def test_every_command_is_listed() -> None:
    """README's table names every command of the program."""
    listed = " ".join(row[0] for row in table(text_of("README.md"), "command"))
    assert [name for name in COMMANDS if not re.search(rf"`(?:chappe )?{name}\b", listed)] == []


def test_exit_codes_are_told_right() -> None:
    """The table of exit codes is the error tree's."""
    rows = table(text_of("docs/troubleshooting.md"), "code")
    assert [int(row[0]) for row in rows] == sorted(Exit)


def chappe(words: tuple[str, ...], home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    hidden = ("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "CHAPPE_CONFIG")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in hidden and not (name.startswith("CHAPPE_") and "__" in name)
    }
    return subprocess.run(
        [sys.executable, "-m", "chappe", *words],
        cwd=CHECKOUT,
        env=kept | {"HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("line", RUN)
def test_it_does_what_the_page_says(line: str, tmp_path: Path) -> None:
    """As it stands there, in a checkout, with an empty home; nothing is a bug."""
    if line.startswith(("check", "detect")) and len(list((CHECKOUT / "models").glob("*.tflite"))) < 6:
        pytest.skip("the model files are missing: run `make models`")
    done = chappe(tuple(line.split()), tmp_path)
    expected = RUN[line]
    assert done.returncode in ({0, 1} if expected is None else {expected}), done.stderr
    assert bool(done.stdout) == (done.returncode in {0, 1})
    assert "Traceback" not in done.stderr


def test_the_environment_is_set_as_the_page_says(tmp_path: Path) -> None:
    """`CHAPPE_MQTT__HOST=… chappe config show` shows that host."""
    (shown,) = [each for each in CHAPPE if each.environment]
    done = chappe(shown.words[1:], tmp_path, **dict(shown.environment))
    assert 'mqtt.host = "broker.example"' in done.stdout.splitlines()


def test_what_is_run_is_on_a_page() -> None:
    """The list above is not longer than the pages."""
    lines = {" ".join(each.words[1:]) for each in CHAPPE}
    aside = {"check --config config/demo.toml --skip broker"}
    assert sorted(set(RUN) - lines - aside) == []


@pytest.mark.parametrize("block", every_block("toml"), ids=str)
def test_every_configuration_on_a_page_is_valid(block: Block) -> None:
    """It can be copied into a file and is accepted."""
    assert loads(block.text).config


def test_the_first_line_of_the_readme_names_what_the_two_commands_cannot_bring() -> None:
    """git and make; and the two commands come next."""
    readme = text_of("README.md")
    assert readme.splitlines()[2].startswith("Needs `sudo apt install -y git make`")
    first = [each.words for each in commands() if each.place.startswith("README")][:2]
    assert first == [("make", "demo"), ("make", "test")]


def test_the_demo_in_the_readme_is_what_the_program_draws() -> None:
    """The head, the names of the facts and the headings of the books are the program's own."""
    from chappe.demo.board import Scene
    from chappe.demo.view import HEADINGS

    shown = next(block for block in every_block("text") if "tower-1 ─" in block.text).text.splitlines()
    scene = Scene("tower-1", "chappe/tower-1", "chappe", "mosquitto on 127.0.0.1:56827", 56827)
    assert shown[: len(scene.lines)] == list(scene.lines)
    facts = [line.split()[1] for line in shown if line.startswith("│")]
    assert facts == ["camera", "gesture", "signal", "lamps", "link", "faults"]
    assert tuple(next(line for line in shown if line.startswith(" stream")).split()) == HEADINGS
    for line in shown:
        numbers = re.fullmatch(r" \w+ +\w+ +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)", line)
        if numbers:
            produced, *rest = map(int, numbers.groups())
            assert produced == sum(rest)


def test_no_invented_figure() -> None:
    """What is measured names the command that measures it."""
    rows = table(text_of("README.md"), "figure")
    commands = [row[1].strip("`") for row in rows]
    tests = {command for command in commands if command.startswith("pytest ")}
    assert all(re.fullmatch(r"(?:chappe|make) bench[a-z ]*", command) for command in commands if command not in tests)
    assert all((CHECKOUT / command.split()[1]).is_file() for command in tests)
    assert all(row[2].strip() for row in rows), "a figure without its result says nothing"


def test_sections_that_other_pages_point_to() -> None:
    """README says what works and what does not yet."""
    assert {"What works today, and what does not yet", "Topics", "Commands", "What is measured"} <= set(
        sections(text_of("README.md"))
    )
