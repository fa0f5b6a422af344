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
    Free,
    Goal,
    Held,
    Install,
    Installed,
    Moment,
    Policy,
    Progress,
    Report,
    RollBack,
    RollBackFailed,
    RolledBack,
    Started,
    State,
    Tick,
    step,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

POLICY = Policy(ready_timeout=90, probation=20, silence=10, attempts=3, retry_base=2, retry_cap=60)
GOAL = Goal("2-g2", "2", "beta/2/manifest.json")
NEWER = Goal("3-g3", "3", "beta/3/manifest.json")
RUNNING_1 = State(phase="succeeded", release="1-g1", version="1", running="1-g1", changed_at=1.0)
FETCH = Fetch(GOAL.release, GOAL.manifest)


def play(state: State, *events: object, up: float = 100.0, utc: float = 1000.0) -> tuple[State, list[object]]:
    told: list[object] = []
    for event in events:
        state, effects = step(state, event, Moment(utc, up), POLICY)  # type: ignore[arg-type]
        told += effects
    return state, told


def staged() -> State:
    return play(RUNNING_1, GOAL, Fetched("2-g2"))[0]


def in_probation() -> State:
    return play(staged(), Free(), Installed("2-g2"))[0]


def failure(transient: bool = True, code: str = "server_unreachable", **fields: object) -> Failed:
    return Failed("2-g2", code, "why", transient, **fields)  # type: ignore[arg-type]


# ---- the straight way ------------------------------------------------------------


def test_a_goal_leads_through_download_and_install_to_success() -> None:
    state, told = play(RUNNING_1, GOAL)
    assert (state.phase, state.previous, told) == ("downloading", "1", [Report(), FETCH])
    state, told = play(state, Fetched("2-g2"))
    assert (state.phase, told) == ("verified", [Report()])
    state, told = play(state, Free())
    assert (state.phase, told) == ("installing", [Report(), Install("2-g2")])
    state, _ = play(state, Installed("2-g2"), AppReady("2", 1.5))
    assert (state.phase, state.running) == ("probation", "2-g2")
    for up in (108.0, 116.0):
        state, _ = play(state, AppReady("2"), Tick(), up=up)
    assert state.phase == "probation"
    state, told = play(state, Tick(), up=120.0)
    assert (state.phase, state.version, state.previous, state.blind_s) == ("succeeded", "2", "1", 1.5)
    assert told == [Report()]


def test_the_same_goal_again_changes_nothing() -> None:
    done = replace(RUNNING_1, release=GOAL.release, version="2")
    assert play(done, GOAL, replace(GOAL, woken=True)) == (done, [])


def test_what_holds_an_update_back_is_reported_once_and_then_it_goes_on() -> None:
    state, told = play(staged(), Held("door"), Held("door"))
    assert (state.phase, machine.reported(state)["waiting_for"], told) == ("waiting", "door", [Report()])
    state, told = play(state, Held("consent"), Free())
    assert (state.phase, state.waiting_for) == ("installing", None)
    assert told == [Report(), Report(), Install("2-g2")]


def test_a_fleet_does_not_start_all_at_once() -> None:
    spread = replace(POLICY, start_spread=600)
    state, told = step(RUNNING_1, replace(GOAL, jitter=0.5), Moment(0, 100), spread)
    assert (state.phase, told, state.retry_at) == ("downloading", [Report()], 400.0)
    assert step(state, Tick(), Moment(0, 399), spread)[1] == []
    state, told = step(state, Tick(), Moment(0, 400), spread)
    assert (told, state.attempts) == ([FETCH], 1)


# ---- failures ------------------------------------------------------------


def test_a_transient_failure_is_tried_again_later_and_not_for_ever() -> None:
    state, told = play(RUNNING_1, GOAL, failure())
    assert (state.phase, state.retry_at) == ("downloading", 102.0)
    state, told = play(state, Tick(), up=102.0)
    assert told == [FETCH]
    state, _ = play(state, failure(), Tick(), up=200.0)
    state, told = play(state, Tick(), failure(), up=300.0)
    assert (state.phase, state.attempts) == ("failed", 3)
    assert play(state, GOAL)[1] == [], "the goal alone does not start a storm"
    assert play(state, replace(GOAL, woken=True))[1] == [Report(), FETCH]


def test_what_the_release_itself_says_is_refused_at_once_and_for_good() -> None:
    state, _ = play(RUNNING_1, GOAL, failure(False, "not_for_this_device"))
    assert state.phase == "refused"
    assert play(state, GOAL, replace(GOAL, woken=True))[1] == []


def test_a_tampered_answer_is_tried_a_few_times_then_refused_until_a_wake_up() -> None:
    state, _ = play(RUNNING_1, GOAL, failure(True, "not_trusted", tries=2))
    assert state.phase == "downloading"
    state, _ = play(state, Tick(), failure(True, "not_trusted", tries=2), up=200.0)
    assert (state.phase, state.attempts) == ("refused", 2)
    assert play(state, replace(GOAL, woken=True))[1] == [Report(), FETCH]


def test_what_is_told_of_another_release_is_late_and_changes_nothing() -> None:
    state, _ = play(RUNNING_1, GOAL, NEWER)
    late = [Progress("2-g2", 50), Fetched("2-g2"), failure(), failure(False), Installed("2-g2")]
    assert play(state, *late) == (state, [])


# ---- trial ------------------------------------------------------------


def test_a_release_that_shows_no_life_is_rolled_back() -> None:
    state, told = play(in_probation(), Tick(), up=190.0)
    assert told == [RollBack("2-g2")]
    assert state.phase == "probation", "until the previous release is back"
    state, told = play(state, RolledBack("1-g1"))
    assert (state.phase, state.previous, state.running, told) == ("rolled_back", "1", "1-g1", [Report()])
    assert state.error is not None
    assert state.error["code"] == "not_ready"


def test_a_release_that_falls_silent_is_rolled_back_by_its_watchdog() -> None:
    state, _ = play(in_probation(), AppReady("2", 1.0), up=100.0)
    assert play(state, Tick(), up=110.0)[1] == []
    state, told = play(state, Tick(), up=110.5)
    assert told == [RollBack("2-g2")]
    assert state.trial is not None
    assert (state.trial.error or {})["code"] == "app_silent"


def test_a_release_whose_app_ends_twice_is_rolled_back() -> None:
    state, told = play(in_probation(), AppReady("2"), AppExited("2-g2", "signal SIGSEGV"))
    assert told == []
    state, told = play(state, AppExited("2-g2", "signal SIGSEGV"))
    assert told == [RollBack("2-g2")]
    state, _ = play(state, RolledBack("1-g1"))
    assert state.error == {"code": "app_exited", "text": "signal SIGSEGV"}


def test_a_roll_back_that_cannot_be_written_is_tried_again() -> None:
    state, _ = play(in_probation(), Tick(), up=190.0)
    state, _ = play(state, RollBackFailed("no space"), up=191.0)
    assert play(state, Tick(), up=192.0)[1] == []
    assert play(state, Tick(), up=193.0)[1] == [RollBack("2-g2")]


def test_an_old_apps_end_does_not_count_against_the_new_release() -> None:
    assert play(in_probation(), AppExited("1-g1", "late"), AppExited("1-g1", "late"))[1] == []


def test_readiness_of_another_version_does_not_pass_probation() -> None:
    trial = play(in_probation(), AppReady("1"))[0].trial
    assert trial is not None
    assert not trial.ready


# ---- a newer goal ------------------------------------------------------------


@pytest.mark.parametrize(
    "state",
    [play(RUNNING_1, GOAL)[0], play(RUNNING_1, GOAL, failure())[0], staged(), play(staged(), Held("window"))[0]],
    ids=["downloading", "retrying", "verified", "waiting"],
)
def test_a_newer_goal_takes_over_at_once(state: State) -> None:
    state, told = play(state, NEWER)
    assert (state.phase, state.release, state.previous) == ("downloading", "3-g3", "1")
    assert told == [Report(), Fetch("3-g3", NEWER.manifest)]


def test_a_newer_goal_during_a_switch_waits_for_the_milliseconds_it_takes() -> None:
    switching, _ = play(staged(), Free())
    assert play(switching, NEWER) == (switching, [])


def test_a_newer_goal_is_fetched_while_the_one_before_is_on_trial_and_replaces_it_when_it_passed() -> None:
    state, told = play(in_probation(), AppReady("2"), NEWER)
    assert (state.phase, state.previous, told) == ("downloading", "2", [Report(), Fetch("3-g3", NEWER.manifest)])
    state, _ = play(state, Fetched("3-g3"), Held("trial"), AppReady("2"), up=118.0)
    assert state.phase == "waiting"
    state, _ = play(state, Tick(), up=121.0)
    assert (state.trial, state.previous) == (None, "2")
    assert play(state, Free())[1] == [Report(), Install("3-g3")]


def test_a_release_that_fails_its_trial_while_a_newer_one_is_fetched_is_rolled_back_first() -> None:
    state, _ = play(in_probation(), NEWER)
    state, told = play(state, AppExited("2-g2", "x"), AppExited("2-g2", "x"))
    assert told == [RollBack("2-g2"), Fetch("3-g3", NEWER.manifest)]
    state, _ = play(state, RolledBack("1-g1"))
    assert (state.phase, state.trial, state.previous, state.running) == ("downloading", None, "1", "1-g1")


# ---- restarts and power cuts ------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "effects"),
    [
        (play(RUNNING_1, GOAL)[0], [Report(), FETCH]),
        (staged(), [Report()]),
        (play(staged(), Free())[0], [Report(), Install("2-g2")]),
    ],
    ids=["downloading", "verified", "installing"],
)
def test_a_restart_asks_again_for_what_was_under_way(state: State, effects: list[object]) -> None:
    assert play(State.from_json(state.to_json()), Started("1-g1", "1"))[1] == effects


def test_a_switch_whose_acknowledgement_was_cut_off_is_on_trial_all_the_same() -> None:
    state, told = play(play(staged(), Free())[0], Started("2-g2", "2"))
    assert (state.phase, told) == ("probation", [Report()])
    assert state.trial is not None


def test_a_device_that_restarts_again_and_again_in_probation_rolls_back() -> None:
    state = in_probation()
    for _ in range(machine.RESTARTS_ALLOWED):
        state, told = play(state, Started("2-g2", "2"))
        assert RollBack("2-g2") not in told
    assert RollBack("2-g2") in play(state, Started("2-g2", "2"))[1]


def test_a_power_cut_during_roll_back_rolls_back_again() -> None:
    state, _ = play(in_probation(), Tick(), up=190.0)
    assert RollBack("2-g2") in play(State.from_json(state.to_json()), Started("2-g2", "2"))[1]


def test_a_power_cut_after_a_roll_back_that_nobody_acknowledged_is_told_as_one() -> None:
    state, _ = play(in_probation(), Tick(), up=190.0)
    state, told = play(State.from_json(state.to_json()), Started("1-g1", "1"))
    assert (state.phase, (state.error or {})["code"], told) == ("rolled_back", "not_ready", [Report()])


def test_a_broken_agents_roll_back_is_told_with_its_reason() -> None:
    note = {"code": "agent_failed", "text": "it did not start"}
    state, _ = play(in_probation(), Started("1-g1", "1", note))
    assert (state.phase, state.error, state.running) == ("rolled_back", note, "1-g1")


@pytest.mark.parametrize("phase", ["succeeded", "rolled_back", "failed", "refused", "idle"])
def test_a_flash_by_hand_is_told_truthfully(phase: str) -> None:
    state, told = play(replace(RUNNING_1, phase=phase), Started("9-g9", "9"))
    assert (state.phase, state.release, state.version, told) == ("idle", "9-g9", "9", [Report()])
    assert play(state, GOAL)[1] == [Report(), FETCH], "and the hub's goal is followed again"


def test_a_clock_that_jumps_by_weeks_ends_no_probation_and_ages_no_report() -> None:
    state, _ = play(in_probation(), AppReady("2"), utc=1000.0 + 28 * 86400)
    state, told = play(state, Tick(), up=101.0, utc=1000.0 + 28 * 86400)
    assert (state.phase, told) == ("probation", [])
    state, _ = play(state, AppReady("2"), Tick(), up=121.0, utc=5.0)
    assert state.phase == "succeeded"
    assert state.changed_at >= 1000.0


def test_state_survives_json() -> None:
    state = in_probation()
    assert State.from_json(state.to_json()) == state
    assert State.from_json({**state.to_json(), "of_a_newer_agent": 1}) == state


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes, in whatever order: the machine stays within its bounds and repeats nothing for ever."""

    @initialize()
    def begin(self) -> None:
        self.state, self.now = RUNNING_1, 0.0
        self.wanted: list[object] = []
        self.tried: dict[str, int] = {}

    def feed(self, event: object) -> None:
        before = self.state
        self.state, effects = step(self.state, event, Moment(self.now, self.now), POLICY)  # type: ignore[arg-type]
        self.wanted += [effect for effect in effects if not isinstance(effect, Report)]
        if before.phase in machine.TERMINAL and self.state.phase != before.phase:
            assert isinstance(event, Goal | Started), f"{before.phase} -> {self.state.phase} by {event}"
        if self.state.phase == "installing" and before.phase != "installing":
            assert self.state.trial is None, "the release to fall back to has proved itself"
        if before.phase == "succeeded" and self.state.release == before.release:
            assert self.state.phase in ("succeeded", "idle"), "a reported success never flips back"

    @rule(n=st.integers(2, 4), woken=st.booleans())
    def goal(self, n: int, woken: bool) -> None:
        self.feed(Goal(f"{n}-g{n}", str(n), f"beta/{n}/manifest.json", woken))

    @rule(well=st.booleans(), transient=st.booleans())
    def worker_answers(self, well: bool, transient: bool) -> None:
        if not self.wanted:
            return
        match self.wanted.pop(0):
            case Fetch(release, _):
                self.feed(Fetched(release) if well else Failed(release, "x", "y", transient))
            case Install(release):
                self.feed(Installed(release) if well else Failed(release, "x", "y", transient))
            case RollBack(_):
                self.feed(RolledBack("1-g1") if well else RollBackFailed("x"))

    @rule(event=st.sampled_from([Tick(), Held("door"), Progress("2-g2", 40), AppReady("2"), AppReady("3")]))
    def event(self, event: object) -> None:
        self.feed(event)

    @precondition(lambda self: self.state.phase in machine.STAGED and not self.state.trial)
    @rule()
    def calm(self) -> None:
        self.feed(Free())

    @rule(n=st.integers(1, 4))
    def app_exit(self, n: int) -> None:
        self.feed(AppExited(f"{n}-g{n}", "status 1"))

    @rule(seconds=st.floats(0, 200))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.feed(Tick())

    @rule()
    def power_cut(self) -> None:
        self.state = State.from_json(self.state.to_json())
        self.wanted = []
        running = self.state.running or "1-g1"
        self.feed(Started(running, running[0]))

    @invariant()
    def bounded(self) -> None:
        if hasattr(self, "state"):
            assert self.state.attempts <= POLICY.attempts
            if self.state.trial:
                assert self.state.trial.exits <= machine.EXITS_ALLOWED
            if self.state.phase == "probation":
                assert self.state.trial is not None
                assert self.state.trial.release == self.state.release


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
