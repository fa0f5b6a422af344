# SPDX-License-Identifier: Apache-2.0
"""Changes of twins, from services, devices and configurations, and who hears of them."""

from __future__ import annotations

from collections.abc import Callable

from ..core.configuration import require_quoted_match
from ..core.errors import ArgumentInvalid
from ..core.timestamps import iso
from ..core.twin import JsonObject, difference, without_system_fields
from .device import Device
from .registry import Clock, Registry
from .store import Store

Notice = tuple[JsonObject, int]
"""A patch of desired properties and the version it leads to."""


class Twins:
    """Writes twins. `reassign` asks the configurations again about a device and may change its twin once more."""

    def __init__(self, store: Store, registry: Registry, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self.reassign: Callable[[Device], Notice | None] = lambda device: None
        self.reported_matters: Callable[[], bool] = lambda: False

    async def patch(self, device_id: str, body: JsonObject, if_match: str | None) -> Device:
        """A service merges tags and desired properties."""
        device = self._registry.get(device_id)
        require_quoted_match(if_match, device.twin.etag)
        tags, desired = _sections(body)
        return await self._write(device, tags, desired)

    async def replace(self, device_id: str, body: JsonObject, if_match: str | None) -> Device:
        """A service replaces tags and desired properties."""
        device = self._registry.get(device_id)
        require_quoted_match(if_match, device.twin.etag)
        tags, desired = _sections(body)
        tags_patch = None if tags is None else difference(device.twin.tags, _without_nulls(tags))
        desired_patch = None if desired is None else difference(device.twin.desired.values, _without_nulls(desired))
        return await self._write(device, tags_patch, desired_patch)

    async def report(self, device: Device, patch: JsonObject) -> int:
        """The device reports; the answer is the new version, and it comes when the disk has it."""
        device.twin = device.twin.with_reported_patch(without_system_fields(patch), iso(self._clock()))
        version = device.twin.reported.version
        notice = self.reassign(device) if self.reported_matters() else None
        self._registry.changed()
        await self._store.commit(self._registry.save(device))
        notify(device, [notice])
        return version

    async def _write(self, device: Device, tags: JsonObject | None, desired: JsonObject | None) -> Device:
        device.twin = device.twin.with_service_patch(tags, desired, iso(self._clock()))
        first = None if desired is None else (desired, device.twin.desired.version)
        second = self.reassign(device)
        self._registry.changed()
        await self._store.commit(self._registry.save(device))
        notify(device, [first, second])
        return device


def notify(device: Device, notices: list[Notice | None]) -> None:
    """Tell a connected device what changed; one that is away reads its twin when it comes back."""
    for notice in notices:
        if notice and device.link:
            device.link.desired_changed(*notice)


def _sections(body: JsonObject) -> tuple[JsonObject | None, JsonObject | None]:
    properties = body.get("properties")
    if properties is not None and not isinstance(properties, dict):
        raise ArgumentInvalid("properties is an object")
    return _section(body, "tags"), _section(properties or {}, "desired")


def _section(body: JsonObject, name: str) -> JsonObject | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ArgumentInvalid(f"{name} is an object")
    return without_system_fields(value)


def _without_nulls(section: JsonObject) -> JsonObject:
    return {
        name: _without_nulls(value) if isinstance(value, dict) else value
        for name, value in section.items()
        if value is not None
    }
