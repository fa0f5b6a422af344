# SPDX-License-Identifier: Apache-2.0
"""Links on which the hub sends by itself: events of a partition, and feedback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from typing import Protocol

from ..core.errors import HubError
from ..hub.hub import Hub
from .client import Wire
from .connection import Link
from .nodes import EventSource, event_message, feedback_message, file_notification_message

_log = logging.getLogger(__name__)

_BATCH = 100
_ENOUGH = 512 * 1024
EPOCH = "com.microsoft:epoch"


class Receiver(Protocol):
    """One such link."""

    def pump(self) -> None:
        """Send what can be sent."""

    def settled(self, tag: int, accepted: bool) -> None:
        """The client dealt with a message."""

    def close(self) -> None:
        """The link is gone."""


class EventReceiver:
    """Reads one partition from a position on, as long as the client gives credit."""

    def __init__(self, hub: Hub, link: Link, wire: Wire, source: EventSource) -> None:
        self._hub = hub
        self._link = link
        self._wire = wire
        self.source = source
        epoch = link.properties.get(EPOCH)
        self.epoch = epoch if isinstance(epoch, int) else None
        self._position: int | None = None
        self._at_once = 4
        self._task: asyncio.Task[None] | None = None
        hub.events.listeners[source.partition].add(self.pump)

    def pump(self) -> None:
        """Receiver."""
        if self._task is None and self._ready():
            self._task = asyncio.get_running_loop().create_task(self._run())
        elif self._task is None:
            self._link.finish_drain()

    def settled(self, tag: int, accepted: bool) -> None:
        """Receiver. Events are settled when they are sent: the position is the client's business."""

    def close(self) -> None:
        """Receiver."""
        self._hub.events.listeners[self.source.partition].discard(self.pump)

    def steal(self) -> None:
        """Another receiver with a higher epoch takes the partition."""
        self.close()
        self._link.detach("amqp:link:stolen", "a receiver with a higher epoch was created")
        self._wire.flush()

    def _ready(self) -> bool:
        if self._link.credit <= 0:
            return False
        return self._position is None or self._hub.events.readable(self.source.partition, self._position)

    async def _run(self) -> None:
        try:
            while self._ready():
                await self._step()
                await self._wire.drained()
            self._link.finish_drain()
            self._wire.flush()
        except HubError as error:
            _log.info("amqp: detached a reader of events: %s", error)
            self.close()
            self._link.detach(error.condition, str(error))
            self._wire.flush()
        finally:
            self._task = None

    async def _step(self) -> None:
        events, partition = self._hub.events, self.source.partition
        if self._position is None:
            self._position = await events.position(partition, self._link.selector)
            return
        batch = await events.read(partition, self._position, min(self._link.credit, self._at_once))
        # large events come a few at a time: a client that does not read must not cost much
        size = sum(len(event.body) for event in batch)
        self._at_once = min(2 * self._at_once, _BATCH) if size < _ENOUGH else max(self._at_once // 2, 1)
        for event in batch:
            if self._link.credit <= 0:
                break
            self._link.send(event_message(event))
            self._position = event.sequence + 1
        self._wire.flush()


class FeedbackReceiver:
    """Hands out batches of feedback; a batch is forgotten when the client accepts it."""

    def __init__(self, hub: Hub, link: Link, wire: Wire) -> None:
        self._hub = hub
        self._feedback = hub.feedback
        self._link = link
        self._wire = wire
        self._tokens: dict[int, str] = {}
        self._completing: set[asyncio.Task[None]] = set()
        self._feedback.listeners.add(self.pump)

    def pump(self) -> None:
        """Receiver."""
        while self._link.credit > 0 and (batch := self._feedback.take()) is not None:
            token, records = batch
            message = feedback_message(json.dumps(records), token, self._hub.name, self._hub.clock())
            self._tokens[self._link.send(message)] = token
        self._link.finish_drain()
        self._wire.flush()

    def settled(self, tag: int, accepted: bool) -> None:
        """Receiver."""
        token = self._tokens.pop(tag, None)
        if token is None:
            return
        if accepted:
            task = asyncio.get_running_loop().create_task(self._complete(token))
            self._completing.add(task)
            task.add_done_callback(self._completing.discard)
        else:
            self._guarded(lambda: self._feedback.abandon(token))

    def close(self) -> None:
        """Receiver."""
        self._feedback.listeners.discard(self.pump)
        for token in self._tokens.values():
            self._guarded(lambda token=token: self._feedback.abandon(token))  # type: ignore[misc]
        self._tokens.clear()

    async def _complete(self, token: str) -> None:
        try:
            await self._feedback.complete(token)
        except HubError:
            return  # the lock ran out and the batch went to somebody else

    @staticmethod
    def _guarded(act: Callable[[], None]) -> None:
        try:
            act()
        except HubError:
            return  # as above


class FileNotificationReceiver:
    """Tells of uploaded files, one by one; a notice is forgotten when the client accepts it."""

    def __init__(self, hub: Hub, link: Link, wire: Wire) -> None:
        self._notices = hub.notices
        self._link = link
        self._wire = wire
        self._tokens: dict[int, str] = {}
        self._completing: set[asyncio.Task[None]] = set()
        self._notices.listeners.add(self.pump)

    def pump(self) -> None:
        """Receiver."""
        while self._link.credit > 0 and (taken := self._notices.take()) is not None:
            token, notice = taken
            self._tokens[self._link.send(file_notification_message(json.dumps(notice), token))] = token
        self._link.finish_drain()
        self._wire.flush()

    def settled(self, tag: int, accepted: bool) -> None:
        """Receiver."""
        token = self._tokens.pop(tag, None)
        if token is not None:
            task = asyncio.get_running_loop().create_task(self._settle(token, accepted))
            self._completing.add(task)
            task.add_done_callback(self._completing.discard)

    def close(self) -> None:
        """Receiver."""
        self._notices.listeners.discard(self.pump)
        for token in self._tokens.values():
            with contextlib.suppress(HubError):  # the lock ran out
                self._notices.abandon(token)
        self._tokens.clear()

    async def _settle(self, token: str, accepted: bool) -> None:
        with contextlib.suppress(HubError):  # the lock ran out and the notice went to somebody else
            if accepted:
                await self._notices.complete(token)
            else:
                self._notices.abandon(token)


class Ownership:
    """Which receivers read which partition for which consumer group, and who is stronger.

    https://learn.microsoft.com/azure/event-hubs/event-hubs-event-processor-host#epoch
    """

    def __init__(self) -> None:
        self._receivers: dict[EventSource, set[EventReceiver]] = {}

    def admit(self, newcomer: EventReceiver) -> bool:
        """Whether a new receiver may read; those that it displaces are cut."""
        others = self._receivers.setdefault(newcomer.source, set())
        strongest = max((other.epoch for other in others if other.epoch is not None), default=None)
        if strongest is not None and (newcomer.epoch is None or newcomer.epoch < strongest):
            return False
        if newcomer.epoch is not None:
            for other in list(others):
                others.discard(other)
                other.steal()
        others.add(newcomer)
        return True

    def release(self, receiver: EventReceiver) -> None:
        """A receiver is gone."""
        others = self._receivers.get(receiver.source, set())
        others.discard(receiver)
        if not others:
            self._receivers.pop(receiver.source, None)
