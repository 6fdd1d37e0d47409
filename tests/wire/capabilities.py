"""What each broker can do: the table of docs/brokers.md, which `test_brokers_table` tries out cell by cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Fate = Literal["counts as delivered", "ends the connection"]
NOT_ALWAYS: Literal["not always"] = "not always"
Usually = bool | Literal["not always"]
"""`NOT_ALWAYS`: seen to fail now and then, so a single try proves nothing."""


def _row(title: str) -> Any:
    return field(metadata={"title": title})


@dataclass(frozen=True, kw_only=True)
class Can:
    """One broker's column.

    Attributes:
        version: the version that this was found with.
    """

    version: str
    mqtt5: bool = _row("MQTT 5")
    told_apart: bool = _row("a publish it forbids is told from one it takes (the stream is held, nothing is lost)")
    forbidden_on_3: Fate = _row("what becomes of a publish it forbids on 3.1.1")
    reply_to: bool = _row("a request says where its answer goes (response topic)")
    expiry: bool = _row("messages die in the broker when their life is over (message expiry)")
    marks_retained: bool = _row("a request that its sender marked as retained is recognised and refused")
    keeps_acknowledged: bool = _row(
        "what it has acknowledged reaches the subscribers, even if the connection then breaks"
    )
    only_subscribed: bool = _row("nobody is sent what he did not subscribe to")
    names_window: bool = _row("it says how many messages may be unacknowledged (Receive Maximum)")
    shared: bool = _row("shared subscriptions (`$share/…`), for requests to one of a group")
    session: bool = _row("requests sent while the daemon is away arrive when it returns")
    session_restart: Usually = _row("… also if the broker was restarted in between")
    session_kill: Usually = _row("… also if the broker was killed (`kill -9`) in between")
    retained: bool = _row("last values (`state`, `info`, `signal` …) reach whoever subscribes to their topic")
    retained_wildcard: bool = _row("… also whoever subscribes with a wildcard (`chappe/+/state`)")
    retained_restart: bool = _row("… also after a restart of the broker")
    retained_kill: bool = _row("… also after a `kill -9` of the broker")


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

ROWS: dict[str, str] = {each.name: each.metadata["title"] for each in fields(Can) if each.name != "version"}


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
