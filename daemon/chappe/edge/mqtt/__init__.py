"""The MQTT edge: `MqttLink` keeps one connection to one broker, for ever, from a thread of its own.

========================  =====================================================================================
module                    what it knows
========================  =====================================================================================
`chappe.edge.mqtt.link`   the façade that the main thread calls; nothing there blocks
`.pump`, `.mailbox`       the thread ``mqtt``: a selector over the mailbox and the socket; when to connect again
`.dial`                   names, TCP and TLS, in the thread ``mqtt-connect``; which failure is which status
`.session`, `.flight`     one connection: phases, deadlines, window; which PUBACK belongs to which token
`.codec`, `.wire`         paho-mqtt on a buffered socket
`.versions`, `.backoff`   MQTT 5 or 3.1.1 next, and when: pure
`.herald`                 the status that the core is told, once per change
`.verdicts`, `.incoming`  what bytes of a stranger and messages of the broker mean: pure
`.terms`                  the words all of these share
========================  =====================================================================================

paho-mqtt and ssl are imported by `MqttLink.open`, not before.
"""

from __future__ import annotations

from chappe.edge.mqtt.link import MqttLink

__all__ = ["MqttLink"]
