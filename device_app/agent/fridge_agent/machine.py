# SPDX-License-Identifier: Apache-2.0
"""The update state machine: `step(state, event, now) -> (state, effects)`.

Everything that affects an update's course lives in this file; nothing here reads a clock, a disk or a network.
The caller stores the new state durably BEFORE it carries out the effects, and after a restart sends `Started`
first: the machine then asks again for whatever was under way. Effects can therefore be repeated.

    idle/succeeded/rolled_back/failed/refused --Goal--> downloading --Fetched--> installing --Installed--> probation
    downloading --Failed--> downloading (later) | failed | refused
    probation --Alive for long enough--> succeeded        probation --exits, silence, restarts--> rolled_back

`verified` and `waiting` are states of the contract that pass at once until releases can ask for consent.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

TERMINAL = frozenset({"idle", "succeeded", "rolled_back", "failed", "refused"})
EXITS_ALLOWED = 2
RESTARTS_ALLOWED = 3


@dataclass(frozen=True)
class Policy:
    """Bounds of one device's patience, in seconds and counts."""

    ready_timeout: float = 90.0
    probation: float = 20.0
    attempts: int = 6
    retry_base: float = 2.0
    retry_cap: float = 600.0


@dataclass(frozen=True)
class State:
    """What must survive a power cut.

    `version` is that of `release`, `previous` the version that ran before it. `changed_at`, `retry_at` and `deadline`
    are UTC seconds; `attempts` counts downloads; `blind_s` is how long the panel was dark at the switch.
    """

    phase: str = "idle"
    release: str | None = None
    version: str | None = None
    previous: str | None = None
    manifest: str | None = None
    progress: int = 0
    error: dict[str, str] | None = None
    attempts: int = 0
    changed_at: float = 0.0
    retry_at: float = 0.0
    deadline: float = 0.0
    ready: bool = False
    exits: int = 0
    restarts: int = 0
    blind_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any] | None) -> State:
        known = cls.__dataclass_fields__
        return cls(**{key: value for key, value in (data or {}).items() if key in known})


# ---- events ------------------------------------------------------------


@dataclass(frozen=True)
class Started:
    """The agent came up. `installed` is the current release's id on disk, None where there is none."""

    installed: str | None
    version: str | None = None


@dataclass(frozen=True)
class Goal:
    """The hub names a release. `woken`: by a message, which also lifts a failure that time may have cured."""

    release: str
    version: str
    manifest: str
    woken: bool = False


@dataclass(frozen=True)
class Progress:
    """`percent` of the download is on disk."""

    percent: int


@dataclass(frozen=True)
class Fetched:
    """All layers are on disk and verified."""


@dataclass(frozen=True)
class Installed:
    """The release is unpacked and the switch is made."""


@dataclass(frozen=True)
class Failed:
    """Fetching or installing failed with a code of `errors`."""

    code: str
    text: str
    transient: bool
    jitter: float = 0.5
    """A random number in 0..1 from the caller, so that a fleet does not come back all at once."""


@dataclass(frozen=True)
class AppReady:
    """The app of release `version` painted its first frame and controls; `blind_s` since the old one went."""

    version: str
    blind_s: float | None = None


@dataclass(frozen=True)
class AppExited:
    """The app of `release` ended by itself."""

    release: str
    text: str


@dataclass(frozen=True)
class RolledBack:
    """The previous release is current again, or nothing is where there was none."""


@dataclass(frozen=True)
class Tick:
    """Time passed."""


Event = Started | Goal | Progress | Fetched | Installed | Failed | AppReady | AppExited | RolledBack | Tick

# ---- effects ------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """Tell the hub the state."""


@dataclass(frozen=True)
class Fetch:
    """Bring in the release whose manifest has this TUF target path."""

    manifest: str


@dataclass(frozen=True)
class Install:
    """Unpack and switch."""

    manifest: str


@dataclass(frozen=True)
class RollBack:
    """Make the previous release current again."""


Effect = Report | Fetch | Install | RollBack
Outcome = tuple[State, list[Effect]]


def step(state: State, event: Event, now: float, policy: Policy = Policy()) -> Outcome:
    """The next state and what to do, in order. `now` is UTC in seconds."""
    match event:
        case Started():
            return _started(state, event, now, policy)
        case Goal():
            return _goal(state, event, now)
        case Tick():
            return _tick(state, now, policy)
        case Failed():
            return _failed(state, event, now, policy)
        case _:
            return _course(state, event, now, policy)


def _course(state: State, event: Event, now: float, policy: Policy) -> Outcome:
    """The straight way through an update; an event that does not fit the phase is late, and changes nothing."""
    match state.phase, event:
        case "downloading", Progress(percent) if percent != state.progress:
            return replace(state, progress=percent), []
        case "downloading", Fetched():
            return _enter(state, "installing", now, progress=100), [Report(), Install(state.manifest or "")]
        case "installing", Installed():
            waiting = _enter(state, "probation", now, deadline=now + policy.ready_timeout, ready=False)
            return replace(waiting, exits=0, restarts=0), [Report()]
        case "probation", AppReady(version, blind) if version == state.version and not state.ready:
            return replace(state, ready=True, deadline=now + policy.probation, blind_s=blind), []
        case "probation", AppExited(release, text) if release == state.release:
            return _exited(state, text, now)
        case "probation", RolledBack():
            return _enter(state, "rolled_back", now), [Report()]
        case _:
            return state, []


def _started(state: State, event: Started, now: float, policy: Policy) -> Outcome:
    match state.phase:
        case "downloading":
            return replace(state, retry_at=0.0), [Report(), Fetch(state.manifest or "")]
        case "installing":
            return state, [Report(), Install(state.manifest or "")]
        case "probation" if state.restarts >= RESTARTS_ALLOWED:
            return _condemn(state, "restart_loop", f"the device restarted {state.restarts + 1} times in probation")
        case "probation":
            again = replace(state, restarts=state.restarts + 1, ready=False, deadline=now + policy.ready_timeout)
            return again, [Report()]
        case _ if event.installed not in (None, state.release) and state.phase in ("idle", "succeeded"):
            # flashed or rolled back by hand while the agent was away: say what is there
            found = State(phase="idle", release=event.installed, version=event.version, changed_at=now)
            return found, [Report()]
        case _:
            return state, [Report()]


def _goal(state: State, event: Goal, now: float) -> Outcome:
    if event.release == state.release:
        curable = state.phase == "failed" and event.woken
        if not curable:
            return state, []
    elif state.phase == "probation":
        # one release at a time is on trial; the goal is read again when this one's course has ended
        return state, []
    begun = State(
        phase="downloading",
        release=event.release,
        version=event.version,
        previous=_running(state),
        manifest=event.manifest,
        attempts=1,
        changed_at=now,
    )
    return begun, [Report(), Fetch(event.manifest)]


def _running(state: State) -> str | None:
    """The version that the device runs: `version` is that of `release`, which may not have made it."""
    return state.version if state.phase in ("idle", "succeeded") else state.previous


def _tick(state: State, now: float, policy: Policy) -> Outcome:
    if state.phase == "downloading" and state.retry_at and now >= state.retry_at:
        return replace(state, retry_at=0.0, attempts=state.attempts + 1), [Fetch(state.manifest or "")]
    if state.phase == "probation" and now >= state.deadline:
        if state.ready:
            return _enter(state, "succeeded", now, error=None), [Report()]
        if state.error is None:
            text = f"no sign of life from version {state.version} within {policy.ready_timeout:.0f} s"
            return _condemn(state, "not_ready", text)
    return state, []


def _failed(state: State, event: Failed, now: float, policy: Policy) -> Outcome:
    if state.phase not in ("downloading", "installing"):
        return state, []
    error = {"code": event.code, "text": event.text}
    if event.transient and state.attempts < policy.attempts:
        delay = min(policy.retry_cap, policy.retry_base * 2 ** (state.attempts - 1)) * (0.5 + event.jitter)
        again = replace(state, phase="downloading", error=error, retry_at=now + delay, changed_at=now)
        return again, [Report()]
    phase = "failed" if event.transient or state.phase == "installing" else "refused"
    return _enter(state, phase, now, error=error), [Report()]


def _exited(state: State, text: str, now: float) -> Outcome:
    if state.exits + 1 < EXITS_ALLOWED:
        return replace(state, exits=state.exits + 1, ready=False), []
    return _condemn(replace(state, exits=state.exits + 1), "app_exited", text)


def _condemn(state: State, code: str, text: str) -> Outcome:
    # the phase stays probation until the previous release is back: a power cut in between rolls back again
    doomed = replace(state, error={"code": code, "text": text}, restarts=RESTARTS_ALLOWED)
    return doomed, [RollBack()]


def _enter(state: State, phase: str, now: float, **changes: Any) -> State:
    return replace(state, phase=phase, changed_at=now, **changes)


def reported(state: State) -> dict[str, Any]:
    """The contract's reported property `fridge.update`."""
    return {
        "release": state.release,
        "version": state.version,
        "previous": state.previous,
        "state": state.phase,
        "progress": state.progress,
        "error": state.error,
        "attempts": state.attempts,
        "changed_at": state.changed_at,
        "blind_s": state.blind_s,
    }
