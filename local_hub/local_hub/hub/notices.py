# SPDX-License-Identifier: Apache-2.0
"""Something that services are told once, kept on disk until one of them has taken it.

The life of a notice is that of feedback (messages.py), one by one instead of in batches.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from ..core.errors import LockLost
from ..core.twin import JsonObject
from .registry import Clock
from .store import Store

MAX_NOTICES = 100_000
_LOCK_SECONDS = 60.0


@dataclass
class _Lock:
    sequence: int
    notice: JsonObject
    until: float


class Notices:
    """Notices that wait, oldest first."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting: dict[int, JsonObject] = {}
        self._locks: dict[str, _Lock] = {}
        self._next = 1
        self.listeners: set[Callable[[], None]] = set()

    def load(self) -> None:
        """Read what the disk has."""
        for sequence, notice in self._store.rows("SELECT sequence, notice FROM notices ORDER BY sequence"):
            self._waiting[sequence] = json.loads(notice)
            self._next = sequence + 1

    async def publish(self, notice: JsonObject) -> None:
        """Keep a notice; when too many wait, nobody listens and it is dropped."""
        if len(self._waiting) >= MAX_NOTICES:
            return
        sequence, self._next = self._next, self._next + 1
        await self._store.commit(
            ("INSERT INTO notices (sequence, notice) VALUES (?, ?)", (sequence, json.dumps(notice)))
        )
        self._waiting[sequence] = notice
        self._announce()

    def take(self) -> tuple[str, JsonObject] | None:
        """Lock the oldest for a minute. None when nothing waits."""
        self._release_late_locks()
        if not self._waiting:
            return None
        sequence = next(iter(self._waiting))
        notice, token = self._waiting.pop(sequence), secrets.token_hex(16)
        self._locks[token] = _Lock(sequence, notice, self._clock() + _LOCK_SECONDS)
        return token, notice

    async def complete(self, token: str) -> None:
        """A service has it: forget it."""
        lock = self._take_lock(token)
        await self._store.commit(("DELETE FROM notices WHERE sequence = ?", (lock.sequence,)))

    def abandon(self, token: str) -> None:
        """A service does not want it now: give it to the next one who asks."""
        self._give_back(self._take_lock(token))

    def _take_lock(self, token: str) -> _Lock:
        self._release_late_locks()
        lock = self._locks.pop(token, None)
        if lock is None:
            raise LockLost("the notice is not locked by this token")
        return lock

    def _release_late_locks(self) -> None:
        now = self._clock()
        for token in [token for token, lock in self._locks.items() if lock.until <= now]:
            self._give_back(self._locks.pop(token))

    def _give_back(self, lock: _Lock) -> None:
        self._waiting = dict(sorted({**self._waiting, lock.sequence: lock.notice}.items()))
        self._announce()

    def _announce(self) -> None:
        for listener in list(self.listeners):
            listener()
