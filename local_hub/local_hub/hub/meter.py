# SPDX-License-Identifier: Apache-2.0
"""Limits at work: each part of the hub asks here before it does something that a hub of this size does so often only.

Without a SKU nothing is limited. The day's count is written once a second at most: a hub that is killed forgets a
second of it, not the day.
"""

from __future__ import annotations

import asyncio

from ..core.quota import Operation, Plan, Quota
from .registry import Clock
from .store import Store

_SAVE_EVERY = 1.0
_SAVE = "INSERT OR REPLACE INTO counters (name, value) VALUES (?, ?), (?, ?)"
_DAY, _USED = "quota.day", "quota.used"


class Meter:
    """The limits of this hub, or none."""

    def __init__(self, store: Store, limits: Plan | None, clock: Clock) -> None:
        self._store = store
        self._quota = None if limits is None else Quota(limits)
        self._clock = clock
        self._saved_at = 0.0

    @property
    def on(self) -> bool:
        """Whether anything is limited."""
        return self._quota is not None

    @property
    def running_jobs(self) -> int | None:
        """How many jobs may run at once."""
        return None if self._quota is None else self._quota.plan.running_jobs

    def load(self) -> None:
        """Read what was used of the day."""
        known = dict(self._store.rows("SELECT name, value FROM counters WHERE name IN (?, ?)", (_DAY, _USED)))
        if self._quota is not None and known:
            self._quota.restore(known[_DAY], known[_USED])

    def admit(self, operation: Operation, amount: float = 1.0) -> None:
        """Let an operation through.

        Raises:
            ThrottlingException: not now.
        """
        if self._quota is not None:
            self._quota.admit(operation, self._clock(), amount)

    async def turn(self, operation: Operation) -> None:
        """Wait until it is an operation's turn."""
        if self._quota is not None:
            await asyncio.sleep(self._quota.reserve(operation, self._clock()))

    def require_messages(self) -> None:
        """Refuse what costs messages when there are none left.

        Raises:
            IotHubQuotaExceeded: until tomorrow.
        """
        if self._quota is not None:
            self._quota.require_messages(self._clock())

    def charge(self, size: int) -> None:
        """Count a message of `size` bytes."""
        if self._quota is None:
            return
        now = self._clock()
        self._quota.charge(now, size)
        if not 0 <= now - self._saved_at < _SAVE_EVERY:
            self._saved_at = now
            self.save()

    def save(self) -> None:
        """Write the day's count."""
        if self._quota is not None:
            self._store.note((_SAVE, (_DAY, self._quota.day, _USED, self._quota.used)))
