# SPDX-License-Identifier: Apache-2.0
"""The control core: `step(state, inputs, now) -> (state, outputs, events)`.

Everything that decides over cooling, alarms, light and buttons lives in this package; nothing here reads a clock, a
sensor or a screen. `now` is monotonic seconds. A module a region:

    model      what goes in, what is remembered, what comes out
    timings    every time and limit, with its source
    buttons    tap, long press, lock, stuck button; power, setting, SuperCool, holiday
    alarms     door, warm, cold, sensor, power failure, stuck button
    cooling    the compressor
    presence   light, brightness, buzzer
"""

from __future__ import annotations

from dataclasses import replace

from . import alarms, buttons, cooling, presence
from .model import Alarm, Button, Chirp, Event, Finger, Inputs, Mode, Outputs, State, Touch

__all__ = ["Alarm", "Button", "Chirp", "Event", "Finger", "Inputs", "Mode", "Outputs", "State", "Touch", "step"]


def step(state: State, inputs: Inputs, now: float) -> tuple[State, Outputs, tuple[Event, ...]]:
    """One turn of the loop; call it at least once a second, and at once for a touch."""
    if state.started_at is None:
        state = replace(state, started_at=now, compressor_since=now, noticed_at=now)
    told = buttons.Told()
    state = buttons.turn(state, inputs.touches, now, told)
    state = alarms.turn(state, inputs, now, told.events)
    state = cooling.turn(state, inputs.air, now)
    state = presence.turn(state, inputs, now)
    return state, presence.outputs(state, inputs, now, tuple(told.chirps)), tuple(told.events)
