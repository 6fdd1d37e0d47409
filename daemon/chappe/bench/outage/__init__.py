"""``chappe bench outage``: what is lost when the link, the process, the power or the broker fails. For Chappe, and beside it for peers.

====================  ==================================================================================
module                what it knows
====================  ==================================================================================
`.plan`               times and load
`.scenarios`          the faults, done to a real ``chappe run`` and a real mosquitto
`.brokers`            what a broker loses after its PUBACK, and how a consumer gets it back
`.judge`              offered, accepted, arrived: the figures; pure
`.oracle`             what lies in the store, read from outside
`.daemon`             the daemon's process
`.ledger`, `.plugin`  what was offered, to the last value
`.link`               the way to the broker: refused, or a black hole in the kernel
`.counter`            the subscriber that counts
`.disk`, `.normal`    a power cut, and the control that has to lose
`.table`              how it is printed
====================  ==================================================================================
"""

from __future__ import annotations

from chappe.bench.outage.command import add_arguments, run

__all__ = ["add_arguments", "run"]
