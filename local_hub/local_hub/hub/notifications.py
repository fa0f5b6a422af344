# SPDX-License-Identifier: Apache-2.0
"""Routes from changes of twins, identities and connections to the Event Hubs-compatible endpoint.

Each method gives statements, none when its route is off. Whoever made the change hands them to the store together with
the change itself and in the same turn of the event loop, so that the log never tells of something that did not happen,
and never keeps quiet about something that did.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection

from ..core.digital_twin import changes
from ..core.notification import (
    CONNECTED,
    CONNECTION_STATE,
    DIGITAL_TWIN_CHANGES,
    DISCONNECTED,
    LIFECYCLE,
    REPLACE,
    TWIN_CHANGES,
    UPDATE,
    Notification,
    changed_twin,
    connection_sequence,
    digital_twin_notification,
    notification,
    whole_twin,
)
from ..core.timestamps import iso
from ..core.twin import JsonObject, Twin
from .device import Device
from .events import Events
from .registry import Clock
from .store import Statement


class Notifications:
    """Writes notifications for the routes that are on."""

    def __init__(self, events: Events, routes: Collection[str], hub_name: str, clock: Clock) -> None:
        self._events = events
        self._routes = frozenset(routes)
        self._hub_name = hub_name
        self._clock = clock
        self._count = itertools.count()

    def twin_changed(
        self,
        device: Device,
        tags: JsonObject | None = None,
        desired: JsonObject | None = None,
        reported: JsonObject | None = None,
    ) -> list[Statement]:
        """Parts of a twin were changed."""
        if TWIN_CHANGES not in self._routes:
            return []
        return self._told(TWIN_CHANGES, UPDATE, device, changed_twin(device.twin, tags, desired, reported))

    def twin_replaced(self, device: Device) -> list[Statement]:
        """A service wrote a whole twin."""
        if TWIN_CHANGES not in self._routes:
            return []
        return self._told(TWIN_CHANGES, REPLACE, device, whole_twin(device.identity, device.twin))

    def digital_twin_changed(self, device: Device, before: Twin) -> list[Statement]:
        """A device's twin was changed: what of its digital twin is different now. Modules have no digital twins."""
        if DIGITAL_TWIN_CHANGES not in self._routes or device.identity.module_id is not None:
            return []
        patch = changes(device.id, before, device.twin)
        return [self._entry(device, digital_twin_notification(patch))] if patch else []

    def lifecycle(self, device: Device, operation: str) -> list[Statement]:
        """A device or module was created or deleted."""
        if LIFECYCLE not in self._routes:
            return []
        return self._told(LIFECYCLE, operation, device, whole_twin(device.identity, device.twin))

    def connection(self, device: Device) -> list[Statement]:
        """A device or module connected or disconnected; its link says which."""
        if CONNECTION_STATE not in self._routes:
            return []
        operation = CONNECTED if device.link else DISCONNECTED
        body = connection_sequence(int(self._clock() * 1e7), next(self._count))
        return self._told(CONNECTION_STATE, operation, device, body)

    def _told(self, route: str, operation: str, device: Device, body: JsonObject) -> list[Statement]:
        told = notification(route, operation, device.identity, self._hub_name, iso(self._clock()), body)
        return [self._entry(device, told)]

    def _entry(self, device: Device, told: Notification) -> Statement:
        return self._events.entry(
            device.id, device.identity.generation_id, told.body, told.system, told.properties, told.source
        )
