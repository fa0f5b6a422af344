# SPDX-License-Identifier: Apache-2.0
"""The hub: its parts, loaded from disk and wired to each other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from ..core.timestamps import iso
from .access import Access
from .configurations import Configurations
from .device import Device, DeviceLink
from .events import Events
from .messages import Feedback, Messages
from .methods import Methods
from .registry import Clock, Registry
from .store import Store
from .twins import Twins


class Hub:
    """What the protocol servers share."""

    def __init__(
        self,
        database: Path,
        policy_key: str,
        names: frozenset[str],
        on_failure: Callable[[Exception], None],
        clock: Clock = time.time,
    ) -> None:
        self.clock = clock
        self._on_failure = on_failure
        self.store = Store(database, on_failure)
        self.registry = Registry(self.store, clock)
        self.access = Access(self.registry, policy_key, names, clock)
        self.twins = Twins(self.store, self.registry, clock)
        self.configurations = Configurations(self.store, self.registry, clock)
        self.feedback = Feedback(self.store, clock)
        self.messages = Messages(self.store, self.registry, self.feedback, clock)
        self.events = Events(self.store, clock)
        self.methods = Methods(self.registry)
        self.registry.on_new = self.configurations.reassign
        self.twins.reassign = self.configurations.reassign
        self.twins.reported_matters = self.configurations.reported_matters
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Load everything and begin the background work."""
        for part in (self.registry, self.feedback, self.messages, self.events, self.configurations):
            part.load()
        self.store.start()
        works = (self.configurations.work(), self.messages.work(), self.events.work())
        self._tasks = [asyncio.create_task(work) for work in works]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Stop the background work and leave a clean disk."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        await self.store.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Background work ends only when it is cancelled: anything else is the end of the process."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._on_failure(error)

    def attach(self, device: Device, link: DeviceLink) -> None:
        """A device connected; the connection it had before, if any, is cut."""
        previous, device.link = device.link, link
        device.queue.abandon_all()
        if previous is not None:
            previous.close("the device connected again")
        device.connection_updated = iso(self.clock())
        self.touch(device)
        self.registry.changed()

    def detach(self, device: Device, link: DeviceLink) -> None:
        """A connection ended. A connection that another one took over has nothing to say any more."""
        if device.link is not link:
            return
        device.link = None
        device.queue.abandon_all()
        device.connection_updated = iso(self.clock())
        self.touch(device)
        self.registry.changed()
        sql = "UPDATE devices SET last_activity = ? WHERE device_id = ?"
        self.store.note((sql, (device.last_activity, device.id)))

    def touch(self, device: Device) -> None:
        """The device did something."""
        device.last_activity = iso(self.clock())

    async def save_session(self, device: Device) -> None:
        """Make an MQTT session's subscriptions durable."""
        lines = "\n".join(f"{topic} {qos}" for topic, qos in device.subscriptions.items())
        text = lines if device.session_present else None
        sql = "UPDATE devices SET subscriptions = ? WHERE device_id = ?"
        await self.store.commit((sql, (text, device.id)))
