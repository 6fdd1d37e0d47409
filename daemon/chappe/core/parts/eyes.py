"""What is seen: detections become gestures and signals; the camera is watched, opened, closed and restarted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from chappe.core import events as ev
from chappe.core.camera import CameraWatch, Close, Decision, Fault, Heal, Open
from chappe.core.context import Context
from chappe.core.effects import CloseCamera, LoadModel, OpenCamera
from chappe.core.envelope import to_json
from chappe.core.gestures import NO_SIGNAL, Gestures, Sighting
from chappe.core.indicators import State
from chappe.core.latency import Latency, Pace
from chappe.core.parts.deeds import Deeds
from chappe.core.units import SECOND, Ns

MEMORY = "camera.off_by"
FPS_OVER = Ns(5 * SECOND)
CAMERA = "camera"
VISION = "vision"


class Eyes:
    """Camera, vision, gestures and the latched signal.

    Args:
        context: the engine's.
    """

    def __init__(self, context: Context) -> None:
        self.latency = Latency()
        self.model = ""
        self.listing: tuple[dict[str, Any], ...] = ()
        self.inference_skipped = 0
        self._context = context
        self._deeds: Deeds
        self._light: Callable[[str], None]
        self._gestures = self._new_gestures()
        camera = context.config.camera
        self._watch = CameraWatch(camera.source, camera.rate_hz, camera.stall)
        self._pulse = ev.FramesCaptured(at=context.now, frames=0, skipped=0, last_at=context.now)
        self._pace = Pace(FPS_OVER)

    def _new_gestures(self) -> Gestures:
        config = self._context.config
        return Gestures(config.gestures.as_votes(), config.signals, config.gestures.latch)

    def start(self, deeds: Deeds, light: Callable[[str], None]) -> None:
        """Begin: the model is loaded, and the camera opened unless somebody switched it off.

        Args:
            deeds: what rules do.
            light: lights the lamp of a signal.
        """
        self._deeds, self._light = deeds, light
        context = self._context
        self._publish_signal(NO_SIGNAL, None)
        if context.config.camera.source != "off":
            context.emit(LoadModel(name=context.config.vision.model))
        self._carry_out(self._watch.started(context.now, context.memory.get(MEMORY)))
        self._show_off()

    def stop(self) -> None:
        """The daemon stops: no further frame."""
        self._context.emit(CloseCamera())

    def reconfigured(self) -> None:
        """Signals or votes have changed: votes begin anew, the latched signal stays while it still means something."""
        signal = self.signal
        self._gestures = self._new_gestures()
        if signal in self._context.config.signals.values():
            self._gestures.latch.signal = signal
        elif signal != NO_SIGNAL:
            self._signal(NO_SIGNAL, None)

    @property
    def signal(self) -> str:
        """The latched signal, ``-`` for none."""
        return self._gestures.signal

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def due(self) -> Ns | None:
        latch, watch = self._gestures.due(), self._watch.due()
        if latch is None or watch is None:
            return watch if latch is None else latch
        return min(latch, watch)

    def expire(self) -> None:
        """Let time act on the latch and on the camera's watch."""
        now = self._context.now
        signal = self._gestures.expire(now)
        if signal is not None:
            self._signal(signal, None)
        due = self._watch.due()
        if due is not None and due <= now:
            self._carry_out(self._watch.expire(now))

    # ── vision ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def seen(self, event: ev.Seen) -> None:
        """A frame was looked at."""
        self.latency.add(event.took)
        self.inference_skipped = event.skipped
        self._look(event.frame_at)
        decision = self._gestures.frame(event.hands, event.at)
        for sighting in decision.gestures:
            self._gesture(sighting)
        if decision.signal is not None:
            self._signal(decision.signal, decision.gestures[0] if decision.gestures else None)

    def _look(self, frame_at: Ns) -> None:
        self._pace.note(frame_at)
        decisions = self._watch.frame(frame_at, self._context.now)
        if decisions:
            self._carry_out(decisions)

    def _gesture(self, sighting: Sighting) -> None:
        context = self._context
        context.produce("gesture", _data(sighting), model=self.model)
        context.announce("gesture", **_data(sighting))
        self._deeds.react(gesture=sighting.gesture)

    def _signal(self, signal: str, by: Sighting | None) -> None:
        self._publish_signal(signal, by)
        self._light(signal)
        self._context.announce("signal", signal=signal)
        self._deeds.react(signal=signal)

    def _publish_signal(self, signal: str, by: Sighting | None) -> None:
        context = self._context
        stamp = context.clock.stamp(context.now)
        payload: dict[str, Any] = {"signal": signal, "at": stamp.at, "synced": stamp.synced}
        if by is not None:
            payload |= {"gesture": by.gesture, "score": by.score, "model": self.model}
        context.last.set(context.topics.signal, to_json(payload))

    def model_loaded(self, event: ev.ModelLoaded) -> None:
        """A model is in use from now on."""
        self.model, self.listing = event.model, event.listing
        context = self._context
        context.heal_all(VISION)
        context.last.set(context.topics.model(event.name), to_json({"model": event.model, "deployed": True}))
        context.announce("model", model=event.model)

    def model_rejected(self, event: ev.ModelRejected) -> None:
        """A model was refused; whatever was in use goes on."""
        self._context.fault(VISION, event.code, event.message, model=event.name)

    # ── camera ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def frames_captured(self, event: ev.FramesCaptured) -> None:
        """The camera's pulse."""
        self._pulse = event
        self._carry_out(self._watch.frame(event.last_at, self._context.now))

    def camera_opened(self, event: ev.CameraOpened) -> None:
        """The camera is open."""
        self._carry_out(self._watch.opened(event.at))
        self._context.announce("camera", open=True, source=event.source, width=event.width, height=event.height)

    def camera_closed(self, event: ev.CameraClosed) -> None:
        """The camera is closed."""
        self._carry_out(self._watch.closed(event.at))
        self._context.announce("camera", open=False)

    def camera_failed(self, event: ev.CameraFailed) -> None:
        """The camera could not be opened, or failed."""
        self._carry_out(self._watch.failed(event.code, event.retriable, event.at, event.message))

    def camera_exhausted(self, event: ev.CameraExhausted) -> None:
        """A source of files has shown its last picture."""
        self._carry_out(self._watch.exhausted(event.at))

    def switch_by_request(self, on: bool) -> str | None:
        """A message wants the camera on or off; returns why not."""
        return self._turn(on, "request")

    def toggle_by_owner(self) -> None:
        """A hand on the button: off if it is on, on if it is off, whoever switched it."""
        self._turn(self._watch.off_by is not None, "owner")

    def _turn(self, on: bool, by: Literal["owner", "request"]) -> str | None:
        context = self._context
        before = self._watch.off_by
        refusal = self._watch.turn(on, by, context.now)
        if self._watch.off_by != before:
            context.remember(MEMORY, self._watch.off_by)
            self._show_off()
        self._carry_out(self._watch.expire(context.now))
        return refusal

    def _show_off(self) -> None:
        self._context.lamp.set(State.CAMERA_OFF, self._watch.off_by is not None, self._context.now)

    def _carry_out(self, decisions: list[Decision]) -> None:
        """Do what the watch has decided."""
        for decision in decisions:
            match decision:
                case Open():
                    self._context.emit(OpenCamera())
                case Close():
                    self._context.emit(CloseCamera())
                case Fault(code, message):
                    self._context.fault(CAMERA, code, message)
                case Heal(code):
                    self._context.heal(CAMERA, code)

    def camera_document(self) -> dict[str, Any]:
        """For ``health``."""
        return {
            "fps": self._pace.per_second(self._context.now),
            "frames": self._pulse.frames,
            "skipped": self._pulse.skipped,
            "restarts": self._watch.restarts,
            "shed": 0,
            "off_by": self._watch.off_by,
        }


def _data(sighting: Sighting) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(sighting)
    return {**data, "score": round(sighting.score, 4)}
