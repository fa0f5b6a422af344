# SPDX-License-Identifier: Apache-2.0
"""The update state machine: `step(state, event, moment) -> (state, effects)`.

Everything that affects an update's course lives in this file; nothing here reads a clock, a disk or a network.
The caller stores the new state durably BEFORE it carries out the effects, and after a restart sends `Started`
first: the machine then asks again for whatever was under way. Effects can therefore be repeated.

Two regions run side by side:

    course  idle/succeeded/rolled_back/failed/refused --Goal--> downloading --Fetched--> verified
            verified --Held--> waiting --Free--> installing --Installed--> probation --> succeeded | rolled_back
            downloading --Failed--> downloading (later) | failed | refused
    trial   the release that `current` names and that has not proved itself yet: passes, or is rolled back

They are two because a newer goal is followed at once, also while the one before is still on trial: its download
begins, and only its switch waits until the trial has ended (a minute or two), so that the release to fall back to is
always one that has proved itself.

Durations run on the monotonic clock (`Moment.up`): a device's wall clock may jump by weeks in the middle of anything.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

TERMINAL = frozenset({"idle", "succeeded", "rolled_back", "failed", "refused"})
STAGED = frozenset({"verified", "waiting"})
EXITS_ALLOWED = 2
RESTARTS_ALLOWED = 3


@dataclass(frozen=True)
class Moment:
    """`utc`: wall clock in seconds, for people to read. `up`: monotonic seconds, for durations."""

    utc: float
    up: float


@dataclass(frozen=True)
class Policy:
    """Bounds of one device's patience, in seconds and counts.

    `silence` is how long an app that was ready may go without a sign of life. `start_spread` is the time over which a
    fleet's downloads spread after one announcement. `attempts` bounds the downloads of one goal.
    """

    ready_timeout: float = 90.0
    probation: float = 20.0
    silence: float = 15.0
    attempts: int = 30
    retry_base: float = 2.0
    retry_cap: float = 3600.0
    start_spread: float = 0.0


@dataclass(frozen=True)
class Trial:
    """A release that `current` names and that has yet to prove itself. `deadline` and `alive_at` are `Moment.up`."""

    release: str
    version: str
    fallback: str | None
    deadline: float
    ready: bool = False
    exits: int = 0
    restarts: int = 0
    alive_at: float = 0.0
    error: dict[str, str] | None = None
    """Set once it is condemned; it stays on trial until the release before is back."""


@dataclass(frozen=True)
class State:
    """What must survive a power cut.

    `version` is that of `release`, `previous` the version that ran before it. `running` is the release that `current`
    is believed to name. `changed_at` is UTC seconds, `retry_at` is `Moment.up`; `attempts` counts downloads; `blind_s`
    is how long the panel was dark at the switch.
    """

    phase: str = "idle"
    release: str | None = None
    version: str | None = None
    previous: str | None = None
    running: str | None = None
    manifest: str | None = None
    progress: int = 0
    waiting_for: str | None = None
    error: dict[str, str] | None = None
    attempts: int = 0
    changed_at: float = 0.0
    retry_at: float = 0.0
    blind_s: float | None = None
    trial: Trial | None = None

    def to_json(self) -> dict[str, Any]:
        """What goes to disk: all but the times that mean nothing after a restart and change with every sign of life."""
        data = asdict(self)
        if data["trial"]:
            del data["trial"]["alive_at"]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any] | None) -> State:
        """The state that `to_json` wrote; of a newer or older agent's, what this one knows."""
        values = {key: value for key, value in (data or {}).items() if key in cls.__dataclass_fields__}
        if isinstance(values.get("trial"), dict):
            known = Trial.__dataclass_fields__
            values["trial"] = Trial(**{key: value for key, value in values["trial"].items() if key in known})
        if "running" not in values and values.get("phase") in ("idle", "succeeded"):
            values["running"] = values.get("release")
        return cls(**values)


# ---- events ------------------------------------------------------------


@dataclass(frozen=True)
class Started:
    """The agent came up. `installed` is the current release's id on disk, None where there is none.

    `note`: why another release than expected is there, where a part of this software knows (`{code, text}`).
    """

    installed: str | None
    version: str | None = None
    note: dict[str, str] | None = None


@dataclass(frozen=True)
class Goal:
    """The hub names a release. `woken`: by a message, which also lifts a failure that time may have cured.

    `jitter`: a random number in 0..1 from the caller, the device's place in `Policy.start_spread`.
    """

    release: str
    version: str
    manifest: str
    woken: bool = False
    jitter: float = 0.0


@dataclass(frozen=True)
class Progress:
    """`percent` of the download is on disk."""

    release: str
    percent: int


@dataclass(frozen=True)
class Fetched:
    """The release lies whole and verified beside the running one."""

    release: str


@dataclass(frozen=True)
class Held:
    """The release must wait: for `trial`, `window`, `idle`, `door`, `alarm` or `consent`."""

    reason: str


@dataclass(frozen=True)
class Free:
    """Nothing holds the release back any more."""


@dataclass(frozen=True)
class Installed:
    """`current` names `release`."""

    release: str


@dataclass(frozen=True)
class Failed:
    """Fetching or installing `release` failed with a code of `errors`.

    `tries` bounds the attempts further than the policy does. `jitter` is a random number in 0..1 from the caller, so
    that a fleet does not come back all at once.
    """

    release: str
    code: str
    text: str
    transient: bool
    tries: int | None = None
    jitter: float = 0.5


@dataclass(frozen=True)
class AppReady:
    """The app of release `version` shows life; `blind_s` is given with its first frame after a switch."""

    version: str
    blind_s: float | None = None


@dataclass(frozen=True)
class AppExited:
    """The app of `release` ended by itself."""

    release: str
    text: str


@dataclass(frozen=True)
class RolledBack:
    """The release before is current again: `installed`, or nothing where there was none."""

    installed: str | None = None


@dataclass(frozen=True)
class RollBackFailed:
    """The links could not be written; another try follows."""

    text: str


@dataclass(frozen=True)
class Tick:
    """Time passed."""


Event = (
    Started | Goal | Progress | Fetched | Held | Free | Installed | Failed
    | AppReady | AppExited | RolledBack | RollBackFailed | Tick
)  # fmt: skip

# ---- effects ------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """Tell the hub the state."""


@dataclass(frozen=True)
class Fetch:
    """Bring in and unpack the release whose manifest has this TUF target path; a fetch under way ends first."""

    release: str
    manifest: str


@dataclass(frozen=True)
class Install:
    """Switch to the release that lies ready."""

    release: str


@dataclass(frozen=True)
class RollBack:
    """Make the release before current again; a fetch under way ends first."""

    release: str


Effect = Report | Fetch | Install | RollBack
Outcome = tuple[State, list[Effect]]


def step(state: State, event: Event, moment: Moment, policy: Policy = Policy()) -> Outcome:
    """The next state and what to do, in order."""
    match event:
        case Started():
            return _started(state, event, moment, policy)
        case Goal():
            return _goal(state, event, moment, policy)
        case Tick():
            return _tick(state, moment, policy)
        case Failed():
            return _failed(state, event, moment, policy)
        case AppReady() | AppExited() | RolledBack() | RollBackFailed():
            return _on_trial(state, event, moment, policy)
        case _:
            return _course(state, event, moment, policy)


# ---- course ------------------------------------------------------------


def _course(state: State, event: Event, moment: Moment, policy: Policy) -> Outcome:
    """The straight way through an update; an event of another phase or release is late, and changes nothing."""
    match state.phase, event:
        case "downloading", Progress(release, percent) if release == state.release and percent != state.progress:
            return replace(state, progress=percent), []
        case "downloading", Fetched(release) if release == state.release:
            return _enter(state, "verified", moment, progress=100, error=None, retry_at=0.0), [Report()]
        case (("verified" | "waiting"), Held(reason)) if reason != state.waiting_for:
            return _enter(state, "waiting", moment, waiting_for=reason), [Report()]
        case (("verified" | "waiting"), Free()):
            if state.trial:
                raise AssertionError("a release on trial must end before the next switch")
            return _enter(state, "installing", moment, waiting_for=None), [Report(), Install(state.release or "")]
        case "installing", Installed(release) if release == state.release:
            return _begin_trial(state, moment, policy), [Report()]
        case _:
            return state, []


def _begin_trial(state: State, moment: Moment, policy: Policy) -> State:
    trial = Trial(state.release or "", state.version or "", state.previous, moment.up + policy.ready_timeout)
    return _enter(state, "probation", moment, running=state.release, trial=trial)


def _started(state: State, event: Started, moment: Moment, policy: Policy) -> Outcome:
    state = replace(state, retry_at=0.0)
    if state.trial:
        return _started_on_trial(state, state.trial, event, moment, policy)
    match state.phase:
        case "downloading":
            return _as_found(state, event), [Report(), *_fetch(state)]
        case "verified" | "waiting":
            return _enter(_as_found(state, event), "verified", moment, waiting_for=None), [Report()]
        case "installing" if event.installed == state.release:
            # the switch is on disk, its acknowledgement was not
            return _begin_trial(state, moment, policy), [Report()]
        case "installing":
            return state, [Report(), Install(state.release or "")]
        case _ if _found_other(state, event):
            # flashed or rolled back by hand while the agent was away: say what is there
            return _found_by_hand(event, moment), [Report()]
        case _:
            return replace(state, running=event.installed), [Report()]


def _found_other(state: State, event: Started) -> bool:
    return event.installed is not None and event.installed != state.running


def _as_found(state: State, event: Started) -> State:
    """Under way, with whatever was flashed meanwhile as the release that runs."""
    previous = event.version if _found_other(state, event) else state.previous
    return replace(state, previous=previous, running=event.installed)


def _found_by_hand(event: Started, moment: Moment) -> State:
    return State(
        phase="idle", release=event.installed, version=event.version, running=event.installed, changed_at=moment.utc
    )


def _goal(state: State, event: Goal, moment: Moment, policy: Policy) -> Outcome:
    if state.phase == "installing":
        # the switch takes milliseconds; the caller offers the goal again after it
        return state, []
    if event.release == state.release and not (event.woken and _curable(state)):
        return state, []
    begun = State(
        phase="downloading",
        release=event.release,
        version=event.version,
        previous=_running(state),
        running=state.running,
        manifest=event.manifest,
        changed_at=max(moment.utc, state.changed_at),
        trial=state.trial,
    )
    delay = policy.start_spread * event.jitter
    if delay:
        return replace(begun, retry_at=moment.up + delay), [Report()]
    begun = replace(begun, attempts=1)
    return begun, [Report(), *_fetch(begun)]


def _curable(state: State) -> bool:
    """Whether a wake-up may lift the failure: what a line or a server did, not what the release itself says."""
    return state.phase == "failed" or (state.phase == "refused" and (state.error or {}).get("code") == "not_trusted")


def _running(state: State) -> str | None:
    """The version that the device runs: `version` is that of `release`, which may not have made it."""
    if state.trial:
        return state.trial.version
    return state.version if state.phase in ("idle", "succeeded") else state.previous


def _tick(state: State, moment: Moment, policy: Policy) -> Outcome:
    if state.trial:
        state, effects = _tick_trial(state, state.trial, moment, policy)
        if effects:
            return state, effects
    if state.phase == "downloading" and state.retry_at and moment.up >= state.retry_at:
        again = replace(state, retry_at=0.0, attempts=state.attempts + 1)
        return again, [*_fetch(again)]
    return state, []


def _failed(state: State, event: Failed, moment: Moment, policy: Policy) -> Outcome:
    if state.phase not in ("downloading", "installing") or event.release != state.release:
        return state, []
    error = {"code": event.code, "text": event.text}
    attempts = min(policy.attempts, event.tries or policy.attempts)
    if event.transient and state.attempts < attempts:
        delay = min(policy.retry_cap, policy.retry_base * 2 ** min(state.attempts - 1, 30)) * (0.5 + event.jitter)
        again = _enter(state, "downloading", moment, error=error, retry_at=moment.up + delay)
        return again, [Report()]
    phase = "failed" if event.transient and event.tries is None else "refused"
    return _enter(state, phase, moment, error=error), [Report()]


def _fetch(state: State) -> list[Effect]:
    return [Fetch(state.release or "", state.manifest or "")]


# ---- trial ------------------------------------------------------------


def _on_trial(state: State, event: Event, moment: Moment, policy: Policy) -> Outcome:
    trial = state.trial
    if trial is None:
        return state, []
    match event:
        case AppReady(version, blind) if version == trial.version and not trial.error:
            return _shows_life(state, trial, blind, moment, policy), []
        case AppExited(release, text) if release == trial.release and not trial.error:
            if trial.exits + 1 < EXITS_ALLOWED:
                return replace(state, trial=replace(trial, exits=trial.exits + 1, ready=False)), []
            return _condemn(state, replace(trial, exits=trial.exits + 1), ("app_exited", text), moment, policy)
        case RolledBack(installed) if trial.error:
            return _end_trial(replace(state, running=installed), trial, moment, trial.error)
        case RollBackFailed():
            return replace(state, trial=replace(trial, deadline=moment.up + policy.retry_base)), []
        case _:
            return state, []


def _shows_life(state: State, trial: Trial, blind: float | None, moment: Moment, policy: Policy) -> State:
    seen = replace(trial, alive_at=moment.up)
    if trial.ready:
        return replace(state, trial=seen)
    ready = replace(seen, ready=True, deadline=moment.up + policy.probation)
    return replace(state, trial=ready, blind_s=blind if state.phase == "probation" else state.blind_s)


def _tick_trial(state: State, trial: Trial, moment: Moment, policy: Policy) -> Outcome:
    if trial.error:
        if moment.up < trial.deadline:
            return state, []
        again = replace(trial, deadline=moment.up + policy.ready_timeout)
        return replace(state, trial=again), [RollBack(trial.release)]
    if trial.ready and moment.up - trial.alive_at > policy.silence:
        text = f"version {trial.version} showed its panel and then no sign of life for {policy.silence:.0f} s"
        return _condemn(state, trial, ("app_silent", text), moment, policy)
    if moment.up < trial.deadline:
        return state, []
    if trial.ready:
        return _end_trial(state, trial, moment, None)
    text = f"no sign of life from version {trial.version} within {policy.ready_timeout:.0f} s"
    return _condemn(state, trial, ("not_ready", text), moment, policy)


def _started_on_trial(state: State, trial: Trial, event: Started, moment: Moment, policy: Policy) -> Outcome:
    if event.installed != trial.release:
        # rolled back while the agent was away: by the start-up check of a broken agent, or by hand
        error = trial.error or event.note or {"code": "rolled_back_by_hand", "text": "another release was made current"}
        ended, effects = _end_trial(replace(state, running=event.installed), trial, moment, error)
        if ended.phase == "rolled_back":
            return replace(ended, previous=event.version), effects
        return _started(ended, event, moment, policy)
    armed = replace(trial, deadline=moment.up + policy.ready_timeout, ready=False, restarts=trial.restarts + 1)
    resumed: list[Effect] = _fetch(state) if state.phase == "downloading" else []
    if trial.error:
        return replace(state, trial=armed), [Report(), RollBack(trial.release), *resumed]
    if trial.restarts >= RESTARTS_ALLOWED:
        text = f"the device restarted {armed.restarts} times while version {trial.version} was on trial"
        condemned, effects = _condemn(state, armed, ("restart_loop", text), moment, policy)
        return condemned, [Report(), *effects]
    return replace(state, trial=armed), [Report(), *resumed]


def _condemn(state: State, trial: Trial, why: tuple[str, str], moment: Moment, policy: Policy) -> Outcome:
    # it stays on trial until the release before is back: a power cut in between rolls back again, and so does a
    # roll-back that is not acknowledged in time
    error = {"code": why[0], "text": why[1]}
    doomed = replace(trial, error=error, deadline=moment.up + policy.ready_timeout)
    # a fetch under way gives way to the roll-back, and goes on after it
    resumed = _fetch(state) if state.phase == "downloading" and not state.retry_at else []
    return replace(state, trial=doomed), [RollBack(trial.release), *resumed]


def _end_trial(state: State, trial: Trial, moment: Moment, error: dict[str, str] | None) -> Outcome:
    if state.phase == "probation":
        phase = "rolled_back" if error else "succeeded"
        return _enter(state, phase, moment, error=error, trial=None), [Report()]
    # a newer release is on its way already; what it replaces is what proved itself
    return replace(state, trial=None, previous=trial.fallback if error else trial.version), []


def _enter(state: State, phase: str, moment: Moment, **changes: Any) -> State:
    # a wall clock that was set back must not make a report look older than the one before
    return replace(state, phase=phase, changed_at=max(moment.utc, state.changed_at), **changes)


def reported(state: State) -> dict[str, Any]:
    """The contract's reported property `fridge.update`."""
    return {
        "release": state.release,
        "version": state.version,
        "previous": state.previous,
        "state": state.phase,
        "progress": state.progress,
        "waiting_for": state.waiting_for,
        "error": state.error,
        "attempts": state.attempts,
        "changed_at": state.changed_at,
        "blind_s": state.blind_s,
    }
