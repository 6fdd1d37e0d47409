"""What an owner can do about a fault, in one sentence; docs/troubleshooting.md says more."""

from __future__ import annotations

from collections.abc import Mapping

LINK: Mapping[str, str] = {
    "connecting": "trying to reach the broker",
    "refused": "nobody listens at the broker's address and port",
    "no_network": "no route to the broker, or its name is not known",
    "auth_failed": "the broker does not accept name, password or certificate",
    "tls_untrusted": "the broker's certificate is not trusted",
    "captive_portal_suspected": "something answers that is no broker: a login page?",
    "lost": "the connection broke; it is tried again",
    "off": "no broker is configured",
}
"""What a status of the link means; ``online`` needs no word."""

REMEDIES: Mapping[str, str] = {
    "camera_missing": "plug it in, or correct camera.source and camera.path",
    "camera_stalled": "look at the cable and the power supply; it is started again by itself",
    "camera_failed": "look at the cable; it is started again by itself",
    "camera_hung": "restart the daemon",
    "camera_format": "choose a size that the camera delivers: camera.width, camera.height",
    "camera_picture": "replace the picture that the message names",
    "camera_not_closed": "restart the daemon",
    "privacy_led": "correct indicators.privacy, or set it to false if there is no such lamp",
    "model_rejected": "chappe models pull",
    "tflite": "install a runtime: pip install 'chappe[litert]'",
    "vision_backend": 'set vision.backend = "auto"',
    "gpio_missing": "join the group gpio, or ignore it where there are no pins",
    "gpio_failed": "free the pin, or choose another",
    "sensor_missing": "correct the sensor's path, channel or driver",
    "sensor_failed": "look at its wiring",
    "sensor_timeout": "look at its wiring, or raise its timeout",
    "sensor_value": "look at its wiring and calibration",
    "sensor_stale": "look at its wiring",
    "stream_held": "allow this device to publish it at the broker, then: chappe queue retry",
    "not_authorized": "allow this device to publish it at the broker, then: chappe queue retry",
    "unspecified": "look at the broker's log; it is tried again by itself",
    "implementation_specific": "look at the broker's log; it is tried again by itself",
    "quota_exceeded": "raise the broker's quota for this device; it is tried again by itself",
    "topic_name_invalid": "look at the broker's rules for topics, then: chappe queue retry --dead",
    "payload_format_invalid": "look at the broker's rules for payloads, then: chappe queue retry --dead",
    "too_large": "raise the broker's limit, then: chappe queue retry --dead",
    "poison": "see chappe queue show --dead; drop it, or retry it with another broker",
    "subscription_refused": "allow this device to subscribe at the broker",
    "auth_failed": "correct mqtt.username and mqtt.password_file",
    "duplicate_id": "give one of the two devices another device.id",
    "config_rejected": "chappe config validate",
    "job_invalid": "correct the job that the message names",
    "store_full": "free some disk space",
    "store_failed": "make the state folder writable",
    "store_corrupt": "nothing; what could be salvaged was, and the old file was kept",
    "history_failed": "make the state folder writable",
    "metrics_failed": "correct metrics.file: its folder must exist and be writable",
    "stuck": "wait, else restart the daemon",
}


def remedy(part: str, code: str) -> str:
    """What to do about a fault.

    >>> remedy("camera", "camera_hung"), remedy("mqtt", "mqtt_bug")
    ('restart the daemon', 'please report it: a bug in mqtt')
    """
    if code.endswith("_bug"):
        return f"please report it: a bug in {part}"
    return REMEDIES.get(code, "see docs/troubleshooting.md")
