"""The driver ``mcp3008``: one channel of the ten-bit converter on the SPI bus, by gpiozero.

Options: ``device``, the chip-enable line (0 or 1, default 0). The reading is in volts: the channel's share of `vref`.

The pin factory is gpiozero's global one: its SPI classes reach for that whatever factory they are given.
"""

from __future__ import annotations

from typing import Any

from chappe.core.calibration import Value
from chappe.core.settings import Sensor
from chappe.errors import SensorError

FULL_SCALE = 1023


class Mcp3008:
    """Reads a voltage."""

    def __init__(self) -> None:
        self._device: Any = None
        self._vref = 0.0

    def open(self, sensor: Sensor) -> None:
        import gpiozero

        self._vref = sensor.vref
        try:
            self._device = gpiozero.MCP3008(channel=sensor.channel, device=int(sensor.options.get("device", 0)))
        except gpiozero.GPIOZeroError as error:
            raise SensorError(
                f"the MCP3008 cannot be opened: {error}",
                remedy="enable SPI (`sudo raspi-config nonint do_spi 0`) and let the daemon into the groups spi and gpio",
                code="sensor_missing",
            ) from error

    def read(self) -> Value:
        import gpiozero

        try:
            # Not `value`: gpiozero's mapping gives half a step, 1.6 mV at 3.3 V, for a reading of nought.
            raw: int = self._device.raw_value
        except gpiozero.GPIOZeroError as error:
            raise SensorError(f"the MCP3008 does not answer: {error}") from error
        return raw / FULL_SCALE * self._vref

    def close(self) -> None:
        if self._device is not None:
            self._device.close()
            self._device = None
