"""The reference consumer: the receiving half of "nothing lost", for whoever works with what a device sends (docs/consumers.md).

====================  =========================================================================================
module                what it knows
====================  =========================================================================================
`.client`             `Consumer`: the connection kept up, one pass after the other
`.link`               paho-mqtt: one connection, acknowledged by hand
`.desk`               what each message means and what is to be said: no network, no thread
`.keeper`             the SQLite file: ledger, inbox, receipts
`.closer`             which gaps are asked for, and when: pure
`.ledger`, `.book`    every number: come, lost or missing: pure
`.ranges`             sets of numbers as ranges
`.words`              messages as they are on the wire
====================  =========================================================================================

paho-mqtt and sqlite3 are imported when a consumer is opened, not before.
"""

from __future__ import annotations

from chappe.consumer.client import Consumer
from chappe.consumer.closer import Patience
from chappe.consumer.desk import Counts
from chappe.consumer.link import Access
from chappe.consumer.words import Gap, Message

__all__ = ["Access", "Consumer", "Counts", "Gap", "Message", "Patience"]
