# SPDX-License-Identifier: Apache-2.0
"""The agent's body: events from hub, app and worker go through the machine; its effects go to the worker and hub.

One thread decides (here), one works (downloads, installs), one talks (hublink). State is on disk before any effect.
"""

from __future__ import annotations

import logging
import queue
import random
import shutil
import threading
import time
from collections.abc import Callable
from typing import Any

from . import VERSION, download, install, machine, manifest, telemetry
from .applink import AppLink
from .config import Config
from .durable import read_json, write_json
from .errors import AgentError, StorageFull
from .hublink import HubLink
from .machine import Effect, Event, Failed, Goal, State
from .spool import Item, Spool
from .transport import for_server
from .trust import TrustedRepository

log = logging.getLogger(__name__)
_TURN = 0.25
_USAGE_SAVE = 30.0


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
        )
        self._events: queue.Queue[Event] = queue.Queue(1000)
        self._work: queue.Queue[Effect | None] = queue.Queue(10)
        self._state_file = config.paths.state / "update.json"
        self._usage_file = config.paths.state / "usage.json"
        self._spool_file = config.paths.state / "spool.db"
        self._state = State.from_json(read_json(self._state_file))
        self._goal: Goal | None = None
        self._stopping = threading.Event()
        self._hub = HubLink(config.hub, self._spool_file, self._put) if config.hub else None
        self._worker = _Worker(config, self._work, self._put)
        self._usage: telemetry.Usage | None = None
        self._usage_saved = 0.0
        self._switched_at: float | None = None

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
            self._handle(machine.Started(installed.get("id"), installed.get("version")))
            if self._hub:
                self._hub.start()
            try:
                self._loop()
            finally:
                self._close()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                self._handle(self._events.get(timeout=_TURN))
            except queue.Empty:
                self._handle(machine.Tick())
            self._check_threads()
            self._hear_app()
            self._count_usage(time.time())
            if self._goal and self._state.phase in machine.TERMINAL:
                goal, self._goal = self._goal, None
                self._handle(goal)

    def _check_threads(self) -> None:
        """An agent without its line or its hands must end, so that the service manager starts a whole one."""
        threads = [self._worker, *([self._hub] if self._hub else [])]
        dead = [thread.name for thread in threads if not thread.is_alive()]
        if dead:
            raise AgentError(f"the agent's {'/'.join(dead)} thread ended unexpectedly")

    def _close(self) -> None:
        self._save_usage()
        self._work.put(None)
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

    def _handle(self, event: Event) -> None:
        before = self._state
        self._state, effects = machine.step(self._state, event, time.time(), self.policy)
        if self._state != before:
            if self._state.phase != before.phase or self._state.release != before.release:
                self._log_change(before)
            write_json(self._state_file, self._state.to_json())
        for effect in effects:
            self._carry_out(effect)
        if isinstance(event, Goal):
            # what the machine did not take (another release is on trial) is offered once more when that has ended
            self._goal = event if self._state.release != event.release else None

    def _log_change(self, before: State) -> None:
        state = self._state
        why = f": {state.error['text']}" if state.error else ""
        log.info("%s %s -> %s%s", state.version or state.release or "no release", before.phase, state.phase, why)
        if state.phase == "probation":
            self._switched_at = time.monotonic()

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, machine.Report):
            if self._hub:
                self._hub.report(self._properties())
        else:
            self._work.put(effect, timeout=30)

    def _properties(self) -> dict[str, Any]:
        return {
            "fridge": {
                "update": machine.reported(self._state),
                "agent": {"version": VERSION, "platform": self.config.platform, "ring": self.config.ring},
            }
        }

    # ---- the app ----------------------------------------

    def _hear_app(self) -> None:
        for message in self._app.messages():
            match message:
                case {"type": "ready" | "alive" as kind, "version": str(version)}:
                    self._handle(machine.AppReady(version, self._blind() if kind == "ready" else None))
                case {"type": "press", "button": str(button)} if self.config.consent:
                    self._open_usage().press(button)
        for path, record in self._app.crash_records():
            if self.config.consent:
                item = telemetry.crash_item(self.config.device_id, self.config.ring, record)
                self._spool_item(item)
            path.unlink()
            self._handle(machine.AppExited(str(record.get("release")), _how(record)))

    def _blind(self) -> float | None:
        """Seconds since the switch: how long the owner saw no live panel."""
        return round(time.monotonic() - self._switched_at, 2) if self._switched_at is not None else None

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


class _Worker(threading.Thread):
    """Carries out one effect at a time and answers with an event."""

    def __init__(self, config: Config, work: queue.Queue[Effect | None], put: Callable[[Event], None]) -> None:
        super().__init__(name="worker", daemon=True)
        self._config = config
        self._paths = config.paths
        self._work = work
        self._put = put
        self._transport = for_server(config.server)
        self._trust = TrustedRepository(self._transport, config.server.root, config.paths.state / "tuf")

    def run(self) -> None:
        while (effect := self._work.get()) is not None:
            try:
                self._put(self._do(effect))
            except AgentError as exc:
                self._put(Failed(exc.code, exc.text, exc.transient, random.random()))  # noqa: S311
            except OSError as exc:
                full = StorageFull(f"cannot write {exc.filename or 'on this device'}: {exc.strerror}")
                self._put(Failed(full.code, full.text, full.transient, random.random()))  # noqa: S311
            except Exception as exc:
                log.exception("unexpected failure in %s", type(effect).__name__)
                self._put(Failed("internal", f"{type(exc).__name__}: {exc}", False))

    def _do(self, effect: Effect) -> Event:
        match effect:
            case machine.Fetch(target):
                self._fetch(target)
                return machine.Fetched()
            case machine.Install(target):
                self._install(target)
                return machine.Installed()
            case machine.RollBack():
                install.roll_back(self._paths)
                return machine.RolledBack()
            case _:
                raise TypeError(f"not the worker's: {effect!r}")

    def _fetch(self, target: str) -> None:
        raw = self._trust.manifest(target, self._config.ring)
        release = manifest.parse(raw, self._config.platform, self._config.hardware)
        needed = install.missing_layers(self._paths, release)
        total = sum(layer.length for layer in needed)
        download.check_space(self._paths.state, total + sum(layer.unpacked for layer in needed))
        done = 0
        for layer in needed:
            download.fetch_layer(self._transport, layer, self._paths.downloads, _Meter(self._put, done, total))
            done += layer.length
        write_json(self._paths.downloads / "manifest.json", {"target": target, "raw": raw.decode()})

    def _install(self, target: str) -> None:
        stored = read_json(self._paths.downloads / "manifest.json")
        if not stored or stored["target"] != target:
            self._fetch(target)
            stored = read_json(self._paths.downloads / "manifest.json")
        assert stored is not None
        release = manifest.parse(stored["raw"].encode(), self._config.platform, self._config.hardware)
        objects = {layer.sha256: self._paths.downloads / layer.sha256 for layer in release.layers}
        folder = install.install(self._paths, release, objects)
        install.switch(self._paths, folder)
        shutil.rmtree(self._paths.downloads, ignore_errors=True)


class _Meter:
    """Tells the download's progress in tenths: enough for a person, and no disk write a chunk."""

    def __init__(self, put: Callable[[Event], None], before: int, total: int) -> None:
        self._put, self._before, self._total, self._last = put, before, max(total, 1), -1

    def __call__(self, size: int) -> None:
        percent = (self._before + size) * 10 // self._total * 10
        if percent != self._last:
            self._last = percent
            self._put(machine.Progress(percent))
