"""What the bench needs of a peer that sends to a broker, and what all of them share."""

from __future__ import annotations

import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chappe.bench.outage.ledger import Ledger
from chappe.bench.outage.plan import now
from chappe.errors import EdgeError

TOPIC = "bench/n"
PAYLOAD = 200
_STOP_WITHIN_S = 15.0


def payload(number: int) -> bytes:
    """A message of 200 bytes that carries its number."""
    return f"{number:08d}|".encode().ljust(PAYLOAD, b"x")


@dataclass(frozen=True)
class Site:
    """Where a peer lives.

    Attributes:
        state: everything it keeps; on the disk that is cut.
        scratch: ledgers and logs; outside it.
        host, port: of the broker upstream, behind the link.
    """

    state: Path
    scratch: Path
    host: str
    port: int


class Peer(ABC):
    """A program on the device's side that takes numbered messages and sends them to a broker.

    Args:
        folder: where it is installed.
    """

    name = ""
    qos = "1"
    accepted_means = ""
    topics = "bench/#"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = Site(Path(), Path(), "", 0)
        self.offered = Ledger(Path())
        self.accepted = Ledger(Path())
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def install(self) -> str:
        """Install it; returns its version.

        Raises:
            NotInstalledError: if that cannot be done here.
        """

    def settle_in(self, site: Site) -> None:
        """Take a place and write the configuration."""
        self.site = site
        self.offered = Ledger(site.scratch / "offered.ledger").open()
        self.accepted = Ledger(site.scratch / "accepted.ledger").open()
        self.configure()

    @abstractmethod
    def configure(self) -> None:
        """Write what it reads at start into its state folder."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """What starts it."""

    def environment(self) -> Mapping[str, str]:
        """Its environment."""
        return os.environ

    def start(self) -> None:
        """Start it."""
        with (self.site.scratch / "said.log").open("ab") as said:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=dict(self.environment())
            )

    @abstractmethod
    def feed(self, rate_hz: int) -> None:
        """Begin to offer numbers, as soon as it takes them."""

    @abstractmethod
    def rest(self) -> None:
        """Offer no more; idempotent."""

    def kill(self) -> int:
        """SIGKILL; returns when.

        Raises:
            EdgeError: if it had ended before.
        """
        if self._process is None or self._process.poll() is not None:
            raise EdgeError(f"{self.name} ended by itself: {self.last_words()}")
        self._process.kill()
        at = now()
        self._process.wait()
        return at

    def last_words(self) -> str:
        """The end of what it wrote."""
        log = self.site.scratch / "said.log"
        return log.read_text("utf-8", errors="replace")[-400:] if log.exists() else "it said nothing"

    def number(self, body: bytes) -> int:
        """The number that a message carries."""
        return int(body[:8])

    def close(self) -> None:
        """End it and everything that feeds it; idempotent."""
        self.rest()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self.offered.close()
        self.accepted.close()
