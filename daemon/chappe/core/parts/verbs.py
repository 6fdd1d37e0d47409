"""The verbs of ``req/<verb>`` and of the control socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chappe.core.context import Context
from chappe.core.parts.archive import Archive
from chappe.core.parts.eyes import Eyes
from chappe.core.parts.news import News
from chappe.core.parts.pins import IDENTIFY_FOR, Pins
from chappe.core.parts.queue import queue_verbs
from chappe.core.requests import Handler, field
from chappe.core.settings import to_data
from chappe.core.units import SECOND, Ns
from chappe.errors import WireError

REFUSALS: Mapping[str, str] = {
    "owner_off": "the owner switched the camera off by hand; only a hand switches it on again",
    "disabled": "no camera is configured (camera.source is off)",
}


def verbs(context: Context, pins: Pins, eyes: Eyes, news: News, archive: Archive) -> Mapping[str, Handler]:
    """Every verb and what it does."""

    def identify(body: Mapping[str, Any], now: Ns) -> Any:
        del body, now
        pins.identify()
        return {"seconds": IDENTIFY_FOR // SECOND}

    def camera(body: Mapping[str, Any], now: Ns) -> Any:
        del now
        refusal = eyes.switch_by_request(field(body, "on", bool))
        if refusal:
            raise WireError(refusal, REFUSALS.get(refusal, refusal))
        return eyes.camera_document()

    return {
        "status": _tell(news.status_document),
        "health": _tell(news.health_document),
        "models": _tell(lambda: list(eyes.listing)),
        "config-get": _tell(lambda: to_data(context.config)),
        "identify": identify,
        "camera": camera,
        **archive.verbs(),
        **queue_verbs(context),
    }


def _tell(document: Callable[[], Any]) -> Handler:
    """A verb that only tells, and asks for nothing."""

    def tell(body: Mapping[str, Any], now: Ns) -> Any:
        del body, now
        return document()

    return tell
