# SPDX-License-Identifier: Apache-2.0
"""Runs the app of whatever release `current` names: `fridge-agent run-app`, a service of its own.

It watches the symlink, so the agent needs no right over services: a switch of `current` is a restart. An app that
ends by itself leaves a crash record on disk, whoever is or is not listening, and is started again with backoff.
"""

from __future__ import annotations

import os
import signal
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

POLL = 0.25
STOP_GRACE = 5.0
BACKOFF = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
STDERR_LINES = 60


class Launcher:
    """One app process at a time."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.stopping = threading.Event()
        self._crashes_in_a_row = 0

    def run(self) -> int:
        """Serve until SIGTERM; the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stopping.set())
        self.config.paths.run.mkdir(parents=True, exist_ok=True)
        self.config.paths.app_state.mkdir(parents=True, exist_ok=True)
        while not self.stopping.is_set():
            release = current(self.config.paths)
            if release is None:
                self.stopping.wait(POLL)
                continue
            self._run_once(release)
        return 0

    def _run_once(self, release: Path) -> None:
        """Start the app of `release`; return when it ended or `current` moved on."""
        started = time.monotonic()
        child = self._start(release)
        stderr = _Tail(child.stderr)
        while child.poll() is None:
            if self.stopping.wait(POLL) or current(self.config.paths) != release:
                _stop(child)
                stderr.join()
                self._crashes_in_a_row = 0
                return
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
            "FRIDGE_AGENT_SOCKET": str(paths.socket),
            **app.env,
        }
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
            if self.stopping.wait(POLL):
                return


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


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
