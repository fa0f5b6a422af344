# SPDX-License-Identifier: Apache-2.0
"""Records of panels that ended by themselves, where the device's agent looks for them (docs/contracts.md).

The launcher writes those of the control process in the same form and folder.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

_STDERR_LINES = 60
_LINE_LIMIT = 500


class StderrTail:
    """Passes a child's stderr on to ours and keeps its last lines."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=_STDERR_LINES)
        self._rest = b""

    def feed(self, data: bytes) -> None:
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()
        *lines, rest = (self._rest + data).split(b"\n")
        self._lines.extend(line[:_LINE_LIMIT] for line in lines)
        self._rest = rest[:_LINE_LIMIT]

    def text(self) -> str:
        return b"\n".join((*self._lines, self._rest)).decode("utf-8", "replace")


class CrashRecords:
    """The folder beside the app's state. Without an agent there is nobody to read it, and nothing is written."""

    def __init__(self, folder: Path | None, release: str | None, version: str) -> None:
        self._folder, self._release, self._version = folder, release, version

    def write(self, code: int, uptime: float, stderr: str) -> None:
        """`code`: as of subprocess, negative for a signal. `uptime`: seconds. A full disk costs the record only."""
        if self._folder is None:
            return
        now = time.time()
        record = {
            "at": now,
            "release": self._release,
            "version": self._version,
            "exit_code": code if code >= 0 else None,
            "signal": signal.Signals(-code).name if code < 0 else None,
            "uptime_s": round(uptime, 3),
            "stderr": stderr,
        }
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            new, final = self._folder / f".{now:.6f}", self._folder / f"{now:.6f}.json"
            with new.open("w", encoding="utf-8") as out:
                json.dump(record, out)
                out.flush()
                os.fsync(out.fileno())
            new.replace(final)
