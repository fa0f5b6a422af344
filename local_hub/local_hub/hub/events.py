# SPDX-License-Identifier: Apache-2.0
"""Device-to-cloud messages and notifications: an append-only log in partitions, as Event Hubs keeps it.

A device's events stay in one partition, in order. An event may be read when it is durable, not before. The offset of
an event is its sequence number as a text.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..core.compact_json import compact
from ..core.errors import ArgumentInvalid, MessageTooLarge
from ..core.partition import partition_of
from ..core.quota import Operation
from .meter import Meter
from .registry import Clock
from .store import Done, Statement, Store

PARTITIONS = 2
TELEMETRY = "Telemetry"
MAX_BODY = 256 * 1024
RETENTION_SECONDS = 7 * 24 * 3600
RETENTION_ROWS = 200_000
# enqueuedtimeutc and numbers without quotes: older clients, and the end-to-end tests of the C SDK (iothubtest.c)
_SELECTOR = re.compile(
    r"amqp\.annotation\.x-opt-(offset|sequence-number|enqueued-time|enqueuedtimeutc)\s*(>=?)\s*(?:'([^']*)'|(\d+))"
)


@dataclass(frozen=True)
class Event:
    """An event as it is read."""

    partition: int
    sequence: int
    enqueued_ms: int
    device_id: str
    system: dict[str, str]
    properties: dict[str, str]
    body: bytes
    generation_id: str
    source: str = TELEMETRY


@dataclass
class _Partition:
    first: int = 0
    next: int = 0
    durable: int = 0
    last_enqueued_ms: int = 0


class Events:
    """The log. `listeners[partition]` are called when events of that partition became readable."""

    def __init__(self, store: Store, meter: Meter, clock: Clock) -> None:
        self._store = store
        self._meter = meter
        self._clock = clock
        self._partitions = [_Partition() for _ in range(PARTITIONS)]
        self.listeners: list[set[Callable[[], None]]] = [set() for _ in range(PARTITIONS)]

    def load(self) -> None:
        """Find where each partition begins and ends."""
        sql = "SELECT partition, MIN(sequence), MAX(sequence), MAX(enqueued_ms) FROM events GROUP BY partition"
        for number, first, last, enqueued_ms in self._store.rows(sql):
            self._partitions[number] = _Partition(first, last + 1, last + 1, enqueued_ms)

    async def append(
        self, device_id: str, generation_id: str, body: bytes, system: dict[str, str], properties: dict[str, str]
    ) -> None:
        """Add an event; returns when the disk has it. Raises what `append_then` raises."""
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done = lambda: None if stored.done() else stored.set_result(None)  # noqa: E731 - whoever waits may be gone
        self.append_then(done, device_id, generation_id, body, system, properties)
        await stored

    def append_then(
        self,
        done: Done,
        device_id: str,
        generation_id: str,
        body: bytes,
        system: dict[str, str],
        properties: dict[str, str],
    ) -> None:
        """Add an event; `done` is called when the disk has it.

        Raises:
            MessageTooLarge: more than 256 KiB.
            ThrottlingException, IotHubQuotaExceeded: too much for a hub of this size.
        """
        if len(body) > MAX_BODY:
            raise MessageTooLarge(f"a device-to-cloud message holds {MAX_BODY} bytes at most")
        self._meter.admit(Operation.D2C)
        self._meter.require_messages()
        if self._meter.on:
            self._meter.charge(len(body) + sum(len(name) + len(value) for name, value in properties.items()))
        number, sequence, statement = self._next(device_id, generation_id, body, system, properties, TELEMETRY)
        self._store.commit_then(functools.partial(self._stored, number, sequence, done), statement)

    def entry(
        self,
        device_id: str,
        generation_id: str,
        body: bytes,
        system: dict[str, str],
        properties: dict[str, str],
        source: str,
    ) -> Statement:
        """Add an event that is part of a change: the caller commits the statement in this turn of the event loop."""
        number, sequence, statement = self._next(device_id, generation_id, body, system, properties, source)
        asyncio.get_running_loop().call_soon(self._await_entry, number, sequence)
        return statement

    def _await_entry(self, number: int, sequence: int) -> None:
        # the store finishes in order: when this is done, so is what was committed in the turn before
        self._store.commit().add_done_callback(lambda _: self._readable(number, sequence))

    def _next(
        self,
        device_id: str,
        generation_id: str,
        body: bytes,
        system: dict[str, str],
        properties: dict[str, str],
        source: str,
    ) -> tuple[int, int, Statement]:
        number = _partition_of(device_id)
        partition = self._partitions[number]
        sequence, partition.next = partition.next, partition.next + 1
        # Never backwards, so that a position in time is a position in the log.
        partition.last_enqueued_ms = max(int(self._clock() * 1000), partition.last_enqueued_ms)
        fields = compact([system, properties, generation_id, source])
        sql = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)"
        return number, sequence, (sql, (number, sequence, partition.last_enqueued_ms, device_id, fields, body))

    def _stored(self, number: int, sequence: int, done: Done) -> None:
        self._readable(number, sequence)
        done()

    def _readable(self, number: int, sequence: int) -> None:
        partition = self._partitions[number]
        partition.durable = max(partition.durable, sequence + 1)
        if self.listeners[number]:
            for listener in list(self.listeners[number]):
                listener()

    def readable(self, partition: int, position: int) -> bool:
        """Whether something can be read from `position` on."""
        return self._partitions[partition].durable > position

    async def read(self, partition: int, position: int, limit: int) -> list[Event]:
        """Up to `limit` events from `position` on, oldest first."""
        sql = (
            "SELECT sequence, enqueued_ms, device_id, properties, body FROM events "
            "WHERE partition = ? AND sequence >= ? ORDER BY sequence LIMIT ?"
        )
        rows = await self._store.read(sql, (partition, position, limit))
        return [_event(partition, *row) for row in rows]

    async def position(self, partition: int, selector: str | None) -> int:
        """The first sequence number that a receiver's filter admits.

        Raises:
            ArgumentInvalid: the filter is none of Event Hubs' forms.
        """
        if selector is None:
            return 0
        match = _SELECTOR.fullmatch(selector.strip())
        if match is None:
            raise ArgumentInvalid(f"the filter {selector!r} is not understood")
        field, comparison = match[1], match[2]
        value = match[4] if match[3] is None else match[3]
        if value == "@latest":
            return self._partitions[partition].durable
        try:
            number = int(value)
            if abs(number) >= 2**63:  # SQLite has no larger ones
                raise ValueError
        except ValueError:
            raise ArgumentInvalid(f"the position {value!r} is not a number") from None
        if field in ("offset", "sequence-number"):
            return max(0, number if comparison == ">=" else number + 1)
        sql = f"SELECT MIN(sequence) FROM events WHERE partition = ? AND enqueued_ms {comparison} ?"  # noqa: S608
        rows = await self._store.read(sql, (partition, number))
        return self._partitions[partition].durable if rows[0][0] is None else int(rows[0][0])

    def properties(self, partition: int) -> dict[str, Any]:
        """What Event Hubs' management tells of a partition."""
        state = self._partitions[partition]
        return {
            "begin_sequence_number": state.first,
            "last_enqueued_sequence_number": state.durable - 1,
            "last_enqueued_offset": str(state.durable - 1),
            "last_enqueued_time_utc": state.last_enqueued_ms,
            "is_partition_empty": state.durable == state.first,
        }

    async def work(self) -> None:
        """Forget what is older than the retention, once a minute, for ever. The newest event always stays."""
        while True:
            await asyncio.sleep(60)
            for number, partition in enumerate(self._partitions):
                await self._prune(number, partition)

    async def _prune(self, number: int, partition: _Partition) -> None:
        oldest_ms = int((self._clock() - RETENTION_SECONDS) * 1000)
        by_count = partition.durable - RETENTION_ROWS // PARTITIONS
        sql = "DELETE FROM events WHERE partition = ? AND sequence < ? AND (enqueued_ms < ? OR sequence < ?)"
        await self._store.commit((sql, (number, partition.durable - 1, oldest_ms, by_count)))
        rows = await self._store.read("SELECT MIN(sequence) FROM events WHERE partition = ?", (number,))
        if rows[0][0] is not None:
            partition.first = int(rows[0][0])


@functools.lru_cache(8192)
def _partition_of(device_id: str) -> int:
    # the events of a module lie with those of its device
    return partition_of(device_id.partition("/")[0], PARTITIONS)


def _event(partition: int, sequence: int, enqueued_ms: int, device_id: str, fields: str, body: bytes) -> Event:
    system, properties, *rest = json.loads(fields)
    return Event(partition, sequence, enqueued_ms, device_id, system, properties, body, *rest)
