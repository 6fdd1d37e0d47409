"""Which line of a TOML file set a key. tomlkit keeps every character, so the lines before an item can be counted.

Only asked when something is wrong, or for ``config show --origin``: tomlkit is a slow reader, and tomllib reads the values.
"""

from __future__ import annotations

from typing import Any


def key_lines(text: str) -> dict[str, int]:
    """Line (from 1) of every key and table of a TOML document, by dotted path.

    Args:
        text: a document that tomllib accepts.
    """
    import tomlkit

    found: dict[str, int] = {}
    _walk(tomlkit.parse(text), "", 1, found)
    return found


def _walk(container: Any, path: str, line: int, found: dict[str, int]) -> None:
    """Record the lines of `container`, whose text begins at `line`."""
    from tomlkit.items import AoT, InlineTable, Table

    body = container.body
    for key, item in body:
        if key is None:
            line += item.as_string().count("\n")
            continue
        here = ".".join(filter(None, (path, key.key)))
        if isinstance(item, Table):
            own = _header_line(item, line)
            found.setdefault(here, own)
            _walk(item.value, here, own if item.is_super_table() else own + 1, found)
            line += _height(container, key, item)
            continue
        found.setdefault(here, line + item.trivia.indent.count("\n") if not isinstance(item, AoT) else line)
        if isinstance(item, InlineTable):
            _inline(item, here, found[here], found)
        line += _height(container, key, item)


def _header_line(table: Any, line: int) -> int:
    return line + int(table.trivia.indent.count("\n"))


def _inline(table: Any, path: str, line: int, found: dict[str, int]) -> None:
    from tomlkit.items import InlineTable

    for key, item in table.value.body:
        if key is not None:
            here = f"{path}.{key.key}"
            found.setdefault(here, line)
            if isinstance(item, InlineTable):
                _inline(item, here, line, found)


def _height(container: Any, key: Any, item: Any) -> int:
    """Lines that one entry of `container` takes up: rendered alone, as tomlkit would write it into the file."""
    from tomlkit.items import AoT, Table

    if isinstance(item, Table):
        return int(container._render_table(key, item).count("\n"))  # noqa: SLF001 - no public way to render one entry
    if isinstance(item, AoT):
        return int(container._render_aot(key, item).count("\n"))  # noqa: SLF001 - no public way to render one entry
    return int(container._render_simple_item(key, item).count("\n"))  # noqa: SLF001 - no public way to render one entry
