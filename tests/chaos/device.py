# SPDX-License-Identifier: GPL-3.0-or-later
"""A device as a process that can be killed at any of its steps: the real agent, without a hub, and an app that answers.

The process is forked, so that hundreds of lives cost no imports. Its steps are what changes a disk: every open for
writing, rename, link, unlink, folder, fsync and syncfs.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fridge_agent import download, durable, install, machine, transport
from fridge_agent.agent import Agent
from fridge_agent.config import Config
from fridge_agent.machine import Goal

_AUDITED = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.chmod", "os.truncate"}


@dataclass(frozen=True)
class Plan:
    """What happens to a life.

    `kill_at`, `full_at`: the step before which it is killed, or at which the disk is full (once). `kill_after`: in
    seconds. `acknowledged`: a file outside of the device that gets a line for each end of an update, when a hub would
    hear of it. `patience`: seconds that each goal may take.
    """

    goals: tuple[str, ...]
    acknowledged: Path
    kill_at: int | None = None
    kill_after: float | None = None
    full_at: int | None = None
    reserve: int = 0
    timeout: float = 0.5
    patience: float = 20.0

    @property
    def switched(self) -> Path:
        """A file that gets the time (monotonic ns) of each switch of `current`."""
        return self.acknowledged.with_suffix(".switched")


@dataclass(frozen=True)
class Life:
    """How it ended. `status`: exit status, -9 when killed. `steps`: how far it came."""

    status: int
    steps: int
    requests: int


def live(config: Config, plan: Plan) -> Life:
    """Run a device until it has followed `plan.goals`, or was killed."""
    tally_in, tally_out = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(tally_in)
        status = 1
        try:
            _child(config, plan, tally_out)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(tally_out)
    if plan.kill_after is not None:
        time.sleep(plan.kill_after)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with os.fdopen(tally_in) as tally:
        steps, requests = 0, 0
        for line in tally:
            if line.startswith("requests"):
                requests = int(line.split()[1])
            else:
                steps += 1
    _, wait = os.waitpid(pid, 0)
    return Life(os.waitstatus_to_exitcode(wait), steps, requests)


def _child(config: Config, plan: Plan, tally: int) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest's own time-out is the parent's
    signal.alarm(int(plan.patience * len(plan.goals)) + 10)
    log = os.open(config.paths.base.parent / "device.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    transport.TIMEOUT = plan.timeout
    transport._GOODBYE = plan.timeout
    download.RESERVE = plan.reserve
    agent = Agent(config)
    thread = threading.Thread(target=_app, args=(config,), daemon=True)
    _watch(config, plan, tally)
    thread.start()
    driver = threading.Thread(target=_drive, args=(agent, _Heard(agent), plan), daemon=True)
    driver.start()
    agent.run()
    os.write(tally, f"requests {agent._worker._transport.requests}\n".encode())


def _drive(agent: Agent, heard: _Heard, plan: Plan) -> None:
    """Play hub: a goal, its acknowledgement, the next goal."""
    try:
        for version in plan.goals:
            # a wake-up, so that what failed for want of a server is tried anew
            goal = Goal(f"{version}-g0", version, f"beta/{version}/manifest.json", woken=True)
            if not _told(agent, heard, goal, time.monotonic() + plan.patience):
                return
            line = {"at": time.monotonic(), "version": version, "state": agent._state.phase}
            with plan.acknowledged.open("a") as out:
                out.write(json.dumps(line | {"attempts": agent._state.attempts, "error": agent._state.error}) + "\n")
    finally:
        agent.stop()


class _Heard:
    """The goals that an agent has taken, since it may have finished with one by the time that somebody looks."""

    def __init__(self, agent: Agent) -> None:
        self.goals: list[Goal] = []
        real = agent._handle

        def handle(event: machine.Event) -> None:
            real(event)
            if isinstance(event, Goal):
                self.goals.append(event)

        # once, before the agent runs: its loop looks the method up before it waits for what to call it with
        agent._handle = handle  # type: ignore[method-assign]


def _told(agent: Agent, heard: _Heard, goal: Goal, deadline: float) -> bool:
    """Wake the agent for `goal` and wait for the end of its update; False when that takes too long."""
    agent._put(goal)
    while time.monotonic() < deadline:
        state = agent._state
        taken = any(event is goal for event in heard.goals)
        if taken and state.phase in machine.TERMINAL and state.release == goal.release:
            return True
        time.sleep(0.01)
    print("out of time in", agent._state, flush=True)
    return False


def _app(config: Config) -> None:
    """The app of whatever is current: shows life, or dies where the version is the bad one."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    while True:
        time.sleep(0.01)
        try:
            running = install.describe(install.current(config.paths))
        except (OSError, ValueError):
            continue
        if running is None:
            continue
        if running["version"] == "3":
            record = {"release": running["id"], "exit_code": 1, "uptime_s": 0.1, "stderr": "I cannot start"}
            config.paths.crashes.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):
                path = config.paths.crashes / f"{time.time():.6f}.json"
                path.write_text(json.dumps(record))
            time.sleep(0.1)
            continue
        with suppress(OSError):
            link.sendto(json.dumps({"type": "ready", "version": running["version"]}).encode(), str(config.paths.socket))


def _watch(config: Config, plan: Plan, tally: int) -> None:
    """Count the steps of the agent's own threads below its folders, and strike at the planned one."""
    base = os.fsencode(config.paths.base.parent)
    counted = 0
    lock = threading.Lock()

    def step() -> None:
        nonlocal counted
        with lock:
            number, counted = counted, counted + 1
            os.write(tally, b"step\n")
        if number == plan.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == plan.full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = args[:3]
            changes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if changes and _below(path, base):
                step()
        elif event == "os.rename" and os.fsencode(args[1]).endswith(b"/opt/current"):  # type: ignore[arg-type]
            step()
            with plan.switched.open("a") as out:
                out.write(f"{time.monotonic_ns()}\n")
        elif event in _AUDITED and any(_below(path, base) for path in args[:2]):
            step()

    def counted_too(real: Callable[..., None]) -> Callable[..., None]:
        def call(*args: object) -> None:
            step()
            real(*args)

        return call

    sys.addaudithook(hook)
    os.fsync = counted_too(os.fsync)  # type: ignore[assignment]
    durable._libc = _CountedLibc(durable._libc, step)  # type: ignore[assignment]


class _CountedLibc:
    def __init__(self, real: object, step: Callable[[], None]) -> None:
        self._real, self._step = real, step

    def __getattr__(self, name: str) -> object:
        self._step()
        return getattr(self._real, name)


def _below(path: object, base: bytes) -> bool:
    if isinstance(path, int) or path is None:
        return False
    try:
        name = os.fsencode(path)  # type: ignore[arg-type]
    except TypeError:
        return False
    return name.startswith(base) and not name.endswith(b"device.log") and b"/app/crashes" not in name
