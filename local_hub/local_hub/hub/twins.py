# SPDX-License-Identifier: Apache-2.0
"""Changes of twins, from services, devices and configurations, and who hears of them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import NamedTuple

from ..core.configuration import require_quoted_match
from ..core.digital_twin import is_model
from ..core.errors import ArgumentInvalid, DeviceNotFound, PreconditionFailed
from ..core.quota import Operation
from ..core.timestamps import iso
from ..core.twin import JsonObject, Twin, difference, without_system_fields
from .device import Device
from .meter import Meter
from .notifications import Notifications
from .registry import Clock, Registry
from .store import Statement, Store

_log = logging.getLogger(__name__)

Notice = tuple[JsonObject, int]
"""A patch of desired properties and the version it leads to."""


class Change(NamedTuple):
    """A device or module whose twin changed, what to tell it, and the twin that it had (None if it is new)."""

    device: Device
    notice: Notice | None
    before: Twin | None


class Twins:
    """Writes twins. `reassign` asks the configurations again about a device and may change its twin once more."""

    def __init__(
        self, store: Store, registry: Registry, notifications: Notifications, meter: Meter, clock: Clock
    ) -> None:
        self._store = store
        self._registry = registry
        self._notifications = notifications
        self._meter = meter
        self._clock = clock
        self.reassign: Callable[[Device], list[Change]] = lambda device: []
        self.reported_matters: Callable[[], bool] = lambda: False

    async def patch(self, key: str, body: JsonObject, if_match: str | None) -> Device:
        """A service merges tags and desired properties of a device or a module."""
        device = self._registry.get(key)
        await self.patch_soon(key, body, if_match)
        return device

    def patch_soon(self, key: str, body: JsonObject, if_match: str | None) -> asyncio.Future[None]:
        """The same; the change is in memory at once, the future is done when it is on disk."""
        device = self._registry.get(key)
        require_quoted_match(if_match, device.twin.etag)
        return self.write(device, *_sections(body, device.twin))

    async def replace(self, key: str, body: JsonObject, if_match: str | None) -> Device:
        """A service replaces tags and desired properties of a device or a module."""
        device = self._registry.get(key)
        require_quoted_match(if_match, device.twin.etag)
        tags, desired = _sections(body, device.twin)
        tags_patch = None if tags is None else difference(device.twin.tags, _without_nulls(tags))
        desired_patch = None if desired is None else difference(device.twin.desired.values, _without_nulls(desired))
        await self.write(device, tags_patch, desired_patch, whole=True)
        return device

    def read(self, device: Device) -> JsonObject:
        """What the device itself sees of its twin.

        Raises:
            ThrottlingException, IotHubQuotaExceeded: too much for a hub of this size.
        """
        self._meter.admit(Operation.TWIN_READ)
        self._meter.require_messages()
        twin = device.twin
        document = {
            "desired": {**twin.desired.values, "$version": twin.desired.version},
            "reported": {**twin.reported.values, "$version": twin.reported.version},
        }
        if self._meter.on:
            self._meter.charge(len(json.dumps(document)))
        return document

    async def report(self, device: Device, patch: JsonObject, base: str | None = None) -> int:
        """The device reports; the answer is the new version, and it comes when the disk has it.

        `base` is the version on which it says that this is based, if it says it.

        Raises:
            DeviceNotFound: it was deleted; its last words must not bring it back.
            PreconditionFailed: it is based on another version.
            ThrottlingException, IotHubQuotaExceeded: too much for a hub of this size.
            ArgumentInvalid: the result breaks a limit.
        """
        if self._registry.find(device.id) is not device:
            raise DeviceNotFound(device.id)
        self._meter.admit(Operation.TWIN_UPDATE)
        self._meter.require_messages()
        patch = without_system_fields(patch)
        before = device.twin
        if base not in (None, str(before.reported.version)):
            raise PreconditionFailed(f"the version is {before.reported.version}, not {base}")
        device.twin = before.with_reported_patch(patch, iso(self._clock()))
        version = device.twin.reported.version
        if self._meter.on:
            self._meter.charge(len(json.dumps(patch)))
        told = self._notifications.twin_changed(device, reported=patch)
        told += self._notifications.digital_twin_changed(device, before)
        others = self.reassign(device) if self.reported_matters() else []
        await self._save(Change(device, None, before), told, others)
        return version

    def told(self, document: JsonObject) -> None:
        """A device was sent a change of its desired properties, which costs a message."""
        if self._meter.on:
            self._meter.charge(len(json.dumps(document)))

    def announce(self, device: Device, model_id: str) -> None:
        """The device says, as it connects, which model it has; one that says nothing keeps the one it had."""
        before = device.twin
        if model_id in ("", before.model_id):
            return
        if not is_model(model_id):
            _log.warning("twins: %s announces %.200r, which is no model", device.id, model_id)
            return
        device.twin = before.with_model(model_id)
        self._save(Change(device, None, before), self._notifications.digital_twin_changed(device, before), [])

    def write(
        self, device: Device, tags: JsonObject | None, desired: JsonObject | None, *, whole: bool = False
    ) -> asyncio.Future[None]:
        """Merge patches; memory has them at once, the future is done when the disk has them.

        `whole` says that a service meant to replace the twin: routes hear of all of it.
        """
        before = device.twin
        device.twin = before.with_service_patch(tags, desired, iso(self._clock()))
        told = self._notifications
        statements = told.twin_replaced(device) if whole else told.twin_changed(device, tags, desired)
        statements += told.digital_twin_changed(device, before)
        notice = None if desired is None else (desired, device.twin.desired.version)
        return self._save(Change(device, notice, before), statements, self.reassign(device))

    def statements(self, changes: list[Change]) -> list[Statement]:
        """What makes changes of desired properties by configurations durable, and tells routes of them."""
        statements = [self._registry.save(change.device) for change in changes]
        for device, notice, before in changes:
            if notice is not None:
                statements += self._notifications.twin_changed(device, desired=notice[0])
            if before is not None:
                statements += self._notifications.digital_twin_changed(device, before)
        return statements

    def _save(self, change: Change, told: list[Statement], others: list[Change]) -> asyncio.Future[None]:
        self._registry.changed()
        # `others` may hold the same device once more: what is saved is its twin as it is now
        saved = self._store.commit(self._registry.save(change.device), *told, *self.statements(others))
        saved.add_done_callback(lambda _: notify([change, *others]))
        return saved


def notify(changes: list[Change]) -> None:
    """Tell connected devices what changed; one that is away reads its twin when it comes back."""
    for device, notice, _ in changes:
        if notice and device.link:
            device.link.desired_changed(*notice)


def _sections(body: JsonObject, twin: Twin) -> tuple[JsonObject | None, JsonObject | None]:
    properties = body.get("properties")
    if properties is not None and not isinstance(properties, dict):
        raise ArgumentInvalid("properties is an object")
    return _section(body, "tags", twin.tags), _section(properties or {}, "desired", twin.desired.values)


def _section(body: JsonObject, name: str, known: JsonObject) -> JsonObject | None:
    """What `body` says of a section that is `known`: nothing, or what to merge; null takes all of it away."""
    if name not in body:
        return None
    value = body[name]
    if value is None:
        return dict.fromkeys(known)
    if not isinstance(value, dict):
        raise ArgumentInvalid(f"{name} is an object")
    return without_system_fields(value)


def _without_nulls(section: JsonObject) -> JsonObject:
    return {
        name: _without_nulls(value) if isinstance(value, dict) else value
        for name, value in section.items()
        if value is not None
    }
