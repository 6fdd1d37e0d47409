"""Which line of a file set a key, for documents of every shape that TOML allows."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chappe.config.lines import key_lines

Draw = Callable[[st.SearchStrategy[Any]], Any]


def leaves(data: Any, path: str = "") -> Iterator[str]:
    """Every key and table, by dotted path; what lies inside arrays has none."""
    if isinstance(data, dict):
        for key, value in data.items():
            here = f"{path}.{key}" if path else key
            yield here
            yield from leaves(value, here)


class Writer:
    """Writes a document line by line and notes where each key was first set."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.lines: list[str] = []
        self.expected: dict[str, int] = {}
        self.names = (f"k{number}" for number in itertools.count())

    def add(self, text: str, *paths: str) -> None:
        """Write `text`, whose first line sets `paths`."""
        for path in paths:
            self.expected.setdefault(path, len(self.lines) + 1)
        self.lines += text.split("\n")

    def filler(self) -> None:
        for line in self.draw(st.lists(st.sampled_from(("", "# k0 = 1", "  # [k1]", "   ")), max_size=2)):
            self.add(line)

    def keys(self, table: str, depth: int = 0) -> None:
        """Some keys of the table whose header has just been written."""
        for _ in range(self.draw(st.integers(0, 3))):
            self.filler()
            kind = self.draw(st.sampled_from(("plain", "string", "array", "inline", "dotted", "quoted")))
            getattr(self, f"_{kind}")(f"{table}." if table else "", self.draw(st.sampled_from(("", "  "))))

    def _plain(self, prefix: str, indent: str) -> None:
        name = next(self.names)
        self.add(f"{indent}{name} = 1{self.draw(st.sampled_from(('', '  # why = 1')))}", prefix + name)

    def _quoted(self, prefix: str, indent: str) -> None:
        name = next(self.names)
        self.add(f'{indent}"{name}" = "[no_table]"', prefix + name)

    def _string(self, prefix: str, indent: str) -> None:
        name = next(self.names)
        self.add(f'{indent}{name} = """\nk0 = 1\n[k1]\n"""', prefix + name)

    def _array(self, prefix: str, indent: str) -> None:
        name = next(self.names)
        self.add(f"{indent}{name} = [\n  1, # one\n\n  2,\n]", prefix + name)

    def _inline(self, prefix: str, indent: str) -> None:
        name, a, b, c = (next(self.names) for _ in range(4))
        paths = [prefix + name, f"{prefix}{name}.{a}", f"{prefix}{name}.{b}", f"{prefix}{name}.{b}.{c}"]
        self.add(f"{indent}{name} = {{ {a} = 1, {b} = {{ {c} = [2, 3] }} }}", *paths)

    def _dotted(self, prefix: str, indent: str) -> None:
        name, a, b = (next(self.names) for _ in range(3))
        self.add(f"{indent}{name}.{a} = 1", prefix + name, f"{prefix}{name}.{a}")
        if self.draw(st.booleans()):
            self.filler()
            self.add(f"{indent}{name}.{b} = 2", f"{prefix}{name}.{b}")


@st.composite
def documents(draw: Any) -> tuple[str, dict[str, int]]:
    """A document and the line of each of its keys."""
    writer = Writer(draw)
    writer.filler()
    writer.keys("")
    tables: list[str] = []
    for _ in range(draw(st.integers(0, 5))):
        writer.filler()
        # A table below one that came before, directly after it or later: tables may stand in any order.
        parent = draw(st.sampled_from(["", *tables]))
        name = next(writer.names)
        if draw(st.booleans()):
            path = f"{parent}.{name}" if parent else name
            writer.add(f"[{path}]", path)
            tables.append(path)
            writer.keys(path)
        elif not parent:
            # tomlkit itself moves a table that comes back to its parent after an array of tables; ours has no such arrays.
            tables.clear()
            for _ in range(draw(st.integers(1, 2))):
                writer.add(f"[[{name}]]", name)
                writer.add("inside = 1")
        else:
            deep = next(writer.names)
            writer.add(f"[{parent}.{name}.{deep}]", f"{parent}.{name}", f"{parent}.{name}.{deep}")
            tables.append(f"{parent}.{name}.{deep}")
            writer.keys(f"{parent}.{name}.{deep}")
    return "\n".join(writer.lines) + draw(st.sampled_from(("", "\n"))), writer.expected


@given(documents())
def test_every_key_is_found_on_the_line_that_sets_it(document: tuple[str, dict[str, int]]) -> None:
    """Tables, dotted and quoted keys, inline tables, arrays and strings over lines, arrays of tables, any order, comments."""
    text, expected = document
    assert set(leaves(tomllib.loads(text))) == set(expected), "the test's own document is wrong"
    assert key_lines(text) == expected


def test_a_document_of_ours() -> None:
    """An example that can be counted by hand."""
    text = """# first light
[mqtt]            # 2
host = "a"

port = 1884       # 5

[streams.tick]    # 7
elide = { policy = "latest", every = "1s" }
[device]
id = "x"

[streams.temp]    # 12
class = "log"
"""
    assert key_lines(text) == {
        "mqtt": 2,
        "mqtt.host": 3,
        "mqtt.port": 5,
        "streams": 7,
        "streams.tick": 7,
        "streams.tick.elide": 8,
        "streams.tick.elide.policy": 8,
        "streams.tick.elide.every": 8,
        "device": 9,
        "device.id": 10,
        "streams.temp": 12,
        "streams.temp.class": 13,
    }
