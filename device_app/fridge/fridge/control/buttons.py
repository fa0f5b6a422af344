# SPDX-License-Identifier: Apache-2.0
"""Fingers at the four buttons: what is a tap, a long press or a stuck button, and what each of them does.

| button | tap | long press (3 s) |
|---|---|---|
| power | on | off |
| temp | a degree colder, round again; first ends SuperCool and holiday | the panel's settings |
| supercool | SuperCool on and off | holiday on and off |
| alarm | silence, show the warmest temperature | lock and unlock |

The lock refuses all but the alarm button: an alarm can always be acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from .model import Alarm, Button, Chirp, Event, Finger, Mode, State, Touch
from .timings import (
    LONG_PRESS_SECONDS,
    RECALL_SECONDS,
    REFUSED_SECONDS,
    SETPOINT_MAX,
    SETPOINT_MIN,
    SETTING_SECONDS,
    STUCK_SECONDS,
    SUPERCOOL_SECONDS,
)

_TEMPERATURE_ALARMS = frozenset({Alarm.WARM, Alarm.COLD, Alarm.OUTAGE})


@dataclass
class Told:
    """What a step has to tell besides its state."""

    events: list[Event] = field(default_factory=list)
    chirps: list[Chirp] = field(default_factory=list)


def turn(state: State, touches: tuple[Touch, ...], now: float, told: Told) -> State:
    """Fingers first, then what time does to a finger that stays."""
    if not touches and not state.down:
        return _lapse(state, now)
    for touch in touches:
        state = _touch(state, touch, now, told)
    for button, since in state.down:
        state = _stays(state, button, since, now, told)
    return _lapse(state, now)


def _touch(state: State, touch: Touch, now: float, told: Told) -> State:
    held = dict(state.down)
    match touch.finger:
        case Finger.DOWN:
            # a second DOWN without an UP between is a lost message: the finger counts from its first
            held.setdefault(touch.button, now)
            return replace(state, down=tuple(held.items()))
        case Finger.UP if touch.button in held:
            short = touch.button not in state.used_long
            # a panel that was busy tells of both ends late: what lasted as long as a long press is one
            action = _tap if now - held[touch.button] < LONG_PRESS_SECONDS else _long
            if short and touch.button not in state.stuck:
                state = _use(state, touch.button, action, now, told)
            return _lifted(state, touch.button)
        case _:
            return _lifted(state, touch.button)


def _lifted(state: State, button: Button) -> State:
    down = tuple((held, since) for held, since in state.down if held != button)
    return replace(state, down=down, used_long=state.used_long - {button}, stuck=state.stuck - {button})


def _stays(state: State, button: Button, since: float, now: float, told: Told) -> State:
    if now - since >= STUCK_SECONDS and button not in state.stuck:
        return _undo(replace(state, stuck=state.stuck | {button}), button, now)
    if now - since >= LONG_PRESS_SECONDS and button not in state.used_long:
        state = replace(state, used_long=state.used_long | {button})
        return _use(state, button, _long, now, told)
    return state


Action = Callable[[State, Button, float, Told], State]


def _use(state: State, button: Button, action: Action, now: float, told: Told) -> State:
    if state.locked and button is not Button.ALARM:
        told.events.append(Event("refused", button))
        told.chirps.append(Chirp.REFUSED)
        return replace(state, refused_until=now + REFUSED_SECONDS)
    told.events.append(Event("pressed", button))
    told.chirps.append(Chirp.LONG if action is _long else Chirp.CLICK)
    return action(state, button, now, told)


def _tap(state: State, button: Button, now: float, told: Told) -> State:
    match button:
        case Button.ALARM:
            return _acknowledge(state, now)
        case Button.POWER if not state.power:
            return _switch_on(state)
        case Button.TEMP if state.power:
            return _colder(state, now)
        case Button.SUPERCOOL if state.power and state.mode is Mode.SUPERCOOL:
            return _to_mode(state, Mode.NORMAL, now)
        case Button.SUPERCOOL if state.power:
            return _to_mode(state, Mode.SUPERCOOL, now)
        case _:
            return state


def _long(state: State, button: Button, now: float, told: Told) -> State:
    match button:
        case Button.ALARM:
            return replace(state, locked=not state.locked, setting_until=None)
        case Button.POWER:
            # off needs a long press: food must not spoil by a brush of a sleeve
            return _switch_off(state, now) if state.power else _switch_on(state)
        case Button.TEMP:
            told.events.append(Event("menu", button))
            return state
        case Button.SUPERCOOL if state.power:
            return _to_mode(state, Mode.NORMAL if state.mode is Mode.HOLIDAY else Mode.HOLIDAY, now)
        case _:
            return state


def _undo(state: State, button: Button, now: float) -> State:
    """Take back what a stuck button did: something that leans on the glass must not spoil the food."""
    if button is Button.POWER and not state.power:
        return _switch_on(state)
    if button is Button.SUPERCOOL and state.mode is Mode.HOLIDAY:
        return _to_mode(state, Mode.NORMAL, now)
    return state


def _colder(state: State, now: float) -> State:
    until = now + SETTING_SECONDS
    if state.mode is not Mode.NORMAL:
        return replace(_to_mode(state, Mode.NORMAL, now), setting_until=until)
    span = SETPOINT_MAX - SETPOINT_MIN + 1
    colder = SETPOINT_MIN + (state.setpoint - SETPOINT_MIN - 1) % span
    return replace(state, setpoint=colder, setting_until=until)


def _to_mode(state: State, mode: Mode, now: float) -> State:
    if state.mode is Mode.HOLIDAY and mode is not Mode.HOLIDAY:
        # the way back from holiday is a pull-down like the first one
        state = replace(state, pulled_down=False, pulling_since=None, warm_since=None)
    until = now + SUPERCOOL_SECONDS if mode is Mode.SUPERCOOL else None
    return replace(state, mode=mode, supercool_until=until, setting_until=None)


def _acknowledge(state: State, now: float) -> State:
    """Silence what sounds. A power failure is over once the owner has seen how warm it got."""
    recall = now + RECALL_SECONDS if state.alarms & _TEMPERATURE_ALARMS and state.warmest is not None else None
    alarms = state.alarms - {Alarm.OUTAGE}
    return replace(state, alarms=alarms, silenced=alarms, recall_until=recall)


def _switch_on(state: State) -> State:
    return replace(state, power=True, pulled_down=False, pulling_since=None, warm_since=None, cold_since=None)


def _switch_off(state: State, now: float) -> State:
    stopped = replace(state, compressor=False, compressor_since=now) if state.compressor else state
    return replace(
        stopped,
        power=False,
        mode=Mode.NORMAL,
        supercool_until=None,
        outage=False,
        warmest=None,
        alarms=frozenset(),
        silenced=frozenset(),
        setting_until=None,
        recall_until=None,
    )


def _lapse(state: State, now: float) -> State:
    """End what ends by itself."""
    if state.mode is Mode.SUPERCOOL and state.supercool_until is None:
        # it came over a power failure, where how long it still had to go was lost: the cabinet has not become colder
        state = replace(state, supercool_until=now + SUPERCOOL_SECONDS)
    if state.supercool_until is not None and now >= state.supercool_until:
        state = _to_mode(state, Mode.NORMAL, now)
    if state.setting_until is not None and now >= state.setting_until:
        state = replace(state, setting_until=None)
    if state.recall_until is not None and now >= state.recall_until:
        state = replace(state, recall_until=None)
    if state.refused_until is not None and now >= state.refused_until:
        state = replace(state, refused_until=None)
    return state
