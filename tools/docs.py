"""Write the generated pages again, and see that every link inside the project leads somewhere.

::

    python tools/docs.py            write what is generated, check the links (make docs)
    python tools/docs.py --check    write nothing; 1 if a generated page is out of date or a link is dead
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

# page -> what prints it (arguments of chappe)
GENERATED = {"config/chappe.schema.json": ["config", "schema"]}

_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]\n]*\]\((?P<target>[^)\s]+)(?: \"[^\"]*\")?\)")
_HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)


def pages(root: Path) -> list[Path]:
    """Return the project's Markdown pages."""
    folders = [file for folder in ("docs", "config", "models", "systemd") for file in (root / folder).rglob("*.md")]
    return sorted([*root.glob("*.md"), *folders])


def dead_links(page: Path) -> Iterator[str]:
    """Yield the links of a page that lead to no file or no heading; links to the outside are not followed.

    >>> import tempfile
    >>> page = Path(tempfile.mkdtemp()) / "a.md"
    >>> _ = page.write_text("# The one\\n[ok](#the-one) [ok](a.md#the-one) [bad](b.md) [bad](#two) `[code](x)`")
    >>> list(dead_links(page))
    ['b.md', '#two']
    """
    for link in _LINK.finditer(_CODE.sub("", page.read_text(encoding="utf-8"))):
        target = link["target"]
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            yield target


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as the common renderers make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    words = (re.sub(r"[^\w\- ]", "", heading["text"].lower()) for heading in _HEADING.finditer(text))
    return {word.strip().replace(" ", "-") for word in words}


def generate(arguments: Sequence[str]) -> str:
    """Return what a command of chappe prints; its error, if any, goes to stderr."""
    found = subprocess.run([sys.executable, "-m", "chappe", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode:
        sys.exit(f"chappe {' '.join(arguments)} failed")
    return found.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(arguments).check
    wrong = []
    for name, command in GENERATED.items():
        page, text = CHECKOUT / name, generate(command)
        if page.exists() and page.read_text(encoding="utf-8") == text:
            continue
        if check:
            wrong.append(f"{name}: out of date; run make docs")
        else:
            page.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    for page in pages(CHECKOUT):
        wrong += [f"{page.relative_to(CHECKOUT)}: dead link {link}" for link in dead_links(page)]
    print("\n".join(wrong) or "every link leads somewhere")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
