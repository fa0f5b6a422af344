# SPDX-License-Identifier: Apache-2.0
"""What the control core speaks of: buttons, alarms, what goes in, what is remembered, what comes out.

Temperatures are in degrees Celsius. All times are monotonic seconds on the clock that `step` is called with.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from . import timings


class Button(StrEnum):
    """The panel's four buttons."""

    POWER = "power"
    TEMP = "temp"
    SUPERCOOL = "supercool"
    ALARM = "alarm"


class Finger(StrEnum):
    """What a finger did at a button: put down, lifted there, or slid off (a change of mind)."""

    DOWN = "down"
    UP = "up"
    AWAY = "away"


class Alarm(StrEnum):
    """What the owner must know of. In order of what is shown first."""

    SENSOR = "sensor"
    OUTAGE = "outage"
    WARM = "warm"
    COLD = "cold"
    DOOR = "door"
    BUTTON = "button"


class Chirp(StrEnum):
    """A short answer to a finger: taken, taken as a long press, or refused."""

    CLICK = "click"
    LONG = "long"
    REFUSED = "refused"


class Mode(StrEnum):
    """How cold it should be: as set, cooled fast for some hours, or kept fresh while nobody is home."""

    NORMAL = "normal"
    SUPERCOOL = "supercool"
    HOLIDAY = "holiday"


@dataclass(frozen=True)
class Touch:
    """One move of a finger at a button."""

    button: Button
    finger: Finger


@dataclass(frozen=True)
class Inputs:
    """What a step sees. `air` is None while the probe gives no reading."""

    air: float | None
    door_open: bool = False
    touches: tuple[Touch, ...] = ()


@dataclass(frozen=True)
class State:
    """All that the core remembers.

    `down`: buttons under a finger and since when; `used_long`: those of them whose long press was taken already.
    `pulled_down`: the cabinet has reached its target since it was switched on; `pulling_since`: on its way there.
    `outage`: the power failed since the last run, the cabinet was cold before, and its air was not yet looked at.
    `warmest`: the highest air temperature since it was last fine, for the owner to judge the food by.
    """

    power: bool = True
    setpoint: int = timings.SETPOINT_FACTORY
    mode: Mode = Mode.NORMAL
    supercool_until: float | None = None
    locked: bool = False

    compressor: bool = False
    compressor_since: float = 0.0
    started_at: float | None = None
    pulled_down: bool = False
    pulling_since: float | None = None
    outage: bool = False

    door_open_since: float | None = None
    warm_since: float | None = None
    cold_since: float | None = None
    probe_lost_since: float | None = None
    warmest: float | None = None
    alarms: frozenset[Alarm] = frozenset()
    silenced: frozenset[Alarm] = frozenset()

    down: tuple[tuple[Button, float], ...] = ()
    used_long: frozenset[Button] = frozenset()
    stuck: frozenset[Button] = frozenset()
    setting_until: float | None = None
    recall_until: float | None = None
    refused_until: float | None = None
    noticed_at: float | None = None
    """When somebody was last seen at the fridge: a touch, or the door."""

    @property
    def target(self) -> float:
        """The air temperature that the compressor works for."""
        match self.mode:
            case Mode.SUPERCOOL:
                return timings.SUPERCOOL_TARGET
            case Mode.HOLIDAY:
                return timings.HOLIDAY_TARGET
            case _:
                return float(self.setpoint)


def changed(state: State, **values: Any) -> State:
    """`state` with these values; itself where it has them already, as at nearly every step."""
    if all(getattr(state, name) == value for name, value in values.items()):
        return state
    return replace(state, **values)


@dataclass(frozen=True)
class Outputs:
    """What the hardware does. `buzzer`: an alarm sounds. `brightness`: of the panel, percent. `chirps`: once each."""

    compressor: bool
    light: bool
    buzzer: bool
    brightness: int = 100
    chirps: tuple[Chirp, ...] = field(default=())


@dataclass(frozen=True)
class Event:
    """Something worth telling: `pressed`, `refused` (a locked button), `alarm`, `alarm_over`."""

    kind: str
    name: str
