"""`Consumer`: takes a device's streams off the broker, each message once, and closes the gaps."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from chappe.consumer.closer import Patience
from chappe.consumer.desk import Desk
from chappe.consumer.keeper import Keeper
from chappe.consumer.link import Access, Link
from chappe.consumer.terms import Clock, Counts, GapHandler, Handler, Options
from chappe.consumer.words import Kind
from chappe.core.topics import validate_id
from chappe.core.units import SECOND, Ns, WallNs
from chappe.errors import LinkError

log = logging.getLogger(__name__)

IDLE_S = 0.25
"""Longest wait for the network: how soon `Consumer.stop` is noticed."""

BUSY_S = 0.02
"""The same while gaps are asked for."""

FIRST_WAIT: Ns = Ns(SECOND)
LONGEST_WAIT: Ns = Ns(30 * SECOND)

GOODBYE: Ns = Ns(5 * SECOND)
"""How long a stop may take: for the application to work off what was taken, and for the broker's word on receipts."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> Ns:
        return Ns(time.monotonic_ns())

    def wall(self) -> WallNs:
        return WallNs(time.time_ns())


class Consumer:
    """Takes the streams of devices, each message once, and closes gaps by itself (docs/consumers.md).

    What is on the disk decides: a message is committed to `state` before the broker hears that it has arrived, so that killing this
    process at any moment loses nothing. The handler is called within a transaction of that file. What it writes through the
    connection that it is given is done exactly once; what it does elsewhere is done at least once: a kill between the handler's return
    and the commit gives it the same messages again (at most 200, or those of a tenth of a second), with the same
    (device, stream, boot, seq).

    Args:
        host: the broker's.
        port: the broker's.
        prefix: first level of all topics.
        devices: ids of devices, ``"+"`` for all.
        handler: gets each message and the connection. What it raises ends `run`; the message comes again at the next start.
        state: the SQLite file; one consumer each.
        name: who this is: stands in receipts as ``by``, and is part of the MQTT client identifier; no two of the same name at one broker.
        on_gap: gets each gap that will not be closed, like `handler`; None if only the log is to say so.
        receipts: ``delivered`` once a message is in `state`, ``read`` once the handler has taken it.
        ordered: hand messages over in the order of their numbers, within (device, stream, boot); what follows a gap waits in `state`.
        backfill: ask also for what a device sent before this consumer saw it for the first time, as far back as the first boot seen.
        setup: SQL that makes the handler's own tables in `state`; must say ``IF NOT EXISTS``.
        access: credentials, TLS, version of MQTT.
        patience: how gaps are treated.
        clock: where now comes from.

    Attributes:
        online: set while the broker has granted the subscriptions.

    Raises:
        ValueError: if `prefix`, `name` or a device is not a valid id.
    """

    def __init__(
        self,
        host: str,
        port: int = 1883,
        *,
        handler: Handler,
        state: Path,
        name: str = "consumer",
        prefix: str = "chappe",
        devices: str | Sequence[str] = "+",
        on_gap: GapHandler | None = None,
        receipts: Sequence[Kind] = ("delivered",),
        ordered: bool = False,
        backfill: bool = False,
        setup: str = "",
        access: Access | None = None,
        patience: Patience | None = None,
        clock: Clock | None = None,
    ) -> None:
        access = access or Access()
        filters = _filters(prefix, name, (devices,) if isinstance(devices, str) else devices, access)
        self.online = threading.Event()
        self._clock = clock or SystemClock()
        self._keeper = Keeper(Path(state), setup)
        options = Options(
            prefix=prefix,
            name=name,
            handler=handler,
            on_gap=on_gap,
            receipts=tuple(receipts),
            ordered=ordered,
            backfill=backfill,
            patience=patience or Patience(),
        )
        self._desk = Desk(self._keeper, self._clock, options)
        self._dial = partial(Link, host, port, f"{prefix}-consumer-{name}", filters, access)
        self._stop = threading.Event()
        self._link: Link | None = None
        self._wait = FIRST_WAIT
        self._not_before = Ns(0)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def counts(self) -> Counts:
        """What has happened since the start."""
        return self._desk.counts

    def open(self) -> None:
        """Open the state; the connection comes with the first `step`.

        Raises:
            BusyError: if another consumer works with that file.
            StoreError: if it cannot be used.
        """
        self._keeper.open()
        self._desk.open()

    def run(self) -> None:
        """Open, consume until `stop` is called, and close; a lost connection comes back by itself.

        Raises:
            BusyError: if another consumer works with that file.
            StoreError: if the file cannot be used, or takes no more.
            Exception: whatever the handlers raise.
        """
        with self:
            while not self._stop.is_set():
                self.step()
            self._say_goodbye()

    def stop(self) -> None:
        """Make `run` return soon; from any thread, or from a signal handler."""
        self._stop.set()

    def close(self) -> None:
        """Let go of the connection and the state; idempotent. `run` and `open` may be called again."""
        self._hang_up()
        self._keeper.close()
        self._stop.clear()

    # ── one pass ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def step(self, wait_s: float | None = None) -> None:
        """One pass: take what came, answer, ask, let the application work.

        Args:
            wait_s: how long to wait for something to come.
        """
        more = self._desk.hand_over()
        idle_s = 0.0 if more else BUSY_S if self._desk.wanting else IDLE_S
        link = self._connected()
        if link is None:
            # What waits in the inbox needs no broker.
            self._stop.wait(idle_s)
            return
        batch, acked = link.pump(idle_s if wait_s is None else wait_s)
        self._desk.take(batch, acked)
        link.acknowledge(batch)
        if link.failure:
            self._retry_later(link.failure)
            self._desk.link_down()
        elif link.ready:
            self._wait = FIRST_WAIT
            self.online.set()
            for out in self._desk.outgoing(link.room):
                link.publish(out)

    def _connected(self) -> Link | None:
        if self._link is None and self._clock.now() >= self._not_before:
            link = self._dial()
            try:
                link.open()
            except LinkError as error:
                self._retry_later(str(error))
            else:
                self._link = link
        return self._link

    def _retry_later(self, why: str) -> None:
        log.warning("%s", why)
        self._hang_up()
        self._not_before = Ns(self._clock.now() + self._wait)
        self._wait = min(Ns(2 * self._wait), LONGEST_WAIT)

    def _hang_up(self) -> None:
        self.online.clear()
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _say_goodbye(self) -> None:
        """Work off what was taken, and wait for the broker's word on receipts; what comes meanwhile stays with the broker.

        What is left after that is no loss: it is in the file, and comes first at the next start.
        """
        deadline = self._clock.now() + GOODBYE
        more = True
        while (more or not self._quiet) and self._clock.now() < deadline:
            more = self._desk.hand_over()
            if self._link is not None and not self._link.failure:
                for out in self._desk.outgoing(self._link.room):
                    self._link.publish(out)
                _, acked = self._link.pump(0.0 if more else BUSY_S)
                self._desk.take((), acked)

    @property
    def _quiet(self) -> bool:
        """Whether there is nothing more to hear about receipts; without a connection they wait for the next start."""
        return self._link is None or bool(self._link.failure) or self._desk.quiet


def _filters(prefix: str, name: str, devices: Sequence[str], access: Access) -> list[str]:
    for text in (prefix, name, *(device for device in devices if device != "+")):
        validate_id(text)
    # Where there is no response topic (MQTT 3.1.1) answers come where everybody's come, and are told apart by their id.
    reply = f"res/history/{name}" if access.version == "5" else "res/history"
    return [f"{prefix}/{each}/{end}" for each in devices for end in ("stream/#", "state", "info", reply)]
