"""The JSON Schema of the configuration, made from the structs that read it."""

from __future__ import annotations

import functools
import inspect
import operator
import types
import typing
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from chappe.core.settings import Config
from chappe.core.units import Span

SPAN = Annotated[
    str, Meta(pattern=r"^(\d+(\.\d+)?(ms|s|m|h|d|w))+$", description='a duration such as "250ms", "1s" or "7d"')
]


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a configuration file; editors complete and check with it."""
    schema = msgspec.json.schema(_as_written(Config))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Chappe configuration", **schema}


@functools.cache
def _as_written(kind: Any) -> Any:
    """The type of a key as it stands in the file, where durations are text: msgspec cannot write a default of another type."""
    if kind is Span:
        return SPAN
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _struct_as_written(kind)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, (_as_written(member) for member in inner))
    if origin in (dict, tuple):
        return origin[tuple(_as_written(member) if member is not Ellipsis else ... for member in inner)]
    return kind


def _struct_as_written(kind: type[msgspec.Struct]) -> Any:
    fields = []
    for field in msgspec.structs.fields(kind):
        entry: tuple[Any, ...] = (field.name, _as_written(field.type))
        if not field.required:
            default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
            entry = (*entry, msgspec.field(default=_default(default), name=field.encode_name))
        fields.append(entry)
    doc = {"__doc__": inspect.cleandoc(kind.__doc__ or "")}  # Python 3.13 strips the indentation by itself
    return msgspec.defstruct(
        kind.__name__, fields, forbid_unknown_fields=True, kw_only=True, frozen=True, namespace=doc
    )


def _default(value: Any) -> Any:
    if isinstance(value, Span):
        return str(value)
    return _struct_as_written(type(value))() if isinstance(value, msgspec.Struct) else value
