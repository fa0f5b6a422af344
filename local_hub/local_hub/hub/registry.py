# SPDX-License-Identifier: Apache-2.0
"""All devices of the hub: create, change, delete, find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..core.configuration import require_quoted_match
from ..core.errors import ArgumentInvalid, DeviceAlreadyExists, DeviceNotFound, HubError, ThrottlingException
from ..core.identity import Identity, new_identity
from ..core.timestamps import iso
from ..core.twin import JsonObject, Twin
from .device import Device
from .store import Statement, Store

MAX_DEVICES = 1_000_000
MAX_BULK = 100

Clock = Callable[[], float]
_SAVE = (
    "INSERT INTO devices (device_id, identity, twin) VALUES (?, ?, ?) "
    "ON CONFLICT (device_id) DO UPDATE SET identity = excluded.identity, twin = excluded.twin"
)


class Registry:
    """Devices by name. `on_new` is called before a new device is saved, so that configurations reach it at once."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._devices: dict[str, Device] = {}
        self.generation = 0
        self.on_new: Callable[[Device], object] = lambda device: None

    def load(self) -> None:
        """Read what the disk has."""
        sql = "SELECT device_id, identity, twin, subscriptions, last_activity FROM devices"
        for device_id, identity, twin, subscriptions, last_activity in self._store.rows(sql):
            device = Device(Identity.from_record(identity), Twin.from_record(twin))
            if subscriptions is not None:
                pairs = (line.rsplit(" ", 1) for line in subscriptions.splitlines())
                device.subscriptions = {topic: int(qos) for topic, qos in pairs}
                device.session_present = True
            device.last_activity = last_activity or device.last_activity
            self._devices[device_id] = device

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices.values())

    def __len__(self) -> int:
        return len(self._devices)

    def get(self, device_id: str) -> Device:
        """Find a device.

        Raises:
            DeviceNotFound: there is none.
        """
        device = self._devices.get(device_id)
        if device is None:
            raise DeviceNotFound(device_id)
        return device

    def find(self, device_id: str) -> Device | None:
        """Find a device, or None."""
        return self._devices.get(device_id)

    def sorted_ids(self) -> list[str]:
        """Names in the order in which pages are served."""
        return sorted(self._devices)

    def changed(self) -> None:
        """Something that queries see has changed: results computed before are old."""
        self.generation += 1

    def save(self, device: Device) -> Statement:
        """The statement that makes a device's identity and twin durable."""
        return (_SAVE, (device.id, device.identity.to_record(), device.twin.to_record()))

    async def put(self, device_id: str, body: JsonObject, if_match: str | None) -> Device:
        """REST PUT: without If-Match create, with it update."""
        if if_match is None:
            device, statements = self._create(device_id, body)
        else:
            device, statements = self._update(device_id, body, if_match)
        await self._store.commit(*statements)
        return device

    async def delete(self, device_id: str, if_match: str | None) -> None:
        """REST DELETE."""
        await self._store.commit(*self._delete(device_id, if_match))

    async def bulk(self, items: list[JsonObject]) -> list[JsonObject]:
        """Up to 100 changes in one request; every one that can be done is done.

        Returns:
            The errors, as REST's `DeviceRegistryOperationError`.
        """
        if len(items) > MAX_BULK:
            raise ThrottlingException(f"a bulk operation holds {MAX_BULK} devices at most")
        statements: list[Statement] = []
        errors: list[JsonObject] = []
        for item in items:
            try:
                statements += self._bulk_item(item)
            except HubError as error:
                errors.append({"deviceId": item.get("id"), "errorCode": error.code, "errorStatus": str(error)})
        await self._store.commit(*statements)
        return errors

    def statistics(self) -> JsonObject:
        """REST's `RegistryStatistics`."""
        enabled = sum(device.identity.enabled for device in self)
        total = len(self._devices)
        return {"totalDeviceCount": total, "enabledDeviceCount": enabled, "disabledDeviceCount": total - enabled}

    def connected(self) -> int:
        """How many devices have a live connection."""
        return sum(device.link is not None for device in self)

    def _create(self, device_id: str, body: JsonObject) -> tuple[Device, list[Statement]]:
        if device_id in self._devices:
            raise DeviceAlreadyExists(f"device {device_id} is registered already")
        if len(self._devices) >= MAX_DEVICES:
            raise ThrottlingException(f"a hub holds {MAX_DEVICES} devices at most")
        now = iso(self._clock())
        device = Device(new_identity(device_id, body, now))
        device.twin = _first_twin(body, now)
        self._devices[device_id] = device
        self.on_new(device)
        self.changed()
        return device, [self.save(device)]

    def _update(self, device_id: str, body: JsonObject, if_match: str | None) -> tuple[Device, list[Statement]]:
        device = self.get(device_id)
        require_quoted_match(if_match, device.identity.etag)
        device.identity = device.identity.updated(body, iso(self._clock()))
        if device.link and not device.identity.enabled:
            device.link.close("the device was disabled")
        self.changed()
        return device, [self.save(device)]

    def _delete(self, device_id: str, if_match: str | None) -> list[Statement]:
        device = self.get(device_id)
        require_quoted_match(if_match, device.identity.etag)
        del self._devices[device_id]
        if device.link:
            device.link.close("the device was deleted")
        self.changed()
        return [
            ("DELETE FROM devices WHERE device_id = ?", (device_id,)),
            ("DELETE FROM c2d WHERE device_id = ?", (device_id,)),
        ]

    def _bulk_item(self, item: JsonObject) -> list[Statement]:
        device_id, mode = item.get("id"), str(item.get("importMode") or "create").lower()
        if not isinstance(device_id, str):
            raise ArgumentInvalid("each device has an id")
        etag = item.get("eTag")
        match = f'"{etag}"' if mode.endswith("ifmatchetag") and etag else None
        if mode == "create":
            return self._create(device_id, item)[1]
        if mode in ("update", "updateifmatchetag"):
            return self._update(device_id, item, match)[1]
        if mode in ("delete", "deleteifmatchetag"):
            return self._delete(device_id, match)
        raise ArgumentInvalid(f"importMode {mode} is not offered")


def _first_twin(body: JsonObject, now: str) -> Twin:
    tags, properties = body.get("tags"), body.get("properties") or {}
    desired: Any = properties.get("desired") if isinstance(properties, dict) else None
    if not tags and not desired:
        return Twin()
    if not isinstance(tags or {}, dict) or not isinstance(desired or {}, dict):
        raise ArgumentInvalid("tags and properties.desired are objects")
    return Twin().with_service_patch(tags or None, desired or None, now)
