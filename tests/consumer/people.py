"""Those at the ends of a wire test: a device that a paho client plays, and a consumer in a thread of its own."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from chappe.consumer import Consumer, Gap, Message, Patience
from chappe.core.units import MILLISECOND, Ns

# A test that waits for what never comes waits this long; shorter where that is expected (`make features-prove`).
WITHIN_S = float(os.environ.get("CHAPPE_PATIENCE_S", "30"))

DEVICE, STREAM, BOOT = "tower-1", "tick", "9f3c11d2a0b4e657"

SOON = Patience(first=Ns(100 * MILLISECOND), pace=Ns(0))
"""For tests on the wall clock."""


class ScriptedDevice:
    """A device whose every message is the test's decision; it answers ``req/history`` as the daemon does and hears receipts.

    Args:
        port: the broker's.
        version: of MQTT.
        login: user name and password.
        tls: file of the authority to believe, empty for no TLS.
    """

    def __init__(self, port: int, *, version: str = "5", login: tuple[str, str] | None = None, tls: str = "") -> None:
        self.has: dict[tuple[str, int], bytes] = {}
        self.requests: list[dict[str, Any]] = []
        self.receipts: list[dict[str, Any]] = []
        self._port = port
        self._changed = threading.Condition()
        self._ready = False
        five = version == "5"
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=f"chappe-{DEVICE}",
            protocol=paho.MQTTv5 if five else paho.MQTTv311,
            **({} if five else {"clean_session": True}),
        )
        self._client.suppress_exceptions = False
        if login is not None:
            self._client.username_pw_set(*login)
        if tls:
            self._client.tls_set(tls)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        self._client.connect("localhost", self._port)
        self._client.loop_start()
        with self._changed:
            assert self._changed.wait_for(lambda: self._ready, WITHIN_S), "the device cannot connect"
        self.state("online")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        client.subscribe([(f"chappe/{DEVICE}/{end}", 1) for end in ("req/+", "receipt/+")])

    def _on_subscribe(self, *_: Any) -> None:
        with self._changed:
            self._ready = True
            self._changed.notify_all()

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def make(self, seqs: Iterable[int], boot: str = BOOT, **more: Any) -> list[bytes]:
        """Produce these numbers; the device has them, whatever becomes of them."""
        made = [msgspec.json.encode({"boot": boot, "seq": seq, "data": {"value": seq}, **more}) for seq in seqs]
        self.has |= {(boot, seq): payload for seq, payload in zip(seqs, made, strict=True)}
        return made

    def forget(self, payload: bytes) -> None:
        """The history does not have this message."""
        self.has = {name: kept for name, kept in self.has.items() if kept != payload}

    def send(self, payloads: Iterable[bytes], stream: str = STREAM) -> None:
        """Publish with QoS 1, and wait until the broker has acknowledged all of them."""
        sent = [self._client.publish(f"chappe/{DEVICE}/stream/{stream}", each, qos=1) for each in payloads]
        for each in sent:
            each.wait_for_publish(WITHIN_S)
            assert each.is_published()

    def state(self, status: str, **more: Any) -> None:
        """The retained presence."""
        body = msgspec.json.encode({"status": status, "boot": BOOT, **more})
        self._client.publish(f"chappe/{DEVICE}/state", body, qos=1, retain=True)

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_message(self, client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        body = msgspec.json.decode(message.payload)
        with self._changed:
            if "/receipt/" in message.topic:
                self.receipts.append(body | {"stream": message.topic.rsplit("/", 1)[1]})
            else:
                self.requests.append(body)
                self._answer(client, message, body)
            self._changed.notify_all()

    def _answer(self, client: paho.Client, message: paho.MQTTMessage, body: dict[str, Any]) -> None:
        topic, properties = f"chappe/{DEVICE}/res/history", None
        if hasattr(message.properties, "ResponseTopic"):
            topic = message.properties.ResponseTopic
            properties = Properties(PacketTypes.PUBLISH)
            properties.CorrelationData = message.properties.CorrelationData
        answer = {"status": "ok", "data": self._history(body), "id": body["id"]}
        client.publish(topic, msgspec.json.encode(answer), qos=1, properties=properties)

    def _history(self, body: dict[str, Any]) -> dict[str, Any]:
        mine = sorted(seq for boot, seq in self.has if boot == body["boot"])
        last = body.get("to", mine[-1] if mine else 0)
        found = [seq for seq in mine if body["from"] <= seq <= last]
        page, more = found[: body["n"]], len(found) > body["n"]
        end = page[-1] if more else last
        missing = sorted(set(range(body["from"], end + 1)) - set(page))
        return {
            "messages": [msgspec.Raw(self.has[body["boot"], seq]) for seq in page],
            "more": more,
            "lost": [{"from": seq, "to": seq, "n": 1, "reason": "gone"} for seq in missing],
        }

    def hears(self, receipts: int, within_s: float) -> bool:
        """Whether so many receipts come soon."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.receipts) >= receipts, within_s)

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Until `done` holds; asked after each receipt and request."""
        with self._changed:
            assert self._changed.wait_for(done, WITHIN_S), (
                f"{len(self.receipts)} receipts, {len(self.requests)} requests"
            )

    def wait_for(self, what: str, count: int) -> list[dict[str, Any]]:
        """So many ``receipts`` or ``requests``."""
        found: list[dict[str, Any]] = getattr(self, what)
        with self._changed:
            assert self._changed.wait_for(lambda: len(found) >= count, WITHIN_S), f"{len(found)} of {count} {what}"
            return list(found)


class Application:
    """A handler that writes each message into the consumer's own file, and can be waited for."""

    SETUP = "CREATE TABLE IF NOT EXISTS got (boot TEXT, seq INTEGER, overdue INTEGER);"

    def __init__(self) -> None:
        self.seen: list[Message] = []
        self.gaps: list[Gap] = []
        self._changed = threading.Condition()

    def take(self, message: Message, db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO got VALUES (?, ?, ?)", (message.boot, message.seq, message.overdue))
        with self._changed:
            self.seen.append(message)
            self._changed.notify_all()

    def take_gap(self, gap: Gap, db: sqlite3.Connection) -> None:
        del db
        with self._changed:
            self.gaps.append(gap)
            self._changed.notify_all()

    def wait_for(self, done: Callable[[Application], bool]) -> None:
        """Until `done` holds; asked after each message and gap."""
        with self._changed:
            assert self._changed.wait_for(lambda: done(self), WITHIN_S), f"{len(self.seen)} came, gaps {self.gaps}"

    def wait(self, count: int) -> None:
        """Until so many messages were taken, over all runs."""
        self.wait_for(lambda app: len(app.seen) >= count)

    def has(self, seq: int, within_s: float) -> bool:
        """Whether this message comes soon."""
        with self._changed:
            return self._changed.wait_for(lambda: seq in self.seqs, within_s)

    @property
    def seqs(self) -> list[int]:
        return [message.seq for message in self.seen]


class Running:
    """A consumer in a thread: ended with the block, and what ended it is raised."""

    def __init__(self, port: int, app: Application, state: Path, **options: Any) -> None:
        wanted: dict[str, Any] = {"name": "ours", "patience": SOON, "setup": app.SETUP, "on_gap": app.take_gap}
        self.consumer = Consumer("localhost", port, handler=app.take, state=state, **wanted | options)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.consumer.run()
        except Exception as error:  # noqa: BLE001
            self.error = error

    def __enter__(self) -> Self:
        self._thread.start()
        if not self.consumer.online.wait(WITHIN_S):
            self.consumer.stop()
            self._thread.join(WITHIN_S)
            pytest.fail(f"the consumer cannot connect: {self.error}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.consumer.stop()
        self._thread.join(WITHIN_S)
        assert not self._thread.is_alive()
        if self.error is not None and error is None:
            raise self.error
