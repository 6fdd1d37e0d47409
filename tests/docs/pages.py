"""Reading the pages: code blocks, command lines and tables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = sorted([CHECKOUT / "README.md", CHECKOUT / "ARCHITECTURE.md", *(CHECKOUT / "docs").glob("*.md")])

_BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        page: where it stands.
        line: line of its first line, from 1.
        info: what follows the opening fence: the language, then words.
    """

    page: str
    line: int
    info: str
    text: str

    @property
    def language(self) -> str:
        return self.info.split()[0] if self.info else ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def text_of(name: str) -> str:
    return (CHECKOUT / name).read_text(encoding="utf-8")


def blocks(page: Path) -> list[Block]:
    """Every code block of a page."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(CHECKOUT).as_posix()
    return [
        Block(name, text.count("\n", 0, found.start("text")) + 1, found["info"], found["text"])
        for found in _BLOCK.finditer(text)
    ]


def every_block(language: str) -> list[Block]:
    """Every code block of a language, on all pages."""
    return [block for page in PAGES for block in blocks(page) if block.language == language]


@dataclass(frozen=True)
class Command:
    """A command line that a reader would type.

    Attributes:
        place: page and line.
        words: its words, comments and redirections left out.
        environment: variables set in front of it.
    """

    place: str
    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.place} {' '.join(self.words)}"


def commands() -> Iterator[Command]:
    """Every line after a ``$`` in a console block."""
    for block in every_block("console"):
        for number, line in enumerate(block.text.splitlines()):
            if line.startswith("$ "):
                yield command(f"{block.page}:{block.line + number}", line[2:])


def command(place: str, line: str) -> Command:
    words = shlex.split(line, comments=True)
    environment = []
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        environment.append((name, value))
    return Command(place, tuple(words), tuple(environment))


def inline_commands(page: str) -> list[str]:
    """Texts of code spans that begin with ``chappe``."""
    prose = _BLOCK.sub("", text_of(page))
    return [found for found in re.findall(r"`([^`\n]+)`", prose) if found.startswith("chappe ")]


def tables(text: str) -> list[tuple[list[str], list[list[str]]]]:
    """Every table as (headings, rows of cells)."""
    found: list[tuple[list[str], list[list[str]]]] = []
    rows: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            found.append((rows[0], rows[2:]))
            rows = []
    return found


def table(text: str, first_heading: str) -> list[list[str]]:
    """The rows of the one table whose first column has this heading."""
    (rows,) = [rows for headings, rows in tables(text) if headings[0] == first_heading]
    return rows


def sections(text: str) -> dict[str, str]:
    """Each second-level section's text by its heading."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def code(cell: str) -> str:
    """The text of a cell that is one code span."""
    match = re.fullmatch(r"`([^`]+)`", cell)
    assert match, f"{cell!r} is no code span"
    return match[1]
