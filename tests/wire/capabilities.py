"""What each broker can do: the table of docs/brokers.md, which `test_brokers_table` tries out cell by cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, get_type_hints

Fate = Literal["counts as delivered", "ends the connection"]
NOT_ALWAYS: Literal["not always"] = "not always"
Usually = bool | Literal["not always"]
"""`NOT_ALWAYS`: seen to fail now and then, so a single try proves nothing."""


@dataclass(frozen=True, kw_only=True)
class Can:
    """One broker's column; each field is a row, under the title that its annotation carries.

    Attributes:
        version: the version that this was found with.
    """

    version: str
    mqtt5: Annotated[bool, "MQTT 5"]
    told_apart: Annotated[bool, "a publish it forbids is told from one it takes (the stream is held, nothing is lost)"]
    forbidden_on_3: Annotated[Fate, "what becomes of a publish it forbids on 3.1.1"]
    reply_to: Annotated[bool, "a request says where its answer goes (response topic)"]
    expiry: Annotated[bool, "messages die in the broker when their life is over (message expiry)"]
    marks_retained: Annotated[bool, "a request that its sender marked as retained is recognised and refused"]
    keeps_acknowledged: Annotated[
        bool, "what it has acknowledged reaches the subscribers, even if the connection then breaks"
    ]
    only_subscribed: Annotated[bool, "nobody is sent what he did not subscribe to"]
    names_window: Annotated[bool, "it says how many messages may be unacknowledged (Receive Maximum)"]
    shared: Annotated[bool, "shared subscriptions (`$share/…`), for requests to one of a group"]
    session: Annotated[bool, "requests sent while the daemon is away arrive when it returns"]
    session_restart: Annotated[Usually, "… also if the broker was restarted in between"]
    session_kill: Annotated[Usually, "… also if the broker was killed (`kill -9`) in between"]
    retained: Annotated[bool, "last values (`state`, `info`, `signal` …) reach whoever subscribes to their topic"]
    retained_wildcard: Annotated[bool, "… also whoever subscribes with a wildcard (`chappe/+/state`)"]
    retained_restart: Annotated[bool, "… also after a restart of the broker"]
    retained_kill: Annotated[bool, "… also after a `kill -9` of the broker"]


TABLE: dict[str, Can] = {
    "mosquitto": Can(
        version="2.0.11",
        mqtt5=True,
        told_apart=True,
        forbidden_on_3="counts as delivered",
        reply_to=True,
        expiry=True,
        marks_retained=True,
        keeps_acknowledged=True,
        only_subscribed=True,
        names_window=True,
        shared=True,
        session=True,
        session_restart=True,
        session_kill=False,
        retained=True,
        retained_wildcard=True,
        retained_restart=True,
        retained_kill=False,
    ),
    "nats": Can(
        version="2.9.10",
        mqtt5=False,
        told_apart=False,
        forbidden_on_3="counts as delivered",
        reply_to=False,
        expiry=False,
        marks_retained=False,
        keeps_acknowledged=True,
        only_subscribed=True,
        names_window=False,
        shared=False,
        session=True,
        session_restart=NOT_ALWAYS,
        session_kill=NOT_ALWAYS,
        retained=True,
        retained_wildcard=True,
        retained_restart=True,
        retained_kill=True,
    ),
    "rabbitmq": Can(
        version="3.10.8",
        mqtt5=False,
        told_apart=False,
        forbidden_on_3="ends the connection",
        reply_to=False,
        expiry=False,
        marks_retained=False,
        keeps_acknowledged=True,
        only_subscribed=True,
        names_window=False,
        shared=False,
        session=True,
        session_restart=True,
        session_kill=True,
        retained=True,
        retained_wildcard=False,
        retained_restart=True,
        retained_kill=False,
    ),
    "amqtt": Can(
        version="0.12.1",
        mqtt5=False,
        told_apart=False,
        forbidden_on_3="counts as delivered",
        reply_to=False,
        expiry=False,
        marks_retained=False,
        keeps_acknowledged=False,
        only_subscribed=False,
        names_window=False,
        shared=False,
        session=False,
        session_restart=False,
        session_kill=False,
        retained=True,
        retained_wildcard=True,
        retained_restart=False,
        retained_kill=False,
    ),
}

ROWS: dict[str, str] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(Can, include_extras=True).items() if name != "version"
}
"""Name of each field that is a row -> what the page calls it."""


def render(titles: dict[str, str]) -> Iterator[str]:
    """The lines of the table.

    Args:
        titles: name of each broker -> how people write it; their order is that of the columns.
    """
    columns = [TABLE[name] for name in titles]
    yield "| | " + " | ".join(f"{titles[name]} {TABLE[name].version}" for name in titles) + " |"
    yield "|---|" + "---|" * len(columns)
    for name, title in ROWS.items():
        yield f"| {title} | " + " | ".join(_cell(getattr(column, name)) for column in columns) + " |"


def _cell(value: bool | str) -> str:
    return {True: "yes", False: "**no**", NOT_ALWAYS: f"**{NOT_ALWAYS}**"}.get(value, str(value))
