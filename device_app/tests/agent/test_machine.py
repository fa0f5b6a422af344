# SPDX-License-Identifier: Apache-2.0
"""The update machine, alone: no clock, no disk, no network."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fridge_agent import machine
from fridge_agent.machine import (
    AppExited,
    AppReady,
    Failed,
    Fetch,
    Fetched,
    Goal,
    Install,
    Installed,
    Policy,
    Progress,
    Report,
    RollBack,
    RolledBack,
    Started,
    State,
    Tick,
    step,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

POLICY = Policy(ready_timeout=90, probation=20, attempts=3, retry_base=2, retry_cap=60)
GOAL = Goal("2-g2", "2", "beta/2/manifest.json")
RUNNING_1 = State(phase="succeeded", release="1-g1", version="1", changed_at=1.0)


def play(state: State, *events: object, now: float = 100.0) -> tuple[State, list[object]]:
    told: list[object] = []
    for event in events:
        state, effects = step(state, event, now, POLICY)  # type: ignore[arg-type]
        told += effects
    return state, told


def in_probation() -> State:
    return play(RUNNING_1, GOAL, Fetched(), Installed())[0]


def test_a_goal_leads_through_download_and_install_to_success() -> None:
    state, told = play(RUNNING_1, GOAL)
    assert (state.phase, state.previous, told) == ("downloading", "1", [Report(), Fetch(GOAL.manifest)])
    state, told = play(state, Fetched())
    assert (state.phase, told) == ("installing", [Report(), Install(GOAL.manifest)])
    state, _ = play(state, Installed(), AppReady("2", 1.5))
    assert state.phase == "probation"
    assert play(state, Tick(), now=119.0)[0].phase == "probation"
    state, told = play(state, Tick(), now=120.0)
    assert (state.phase, state.version, state.previous, state.blind_s) == ("succeeded", "2", "1", 1.5)
    assert told == [Report()]


def test_the_same_goal_again_changes_nothing() -> None:
    done = replace(RUNNING_1, release=GOAL.release, version="2")
    assert play(done, GOAL, replace(GOAL, woken=True)) == (done, [])


def test_a_release_that_shows_no_life_is_rolled_back() -> None:
    state, told = play(in_probation(), Tick(), now=190.0)
    assert told == [RollBack()]
    assert state.phase == "probation", "until the previous release is back"
    state, told = play(state, RolledBack())
    assert (state.phase, state.previous, told) == ("rolled_back", "1", [Report()])
    assert state.error is not None
    assert state.error["code"] == "not_ready"


def test_a_release_whose_app_ends_twice_is_rolled_back() -> None:
    state, told = play(in_probation(), AppReady("2"), AppExited("2-g2", "signal SIGSEGV"))
    assert told == []
    state, told = play(state, AppExited("2-g2", "signal SIGSEGV"))
    assert told == [RollBack()]
    assert state.error == {"code": "app_exited", "text": "signal SIGSEGV"}


def test_an_old_apps_end_does_not_count_against_the_new_release() -> None:
    assert play(in_probation(), AppExited("1-g1", "late"), AppExited("1-g1", "late"))[1] == []


def test_readiness_of_another_version_does_not_pass_probation() -> None:
    assert not play(in_probation(), AppReady("1"))[0].ready


def test_a_transient_failure_is_tried_again_later_and_not_for_ever() -> None:
    failure = Failed("server_unreachable", "no route", transient=True, jitter=0.5)
    state, told = play(RUNNING_1, GOAL, failure)
    assert (state.phase, state.retry_at) == ("downloading", 102.0)
    assert Fetch(GOAL.manifest) not in told[2:]
    state, told = play(state, Tick(), now=102.0)
    assert told == [Fetch(GOAL.manifest)]
    state, _ = play(state, failure, Tick(), now=200.0)
    state, told = play(state, Tick(), failure, now=300.0)
    assert (state.phase, state.attempts) == ("failed", 3)
    assert play(state, GOAL)[1] == [], "the goal alone does not start a storm"
    assert play(state, replace(GOAL, woken=True))[1] == [Report(), Fetch(GOAL.manifest)]


def test_what_is_not_signed_is_refused_at_once_and_for_good() -> None:
    state, _ = play(RUNNING_1, GOAL, Failed("not_trusted", "bad signature", transient=False))
    assert state.phase == "refused"
    assert play(state, GOAL, replace(GOAL, woken=True))[1] == []


@pytest.mark.parametrize(
    ("state", "effect"),
    [
        (play(RUNNING_1, GOAL)[0], Fetch(GOAL.manifest)),
        (play(RUNNING_1, GOAL, Fetched())[0], Install(GOAL.manifest)),
    ],
)
def test_a_restart_asks_again_for_what_was_under_way(state: State, effect: object) -> None:
    assert effect in play(state, Started("1-g1", "1"))[1]


def test_a_device_that_restarts_again_and_again_in_probation_rolls_back() -> None:
    state = in_probation()
    for _ in range(machine.RESTARTS_ALLOWED):
        state, told = play(state, Started("2-g2", "2"))
        assert RollBack() not in told
    assert play(state, Started("2-g2", "2"))[1] == [RollBack()]


def test_a_power_cut_during_roll_back_rolls_back_again() -> None:
    state, _ = play(in_probation(), Tick(), now=190.0)
    assert play(State.from_json(state.to_json()), Started("2-g2", "2"))[1] == [RollBack()]


def test_a_flash_by_hand_is_told_truthfully() -> None:
    state, told = play(RUNNING_1, Started("9-g9", "9"))
    assert (state.phase, state.release, state.version, told) == ("idle", "9-g9", "9", [Report()])


def test_state_survives_json() -> None:
    state = in_probation()
    assert State.from_json(state.to_json()) == state
    assert State.from_json({**state.to_json(), "of_a_newer_agent": 1}) == state


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes, in whatever order: the machine stays within its bounds and repeats nothing for ever."""

    @initialize()
    def begin(self) -> None:
        self.state, self.now, self.fetches = RUNNING_1, 0.0, 0

    def feed(self, event: object) -> None:
        before = self.state
        self.state, effects = step(self.state, event, self.now, POLICY)  # type: ignore[arg-type]
        self.fetches = 0 if self.state.release != before.release else self.fetches
        self.fetches += sum(isinstance(effect, Fetch) for effect in effects)
        if before.phase in machine.TERMINAL and self.state.phase != before.phase:
            assert isinstance(event, Goal | Started), f"{before.phase} -> {self.state.phase} by {event}"

    @rule(n=st.integers(2, 4), woken=st.booleans())
    def goal(self, n: int, woken: bool) -> None:
        self.feed(Goal(f"{n}-g{n}", str(n), f"beta/{n}/manifest.json", woken))

    @rule(
        event=st.sampled_from(
            [Fetched(), Installed(), RolledBack(), Tick(), Progress(40), AppReady("2"), AppReady("3")]
        )
    )
    def event(self, event: object) -> None:
        self.feed(event)

    @rule(transient=st.booleans(), jitter=st.floats(0, 1))
    def fail(self, transient: bool, jitter: float) -> None:
        self.feed(Failed("x", "y", transient, jitter))

    @rule(n=st.integers(1, 4))
    def app_exit(self, n: int) -> None:
        self.feed(AppExited(f"{n}-g{n}", "status 1"))

    @rule(seconds=st.floats(0, 200))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.feed(Tick())

    @precondition(lambda self: self.state.phase not in machine.TERMINAL)
    @rule()
    def power_cut(self) -> None:
        self.state = State.from_json(self.state.to_json())
        self.feed(Started("1-g1", "1"))

    @invariant()
    def bounded(self) -> None:
        if hasattr(self, "state"):
            assert self.state.attempts <= POLICY.attempts
            assert self.state.exits <= machine.EXITS_ALLOWED
            assert self.state.phase in {*machine.TERMINAL, "downloading", "installing", "probation"}


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
