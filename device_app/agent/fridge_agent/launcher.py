# SPDX-License-Identifier: Apache-2.0
"""Runs the app of whatever release `current` names: `fridge-agent run-app`, a service of its own.

It watches the symlink, so the agent needs no right over services: a switch of `current` is a restart. An app that
ends by itself leaves a crash record on disk, whoever is or is not listening, and is started again with backoff.

The service manager watches the launcher, and the launcher the app, both by sd_notify(3): an app that has ever given a
sign of life and falls silent is ended with SIGABRT, so that it can say where it hangs, and started anew.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO

from .bootstrap import LAYER
from .config import Config
from .durable import write_json
from .install import current, describe
from .watchdog import ServiceManager

POLL = 0.25
STOP_GRACE = 5.0
BACKOFF = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
STDERR_LINES = 60
SILENCE = 15.0
"""Seconds without a sign of life after which an app that gives them is taken for hung."""


class Launcher:
    """One app process at a time."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.stopping = threading.Event()
        self._crashes_in_a_row = 0
        self._manager = ServiceManager()
        config.paths.run.mkdir(parents=True, exist_ok=True)
        config.paths.app_state.mkdir(parents=True, exist_ok=True)
        self._signs = _SignsOfLife(config.paths.run / "notify.sock")

    def run(self) -> int:
        """Serve until SIGTERM; the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stopping.set())
        self._manager.ready()
        while not self.stopping.is_set():
            release = current(self.config.paths)
            if release is None:
                self._pause()
                continue
            self._run_once(release)
        self._manager.stopping()
        return 0

    def _pause(self) -> bool:
        """Wait a moment, as a launcher that lives; whether it is to end."""
        self._manager.alive(time.monotonic())
        return self.stopping.wait(POLL)

    def _run_once(self, release: Path) -> None:
        """Start the app of `release`; return when it ended or `current` moved on."""
        started = time.monotonic()
        self._signs.forget()
        child = self._start(release)
        stderr = _Tail(child.stderr)
        while child.poll() is None:
            if self._pause() or current(self.config.paths) != release:
                _stop(child, signal.SIGTERM)
                stderr.join()
                self._crashes_in_a_row = 0
                return
            if self._signs.missing(time.monotonic()):
                print(f"{self.config.app.module} gave no sign of life for {SILENCE:.0f} s", file=sys.stderr, flush=True)
                _stop(child, signal.SIGABRT)
        stderr.join()
        uptime = time.monotonic() - started
        self._record(release, child.returncode, uptime, stderr.text())
        self._back_off(release, uptime)

    def _start(self, release: Path) -> subprocess.Popen[bytes]:
        described = describe(release) or {}
        paths, app = self.config.paths, self.config.app
        layers = [str(link) for link in sorted(release.iterdir()) if link.is_symlink() and link.name != LAYER]
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            "PYTHONPATH": os.pathsep.join(layers),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "FRIDGE_STATE_DIR": str(paths.app_state),
            "FRIDGE_RUN_DIR": str(paths.run),
            "FRIDGE_VERSION": described.get("version", ""),
            "FRIDGE_RELEASE": described.get("id", ""),
            "FRIDGE_AGENT_SOCKET": str(paths.socket),
            "NOTIFY_SOCKET": str(self._signs.path),
            **app.env,
        }
        for mine in ("WATCHDOG_USEC", "WATCHDOG_PID"):
            environment.pop(mine, None)
        print(f"starting {app.module} {described.get('version')}", flush=True)
        return subprocess.Popen(
            [app.python, "-s", "-m", app.module], env=environment, cwd=paths.app_state, stderr=subprocess.PIPE
        )

    def _record(self, release: Path, code: int, uptime: float, stderr: str) -> None:
        described = describe(release) or {}
        now = time.time()
        record = {
            "at": now,
            "release": described.get("id"),
            "version": described.get("version"),
            "exit_code": code if code >= 0 else None,
            "signal": signal.Signals(-code).name if code < 0 else None,
            "uptime_s": round(uptime, 3),
            "stderr": stderr,
        }
        how = f"signal {record['signal']}" if code < 0 else f"status {code}"
        print(f"{self.config.app.module} {record['version']} ended by itself, {how}", file=sys.stderr, flush=True)
        write_json(self.config.paths.crashes / f"{now:.6f}.json", record)

    def _back_off(self, release: Path, uptime: float) -> None:
        self._crashes_in_a_row = 0 if uptime > BACKOFF[-1] else self._crashes_in_a_row + 1
        wait = BACKOFF[min(self._crashes_in_a_row, len(BACKOFF)) - 1] if self._crashes_in_a_row else BACKOFF[0]
        until = time.monotonic() + wait
        while time.monotonic() < until and current(self.config.paths) == release:
            if self._pause():
                return


class _SignsOfLife:
    """The app's end of NOTIFY_SOCKET. An app of a release that gives no signs is not expected to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        self._last: float | None = None

    def forget(self) -> None:
        """Another app begins."""
        self._drain()
        self._last = None

    def missing(self, now: float) -> bool:
        """Whether an app that gave signs has given none for too long; `now` in monotonic seconds."""
        if self._drain():
            self._last = now
        return self._last is not None and now - self._last > SILENCE

    def _drain(self) -> bool:
        heard = False
        try:
            while True:
                heard = b"WATCHDOG=1" in self._socket.recv(1024).split(b"\n") or heard
        except BlockingIOError:
            return heard


class _Tail(threading.Thread):
    """Passes a child's stderr on to ours and keeps its last lines."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        super().__init__(daemon=True)
        assert stream is not None
        self._stream = stream
        self._lines: deque[bytes] = deque(maxlen=STDERR_LINES)
        self.start()

    def run(self) -> None:
        for line in self._stream:
            self._lines.append(line[:500])
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()

    def text(self) -> str:
        return b"".join(self._lines).decode("utf-8", "replace")


def _stop(child: subprocess.Popen[bytes], how: signal.Signals) -> None:
    child.send_signal(how)
    try:
        child.wait(STOP_GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
