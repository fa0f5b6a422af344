# SPDX-License-Identifier: Apache-2.0
"""Cloud-to-device messages: queued on disk, delivered at least once, their fate fed back."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from ..core.c2d_queue import Lock, Message, Outcome
from ..core.compact_json import compact
from ..core.errors import LockLost
from ..core.quota import Operation
from ..core.timestamps import iso
from ..core.twin import JsonObject
from .device import Device
from .meter import Meter
from .registry import Clock, Registry
from .store import Statement, Store

FEEDBACK_BATCH = 64
_FEEDBACK_LOCK = 60.0
_MAX_FEEDBACK = 100_000
_DESCRIPTIONS = {
    "Success": "Success",
    "Expired": "Message expired",
    "DeliveryCountExceeded": "Delivery count exceeded",
    "Purged": "Message was purged",
    "Rejected": "Message was rejected",
}


@dataclass
class _FeedbackLock:
    records: dict[int, JsonObject]
    until: float


class Feedback:
    """Records of how messages ended, until a service has taken them."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting: dict[int, JsonObject] = {}
        self._locks: dict[str, _FeedbackLock] = {}
        self._next = 1
        self._durable = 0
        self.listeners: set[Callable[[], None]] = set()

    def load(self) -> None:
        """Read what the disk has."""
        for sequence, record in self._store.rows("SELECT sequence, record FROM feedback ORDER BY sequence"):
            self._waiting[sequence] = json.loads(record)
            self._next = sequence + 1
            self._durable = sequence

    def add(self, device: Device, outcome: Outcome) -> list[Statement]:
        """Note an outcome if its sender asked for it; the statements go with the change of the queue."""
        if not outcome.wants_feedback or len(self._waiting) >= _MAX_FEEDBACK:
            return []
        record = {
            "originalMessageId": outcome.message.message_id,
            "description": _DESCRIPTIONS[outcome.status],
            "statusCode": outcome.status,
            "deviceGenerationId": device.identity.generation_id,
            "deviceId": device.id,
            "enqueuedTimeUtc": iso(self._clock()),
        }
        sequence, self._next = self._next, self._next + 1
        self._waiting[sequence] = record
        asyncio.get_running_loop().call_soon(self._await_record, sequence)
        return [("INSERT INTO feedback (sequence, record) VALUES (?, ?)", (sequence, json.dumps(record)))]

    def _await_record(self, sequence: int) -> None:
        # the store finishes in order: when this is done, so is what was committed in the turn before
        self._store.commit().add_done_callback(lambda _: self._written(sequence))

    def _written(self, sequence: int) -> None:
        self._durable = max(self._durable, sequence)
        self.announce()

    def announce(self) -> None:
        """Tell receivers that records wait (call when they are durable)."""
        for listener in list(self.listeners):
            listener()

    def take(self) -> tuple[str, list[JsonObject]] | None:
        """Lock a batch for a minute. None when nothing waits.

        What is not on disk waits too: a service must not hear of a success that a crash takes back.
        """
        self._release_late_locks()
        batch = {key: self._waiting[key] for key in islice(self._waiting, FEEDBACK_BATCH) if key <= self._durable}
        if not batch:
            return None
        for sequence in batch:
            del self._waiting[sequence]
        token = secrets.token_hex(16)
        self._locks[token] = _FeedbackLock(batch, self._clock() + _FEEDBACK_LOCK)
        return token, list(batch.values())

    async def complete(self, token: str) -> None:
        """The service has the batch: forget it."""
        lock = self._take_lock(token)
        await self._store.commit(*(("DELETE FROM feedback WHERE sequence = ?", (key,)) for key in lock.records))

    def abandon(self, token: str) -> None:
        """The service does not want it now: give it to the next one who asks."""
        self._give_back(self._take_lock(token))

    def _take_lock(self, token: str) -> _FeedbackLock:
        self._release_late_locks()
        lock = self._locks.pop(token, None)
        if lock is None:
            raise LockLost("the feedback is not locked by this token")
        return lock

    def _release_late_locks(self) -> None:
        now = self._clock()
        for token in [token for token, lock in self._locks.items() if lock.until <= now]:
            self._give_back(self._locks.pop(token))

    def _give_back(self, lock: _FeedbackLock) -> None:
        self._waiting = dict(sorted({**self._waiting, **lock.records}.items()))
        self.announce()


class Messages:
    """Queues of all devices."""

    def __init__(self, store: Store, registry: Registry, feedback: Feedback, meter: Meter, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._feedback = feedback
        self._meter = meter
        self._clock = clock
        self._next = 1
        self._waiting: set[str] = set()

    def load(self) -> None:
        """Read what the disk has; what was on the wire waits again."""
        sql = "SELECT sequence, device_id, message, body, deliveries FROM c2d ORDER BY sequence"
        for sequence, device_id, message, body, deliveries in self._store.rows(sql):
            self._next = sequence + 1
            device = self._registry.find(device_id)
            if device is not None:
                fields = json.loads(message)
                device.queue.put(Message(**fields, sequence=sequence, body=body, deliveries=deliveries))
                self._waiting.add(device_id)

    async def send(self, device_id: str, message: Message) -> None:
        """Queue a message; returns when the disk has it.

        Raises:
            DeviceNotFound, QueueFull, MessageTooLarge: it is not queued.
            ThrottlingException, IotHubQuotaExceeded: too much for a hub of this size.
        """
        device = self._registry.get(device_id)
        self._meter.admit(Operation.C2D)
        self._meter.require_messages()
        ended = self._expire(device)
        message = replace(message, sequence=self._next)
        device.queue.put(message)
        self._meter.charge(len(message.body))
        self._next += 1
        self._waiting.add(device_id)
        fields = {
            name: value
            for name, value in vars(message).items()
            if name not in ("sequence", "body", "deliveries", "lock") and value is not None
        }
        insert = "INSERT INTO c2d (sequence, device_id, message, body) VALUES (?, ?, ?, ?)"
        await self._store.commit(*ended, (insert, (message.sequence, device_id, compact(fields), message.body)))
        if device.link:
            device.link.messages_waiting()

    def deliver(self, device: Device, lock_seconds: float | None = None) -> Message | None:
        """The next message for a connected device, or for one that asks over HTTPS and gets it with a lock."""
        statements = self._expire(device)
        lock = None if lock_seconds is None else Lock(secrets.token_hex(16), self._clock() + lock_seconds)
        message = device.queue.deliver(self._clock(), lock)
        if message:
            sql = "UPDATE c2d SET deliveries = ? WHERE sequence = ?"
            statements.append((sql, (message.deliveries, message.sequence)))
        if statements:
            self._store.note(*statements)
        return message

    def complete(self, device: Device, sequence: int) -> Coroutine[Any, Any, None]:
        """The device acknowledged a message: it is off the queue at once, and durably so when the coroutine ends."""
        return self._conclude(device, device.queue.complete(sequence))

    def reject(self, device: Device, sequence: int) -> Coroutine[Any, Any, None]:
        """The device does not want a message; as `complete`."""
        return self._conclude(device, device.queue.reject(sequence))

    def abandon(self, device: Device, sequence: int) -> None:
        """The device cannot take a message now: it is delivered again."""
        device.queue.abandon(sequence)
        if device.link:
            device.link.messages_waiting()

    async def settle(self, device: Device, token: str, verdict: str) -> None:
        """Over HTTPS: "complete", "reject" or "abandon" the message with this lock.

        Raises:
            LockLost: there is none, or it ran out.
        """
        sequence = device.queue.locked(token, self._clock())
        if sequence is None:
            raise LockLost("the message is not locked by this token")
        if verdict == "abandon":
            self.abandon(device, sequence)
        elif verdict == "reject":
            await self.reject(device, sequence)
        else:
            await self.complete(device, sequence)

    async def purge(self, device_id: str) -> int:
        """REST DELETE /devices/{id}/commands."""
        device = self._registry.get(device_id)
        ended = device.queue.purge()
        await self._store.commit(*self._ended(device, ended))
        self._feedback.announce()
        return len(ended)

    async def work(self) -> None:
        """Let messages expire, once a second, for ever."""
        while True:
            await asyncio.sleep(1)
            statements = []
            for device_id in list(self._waiting):
                device = self._registry.find(device_id)
                if device is None or not len(device.queue):
                    self._waiting.discard(device_id)
                else:
                    statements += self._expire(device)
            if statements:
                await self._store.commit(*statements)
                self._feedback.announce()

    async def _conclude(self, device: Device, outcome: Outcome | None) -> None:
        if outcome is not None:
            await self._store.commit(*self._ended(device, [outcome]))
            self._feedback.announce()

    def _expire(self, device: Device) -> list[Statement]:
        return self._ended(device, device.queue.expire(self._clock()))

    def _ended(self, device: Device, outcomes: list[Outcome]) -> list[Statement]:
        statements: list[Statement] = []
        for outcome in outcomes:
            statements.append(("DELETE FROM c2d WHERE sequence = ?", (outcome.message.sequence,)))
            statements += self._feedback.add(device, outcome)
        return statements
