# SPDX-License-Identifier: Apache-2.0
"""What the owner must know of: each alarm from what it is due to, and the warmest temperature for judging the food."""

from __future__ import annotations

from dataclasses import replace

from .model import Alarm, Event, Inputs, Mode, State, changed
from .timings import (
    COLD_LIMIT,
    COLD_SECONDS,
    DOOR_ALARM_SECONDS,
    HOLIDAY_TARGET,
    HOLIDAY_WARM_MARGIN,
    HYSTERESIS,
    OUTAGE_LIMIT,
    PULL_DOWN_SECONDS,
    SENSOR_LOST_SECONDS,
    WARM_LIMIT,
    WARM_SECONDS,
)

_NONE: frozenset[Alarm] = frozenset()


def turn(state: State, inputs: Inputs, now: float, events: list[Event]) -> State:
    """Look at the cabinet and tell of each alarm that begins or ends."""
    if not state.power:
        return changed(state, door_open_since=None, warm_since=None, cold_since=None, probe_lost_since=None)
    before = state.alarms
    state = _look(state, inputs, now)
    alarms = _due(state, inputs, now)
    if alarms != before:
        if Alarm.OUTAGE in alarms - before:
            # cooling down again after it is excused like the first time
            state = replace(state, pulled_down=False, pulling_since=now)
        events += [Event("alarm", alarm) for alarm in sorted(alarms - before)]
        events += [Event("alarm_over", alarm) for alarm in sorted(before - alarms)]
        state = replace(state, alarms=alarms, silenced=state.silenced & alarms)
    if inputs.air is not None and state.outage:
        state = replace(state, outage=False)
    return _remember_warmest(state, inputs.air)


def _due(state: State, inputs: Inputs, now: float) -> frozenset[Alarm]:
    due = []
    if _lasted(state.probe_lost_since, SENSOR_LOST_SECONDS, now):
        due.append(Alarm.SENSOR)
    if Alarm.OUTAGE in state.alarms or _warmed_in_outage(state, inputs.air):
        due.append(Alarm.OUTAGE)
    if _warm(state, now):
        due.append(Alarm.WARM)
    if _lasted(state.cold_since, COLD_SECONDS, now):
        due.append(Alarm.COLD)
    if _lasted(state.door_open_since, DOOR_ALARM_SECONDS, now):
        due.append(Alarm.DOOR)
    if state.stuck:
        due.append(Alarm.BUTTON)
    return frozenset(due) if due else _NONE


def warm_limit(state: State) -> float:
    """Above this the air is too warm for what the cabinet is meant to hold."""
    return HOLIDAY_TARGET + HOLIDAY_WARM_MARGIN if state.mode is Mode.HOLIDAY else WARM_LIMIT


def _look(state: State, inputs: Inputs, now: float) -> State:
    air = inputs.air
    pulled_down = state.pulled_down or (air is not None and air <= state.target + HYSTERESIS)
    return changed(
        state,
        door_open_since=_since(state.door_open_since, inputs.door_open, now),
        warm_since=_since(state.warm_since, air is not None and air > warm_limit(state), now),
        cold_since=_since(state.cold_since, air is not None and air < COLD_LIMIT, now),
        probe_lost_since=_since(state.probe_lost_since, air is None, now),
        pulled_down=pulled_down,
        pulling_since=_since(state.pulling_since, not pulled_down, now),
    )


def _warm(state: State, now: float) -> bool:
    # the first pull-down from a warm kitchen is no fault, unless it takes for ever
    excused = not state.pulled_down and not _lasted(state.pulling_since, PULL_DOWN_SECONDS, now)
    return not excused and _lasted(state.warm_since, WARM_SECONDS, now)


def _warmed_in_outage(state: State, air: float | None) -> bool:
    limit = warm_limit(state) if state.mode is Mode.HOLIDAY else OUTAGE_LIMIT
    return state.outage and air is not None and air > limit


def _remember_warmest(state: State, air: float | None) -> State:
    if state.alarms & {Alarm.WARM, Alarm.OUTAGE} or state.warm_since is not None:
        if air is None:
            return state
        # tenths, so that what is kept on disk changes seldom
        return changed(state, warmest=round(max(air, state.warmest if state.warmest is not None else air), 1))
    return state if state.recall_until is not None else changed(state, warmest=None)


def _since(since: float | None, on: bool, now: float) -> float | None:
    return (now if since is None else since) if on else None


def _lasted(since: float | None, seconds: float, now: float) -> bool:
    return since is not None and now - since >= seconds
