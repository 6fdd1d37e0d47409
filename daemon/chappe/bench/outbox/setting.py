"""What every run of the bench has in common: the device, its streams, the size of a message, the window."""

from __future__ import annotations

from pathlib import Path

from chappe.core.envelope import Envelope, to_json

DEVICE = "bench"
STREAM = "bench"
TOPIC = f"chappe/{DEVICE}/stream/{STREAM}"
STATE_TOPIC = f"chappe/{DEVICE}/state"
WINDOW = 100
SIZE = 200
"""Bytes of a payload, on both sides of every ratio."""

FIRST_VALUE = 100_000
_EXAMPLE = Envelope(
    boot="0" * 16,
    seq=10_000,
    at="2026-11-21T21:32:22.123Z",
    synced=True,
    data={"value": FIRST_VALUE, "unit": ""},
)
UNIT = "x" * (SIZE - len(to_json(_EXAMPLE)))
"""A unit that makes the envelope of a reading 200 bytes long."""


def configuration(state: Path, port: int, *, durability: str = "behind", drain_rate: str = '"max"') -> str:
    """The TOML of a device with one sensor that is read once an hour; the bench is the source of all other readings.

    Args:
        state: the state folder.
        port: of the broker, on loopback; one at which nobody listens makes an outage.
        durability: of the stream.
        drain_rate: ``[mqtt] drain_rate`` as TOML.
    """
    return (
        f'[device]\nid = "{DEVICE}"\nstate_dir = "{state}"\n'
        f'[mqtt]\nport = {port}\nwindow = {WINDOW}\ndrain_rate = {drain_rate}\n[health]\nevery = "1h"\n'
        "[outbox]\nrows = 2000000\nbytes = 1073741824\ndisk_free = 0\n"
        f'[sensors.{STREAM}]\ndriver = "simulated"\nwave = "counter"\nevery = "1h"\nunit = "{UNIT}"\n'
        f'[streams.{STREAM}]\nclass = "log"\ndurability = "{durability}"\n'
    )
