"""The MQTT edge: `MqttLink` keeps one connection to one broker, for ever, from a thread of its own.

============================  =================================================================================
module                        what it knows
============================  =================================================================================
`chappe.edge.mqtt.link`       the façade that the main thread calls; nothing there blocks
`.pump`, `.mailbox`           the thread ``mqtt``: a selector over the mailbox and the socket
`.caller`                     when to connect again, and with which version
`.dial`, `.websocket`         names, TCP, TLS, WebSocket, in the thread ``mqtt-connect``; which failure is which status
`.session`, `.handshake`      one connection: phases, deadlines, orders
`.flight`, `.receipts`        the window, and which PUBACK belongs to which token; which PUBACKs we owe
`.wire`, `.packets`           the buffered socket; PUBLISH and PUBACK as bytes
`.codec`                      paho-mqtt for all other packets
`.versions`, `.backoff`       MQTT 5 or 3.1.1 next, and when: pure
`.pulse`                      pings: pure
`.herald`, `.meter`           what the core is told: the status once per change, bytes about once a second
`.verdicts`, `.incoming`      what bytes of a stranger and messages of the broker mean: pure
`.certificates`               when certificates end
`.fingerprint`                whether secrets have changed
`.terms`                      the words all of these share
============================  =================================================================================

paho-mqtt and ssl are imported by `MqttLink.open`, not before.
"""

from __future__ import annotations

from chappe.edge.mqtt.link import MqttLink

__all__ = ["MqttLink"]
