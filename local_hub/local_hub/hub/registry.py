# SPDX-License-Identifier: Apache-2.0
"""All devices and modules of the hub: create, change, delete, find.

Modules have twins and keys of their own, live and die with their device, and are found by `deviceId/moduleId`.
https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-identity-registry
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..core.configuration import require_quoted_match
from ..core.errors import (
    ArgumentInvalid,
    DeviceAlreadyExists,
    DeviceDefinedMultipleTimes,
    DeviceNotFound,
    HubError,
    ModuleAlreadyExists,
    ModuleNotFound,
    TooManyDevices,
    TooManyModulesOnDevice,
)
from ..core.identity import Identity, edge_device_of, imported, module_key, new_identity, new_module_identity
from ..core.notification import CREATED, DELETED
from ..core.timestamps import iso, parse_iso
from ..core.twin import JsonObject, Twin, without_system_fields
from .device import Device
from .store import Statement, Store

MAX_DEVICES = 1_000_000
MAX_BULK = 100
MAX_MODULES = 20
EDGE_MODULES = ("$edgeAgent", "$edgeHub")
"""Every IoT Edge device has these from the beginning; they do not count as modules of its own."""

_BULK_MODES = {
    "create": "create",
    "update": "update",
    "updateifmatchetag": "update",
    "delete": "delete",
    "deleteifmatchetag": "delete",
    "updatetwin": "updatetwin",
    "updatetwinifmatchetag": "updatetwin",
}

Clock = Callable[[], float]
_SAVE = (
    "INSERT INTO devices (device_id, identity, twin) VALUES (?, ?, ?) "
    "ON CONFLICT (device_id) DO UPDATE SET identity = excluded.identity, twin = excluded.twin"
)


class Registry:
    """Devices and modules by name. Iteration, `len` and `sorted_ids` are of devices only.

    `on_new` is called before a new or changed identity is saved, so that configurations reach it at once. `lifecycle`
    gives the statements that tell routes of a new or deleted one. `patch_twin` queues a change of a twin for the disk,
    ahead of what is committed later.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._devices: dict[str, Device] = {}
        self._modules: dict[str, Device] = {}
        self._scopes: dict[str, Device] = {}
        self.generation = 0
        self.max_devices = MAX_DEVICES
        self.on_new: Callable[[Device], object] = lambda device: None
        self.lifecycle: Callable[[Device, str], list[Statement]] = lambda device, operation: []
        self.patch_twin: Callable[[str, JsonObject, str | None], object] = lambda key, body, if_match: None

    def load(self) -> None:
        """Read what the disk has."""
        sql = "SELECT device_id, identity, twin, subscriptions, last_activity FROM devices"
        for device_id, identity, twin, subscriptions, last_activity in self._store.rows(sql):
            device = Device(Identity.from_record(identity), Twin.from_record(twin))
            if subscriptions is not None:
                pairs = (line.rsplit(" ", 1) for line in subscriptions.splitlines())
                device.subscriptions = {topic: int(qos) for topic, qos in pairs}
                device.session_present = True
            device.active_at = parse_iso(last_activity) if last_activity else None
            (self._devices if device.identity.module_id is None else self._modules)[device_id] = device
            self._keep_scope(device)
        for key, module in list(self._modules.items()):
            parent = self._devices.get(module.identity.device_id)
            if parent is None:
                del self._modules[key]  # nothing writes one without its device, but a start must not depend on that
            else:
                parent.modules[module.identity.module_id or ""] = module

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices.values())

    def __len__(self) -> int:
        return len(self._devices)

    def get(self, key: str) -> Device:
        """Find a device, or a module by `deviceId/moduleId`.

        Raises:
            DeviceNotFound: there is no such device.
            ModuleNotFound: the device has no such module.
        """
        found = self.find(key)
        if found is not None:
            return found
        device_id, _, module_id = key.partition("/")
        if device_id in self._devices:
            raise ModuleNotFound(device_id, module_id)
        raise DeviceNotFound(device_id)

    def find(self, key: str) -> Device | None:
        """Find a device, or a module by `deviceId/moduleId`, or None."""
        return self._devices.get(key) or self._modules.get(key)

    def modules(self) -> list[Device]:
        """All modules of all devices."""
        return list(self._modules.values())

    def sorted_module_keys(self) -> list[str]:
        """Names of modules in the order in which pages are served."""
        return sorted(self._modules)

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

    async def put_module(self, device_id: str, module_id: str, body: JsonObject, if_match: str | None) -> Device:
        """REST PUT of a module: without If-Match create, with it update."""
        if if_match is None:
            module, statements = self._create_module(device_id, module_id, body)
        else:
            module, statements = self._update(module_key(device_id, module_id), body, if_match)
        await self._store.commit(*statements)
        return module

    async def delete(self, key: str, if_match: str | None) -> None:
        """REST DELETE of a device with its modules, or of a module."""
        await self._store.commit(*self._delete(key, if_match))

    async def bulk(self, items: list[JsonObject]) -> list[JsonObject]:
        """Up to 100 changes in one request; every one that can be done is done.

        Returns:
            The errors, as REST's `DeviceRegistryOperationError`.
        """
        if len(items) > MAX_BULK:
            raise TooManyDevices(f"a bulk operation holds {MAX_BULK} devices at most")
        statements: list[Statement] = []
        errors: list[JsonObject] = []
        seen: set[tuple[Any, Any]] = set()
        for item in items:
            name = (str(item.get("id")), str(item.get("moduleId")))
            try:
                if name in seen:
                    raise DeviceDefinedMultipleTimes(f"device {name[0]} is more than once in the list")
                seen.add(name)
                statements += self._bulk_item(item)
            except HubError as error:
                errors.append(_bulk_error(item, error))
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

    def _create(self, device_id: str, body: JsonObject, *, bulk: bool = False) -> tuple[Device, list[Statement]]:
        if device_id in self._devices:
            raise DeviceAlreadyExists(f"device {device_id} is registered already")
        self._require_room()
        now = iso(self._clock())
        identity = new_identity(device_id, body, now)
        device = Device(imported(identity, body) if bulk else identity)
        if not bulk:  # whoever moves many devices may bring the parent later
            self._require_parent(device.identity.parent_scope)
        if device.identity.edge_scope in self._scopes:
            raise ArgumentInvalid(f"{device.identity.edge_scope} is the scope of another device")
        device.twin = _first_twin(body, now)
        self._devices[device_id] = device
        self._keep_scope(device)
        self._edge_modules(device)
        told = [statement for each in (device, *device.modules.values()) for statement in self.lifecycle(each, CREATED)]
        self.on_new(device)
        self.changed()
        return device, [*told, *(self.save(each) for each in (device, *device.modules.values()))]

    def _create_module(self, device_id: str, module_id: str, body: JsonObject) -> tuple[Device, list[Statement]]:
        device = self.get(device_id)
        if module_id in device.modules:
            raise ModuleAlreadyExists(f"module {module_id} is registered already on device {device_id}")
        if sum(each not in EDGE_MODULES for each in device.modules) >= MAX_MODULES:
            raise TooManyModulesOnDevice(f"a device has {MAX_MODULES} modules at most")
        self._require_room()
        now = iso(self._clock())
        module = Device(new_module_identity(device_id, module_id, body, now))
        module.twin = _first_twin(body, now)
        self._add_module(device, module)
        told = self.lifecycle(module, CREATED)
        self.on_new(module)
        self.changed()
        return module, [*told, self.save(module)]

    def add_edge_module(self, device: Device, module_id: str) -> Device:
        """A module that IoT Edge runs; the caller saves it."""
        module = Device(new_module_identity(device.id, module_id, {"managedBy": "iotEdge"}, iso(self._clock())))
        self._add_module(device, module)
        return module

    def _edge_modules(self, device: Device) -> None:
        """The system modules that an IoT Edge device does not have yet."""
        for name in EDGE_MODULES if device.identity.iot_edge else ():
            if name not in device.modules:
                self.add_edge_module(device, name)

    def _add_module(self, device: Device, module: Device) -> None:
        device.modules[module.identity.module_id or ""] = module
        self._modules[module.id] = module

    def _require_room(self) -> None:
        if len(self._devices) + len(self._modules) >= self.max_devices:
            raise TooManyDevices(f"a hub holds {self.max_devices} devices and modules at most")

    def _keep_scope(self, device: Device) -> None:
        if device.identity.edge_scope is not None:
            self._scopes[device.identity.edge_scope] = device

    def _require_parent(self, scope: str | None) -> None:
        if scope is None:
            return
        parent = self._scopes.get(scope) or self._devices.get(edge_device_of(scope))
        if parent is None or not parent.identity.iot_edge or parent.identity.scope != scope:
            raise ArgumentInvalid(f"{scope} is the scope of no IoT Edge device of this hub")

    def _update(self, key: str, body: JsonObject, if_match: str | None) -> tuple[Device, list[Statement]]:
        device = self.get(key)
        require_quoted_match(if_match, device.identity.etag)
        now = iso(self._clock())
        identity = device.identity.updated(body, now)
        if identity.parent_scope != device.identity.parent_scope:  # one that stays may be gone meanwhile
            self._require_parent(identity.parent_scope)
        device.identity = identity
        if not device.identity.enabled:
            for each in (device, *device.modules.values()):
                if each.link:
                    each.link.close("the device was disabled")
        self._edge_modules(device)
        self.on_new(device)
        self.changed()
        return device, [self.save(each) for each in (device, *device.modules.values())]

    def _delete(self, key: str, if_match: str | None) -> list[Statement]:
        device = self.get(key)
        require_quoted_match(if_match, device.identity.etag)
        if device.identity.module_id is not None:
            del self._devices[device.identity.device_id].modules[device.identity.module_id]
        self._scopes.pop(device.identity.edge_scope or "", None)
        statements: list[Statement] = []
        for each in (*device.modules.values(), device):
            (self._devices if each.identity.module_id is None else self._modules).pop(each.id)
            if each.link:
                each.link.close("the device was deleted")
            statements += self.lifecycle(each, DELETED)
            statements.append(("DELETE FROM devices WHERE device_id = ?", (each.id,)))
            statements.append(("DELETE FROM c2d WHERE device_id = ?", (each.id,)))
        self.changed()
        return statements

    def _bulk_item(self, item: JsonObject) -> list[Statement]:
        device_id, module_id = item.get("id"), item.get("moduleId")
        mode = str(item.get("importMode") or "create").lower()
        if not isinstance(device_id, str) or not isinstance(module_id, str | None):
            raise ArgumentInvalid("each device has an id")
        key = device_id if module_id is None else module_key(device_id, module_id)
        match _BULK_MODES.get(mode):
            case "create":
                if module_id is None:
                    return self._create(device_id, item, bulk=True)[1]
                return self._create_module(device_id, module_id, item)[1]
            case "update":
                return self._update(key, item, _bulk_match(item, mode, "eTag"))[1]
            case "delete":
                return self._delete(key, _bulk_match(item, mode, "eTag"))
            case "updatetwin":
                self.patch_twin(key, item, _bulk_match(item, mode, "twinETag"))
                return []
        raise ArgumentInvalid(f"importMode {mode} is not offered")


def _bulk_match(item: JsonObject, mode: str, name: str) -> str | None:
    etag = item.get(name)
    return f'"{etag}"' if mode.endswith("ifmatchetag") and etag else None


def _bulk_error(item: JsonObject, error: HubError) -> JsonObject:
    document = {"deviceId": item.get("id"), "errorCode": error.code, "errorStatus": str(error)}
    return document if item.get("moduleId") is None else {**document, "moduleId": item["moduleId"]}


def _first_twin(body: JsonObject, now: str) -> Twin:
    tags, properties = body.get("tags"), body.get("properties") or {}
    desired: Any = properties.get("desired") if isinstance(properties, dict) else None
    if not tags and not desired:
        return Twin()
    if not isinstance(tags or {}, dict) or not isinstance(desired or {}, dict):
        raise ArgumentInvalid("tags and properties.desired are objects")
    return Twin().with_service_patch(tags or None, without_system_fields(desired or {}) or None, now)
