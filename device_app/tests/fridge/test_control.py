# SPDX-License-Identifier: Apache-2.0
"""The control core over hours, with time as a number."""

from __future__ import annotations

import time

from fridge import control
from fridge.control import Alarm, Button, Inputs, Outputs, Press, State, step
from fridge.plant import SimulatedCabinet
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule


def run(state: State, inputs: Inputs, begin: float, seconds: float) -> tuple[State, list[tuple[str, str]]]:
    """Play `inputs` for a while, a step a second; the state and what was told."""
    told = []
    for second in range(int(seconds) + 1):
        state, _, events = step(state, inputs, begin + second)
        told += [(event.kind, event.name) for event in events]
    return state, told


def test_the_door_alarm_comes_after_exactly_two_minutes_and_ends_with_the_door() -> None:
    state, told = run(State(), Inputs(4.0, door_open=True), 0, 119)
    assert told == []
    state, told = run(state, Inputs(4.0, door_open=True), 120, 0)
    assert told == [("alarm", "door")]
    state, told = run(state, Inputs(4.0), 121, 0)
    assert told == [("alarm_over", "door")]


def test_the_first_pull_down_raises_no_warm_alarm_and_a_later_warmth_does() -> None:
    state, told = run(State(), Inputs(20.0), 0, 2 * control.WARM_SECONDS)
    assert told == []
    state, _ = run(state, Inputs(4.0), 10_000, 1)
    _, told = run(state, Inputs(20.0), 10_002, control.WARM_SECONDS)
    assert told == [("alarm", "warm")]


def test_after_power_returns_the_compressor_rests_first() -> None:
    state = State()
    for second in range(int(control.RESTART_DELAY_SECONDS)):
        state, outputs, _ = step(state, Inputs(20.0), 500.0 + second)
        assert not outputs.compressor
    assert step(state, Inputs(20.0), 500.0 + control.RESTART_DELAY_SECONDS)[1].compressor


def test_without_a_probe_cooling_goes_on_by_the_clock() -> None:
    state, ran = State(), 0
    for second in range(7200):
        state, outputs, _ = step(state, Inputs(None), float(second))
        ran += outputs.compressor
    assert 0.3 < ran / 7200 < 0.5
    assert Alarm.SENSOR in state.alarms


def test_two_days_of_kitchen_keep_the_food_cold_and_the_compressor_calm() -> None:
    cabinet, state, starts, running = SimulatedCabinet(air=20.0, food=20.0), State(), 0, 0
    warmest = 0.0
    began = time.process_time()
    for second in range(48 * 3600):
        cabinet.door = second % 3600 < 20 and 7 <= second // 3600 % 24 <= 22
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
    assert time.process_time() - began < 20, "two days are a matter of seconds"


class AnyKitchen(RuleBasedStateMachine):
    """Whatever people do, in whatever order."""

    @initialize(air=st.floats(-5, 30))
    def begin(self, air: float) -> None:
        self.now, self.state, self.air, self.door = 1000.0, State(), air, False
        self.outputs = Outputs(False, False, False)
        self.switched_at, self.hot_since = 1000.0, None
        self.advance()

    def advance(self, *presses: Press) -> None:
        before = self.state
        self.state, self.outputs, _ = step(self.state, Inputs(self.air, self.door, presses), self.now)
        if before.compressor != self.state.compressor:
            lasted = self.now - self.switched_at
            by_owner = before.power and not self.state.power
            if before.compressor:
                assert lasted >= control.MIN_ON_SECONDS or by_owner, f"ran for {lasted} s"
            else:
                assert lasted >= control.MIN_OFF_SECONDS, f"rested for {lasted} s"
            self.switched_at = self.now

    @rule(button=st.sampled_from(list(Button)), hold=st.booleans())
    def press(self, button: Button, hold: bool) -> None:
        self.advance(Press(button, hold))

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
    def the_bell_always_silences(self) -> None:
        self.advance(Press(Button.ALARM))
        assert not self.outputs.buzzer

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


TestAnyKitchen = AnyKitchen.TestCase
TestAnyKitchen.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
