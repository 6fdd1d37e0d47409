"""The peers of ``chappe bench outage --peers``: what they are, how they are installed, and how they are fed and counted.

Each is installed into a folder of its own by the ordinary clients (pip, npm; mosquitto is the system's). Nothing of them is part of Chappe,
and nothing of Chappe imports them.
"""

from __future__ import annotations

NAMES = ("bridge", "bridge-best", "node-red", "mqtt-io", "thingsboard")
