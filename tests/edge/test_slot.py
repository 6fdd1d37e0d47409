from __future__ import annotations
from .stage import Stage
def test_x():
    assert Stage().now == 0
