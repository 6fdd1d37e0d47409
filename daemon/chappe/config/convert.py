"""From plain data to typed sections, collecting every problem on the way.

msgspec stops at the first error. An owner who sees one error an upload will not forgive the sixth, so this walker takes a struct
apart, converts each value alone with msgspec, and goes on after a failure.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from chappe.core.settings import decode_hook
from chappe.core.units import Span
from chappe.errors import Problem

SECRET_KEYS = {"password": "password_file", "token": "token_file"}


def convert(kind: type[Any], data: Mapping[str, Any], path: str = "") -> tuple[Any, list[Problem]]:
    """Build a section out of plain data.

    Args:
        kind: the struct to build.
        data: keys as the owner wrote them.
        path: dotted path of `data`, for messages.

    Returns:
        The section (None if anything is wrong) and all problems, without file and line.
    """
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key, value in data.items():
        here = f"{path}.{key}" if path else key
        field = fields.get(key)
        if field is None:
            problems.append(_unknown(here, key, fields))
            continue
        made, found = _value(field.type, value, here)
        problems += found
        if not found:
            values[field.name] = made
    problems += _missing(fields.values(), data, path)
    return (None if problems else kind(**values)), problems


def _unknown(path: str, key: str, fields: Mapping[str, Any]) -> Problem:
    if key in SECRET_KEYS:
        remedy = SECRET_KEYS[key]
        return Problem(
            path, "secret", f"secrets do not belong in the configuration; put it in a file and name it with `{remedy}`"
        )
    close = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(sorted(fields))}"
    return Problem(path, "unknown_key", f"unknown key; {hint}")


def _missing(fields: Any, data: Mapping[str, Any], path: str) -> Iterator[Problem]:
    for field in fields:
        if field.required and field.encode_name not in data:
            yield Problem(f"{path}.{field.encode_name}", "missing", "this key is required here")


def _value(kind: Any, value: Any, path: str) -> tuple[Any, list[Problem]]:
    if typing.get_origin(kind) is dict and isinstance(value, Mapping):
        return _table(kind, value, path)
    if (section := _section_in(kind)) is not None and isinstance(value, Mapping):
        return convert(section, value, path)
    try:
        return msgspec.convert(value, kind, dec_hook=decode_hook), []
    except (msgspec.ValidationError, ValueError) as error:
        return None, [_problem(path, value, kind, str(error))]


def _section_in(kind: Any) -> type[Any] | None:
    """The struct in `kind`, also inside a union such as ``Elide | Literal["none"] | None``."""
    for member in (kind, *typing.get_args(kind)):
        if isinstance(member, type) and issubclass(member, msgspec.Struct):
            return member
    return None


def _table(kind: Any, value: Mapping[str, Any], path: str) -> tuple[dict[str, Any], list[Problem]]:
    key_kind, entry_kind = typing.get_args(kind)
    made: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, entry in value.items():
        here = f"{path}.{name}"
        try:
            msgspec.convert(name, key_kind)
        except msgspec.ValidationError:
            problems.append(
                Problem(here, "range", "names are a-z, 0-9, - and _, beginning with a letter or digit, at most 64 long")
            )
            continue
        made[name], found = _value(entry_kind, entry, here)
        problems += found
    return made, problems


def _problem(path: str, value: Any, kind: Any, text: str) -> Problem:
    """Msgspec's words, shorter, with the value and where it can be guessed a suggestion."""
    text = text.split(" - at `$", maxsplit=1)[0].rstrip()
    choices = _choices(kind)
    if choices and isinstance(value, str):
        close = difflib.get_close_matches(value, choices, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return Problem(path, "range", f"{value!r} is not one of {', '.join(map(repr, choices))}{hint}")
    code = "type" if text.startswith("Expected") and "got" in text else "range"
    if kind is Span or Span in typing.get_args(kind):
        code = "range" if isinstance(value, str) else "type"
    return Problem(path, code, text if repr(value) in text else f"{text} (found {value!r})")


def _choices(kind: Any) -> list[str]:
    found: list[str] = []
    for member in (kind, *typing.get_args(kind)):
        if typing.get_origin(member) is typing.Literal:
            found += [choice for choice in typing.get_args(member) if isinstance(choice, str) and choice]
    return found
