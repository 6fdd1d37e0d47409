"""Elision: dropping superseded values on purpose; counted, disclosed, never called loss.

An `Elider` stands between a stream's values and the numbering of its messages. Each value it is offered is sent, held until a
timer, or elided, and at every moment ``offered = emitted + elided + held``. What was elided on a key rides on that key's next
message as a `Summary`. Time is an argument: the part tells when it wants to be asked again (`Elider.due`) and never looks at a
clock.

=================  ===========================================================================================
policy             sends
=================  ===========================================================================================
`none`             everything
`latest`           the first value at once, then the newest, once per `every`
`sample`           the newest at each tick of a grid of `every`, nothing if there is none
`throttle_first`   the first of each `every`; may lose the final value
`debounce`         the newest after `quiet` without a value, or `max_wait` after the first that waits
`change`           what differs from the last sent value
`deadband`         what lies a band or more from the last sent value
`swinging_door`    the corner points of the trend
`aggregate`        one summary per window of `every`
=================  ===========================================================================================

>>> from chappe.core.units import SECOND, Ns, Span
>>> elider = Elider(Elide(policy="latest", every=Span.parse("1s")))
>>> [len(elider.offer("", {"value": n}, Ns(n * SECOND // 4)).emit) for n in range(4)]
[1, 0, 0, 0]
>>> elider.due() == 1 * SECOND
True
>>> elider.expire(Ns(1 * SECOND)).emit[0]
Emission(key='', at=750000000, data={'value': 3}, elided=Summary(n=2, min=1, max=2, mean=1.5))
"""

from __future__ import annotations

from chappe.core.elision.config import Elide, PolicyName, problems
from chappe.core.elision.elider import Elider
from chappe.core.elision.values import Emission, Outcome, Summary

__all__ = ["Elide", "Elider", "Emission", "Outcome", "PolicyName", "Summary", "problems"]
