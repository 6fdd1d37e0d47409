r"""Shipped fakes: a clock that tests own, and `Tower`, a whole device at manual time.

A `Tower` is the real engine with a scripted world around it: a link that acknowledges when told to, sensors that are functions, pins that
remember their levels, a camera that opens at once. Time only moves when the test moves it, so "at 10.0 s" means exactly that.

>>> tower = Tower('[sensors.tick]\ndriver = "simulated"\nwave = "counter"\nevery = "1s"')
>>> tower.link_up()
>>> tower.advance(2.5)
>>> [message.data["value"] for message in tower.stream("tick")]
[0, 1, 2]
"""

from __future__ import annotations

from chappe.testing.clock import EPOCH, ManualClock
from chappe.testing.tower import BOOT, Tower, parse
from chappe.testing.world import Driven, Published

__all__ = ["BOOT", "EPOCH", "Driven", "ManualClock", "Published", "Tower", "parse"]
