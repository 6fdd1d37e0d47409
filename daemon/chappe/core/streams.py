"""What a stream is: its class, durability, priority and expiry, with the defaults of each kind."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from chappe.core.calibration import unit_of
from chappe.core.elision import Elide
from chappe.core.settings import Config, Durability, Stream, StreamClass
from chappe.core.units import DAY, Ns


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """A stream with every default filled in.

    Attributes:
        expiry: how long a message may wait for the broker.
        elide: elision before the outbox, None for none.
        confirm: whether a message is kept until a consumer says that it has it.
        history: how long this device keeps the stream's messages, None for not at all.
    """

    name: str
    class_: StreamClass
    durability: Durability
    priority: int
    expiry: Ns
    elide: Elide | None = None
    confirm: bool = False
    history: Ns | None = None
    owner: str = ""
    description: str = ""
    unit: str = ""


# Kind: (class, durability, priority). FEATURES appendix B; ARCHITECTURE section 10.
RESERVED: Mapping[str, tuple[StreamClass, Durability, int]] = {
    "alert": ("log", "first", 9),
    "fault": ("log", "first", 8),
    "button": ("log", "first", 7),
    "audit": ("log", "first", 5),
    "gesture": ("log", "behind", 6),
    "clock": ("log", "behind", 5),
    "mark": ("log", "behind", 5),
    "snapshot": ("log", "behind", 5),
    "dead_letter": ("log", "behind", 5),
}
_ORDINARY: tuple[StreamClass, Durability, int | None] = ("log", "behind", None)
PRIORITY: Mapping[StreamClass, int] = {"log": 5, "latest": 3, "transient": 3}
EXPIRY: Mapping[StreamClass, int] = {"log": 7 * DAY, "latest": DAY, "transient": DAY}
# Streams that keep a history unless the owner says otherwise, and for how long (FEATURES appendix F).
HISTORY: Mapping[str, int] = {"alert": 90 * DAY, "fault": 7 * DAY, "button": 7 * DAY, "gesture": 7 * DAY}


def effective(name: str, stream: Stream | None = None, unit: str = "") -> Spec:
    """A stream's full specification out of what the owner wrote, if anything.

    Args:
        name: the stream's name.
        stream: its ``[streams.<name>]`` section, or None.
        unit: the unit of the sensor that feeds it.
    """
    stream = stream or Stream()
    kind, durability, priority = RESERVED.get(name, _ORDINARY)
    class_ = stream.class_ or kind
    if priority is None or stream.class_ not in (None, kind):
        priority = PRIORITY[class_]
    return Spec(
        name=name,
        class_=class_,
        durability=stream.durability or durability,
        priority=priority if stream.priority is None else stream.priority,
        expiry=Ns(EXPIRY[class_] if stream.expiry is None else stream.expiry),
        elide=stream.elide if isinstance(stream.elide, Elide) and stream.elide.policy != "none" else None,
        confirm=stream.confirm == "delivered",
        history=_history(name, class_, stream),
        owner=stream.owner,
        description=stream.description,
        unit=stream.unit or unit,
    )


def _history(name: str, class_: StreamClass, stream: Stream) -> Ns | None:
    kept = HISTORY.get(name) if stream.history is None else stream.history
    return None if not kept or class_ == "transient" else Ns(kept)


def all_specs(config: Config) -> dict[str, Spec]:
    """Every stream of a device: the built-in ones that this daemon feeds, one per sensor, and those only configured."""
    names = ["gesture", "button", "fault", "mark", "alert", *config.sensors, *config.streams]
    return {
        name: effective(name, config.streams.get(name), unit_of(config.sensors[name]) if name in config.sensors else "")
        for name in dict.fromkeys(names)
    }
