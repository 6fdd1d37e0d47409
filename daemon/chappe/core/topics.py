"""The topics of one device, and exact MQTT topic filters.

Why own matching: the core decides which rule a message belongs to and may not import paho. Paho's ``topic_matches_sub`` agrees on
every valid pair (a test compares the two), but takes any text for a filter (``a/b+`` and ``a/#/b`` silently match nothing of use,
where they should be refused), any text for a topic, knows no shared subscriptions, and builds a tree for each question. Here a filter
is checked and compiled once, by the rules of MQTT 5.0 section 4.7 (wildcards, ``$`` topics) and 4.8.2 (``$share``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, Literal

import msgspec

LONGEST: Final = 65_535
"""Bytes of UTF-8 that a topic may have (MQTT 5.0 section 1.5.4)."""

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_SHARED = "$share/"


def validate_id(text: str) -> None:
    """Check a prefix, device id, group, stream, verb or model name, which becomes one level of a topic.

    Raises:
        ValueError: if it is not 1 to 64 of ``a-z 0-9 _ -``, beginning with a letter or digit.
    """
    if not _ID.fullmatch(text):
        raise ValueError(
            f'{text!r} is not a valid id: write 1 to 64 of a-z, 0-9, "_", "-", beginning with a letter or digit'
        )


def validate_topic(topic: str) -> None:
    """Check a topic name, as one publishes to it.

    Raises:
        ValueError: if it is empty, too long, not UTF-8, or holds NUL, ``+`` or ``#`` (MQTT 5.0 sections 3.3.2.1, 4.7).
    """
    _validate_text(topic, "topic")
    if "+" in topic or "#" in topic:
        raise ValueError(f'topic {topic!r} holds a wildcard; "+" and "#" may only stand in filters')


def validate_filter(text: str) -> None:
    """Check a topic filter, shared subscriptions included.

    Raises:
        ValueError: if a wildcard shares its level with something else, ``#`` is not last, the name of a shared subscription is missing
            or holds a wildcard, or the text is empty, too long, not UTF-8 or holds NUL (MQTT 5.0 sections 4.7, 4.8.2).

    >>> validate_filter("a/b+")
    Traceback (most recent call last):
    ...
    ValueError: filter 'a/b+': "+" must fill its level, like "a/+/c"
    """
    _validate_text(text, "filter")
    levels = _unshared(text).split("/")
    for level in levels:
        if "+" in level and level != "+":
            raise ValueError(f'filter {text!r}: "+" must fill its level, like "a/+/c"')
    for place, level in enumerate(levels, start=1):
        if "#" in level and (level != "#" or place < len(levels)):
            raise ValueError(f'filter {text!r}: "#" must be the whole last level, like "a/#"')


def matches(text: str, topic: str) -> bool:
    """Whether messages on `topic` reach a subscription to the filter `text`.

    Text that no message can be published on (empty, or with wildcards) matches nothing.

    Raises:
        ValueError: if `text` is not a valid filter.

    >>> matches("a/#", "a"), matches("+/x", "$SYS/x"), matches("$share/g/a/+", "a/b")
    (True, False, True)
    """
    return compiled(text).matches(topic)


class Filter:
    """A topic filter, compiled for many questions; made by `compiled`.

    Args:
        text: a valid filter.
    """

    __slots__ = ("_pattern", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._pattern = _pattern(_unshared(text))

    def matches(self, topic: str) -> bool:
        """Whether messages on `topic` reach this filter."""
        return self._pattern.fullmatch(topic) is not None and "+" not in topic and "#" not in topic


@lru_cache(maxsize=256)
def compiled(text: str) -> Filter:
    """The filter `text`, ready for many questions.

    Raises:
        ValueError: if `text` is not a valid filter.
    """
    validate_filter(text)
    return Filter(text)


def _validate_text(text: str, what: str) -> None:
    if not text or "\0" in text:
        raise ValueError(f"{what} {text!r} is empty or holds NUL")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{what} {text!r} is not valid UTF-8") from None
    if size > LONGEST:
        raise ValueError(f"{what} of {size} bytes is longer than {LONGEST}")


def _unshared(text: str) -> str:
    """The filter inside a shared subscription, or the filter itself."""
    if not text.startswith(_SHARED):
        return text
    name, _, inner = text.removeprefix(_SHARED).partition("/")
    if not name or not inner or "+" in name or "#" in name:
        raise ValueError(
            f'filter {text!r}: a shared subscription is "$share/<name>/<filter>", with no wildcard in its name'
        )
    return inner


def _pattern(text: str) -> re.Pattern[str]:
    """A regular expression for topics that reach `text`; "a/#" also stands for "a" itself."""
    head, hash_, _ = text.partition("#")
    levels = head.removesuffix("/").split("/") if hash_ else head.split("/")
    body = "/".join("[^/]*" if level == "+" else re.escape(level) for level in levels)
    tail = "" if not hash_ else ".+" if not head else "(?:/.*)?"
    guard = r"(?!\$)" if text[0] in "+#" else ""
    return re.compile(f"(?=.){guard}{body}{tail}", re.DOTALL)


# -- the topics of one device --------------------------------------------------------------------------------------------

Kind = Literal["req", "desired", "group_desired", "receipt", "state"]


class Subscription(msgspec.Struct, frozen=True):
    """What the device asks a broker for.

    Attributes:
        filter: the topic filter.
        qos: maximum QoS.
        retain_as_published: keep the RETAIN flag as the publisher set it (MQTT 5), so that a retained request can be refused.
        retain_handling: 0 sends retained messages at every subscribe, 2 never (MQTT 5.0 section 3.8.3.1).
    """

    filter: str
    qos: int = 1
    retain_as_published: bool = False
    retain_handling: int = 0


class Incoming(msgspec.Struct, frozen=True):
    """What an arrived topic means.

    Attributes:
        kind: which of the device's topics it is.
        name: its variable part: verb, group or stream; else empty.
    """

    kind: Kind
    name: str = ""


class Topics(msgspec.Struct, frozen=True):
    """Every topic of one device.

    Attributes:
        prefix: first level, ``chappe`` unless configured.
        device: the device's id.

    >>> Topics("chappe", "tower-1").stream("gesture")
    'chappe/tower-1/stream/gesture'
    """

    prefix: str
    device: str

    @property
    def root(self) -> str:
        return f"{self.prefix}/{self.device}"

    @property
    def state(self) -> str:
        return f"{self.root}/state"

    @property
    def info(self) -> str:
        return f"{self.root}/info"

    @property
    def health(self) -> str:
        return f"{self.root}/health"

    @property
    def signal(self) -> str:
        return f"{self.root}/signal"

    @property
    def desired(self) -> str:
        return f"{self.root}/config/desired"

    @property
    def reported(self) -> str:
        return f"{self.root}/config/reported"

    def stream(self, name: str) -> str:
        return f"{self.prefix}/{self.device}/stream/{name}"

    def req(self, verb: str) -> str:
        return f"{self.root}/req/{verb}"

    def res(self, verb: str) -> str:
        return f"{self.root}/res/{verb}"

    def receipt(self, stream: str) -> str:
        return f"{self.root}/receipt/{stream}"

    def model(self, name: str) -> str:
        return f"{self.root}/model/{name}"

    def group_desired(self, group: str) -> str:
        return f"{self.prefix}/_group/{group}/config/desired"

    def subscriptions(self, groups: Iterable[str] = ()) -> tuple[Subscription, ...]:
        """Everything the device listens to; its own state is among it, to notice a second device of the same name.

        Args:
            groups: the groups it belongs to.
        """
        return (
            Subscription(self.req("+"), retain_as_published=True, retain_handling=2),
            Subscription(self.desired),
            *(Subscription(self.group_desired(group)) for group in groups),
            Subscription(self.receipt("+")),
            Subscription(self.state),
        )

    def incoming(self, topic: str) -> Incoming | None:
        """What an arrived topic means to this device; None if nothing.

        >>> Topics("chappe", "tower-1").incoming("chappe/tower-1/req/identify")
        Incoming(kind='req', name='identify')
        """
        levels = topic.split("/")
        if len(levels) < 3 or levels[0] != self.prefix:
            return None
        if levels[1] == self.device:
            return _own(levels[2:])
        if len(levels) == 5 and levels[1] == "_group" and levels[3:] == ["config", "desired"]:
            return Incoming("group_desired", levels[2])
        return None


_NAMED: Mapping[str, Kind] = {"req": "req", "receipt": "receipt"}
_PLAIN: Mapping[tuple[str, ...], Kind] = {("state",): "state", ("config", "desired"): "desired"}


def _own(levels: list[str]) -> Incoming | None:
    plain = _PLAIN.get(tuple(levels))
    if plain is not None:
        return Incoming(plain)
    named = _NAMED.get(levels[0]) if len(levels) == 2 else None
    return Incoming(named, levels[1]) if named is not None else None
