# SPDX-License-Identifier: Apache-2.0
"""The control core, a region at a time, with time as a number. Random days are in test_any_kitchen.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fridge.control import Alarm, Button, Chirp, Event, Finger, Inputs, Mode, Outputs, State, Touch, step, timings


class Cabinet:
    """A core and its clock."""

    def __init__(self, state: State | None = None, air: float | None = 4.0) -> None:
        self.state = state or State()
        self.air, self.door, self.now = air, False, 1000.0
        self.told: list[Event] = []
        self.chirps: list[Chirp] = []
        self.outputs = Outputs(False, False, False)
        self.turn()

    def turn(self, *touches: Touch) -> None:
        self.state, self.outputs, events = step(self.state, Inputs(self.air, self.door, touches), self.now)
        self.told += events
        self.chirps += self.outputs.chirps

    def wait(self, seconds: float, every: float = 1.0) -> None:
        """Let time pass in turns of at most `every` seconds."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + every)
            self.turn()

    def tap(self, button: Button) -> None:
        self.turn(Touch(button, Finger.DOWN))
        self.now += 0.1
        self.turn(Touch(button, Finger.UP))

    def hold(self, button: Button, seconds: float = timings.LONG_PRESS_SECONDS + 0.2) -> None:
        self.turn(Touch(button, Finger.DOWN))
        self.wait(seconds, 0.1)
        self.turn(Touch(button, Finger.UP))

    def alarms(self) -> set[str]:
        return {str(alarm) for alarm in self.state.alarms}


# ---- buttons ------------------------------------------------------------------------------------


def test_a_tap_acts_when_the_finger_lifts_and_a_long_press_while_it_stays() -> None:
    cabinet = Cabinet()
    cabinet.turn(Touch(Button.TEMP, Finger.DOWN))
    assert cabinet.state.setpoint == 4
    cabinet.now += 0.1
    cabinet.turn(Touch(Button.TEMP, Finger.UP))
    assert cabinet.state.setpoint == 3
    cabinet.turn(Touch(Button.POWER, Finger.DOWN))
    cabinet.wait(timings.LONG_PRESS_SECONDS - 0.1, 0.1)
    assert cabinet.state.power
    cabinet.wait(0.2, 0.1)
    assert not cabinet.state.power
    cabinet.turn(Touch(Button.POWER, Finger.UP))
    assert not cabinet.state.power, "lifting after a long press is no tap"


def test_a_long_press_that_is_told_of_late_is_still_one() -> None:
    """A panel that was busy sends both ends at once, seconds apart on the core's clock."""
    cabinet = Cabinet()
    cabinet.turn(Touch(Button.ALARM, Finger.DOWN))
    cabinet.now += timings.LONG_PRESS_SECONDS
    cabinet.turn(Touch(Button.ALARM, Finger.UP))
    assert cabinet.state.locked
    assert [event.kind for event in cabinet.told] == ["pressed"]


def test_two_fingers_are_two_buttons() -> None:
    cabinet = Cabinet()
    cabinet.turn(Touch(Button.TEMP, Finger.DOWN), Touch(Button.SUPERCOOL, Finger.DOWN))
    cabinet.turn(Touch(Button.TEMP, Finger.UP), Touch(Button.SUPERCOOL, Finger.UP))
    assert (cabinet.state.setpoint, cabinet.state.mode) == (3, Mode.SUPERCOOL)


def test_a_lift_without_a_touch_is_nothing() -> None:
    cabinet = Cabinet()
    before = cabinet.state.setpoint
    cabinet.turn(Touch(Button.TEMP, Finger.UP))
    assert (cabinet.state.setpoint, cabinet.told) == (before, [])


@pytest.mark.parametrize("button", [Button.POWER, Button.TEMP, Button.SUPERCOOL])
def test_the_lock_refuses_taps_and_long_presses_and_says_so(button: Button) -> None:
    cabinet = Cabinet(State(locked=True))
    before = cabinet.state
    cabinet.tap(button)
    cabinet.hold(button)
    assert cabinet.told == [Event("refused", button)] * 2
    assert cabinet.chirps == [Chirp.REFUSED] * 2
    for name in ("power", "setpoint", "mode", "locked"):
        assert getattr(cabinet.state, name) == getattr(before, name)
    assert cabinet.state.refused_until is not None
    cabinet.wait(timings.REFUSED_SECONDS)
    assert cabinet.state.refused_until is None


def test_what_was_pressed_sounds() -> None:
    cabinet = Cabinet()
    cabinet.tap(Button.TEMP)
    cabinet.hold(Button.ALARM)
    assert cabinet.chirps == [Chirp.CLICK, Chirp.LONG]


@pytest.mark.parametrize("power", [True, False])
def test_a_stuck_power_button_leaves_the_fridge_on(power: bool) -> None:
    cabinet = Cabinet(State(power=power))
    cabinet.turn(Touch(Button.POWER, Finger.DOWN))
    cabinet.wait(timings.STUCK_SECONDS + 1)
    assert cabinet.state.power
    assert "button" in cabinet.alarms()
    cabinet.turn(Touch(Button.POWER, Finger.UP))
    assert cabinet.state.power
    assert cabinet.alarms() == set()


def test_a_stuck_supercool_button_does_not_leave_food_on_holiday() -> None:
    cabinet = Cabinet()
    cabinet.turn(Touch(Button.SUPERCOOL, Finger.DOWN))
    cabinet.wait(timings.LONG_PRESS_SECONDS)
    assert cabinet.state.mode is Mode.HOLIDAY
    cabinet.wait(timings.STUCK_SECONDS)
    assert cabinet.state.mode is Mode.NORMAL


def test_supercool_ends_by_itself_and_the_set_temperature_is_back() -> None:
    cabinet = Cabinet(State(setpoint=6))
    cabinet.tap(Button.SUPERCOOL)
    assert cabinet.state.target == timings.SUPERCOOL_TARGET
    cabinet.wait(timings.SUPERCOOL_SECONDS - 1, 60)
    assert cabinet.state.mode is Mode.SUPERCOOL
    cabinet.wait(2)
    assert cabinet.state.target == 6.0


def test_supercool_that_came_over_a_power_failure_ends_too() -> None:
    cabinet = Cabinet(State(mode=Mode.SUPERCOOL))
    cabinet.wait(timings.SUPERCOOL_SECONDS + 1, 60)
    assert cabinet.state.mode is Mode.NORMAL


def test_a_long_press_on_temperature_asks_for_the_settings_page() -> None:
    cabinet = Cabinet()
    cabinet.hold(Button.TEMP)
    assert Event("menu", "temp") in cabinet.told
    assert cabinet.state.setpoint == 4


# ---- alarms -------------------------------------------------------------------------------------


def test_the_door_alarm_comes_after_exactly_two_minutes_and_ends_with_the_door() -> None:
    cabinet = Cabinet()
    cabinet.door = True
    cabinet.turn()
    cabinet.wait(timings.DOOR_ALARM_SECONDS - 1)
    assert cabinet.told == []
    cabinet.wait(1)
    assert cabinet.told == [Event("alarm", "door")]
    cabinet.door = False
    cabinet.wait(1)
    assert cabinet.told[1:] == [Event("alarm_over", "door")]


def test_the_first_pull_down_raises_no_warm_alarm_and_a_later_warmth_does() -> None:
    cabinet = Cabinet(air=20.0)
    cabinet.wait(2 * timings.WARM_SECONDS, 10)
    assert cabinet.told == []
    cabinet.air = 4.0
    cabinet.wait(1)
    cabinet.air = 20.0
    cabinet.wait(timings.WARM_SECONDS + 10, 10)
    assert cabinet.told == [Event("alarm", "warm")]


def test_a_first_pull_down_that_never_ends_is_no_longer_excused() -> None:
    cabinet = Cabinet(air=20.0)
    cabinet.wait(timings.PULL_DOWN_SECONDS - 60, 60)
    assert cabinet.told == []
    cabinet.wait(180, 60)
    assert cabinet.told == [Event("alarm", "warm")]


def test_coming_home_from_holiday_is_a_pull_down_like_the_first() -> None:
    cabinet = Cabinet()
    cabinet.hold(Button.SUPERCOOL)
    cabinet.air = 16.0
    cabinet.wait(2 * timings.WARM_SECONDS, 10)
    assert cabinet.alarms() == set(), "16 degrees are what holiday is for"
    cabinet.tap(Button.SUPERCOOL)
    cabinet.wait(2 * timings.WARM_SECONDS, 10)
    assert cabinet.alarms() == set()


def test_holiday_that_gets_much_too_warm_is_told() -> None:
    cabinet = Cabinet()
    cabinet.hold(Button.SUPERCOOL)
    cabinet.air = timings.HOLIDAY_TARGET + timings.HOLIDAY_WARM_MARGIN + 1
    cabinet.wait(timings.WARM_SECONDS + 30, 10)
    assert cabinet.alarms() == {"warm"}


def test_a_cabinet_that_freezes_is_told() -> None:
    """As a relay does that sticks: the compressor is off and it gets colder."""
    cabinet = Cabinet(air=timings.COLD_LIMIT - 0.5)
    cabinet.wait(timings.COLD_SECONDS - 10, 10)
    assert cabinet.alarms() == set()
    cabinet.wait(20, 10)
    assert cabinet.alarms() == {"cold"}
    assert not cabinet.outputs.compressor


def test_the_warmest_temperature_is_kept_until_it_was_looked_at() -> None:
    cabinet = Cabinet()
    cabinet.wait(1)
    cabinet.air = 17.26
    cabinet.wait(timings.WARM_SECONDS + 1, 10)
    cabinet.air = 11.0
    cabinet.wait(60)
    cabinet.tap(Button.ALARM)
    assert (cabinet.state.warmest, cabinet.state.recall_until is not None) == (17.3, True)
    assert not cabinet.outputs.buzzer
    cabinet.wait(timings.RECALL_SECONDS)
    assert cabinet.state.recall_until is None


def test_food_that_warmed_in_a_power_failure_is_told_at_once_and_once() -> None:
    cabinet = Cabinet(State(outage=True, pulled_down=True), air=None)
    assert cabinet.alarms() == set(), "no probe yet, nothing is known"
    cabinet.air = 13.0
    cabinet.wait(1)
    assert cabinet.alarms() == {"outage"}
    assert cabinet.outputs.buzzer
    cabinet.air = 4.0
    cabinet.wait(60)
    assert cabinet.alarms() == {"outage"}, "that it is cold again does not make the food good"
    cabinet.tap(Button.ALARM)
    assert cabinet.state.recall_until is not None
    assert cabinet.state.warmest == 13.0
    cabinet.wait(60)
    assert cabinet.alarms() == set()


def test_a_short_power_failure_that_warmed_nothing_is_no_alarm() -> None:
    cabinet = Cabinet(State(outage=True, pulled_down=True), air=6.0)
    cabinet.air = 12.0
    cabinet.wait(60)
    assert cabinet.alarms() == set()


def test_a_silenced_alarm_sounds_again_only_for_a_new_one() -> None:
    cabinet = Cabinet()
    cabinet.door = True
    cabinet.wait(timings.DOOR_ALARM_SECONDS + 1)
    cabinet.tap(Button.ALARM)
    cabinet.wait(60)
    assert not cabinet.outputs.buzzer
    cabinet.air = None
    cabinet.wait(timings.SENSOR_LOST_SECONDS + 1)
    assert cabinet.outputs.buzzer


def test_off_is_quiet_and_forgets_alarms() -> None:
    cabinet = Cabinet(air=None)
    cabinet.wait(timings.SENSOR_LOST_SECONDS + 1)
    cabinet.hold(Button.POWER)
    assert cabinet.outputs == replace(cabinet.outputs, compressor=False, buzzer=False, light=False)
    assert cabinet.alarms() == set()
    cabinet.wait(600)
    assert cabinet.alarms() == set()


# ---- compressor ---------------------------------------------------------------------------------


def test_after_power_returns_the_compressor_rests_first() -> None:
    cabinet = Cabinet(air=20.0)
    while cabinet.now < 1000.0 + timings.RESTART_DELAY_SECONDS - 1:
        cabinet.wait(1)
        assert not cabinet.outputs.compressor
    cabinet.wait(1)
    assert cabinet.outputs.compressor


def test_it_runs_its_minimum_though_it_is_cold_at_once() -> None:
    cabinet = Cabinet(air=20.0)
    cabinet.wait(timings.RESTART_DELAY_SECONDS)
    cabinet.air = 0.0
    cabinet.wait(timings.MIN_ON_SECONDS - 1)
    assert cabinet.outputs.compressor
    cabinet.wait(2)
    assert not cabinet.outputs.compressor


def test_without_a_probe_cooling_goes_on_by_the_clock() -> None:
    cabinet, ran = Cabinet(air=None), 0
    for _ in range(7200):
        cabinet.wait(1)
        ran += cabinet.outputs.compressor
    assert 0.3 < ran / 7200 < 0.5
    assert Alarm.SENSOR in cabinet.state.alarms


# ---- light, brightness --------------------------------------------------------------------------


def test_the_light_follows_the_door_for_ten_minutes() -> None:
    cabinet = Cabinet()
    cabinet.door = True
    cabinet.turn()
    assert cabinet.outputs.light
    cabinet.wait(timings.LIGHT_SECONDS, 10)
    assert not cabinet.outputs.light, "a lamp heats a cabinet that was left open"
    cabinet.door = False
    cabinet.turn()
    cabinet.door = True
    cabinet.turn()
    assert cabinet.outputs.light


def test_the_panel_dims_where_nobody_is_and_wakes_for_a_finger_the_door_and_an_alarm() -> None:
    cabinet = Cabinet()
    cabinet.wait(timings.DIM_SECONDS)
    assert cabinet.outputs.brightness == timings.DIM
    cabinet.turn(Touch(Button.ALARM, Finger.DOWN), Touch(Button.ALARM, Finger.UP))
    assert cabinet.outputs.brightness == timings.BRIGHT
    cabinet.wait(timings.DIM_SECONDS)
    cabinet.door = True
    cabinet.turn()
    assert cabinet.outputs.brightness == timings.BRIGHT
    cabinet.door, cabinet.air = False, None
    cabinet.wait(max(timings.DIM_SECONDS, timings.SENSOR_LOST_SECONDS) + 1)
    assert cabinet.outputs.brightness == timings.BRIGHT, "an alarm is seen from afar"
    cabinet.hold(Button.POWER)
    cabinet.wait(timings.DIM_SECONDS)
    assert cabinet.outputs.brightness == timings.DARK
