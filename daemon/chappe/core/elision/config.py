"""The ``elide = {…}`` table of the configuration, and what may stand in it for each policy."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from chappe.core.units import Span

PolicyName = Literal[
    "none",
    "latest",
    "change",
    "deadband",
    "debounce",
    "sample",
    "throttle_first",
    "aggregate",
    "swinging_door",
]

_FIELD = re.compile(r"\{([A-Za-z_]\w*)\}")


class Elide(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How one stream (or one input of a rule) is elided.

    Attributes:
        policy: what is sent; see the table of the package.
        every: the interval of `latest`, `sample`, `throttle_first` and `aggregate`.
        quiet: silence after which `debounce` sends.
        max_wait: the longest `debounce` lets a value wait while the source never falls silent.
        max_keys: keys that are followed at the same time; values of further keys pass un-elided and are counted.
        heartbeat: `change` and `deadband` release the newest held value when nothing was sent for this long.
        fields: the only fields `change` compares; empty: all.
        ignore: fields `change` does not compare.
        abs: band of `deadband` in units of the value.
        pct: band of `deadband` in percent of the last sent value.
        pct_range: band of `deadband` in percent of the width of `range`.
        range: lowest and highest value of the measuring range, for `pct_range`.
        bypass: a change of this field goes out at once, whatever the policy says.
        key: template over the fields of the data, like ``"{entity}"``; empty: one key for the stream.
        tolerance: how far a value that `swinging_door` leaves out may lie from the line between its neighbours.
        max_gap: `swinging_door` sends the newest value when nothing was sent for this long.
    """

    policy: PolicyName = "none"
    every: Span | None = None
    quiet: Span | None = None
    max_wait: Span | None = None
    max_keys: int = 256
    heartbeat: Span | None = None
    fields: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    abs: float | None = None
    pct: float | None = None
    pct_range: float | None = None
    range: tuple[float, float] | None = None
    bypass: str | None = None
    key: str = ""
    tolerance: float | None = None
    max_gap: Span | None = None

    def key_of(self, data: Mapping[str, Any]) -> str:
        """The key of a value: the template with its fields filled in; a missing field is empty.

        >>> Elide(key="{room}/{entity}").key_of({"room": "hall", "entity": 7})
        'hall/7'
        """
        return _FIELD.sub(lambda match: str(data.get(match[1], "")), self.key) if self.key else ""


_TABLE = ("max_keys", "key")
_BANDS = ("abs", "pct", "pct_range")

# Of each policy: the required parameters, and the optional ones.
PARAMETERS: Mapping[PolicyName, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "none": ((), ()),
    "latest": (("every",), ("bypass", *_TABLE)),
    "sample": (("every",), ("bypass", *_TABLE)),
    "throttle_first": (("every",), ("bypass", *_TABLE)),
    "debounce": (("quiet", "max_wait"), ("bypass", *_TABLE)),
    "change": ((), ("fields", "ignore", "heartbeat", "bypass", *_TABLE)),
    "deadband": ((), (*_BANDS, "range", "heartbeat", "bypass", *_TABLE)),
    "swinging_door": (("tolerance",), ("max_gap", "bypass", *_TABLE)),
    # A summary stands for its whole window, so no single value can step out of it.
    "aggregate": (("every",), _TABLE),
}

_EXAMPLES: Mapping[str, str] = {
    "every": '"1s"',
    "quiet": '"2s"',
    "max_wait": '"10s"',
    "tolerance": "0.5",
    "abs": "0.5",
    "range": "[0, 100]",
}

_POSITIVE = ("every", "quiet", "max_wait", "heartbeat", "max_gap", "max_keys", *_BANDS, "tolerance")

_DEFAULTS = Elide()

Finding = tuple[str, str, str]
"""Key inside the ``elide`` table, problem code, message."""


def problems(elide: Elide) -> list[Finding]:
    """Everything that is wrong with `elide`, as (key, code, message); empty when it can be used.

    >>> problems(Elide(policy="debounce", quiet=Span.parse("2s")))
    [('max_wait', 'missing', 'policy "debounce" needs max_wait; add for example max_wait = "10s"')]
    """
    return [*_missing(elide), *_foreign(elide), *_out_of_range(elide), *_contradictions(elide)]


def _given(elide: Elide, name: str) -> bool:
    return bool(getattr(elide, name) != getattr(_DEFAULTS, name))


def _missing(elide: Elide) -> Iterator[Finding]:
    required, _ = PARAMETERS[elide.policy]
    for name in required:
        if not _given(elide, name):
            example = f"{name} = {_EXAMPLES[name]}"
            yield name, "missing", f'policy "{elide.policy}" needs {name}; add for example {example}'
    if elide.policy == "deadband" and not any(_given(elide, name) for name in _BANDS):
        yield (
            "abs",
            "missing",
            f'policy "deadband" needs one of abs, pct, pct_range; add for example abs = {_EXAMPLES["abs"]}',
        )
    if elide.pct_range is not None and elide.range is None:
        yield "range", "missing", f"pct_range needs the measuring range; add for example range = {_EXAMPLES['range']}"


def _foreign(elide: Elide) -> Iterator[Finding]:
    required, optional = PARAMETERS[elide.policy]
    for name in elide.__struct_fields__:
        if name != "policy" and name not in required and name not in optional and _given(elide, name):
            known = ", ".join((*required, *optional)) or "no parameters"
            yield name, "conflict", f'policy "{elide.policy}" does not use {name}; remove it (it knows: {known})'


def _out_of_range(elide: Elide) -> Iterator[Finding]:
    for name in _POSITIVE:
        value = getattr(elide, name)
        if value is not None and not 0 < value < math.inf:
            yield name, "range", f"{name} must be greater than 0, not {value}"
    if elide.range is not None and not -math.inf < elide.range[0] < elide.range[1] < math.inf:
        yield "range", "range", f"range must be [lowest, highest], not {list(elide.range)}"


def _contradictions(elide: Elide) -> Iterator[Finding]:
    bands = [name for name in _BANDS if _given(elide, name)]
    for name in bands[1:]:
        yield name, "conflict", f"{bands[0]} and {name} both set the band; keep one of them"
    if elide.fields and elide.ignore:
        yield "ignore", "conflict", "fields already says what is compared; remove ignore or fields"
    if elide.range is not None and elide.pct_range is None:
        yield "range", "conflict", "range is only used with pct_range; remove it"
    if elide.quiet is not None and elide.max_wait is not None and elide.max_wait < elide.quiet:
        yield "max_wait", "range", f"max_wait ({elide.max_wait}) must not be shorter than quiet ({elide.quiet})"
    if re.search(r"[{}]", _FIELD.sub("", elide.key)):
        yield "key", "syntax", f'{elide.key!r} is not a template; write fields in braces, like "{{entity}}"'
