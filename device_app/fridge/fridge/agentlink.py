# SPDX-License-Identifier: Apache-2.0
"""Between the app and the device's agent: JSON datagrams out, never waited for; a file about updates in."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


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


@dataclass(frozen=True)
class Offer:
    """What the agent says about an update. `ask`: the owner should be asked. `progress`: percent."""

    state: str = "idle"
    release: str = ""
    version: str = ""
    progress: int = 0
    ask: bool = False
    notes: str = ""


class UpdateOffers:
    """The agent's file about updates, read when it changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._offer = Offer()

    def read(self) -> Offer:
        """The newest offer; an empty one where there is no agent, or what it wrote makes no sense."""
        try:
            status = self._path.stat()
        except OSError:
            self._seen, self._offer = None, Offer()
            return self._offer
        if (status.st_mtime_ns, status.st_ino) != self._seen:
            self._seen = (status.st_mtime_ns, status.st_ino)
            self._offer = self._parsed()
        return self._offer

    def _parsed(self) -> Offer:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            texts = {key: str(found.get(key) or "")[:500] for key in ("state", "release", "version", "notes")}
            return Offer(progress=int(found.get("progress") or 0), ask=found.get("ask") is True, **texts)
        except (OSError, ValueError, TypeError, AttributeError):
            return Offer()
