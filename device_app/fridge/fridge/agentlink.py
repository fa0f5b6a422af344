# SPDX-License-Identifier: Apache-2.0
"""What the app tells the device's agent: JSON datagrams, never waited for, dropped when nobody listens."""

from __future__ import annotations

import json
import socket
from contextlib import suppress


class AgentLink:
    """The sending end. Without a path it says nothing."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def tell(self, kind: str, **fields: object) -> None:
        if self._path:
            with suppress(OSError):
                self._socket.sendto(json.dumps({"type": kind, **fields}).encode(), self._path)
