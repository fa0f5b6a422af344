# SPDX-License-Identifier: Apache-2.0
"""Starts the panel's process, hears it, and starts it anew when it ends or hangs. Cooling never waits for it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .crashes import CrashRecords, StderrTail
from .panel_process import PanelProcess
from .seam import Lines, SeamError, encode

FIRST_FRAME_SECONDS = 60.0  # a new device builds font caches first
SILENCE_SECONDS = 10.0
ABORT_SECONDS = 2.0  # from SIGABRT, which makes the panel write where it hangs, to SIGKILL
BACKOFF = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
_CHUNK = 65536
_BACKLOG_LIMIT = 1 << 20

Hear = Callable[[str, Any], None]


class PanelKeeper:
    """Keeps a panel alive from `adopt` to `close`. `hear` gets its messages, and `("gone", None)` at each end."""

    def __init__(self, hear: Hear, crashes: CrashRecords) -> None:
        self._hear, self._crashes = hear, crashes
        self._loop = asyncio.get_running_loop()
        self._child: PanelProcess | None = None
        self._lines, self._tail = Lines(), StderrTail()
        self._latest: dict[str, bytes] = {}
        self._newest: dict[str, bytes] = {}
        self._sending = b""
        self._failures = 0
        self._retry_at = 0.0
        self._heard_at = 0.0
        self._painted = False
        self._aborted_at: float | None = None

    @property
    def alive(self) -> bool:
        """Whether a panel has drawn and its event loop turns."""
        return self._painted and time.monotonic() - self._heard_at < SILENCE_SECONDS / 2

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def adopt(self, child: PanelProcess) -> None:
        """Take over a panel that was just started."""
        self._child = child
        self._lines, self._tail = Lines(), StderrTail()
        self._painted, self._aborted_at, self._heard_at = False, None, child.started
        self._sending, self._latest = b"", dict(self._newest)
        self._loop.add_reader(child.line, self._read, child)
        self._loop.add_reader(child.stderr, self._read_stderr, child)
        self._loop.add_reader(child.exited, self._gone, child)
        self._flush()

    def tell(self, kind: str, value: object) -> None:
        """Send a message; of one kind only the newest waits for a busy panel, and a new panel gets it again."""
        self._newest[kind] = self._latest[kind] = encode(kind, value)
        self._flush()

    def tell_once(self, kind: str, value: object) -> bool:
        """Send a message to this panel alone; False where there is none, or it takes no more."""
        if self._child is None or len(self._sending) > _BACKLOG_LIMIT:
            return False
        self._sending += encode(kind, value)
        self._flush()
        return True

    def tick(self, now: float) -> None:
        """Start a panel that is due; end one that hangs. Call it every second or so; `now` in monotonic seconds."""
        if self._child is None:
            if now >= self._retry_at:
                self.adopt(PanelProcess.spawn())
            return
        allowed = SILENCE_SECONDS if self._painted else FIRST_FRAME_SECONDS
        if self._aborted_at is not None:
            if now - self._aborted_at >= ABORT_SECONDS:
                self._child.send_signal(signal.SIGKILL)
        elif now - self._heard_at > allowed:
            print(f"the panel has hung for {now - self._heard_at:.0f} s and is started anew", file=sys.stderr)
            self._aborted_at = now
            self._child.send_signal(signal.SIGABRT)

    def close(self, grace: float = 3.0) -> None:
        """End the panel for good."""
        if self._child:
            child = self._forget()
            child.end(grace)
            child.close()

    def _forget(self) -> PanelProcess:
        child = self._child
        assert child is not None
        self._loop.remove_writer(child.line)
        for source in (child.line, child.stderr, child.exited):
            self._loop.remove_reader(source)
        self._child = None
        self._painted = False
        return child

    def _gone(self, child: PanelProcess) -> None:
        code = child.wait() or 0
        self._read_stderr(child)
        self._forget()
        child.close()
        uptime = time.monotonic() - child.started
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
        print(f"the panel ended by itself after {uptime:.1f} s, {how}", file=sys.stderr, flush=True)
        self._crashes.write(code, uptime, self._tail.text())
        self._failures = 1 if uptime > BACKOFF[-1] else self._failures + 1
        self._retry_at = time.monotonic() + BACKOFF[min(self._failures, len(BACKOFF)) - 1]
        self._hear("gone", None)

    def _read(self, child: PanelProcess) -> None:
        try:
            data = child.line.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(child.line)
            return
        self._heard_at = time.monotonic()
        try:
            for kind, value in self._lines.feed(data):
                if kind == "painted":
                    self._painted = True
                self._hear(kind, value)
        except SeamError as exc:
            print(f"the panel speaks nonsense and is started anew: {exc}", file=sys.stderr)
            child.send_signal(signal.SIGKILL)

    def _read_stderr(self, child: PanelProcess) -> None:
        data = b""
        with suppress(BlockingIOError):
            while data := os.read(child.stderr, _CHUNK):
                self._tail.feed(data)
            self._loop.remove_reader(child.stderr)

    def _flush(self) -> None:
        child = self._child
        if child is None:
            return
        while self._sending or self._latest:
            if not self._sending:
                self._sending = self._latest.pop(next(iter(self._latest)))
            try:
                self._sending = self._sending[child.line.send(self._sending) :]
            except BlockingIOError:
                self._loop.add_writer(child.line, self._flush)
                return
            except OSError:  # it is ending; its exit is told by itself
                self._sending = b""
                break
        self._loop.remove_writer(child.line)
