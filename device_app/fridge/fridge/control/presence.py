# SPDX-License-Identifier: Apache-2.0
"""What the fridge does for who stands before it: light inside, brightness of the panel, sound."""

from __future__ import annotations

from dataclasses import replace

from .model import Chirp, Inputs, Outputs, State
from .timings import BRIGHT, DARK, DIM, DIM_SECONDS, LIGHT_SECONDS


def turn(state: State, inputs: Inputs, now: float) -> State:
    """Notice somebody."""
    return replace(state, noticed_at=now) if inputs.touches or inputs.door_open else state


def outputs(state: State, inputs: Inputs, now: float, chirps: tuple[Chirp, ...]) -> Outputs:
    """What the hardware does until the next step."""
    sounding = bool(state.alarms - state.silenced)
    lit_long = state.door_open_since is not None and now - state.door_open_since >= LIGHT_SECONDS
    return Outputs(
        compressor=state.compressor,
        light=inputs.door_open and state.power and not lit_long,
        buzzer=sounding,
        brightness=_brightness(state, sounding, now),
        chirps=chirps,
    )


def _brightness(state: State, sounding: bool, now: float) -> int:
    if sounding or state.noticed_at is None or now - state.noticed_at < DIM_SECONDS:
        return BRIGHT
    return DIM if state.power else DARK
