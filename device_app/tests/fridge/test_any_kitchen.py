# SPDX-License-Identifier: Apache-2.0
"""Whatever people and parts do, in whatever order: what the appliance promises always holds."""

from __future__ import annotations

import random
import time

import pytest
from fridge.control import Alarm, Button, Finger, Inputs, Mode, Outputs, State, Touch, step, timings
from fridge.hardware.simulator import SimulatedCabinet
from fridge.showing import showing
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule


def day(seed: int, *, faults: bool) -> list[tuple[float, str, str]]:
    """A day of a kitchen: (second, what, value), door openings and, where asked, faults that are mended again."""
    chance = random.Random(seed)
    doings: list[tuple[float, str, str]] = []
    for _ in range(chance.randint(5, 40)):
        at = chance.uniform(6 * 3600, 23 * 3600)
        doings += [(at, "door", "open"), (at + chance.uniform(3, 90), "door", "closed")]
    if faults:
        for part, value in (("probe", "lost"), ("probe", "noisy"), ("relay", "stuck-off")):
            at = chance.uniform(0, 20 * 3600)
            doings += [(at, part, value), (at + chance.uniform(60, 1800), part, "ok")]
    return sorted(doings)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000), setpoint=st.integers(timings.SETPOINT_MIN, timings.SETPOINT_MAX), faults=st.booleans()
)
def test_food_stays_cold_over_any_day(seed: int, setpoint: int, faults: bool) -> None:
    """Doors and faults of a quarter of an hour, a room of 21 degrees: food stays within two degrees of what is set."""
    cabinet = SimulatedCabinet(air=setpoint, food=setpoint)
    state, doings = State(setpoint=setpoint, pulled_down=True), day(seed, faults=faults)
    warmest, coldest = -99.0, 99.0
    for second in range(0, 24 * 3600, 5):
        while doings and doings[0][0] <= second:
            _, part, value = doings.pop(0)
            cabinet.fault(part, value)
        state, outputs, _ = step(state, Inputs(cabinet.air(), cabinet.door_open()), float(second))
        cabinet.drive(outputs, 5.0)
        warmest, coldest = max(warmest, cabinet.food_node), min(coldest, cabinet.food_node)
    assert warmest < setpoint + 2.5
    assert coldest > setpoint - 2.5


@pytest.mark.parametrize(
    ("part", "value", "alarm", "hours"),
    [
        ("relay", "stuck-off", Alarm.WARM, 12),
        ("relay", "stuck-on", Alarm.COLD, 12),
        ("probe", "lost", Alarm.SENSOR, 1),
        ("door", "open", Alarm.DOOR, 1),
    ],
)
def test_no_part_breaks_silently(part: str, value: str, alarm: Alarm, hours: int) -> None:
    cabinet = SimulatedCabinet(air=4.0, food=4.0)
    cabinet.fault(part, value)
    state = State(pulled_down=True)
    for second in range(0, hours * 3600, 5):
        state, outputs, _ = step(state, Inputs(cabinet.air(), cabinet.door_open()), float(second))
        cabinet.drive(outputs, 5.0)
        if alarm in state.alarms:
            return
    pytest.fail(f"{part} {value} for {hours} h, and no alarm: air {cabinet.air_node:.1f}")


def test_two_days_of_kitchen_keep_the_food_cold_and_the_compressor_calm() -> None:
    cabinet, state, starts, running = SimulatedCabinet(air=20.0, food=20.0), State(), 0, 0
    warmest = 0.0
    began = time.process_time()
    for second in range(48 * 3600):
        cabinet.fault("door", "open" if second % 3600 < 20 and 7 <= second // 3600 % 24 <= 22 else "closed")
        before = state.compressor
        state, outputs, _ = step(state, Inputs(cabinet.air(), cabinet.door_open()), float(second))
        cabinet.drive(outputs, 1.0)
        starts += state.compressor and not before
        running += state.compressor
        if second > 12 * 3600:
            warmest = max(warmest, cabinet.food_node)
    assert warmest < 7.0
    assert 1 < starts / 48 < 6
    assert 0.1 < running / (48 * 3600) < 0.7
    assert time.process_time() - began < 30, "two days are a matter of seconds"


class AnyKitchen(RuleBasedStateMachine):
    """Fingers, doors, probes and time in any order."""

    @initialize(air=st.floats(-5, 30), outage=st.booleans())
    def begin(self, air: float, outage: bool) -> None:
        self.now, self.air, self.door = 1000.0, air, False
        self.state = State(outage=outage, pulled_down=outage)
        self.outputs = Outputs(False, False, False)
        self.switched_at = 1000.0
        self.advance()

    def advance(self, *touches: Touch) -> None:
        before = self.state
        inputs = Inputs(self.air, self.door, touches)
        self.state, self.outputs, _ = step(self.state, inputs, self.now)
        self.shown = showing(self.state, inputs, self.outputs)
        if before.compressor != self.state.compressor:
            lasted = self.now - self.switched_at
            by_owner = before.power and not self.state.power
            if before.compressor:
                assert lasted >= timings.MIN_ON_SECONDS or by_owner, f"ran for {lasted} s"
            else:
                assert lasted >= timings.MIN_OFF_SECONDS, f"rested for {lasted} s"
            self.switched_at = self.now

    @rule(button=st.sampled_from(list(Button)), finger=st.sampled_from(list(Finger)))
    def a_finger(self, button: Button, finger: Finger) -> None:
        self.advance(Touch(button, finger))

    @rule(button=st.sampled_from(list(Button)), seconds=st.floats(0, 60))
    def press(self, button: Button, seconds: float) -> None:
        self.advance(Touch(button, Finger.DOWN))
        self.now += seconds
        self.advance()
        self.advance(Touch(button, Finger.UP))

    @rule(air=st.one_of(st.none(), st.floats(-5, 30)))
    def temperature(self, air: float | None) -> None:
        self.air = air
        self.advance()

    @rule(open_=st.booleans())
    def use_door(self, open_: bool) -> None:
        self.door = open_
        self.advance()

    @rule(seconds=st.integers(1, 600))
    def wait(self, seconds: int) -> None:
        for _ in range(seconds // 30 + 1):
            self.now += 30
            self.advance()

    @rule()
    def the_alarm_button_always_silences(self) -> None:
        """Locked or not, and whatever else is under a finger."""
        self.advance(Touch(Button.ALARM, Finger.UP))
        sounded = self.state.alarms
        self.advance(Touch(Button.ALARM, Finger.DOWN))
        self.advance(Touch(Button.ALARM, Finger.UP))
        # one that begins at this very moment may sound
        assert sounded & self.state.alarms <= self.state.silenced
        assert self.outputs.buzzer == bool(self.state.alarms - sounded)

    @rule()
    def what_stays_hot_is_cooled(self) -> None:
        self.air = 25.0
        for _ in range(30):
            self.now += 30
            self.advance()
        assert self.outputs.compressor == self.state.power

    @invariant()
    def off_means_quiet(self) -> None:
        if hasattr(self, "state") and not self.state.power:
            assert not self.outputs.compressor
            assert not self.outputs.buzzer

    @invariant()
    def nothing_that_lets_the_food_warm_is_silent(self) -> None:
        """Off, holiday and a lost probe each stand on the panel."""
        if hasattr(self, "shown"):
            assert self.shown.power == self.state.power
            assert (self.shown.mode == "holiday") == (self.state.mode is Mode.HOLIDAY)
            assert self.air is not None or self.shown.air is None

    @invariant()
    def what_is_silenced_is_an_alarm(self) -> None:
        if hasattr(self, "state"):
            assert self.state.silenced <= self.state.alarms


TestAnyKitchen = AnyKitchen.TestCase
TestAnyKitchen.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
