"""The reference consumer: the receiving half of "nothing lost", for whoever works with what a device sends (docs/consumers.md).

=====================  ========================================================================================
module                 what it knows
=====================  ========================================================================================
`.client`              `Consumer`: the connection kept up, one pass after the other
`.link`, `.codec`      paho-mqtt: one connection, acknowledged by hand
`.desk`                a pass without its network: what came is committed, what is to be said, the application
`.intake`              what each message means
`.inquiry`             questions on the wire, and their answers
`.receipts`            what has to be confirmed, until the broker has it
`.inbox`               messages on the disk until the application has taken them
`.keeper`              the SQLite file and its transactions
`.closer`              which gaps are asked for, and when: pure
`.ledger`, `.book`     every number: come, lost or missing: pure
`.ranges`              sets of numbers as ranges
`.words`, `.terms`     messages as they are on the wire; the words the parts share
=====================  ========================================================================================

paho-mqtt and sqlite3 are imported when a consumer is opened, not before.
"""

from __future__ import annotations

from chappe.consumer.client import Consumer
from chappe.consumer.closer import Patience
from chappe.consumer.link import Access
from chappe.consumer.terms import Counts
from chappe.consumer.words import Gap, Message

__all__ = ["Access", "Consumer", "Counts", "Gap", "Message", "Patience"]
