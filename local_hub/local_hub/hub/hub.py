# SPDX-License-Identifier: Apache-2.0
"""The hub: its parts, loaded from disk and wired to each other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from ..core.policy import OWNER
from ..core.query import JOBS
from ..core.quota import Plan
from ..core.timestamps import iso
from .access import Access
from .configurations import Configurations
from .device import Device, DeviceLink
from .digital_twins import DigitalTwins
from .events import Events
from .files import Files
from .jobs import Jobs
from .messages import Feedback, Messages
from .meter import Meter
from .methods import Methods
from .notices import Notices
from .notifications import Notifications
from .provisioning import Provisioning
from .queries import twin_collections
from .registry import Clock, Registry
from .store import Store
from .transfers import Transfers
from .twins import Twins


class Hub:
    """What the protocol servers share."""

    def __init__(
        self,
        database: Path,
        policy_keys: Mapping[str, str],
        names: frozenset[str],
        on_failure: Callable[[Exception], None],
        clock: Clock = time.time,
        authorities: Callable[[], Sequence[bytes]] = lambda: (),
        routes: Collection[str] = (),
        name: str = "local-hub",
        limits: Plan | None = None,
        hostname: str = "localhost",
    ) -> None:
        self.clock = clock
        self.name = name
        self._on_failure = on_failure
        self.store = Store(database, on_failure)
        self.meter = Meter(self.store, limits, clock)
        self.registry = Registry(self.store, clock)
        self.access = Access(self.registry, policy_keys, names, clock, authorities)
        self.events = Events(self.store, self.meter, clock)
        self.notifications = Notifications(self.events, routes, name, clock)
        self.twins = Twins(self.store, self.registry, self.notifications, self.meter, clock)
        self.configurations = Configurations(self.store, self.registry, self.twins, clock)
        self.feedback = Feedback(self.store, clock)
        self.messages = Messages(self.store, self.registry, self.feedback, self.meter, clock)
        self.notices = Notices(self.store, clock)
        self.files = Files(database.parent / "blobs", policy_keys[OWNER].encode(), self.notices, clock)
        self.provisioning = Provisioning(self.store, self.registry, hostname, clock)
        self.methods = Methods(self.registry)
        self.digital_twins = DigitalTwins(self.registry, self.twins, self.methods)
        self.jobs = Jobs(self.store, self.registry, self.twins, self.methods, self.meter, clock)
        self.transfers = Transfers(self.store, self.registry, self.configurations, clock)
        self.collections = {**twin_collections(self.registry), JOBS: self.jobs.collection()}
        if limits is not None:
            self.registry.max_devices = limits.devices
            self.configurations.most = limits.configurations
        self.registry.on_new = self.configurations.met
        self.registry.lifecycle = self.notifications.lifecycle
        self.registry.patch_twin = self.twins.patch_soon
        self.twins.reassign = self.configurations.reassign
        self.twins.reported_matters = self.configurations.reported_matters
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Load everything and begin the background work."""
        queues = (self.feedback, self.notices, self.messages, self.events)
        plans = (self.configurations, self.jobs, self.transfers)
        for part in (self.meter, self.registry, self.provisioning, *queues, *plans):
            part.load()
        self.store.start()
        parts = (self.configurations, self.messages, self.events, self.jobs, self.files)
        works = [part.work() for part in parts]
        self._tasks = [asyncio.create_task(work) for work in works]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Stop the background work and leave a clean disk."""
        await self.transfers.close()
        self.meter.save()
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
        told = self.notifications.connection(device)
        if told:
            self.store.note(*told)

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
        self.store.note((sql, (device.last_activity, device.id)), *self.notifications.connection(device))

    def touch(self, device: Device) -> None:
        """The device did something."""
        device.active_at = self.clock()

    async def save_session(self, device: Device) -> None:
        """Make an MQTT session's subscriptions durable."""
        lines = "\n".join(f"{topic} {qos}" for topic, qos in device.subscriptions.items())
        text = lines if device.session_present else None
        sql = "UPDATE devices SET subscriptions = ? WHERE device_id = ?"
        await self.store.commit((sql, (text, device.id)))
