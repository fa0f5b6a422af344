# SPDX-License-Identifier: Apache-2.0
"""What the app tells the agent: JSON datagrams on a socket in the run folder, and crash records on disk."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from .durable import read_json

_MAX_DATAGRAM = 4096
_MAX_PER_TURN = 256


class AppLink:
    """The agent's end. The app never waits for it: what cannot be taken is dropped by the kernel."""

    def __init__(self, path: Path, crashes: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        path.chmod(0o660)
        self._socket.setblocking(False)
        self._crashes = crashes

    def messages(self) -> list[dict[str, Any]]:
        """The datagrams that wait now, at most 256, malformed ones left out."""
        found: list[dict[str, Any]] = []
        for _ in range(_MAX_PER_TURN):
            try:
                data = self._socket.recv(_MAX_DATAGRAM)
            except BlockingIOError:
                break
            try:
                message = json.loads(data)
            except ValueError:
                continue
            if isinstance(message, dict):
                found.append(message)
        return found

    def crash_records(self) -> list[tuple[Path, dict[str, Any]]]:
        """Records that the launcher left, oldest first; the caller removes each once it is safely spooled."""
        self._crashes.mkdir(parents=True, exist_ok=True)
        read = ((path, read_json(path)) for path in sorted(self._crashes.glob("[!.]*.json")))
        return [(path, record) for path, record in read if isinstance(record, dict)]

    def close(self) -> None:
        self._socket.close()
