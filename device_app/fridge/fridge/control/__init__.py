# SPDX-License-Identifier: Apache-2.0
"""The control core: `step(state, inputs, now) -> (state, outputs, events)`.

Everything that decides over cooling, alarms and buttons lives in this file; nothing here reads a clock, a sensor or a
screen. `now` is monotonic seconds. Temperatures are in degrees Celsius. Times and limits are constants with their
source; "manual" sources are household and commercial refrigerator manuals, named in README.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

SETPOINT_MIN, SETPOINT_MAX, SETPOINT_FACTORY = 2, 8, 4  # Bosch/Siemens style manual
SUPERCOOL_TARGET = 2.0  # Blaupunkt 5FS300SE0: quick-cool holds 2 C
SUPERCOOL_SECONDS = 6 * 3600.0  # ends by itself after 6 h
HYSTERESIS = 1.5  # above the target before the compressor starts, below it at 0.5 before it stops
HYSTERESIS_LOW = 0.5
MIN_OFF_SECONDS = 180.0  # NEXO CMS100, LAE BD1-28: rest 3 min
MIN_ON_SECONDS = 150.0  # Hoshizaki RH1: 2.5 min
RESTART_DELAY_SECONDS = 180.0  # ECR UNHV: 3 min after an outage, pressures must level out
DOOR_ALARM_SECONDS = 120.0  # Blaupunkt 5FS300SE0: buzzer after 2 min
WARM_LIMIT = 10.0  # food is no longer safe for long above
WARM_SECONDS = 30 * 60.0
SENSOR_LOST_SECONDS = 30.0
BLIND_ON_SECONDS, BLIND_OFF_SECONDS = 240.0, 360.0  # LAE BD1-28: 4 min on, 6 min off without a probe


class Button(StrEnum):
    """The panel's four buttons."""

    POWER = "power"
    TEMP = "temp"
    SUPERCOOL = "supercool"
    ALARM = "alarm"


class Alarm(StrEnum):
    """What the owner must know of. In order of what is shown first."""

    SENSOR = "sensor"
    WARM = "warm"
    DOOR = "door"


@dataclass(frozen=True)
class Press:
    """One use of a button; `hold`: for 3 seconds, which is another command than a tap."""

    button: Button
    hold: bool = False


@dataclass(frozen=True)
class Inputs:
    """What the step sees. `air` is None while the probe gives no reading."""

    air: float | None
    door_open: bool = False
    presses: tuple[Press, ...] = ()


@dataclass(frozen=True)
class State:
    """All that the core remembers. Times are on the clock of `now`."""

    power: bool = True
    setpoint: int = SETPOINT_FACTORY
    supercool_until: float | None = None
    locked: bool = False
    compressor: bool = False
    compressor_since: float = 0.0
    started_at: float | None = None
    door_open_since: float | None = None
    warm_since: float | None = None
    probe_lost_since: float | None = None
    pulled_down: bool = False
    alarms: frozenset[Alarm] = frozenset()
    silenced: frozenset[Alarm] = frozenset()

    @property
    def target(self) -> float:
        return SUPERCOOL_TARGET if self.supercool_until is not None else float(self.setpoint)


@dataclass(frozen=True)
class Outputs:
    """What the hardware does."""

    compressor: bool
    light: bool
    buzzer: bool


@dataclass(frozen=True)
class Event:
    """Something worth telling: `pressed`, `refused` (a locked button), `alarm`, `alarm_over`."""

    kind: str
    name: str


Outcome = tuple[State, Outputs, tuple[Event, ...]]


def step(state: State, inputs: Inputs, now: float) -> Outcome:
    """One turn of the loop; call it at least once a second."""
    if state.started_at is None:
        state = replace(state, started_at=now, compressor_since=now)
    events: list[Event] = []
    for press in inputs.presses:
        state = _press(state, press, now, events)
    if state.supercool_until is not None and now >= state.supercool_until:
        state = replace(state, supercool_until=None)
    state = _watch(state, inputs, now, events)
    state = _compressor(state, inputs.air, now)
    buzzer = bool(state.alarms - state.silenced)
    return state, Outputs(state.compressor, inputs.door_open and state.power, buzzer), tuple(events)


# ---- buttons ----------------------------------------------------------------


def _press(state: State, press: Press, now: float, events: list[Event]) -> State:
    if press.button is Button.ALARM:
        return _alarm_button(state, press, events)
    if state.locked:
        events.append(Event("refused", press.button))
        return state
    events.append(Event("pressed", press.button))
    match press.button:
        case Button.POWER if press.hold or not state.power:
            # off needs a hold: food must not spoil by a brush of the sleeve
            return _power(state, now)
        case Button.TEMP if state.power:
            span = SETPOINT_MAX - SETPOINT_MIN + 1
            colder = SETPOINT_MIN + (state.setpoint - SETPOINT_MIN - 1) % span
            return replace(state, setpoint=colder, supercool_until=None)
        case Button.SUPERCOOL if state.power:
            until = None if state.supercool_until is not None else now + SUPERCOOL_SECONDS
            return replace(state, supercool_until=until)
        case _:
            return state


def _alarm_button(state: State, press: Press, events: list[Event]) -> State:
    """A tap silences, locked or not; a hold locks and unlocks."""
    events.append(Event("pressed", press.button))
    if press.hold:
        return replace(state, locked=not state.locked)
    return replace(state, silenced=state.alarms)


def _power(state: State, now: float) -> State:
    """Off stops cooling at once; on counts as a first start."""
    if not state.power:
        return replace(state, power=True, pulled_down=False, warm_since=None)
    changed = {"compressor": False, "compressor_since": now} if state.compressor else {}
    return replace(state, power=False, supercool_until=None, alarms=frozenset(), silenced=frozenset(), **changed)  # type: ignore[arg-type]


# ---- alarms -----------------------------------------------------------------


def _watch(state: State, inputs: Inputs, now: float, events: list[Event]) -> State:
    if not state.power:
        return replace(state, door_open_since=None, warm_since=None, probe_lost_since=None)
    warm = inputs.air is not None and inputs.air > WARM_LIMIT
    state = replace(
        state,
        door_open_since=_since(state.door_open_since, inputs.door_open, now),
        warm_since=_since(state.warm_since, warm, now),
        probe_lost_since=_since(state.probe_lost_since, inputs.air is None, now),
        pulled_down=state.pulled_down or (inputs.air is not None and inputs.air <= state.target + HYSTERESIS),
    )
    due = {
        Alarm.DOOR: _lasted(state.door_open_since, DOOR_ALARM_SECONDS, now),
        # the first pull-down from a warm kitchen is no fault
        Alarm.WARM: state.pulled_down and _lasted(state.warm_since, WARM_SECONDS, now),
        Alarm.SENSOR: _lasted(state.probe_lost_since, SENSOR_LOST_SECONDS, now),
    }
    alarms = frozenset(alarm for alarm, on in due.items() if on)
    events += [Event("alarm", alarm) for alarm in sorted(alarms - state.alarms)]
    events += [Event("alarm_over", alarm) for alarm in sorted(state.alarms - alarms)]
    return replace(state, alarms=alarms, silenced=state.silenced & alarms)


def _since(since: float | None, on: bool, now: float) -> float | None:
    return (now if since is None else since) if on else None


def _lasted(since: float | None, seconds: float, now: float) -> bool:
    return since is not None and now - since >= seconds


# ---- compressor -------------------------------------------------------------


def _compressor(state: State, air: float | None, now: float) -> State:
    """Hysteresis around the target, within the compressor's minimum times."""
    if not state.power:
        return state
    ran = now - state.compressor_since
    if state.compressor:
        turn = ran >= MIN_ON_SECONDS and _enough(state, air, ran)
    else:
        first = state.started_at is not None and now - state.started_at < RESTART_DELAY_SECONDS
        turn = ran >= MIN_OFF_SECONDS and not first and _needed(state, air, ran)
    return replace(state, compressor=not state.compressor, compressor_since=now) if turn else state


def _needed(state: State, air: float | None, rested: float) -> bool:
    return rested >= BLIND_OFF_SECONDS if air is None else air >= state.target + HYSTERESIS


def _enough(state: State, air: float | None, ran: float) -> bool:
    return ran >= BLIND_ON_SECONDS if air is None else air <= state.target - HYSTERESIS_LOW
