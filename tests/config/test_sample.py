"""The commented sample and the examples: they work, and the sample leaves nothing out."""

from __future__ import annotations

import json
import re
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from chappe.config import load
from chappe.core.settings import Config
from chappe.core.units import Span

CHECKOUT = Path(__file__).resolve().parents[2]
SAMPLE = CHECKOUT / "config/chappe.toml"
FILES = sorted(path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "config").rglob("*.toml"))


def sample() -> tuple[dict[str, Any], dict[str, Any]]:
    """The sample as it is, and with every "# " taken off that hides a key or a table."""
    text = SAMPLE.read_text(encoding="utf-8")
    return tomllib.loads(text), tomllib.loads(re.sub(r"(?m)^# (?=\[[a-z]|[a-z_]+ = )", "", text))


def struct_of(kind: Any) -> type[msgspec.Struct] | None:
    """The section in a field's type, also as the value of a table of named sections."""
    for member in (kind, *typing.get_args(kind)):
        if isinstance(member, type) and issubclass(member, msgspec.Struct):
            return member
    return None


def sections() -> Iterator[tuple[str, bool, type[msgspec.Struct]]]:
    """(name, whether it is a table of named ones, struct) of every section."""
    for field in msgspec.structs.fields(Config):
        struct = struct_of(field.type)
        if struct is not None:
            yield field.encode_name, typing.get_origin(field.type) is dict, struct


@pytest.mark.feature("OPS-03", breaks="chappe.config.load:_read")
@pytest.mark.parametrize("name", FILES)
def test_every_configuration_we_ship_is_valid(name: str) -> None:
    """For the loader, and against the tracked schema that editors use."""
    schema = json.loads((CHECKOUT / "config/chappe.schema.json").read_text(encoding="utf-8"))
    assert [layer.name for layer in load(CHECKOUT / name, environ={}).layers if layer.data] == [str(CHECKOUT / name)]
    jsonschema.Draft202012Validator(schema).validate(tomllib.loads((CHECKOUT / name).read_text(encoding="utf-8")))


def test_there_are_examples() -> None:
    """The parametrized test above has something to look at."""
    assert {"config/chappe.toml", "config/demo.toml"} < set(FILES)
    assert len([name for name in FILES if name.startswith("config/examples/")]) >= 3


@pytest.mark.parametrize("name", FILES)
def test_its_first_line_names_the_schema(name: str) -> None:
    """So that an editor completes and checks it."""
    file = CHECKOUT / name
    first, _, _ = file.read_text(encoding="utf-8").partition("\n")
    assert first.startswith("#:schema ")
    assert (file.parent / first.removeprefix("#:schema ")).resolve() == CHECKOUT / "config/chappe.schema.json"


def test_the_sample_names_every_key() -> None:
    """Every section, and every key of every section, stands in it, commented out or not."""
    _, whole = sample()
    missing = []
    for name, named, struct in sections():
        tables = list(whole.get(name, {}).values()) if named else [whole.get(name, {})]
        seen = set().union(*tables)
        missing += [
            f"{name}.{field.encode_name}" for field in msgspec.structs.fields(struct) if field.encode_name not in seen
        ]
    assert missing == []
    assert {field.encode_name for field in msgspec.structs.fields(Config)} == set(whole)


def test_the_sample_shows_true_defaults() -> None:
    """A key that is commented out shows its default; where there is none it shows an example."""
    plain, whole = sample()
    wrong = []
    for name, named, struct in sections():
        for field in () if named else msgspec.structs.fields(struct):
            if field.encode_name in plain.get(name, {}) or field.default in (None, ""):
                continue
            shown = whole[name][field.encode_name]
            default = str(field.default) if isinstance(field.default, Span) else field.default
            if shown != default and not (default == () and shown):
                wrong.append(f"{name}.{field.encode_name}: {shown!r}, but the default is {default!r}")
    assert wrong == []


def test_the_sample_can_be_uncommented_line_by_line() -> None:
    """With every "#" removed each key is still of its type: the values are examples that work."""
    from chappe.config.convert import convert

    _, whole = sample()
    _, problems = convert(Config, whole)
    assert problems == []
