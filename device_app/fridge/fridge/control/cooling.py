# SPDX-License-Identifier: Apache-2.0
"""The compressor: hysteresis around the target, within the times that it must rest and run."""

from __future__ import annotations

from dataclasses import replace

from .model import State
from .timings import (
    BLIND_OFF_SECONDS,
    BLIND_ON_SECONDS,
    HYSTERESIS,
    HYSTERESIS_LOW,
    MIN_OFF_SECONDS,
    MIN_ON_SECONDS,
    RESTART_DELAY_SECONDS,
)


def turn(state: State, air: float | None, now: float) -> State:
    """Start or stop it where that is due; without a probe, by the clock."""
    if not state.power:
        return state
    lasted = now - state.compressor_since
    if state.compressor:
        due = lasted >= MIN_ON_SECONDS and _enough(state, air, lasted)
    else:
        just_powered = state.started_at is not None and now - state.started_at < RESTART_DELAY_SECONDS
        due = lasted >= MIN_OFF_SECONDS and not just_powered and _needed(state, air, lasted)
    return replace(state, compressor=not state.compressor, compressor_since=now) if due else state


def _needed(state: State, air: float | None, rested: float) -> bool:
    return rested >= BLIND_OFF_SECONDS if air is None else air >= state.target + HYSTERESIS


def _enough(state: State, air: float | None, ran: float) -> bool:
    return ran >= BLIND_ON_SECONDS if air is None else air <= state.target - HYSTERESIS_LOW
