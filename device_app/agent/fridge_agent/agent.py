# SPDX-License-Identifier: Apache-2.0
"""The agent's body: events from hub, app and worker go through the machine; its effects go to the worker and hub.

One thread decides (here), one works (downloads, installs), one talks (hublink). State is on disk before any effect.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from . import VERSION, bootstrap, install, machine, manners, telemetry
from .applink import AppLink
from .clock import Clock, built_at
from .config import Config
from .durable import read_json, write_json
from .errors import AgentError
from .machine import STAGED, Effect, Event, Goal, Moment, State
from .spool import Item, Spool
from .watchdog import ServiceManager
from .worker import Worker

if TYPE_CHECKING:
    from .hublink import HubLink

log = logging.getLogger(__name__)
_TURN = 0.25
_USAGE_SAVE = 30.0
_CLOCK_KEEP = 600.0


class Agent:
    """One device's agent. `run` serves until `stop`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.policy = machine.Policy(
            ready_timeout=config.timing.ready_timeout,
            probation=config.timing.probation,
            attempts=config.timing.download_attempts,
            retry_base=config.timing.retry_base,
            retry_cap=config.timing.retry_cap,
            silence=config.timing.silence,
            start_spread=config.timing.start_spread,
        )
        self._events: queue.Queue[Event] = queue.Queue(1000)
        self._work: queue.Queue[Effect | None] = queue.Queue(10)
        self._state_file = config.paths.state / "update.json"
        self._usage_file = config.paths.state / "usage.json"
        self._spool_file = config.paths.state / "spool.db"
        self._state = State.from_json(read_json(self._state_file))
        self._goal: Goal | None = None
        self._stopping = threading.Event()
        self._manager = ServiceManager()
        self._hub = self._hub_link()
        self._clock = Clock(config.paths.state / "time.json", built_at(config.server.root), config.synchronised)
        self._worker = Worker(config, self._work, self._put, self._clock)
        self._kitchen = manners.Kitchen()
        self._staged_at: float | None = None
        self._consent: dict[str, Any] = {}
        self._offered: dict[str, Any] | None = None
        self._clock_kept = 0.0
        self._usage: telemetry.Usage | None = None
        self._usage_saved = 0.0
        self._switched_at: float | None = None
        self._own_layer = bootstrap.own_layer()
        self._started_at = time.monotonic()
        self._proven = False
        self.succession = False
        """Whether `run` ended because another version of the agent is to take over."""

    def _hub_link(self) -> HubLink | None:
        if self.config.hub is None:
            return None
        from .hublink import HubLink  # azure-iot-device is a second of imports, and of no use without a hub

        return HubLink(self.config.hub, self._spool_file, self._take_goal)

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        """Serve until `stop`.

        Raises:
            Busy: another agent serves this device.
        """
        paths = self.config.paths
        for folder in (paths.state, paths.run, paths.crashes):
            folder.mkdir(parents=True, exist_ok=True)
        with install.exclusive(paths):
            self._spool = Spool(self._spool_file)
            self._app = AppLink(paths.socket, paths.crashes)
            self._worker.start()
            installed = install.describe(install.current(paths)) or {}
            note = bootstrap.take_note(paths)
            self._handle(machine.Started(installed.get("id"), installed.get("version"), note))
            if self._hub:
                self._hub.start()
            self._manager.ready()
            try:
                self._loop()
            finally:
                self._close()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._manager.alive(time.monotonic())
            try:
                self._handle(self._events.get(timeout=_TURN))
            except queue.Empty:
                self._handle(machine.Tick())
            self._check_threads()
            self._hear_app()
            self._count_usage(time.time())
            self._mind_manners()
            self._prove_agent()
            self._keep_clock()
            if self._goal and self._state.phase != "installing":
                goal, self._goal = self._goal, None
                self._handle(goal)

    def _check_threads(self) -> None:
        """An agent without its line or its hands must end, so that the service manager starts a whole one."""
        threads = [self._worker, *([self._hub] if self._hub else [])]
        dead = [thread.name for thread in threads if not thread.is_alive()]
        if dead:
            raise AgentError(f"the agent's {'/'.join(dead)} thread ended unexpectedly")

    def _close(self) -> None:
        if not self.succession:
            self._manager.stopping()
        self._save_usage()
        self._worker.give(None)
        self._worker.join(10.0)
        if self._hub:
            self._hub.close()
        self._app.close()
        self._spool.close()

    # ---- update ----------------------------------------

    def _put(self, event: Event) -> None:
        """Take an event from another thread; a full queue drops progress, and waits for nothing else."""
        try:
            self._events.put(event, block=not isinstance(event, machine.Progress), timeout=30)
        except queue.Full:
            log.warning("too much at once: left out %s", type(event).__name__)

    def _take_goal(self, goal: Goal) -> None:
        self._put(replace(goal, jitter=random.random()))  # noqa: S311

    def _handle(self, event: Event) -> None:
        before = self._state
        moment = Moment(time.time(), time.monotonic())
        self._state, effects = machine.step(self._state, event, moment, self.policy)
        stored = self._state.to_json()
        if stored != before.to_json():
            if self._state.phase != before.phase or self._state.release != before.release:
                self._log_change(before)
            write_json(self._state_file, stored)
        for effect in effects:
            self._carry_out(effect)
        if isinstance(event, Goal):
            # what the machine did not take (a switch was being made) is offered once more when that has ended
            self._goal = event if self._state.release != event.release else None
        elif isinstance(event, machine.Installed | machine.RolledBack):
            self._look_for_successor()

    def _log_change(self, before: State) -> None:
        state = self._state
        why = f": {state.error['text']}" if state.error else ""
        held = f" ({state.waiting_for})" if state.waiting_for else ""
        log.info(
            "%s %s -> %s%s%s", state.version or state.release or "no release", before.phase, state.phase, held, why
        )
        if state.phase == "probation":
            self._switched_at = time.monotonic()

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, machine.Report):
            if self._hub:
                self._hub.report(self._properties())
        else:
            self._worker.give(effect)

    def _properties(self) -> dict[str, Any]:
        return {
            "fridge": {
                "update": machine.reported(self._state),
                "agent": {"version": VERSION, "platform": self.config.platform, "ring": self.config.ring},
            }
        }

    def _keep_clock(self) -> None:
        now = time.monotonic()
        if now - self._clock_kept >= _CLOCK_KEEP or not self._clock_kept:
            self._clock_kept = now
            self._clock.keep(time.time())

    # ---- the agent itself ----------------------------------------

    def _look_for_successor(self) -> None:
        """Make way where the release that is current now brings another version of the agent."""
        if bootstrap.layer_of(self.config.paths) != self._own_layer:
            log.info("the current release has another version of the agent: making way for it")
            self.succession = True
            self.stop()

    def _prove_agent(self) -> None:
        """Say once that this version of the agent works: it has reached the hub, or has none to reach."""
        if self._proven or self._own_layer is None:
            return
        if self._hub is None or self._hub.connected_once:
            bootstrap.prove(self.config.paths, self._own_layer)
            self._proven = True
        elif time.monotonic() - self._started_at > self.config.timing.agent_trial:
            bootstrap.condemn(self.config.paths, self._own_layer, "it did not reach the hub")
            raise AgentError("this version of the agent does not reach the hub: the one before takes over")

    # ---- kitchen ----------------------------------------

    def _mind_manners(self) -> None:
        """Hold a staged release back while it would disturb, and ask the owner where the release wants that."""
        state, up = self._state, time.monotonic()
        if state.phase in STAGED and state.release:
            if self._staged_at is None:
                self._staged_at = up
                self._consent = read_json(self.config.paths.state / "staged.json") or {}
            reason = "trial" if state.trial else self._held_by(state.release, up)
            self._handle(machine.Held(reason) if reason else machine.Free())
        elif state.phase not in STAGED:
            self._staged_at = None
        self._offer(up)

    def _held_by(self, release: str, up: float) -> str | None:
        wants = self._consent.get("release") == release and bool(self._consent.get("consent"))
        rules = replace(self.config.manners, consent=self.config.manners.consent or wants)
        waited = up - (self._staged_at or up)
        return manners.held_by(rules, self._kitchen, release, waited, up, datetime.now())

    def _offer(self, up: float) -> None:
        """Keep the panel's page about updates true: a file in the run folder that the app reads."""
        state = self._state
        ask = state.waiting_for == "consent" and self._kitchen.asks(up)
        offer = {"state": state.phase, "release": state.release, "version": state.version, "progress": state.progress}
        offer |= {"ask": ask, "notes": self._consent.get("notes", "") if ask else ""}
        if offer != self._offered:
            self._offered = offer
            write_json(self.config.paths.run / "update.json", offer)
            (self.config.paths.run / "update.json").chmod(0o640)

    # ---- the app ----------------------------------------

    def _hear_app(self) -> None:
        for message in self._app.messages():
            match message:
                case {"type": "ready" | "alive", "version": str(version)}:
                    self._take_sign_of_life(version, message)
                    self._kitchen = replace(
                        self._kitchen,
                        heard_at=time.monotonic(),
                        door_open=message.get("door") is True,
                        alarm=message.get("alarm") is True,
                    )
                case {"type": "press", "button": str(button)}:
                    self._kitchen = self._kitchen.pressed(time.monotonic())
                    if self.config.consent:
                        self._open_usage().press(button)
                case {"type": "consent", "release": str(release), "yes": bool(yes)}:
                    self._kitchen = self._kitchen.answered(release, yes, time.monotonic())
        for path, record in self._app.crash_records():
            if self.config.consent:
                item = telemetry.crash_item(self.config.device_id, self.config.ring, record)
                self._spool_item(item)
            path.unlink()
            self._handle(machine.AppExited(str(record.get("release")), _how(record)))

    def _take_sign_of_life(self, version: str, message: dict[str, Any]) -> None:
        blind = self._blind(message.get("shown_for"))
        before = self._state.blind_s
        self._handle(machine.AppReady(version, blind))
        if self._state.blind_s is not None and before is None:
            still = self._blind(message.get("uptime"))
            log.info("the panel was dark for %s s, the control loop stood still for %s s", blind, still)

    def _blind(self, shown_for: object) -> float | None:
        """Seconds from the switch to the new app's first frame: how long the owner saw no live panel.

        `shown_for`: seconds since that frame, as the app tells them. A new agent may have come up after it. With the
        app's `uptime`, which begins at its first control step, it is how long nobody controlled the compressor.
        """
        if self._state.phase != "probation" or not isinstance(shown_for, int | float):
            return None
        if self._switched_at is not None:
            since = time.monotonic() - self._switched_at
        else:
            since = time.time() - self._state.changed_at  # the switch was another process's
        blind = since - shown_for
        return round(blind, 2) if 0 <= blind <= self.policy.ready_timeout else None

    # ---- usage ----------------------------------------

    def _open_usage(self) -> telemetry.Usage:
        if self._usage is None:
            stored = read_json(self._usage_file) or {}
            self._usage = telemetry.Usage(float(stored.get("started", time.time())))
            self._usage.restore(stored.get("presses", {}))
        return self._usage

    def _count_usage(self, now: float) -> None:
        usage = self._usage
        if usage is None and self.config.consent and self._usage_file.exists():
            usage = self._open_usage()
        if usage is None:
            return
        if now - usage.started >= self.config.timing.usage_period:
            running = install.describe(install.current(self.config.paths))
            if running and usage.presses:
                self._spool_item(telemetry.usage_item(self.config.device_id, self.config.ring, running, usage, now))
            self._usage = None
            self._usage_file.unlink(missing_ok=True)
        elif now - self._usage_saved >= _USAGE_SAVE:
            self._save_usage()

    def _save_usage(self) -> None:
        self._usage_saved = time.time()
        if self._usage is not None:
            write_json(self._usage_file, {"started": self._usage.started, "presses": self._usage.presses})

    def _spool_item(self, item: Item) -> None:
        self._spool.put(item)
        if self._hub:
            self._hub.poke()


def _how(record: dict[str, Any]) -> str:
    end = f"signal {record['signal']}" if record.get("signal") else f"status {record.get('exit_code')}"
    last = str(record.get("stderr", "")).strip().splitlines()[-1:]
    return f"the app ended with {end} after {record.get('uptime_s')} s" + (f": {last[0][:200]}" if last else "")
