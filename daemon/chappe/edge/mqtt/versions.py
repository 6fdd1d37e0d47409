"""Which version of MQTT to speak next: 5 first, 3.1.1 where the broker shows that it does not know 5.

On 3.1.1 a publish that the broker forbids is acknowledged as success, so falling back is never done lightly and never kept: every
connection starts with 5 again.
"""

from __future__ import annotations

from typing import Literal

from chappe.core.units import SECOND, Ns
from chappe.edge.mqtt.terms import Outcome, Version

QUICK: Ns = Ns(SECOND)
"""Least time a broker gets to answer a CONNECT before its silence is taken for ignorance of the version."""

ROUND_TRIPS = 8
"""The same in round trips, for links where a round trip is slow."""

CLOSES_BEFORE_FALLBACK = 2


class Versions:
    """The choice of the version, for one broker.

    A CONNACK that refuses the version is believed at once. A connection closed without CONNACK twice running earns 3.1.1 one attempt
    (RabbitMQ before 3.13 closes). So does silence, as amqtt 0.12 takes the properties of MQTT 5 for the length of a client id and
    waits for the rest of it for ever; as a slow broker is silent too, 3.1.1 gets no more time than 5 had, and when both were silent
    both get the full time from then on. Where MQTT 5 has worked once, none of this is believed.

    Args:
        forced: ``auto``, or the only version to speak.
    """

    def __init__(self, forced: Literal["auto", "5", "3.1.1"] = "auto") -> None:
        self._forced = forced
        self._proven = False
        self._patient = False
        self._fall_back = False
        self._closes = 0

    @property
    def next(self) -> Version:
        """The version of the next attempt."""
        if self._forced != "auto":
            return self._forced
        return "3.1.1" if self._fall_back else "5"

    def patience(self, longest: Ns, round_trip: Ns) -> Ns:
        """How long the next attempt waits for the CONNACK.

        Args:
            longest: the configured connect timeout.
            round_trip: what setting up the TCP connection took.
        """
        if self._patient or self._settled:
            return longest
        return min(longest, max(QUICK, Ns(ROUND_TRIPS * round_trip)))

    @property
    def _settled(self) -> bool:
        return self._proven or self._forced != "auto"

    def worked(self, version: Version) -> None:
        """The broker accepted `version`."""
        self._proven = self._proven or version == "5"
        self._patient = self._fall_back = False
        self._closes = 0

    def failed(self, version: Version, outcome: Outcome) -> bool:
        """An attempt with `version` ended in `outcome`.

        Returns:
            True if the next attempt should follow at once, with another version.
        """
        self._fall_back = False
        if self._settled:
            return False
        if version == "5":
            self._closes = self._closes + 1 if outcome == "closed" else 0
            self._fall_back = outcome in ("unsupported", "silent") or self._closes >= CLOSES_BEFORE_FALLBACK
        elif outcome == "silent":
            self._patient = True
        if self._fall_back:
            self._closes = 0
        return self._fall_back
